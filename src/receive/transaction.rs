//! One mail transaction between a client, the spool and the next hop, in proxy mode.
//!
//! The order that keeps the promise "journaled before released": octets stream to the spool and, behind the `Received:`
//! line, to the next hop; at the client's final dot the spool makes message and records durable; only then the next hop
//! gets its final dot, and its verdict is the client's. Whatever goes wrong before that dot closes the conversation with
//! the next hop, for which a message without final dot is nothing (RFC 5321, section 4.1.1.4).

use super::is_trusted;
use super::keeping::Keeping;
use super::listener::{Parts, Setup};
use super::received::{Protocol, received_line};
use super::records::{Envelope, draft_records};
use crate::forward::{Leg, Lost};
use crate::journal::{HeaderFacts, Observation, Observer, OwnMail};
use crate::mail::{Address, QueueId, RecordId, Reply, ReplyClass, SessionId};
use crate::smtp::{Flaws, Mail, Rcpt};
use crate::spool::{Draft, Verdict};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// `Received:` fields that a message may have; more is a loop (RFC 5321, section 6.3, asks for 100 at least).
const MAX_HOPS: u32 = 100;
/// For a conversation with the next hop to be ready: well under the five minutes that a client gives MAIL (RFC 5321,
/// section 4.5.3.2.2).
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) struct Transaction {
    session: SessionId,
    hello: (String, bool),
    client: IpAddr,
    setup: Arc<Setup>,
    parts: Parts,
    keeping: Keeping,
    queue_id: QueueId,
    mail: Mail,
    /// The conversation with the next hop; none once it is lost or given up.
    leg: Option<Leg>,
    /// The next hop refused MAIL.
    refused: bool,
    /// Recipients passed to the next hop.
    asked: usize,
    /// Recipients it accepted.
    accepted: Vec<Address>,
    message: Option<Message>,
    /// What the end of data will be answered with, once that is settled before.
    trouble: Option<Reply>,
}

/// The octets under way.
struct Message {
    observer: Observer,
    size: u64,
}

impl Transaction {
    /// Opens the next hop for a MAIL command and passes it on; the refusal when that can't be done.
    pub(super) async fn open(
        session: SessionId,
        hello: &(String, bool),
        client: IpAddr,
        mail: Mail,
        setup: Arc<Setup>,
        parts: &Parts,
    ) -> Result<Self, Reply> {
        let mut transaction = Self {
            keeping: Keeping::new(parts),
            session,
            hello: hello.clone(),
            client,
            parts: parts.clone(),
            queue_id: QueueId::new(parts.clock.now(), parts.entropy.as_ref()),
            leg: None,
            refused: false,
            asked: 0,
            accepted: Vec::new(),
            message: None,
            trouble: None,
            setup,
            mail,
        };
        if let Err(reply) = transaction.keeping.admit(transaction.mail.size) {
            transaction.log_refusal("MAIL", None, &reply);
            return Err(reply);
        }
        let opened = timeout(OPEN_TIMEOUT, transaction.setup.next_hop.open()).await;
        let why = match opened {
            Ok(Ok(mut leg)) => {
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
            Ok(Err(unreachable)) => unreachable.to_string(),
            Err(_) => format!("not ready within {} s", OPEN_TIMEOUT.as_secs()),
        };
        transaction.warn_of_next_hop(&why);
        // What exactly is wrong behind us is for the log, not for strangers.
        let reply = Reply::new(451, "4.4.1 the next hop can't be reached, try again later");
        transaction.log_refusal("MAIL", None, &reply);
        Err(reply)
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Passes a recipient on; the refusal when this connection does not offer a parameter that others did.
    pub(super) fn rcpt(&mut self, rcpt: &Rcpt) -> Result<(), Reply> {
        if let Some(leg) = &mut self.leg {
            if let Some(keyword) = leg.lacks_for_rcpt(rcpt) {
                let reply = not_offered(keyword);
                self.log_refusal("RCPT", Some(&rcpt.forward_path), &reply);
                return Err(reply);
            }
            leg.rcpt(rcpt);
        }
        self.asked += 1;
        Ok(())
    }

    /// Passes DATA on; false when no recipient was, so that there is nobody to ask.
    pub(super) fn data(&mut self) -> bool {
        if self.asked == 0 {
            return false;
        }
        if let Some(leg) = &mut self.leg {
            leg.data();
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
        let reply = self.next_reply().await;
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
        self.keeping.begin(self.queue_id);
        self.message = Some(Message { observer: Observer::knowing(self.parts.mac_key), size: 0 });
        if let Some(leg) = &mut self.leg
            && let Err(lost) = leg.content(&line).await
        {
            // The client sends its message all the same and hears of it at the end.
            self.warn_of_next_hop(&lost);
            self.give_up(lost_reply());
        }
        reply
    }

    /// Takes octets of the message. The first flaw ends the conversation with the next hop before its octets are passed
    /// on: to a server with other ideas of line ends they might be a final dot, and what follows commands.
    pub(super) async fn content(&mut self, octets: &[u8], flaws: Flaws) {
        if self.trouble.is_some() {
            return;
        }
        if let Some(reply) = flaw_reply(flaws) {
            self.give_up(reply);
            return;
        }
        let limit = self.setup.listener.max_message_size;
        let (Some(message), Some(leg)) = (&mut self.message, &mut self.leg) else { return };
        message.size = message.size.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if message.size > limit {
            self.give_up(Reply::new(552, format!("5.3.4 the message is larger than {limit} octets")));
            return;
        }
        message.observer.observe(octets);
        if let Err(reply) = self.keeping.append(octets).await {
            self.give_up(reply);
        } else if let Err(lost) = leg.content(octets).await {
            self.warn_of_next_hop(&lost);
            self.give_up(lost_reply());
        }
    }

    /// The client's final dot: everything durable, then the next hop's, then the verdict.
    pub(super) async fn finish(mut self, flaws: Flaws) -> Reply {
        let Some(message) = self.message.take() else { return Reply::new(503, "5.5.1 no message was begun") };
        let reply = match self.trouble.take().or_else(|| flaw_reply(flaws)) {
            Some(reply) => reply,
            None => return self.relay(message).await,
        };
        // Dropping the conversation closes it before its final dot: nothing is relayed.
        self.log_refusal("end of data", None, &reply);
        reply
    }

    async fn relay(mut self, message: Message) -> Reply {
        let observation = message.observer.finish();
        if observation.hops > MAX_HOPS {
            let reply = Reply::new(550, "5.4.6 routing loop: too many Received fields");
            let record = observation.own.as_ref().and_then(|own| own.record);
            let record = record.as_ref().map(RecordId::as_str);
            tracing::warn!(event = "loop.detected", session = %self.session, record, hops = observation.hops, "a message went in circles");
            self.log_refusal("end of data", None, &reply);
            return reply;
        }
        let facts = HeaderFacts::read(&observation.header);
        let envelope = Envelope {
            queue_id: self.queue_id,
            received: self.parts.clock.now(),
            reverse_path: self.mail.reverse_path.clone(),
            recipients: std::mem::take(&mut self.accepted),
        };
        let records = match &observation.own {
            Some(own) => {
                self.log_own_mail(own);
                Vec::new()
            }
            None => draft_records(&self.setup.config, &envelope, &observation, &facts, self.parts.entropy.as_ref()),
        };
        let draft = Draft { queue_id: self.queue_id, records };
        if let Err(reply) = self.keeping.prepare(draft).await {
            self.log_refusal("end of data", None, &reply);
            return reply;
        }
        self.release_message(&envelope, &observation).await
    }

    /// Sends the final dot and takes the verdict to the spool and the client.
    async fn release_message(mut self, envelope: &Envelope, observation: &Observation) -> Reply {
        let spool = Arc::clone(&self.parts.spool);
        let Some(mut leg) = self.leg.take() else {
            drop(spool.decide(self.queue_id, Verdict::Refused));
            return lost_reply();
        };
        match leg.finish().await {
            Ok(reply) if reply.is_completion() => {
                // Nobody waits for the verdict to be durable: lost in a crash, it counts as unknown, and the record goes.
                drop(spool.decide(self.queue_id, Verdict::Accepted));
                leg.release();
                self.log_acceptance(envelope, observation, &reply);
                reply
            }
            Ok(reply) => {
                drop(spool.decide(self.queue_id, Verdict::Refused));
                leg.release();
                self.log_refusal("end of data", None, &reply);
                if reply.code() == 354 { Reply::new(451, "4.4.1 the next hop broke the protocol") } else { reply }
            }
            Err(lost) => {
                let verdict = if matches!(lost, Lost::OutOfOrder(_)) { Verdict::Refused } else { Verdict::Unknown };
                drop(spool.decide(self.queue_id, verdict));
                self.warn_of_next_hop(&lost);
                let reply = lost_reply();
                if verdict == Verdict::Unknown {
                    self.log_unknown(&reply);
                } else {
                    self.log_refusal("end of data", None, &reply);
                }
                reply
            }
        }
    }

    /// Ends an unfinished transaction in order: a conversation in a clean state is kept for the next one.
    pub(super) fn release(mut self) {
        if let Some(leg) = self.leg.take().filter(|_| self.message.is_none()) {
            leg.release();
        }
    }

    async fn next_reply(&mut self) -> Reply {
        let Some(leg) = &mut self.leg else { return lost_reply() };
        match leg.reply().await {
            Ok(reply) => reply,
            Err(lost) => self.lose(lost),
        }
    }

    fn lose(&mut self, why: impl std::fmt::Display) -> Reply {
        self.warn_of_next_hop(why);
        self.leg = None;
        lost_reply()
    }

    fn warn_of_next_hop(&self, why: impl std::fmt::Display) {
        tracing::warn!(
            event = "next_hop.failed",
            session = %self.session,
            queue_id = %self.queue_id,
            next_hop = %self.setup.next_hop.label(),
            cause = %why,
            "the conversation with the next hop failed"
        );
    }

    /// A record that comes back is on a wrong way; it goes on, and the hops it counts end a circle. A report is on its way
    /// to people whose mail comes through here.
    fn log_own_mail(&self, own: &OwnMail) {
        tracing::warn!(
            event = "loop.detected",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            record = own.record.as_ref().map(RecordId::as_str),
            kind = if own.is_record { "record" } else { "report" },
            "our own mail came back; it is relayed and not journaled"
        );
    }

    fn log_unknown(&self, reply: &Reply) {
        tracing::warn!(
            event = "message.refused",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            client = %self.client,
            sender = self.mail.reverse_path.as_str(),
            stage = "end of data",
            outcome = "unknown",
            reply = %reply,
            "the next hop was lost behind the final dot and may have the message; its record is kept and says so"
        );
    }

    fn give_up(&mut self, reply: Reply) {
        self.leg = None;
        self.trouble = Some(reply);
    }

    fn received(&self) -> Vec<u8> {
        let (name, extended) = &self.hello;
        let protocol = Protocol { extended: *extended, utf8: self.mail.smtp_utf8 };
        let hostname = &self.setup.config.hostname;
        received_line(name, self.client, hostname, protocol, self.queue_id, self.parts.clock.now())
    }

    fn log_acceptance(&self, envelope: &Envelope, observation: &Observation, reply: &Reply) {
        let recipients: Vec<&str> = envelope.recipients.iter().map(Address::as_str).collect();
        tracing::info!(
            event = "message.accepted",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            client = %self.client,
            trusted = is_trusted(&self.setup.listener, self.client),
            sender = self.mail.reverse_path.as_str(),
            recipients = ?recipients,
            size = observation.size,
            sha256 = %hex(&observation.sha256),
            next_hop = %self.setup.next_hop.label(),
            reply = %reply,
            "relayed a message"
        );
    }

    pub(super) fn log_refusal(&self, stage: &str, recipient: Option<&Address>, reply: &Reply) {
        tracing::info!(
            event = "message.refused",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            client = %self.client,
            sender = self.mail.reverse_path.as_str(),
            recipient = recipient.map(Address::as_str),
            stage,
            reply = %reply,
            "did not relay a message"
        );
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |text, octet| text + &format!("{octet:02x}"))
}

fn lost_reply() -> Reply {
    Reply::new(451, "4.4.1 the next hop was lost, try again later")
}

fn not_offered(keyword: &str) -> Reply {
    Reply::new(451, format!("4.3.5 the next hop does not offer {keyword} now, try again later"))
}

/// RFC 5321, sections 2.3.8 and 4.1.1.4: what other servers may take for line ends is refused, not repaired; NUL is
/// no octet of a mail message (RFC 5322, section 4; RFC 2045, sections 2.7 and 2.8).
fn flaw_reply(flaws: Flaws) -> Option<Reply> {
    if flaws.bare_cr || flaws.bare_lf {
        Some(Reply::new(550, "5.6.11 the message has a bare CR or LF"))
    } else if flaws.nul {
        Some(Reply::new(550, "5.6.11 the message has a NUL octet"))
    } else {
        None
    }
}
