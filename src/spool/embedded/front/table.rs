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
    /// Whether they hold a part of the allowance for the middling sort.
    pub(super) is_middling: bool,
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
    /// Octets of the messages …
    pub(super) octets: usize,
    /// … and of those of the middling sort among them.
    middling: usize,
    /// Records whose message the next hop has not judged.
    pub(super) undecided: usize,
    /// Records that wait for an attempt.
    pub(super) waiting: usize,
    /// Octets of what archives have said last of the records.
    pub(super) replies: usize,
    /// Records that are history.
    pub(super) ended: BTreeSet<RecordId>,
}

/// In which lists a record is by where it stands.
#[derive(Debug, Default)]
struct Listed {
    is_undecided: bool,
    due: Option<Timestamp>,
    reply_octets: usize,
    has_ended: bool,
}

impl Listed {
    fn of(kept: &Kept) -> Self {
        let standing = &kept.standing;
        Self {
            is_undecided: standing.state == State::Prepared,
            due: standing.due(),
            reply_octets: standing.last_reply.as_ref().map_or(0, String::len),
            has_ended: standing.ended.is_some(),
        }
    }
}

impl Table {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.messages.is_empty()
    }

    /// Octets of the small messages.
    pub(super) fn small_octets(&self) -> usize {
        self.octets.saturating_sub(self.middling)
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
        match (self.records.get_mut(&id), kept) {
            (Some(place), Some(kept)) => {
                // Of which message it is never changes.
                let (here, there) = (Listed::of(place), Listed::of(&kept));
                let was = std::mem::replace(place, kept);
                self.relist(id, &was, here, there);
                Some(was)
            }
            (None, Some(kept)) => {
                self.enlist(&kept);
                self.relist(id, &kept, Listed::default(), Listed::of(&kept));
                self.records.insert(id, kept);
                None
            }
            (Some(_), None) => {
                let was = self.records.remove(&id)?;
                self.unlist(&was);
                self.relist(id, &was, Listed::of(&was), Listed::default());
                Some(was)
            }
            (None, None) => None,
        }
    }

    /// Moves a record in the lists that follow from where it stands.
    fn relist(&mut self, id: RecordId, kept: &Kept, was: Listed, is: Listed) {
        let moved = |count: usize, was: usize, is: usize| count.saturating_sub(was).saturating_add(is);
        self.undecided = moved(self.undecided, usize::from(was.is_undecided), usize::from(is.is_undecided));
        self.replies = moved(self.replies, was.reply_octets, is.reply_octets);
        self.waiting = moved(self.waiting, usize::from(was.due.is_some()), usize::from(is.due.is_some()));
        if was.due != is.due {
            let due = self.due.entry(archive_of(kept)).or_default();
            was.due.map(|at| due.remove(&(at, id)));
            is.due.map(|at| due.insert((at, id)));
        }
        match (was.has_ended, is.has_ended) {
            (false, true) => drop(self.ended.insert(id)),
            (true, false) => drop(self.ended.remove(&id)),
            _ => {}
        }
    }

    fn enlist(&mut self, kept: &Kept) {
        let id = kept.fields.id;
        self.by_identity.entry(kept.fields.original.identity).or_default().push(id);
        if let Some(message) = self.messages.get_mut(&kept.fields.original.queue_id) {
            message.records.insert(id);
        }
    }

    fn unlist(&mut self, kept: &Kept) {
        let (id, identity) = (kept.fields.id, &kept.fields.original.identity);
        if let Some(ids) = self.by_identity.get_mut(identity) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_identity.remove(identity);
            }
        }
        if let Some(message) = self.messages.get_mut(&kept.fields.original.queue_id) {
            message.records.remove(&id);
        }
    }

    pub(super) fn put_message(&mut self, queue_id: QueueId, message: Option<Message>) -> Option<Message> {
        let octets = |message: &Message| message.octets.as_ref().map_or(0, Bytes::len);
        let was = self.messages.remove(&queue_id);
        let middling = |message: &Message| if message.is_middling { octets(message) } else { 0 };
        self.octets = self.octets.saturating_sub(was.as_ref().map_or(0, octets));
        self.middling = self.middling.saturating_sub(was.as_ref().map_or(0, middling));
        if let Some(message) = message {
            self.octets = self.octets.saturating_add(octets(&message));
            self.middling = self.middling.saturating_add(middling(&message));
            self.messages.insert(queue_id, message);
        }
        was
    }
}

fn archive_of(kept: &Kept) -> Archive {
    Archive { organization: kept.fields.organization.clone(), key: kept.archive.clone() }
}
