//! How rows leave the front while others stay: history in small parts, and where too much waits some of that.
//!
//! ```text
//! rows are chosen ─▶ a transaction stores them ─▶ the log says that they are gone
//!                 └▶ where the log is long: the others begin its other half, and the transaction names that generation
//! ```
//!
//! Between the transaction and the log's word for it a row is in both. From the transaction on it is the database's: this process
//! moves nothing there before the word is durable, queue commands may. So a start takes from the log only what the database lacks.

use super::entry::{Entries, MessageEntry};
use super::log::{Beginning, Unwritten};
use super::store::save_generation;
use super::table::Table;
use super::{Front, LONGEST_STAY};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::State;
use crate::spool::SpoolError;
use rusqlite::Connection;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// This part of what may wait leaves together.
const PART: usize = 8;
/// What a record takes up besides its message, about.
const ROW_OCTETS: usize = 1_536;

/// What is chosen.
#[derive(Debug)]
pub(in super::super) enum Choice {
    /// Too much is here, and all of it on its way.
    Nothing,
    Some(Leaving),
    /// What would stay is too much to begin the log's other half.
    Everything,
}

/// What leaves.
#[derive(Debug)]
pub(in super::super) struct Leaving {
    records: BTreeSet<RecordId>,
    /// Messages that live records among them need.
    messages: BTreeSet<QueueId>,
    /// What stays, as the log's next generation begins.
    beginning: Option<Beginning>,
}

impl Leaving {
    /// Whether this record leaves.
    #[cfg(test)]
    pub(super) fn has(&self, id: RecordId) -> bool {
        self.records.contains(&id)
    }

    /// Whether records leave that will be looked for in the database.
    pub(in super::super) fn has_live(&self) -> bool {
        !self.messages.is_empty()
    }
}

impl Front {
    /// Whether some rows should leave.
    pub(in super::super) fn is_ripe(&self) -> bool {
        let now = Instant::now();
        let has_stayed = || self.since.is_some_and(|(first, _)| first + LONGEST_STAY <= now);
        let rests = || self.rests_until.is_some_and(|rest| now < rest);
        let ended = self.table.ended.len();
        let is_ripe = ended >= self.part() || ended > 0 && has_stayed() || self.has_too_many() || self.log.is_long();
        is_ripe && !self.suspended && !rests()
    }

    fn part(&self) -> usize {
        (self.bounds.records / PART).max(1)
    }

    fn has_too_many(&self) -> bool {
        let rows = self.table.records.len().saturating_mul(ROW_OCTETS).saturating_add(self.table.replies);
        let octets = self.table.octets.saturating_add(rows);
        self.table.waiting > self.bounds.records || octets > self.bounds.octets
    }

    /// Chooses what leaves.
    ///
    /// # Errors
    /// What begins the log's other half could not be written.
    pub(in super::super) fn choose(&mut self, now: Timestamp) -> Result<Choice, Unwritten> {
        let records = self.table.ended.iter().take(self.part()).copied().collect();
        let mut leaving = Leaving { records, messages: BTreeSet::new(), beginning: None };
        if self.has_too_many() {
            self.choose_waiting(&mut leaving, now);
        }
        if self.log.is_long() {
            if !self.log.may_begin(self.table.octets) {
                return Ok(Choice::Everything);
            }
            let Ok(stays) = self.table.entries_without(&leaving, self.log.generation()) else {
                return Ok(Choice::Everything);
            };
            if !self.log.may_begin(stays.len()) {
                return Ok(Choice::Everything);
            }
            leaving.beginning = Some(self.log.begin_other(&stays.slices())?);
        } else if leaving.records.is_empty() {
            return Ok(Choice::Nothing);
        }
        Ok(Choice::Some(leaving))
    }

    /// Those of what waits that are deferred the longest, and behind them those due first, each with all of its message. What is on
    /// its way stays: it is wanted again at once.
    fn choose_waiting(&self, leaving: &mut Leaving, now: Timestamp) {
        let part = self.part();
        let each = || self.table.due.values();
        let is_deferred = |(due, id): &&(Timestamp, RecordId)| {
            let state = self.table.records.get(id).map(|kept| kept.standing.state);
            *due > now && state == Some(State::Deferred)
        };
        let mut later: Vec<_> = each().flat_map(|of| of.iter().rev().filter(is_deferred).take(part)).collect();
        later.sort_unstable_by(|one, other| other.cmp(one));
        let mut due: Vec<_> = each().flat_map(|of| of.iter().filter(|it| !is_deferred(it)).take(part)).collect();
        due.sort_unstable();
        let mut octets = 0_usize;
        for (_, id) in later.into_iter().chain(due).take(part) {
            let Some(queue_id) = self.table.records.get(id).map(|kept| kept.fields.original.queue_id) else { continue };
            let Some(message) = self.table.messages.get(&queue_id) else { continue };
            let is_on_its_way = |id| {
                let state = self.table.records.get(id).map(|kept| kept.standing.state);
                matches!(state, Some(State::Prepared | State::Sending))
            };
            if octets <= self.bounds.octets / PART && !message.records.iter().any(is_on_its_way) {
                octets = octets.saturating_add(message.octets.as_ref().map_or(0, bytes::Bytes::len));
                leaving.records.extend(&message.records);
                leaving.messages.insert(queue_id);
            }
        }
    }

    /// Stores what leaves in the open transaction. Until it is committed nothing here has changed.
    pub(in super::super) fn store_leaving(&self, db: &Connection, leaving: &Leaving) -> rusqlite::Result<()> {
        leaving.messages.iter().try_for_each(|queue_id| self.table.store_message(db, *queue_id))?;
        leaving.records.iter().try_for_each(|id| self.table.store_record(db, *id))?;
        leaving.beginning.map_or(Ok(()), |beginning| save_generation(db, beginning.generation))
    }

    /// What leaves is in the database, durably. Takes it out here, and has the log say so.
    ///
    /// # Errors
    /// The log does not say so: nothing in the database may move before it has [everything](Front::restart).
    pub(in super::super) fn leave(&mut self, leaving: &Leaving) -> Result<(), Unwritten> {
        for id in &leaving.records {
            self.table.put_record(*id, None);
        }
        for queue_id in &leaving.messages {
            self.table.put_message(*queue_id, None);
        }
        let now = Instant::now();
        self.since = self.since.filter(|_| !self.table.is_empty()).map(|(_, last)| (now, last));
        self.rests_until = None;
        if let Some(beginning) = leaving.beginning {
            self.log.switch(beginning);
            return Ok(());
        }
        let mut gone = Entries::default();
        let records = leaving.records.iter().try_for_each(|id| gone.record_gone(*id));
        records
            .and_then(|()| leaving.messages.iter().try_for_each(|queue_id| gone.message_gone(*queue_id)))
            .map_err(|error| Unwritten::Not(std::io::Error::other(error.to_string())))?;
        if !self.log.has_room(gone.len()) {
            return Err(Unwritten::Not(std::io::ErrorKind::FileTooLarge.into()));
        }
        self.log.append(&gone.slices())
    }
}

impl Table {
    /// Entries of all that does not leave, to begin the generation behind this one.
    fn entries_without(&self, leaving: &Leaving, generation: u64) -> Result<Entries, SpoolError> {
        let mut entries = Entries::default();
        entries.behind(generation)?;
        for (queue_id, message) in self.messages.iter().filter(|(queue_id, _)| !leaving.messages.contains(queue_id)) {
            let (received, size, in_file) = (message.received, message.size, message.octets.is_none());
            let entry = MessageEntry { queue_id: *queue_id, received, size, in_file };
            entries.message(&entry, message.octets.as_ref())?;
        }
        for kept in self.records.values().filter(|kept| !leaving.records.contains(&kept.fields.id)) {
            entries.record(kept)?;
        }
        Ok(entries)
    }
}
