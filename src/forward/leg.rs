//! One conversation with a next hop, for one transaction: the relay as a client (RFC 5321, section 3.3; RFC 2920).

use super::NextHop;
use super::connection::{CLOSING, Connection};
use super::error::Lost;
use super::local::MaildirLeg;
use super::private::Private;
use crate::mail::Reply;
use crate::net::Agreed;
use crate::smtp::client::{Command, Offer, Verb};
use crate::smtp::{Extensions, Mail, Rcpt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A conversation that waits for MAIL. Commands are queued, then their replies asked for one by one, in order. Dropped, it
/// closes its connection; only [`release`](Self::release) lets another transaction have it.
pub struct Leg {
    way: Way,
}

enum Way {
    Smtp(Box<SmtpLeg>),
    Maildir(Box<MaildirLeg>),
}

struct SmtpLeg {
    home: Home,
    connection: Box<Connection>,
    /// The commands so far, as long as they could be said again on another connection: this one has idled, or they are said
    /// ahead, and no reply of the transaction has been given out.
    replay: Option<Vec<Command>>,
    /// They are said along with the end of the message before; none of their replies has been given out.
    is_ahead: bool,
    /// They were.
    went_ahead: bool,
    /// Who the client is, to be said before MAIL.
    xforward: Option<Command>,
}

/// Where a connection comes from and goes back to.
enum Home {
    /// The idle connections of a next hop.
    Pool(Arc<NextHop>),
    /// One client's session.
    Private(Arc<Private>),
}

impl Home {
    fn next_hop(&self) -> &Arc<NextHop> {
        match self {
            Self::Pool(next_hop) => next_hop,
            Self::Private(private) => private.next_hop(),
        }
    }
}

impl Leg {
    pub(super) fn over_smtp(next_hop: Arc<NextHop>, connection: Box<Connection>, has_idled: bool) -> Self {
        let replay = has_idled.then(Vec::new);
        let home = Home::Pool(next_hop);
        let (is_ahead, went_ahead, xforward) = (false, false, None);
        Self { way: Way::Smtp(Box::new(SmtpLeg { home, connection, replay, is_ahead, went_ahead, xforward })) }
    }

    /// On a connection that nobody could replace.
    pub(super) fn over_private(private: Arc<Private>, connection: Box<Connection>) -> Self {
        Self {
            way: Way::Smtp(Box::new(SmtpLeg {
                home: Home::Private(private),
                connection,
                replay: None,
                is_ahead: false,
                went_ahead: false,
                xforward: None,
            })),
        }
    }

    pub(super) fn into_maildir(leg: MaildirLeg) -> Self {
        Self { way: Way::Maildir(Box::new(leg)) }
    }

    /// The transaction is a client's, which this XFORWARD names.
    pub(super) fn on_behalf_of(mut self, xforward: Command) -> Self {
        if let Way::Smtp(leg) = &mut self.way {
            leg.xforward = Some(xforward);
        }
        self
    }

    /// Whether this connection offers `keyword`, in capitals.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        self.offer().has(keyword)
    }

    /// What this connection offers.
    pub fn extensions(&self) -> &Extensions {
        self.offer().extensions()
    }

    /// Whether the message may go in chunks. Not where the envelope went along with the end of another message: a server that
    /// had answered that end twice would be out of step by one reply, and only the 354 behind DATA tells.
    pub fn takes_chunks(&self) -> bool {
        let went_ahead = matches!(&self.way, Way::Smtp(leg) if leg.went_ahead);
        self.extensions().chunking && !went_ahead
    }

    /// Where the server is; none where it is a directory.
    pub fn address(&self) -> Option<SocketAddr> {
        self.reached().map(|(address, _)| address)
    }

    /// Where the server is, and what TLS was agreed on; none where it is a directory.
    pub(super) fn reached(&self) -> Option<(SocketAddr, Option<Agreed>)> {
        match &self.way {
            Way::Smtp(leg) => Some((leg.connection.address(), leg.connection.agreed())),
            Way::Maildir(_) => None,
        }
    }

    /// The extension that a parameter of `mail` needs and this connection does not offer. `SIZE` and `BODY=7BIT` need none:
    /// they are left out where they can't be said.
    pub fn lacks(&self, mail: &Mail) -> Option<&'static str> {
        self.offer().lacks_for_mail(mail)
    }

    /// The same for a recipient's parameters.
    pub fn lacks_for_rcpt(&self, rcpt: &Rcpt) -> Option<&'static str> {
        self.offer().lacks_for_rcpt(rcpt)
    }

    /// Queues MAIL; all parameters pass in their order and as they were written, but for those that
    /// [`lacks`](Self::lacks) leaves out.
    pub fn mail(&mut self, mail: &Mail) {
        match &mut self.way {
            Way::Smtp(leg) => {
                if let Some(xforward) = leg.xforward.take().filter(|_| leg.connection.offer().has(XFORWARD)) {
                    leg.queue(xforward);
                }
                leg.queue(Command::Mail(mail.clone()));
            }
            Way::Maildir(leg) => leg.mail(),
        }
    }

    /// Queues RCPT.
    pub fn rcpt(&mut self, rcpt: &Rcpt) {
        match &mut self.way {
            Way::Smtp(leg) => leg.queue(Command::Rcpt(rcpt.clone())),
            Way::Maildir(leg) => leg.rcpt(),
        }
    }

    /// Queues DATA.
    pub fn data(&mut self) {
        match &mut self.way {
            Way::Smtp(leg) => leg.queue(Command::Data),
            Way::Maildir(leg) => leg.data(),
        }
    }

    /// Begins the message in chunks instead (RFC 3030), once all recipients are answered; the server must have offered
    /// CHUNKING. Gives a 354, or a refusal.
    pub async fn begin_chunks(&mut self) -> Result<Reply, Lost> {
        match &mut self.way {
            Way::Smtp(leg) => leg.connection.begin_chunks().map(|()| Reply::new(354, "in chunks")),
            Way::Maildir(leg) => Ok(leg.begin().await),
        }
    }

    /// Waits until the server has answered all chunks but the last, which is not said yet. After an error nothing was
    /// relayed.
    pub async fn hear_of_chunks(&mut self) -> Result<(), Lost> {
        match &mut self.way {
            Way::Smtp(leg) => leg.connection.hear_of_chunks(0).await,
            Way::Maildir(_) => Ok(()),
        }
    }

    /// Sends what may be sent, in one write, and gives the reply to the oldest unanswered command. A connection that the
    /// server had given up while it idled is replaced by a new one, once, unseen. After an error the leg is of no use.
    pub async fn reply(&mut self) -> Result<Reply, Lost> {
        match &mut self.way {
            Way::Smtp(leg) => leg.reply().await,
            Way::Maildir(leg) => leg.reply().await.ok_or(Lost::OutOfOrder("no command is unanswered")),
        }
    }

    /// Octets of the message, any part of it, as the client sent them; DATA was answered with 354, or chunks are begun.
    /// They are written in blocks of [`GATHER`](super::GATHER) octets or a little more. After an error nothing was
    /// relayed.
    pub async fn content(&mut self, octets: &[u8]) -> Result<(), Lost> {
        match &mut self.way {
            Way::Smtp(leg) => leg.connection.content(octets).await,
            Way::Maildir(leg) => leg.content(octets).await.then_some(()).ok_or(NO_MESSAGE),
        }
    }

    /// Sends the final dot, or the last chunk, and gives the reply to it. After an error nobody knows whether the message
    /// was relayed, unless it [`left_nothing`](Lost::left_nothing): then neither was sent.
    pub async fn finish(&mut self) -> Result<Reply, Lost> {
        match &mut self.way {
            Way::Smtp(leg) => {
                leg.connection.end()?;
                leg.connection.verdict().await
            }
            Way::Maildir(leg) => leg.finish().await.ok_or(NO_MESSAGE),
        }
    }

    /// Whether a transaction that begins with `mail` at `next_hop` may be [sent along](Self::go_on) with the end of this one:
    /// the connection is anybody's, takes commands in a row and one transaction more, and offers what clients are told.
    pub fn may_go_on(&self, next_hop: &Arc<NextHop>, mail: &Mail) -> bool {
        let Way::Smtp(leg) = &self.way else { return false };
        let Home::Pool(home) = &leg.home else { return false };
        Arc::ptr_eq(home, next_hop)
            && leg.connection.may_go_on()
            && home.takes_ahead(leg.connection.offer())
            && self.lacks(mail).is_none()
    }

    /// Ends the message and begins the next transaction on the same connection: its commands leave along with that end, whose
    /// [`verdict`](Self::verdict) is to be asked for before their replies. Only where it [may](Self::may_go_on); after an error
    /// nothing was relayed.
    pub fn go_on(self) -> Result<Self, Lost> {
        let Way::Smtp(mut leg) = self.way else { return Err(NO_MESSAGE) };
        leg.connection.end()?;
        (leg.replay, leg.is_ahead, leg.went_ahead) = (Some(Vec::new()), true, true);
        Ok(Self { way: Way::Smtp(leg) })
    }

    /// The reply to the end of the message that was said when this one [began](Self::go_on). After an error nobody knows whether
    /// it was relayed; this transaction may go on all the same. A server that fails here is sent nothing along for a while:
    /// perhaps what came behind the end was why.
    pub async fn verdict(&mut self) -> Result<Reply, Lost> {
        let Way::Smtp(leg) = &mut self.way else { return Err(NO_MESSAGE) };
        let verdict = leg.connection.verdict().await;
        let has_more = leg.is_ahead && leg.replay.as_ref().is_some_and(|commands| !commands.is_empty());
        // A 554 is most often about the message; who minds says so to what came behind it, too.
        let minds = |reply: &Reply| reply.code() != FAILED && minds_what_is_ahead(reply);
        if has_more && verdict.as_ref().map_or(true, minds) {
            leg.home.next_hop().send_nothing_ahead();
        }
        verdict
    }

    /// Gives up a message that has begun, by closing the connection: without the final dot a server keeps nothing.
    pub async fn abandon_data(&mut self) {
        match &mut self.way {
            Way::Smtp(leg) => leg.connection.close().await,
            Way::Maildir(leg) => leg.abandon(),
        }
    }

    /// Lets another transaction have the connection (of the same client, where it is [`Private`]), if it is clean: every
    /// reply was taken, and no message has begun without its end. A transaction that is open is reset.
    pub fn release(self) {
        if let Way::Smtp(leg) = self.way {
            let SmtpLeg { home, mut connection, .. } = *leg;
            if connection.settle() {
                match home {
                    Home::Pool(next_hop) => next_hop.keep(connection),
                    Home::Private(private) => private.keep(connection),
                }
            }
        }
    }

    fn offer(&self) -> &Offer {
        match &self.way {
            Way::Smtp(leg) => leg.connection.offer(),
            Way::Maildir(leg) => leg.offer(),
        }
    }

    /// Waits until the server has said something that is not read yet.
    #[cfg(test)]
    pub(super) async fn hears_something(&self) {
        if let Way::Smtp(leg) = &self.way {
            leg.connection.hears_something().await;
        }
    }

    #[cfg(test)]
    pub(super) fn writes(&self) -> usize {
        match &self.way {
            Way::Smtp(leg) => leg.connection.writes,
            Way::Maildir(_) => 0,
        }
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Smtp(leg) => write!(f, "Leg({} {})", leg.home.next_hop().label(), leg.connection.address()),
            Way::Maildir(_) => f.write_str("Leg(maildir)"),
        }
    }
}

/// What a server offers that hears who the client is.
const XFORWARD: &str = "XFORWARD";
/// How long the reply to an envelope may take that went along with the end of a message, behind the verdict on that: a server
/// that has thrown it away says nothing, and is asked again over another connection.
const AHEAD: Duration = Duration::from_secs(30);
/// For another connection to be ready: well under the five minutes that a client gives MAIL (RFC 5321, section 4.5.3.2.2).
const REPLACE: Duration = Duration::from_secs(120);
/// Replies about commands, and not about the mail (RFC 5321, section 4.2.3).
const SYNTAX: std::ops::RangeInclusive<u16> = 500..=504;
/// "Transaction failed", and much else: behind it the enhanced code tells.
const FAILED: u16 = 554;
const NO_MESSAGE: Lost = Lost::OutOfOrder("no message is waited for");

/// Whether a server may mean by this that commands came too early, or in pieces: RFC 3463, section 3.6, has 5.5.z for the protocol.
/// A refusal with another enhanced code is about the mail.
fn minds_what_is_ahead(reply: &Reply) -> bool {
    let first = reply.lines().first().map_or("", String::as_str);
    let is_enhanced = first.starts_with("5.");
    SYNTAX.contains(&reply.code())
        || reply.is_permanent() && first.starts_with("5.5.")
        || reply.code() == FAILED && !is_enhanced
}

impl SmtpLeg {
    fn queue(&mut self, command: Command) {
        if let Some(replay) = &mut self.replay {
            replay.push(command.clone());
        }
        self.connection.queue(command);
    }

    async fn reply(&mut self) -> Result<Reply, Lost> {
        let was_ahead = std::mem::take(&mut self.is_ahead);
        let reply = if was_ahead { self.connection.reply_within(AHEAD).await } else { self.connection.reply().await };
        if let Some(refusal) = self.connection.xforward_refusal.take() {
            self.home.next_hop().note_refusal(&refusal);
        }
        let is_minded = was_ahead && reply.as_ref().is_ok_and(minds_what_is_ahead);
        let had_been_given_up = match &reply {
            Ok(reply) => reply.code() == CLOSING || is_minded,
            // Behind a verdict that was lost there is nothing to be heard, and who threw the envelope away says nothing.
            Err(lost) => {
                lost.is_end_of_idling() || was_ahead && matches!(lost, Lost::OutOfOrder(_) | Lost::Silent { .. })
            }
        };
        let Some(commands) = self.replay.take().filter(|_| had_been_given_up) else { return reply };
        let again = match self.replace(commands).await {
            Ok(()) => self.connection.reply_within(REPLACE).await,
            Err(lost) => Err(lost),
        };
        let was_silent = was_ahead && matches!(reply, Err(Lost::Silent { .. }));
        let was_taken = || again.as_ref().map_or(true, Reply::is_completion);
        let was_too_early = |reply: &Reply| reply.code() != FAILED || was_taken();
        if was_silent || is_minded && reply.is_ok_and(|reply| was_too_early(&reply)) {
            self.home.next_hop().send_nothing_ahead();
        }
        // Not what it has said first: that may have been about the place, and would be final for the client.
        again
    }

    /// Says the same again on a new connection.
    async fn replace(&mut self, commands: Vec<Command>) -> Result<(), Lost> {
        let client = self.connection.speaks_for.clone();
        // Where a server counts its clients' connections, the one that is left must not stand in the way.
        self.connection.close().await;
        let dialled = timeout(REPLACE, self.home.next_hop().dial(client.as_ref())).await;
        let dialled = dialled.map_err(|_| Lost::Silent { verb: Verb::Greeting, wait: REPLACE })?;
        self.connection = dialled.map_err(|error| Lost::Unreachable(Box::new(error)))?;
        let offer = self.connection.offer();
        let lacking = commands.iter().find_map(|command| match command {
            Command::Mail(mail) => offer.lacks_for_mail(mail),
            Command::Rcpt(rcpt) => offer.lacks_for_rcpt(rcpt),
            _ => None,
        });
        if let Some(extension) = lacking {
            return Err(Lost::OffersLess(extension));
        }
        let hears = offer.has(XFORWARD);
        let said = commands.into_iter().filter(|command| hears || !matches!(command, Command::Xforward(_)));
        said.for_each(|command| self.connection.queue(command));
        Ok(())
    }
}
