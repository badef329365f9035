//! The write-ahead log that an opening finds, and how it gets into the database.
//!
//! After a sync that failed the system shows octets of the log that never reached the disk, and thinks that they did: what was
//! committed behind them would be lost with the power, though it had been synced, and a database into which they are carried
//! halfway would be damaged, for what is left of the log then does not complete it. So the log is
//! [written anew](make_durable) as it is shown, before anything rests on it. Where that can't be, for want of room, nothing of it goes
//! to the database before it can.

use super::commit::{Failure, roll_back, statement};
use super::schema::LOG;
use super::steps::{answer_for, is_final};
use crate::spool::SpoolError;
use crate::spool::disk::{Disk, write_again};
use crate::spool::files::{file_error, is_full};
use rusqlite::{Connection, ErrorCode, ffi};
use std::fmt;
use std::io;
use std::path::Path;

/// Why the log was not carried over.
#[derive(Debug)]
pub(super) enum Obstacle {
    Database(rusqlite::Error),
    Log(io::Error),
}

impl Obstacle {
    /// Whether there is no room, or a command is reading: it may be tried again.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy))
            }
            Self::Log(error) => is_full(error),
        }
    }
}

impl From<rusqlite::Error> for Obstacle {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Obstacle> for Failure {
    fn from(obstacle: Obstacle) -> Self {
        let (error, last) = match &obstacle {
            Obstacle::Database(error) => (answer_for(error), is_final(error)),
            Obstacle::Log(error) => (file_error("the database's log", error), !obstacle.may_pass()),
        };
        Self { error, last, uncertain: false }
    }
}

impl From<Obstacle> for SpoolError {
    fn from(obstacle: Obstacle) -> Self {
        Self::Unusable(obstacle.to_string())
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Log(error) => write!(f, "{LOG}: {error}"),
        }
    }
}

/// How far this process has come with the log that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundLog {
    /// A daemon carries it over; beside it nobody else does.
    Anothers,
    /// The disk may lack what the system shows of it.
    Shown,
    /// The disk has it.
    Durable,
    /// The database has it.
    CarriedOver,
}

impl FoundLog {
    /// Whether anything of it may go to the database.
    pub(super) fn may_be_carried(self) -> bool {
        matches!(self, Self::Durable | Self::CarriedOver)
    }

    /// Has the disk get what is shown of it, where it may lack that.
    pub(super) fn make_durable(&mut self, db: &Connection, disk: &dyn Disk, directory: &Path) -> Result<(), Obstacle> {
        if *self == Self::Shown {
            make_durable(db, disk, directory)?;
            *self = Self::Durable;
        }
        Ok(())
    }

    /// Brings into the database what the disk has of it, where that is this process's.
    pub(super) fn carry_over(&mut self, db: &Connection) -> Result<(), Obstacle> {
        if *self == Self::Durable {
            end_log(db)?;
            *self = Self::CarriedOver;
        }
        Ok(())
    }
}

/// Has the disk get what the system shows of the log; gives its octets. Nobody writes to it meanwhile.
pub(super) fn make_durable(db: &Connection, disk: &dyn Disk, directory: &Path) -> Result<u64, Obstacle> {
    statement(db, "BEGIN IMMEDIATE")?;
    let written = write_again(disk, &directory.join(LOG));
    roll_back(db);
    written.map_err(Obstacle::Log)
}

/// Carries the log over whole, and ends it. A start does so before it promises anything.
///
/// The log begins anew with a row, since what ends a log is not synced by itself: with the power lost before the next commit
/// the old one would be there again, and be taken for the newer.
fn end_log(db: &Connection) -> Result<(), Obstacle> {
    const BEGIN_ANEW: &str =
        "INSERT OR REPLACE INTO probe (id, at) VALUES (2, coalesce((SELECT at FROM probe WHERE id = 2), 0) + 1)";
    let busy: bool = db.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?.query_row([], |row| row.get(0))?;
    if busy {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None).into());
    }
    db.prepare_cached(BEGIN_ANEW)?.execute([])?;
    Ok(())
}
