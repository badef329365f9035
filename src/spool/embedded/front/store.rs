//! How rows get from the front into the database in the daemon's transactions, and how its log begins.

use super::super::rows;
use super::super::steps::{StepError, answer_for};
use super::log::{self, Log};
use super::table::{Message, Table};
use super::{Front, FrontBounds, SECTORS, SMALL_PART, SMALLEST_LOG};
use crate::mail::{QueueId, RecordId};
use crate::spool::SpoolError;
use crate::spool::disk::SharedDisk;
use crate::spool::files::file_error;
use rusqlite::Connection;
use std::path::Path;

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
    // Before the database knows the numbers of another one.
    log::remove(disk, directory).and_then(|()| disk.sync_directory(directory)).map_err(|error| failed(&error))?;
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
        db.prepare_cached(
            "INSERT OR REPLACE INTO front (id, generation, first, last, half) VALUES (1, ?1, ?1, ?1, ?2)",
        )?
        .execute([generation.cast_signed(), i64::try_from(half).unwrap_or(i64::MAX)])?;
        Ok(generation)
    });
    begun.map_err(|error| answer_for(&error))
}

pub(super) fn draw(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT random()", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// The generation that counts from now on.
pub(super) fn save_generation(db: &Connection, generation: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO front (id, generation, last) VALUES (1, ?1, ?1)
             ON CONFLICT DO UPDATE SET generation = excluded.generation, last = excluded.last",
    )?
    .execute([generation.cast_signed()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entries;
    use super::super::{is_left, recover};
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
        let mut stays = Entries::default();
        stays.behind(front.log.generation()).unwrap();
        // Of no kind that there is: whoever takes it fails.
        front.log.begin_other(&[stays.slices()[0], b"c"]).unwrap();
        drop(front);
        for _ in 0..2 {
            recover(&mut db, &disk, place.path()).unwrap();
            assert!(!is_left(&db, &disk, place.path()).unwrap());
        }
    }
}
