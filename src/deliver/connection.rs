//! A conversation with one server, from its first transaction to the last reply, said over the [`Line`] in as few writes as the
//! server's extensions allow. How it [begins](super::opening) is told elsewhere.
//!
//! Carries out RFC 5321, section 3.3 (client side) with the time limits of 4.5.3.2, RFC 1870 (SIZE), RFC 2920 (PIPELINING),
//! RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8). One recipient each time.
//! What a failure means for a record is left to [`Verdict`](super::Verdict).

use super::letter::{Letter, Rendered, Slices};
use super::line::{Line, is_negative};
use super::offers::Offers;
use super::verdict::{Cause, Failure, Stage};
use crate::journal::ArchiveOffers;
use crate::mail::{Address, RecordId, Reply, ReplyClass, ReversePath};
use crate::smtp::Encoder;
use std::fmt;
use std::io;
use std::time::Duration;

/// Waits for replies (RFC 5321, section 4.5.3.2): EHLO, STARTTLS, AUTH, MAIL and RCPT, …
pub(super) const COMMAND: Duration = Duration::from_secs(5 * 60);
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

/// A server that has answered EHLO, and AUTH when asked for.
pub(super) struct Connection {
    pub(super) line: Line,
    pub(super) offers: Offers,
    transactions: u32,
    /// The letter whose envelope was said along with the end of the one before.
    ahead: Option<Ahead>,
}

/// An envelope whose replies are still to come, and the letter as it was rendered for it.
struct Ahead {
    id: RecordId,
    reverse_path: ReversePath,
    forward_path: Address,
    rendering: Rendered,
}

impl Ahead {
    /// Another configuration may have come in between.
    fn is_of(&self, letter: &Letter) -> bool {
        (self.id, &self.reverse_path, &self.forward_path) == (letter.id, &letter.reverse_path, &letter.forward_path)
    }
}

impl Connection {
    /// A conversation over `line` with a server that offers `offers`.
    pub(super) fn over(line: Line, offers: Offers) -> Self {
        Self { line, offers, transactions: 0, ahead: None }
    }

    /// Sends `letter`; gives the server's reply to the end of data when that is an acceptance. The envelope of `next` goes out
    /// with the final dot where the server takes commands in a row (RFC 2920, section 3.1: the content of a message may be the
    /// first in a group): then nothing but `next` can be sent afterwards.
    pub(super) async fn send(&mut self, letter: &Letter, next: Option<&Letter>) -> Result<Reply, Failure> {
        self.transactions += 1;
        let ahead = self.ahead.take();
        if ahead.as_ref().is_some_and(|ahead| !ahead.is_of(letter)) {
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

    /// Whether the envelope that was sent ahead is that of `letter`.
    pub(super) fn is_ahead_of(&self, letter: &Letter) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.is_of(letter))
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
        let (reverse_path, forward_path) = (next.reverse_path.clone(), next.forward_path.clone());
        Some((row, Ahead { id: next.id, reverse_path, forward_path, rendering }))
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
    pub(super) async fn say_done(&mut self, stage: Stage, command: &str, limit: Duration) -> Result<Reply, Failure> {
        let reply = self.say(stage, command, limit).await?;
        expect(stage, reply, ReplyClass::Completion)
    }

    /// Says `command` and waits for 2yz or 3yz.
    pub(super) async fn say(&mut self, stage: Stage, command: &str, limit: Duration) -> Result<Reply, Failure> {
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
pub(super) fn expect(stage: Stage, reply: Reply, class: ReplyClass) -> Result<Reply, Failure> {
    if reply.class() == class {
        return Ok(reply);
    }
    Err(Failure::lost(stage, format!("the server said {reply}, which fits nothing")))
}

/// Why there is no reply.
pub(super) fn broken(stage: Stage, line: &Line, error: &dyn fmt::Display) -> Failure {
    Failure::lost(stage, line.failure().unwrap_or_else(|| error.to_string()))
}
