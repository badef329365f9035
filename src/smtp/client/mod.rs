//! The client side of a conversation as a value (RFC 5321, section 4.1; pipelining, RFC 2920; CHUNKING, RFC 3030).
//!
//! Commands are queued in their order; what may be sent stands in [`Client::output`], what the server sent is given to
//! [`Client::feed`], replies come out of [`Client::next_reply`] in the order of the commands. Without PIPELINING, and behind
//! a command that must be the last of its group, a command is held back until the earlier replies have come. A reply
//! whose command was not sent before the reply began is an error: nobody can answer ahead, by design or through a
//! plain-text connection before its TLS handshake (CVE-2021-38371).
//!
//! No socket, no clock: timeouts, TLS and what a refusal means belong to the caller. The queue of commands is as long as
//! the caller makes it; replies are never more than commands, each within the bounds of the parser.

mod attributes;
mod chunks;
mod command;
mod offer;
mod reply_parser;

pub use attributes::{Attributes, UNAVAILABLE};
pub use chunks::CHUNK;
pub use command::{Command, Verb};
pub use offer::Offer;
pub use reply_parser::{MAX_REPLY_LINE, MAX_REPLY_LINES};

use super::data::Encoder;
use crate::mail::{Reply, ReplyClass};
use chunks::Content;
use reply_parser::ReplyParser;
use std::collections::VecDeque;
use zeroize::Zeroize as _;

/// How a server broke the protocol. The connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line that is no reply; its start.
    #[error("this line is no reply: {0:?}")]
    Malformed(String),
    /// More than [`MAX_REPLY_LINE`] octets.
    #[error("a line of a reply is longer than {MAX_REPLY_LINE} octets")]
    LineTooLong,
    /// More than [`MAX_REPLY_LINES`].
    #[error("a reply has more than {MAX_REPLY_LINES} lines")]
    TooManyLines,
    /// The lines of one reply differ in their codes.
    #[error("the lines of one reply have different codes, {0} and {1}")]
    MixedCodes(u16, u16),
    /// A reply that nobody asked for.
    #[error("a reply that answers no command: {0}")]
    Unasked(Reply),
    /// A reply that its command can't have: 3yz to MAIL, 2yz to DATA.
    #[error("this is no reply to {0}: {1}")]
    OutOfPlace(Verb, Reply),
    /// Octets between the reply to STARTTLS and the handshake.
    #[error("octets in plain text behind the reply to STARTTLS")]
    BeforeTls,
}

impl ReplyError {
    /// What the server said, when it was a reply at all.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Unasked(reply) | Self::OutOfPlace(_, reply) => Some(reply),
            _ => None,
        }
    }
}

/// Octets of room for output that stay with a connection between its messages: a small message needs no new room.
const MAX_KEPT_OUTPUT: usize = 8 * 1024;

/// A command on its way whose reply has not been given out.
#[derive(Debug)]
struct Unanswered {
    verb: Verb,
    /// Where its octets end, counted from the first octet of the connection.
    end: u64,
}

/// One conversation from the client's side.
#[derive(Debug)]
pub struct Client {
    parser: ReplyParser,
    /// Whether the command was sent when the first octet of the reply in `parser` came.
    asked: bool,
    /// Replies not given out; the first one answers the first of `unanswered`.
    replies: VecDeque<Reply>,
    /// What follows after those replies, for good.
    failed: Option<ReplyError>,
    unanswered: VecDeque<Unanswered>,
    /// How many of them nothing may follow.
    closing: usize,
    /// Commands whose time has not come.
    held: VecDeque<Command>,
    output: Vec<u8>,
    /// How much of `output` is sent.
    cursor: usize,
    /// It holds a password.
    secret: bool,
    /// Octets sent since the connection began.
    sent: u64,
    offer: Offer,
    /// What HELO says when EHLO is refused.
    hello_name: String,
    /// Between the 354 and the final dot, or between [`begin_chunks`](Self::begin_chunks) and the last chunk.
    content: Option<Content>,
    /// The latest message went in chunks.
    chunked: bool,
    transaction_open: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A conversation whose connection has just been made: the server's greeting is the first reply.
    pub fn new() -> Self {
        Self {
            parser: ReplyParser::default(),
            asked: true,
            replies: VecDeque::new(),
            failed: None,
            unanswered: VecDeque::from([Unanswered { verb: Verb::Greeting, end: 0 }]),
            closing: 1,
            held: VecDeque::new(),
            output: Vec::new(),
            cursor: 0,
            secret: false,
            sent: 0,
            offer: Offer::default(),
            hello_name: String::new(),
            content: None,
            chunked: false,
            transaction_open: false,
        }
    }

    /// Queues a command behind the others.
    pub fn queue(&mut self, command: Command) {
        self.held.push_back(command);
        self.release();
    }

    /// Octets of the message, any part of it. Tells whether they were taken: only between a 354, or
    /// [`begin_chunks`](Self::begin_chunks), and [`end_of_data`](Self::end_of_data).
    #[must_use]
    pub fn content(&mut self, octets: &[u8]) -> bool {
        let Some(content) = &mut self.content else { return false };
        match content {
            Content::Data(encoder) => encoder.encode(octets, &mut self.output),
            Content::Chunks(gathered) => {
                gathered.extend_from_slice(octets);
                if gathered.len() >= CHUNK {
                    chunks::write(gathered, false, &mut self.output);
                    gathered.clear();
                    self.expect(Verb::Chunk);
                }
            }
        }
        true
    }

    /// The final dot, or the last chunk. Tells whether its time had come, as [`content`](Self::content) does.
    #[must_use]
    pub fn end_of_data(&mut self) -> bool {
        match self.content.take() {
            Some(Content::Data(mut encoder)) => encoder.finish(&mut self.output),
            Some(Content::Chunks(gathered)) => chunks::write(&gathered, true, &mut self.output),
            None => return false,
        }
        self.expect(Verb::EndOfData);
        self.release();
        true
    }

    /// What may be sent now.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.cursor..).unwrap_or_default()
    }

    /// Takes note that the first `octets` of the output are sent.
    pub fn note_sent(&mut self, octets: usize) {
        let octets = octets.min(self.output.len() - self.cursor);
        self.cursor += octets;
        self.sent += octets as u64;
        if self.cursor == self.output.len() {
            if std::mem::take(&mut self.secret) {
                self.output.zeroize();
            }
            self.output.clear();
            self.cursor = 0;
        }
    }

    /// Takes octets of the server. What is wrong with them is told by [`next_reply`](Self::next_reply), after the sound replies.
    pub fn feed(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() && self.failed.is_none() {
            if self.parser.is_between_replies() {
                self.asked = self.unanswered.get(self.replies.len()).is_some_and(|next| next.end <= self.sent);
            }
            match self.parser.push(rest) {
                Ok((used, reply)) => {
                    rest = rest.get(used..).unwrap_or_default();
                    match reply {
                        Some(reply) if self.asked => self.replies.push_back(reply),
                        Some(reply) => self.failed = Some(ReplyError::Unasked(reply)),
                        None => {}
                    }
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// The reply to the oldest unanswered command, when it has come. An EHLO that is refused becomes a HELO, whose reply
    /// is given out instead. After an error every further call has the same one.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let Some(reply) = self.replies.pop_front() else { return self.failed.clone().map_or(Ok(None), Err) };
            let Some(Unanswered { verb, .. }) = self.unanswered.pop_front() else {
                return Err(self.fail(ReplyError::Unasked(reply)));
            };
            self.closing = self.closing.saturating_sub(usize::from(!verb.may_be_followed()));
            if !is_in_place(verb, &reply) {
                return Err(self.fail(ReplyError::OutOfPlace(verb, reply)));
            }
            // RFC 5321, section 3.2: a server without EHLO refuses it, and HELO is what it knows.
            let fall_back = verb == Verb::Ehlo && reply.is_permanent();
            if fall_back {
                command::write_line(&format!("HELO {}", self.hello_name), &mut self.output);
                self.expect(Verb::Helo);
                continue;
            }
            self.take_note(verb, &reply);
            self.release();
            return Ok(Some(reply));
        }
    }

    /// What the next reply answers; none when every command sent is answered.
    pub fn awaited(&self) -> Option<Verb> {
        self.unanswered.front().map(|first| first.verb)
    }

    /// What the server offered last.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Takes REQUIRETLS for not offered, where the server's name was not verified (RFC 8689, section 4.2.1).
    pub fn forget_require_tls(&mut self) {
        self.offer.forget_require_tls();
    }

    /// Whether the server took a MAIL whose transaction has not ended.
    pub fn has_open_transaction(&self) -> bool {
        self.transaction_open
    }

    /// Whether a message has begun whose final dot is not said.
    pub fn is_in_data(&self) -> bool {
        self.content.is_some()
    }

    /// Whether the latest message went in chunks.
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Whether nothing is under way in either direction: another transaction could begin.
    pub fn is_settled(&self) -> bool {
        self.unanswered.is_empty()
            && self.held.is_empty()
            && self.output.is_empty()
            && self.content.is_none()
            && self.replies.is_empty()
            && self.failed.is_none()
            && self.parser.is_between_replies()
    }

    /// Takes note that the handshake is about to begin; forgets what the server offered in plain text (RFC 3207, section 4.2).
    /// [`ReplyError::BeforeTls`] when anything was said behind the reply to STARTTLS.
    pub fn start_tls(&mut self) -> Result<(), ReplyError> {
        if !self.is_settled() {
            return Err(self.fail(ReplyError::BeforeTls));
        }
        self.offer = Offer::default();
        Ok(())
    }

    /// Moves commands to the output, as far as they may be sent.
    fn release(&mut self) {
        while self.content.is_none()
            && (self.unanswered.is_empty() || self.closing == 0 && self.offer.extensions().pipelining)
        {
            let Some(command) = self.held.pop_front() else { return };
            if let Command::Hello(name) = &command {
                self.hello_name.clone_from(name);
            }
            self.secret |= command.verb() == Verb::Auth;
            command.write_to(&self.offer, &mut self.output);
            self.expect(command.verb());
        }
    }

    /// What stands in the output now is answered by one more reply.
    fn expect(&mut self, verb: Verb) {
        let end = self.sent + (self.output.len() - self.cursor) as u64;
        self.closing = self.closing.saturating_add(usize::from(!verb.may_be_followed()));
        self.unanswered.push_back(Unanswered { verb, end });
    }

    fn take_note(&mut self, verb: Verb, reply: &Reply) {
        let done = reply.is_completion();
        match verb {
            Verb::Ehlo if done => {
                self.offer = Offer::from_ehlo(reply);
                self.transaction_open = false;
            }
            Verb::Helo if done => {
                self.offer = Offer::default();
                self.transaction_open = false;
            }
            Verb::Mail if done => self.transaction_open = true,
            Verb::Reset if done => self.transaction_open = false,
            Verb::Data if reply.class() == ReplyClass::Intermediate => {
                self.content = Some(Content::Data(Encoder::default()));
                self.chunked = false;
            }
            // RFC 5321, section 4.1.1.4: the buffers are cleared whatever the reply is. Behind a chunk that was refused
            // nothing but RSET is sure to do that (RFC 3030, section 2).
            Verb::EndOfData => {
                self.transaction_open = self.chunked && !done;
                // An idle connection needs no room for a large message.
                self.output.shrink_to(MAX_KEPT_OUTPUT);
            }
            _ => {}
        }
    }

    fn fail(&mut self, error: ReplyError) -> ReplyError {
        self.replies.clear();
        self.failed = Some(error.clone());
        error
    }
}

/// Whether a reply of this class can be one to this command (RFC 5321, section 4.3.2).
fn is_in_place(verb: Verb, reply: &Reply) -> bool {
    match reply.class() {
        ReplyClass::Intermediate => verb.may_go_on(),
        ReplyClass::Completion => verb != Verb::Data,
        ReplyClass::Transient | ReplyClass::Permanent => true,
    }
}

#[cfg(test)]
mod tests;
