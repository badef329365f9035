//! A conversation with one server, from the connection to the last reply: lettre opens it, the transactions are said over the
//! [`Line`] below it, in as few writes as the server's extensions allow.
//!
//! Carries out RFC 5321, sections 3.1 to 3.3 (client side) with the time limits of 4.5.3.2, RFC 1870 (SIZE), RFC 3207
//! (STARTTLS), RFC 4954 (AUTH PLAIN and LOGIN), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8). One recipient each time.
//! What a failure means for a record is left to [`Verdict`](super::Verdict).

use super::letter::{Letter, Rendered, Slices};
use super::line::{Line, is_negative};
use super::offers::Offers;
use super::resolver::{MAX_ADDRESSES, Resolver, Unresolved};
use super::target::Target;
use super::tls::TlsClients;
use super::verdict::{Cause, Failure, Stage};
use crate::config::{Protocol, SmtpRoute, Tls};
use crate::journal::ArchiveOffers;
use crate::mail::{RecordId, Reply, ReplyClass};
use crate::net::{Network, Stream, connect_by};
use crate::smtp::Encoder;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(30);
/// Waits for replies (RFC 5321, section 4.5.3.2): the greeting, …
const GREETING: Duration = Duration::from_secs(5 * 60);
/// … EHLO, STARTTLS, AUTH, MAIL and RCPT, …
const COMMAND: Duration = Duration::from_secs(5 * 60);
/// … DATA, …
const DATA: Duration = Duration::from_secs(2 * 60);
/// … the end of data; long, since a record whose acceptance we don't wait for is sent twice.
const END_OF_DATA: Duration = Duration::from_secs(10 * 60);
/// Waits for what no record hangs on: RSET, QUIT, and a last word behind a lost connection.
const POLITENESS: Duration = Duration::from_secs(10);
/// How long the reply to an envelope that was sent ahead may take behind the one to the letter before: a server that has
/// thrown it away says nothing, and is asked again over another connection.
const AHEAD: Duration = Duration::from_secs(30);
/// Records sent through one connection.
const MAX_TRANSACTIONS: u32 = 100;

/// What opening a connection needs.
pub(super) struct Opener<'a> {
    pub(super) resolver: &'a dyn Resolver,
    pub(super) network: &'a dyn Network,
    pub(super) tls: &'a TlsClients,
    /// Our name in EHLO.
    pub(super) hostname: &'a str,
    /// When no other address is tried any more.
    pub(super) until: Instant,
    /// Told in words what was reached, where somebody wants to know.
    pub(super) tell: Option<&'a (dyn Fn(String) + Sync)>,
}

impl Opener<'_> {
    /// Lets who wants to know hear it.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(tell) = self.tell {
            tell(what());
        }
    }
}

/// A server that has answered EHLO, and AUTH when asked for.
pub(super) struct Connection {
    line: Line,
    offers: Offers,
    transactions: u32,
    /// The letter whose envelope was said along with the end of the one before.
    ahead: Option<Ahead>,
}

/// An envelope whose replies are still to come, and the letter as it was rendered for it.
struct Ahead {
    id: RecordId,
    rendering: Rendered,
}

impl Connection {
    /// Connects to the first address of `target` that answers.
    pub(super) async fn open(target: &Target, opener: &Opener<'_>) -> Result<Self, Failure> {
        let server = &target.server;
        let addresses = opener.resolver.addresses(&server.host, server.port).await.map_err(|error| {
            let (Unresolved::Never(what) | Unresolved::NotNow(what)) = error;
            Failure::lost(Stage::Connect, what)
        })?;
        let mut last = None;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            if last.is_some() && Instant::now() >= opener.until {
                break;
            }
            match Self::open_at(address, target, opener).await {
                Err(failure) if failure.stage <= Stage::Greeting => last = Some(failure),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Failure::lost(Stage::Connect, format!("{}: no address", server.host))))
    }

    async fn open_at(address: SocketAddr, target: &Target, opener: &Opener<'_>) -> Result<Self, Failure> {
        let mut connection = Self::greet(address, target, opener).await?;
        let is_offered = connection.offers.extensions.starttls;
        match target.server.tls {
            Tls::None | Tls::Implicit => {}
            _ if target.demands_tls() && is_offered => connection.start_tls(target, opener).await?,
            _ if target.demands_tls() => {
                let who = target.who_demands_tls();
                return Err(Failure::lost(Stage::Tls, format!("the server offers no STARTTLS, which {who} requires")));
            }
            _ if is_offered => {
                if let Err(failure) = connection.start_tls(target, opener).await {
                    tracing::debug!(event = "route.state", route = %target, state = "tls_failed", cause = ?failure.cause, "no TLS, going on in plain text");
                    // RFC 7435: what fails must not do worse than no attempt at all. The old line may be in any state.
                    connection = Self::greet(address, target, opener).await?;
                }
            }
            _ => {}
        }
        let verified = if target.is_verified() { ", certificate verified" } else { "" };
        opener.tell(|| format!("{address}, {}{verified}", connection.line.protection()));
        connection.authenticate(&target.server).await?;
        Ok(connection)
    }

    /// Connects, with TLS when that comes first, reads the greeting and says EHLO.
    async fn greet(address: SocketAddr, target: &Target, opener: &Opener<'_>) -> Result<Self, Failure> {
        let server = &target.server;
        let connect_failed = |what: String| Failure::lost(Stage::Connect, format!("{address}: {what}"));
        let stream = timeout(CONNECT, connect_by(opener.network, &server.source, address))
            .await
            .map_err(|_| connect_failed(format!("no connection within {} s", CONNECT.as_secs())))?
            .map_err(|error| connect_failed(error.to_string()))?;
        let line = if server.tls == Tls::Implicit {
            Line::tls(handshake(target, opener, stream).await?, address, GREETING)
        } else {
            Line::plain(stream, address, GREETING)
        };
        if server.protocol == Protocol::Lmtp {
            line.speak_lmtp();
        }
        let client = ClientId::Domain(opener.hostname.to_owned());
        let opened = AsyncSmtpConnection::connect_with_transport(Box::new(line.clone()), &client).await;
        let reply = line.take_reply();
        let stage = match &reply {
            None => Stage::Greeting,
            Some(reply) if line.replies_read() == 1 && is_negative(reply) => Stage::Greeting,
            Some(_) => Stage::Hello,
        };
        match (opened, reply) {
            (Ok(_), Some(reply)) => Ok(Self { line, offers: Offers::of(&reply), transactions: 0, ahead: None }),
            (_, Some(reply)) if is_negative(&reply) => Err(Failure { stage, cause: Cause::Reply(reply) }),
            (Err(error), _) => Err(broken(stage, &line, &error)),
            (Ok(_), None) => Err(broken(stage, &line, &"the conversation broke off")),
        }
    }

    async fn start_tls(&mut self, target: &Target, opener: &Opener<'_>) -> Result<(), Failure> {
        self.say(Stage::Tls, "STARTTLS", COMMAND).await?;
        // RFC 3207, section 6: what came in plain text behind the reply would be read as if TLS had protected it.
        if let Some(said) = self.line.spoke_early() {
            return Err(Failure::lost(Stage::Tls, said));
        }
        let Some(stream) = self.line.take_plain() else {
            return Err(Failure::lost(Stage::Tls, "the line is not plain"));
        };
        self.line.put_tls(handshake(target, opener, stream).await?);
        // RFC 3207, section 4.2: what was offered before counts no more.
        let hello = target.server.protocol.hello();
        let reply = self.say(Stage::Hello, &format!("{hello} {}", opener.hostname), COMMAND).await?;
        self.offers = Offers::of(&reply);
        Ok(())
    }

    async fn authenticate(&mut self, route: &SmtpRoute) -> Result<(), Failure> {
        let Some((user, password)) = &route.credentials else { return Ok(()) };
        // A password is not for whoever listens; only a route that says so sends it in plain text beyond this machine.
        if !self.line.is_tls() && route.tls != Tls::None && !self.line.peer().ip().is_loopback() {
            return Err(Failure::lost(
                Stage::Auth,
                "the server offers no TLS, and the password is not sent in plain text",
            ));
        }
        if self.offers.plain {
            let response = BASE64.encode(format!("\0{user}\0{password}"));
            self.say_done(Stage::Auth, &format!("AUTH PLAIN {response}"), COMMAND).await?;
        } else if self.offers.login {
            for words in ["AUTH LOGIN", &BASE64.encode(user)] {
                let reply = self.say(Stage::Auth, words, COMMAND).await?;
                expect(Stage::Auth, reply, ReplyClass::Intermediate)?;
            }
            self.say_done(Stage::Auth, &BASE64.encode(password), COMMAND).await?;
        } else {
            return Err(Failure::lost(Stage::Auth, "the server offers neither AUTH PLAIN nor AUTH LOGIN"));
        }
        Ok(())
    }

    /// Sends `letter`; gives the server's reply to the end of data when that is an acceptance. The envelope of `next` goes out
    /// with the final dot where the server takes commands in a row (RFC 2920, section 3.1: the content of a message may be the
    /// first in a group): then nothing but `next` can be sent afterwards.
    pub(super) async fn send(&mut self, letter: &Letter, next: Option<&Letter>) -> Result<Reply, Failure> {
        self.transactions += 1;
        let ahead = self.ahead.take();
        if ahead.as_ref().is_some_and(|ahead| ahead.id != letter.id) {
            return Err(Failure::lost(Stage::Mail, "another letter's envelope was begun"));
        }
        let (rendering, envelope) = match ahead {
            Some(ahead) => (ahead.rendering, None),
            None => {
                let rendering = (letter.render)(self.archive_offers());
                let mail = self.mail_command(letter, &rendering)?;
                (rendering, Some((mail, format!("RCPT TO:<{}>", letter.forward_path))))
            }
        };
        if letter.is_trial {
            let (mail, rcpt) = envelope.unwrap_or_default();
            self.say_done(Stage::Mail, &mail, COMMAND).await?;
            let reply = self.say_done(Stage::Rcpt, &rcpt, COMMAND).await?;
            self.say_done(Stage::Mail, "RSET", POLITENESS).await?;
            return Ok(reply);
        }
        // Opened first: a letter that can't be read is not begun.
        let unreadable = |error| Failure {
            stage: Stage::Connect,
            cause: Cause::Ours(format!("the original can't be read: {error}")),
        };
        let pieces = (letter.original.open)().map_err(unreadable)?;
        match envelope {
            Some((mail, rcpt)) => self.begin_data(&mail, &rcpt).await?,
            None => {
                let mail = self.hear_done(Stage::Mail, AHEAD).await;
                self.end_of_envelope(mail).await?;
            }
        }
        self.send_data(&rendering, Slices::new(pieces, letter.original.length), next).await
    }

    /// Whether the replies to an envelope that was sent ahead are still to come: nothing else can be said then.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Says MAIL, RCPT and DATA up to the 354; in one write where the server takes commands in a row (RFC 2920).
    async fn begin_data(&mut self, mail: &str, rcpt: &str) -> Result<(), Failure> {
        if !self.offers.extensions.pipelining {
            self.say_done(Stage::Mail, mail, COMMAND).await?;
            self.say_done(Stage::Rcpt, rcpt, COMMAND).await?;
            let reply = self.say(Stage::Data, "DATA", DATA).await?;
            return expect(Stage::Data, reply, ReplyClass::Intermediate).map(drop);
        }
        let mail = self.say_done(Stage::Mail, &format!("{mail}\r\n{rcpt}\r\nDATA"), COMMAND).await;
        self.end_of_envelope(mail).await
    }

    /// The replies to RCPT and DATA, which were said in one row with MAIL.
    async fn end_of_envelope(&mut self, mail: Result<Reply, Failure>) -> Result<(), Failure> {
        let rcpt = self
            .hear(Stage::Rcpt, COMMAND, &mail)
            .await
            .and_then(|reply| expect(Stage::Rcpt, reply, ReplyClass::Completion));
        let data = self.hear(Stage::Data, DATA, &rcpt).await;
        match mail.and(rcpt) {
            Ok(_) => expect(Stage::Data, data?, ReplyClass::Intermediate).map(drop),
            Err(failure) => {
                if data.is_ok() {
                    // RFC 2920, section 3.1, asks for an empty message here; the line is given up instead, so that not
                    // even an empty one can be taken for the record.
                    self.line.poison(failure.cause.clone());
                }
                Err(failure)
            }
        }
    }

    /// The envelope of `next` as one row of commands, and the letter as it is rendered for it; none where it has to wait for
    /// its turn.
    fn envelope_ahead(&self, next: &Letter) -> Option<(String, Ahead)> {
        if !self.offers.extensions.pipelining || self.transactions >= MAX_TRANSACTIONS || next.is_trial {
            return None;
        }
        let rendering = (next.render)(self.archive_offers());
        // What can't be sent to this server is found out when its turn comes.
        let mail = self.mail_command(next, &rendering).ok()?;
        let row = format!("{mail}\r\nRCPT TO:<{}>\r\nDATA\r\n", next.forward_path);
        Some((row, Ahead { id: next.id, rendering }))
    }

    /// The reply to the next command of a row; not waited for when the line broke at the one before.
    async fn hear(&mut self, stage: Stage, limit: Duration, before: &Result<Reply, Failure>) -> Result<Reply, Failure> {
        if let Err(failure) = before
            && !matches!(failure.cause, Cause::Reply(_))
        {
            return Err(failure.clone());
        }
        self.hear_now(stage, limit).await
    }

    async fn hear_now(&mut self, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        self.line.expect_reply_within(limit);
        let heard = self.line.hear().await;
        self.answer(stage, heard)
    }

    async fn hear_done(&mut self, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.hear_now(stage, limit).await?;
        expect(stage, reply, ReplyClass::Completion)
    }

    async fn send_data(
        &mut self,
        rendering: &Rendered,
        slices: Slices,
        next: Option<&Letter>,
    ) -> Result<Reply, Failure> {
        self.line.expect_reply_within(END_OF_DATA);
        let sent = match self.write_data(rendering, slices, next).await {
            Ok(()) => self.line.hear().await,
            Err(error) => Err(error),
        };
        if let Some(cause) = self.line.poisoned() {
            return Err(Failure { stage: Stage::Data, cause });
        }
        let mut failure = match self.answer(Stage::EndOfData, sent) {
            Ok(reply) => return expect(Stage::EndOfData, reply, ReplyClass::Completion),
            Err(failure) => failure,
        };
        if let Cause::Lost(what) = &mut failure.cause
            && self.line.write_failed()
        {
            // A server that stops taking data often says why before it goes.
            self.line.expect_reply_within(POLITENESS);
            if let Ok(reply) = self.line.hear().await {
                what.push_str(&format!("; the server had said {reply}"));
            }
        }
        Err(failure)
    }

    /// Writes the letter and the final dot, or poisons the line before there could be one: behind a part of the original, and
    /// where the server spoke before we had ended, which would be taken for the answer to the dot.
    async fn write_data(&mut self, rendering: &Rendered, mut slices: Slices, next: Option<&Letter>) -> io::Result<()> {
        let ahead = next.and_then(|next| self.envelope_ahead(next));
        let (line, mut encoder) = (&self.line, Encoder::new());
        line.gather(|out| encoder.encode(&rendering.prefix, out))?;
        loop {
            let slice = match slices.next() {
                Ok(Some(slice)) => slice,
                Ok(None) => break,
                Err(why) => {
                    line.poison(Cause::Ours(why));
                    break;
                }
            };
            if line.gather(|out| encoder.encode(&slice, out))? {
                line.drain().await?;
            }
        }
        if let Some(said) = line.spoke_early() {
            line.poison(Cause::Lost(said));
        }
        line.gather(|out| {
            encoder.encode(&rendering.suffix, out);
            encoder.finish(out);
            if let Some((row, _)) = &ahead {
                out.extend_from_slice(row.as_bytes());
            }
        })?;
        self.ahead = ahead.map(|(_, ahead)| ahead);
        Ok(())
    }

    /// MAIL with its parameters, or why the letter can't be sent to this server at all.
    fn mail_command(&self, letter: &Letter, rendering: &Rendered) -> Result<String, Failure> {
        let offered = &self.offers.extensions;
        let never = |what: String| Failure { stage: Stage::Mail, cause: Cause::Never(what) };
        let needs_utf8 = letter.has_utf8_path() || rendering.needs_smtp_utf8;
        if needs_utf8 && !offered.smtp_utf8 {
            return Err(never("an address is not ASCII and the server offers no SMTPUTF8".to_owned()));
        }
        let around = rendering.prefix.len().saturating_add(rendering.suffix.len());
        let size = letter.original.length.saturating_add(around as u64);
        // RFC 1870, section 6.1: what exceeds the limit needs no try.
        if let Some(limit) = offered.size.filter(|limit| *limit > 0 && size > *limit) {
            return Err(never(format!("{size} octets are more than the {limit} that the server takes")));
        }
        let mut mail = format!("MAIL FROM:<{}>", letter.reverse_path.as_str());
        if offered.size.is_some() {
            mail.push_str(&format!(" SIZE={size}"));
        }
        if rendering.eight_bit_mime && offered.eight_bit_mime {
            mail.push_str(" BODY=8BITMIME");
        }
        if rendering.exceeds_offers {
            tracing::warn!(event = "record.eightbit", record = %letter.id, "the octets ask for more than the server offers; sent unchanged");
        }
        if needs_utf8 {
            mail.push_str(" SMTPUTF8");
        }
        Ok(mail)
    }

    fn archive_offers(&self) -> ArchiveOffers {
        let offered = &self.offers.extensions;
        // BDAT is not spoken here, so that BINARYMIME can't be used (RFC 3030, section 3).
        ArchiveOffers {
            eight_bit_mime: offered.eight_bit_mime,
            binary_mime: false,
            chunking: false,
            smtp_utf8: offered.smtp_utf8,
        }
    }

    /// Ends a transaction that was refused, so that another may begin. False when the connection is of no use any more.
    pub(super) async fn reset(&mut self) -> bool {
        self.say_done(Stage::Mail, "RSET", POLITENESS).await.is_ok()
    }

    /// Whether the connection may carry another letter.
    pub(super) fn is_usable(&self) -> bool {
        self.transactions < MAX_TRANSACTIONS && self.ahead.is_none() && self.line.spoke_early().is_none()
    }

    /// Takes leave.
    pub(super) async fn quit(mut self) {
        let _ = self.say(Stage::Mail, "QUIT", POLITENESS).await;
    }

    /// Says `command` and expects 2yz.
    async fn say_done(&mut self, stage: Stage, command: &str, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.say(stage, command, limit).await?;
        expect(stage, reply, ReplyClass::Completion)
    }

    /// Says `command` and waits for 2yz or 3yz.
    async fn say(&mut self, stage: Stage, command: &str, limit: Duration) -> Result<Reply, Failure> {
        if let Some(said) = self.line.spoke_early() {
            return Err(Failure::lost(stage, said));
        }
        self.line.expect_reply_within(limit);
        let said = self.line.gather(|out| {
            out.extend_from_slice(command.as_bytes());
            out.extend_from_slice(b"\r\n");
        });
        let heard = match said {
            Ok(_) => self.line.hear().await,
            Err(error) => Err(error),
        };
        self.answer(stage, heard)
    }

    /// What came of a command.
    fn answer(&self, stage: Stage, heard: io::Result<Reply>) -> Result<Reply, Failure> {
        match heard {
            Ok(reply) if is_negative(&reply) => Err(Failure { stage, cause: Cause::Reply(reply) }),
            Ok(reply) => Ok(reply),
            Err(error) => Err(broken(stage, &self.line, &error)),
        }
    }
}

/// A reply of the class a command needs; another positive one means that the two sides are out of step.
fn expect(stage: Stage, reply: Reply, class: ReplyClass) -> Result<Reply, Failure> {
    if reply.class() == class {
        return Ok(reply);
    }
    Err(Failure::lost(stage, format!("the server said {reply}, which fits nothing")))
}

/// Why there is no reply.
fn broken(stage: Stage, line: &Line, error: &dyn fmt::Display) -> Failure {
    Failure::lost(stage, line.failure().unwrap_or_else(|| error.to_string()))
}

/// Shakes hands as `target` asks for it, over `stream`.
async fn handshake(target: &Target, opener: &Opener<'_>, stream: Stream) -> Result<TlsStream<Stream>, Failure> {
    opener.tls.handshake(&target.trust(), target.tls_name(), stream).await.map_err(|what| {
        let what =
            if target.demands_tls() { format!("{what}, as {} requires", target.who_demands_tls()) } else { what };
        Failure::lost(Stage::Tls, what)
    })
}
