//! How rows get from the front into the database, in the daemon's transactions and at its start.

use super::super::rows;
use super::super::steps::{StepError, answer_for};
use super::entry::{self, Entry};
use super::log::{self, Log};
use super::table::{Message, Table};
use super::{Front, FrontBounds, SECTORS, SMALL_PART, SMALLEST_LOG};
use crate::mail::{QueueId, RecordId};
use crate::spool::SpoolError;
use crate::spool::disk::SharedDisk;
use crate::spool::files::file_error;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

impl Front {
    /// Stores everything in the open transaction, with the generation that comes next. Once it is committed the front
    /// [begins again](Front::restart); until then nothing here has changed.
    pub(in super::super) fn store(&self, db: &Connection) -> rusqlite::Result<()> {
        self.table.store(db, self.log.next())
    }
}

impl Table {
    fn store(&self, db: &Connection, next_generation: u64) -> rusqlite::Result<()> {
        self.messages.keys().try_for_each(|queue_id| self.store_message(db, *queue_id))?;
        self.records.keys().try_for_each(|id| self.store_record(db, *id))?;
        save_generation(db, next_generation)
    }

    /// Stores what the database lacks. A record that it has is one that had left: there it is as it stands in the log, or further.
    fn restore(&self, db: &Connection) -> rusqlite::Result<()> {
        // A message that several records are of is stored once.
        let mut stored = BTreeSet::new();
        for id in
            self.records.keys().filter_map(|id| rows::lacks(db, *id).map(|lacks| lacks.then_some(*id)).transpose())
        {
            let id = id?;
            let queue_id = self.records.get(&id).map(|kept| kept.fields.original.queue_id);
            let lacking = queue_id.filter(|queue_id| stored.insert(*queue_id));
            lacking.map_or(Ok(()), |queue_id| self.store_message(db, queue_id))?;
            self.store_record(db, id)?;
        }
        Ok(())
    }

    pub(super) fn store_message(&self, db: &Connection, queue_id: QueueId) -> rusqlite::Result<()> {
        match self.messages.get(&queue_id) {
            // A group may have ended between a message and its records; nobody was answered.
            Some(Message { received, size, octets, records, .. }) if !records.is_empty() => {
                rows::store_message(db, queue_id, *received, *size, octets.as_deref())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn store_record(&self, db: &Connection, id: RecordId) -> rusqlite::Result<()> {
        let Some(kept) = self.records.get(&id) else { return Ok(()) };
        rows::store(db, kept).map_err(|error| match error {
            StepError::Sql(error) => error,
            StepError::Answer(error) => rusqlite::Error::ToSqlConversionFailure(error.into()),
        })
    }

    /// Takes an entry of the log as it was taken first.
    fn take(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Message(entry, octets) => {
                let octets = (!entry.in_file).then(|| Bytes::copy_from_slice(octets));
                let (received, size) = (entry.received, entry.size);
                let message = Message { received, size, octets, is_middling: false, records: BTreeSet::new() };
                self.put_message(entry.queue_id, Some(message));
            }
            Entry::Record(kept) => drop(self.put_record(kept.fields.id, Some(*kept))),
            Entry::Move(moved) => {
                if let Some(mut kept) = self.records.get(&moved.id).cloned() {
                    kept.standing = moved.standing;
                    let fields = Arc::make_mut(&mut kept.fields);
                    fields.date = moved.date;
                    fields.message_uuid = moved.message_uuid;
                    fields.outcome_unknown = moved.outcome_unknown;
                    self.put_record(moved.id, Some(kept));
                }
            }
            Entry::RecordGone(id) => drop(self.put_record(id, None)),
            Entry::MessageGone(queue_id) => drop(self.put_message(queue_id, None)),
        }
    }
}

/// Whether there is something in the log that the database lacks.
///
/// # Errors
/// [`SpoolError::Unusable`]: log or database can't be read.
pub(in super::super) fn is_left(db: &Connection, disk: &SharedDisk, directory: &Path) -> Result<bool, SpoolError> {
    let mut found = false;
    // The first group tells.
    let take = |_: &[u8]| {
        found = true;
        Err(())
    };
    let read = log::read(disk, directory, generation(db).map_err(unusable)?, take);
    read.map_err(|error| SpoolError::Unusable(format!("its log can't be read: {error}"))).map(|_| found)
}

/// Brings into the database what a former process has left in the log. Blocks.
///
/// # Errors
/// [`SpoolError::Unusable`]: the log or the database can't be read or written.
pub(in super::super) fn recover(db: &mut Connection, disk: &SharedDisk, directory: &Path) -> Result<(), SpoolError> {
    let generation = generation(db).map_err(unusable)?;
    let (mut found, mut is_there) = (Table::default(), false);
    let take = |group: &[u8]| {
        is_there = true;
        entry::read(group, |entry| {
            found.take(entry);
            Ok(())
        })
    };
    log::read(disk, directory, generation, take)
        .map_err(|error| SpoolError::Unusable(format!("its log can't be read: {error}")))?
        .map_err(|error| SpoolError::Unusable(error.to_string()))?;
    if !is_there {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unusable)?;
    found.restore(&transaction).map_err(unusable)?;
    // Whatever else may stand in the file, nothing of this generation does.
    let next = draw(&transaction).map_err(unusable)?;
    save_generation(&transaction, next).map_err(unusable)?;
    transaction.commit().map_err(unusable)
}

/// A front with a new log, for a database that has everything; none where the file system is too small for one, or full.
///
/// # Errors
/// [`SpoolError::Unusable`]: the old log can't be removed, or the directory not be synced.
pub(in super::super) fn renew(
    db: &Connection,
    disk: &SharedDisk,
    directory: &Path,
    bounds: FrontBounds,
) -> Result<Option<Front>, SpoolError> {
    let failed = |error: &std::io::Error| SpoolError::Unusable(format!("its log: {error}"));
    let room = disk.room(directory).map_err(|error| failed(&error))?;
    let capacity = bounds.log_octets.min(room.total_octets / SMALL_PART);
    if capacity < SMALLEST_LOG.min(bounds.log_octets) || room.free_octets / 2 < capacity {
        log::remove(disk, directory).map_err(|error| failed(&error))?;
        return Ok(None);
    }
    let half = capacity / 2 / SECTORS * SECTORS;
    match begin_anew(db, half).and_then(|generation| {
        Log::create(disk, directory, half, generation).map_err(|error| file_error("its log", &error))
    }) {
        Ok(log) => Ok(Some(Front::new(log, bounds))),
        Err(SpoolError::Full(_)) => Ok(None),
        Err(error) => Err(SpoolError::Unusable(error.to_string())),
    }
}

/// A generation that nobody can know beforehand, durably: what stands in the file behind the groups of a later one are octets
/// of messages, and none may look like a group of it.
fn begin_anew(db: &Connection, half: u64) -> Result<u64, SpoolError> {
    let begun = draw(db).and_then(|generation| {
        db.prepare_cached("INSERT OR REPLACE INTO front (id, generation, half) VALUES (1, ?, ?)")?
            .execute([generation.cast_signed(), i64::try_from(half).unwrap_or(i64::MAX)])?;
        Ok(generation)
    });
    begun.map_err(|error| answer_for(&error))
}

fn draw(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT random()", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// The generation whose entries the database lacks, and where the other half of the file with them begins.
fn generation(db: &Connection) -> rusqlite::Result<(u64, u64)> {
    let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.unsigned_abs()));
    let found = db.prepare_cached("SELECT generation, half FROM front")?.query_row([], row).optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn save_generation(db: &Connection, generation: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO front (id, generation) VALUES (1, ?) ON CONFLICT DO UPDATE SET generation = excluded.generation",
    )?
    .execute([generation.cast_signed()])?;
    Ok(())
}

fn unusable(error: rusqlite::Error) -> SpoolError {
    SpoolError::Unusable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::system;
    use crate::spool::embedded::schema;

    #[test]
    fn a_start_takes_nothing_that_a_former_life_began_in_vain_not_even_the_one_after_it() {
        let (place, disk) = (tempfile::tempdir().unwrap(), system());
        let mut db = schema::open_writable(&*disk, place.path(), true).unwrap();
        schema::migrate(&mut db, schema::MIGRATIONS).unwrap();
        let bounds = FrontBounds { log_octets: 64 << 10, ..FrontBounds::default() };
        let mut front = renew(&db, &disk, place.path(), bounds).unwrap().unwrap();
        front.log.append(&[]).unwrap();
        // Of no kind that there is: whoever takes it fails.
        front.log.begin_other(&[b"c"]).unwrap();
        drop(front);
        for _ in 0..2 {
            recover(&mut db, &disk, place.path()).unwrap();
            assert!(!is_left(&db, &disk, place.path()).unwrap());
        }
    }
}
