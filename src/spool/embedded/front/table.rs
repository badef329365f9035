//! The rows that the database lacks, with what finds them.

use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::State;
use crate::spool::files::OctetStore;
use crate::spool::life::Kept;
use crate::spool::{Archive, Octets};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A message that the database lacks.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) received: Timestamp,
    pub(super) size: u64,
    /// None: in the file of that id.
    pub(super) octets: Option<Bytes>,
    pub(super) records: BTreeSet<RecordId>,
}

/// Messages, their records, and the indexes over both.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) records: BTreeMap<RecordId, Kept>,
    pub(super) messages: BTreeMap<QueueId, Message>,
    /// Records by the message they are of, whatever organization's.
    by_identity: BTreeMap<[u8; 32], Vec<RecordId>>,
    pub(super) due: BTreeMap<Archive, BTreeSet<(Timestamp, RecordId)>>,
    /// Octets of the messages.
    pub(super) octets: usize,
    /// Records whose message the next hop has not judged.
    pub(super) undecided: usize,
    /// Records that wait for an attempt.
    pub(super) waiting: usize,
    /// Octets of what archives have said last of the records.
    pub(super) replies: usize,
    /// Records that are history.
    pub(super) ended: BTreeSet<RecordId>,
}

impl Table {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.messages.is_empty()
    }

    /// The octets of a message, while a live record needs them.
    pub(super) fn octets_of(&self, store: &OctetStore, queue_id: QueueId) -> Option<Octets> {
        let message = self.messages.get(&queue_id)?;
        Some(match &message.octets {
            Some(octets) => Octets::Inline(octets.clone()),
            None => store.octets(queue_id, message.size),
        })
    }

    /// The decided records of a message, oldest first.
    pub(super) fn of_identity(&self, identity: &[u8; 32]) -> Vec<&Kept> {
        let ids = self.by_identity.get(identity).map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<_> = ids.iter().filter_map(|id| self.records.get(id)).collect();
        found.sort_by_key(|kept| kept.fields.id);
        found
    }

    /// Puts a record in the place of what is there; the one way in which records and their indexes change.
    pub(super) fn put_record(&mut self, id: RecordId, kept: Option<Kept>) -> Option<Kept> {
        let was = self.records.remove(&id);
        if let Some(was) = &was {
            self.unlist(was);
        }
        if let Some(kept) = kept {
            self.enlist(&kept);
            self.records.insert(id, kept);
        }
        was
    }

    fn enlist(&mut self, kept: &Kept) {
        let id = kept.fields.id;
        self.undecided = self.undecided.saturating_add(usize::from(kept.standing.state == State::Prepared));
        self.by_identity.entry(kept.fields.original.identity).or_default().push(id);
        if let Some(message) = self.messages.get_mut(&kept.fields.original.queue_id) {
            message.records.insert(id);
        }
        self.replies = self.replies.saturating_add(reply_octets(kept));
        if let Some(due) = kept.standing.due() {
            self.waiting = self.waiting.saturating_add(1);
            self.due.entry(archive_of(kept)).or_default().insert((due, id));
        }
        if kept.standing.ended.is_some() {
            self.ended.insert(id);
        }
    }

    fn unlist(&mut self, kept: &Kept) {
        let (id, identity) = (kept.fields.id, &kept.fields.original.identity);
        self.undecided = self.undecided.saturating_sub(usize::from(kept.standing.state == State::Prepared));
        if let Some(ids) = self.by_identity.get_mut(identity) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_identity.remove(identity);
            }
        }
        if let Some(message) = self.messages.get_mut(&kept.fields.original.queue_id) {
            message.records.remove(&id);
        }
        self.replies = self.replies.saturating_sub(reply_octets(kept));
        if let Some(due) = kept.standing.due() {
            self.waiting = self.waiting.saturating_sub(1);
            if let Some(of_it) = self.due.get_mut(&archive_of(kept)) {
                of_it.remove(&(due, id));
            }
        }
        self.ended.remove(&id);
    }

    pub(super) fn put_message(&mut self, queue_id: QueueId, message: Option<Message>) -> Option<Message> {
        let octets = |message: &Message| message.octets.as_ref().map_or(0, Bytes::len);
        let was = self.messages.remove(&queue_id);
        self.octets = self.octets.saturating_sub(was.as_ref().map_or(0, octets));
        if let Some(message) = message {
            self.octets = self.octets.saturating_add(octets(&message));
            self.messages.insert(queue_id, message);
        }
        was
    }
}

fn reply_octets(kept: &Kept) -> usize {
    kept.standing.last_reply.as_ref().map_or(0, String::len)
}

fn archive_of(kept: &Kept) -> Archive {
    Archive { organization: kept.fields.organization.clone(), key: kept.archive.clone() }
}
