//! What a start makes of the log that a former process has left.
//!
//! | found                                                | what is done                                              |
//! |------------------------------------------------------|-----------------------------------------------------------|
//! | groups of the generation that the database lacks     | their rows are brought into it                            |
//! | damage among them                                    | all others are taken; the file is kept, an error told     |
//! | groups that this database can't know                 | they are another one's mail: the log is left as it is     |
//!
//! The numbers that a file may have begin with the one its life [drew](super::store::draw). Those up to the database's own are
//! behind it. A later one stands there where the next generation was begun and the database was not told: as one group, which
//! says that it is behind the database's own.

use super::super::rows;
use super::entry::{self, Entry};
use super::log;
use super::reading::{self, Half};
use super::store::draw;
use super::table::{Message, Table};
use crate::mail::QueueId;
use crate::spool::SpoolError;
use crate::spool::disk::SharedDisk;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the names of damaged logs begin with.
const EVIDENCE: &str = "front.damaged-";
/// So many of them are kept.
const MOST_EVIDENCE: usize = 4;
/// Octets that are copied together.
const PIECE: u64 = 256 << 10;

/// What the database knows of the log.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// The one whose entries the database lacks.
    generation: u64,
    /// Where the other half of the file begins.
    half: u64,
    /// The numbers that the file may have, where that is known.
    range: Option<(u64, u64)>,
}

impl Life {
    fn of(db: &Connection) -> rusqlite::Result<Option<Self>> {
        let number =
            |row: &Row<'_>, place| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(place)?.map(i64::cast_unsigned));
        let row = |row: &Row<'_>| {
            Ok(Self {
                generation: row.get::<_, i64>(0)?.cast_unsigned(),
                half: row.get::<_, i64>(1)?.unsigned_abs(),
                range: number(row, 2)?.zip(number(row, 3)?),
            })
        };
        db.prepare_cached("SELECT generation, half, first, last FROM front")?.query_row([], row).optional()
    }

    /// Whether a half that begins so may stand beside this database.
    fn may_have(&self, half: &Half) -> bool {
        let Some((first, last)) = self.range else { return true };
        let is_known = half.generation.wrapping_sub(first) <= last.wrapping_sub(first);
        is_known || half.generation == self.generation || half.behind == Some(self.generation)
    }
}

/// What the groups of a generation come to.
#[derive(Debug, Default)]
struct Found {
    table: Table,
    /// Messages that are over, and have records that are not: what would have said so is damaged.
    in_doubt: BTreeSet<QueueId>,
}

impl Found {
    /// Takes an entry of the log as it was taken first.
    fn take(&mut self, entry: Entry<'_>) {
        let table = &mut self.table;
        match entry {
            Entry::Message(entry, octets) => {
                let octets = (!entry.in_file).then(|| Bytes::copy_from_slice(octets));
                let (received, size) = (entry.received, entry.size);
                let message = Message { received, size, octets, is_middling: false, records: BTreeSet::new() };
                table.put_message(entry.queue_id, Some(message));
            }
            Entry::Record(kept) => drop(table.put_record(kept.fields.id, Some(*kept))),
            Entry::Move(moved) => {
                if let Some(mut kept) = table.records.get(&moved.id).cloned() {
                    kept.standing = moved.standing;
                    let fields = Arc::make_mut(&mut kept.fields);
                    fields.date = moved.date;
                    fields.message_uuid = moved.message_uuid;
                    fields.outcome_unknown = moved.outcome_unknown;
                    table.put_record(moved.id, Some(kept));
                }
            }
            Entry::RecordGone(id) => drop(table.put_record(id, None)),
            Entry::MessageGone(queue_id) if has_live(table, queue_id) => drop(self.in_doubt.insert(queue_id)),
            Entry::MessageGone(queue_id) => drop(table.put_message(queue_id, None)),
            Entry::Behind(_) => {}
        }
    }

    /// Stores what the database lacks. A record that it has is one that had left: there it is as it stands in the log, or further.
    fn restore(mut self, db: &Connection) -> rusqlite::Result<()> {
        for queue_id in std::mem::take(&mut self.in_doubt) {
            if !has_live(&self.table, queue_id) {
                self.table.put_message(queue_id, None);
            }
        }
        // A message that several records are of is stored once.
        let mut stored = BTreeSet::new();
        for kept in self.table.records.values() {
            if !rows::lacks(db, kept.fields.id)? {
                continue;
            }
            let original = &kept.fields.original;
            if stored.insert(original.queue_id) {
                self.table.store_message(db, original.queue_id)?;
            }
            if kept.standing.ended.is_none() {
                // One that is lost, and was not in the database either.
                rows::supply_message(db, original.queue_id, original.received, original.size)?;
            }
            self.table.store_record(db, kept.fields.id)?;
        }
        Ok(())
    }
}

fn has_live(table: &Table, queue_id: QueueId) -> bool {
    let message = table.messages.get(&queue_id);
    message.is_some_and(|message| message.records.iter().any(|id| !table.ended.contains(id)))
}

/// Whether there is something in the log that the database lacks, or another one: then [recovery](recover) has to look at it.
///
/// # Errors
/// [`SpoolError::Unusable`]: log or database can't be read.
pub(in super::super) fn is_left(db: &Connection, disk: &SharedDisk, directory: &Path) -> Result<bool, SpoolError> {
    let Some(life) = Life::of(db).map_err(unusable)? else {
        return Ok(!reading::is_blank(disk, directory).map_err(|error| unreadable(&error))?);
    };
    let halves = reading::halves(disk, directory, life.half).map_err(|error| unreadable(&error))?;
    if !halves.iter().all(|half| life.may_have(half)) {
        return Ok(true);
    }
    let mut is_there = false;
    // The first group tells.
    let take = |_: &[u8]| {
        is_there = true;
        Err(())
    };
    let read =
        reading::read(disk, directory, (life.generation, life.half), take).map_err(|error| unreadable(&error))?;
    Ok(is_there || matches!(read, Ok(Some(_))))
}

/// Brings into the database what a former process has left in the log. Of a log that is damaged what can be read is taken, and
/// the file [kept](evidence). Blocks.
///
/// # Errors
/// [`SpoolError::Unusable`]: the log or the database can't be read or written, or the log is another database's.
pub(in super::super) fn recover(db: &mut Connection, disk: &SharedDisk, directory: &Path) -> Result<(), SpoolError> {
    let Some(life) = Life::of(db).map_err(unusable)? else {
        // No life has begun a log beside this database; one says so before it makes the file.
        let is_blank = reading::is_blank(disk, directory).map_err(|error| unreadable(&error))?;
        return if is_blank { Ok(()) } else { Err(anothers()) };
    };
    let halves = reading::halves(disk, directory, life.half).map_err(|error| unreadable(&error))?;
    if !halves.iter().all(|half| life.may_have(half)) {
        return Err(anothers());
    }
    let (mut found, mut is_there) = (Found::default(), false);
    let take = |group: &[u8]| {
        is_there = true;
        entry::read(group, |entry| {
            found.take(entry);
            Ok(())
        })
    };
    let damage = reading::read(disk, directory, (life.generation, life.half), take)
        .map_err(|error| unreadable(&error))?
        .map_err(|error| SpoolError::Unusable(error.to_string()))?;
    if let Some(damage) = damage {
        keep_evidence(disk, directory, life.generation, damage)?;
    }
    if !is_there && damage.is_none() {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unusable)?;
    found.restore(&transaction).map_err(unusable)?;
    leave_behind(&transaction, life, &halves).map_err(unusable)?;
    transaction.commit().map_err(unusable)
}

/// The database has everything: whatever else may stand in the file, nothing of the generation that counts from now on does.
fn leave_behind(db: &Connection, life: Life, halves: &[Half]) -> rusqlite::Result<()> {
    db.execute("UPDATE front SET generation = ?", [draw(db)?.cast_signed()])?;
    if let Some((first, last)) = life.range {
        let there = halves.iter().map(|half| half.generation).chain([last, life.generation]);
        let reach = there.map(|generation| generation.wrapping_sub(first)).max().unwrap_or_default();
        db.execute("UPDATE front SET last = ?", [first.wrapping_add(reach).cast_signed()])?;
    }
    Ok(())
}

fn anothers() -> SpoolError {
    SpoolError::Unusable(format!(
        "its log, `{}`, has mail that the database doesn't know, and is of another state of it or of another spool: put both \
         back together, or move the log away if that mail is to be given up",
        log::NAME
    ))
}

/// Keeps a damaged log under another name. Once that is durable the spool may go on without it.
fn keep_evidence(disk: &SharedDisk, directory: &Path, generation: u64, damage: u64) -> Result<(), SpoolError> {
    let log = directory.join(log::NAME);
    let kept = directory.join(format!("{EVIDENCE}{generation:016x}"));
    let failed = |error: io::Error| {
        SpoolError::Unusable(format!(
            "its log, `{}`, is damaged at octet {damage} and can't be kept as {}: {error}: make room, or move it away \
             if what can be read of it is to be given up, too",
            log::NAME,
            kept.display()
        ))
    };
    let mut others = evidence(disk, directory)?;
    // A start before this one may have come no further, or not so far.
    let mut is_there = others.contains(&kept);
    others.retain(|other| *other != kept);
    if is_there && !is_same(disk, &log, &kept).map_err(failed)? {
        disk.remove(&kept).map_err(failed)?;
        is_there = false;
    }
    if !is_there && others.len() >= MOST_EVIDENCE {
        tracing::error!(
            event = "spool.damaged",
            offset = damage,
            "the log of what came last is damaged: what can be read of it is taken, the rest is lost; it is not kept, as \
             {MOST_EVIDENCE} others are"
        );
        return Ok(());
    }
    if !is_there {
        disk.link(&log, &kept).or_else(|_| copy(disk, &log, &kept)).map_err(failed)?;
    }
    // A copy that a kill has left whole may not be durable.
    disk.open_log(&kept).and_then(|kept| kept.sync()).map_err(failed)?;
    disk.sync_directory(directory).map_err(failed)?;
    tracing::error!(
        event = "spool.damaged",
        path = %kept.display(),
        offset = damage,
        "the log of what came last is damaged: what can be read of it is taken, the rest is lost"
    );
    Ok(())
}

fn is_same(disk: &SharedDisk, one: &Path, other: &Path) -> io::Result<bool> {
    if disk.length(one)? != disk.length(other)? {
        return Ok(false);
    }
    let (mut one, mut other) = (disk.open(one)?, disk.open(other)?);
    let (mut piece, mut beside) = (Vec::new(), Vec::new());
    loop {
        piece.clear();
        beside.clear();
        (&mut one).take(PIECE).read_to_end(&mut piece)?;
        (&mut other).take(PIECE).read_to_end(&mut beside)?;
        if piece != beside || piece.is_empty() {
            return Ok(piece == beside);
        }
    }
}

/// Where a file can't have two names.
pub(super) fn copy(disk: &SharedDisk, from: &Path, to: &Path) -> io::Result<()> {
    let (mut file, mut copied) = (disk.open(from)?, disk.create(to)?);
    let mut all = || {
        let mut piece = Vec::new();
        while (&mut file).take(PIECE).read_to_end(&mut piece)? > 0 {
            copied.write(&piece)?;
            piece.clear();
        }
        copied.sync()
    };
    all().inspect_err(|_| drop(disk.remove(to)))
}

/// The damaged logs that are kept in a spool's directory, until somebody removes them.
///
/// # Errors
/// [`SpoolError::Unusable`]: the directory can't be listed.
pub(in super::super) fn evidence(disk: &SharedDisk, directory: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let found = disk.list(directory).map_err(|error| unreadable(&error))?;
    let kept = found.into_iter().filter(|entry| entry.name.starts_with(EVIDENCE));
    Ok(kept.map(|entry| directory.join(entry.name)).collect())
}

fn unreadable(error: &io::Error) -> SpoolError {
    SpoolError::Unusable(format!(
        "its log, `{}`, can't be read: {error}: of a copy in its place in which zeros stand for what can't be read a start takes \
         the rest",
        log::NAME
    ))
}

fn unusable(error: rusqlite::Error) -> SpoolError {
    SpoolError::Unusable(error.to_string())
}
