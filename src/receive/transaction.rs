//! One mail transaction between a client, the spool and the next hop, in proxy mode.
//!
//! The order that keeps the promise "journaled before released": octets stream to the spool and, behind the `Received:`
//! line, to the next hop; at the client's final dot the spool makes message and records durable; only then the next hop
//! gets its final dot, and its verdict is the client's. Whatever goes wrong before that dot closes the conversation with
//! the next hop, for which a message without final dot is nothing (RFC 5321, section 4.1.1.4). Where both sides speak in
//! chunks (RFC 3030), the last chunk is what else is the final dot.

use super::bounce::BounceMail;
use super::files::Piece;
use super::keeping::Keeping;
use super::listener::{Parts, Setup};
use super::peer::Peer;
use super::received::received_line;
use super::records::{Envelope, direction, draft_records, switched_on};
use crate::config::{Config, Direction};
use crate::forward::{Leg, Private};
use crate::journal::{HeaderFacts, Observer};
use crate::mail::{Address, QueueId, Reply, ReplyClass, ReversePath, SessionId};
use crate::smtp::{Flaws, Mail, Rcpt};
use crate::spool::Draft;
use std::sync::Arc;
use std::time::Duration;
use way::{lost_reply, unreachable_reply};

pub(super) use ending::Ending;
pub(super) use limits::recipient_limits;

mod chunks;
mod ending;
mod limits;
mod log;
mod way;

/// `Received:` fields that a message may have; more is a loop (RFC 5321, section 6.3, asks for 100 at least).
const MAX_HOPS: u32 = 100;
/// For a conversation with the next hop to be ready: well under the five minutes that a client gives MAIL (RFC 5321,
/// section 4.5.3.2.2).
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) struct Transaction {
    session: SessionId,
    peer: Peer,
    setup: Arc<Setup>,
    parts: Arc<Parts>,
    keeping: Keeping,
    queue_id: QueueId,
    mail: Mail,
    /// The conversation with the next hop; none once it is lost or given up.
    leg: Option<Leg>,
    /// The next hop refused MAIL.
    refused: bool,
    /// Recipients passed to the next hop.
    asked: limits::Asked,
    /// Recipients it accepted.
    accepted: Vec<Address>,
    message: Option<Message>,
    /// The client sends in chunks.
    comes_in_chunks: bool,
    /// The message goes on in chunks, as it comes.
    chunked: bool,
    /// A bounce to a journaling sender, which goes no further than this relay.
    bounce: Option<Box<BounceMail>>,
    /// Which way the message goes, from the view of the first organization that it concerns.
    direction: Option<Direction>,
    /// What the end of data will be answered with, once that is settled before.
    trouble: Option<Reply>,
    /// Its share of the open files.
    files: Option<Piece>,
}

/// The octets under way.
struct Message {
    /// Large, and goes from hand to hand.
    observer: Box<Observer>,
    size: u64,
}

impl Transaction {
    /// Opens the next hop (`private` where the client has authenticated) for a MAIL command and passes it on; the refusal
    /// when that can't be done. The transaction `before`, whose end is [said](Ending::say), hands its connection on instead. It
    /// stays where it is, for it is large and goes from hand to hand.
    pub(super) async fn open(
        session: SessionId,
        peer: &Peer,
        mail: Mail,
        setup: Arc<Setup>,
        parts: &Arc<Parts>,
        private: Option<&Arc<Private>>,
        before: Option<&mut Ending>,
    ) -> Result<Box<Self>, Reply> {
        let mut transaction = Box::new(Self {
            files: None,
            keeping: Keeping::new(parts, setup.config.spool.on_failure),
            session,
            peer: peer.clone(),
            parts: Arc::clone(parts),
            queue_id: QueueId::new(parts.clock.now(), parts.entropy.as_ref()),
            leg: None,
            refused: false,
            asked: limits::Asked::default(),
            accepted: Vec::new(),
            message: None,
            comes_in_chunks: false,
            chunked: false,
            bounce: None,
            direction: None,
            trouble: None,
            setup,
            mail,
        });
        let admitted = transaction.keeping.admit(transaction.mail.size);
        let (handed_on, piece) = match admitted.is_ok().then(|| before.and_then(Ending::hand_on)).flatten() {
            Some((leg, piece)) => (Some(leg), piece),
            None => (None, None),
        };
        match admitted.and_then(|()| piece.map_or_else(|| parts.files.transaction(), Ok)) {
            Ok(piece) => transaction.files = Some(piece),
            Err(reply) => {
                transaction.log_refusal("MAIL", None, &reply);
                return Err(reply);
            }
        }
        let opened = match handed_on {
            Some(leg) => Ok(leg),
            None => way::open(&transaction.setup, private, &transaction.peer, transaction.queue_id).await,
        };
        let (why, for_client) = match opened {
            Ok(mut leg) => {
                if let Some(keyword) = leg.lacks(&transaction.mail) {
                    leg.release();
                    let reply = not_offered(keyword);
                    transaction.log_refusal("MAIL", None, &reply);
                    return Err(reply);
                }
                leg.mail(&transaction.mail);
                transaction.leg = Some(leg);
                return Ok(transaction);
            }
            Err(failure) => failure,
        };
        let reply = for_client.unwrap_or_else(|| {
            transaction.warn_of_next_hop(&why);
            unreachable_reply(&transaction.peer)
        });
        transaction.log_refusal("MAIL", None, &reply);
        Err(reply)
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Passes a recipient on; the refusal when this connection does not offer a parameter that others did, or takes no more
    /// recipients.
    pub(super) fn rcpt(&mut self, rcpt: &Rcpt) -> Result<(), Reply> {
        if self.bounce.is_some() {
            let reply = one_at_a_time();
            self.log_refusal("RCPT", Some(&rcpt.forward_path), &reply);
            return Err(reply);
        }
        if let Some(leg) = &mut self.leg {
            if let Some(keyword) = leg.lacks_for_rcpt(rcpt) {
                let reply = not_offered(keyword);
                self.log_refusal("RCPT", Some(&rcpt.forward_path), &reply);
                return Err(reply);
            }
            if let Err(reply) = self.asked.count(&rcpt.forward_path, leg.extensions().limits) {
                self.log_refusal("RCPT", Some(&rcpt.forward_path), &reply);
                return Err(reply);
            }
            leg.rcpt(rcpt);
        }
        Ok(())
    }

    /// Takes a recipient that is a journaling sender, once everything before it is answered. Only a null reverse-path gets
    /// there, and nobody else may share the transaction: the next hop is let go, and what comes is judged here.
    pub(super) fn take_bounce(&mut self, forward_path: &Address) -> Reply {
        let reply = if !matches!(self.mail.reverse_path, ReversePath::Null) {
            Reply::new(550, "5.1.1 this address has no mailbox: journal records come from it")
        } else if !self.accepted.is_empty() || self.bounce.as_ref().is_some_and(|bounce| !bounce.is_to(forward_path)) {
            one_at_a_time()
        } else {
            if let Some(leg) = self.leg.take() {
                leg.release();
            }
            self.bounce = Some(Box::new(BounceMail::new(&self.setup, forward_path, self.peer.address.ip())));
            return Reply::new(250, "2.1.5 bounces of journal records are taken");
        };
        self.log_refusal("RCPT", Some(forward_path), &reply);
        reply
    }

    /// Passes DATA on, unless the message comes in chunks and can go on so; false when no recipient was passed on, so that
    /// there is nobody to ask.
    pub(super) fn data(&mut self, chunked: bool) -> bool {
        self.comes_in_chunks = chunked;
        if self.bounce.is_some() {
            return true;
        }
        if self.asked.is_none() {
            return false;
        }
        if let Some(leg) = &mut self.leg {
            self.chunked = chunked && leg.takes_chunks();
            if !self.chunked {
                leg.data();
            }
        }
        true
    }

    pub(super) async fn answer_mail(&mut self) -> Reply {
        let reply = self.next_reply().await;
        if !reply.is_completion() {
            self.refused = true;
            self.log_refusal("MAIL", None, &reply);
        }
        reply
    }

    pub(super) async fn answer_rcpt(&mut self, forward_path: Address) -> Reply {
        let reply = self.next_reply().await;
        if reply.is_completion() {
            self.accepted.push(forward_path);
        } else {
            self.log_refusal("RCPT", Some(&forward_path), &reply);
        }
        reply
    }

    pub(super) async fn answer_data(&mut self) -> Reply {
        if let Some(bounce) = &mut self.bounce {
            return bounce.begin(&self.parts);
        }
        let reply = if self.chunked { self.begin_chunks().await } else { self.next_reply().await };
        if reply.code() != 354 {
            self.log_refusal("DATA", None, &reply);
            // RFC 5321, section 4.3.2: 354 or a refusal. Anything else would mislead the client.
            let refusal = matches!(reply.class(), ReplyClass::Transient | ReplyClass::Permanent);
            return if refusal { reply } else { self.lose("answered DATA with neither 354 nor a refusal") };
        }
        if self.accepted.is_empty() {
            // A next hop that asks for data though it refused all recipients. RFC 2920, section 3.1, would have us send an
            // empty message; closing the conversation is sure to relay nothing.
            self.leg = None;
            return Reply::new(554, "5.5.1 no valid recipients");
        }
        let line = self.received();
        self.keeping.begin(self.queue_id, self.mail.size);
        self.message = Some(Message { observer: Box::new(Observer::knowing(self.parts.mac_key)), size: 0 });
        if let Some(leg) = &mut self.leg
            && let Err(lost) = leg.content(&line).await
        {
            // The client sends its message all the same and hears of it at the end.
            self.warn_of_next_hop(&lost);
            self.give_up(lost_reply(&self.peer));
        }
        reply
    }

    /// Takes octets of the message. The first flaw ends the conversation with the next hop before its octets are passed
    /// on: to a server with other ideas of line ends they might be a final dot, and what follows commands. In chunks they
    /// can't be.
    pub(super) async fn content(&mut self, octets: &[u8], flaws: Flaws) {
        if self.trouble.is_some() {
            return;
        }
        if let Some(reply) = self.flaw_on_the_way(flaws) {
            self.give_up(reply);
            return;
        }
        let limit = self.setup.listener.max_message_size;
        if let Some(bounce) = &mut self.bounce {
            if let Err(reply) = bounce.take(octets, limit, &self.parts) {
                self.give_up(reply);
            }
            return;
        }
        let (Some(message), Some(leg)) = (&mut self.message, &mut self.leg) else { return };
        message.size = message.size.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if message.size > limit {
            self.give_up(too_large(limit));
            return;
        }
        message.observer.observe(octets);
        if let Err(reply) = self.keeping.append(octets).await {
            self.give_up(reply);
        } else if let Err(lost) = leg.content(octets).await {
            self.warn_of_next_hop(&lost);
            self.give_up(chunks::reply_to(lost, &self.peer));
        }
    }

    /// The client's final dot, or its last chunk: makes everything durable, for the next hop to hear of its end. Where it does not
    /// go on, or went nowhere, the error is the answer. `current` is the configuration in effect now.
    pub(super) async fn keep(mut self: Box<Self>, flaws: Flaws, current: &Arc<Config>) -> Result<Box<Ending>, Reply> {
        let reply = match (self.trouble.take().or_else(|| self.flaw_at_the_end(flaws)), self.message.take()) {
            (Some(reply), _) => reply,
            (None, Some(message)) => return self.prepare(message, flaws, current).await,
            (None, None) => match self.bounce.take() {
                Some(bounce) => Box::pin(bounce.judge(&self.keeping, &self.parts, (self.session, self.queue_id))).await,
                None => Reply::new(503, "5.5.1 no message was begun"),
            },
        };
        if reply.is_completion() {
            return Err(reply);
        }
        // Dropping the conversation closes it before its final dot: nothing is relayed.
        self.log_refusal("end of data", None, &reply);
        Err(reply)
    }

    async fn prepare(
        mut self: Box<Self>,
        message: Message,
        flaws: Flaws,
        current: &Arc<Config>,
    ) -> Result<Box<Ending>, Reply> {
        let observation = message.observer.finish();
        if observation.hops > MAX_HOPS {
            let reply = Reply::new(550, "5.4.6 routing loop: too many Received fields");
            self.log_circle(observation.own.as_ref(), observation.hops);
            self.log_refusal("end of data", None, &reply);
            return Err(reply);
        }
        let facts = HeaderFacts::read(&observation.header);
        let envelope = Envelope {
            queue_id: self.queue_id,
            received: self.parts.clock.now(),
            reverse_path: self.mail.reverse_path.clone(),
            recipients: std::mem::take(&mut self.accepted),
            login: self.peer.login.as_deref().map(str::to_owned),
        };
        self.direction = direction(&self.setup.config, &envelope, &facts);
        let records = match &observation.own {
            Some(own) => {
                self.log_own_mail(own, &envelope);
                Vec::new()
            }
            None => {
                let config = switched_on(&self.setup.config, current);
                draft_records(&config, &envelope, &observation, &facts, self.parts.entropy.as_ref())
            }
        };
        if let Some(reply) = self.obstacle_at_the_end(flaws, !records.is_empty()).await {
            self.log_refusal("end of data", None, &reply);
            return Err(reply);
        }
        let draft = Draft { queue_id: self.queue_id, records };
        let unrecorded = self.keeping.prepare(draft).await;
        let unrecorded = unrecorded.inspect_err(|reply| self.log_refusal("end of data", None, reply))?;
        Ok(Box::new(Ending::new(self, envelope, observation, unrecorded)))
    }

    /// Ends an unfinished transaction in order: a conversation in a clean state is kept for the next one.
    pub(super) fn release(mut self) {
        if let Some(leg) = self.leg.take().filter(|_| self.message.is_none()) {
            leg.release();
        }
    }

    async fn next_reply(&mut self) -> Reply {
        let Some(leg) = &mut self.leg else { return lost_reply(&self.peer) };
        match leg.reply().await {
            Ok(reply) => reply,
            Err(lost) => self.lose(lost),
        }
    }

    fn lose(&mut self, why: impl std::fmt::Display) -> Reply {
        self.warn_of_next_hop(why);
        self.leg = None;
        lost_reply(&self.peer)
    }

    fn give_up(&mut self, reply: Reply) {
        self.leg = None;
        self.bounce = None;
        self.keeping.let_go();
        self.trouble = Some(reply);
    }

    fn received(&self) -> Vec<u8> {
        let Peer { name, address, .. } = &self.peer;
        let protocol = self.peer.protocol(self.mail.smtp_utf8);
        let hostname = &self.setup.config.hostname;
        received_line(name, address.ip(), hostname, protocol, self.queue_id, self.parts.clock.now())
    }
}

fn one_at_a_time() -> Reply {
    Reply::new(452, "4.5.3 a bounce of a journal record comes alone: send the other recipient by itself")
}

pub(super) fn too_large(limit: u64) -> Reply {
    Reply::new(552, format!("5.3.4 the message is larger than {limit} octets"))
}

fn not_offered(keyword: &str) -> Reply {
    Reply::new(451, format!("4.3.5 the next hop does not offer {keyword} now, try again later"))
}
