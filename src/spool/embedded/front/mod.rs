//! In front of the database: rows that it does not have yet, in memory, and a log that makes them durable.
//!
//! A message comes, is relayed, its record is sent and taken, most often within a second. To write that into tables with
//! their indexes move by move costs more than all the rest of the work. So new messages and their records live here first:
//! each move is one entry of a log ([`log`]), synced with all that came at the same time, and the database gets the rows once,
//! as they then are, together with hundreds of others ([`store`]): history for the most part, whose octets it never sees.
//!
//! Promises:
//!
//! - What is here is in the log, synced, or in the same group as what is being answered; a start carries the log over
//!   before it looks at anything ([`recover`]).
//! - A row is here or in the database; moves of the one touch nothing of the other. A step that can't be taken so
//!   ([`Place::Behind`]) is taken behind everything here, in the database.
//! - It is bounded: in rows and in octets ([`Front::is_full`]), and the log in its file. What is history leaves it in small
//!   parts ([`leave`]), while what is on its way stays: a record that is taken in time is never looked for in the database.
//! - A group that could not be written leaves nothing behind here ([`Front::undo`]), nor does a step that failed
//!   ([`Front::rewind`]).
//!
//! Leaves to others: the moves themselves (`life`), and which ones are taken here (`moves`).

mod entry;
mod leave;
mod log;
mod moves;
mod reading;
mod recovery;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub(super) use leave::{Choice, Leaving};
pub(super) use log::Unwritten;
pub(super) use moves::{claim, decide, prepare, settle, unclaim};
pub(super) use recovery::{evidence, is_left, recover};
pub(super) use store::renew;

use super::batch::MAX_STEPS;
use super::steps::Effects;
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::spool::files::OctetStore;
use crate::spool::life::Kept;
use crate::spool::{Archive, SpoolError};
use bytes::Bytes;
use entry::{Entries, MessageEntry};
use log::Log;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use table::{Message, Table};
use tokio::time::Instant;

/// The log's file is at most this part of the file system …
const SMALL_PART: u64 = 32;
/// … and at least this large, or there is no front at all.
const SMALLEST_LOG: u64 = 1 << 20;
/// Messages that are neither small nor large take up at most this part of the log, so that its other half can begin with them.
const MIDDLING_PART: u64 = 5;
/// How long history stays here while others go on coming …
const LONGEST_STAY: Duration = Duration::from_secs(3);
/// … and all when nothing moves any more, …
const QUIET: Duration = Duration::from_millis(50);
/// … or when nothing was here last so long ago.
const LONGEST_LIFE: Duration = Duration::from_secs(60);
/// Records due that are counted to see how much they take; where there are more the time tells.
const MOST_COUNTED: usize = 256;
/// Halves of the log share no unit that a disk writes as one.
const SECTORS: u64 = 4_096;
/// A message that was taken so long ago is not known to come back soon.
const SOON: Duration = Duration::from_millis(100);

/// An archive for which records were claimed within that time, while records were taken, takes records.
const FLOWING: Duration = Duration::from_secs(1);

/// How much stays in front of the database.
#[derive(Debug, Clone, Copy)]
pub struct FrontBounds {
    /// Records that wait; where there are more some leave, those that are deferred the longest before those due first. With those
    /// that are on their way, or history, there are at most twice as many: then everything leaves at once. An eighth as many leave
    /// together.
    pub records: usize,
    /// Octets of their messages and of what archives said of them; beyond that some leave, and at twice as many everything.
    pub octets: usize,
    /// Octets of the log's file.
    pub log_octets: u64,
}

impl Default for FrontBounds {
    /// 4,096 records, 24 MiB of messages, 128 MiB of log.
    fn default() -> Self {
        Self { records: 4_096, octets: 24 << 20, log_octets: 128 << 20 }
    }
}

/// How far what is due lags behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lag {
    pub(super) time: Duration,
    pub(super) full: u32,
}

/// Where a step was taken, or has to be.
#[derive(Debug)]
pub(super) enum Place<T> {
    /// Here.
    Taken(T),
    /// In the database, of whose rows alone it is.
    Apart,
    /// In the database, once that has everything from here.
    Behind,
}

/// What a step works with here.
pub(super) struct FrontStep<'a> {
    pub(super) front: &'a mut Front,
    /// For what is in the database already.
    pub(super) db: &'a Connection,
    pub(super) store: &'a OctetStore,
    pub(super) effects: Effects,
}

/// What was there before a batch.
#[derive(Debug)]
enum Was {
    Record(RecordId, Option<Box<Kept>>),
    Message(QueueId, Option<Message>),
}

/// The rows, and the log.
#[derive(Debug)]
pub(super) struct Front {
    bounds: FrontBounds,
    log: Log,
    table: Table,
    /// What the batch brings.
    entries: Entries,
    undo: Vec<Was>,
    /// Since when there is something here, and when something moved last.
    since: Option<(Instant, Instant)>,
    /// When nothing was here last.
    born: Instant,
    /// When the last messages came, no more of them than a batch has steps.
    came: VecDeque<Instant>,
    /// Nothing leaves before that: it could not.
    rests_until: Option<Instant>,
    /// Its log could not be written: until the database has everything nothing is taken here.
    suspended: bool,
    /// When the first record for each archive is due in the database, as far as that is known.
    first_there: BTreeMap<Archive, Option<Timestamp>>,
    /// When records were claimed last for each archive, and when any archive took one: those for it may be here or there.
    claimed: BTreeMap<Archive, Instant>,
    taken: Option<Instant>,
}

/// A place within a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    entries: entry::Place,
    undo: usize,
}

impl Front {
    fn new(log: Log, bounds: FrontBounds) -> Self {
        let (table, entries, undo, first_there) = (Table::default(), Entries::default(), Vec::new(), BTreeMap::new());
        let (since, rests_until, suspended, claimed, taken) = (None, None, false, BTreeMap::new(), None);
        let (born, came) = (Instant::now(), VecDeque::new());
        Self {
            bounds,
            log,
            table,
            entries,
            undo,
            since,
            born,
            came,
            rests_until,
            suspended,
            first_there,
            claimed,
            taken,
        }
    }

    /// Octets that messages may take which are stored inline though they are not small.
    pub(super) fn middling(&self) -> usize {
        self.bounds.octets.min(usize::try_from(self.log.octets() / MIDDLING_PART).unwrap_or(usize::MAX))
    }

    /// Whether that message is here.
    pub(super) fn has_message(&self, queue_id: QueueId) -> bool {
        self.table.messages.contains_key(&queue_id)
    }

    /// Whether nothing is here.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many messages are at the next hop whose verdict comes soon.
    pub(super) fn company(&mut self) -> usize {
        while self.came.front().is_some_and(|at| at.elapsed() > SOON) {
            self.came.pop_front();
        }
        self.table.undecided.min(self.came.len())
    }

    /// Whether steps may be taken here.
    pub(super) fn is_open(&self) -> bool {
        !self.suspended
    }

    /// Whether a transaction has something to carry over: rows, what the batch has taken from them, or the end of a log that
    /// can't be written.
    pub(super) fn is_owed(&self) -> bool {
        !self.is_empty() || !self.undo.is_empty() || self.suspended
    }

    /// Whether what is here, with what the batch has brought, has to go to the database now.
    pub(super) fn is_full(&self) -> bool {
        self.table.records.len() > self.bounds.records.saturating_mul(2)
            || self.table.octets.saturating_add(self.table.replies) > self.bounds.octets.saturating_mul(2)
            || !self.log.has_room(self.entries.len())
    }

    /// When something goes to the database though there would be room; none when nothing is here.
    pub(super) fn until(&self) -> Option<Instant> {
        let (first, last) = self.since?;
        let quiet = last + QUIET;
        let until = if self.table.ended.is_empty() || self.suspended { quiet } else { quiet.min(first + LONGEST_STAY) };
        let until = until.min(self.born + LONGEST_LIFE);
        Some(self.rests_until.map_or(until, |rest| rest.max(until)))
    }

    /// Whether everything goes to the database: nothing moves any more, or it has not been looked at for long.
    pub(super) fn is_over(&self) -> bool {
        let now = Instant::now();
        let is_over = |last| last + QUIET <= now || self.born + LONGEST_LIFE <= now;
        self.rests_until.is_none_or(|rest| rest <= now) && self.since.is_some_and(|(_, last)| is_over(last))
    }

    /// It is tried again later.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.rests_until = Some(Instant::now() + by);
    }

    /// When the first record for each archive is due.
    pub(super) fn agenda(&self) -> BTreeMap<Archive, Timestamp> {
        let first = self.table.due.iter().filter_map(|(archive, due)| Some((archive.clone(), due.first()?.0)));
        first.collect()
    }

    /// For each archive that takes records at present, as far as can be seen: for how long the first record has been due, and how
    /// much of the front those that are due take, in percent.
    pub(super) fn lags(&self, now: Timestamp) -> BTreeMap<Archive, Lag> {
        let is_now = |at: Option<&Instant>| at.is_some_and(|at| at.elapsed() < FLOWING);
        let flows = |archive| is_now(self.taken.as_ref()) && is_now(self.claimed.get(archive));
        // As if each message were as large as the small ones that are here: others are bounded, and soon files again.
        let each = self.table.small_octets() / self.table.records.len().max(1);
        let percent = |of: usize, most: usize| of.saturating_mul(100) / most.max(1);
        let due = self.table.due.iter().filter(|(archive, _)| flows(archive));
        due.filter_map(|(archive, due)| {
            let time = now.since(due.first()?.0);
            let count = due.iter().take(MOST_COUNTED).take_while(|(due, _)| *due <= now).count();
            let full = percent(count.saturating_mul(each), self.bounds.octets).max(percent(count, self.bounds.records));
            Some((archive.clone(), Lag { time, full: u32::try_from(full).unwrap_or(u32::MAX) }))
        })
        .collect()
    }

    /// Something may have been written to the database.
    pub(super) fn database_moves(&mut self) {
        self.first_there.clear();
    }

    /// Makes durable what the batch has brought.
    pub(super) fn commit(&mut self) -> Result<(), Unwritten> {
        if !self.entries.is_empty() {
            self.log.append(&self.entries.slices())?;
        }
        self.settle();
        Ok(())
    }

    /// The batch is durable, here or in the database.
    fn settle(&mut self) {
        self.entries.clear();
        self.undo.clear();
        let now = Instant::now();
        if self.since.is_none() || self.is_empty() {
            self.born = now;
        }
        self.since = (!self.is_empty()).then(|| (self.since.map_or(now, |(first, _)| first), now));
    }

    /// Where the batch stands.
    pub(super) fn mark(&self) -> Mark {
        Mark { entries: self.entries.end(), undo: self.undo.len() }
    }

    /// What the batch has brought since is not there.
    pub(super) fn rewind(&mut self, to: Mark) {
        self.entries.truncate(to.entries);
        while self.undo.len() > to.undo {
            match self.undo.pop() {
                Some(Was::Record(id, kept)) => drop(self.table.put_record(id, kept.map(|kept| *kept))),
                Some(Was::Message(queue_id, message)) => drop(self.table.put_message(queue_id, message)),
                None => {}
            }
        }
    }

    /// The batch is not durable: everything is as before.
    pub(super) fn undo(&mut self) {
        self.rewind(Mark::default());
        self.entries.clear();
    }

    /// Takes nothing before the database has everything.
    pub(super) fn suspend(&mut self) {
        self.suspended = true;
    }

    /// The database has everything, and knows that the next generation begins.
    pub(super) fn restart(&mut self) {
        self.log.restart();
        self.table = Table::default();
        (self.suspended, self.rests_until, self.born) = (false, None, Instant::now());
        self.settle();
    }

    /// A new message, without records; of octets that are inline it is said whether they are of the middling sort.
    fn add_message(
        &mut self,
        queue_id: QueueId,
        received: Timestamp,
        size: u64,
        octets: Option<(Bytes, bool)>,
    ) -> Result<(), SpoolError> {
        let (octets, is_middling) = octets.map_or((None, false), |(octets, is_middling)| (Some(octets), is_middling));
        let entry = MessageEntry { queue_id, received, size, in_file: octets.is_none() };
        self.entries.message(&entry, octets.as_ref())?;
        if self.came.len() == MAX_STEPS {
            self.came.pop_front();
        }
        self.came.push_back(Instant::now());
        let message = Message { received, size, octets, is_middling, records: BTreeSet::new() };
        let was = self.table.put_message(queue_id, Some(message));
        self.undo.push(Was::Message(queue_id, was));
        Ok(())
    }

    /// A record that is new, or says something else.
    fn save(&mut self, kept: Kept) -> Result<(), SpoolError> {
        self.entries.record(&kept)?;
        self.note(kept);
        Ok(())
    }

    /// A record that has moved, and says the same.
    fn save_move(&mut self, kept: Kept) -> Result<(), SpoolError> {
        self.entries.moved(&kept)?;
        self.note(kept);
        Ok(())
    }

    fn note(&mut self, kept: Kept) {
        let id = kept.fields.id;
        let was = self.table.put_record(id, Some(kept));
        self.undo.push(Was::Record(id, was.map(Box::new)));
    }

    /// A record that never was.
    fn delete(&mut self, id: RecordId) -> Result<(), SpoolError> {
        self.entries.record_gone(id)?;
        let was = self.table.put_record(id, None);
        self.undo.push(Was::Record(id, was.map(Box::new)));
        Ok(())
    }

    /// Lets a message's octets go unless a live record needs them; tells whether they were in a file.
    fn forget_message(&mut self, queue_id: QueueId) -> Result<Option<bool>, SpoolError> {
        let Some(message) = self.table.messages.get(&queue_id) else { return Ok(None) };
        let is_live = |id| self.table.records.get(id).is_some_and(|kept: &Kept| kept.standing.ended.is_none());
        if message.records.iter().any(is_live) {
            return Ok(None);
        }
        self.entries.message_gone(queue_id)?;
        let was = self.table.put_message(queue_id, None);
        let was_in_file = was.as_ref().is_some_and(|message| message.octets.is_none());
        self.undo.push(Was::Message(queue_id, was));
        Ok(Some(was_in_file))
    }
}
