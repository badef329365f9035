//! What a transaction says in the log.

use super::super::is_trusted;
use super::super::records::Envelope;
use super::Transaction;
use crate::config::Direction;
use crate::journal::{Observation, OwnMail};
use crate::mail::{Address, RecordId, Reply, hex};

impl Transaction {
    pub(super) fn warn_of_next_hop(&self, why: impl std::fmt::Display) {
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
    /// to people whose mail comes through here. Whoever has seen either can send it again, and no record says to whom: this
    /// line does.
    pub(super) fn log_own_mail(&self, own: &OwnMail, envelope: &Envelope) {
        let recipients: Vec<&str> = envelope.recipients.iter().map(Address::as_str).collect();
        tracing::warn!(
            event = "loop.detected",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            direction = self.direction.map(Direction::as_str),
            record = own.record.as_ref().map(RecordId::as_str),
            kind = if own.is_record { "record" } else { "report" },
            client = %self.peer.address.ip(),
            sender = self.mail.reverse_path.as_str(),
            recipients = ?recipients,
            added_octets = own.added_octets,
            "our own mail came back; it is relayed and not journaled"
        );
    }

    /// A message that has been relayed too often.
    pub(super) fn log_circle(&self, own: Option<&OwnMail>, hops: u32) {
        let recipients: Vec<&str> = self.accepted.iter().map(Address::as_str).collect();
        tracing::warn!(
            event = "loop.detected",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            record = own.and_then(|own| own.record.as_ref()).map(RecordId::as_str),
            client = %self.peer.address.ip(),
            sender = self.mail.reverse_path.as_str(),
            recipients = ?recipients,
            hops,
            "a message went in circles"
        );
    }

    pub(super) fn log_unknown(&self, reply: &Reply, has_record: bool) {
        let record = if has_record { "its record is kept and says so" } else { "it has no record" };
        tracing::warn!(
            event = "message.refused",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            direction = self.direction.map(Direction::as_str),
            client = %self.peer.address.ip(),
            sender = self.mail.reverse_path.as_str(),
            stage = "end of data",
            outcome = "unknown",
            reply = %reply,
            "the next hop was lost behind the final dot and may have the message; {record}"
        );
    }

    pub(super) fn log_acceptance(&self, envelope: &Envelope, observation: &Observation, reply: &Reply) {
        let recipients: Vec<&str> = envelope.recipients.iter().map(Address::as_str).collect();
        tracing::info!(
            event = "message.accepted",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            direction = self.direction.map(Direction::as_str),
            client = %self.peer.address.ip(),
            trusted = is_trusted(&self.setup.listener, self.peer.address.ip()),
            login = self.peer.login.as_deref(),
            sender = self.mail.reverse_path.as_str(),
            recipients = ?recipients,
            size = observation.size,
            sha256 = %hex(&observation.sha256),
            next_hop = %self.setup.next_hop.label(),
            reply = %reply,
            "relayed a message"
        );
    }

    pub(in crate::receive) fn log_refusal(&self, stage: &str, recipient: Option<&Address>, reply: &Reply) {
        tracing::info!(
            event = "message.refused",
            session = %self.session,
            queue_id = %self.queue_id,
            listener = %self.setup.listener.name,
            direction = self.direction.map(Direction::as_str),
            client = %self.peer.address.ip(),
            login = self.peer.login.as_deref(),
            sender = self.mail.reverse_path.as_str(),
            recipient = recipient.map(Address::as_str),
            stage,
            reply = %reply,
            "did not relay a message"
        );
    }
}
