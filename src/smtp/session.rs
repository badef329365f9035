//! The server's side of a conversation as a value (RFC 5321; PIPELINING: RFC 2920; STARTTLS: RFC 3207; enhanced codes:
//! RFC 2034; CHUNKING: RFC 3030; AUTH: RFC 4954): octets of a client go in, steps for the driver and octets for the
//! client come out.
//!
//! Promises: replies leave in the order of the commands (RFC 2920, section 3.1); MAIL, RCPT and DATA are asked without
//! waiting for earlier answers, so that the driver can pipeline to its next hop; input cut anywhere makes the same
//! steps and the same output; a line ends with CRLF only; memory is bounded by [`MAX_FEED`], [`MAX_COMMAND_LINE`],
//! [`MAX_AUTH_LINE`] and [`MAX_OUTSTANDING`]; a line that may hold a password is overwritten once it is read; nothing
//! from before STARTTLS lives on behind it.
//!
//! What belongs together waits: RSET, EHLO, QUIT, STARTTLS, AUTH and another MAIL are carried out when all asks before them
//! are answered, so an answer can only be meant for the transaction that is open. One thing may come sooner: behind the end of a
//! message the next transaction, up to its DATA, so that the driver can send it on along with that end.
//!
//! Left to others, the driver: sockets, time, TLS, who may send what where, the limit of a message's real size, and the
//! refusal of a message with [`Flaws`].

mod answers;
mod auth;
mod commands;
mod input;
mod replies;
mod state;
mod trace;

pub use trace::{MAX_TRACE, Speaker, Spoken};

use super::data::Flaws;
use super::{Auth, Extensions, Mail, Rcpt, Secret};
use crate::mail::Reply;
use input::Input;
use state::{Counts, Phase, Slot, Transaction};
use std::collections::VecDeque;
use trace::Trace;

/// Octets of a command line with its CRLF. RFC 5321, section 4.5.3.1.4, asks for 512 and each extension for some more
/// (SIZE 26, 8BITMIME 17, SMTPUTF8 10 and longer addresses, DSN more than 600); this is room for all of them.
pub const MAX_COMMAND_LINE: usize = 2048;
/// Octets of a response with its CRLF while a client authenticates, and of AUTH itself where it is offered (RFC 4954, section 4:
/// enough for the mechanisms in use).
pub const MAX_AUTH_LINE: usize = 12_288;
/// Octets that [`Session::feed`] takes at a time.
pub const MAX_FEED: usize = 64 * 1024;
/// Asks without an answer, and replies waiting behind them. RFC 5321, section 4.5.3.1.8: a hundred recipients at least
/// must be possible; that they pass in one group of pipelined commands is more than anybody asks.
pub const MAX_OUTSTANDING: usize = 100;
/// Commands that bring no mail forward (NOOP, HELP, VRFY, RSET, HELO, EHLO) until each further one counts as an error;
/// an accepted message starts the count again. Postfix's `smtpd_junk_command_limit`.
pub const MAX_IDLE_COMMANDS: u32 = 100;

/// What one session needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name to greet with.
    pub hostname: String,
    /// Recipients of a transaction; RFC 5321, section 4.5.3.1.8, asks for at least 100.
    pub max_recipients: usize,
    /// Protocol errors until the session is ended; at least one is allowed for.
    pub max_errors: u32,
    /// Nothing but NOOP, EHLO, STARTTLS and QUIT is obeyed in plain text (RFC 3207, section 4).
    pub requires_tls: bool,
}

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'s> {
    /// Everything fed is used up: settle pending answers, flush the output, feed more.
    NeedInput,
    /// The session can't go on before outstanding asks are answered.
    AwaitAnswers,
    /// An ask, for [`Session::announce`], or for [`Session::answered`] with a refusal. Nothing else is outstanding.
    Hello {
        /// What the client calls itself; printable ASCII, harmless in a header field.
        name: &'s str,
        /// EHLO rather than HELO.
        extended: bool,
    },
    /// An ask: a transaction begins.
    Mail(Mail),
    /// An ask: a recipient.
    Rcpt(Rcpt),
    /// An ask: the message comes. A 354 opens the data phase; for a client's BDAT it isn't passed on, a refusal is.
    Data {
        /// It was BDAT: the message comes in chunks.
        chunked: bool,
    },
    /// Octets of the message, decoded, and what was wrong with the message up to their end; nothing to answer. Octets of
    /// a message with a flaw must go nowhere but into chunks: where line ends mean something, what is a flaw here may be
    /// the end of the message to the next server.
    Content(&'s [u8], Flaws),
    /// An ask: the message is complete. The next transaction may be asked before its answer.
    EndOfData(Flaws),
    /// An ask: the client wants to authenticate. A 334 lets it respond, a 235 says that it has, all else that it has not.
    Auth(Auth),
    /// An ask: its response to the 334, which may be `*`.
    AuthResponse(Secret),
    /// What it said in place of a response was refused here: whoever asked for one gets none; nothing to answer.
    AuthAbort,
    /// The open transaction is over without a message: drop it; nothing to answer.
    Reset,
    /// The 220 is in the output: flush, shake hands, then [`Session::tls_started`]. Feed nothing before that.
    StartTls,
    /// Flush the output and close. The session does nothing more.
    Close(CloseReason),
}

/// Why a session ends from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said QUIT.
    Quit,
    /// The client made more errors than it may.
    TooManyErrors,
    /// The client speaks HTTP: somebody uses a browser to reach the mail server.
    NotSmtp,
    /// The client said BDAT with something else than a size, so that nobody knows where its chunk ends.
    UnreadableBdat,
    /// A load balancer speaks that is not known as one, with a PROXY header.
    ProxyHeader,
    /// A 421 was said, by the driver or by whoever answered.
    Unavailable,
}

impl CloseReason {
    /// The reason as logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::TooManyErrors => "too_many_errors",
            Self::NotSmtp => "not_smtp",
            Self::UnreadableBdat => "unreadable_bdat",
            Self::ProxyHeader => "proxy_header",
            Self::Unavailable => "unavailable",
        }
    }
}

/// One conversation with a client.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    input: Input,
    output: Vec<u8>,
    phase: Phase,
    /// Asks without an answer, oldest first, and the replies that wait behind them; the first is always an ask.
    queue: VecDeque<Slot>,
    /// What was announced to the client; nothing before EHLO and after HELO.
    announced: Extensions,
    /// Whether the client has introduced itself.
    introduced: bool,
    /// What the client calls itself in the HELO or EHLO that came last.
    name: String,
    transaction: Option<Transaction>,
    counts: Counts,
    /// All errors, those before accepted messages included.
    errors: u32,
    /// The greeting was a 554, so nothing is open but QUIT (RFC 5321, section 3.1).
    refused: bool,
    tls: bool,
    /// A 235 was said.
    authenticated: bool,
    /// Somebody listens in.
    trace: Option<Trace>,
}

impl Session {
    /// A session whose client has not been greeted; the output is empty.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            input: Input::default(),
            output: Vec::new(),
            phase: Phase::Commands,
            queue: VecDeque::new(),
            announced: Extensions::default(),
            introduced: false,
            name: String::new(),
            transaction: None,
            counts: Counts::default(),
            errors: 0,
            refused: false,
            tls: false,
            authenticated: false,
            trace: None,
        }
    }

    /// Puts the greeting into the output: a 220; a 554, after which only QUIT is obeyed (RFC 5321, section 3.1); or a
    /// 421, after which the session is closed.
    pub fn greet(&mut self, reply: Reply) {
        self.refused = reply.is_permanent();
        self.say(reply);
    }

    /// Takes octets of the client: at most [`MAX_FEED`] at a time, and only when the last step was
    /// [`Step::NeedInput`], or memory has no bound. A session that is closed takes none.
    pub fn feed(&mut self, octets: &[u8]) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.input.push(octets);
        }
    }

    /// What to do next. Steps that are waited for (`AwaitAnswers`, `StartTls`, `Close`) come again until it is done.
    pub fn step(&mut self) -> Step<'_> {
        if matches!(self.phase, Phase::Data(_)) { self.step_data() } else { self.step_commands() }
    }

    /// Puts an unsolicited reply of the driver into the output, before those that still wait for answers. A 421, at a
    /// timeout or when draining, ends the session (RFC 5321, section 3.8): what is outstanding needs no answer then.
    pub fn say(&mut self, reply: Reply) {
        self.put(&reply);
        self.close_at_421(&reply);
    }

    /// The client's network has made more errors than it may, here and elsewhere: a 421, and the end. What is outstanding
    /// needs no answer then. A session that ends already is left alone.
    pub fn end_for_errors(&mut self) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.queue.clear();
            self.reply(replies::too_many_errors(&self.settings.hostname));
            self.close(CloseReason::TooManyErrors);
        }
    }

    /// The handshake is done. Everything from before it is forgotten: what the client called itself, what was
    /// announced, that it has authenticated, and input that came in plain text (RFC 3207, section 4.2; command injection).
    pub fn tls_started(&mut self) {
        self.input.clear();
        self.output.clear();
        self.queue.clear();
        self.announced = Extensions::default();
        self.introduced = false;
        self.name.clear();
        self.transaction = None;
        self.tls = true;
        self.authenticated = false;
        if !matches!(self.phase, Phase::Closing(_)) {
            self.phase = Phase::Commands;
        }
    }

    /// Octets for the client. The driver writes and clears them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether the next octets belong to a message, for which other timeouts hold (RFC 5321, section 4.5.3.2.5).
    pub fn in_data(&self) -> bool {
        matches!(self.phase, Phase::Data(_) | Phase::Chunk { .. } | Phase::Discard { .. })
    }

    /// Protocol errors of the client, over the whole session.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// Whether an ask waits for its answer.
    pub fn has_outstanding(&self) -> bool {
        !self.queue.is_empty()
    }
}
