//! What a step of the writer works with: the open transaction, and what is to be done once it is committed.

use crate::mail::QueueId;
use crate::spool::SpoolError;
use crate::spool::allowance::Grant;
use crate::spool::files::{OctetFile, OctetStore};
use crate::spool::life::Event;
use rusqlite::{Connection, ErrorCode, ffi};
use std::sync::Arc;

/// One step within a transaction.
pub(super) struct Step<'a> {
    /// The transaction.
    pub(super) db: &'a Connection,
    /// What follows the commit.
    pub(super) effects: Effects,
}

/// What is done once a transaction is committed, and left undone when it is not.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Files that stay.
    kept: Vec<Arc<OctetFile>>,
    /// What becomes of messages' octets, in this order.
    octets: Vec<(QueueId, Fate)>,
    /// Lines of the log.
    events: Vec<Event>,
    /// Something may have become due.
    due: bool,
}

/// What becomes of a message's octets.
#[derive(Debug)]
enum Fate {
    /// They are stored inline, and hold what was granted for that.
    Held(Arc<Grant>),
    /// They go; whether they are in a file.
    Gone(bool),
}

impl Effects {
    pub(super) fn keep_file(&mut self, file: Arc<OctetFile>) {
        self.kept.push(file);
    }

    pub(super) fn hold(&mut self, queue_id: QueueId, grant: Option<&Arc<Grant>>) {
        self.octets.extend(grant.map(|grant| (queue_id, Fate::Held(Arc::clone(grant)))));
    }

    pub(super) fn forget(&mut self, queue_id: QueueId, in_file: bool) {
        self.octets.push((queue_id, Fate::Gone(in_file)));
    }

    pub(super) fn log(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn something_is_due(&mut self) {
        self.due = true;
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn append(&mut self, mut more: Self) {
        self.kept.append(&mut more.kept);
        self.octets.append(&mut more.octets);
        self.events.append(&mut more.events);
        self.due |= more.due;
    }

    /// The rows are durable, or may be: the files they name stay.
    pub(super) fn keep_files(&self) {
        self.kept.iter().for_each(|file| file.keep());
    }

    /// Writes the log, removes what is over, and takes note of what is held.
    pub(super) fn carry_out(self, store: &OctetStore) {
        self.events.iter().for_each(Event::write);
        for (queue_id, fate) in self.octets {
            match fate {
                Fate::Held(grant) => store.hold(queue_id, grant),
                Fate::Gone(in_file) => {
                    store.let_go(queue_id);
                    if in_file {
                        store.remove(queue_id);
                    }
                }
            }
        }
    }
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum StepError {
    /// The database's word.
    Sql(rusqlite::Error),
    /// The step's own answer; nothing else in the transaction is touched by it.
    Answer(SpoolError),
}

impl From<rusqlite::Error> for StepError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<SpoolError> for StepError {
    fn from(error: SpoolError) -> Self {
        Self::Answer(error)
    }
}

impl From<StepError> for SpoolError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Sql(error) => answer_for(&error),
            StepError::Answer(error) => error,
        }
    }
}

/// What the caller has to do about an error of the database.
pub(super) fn answer_for(error: &rusqlite::Error) -> SpoolError {
    if is_full(error) { SpoolError::Full(error.to_string()) } else { SpoolError::Failing(error.to_string()) }
}

/// Whether the error is about the database as a whole and not about one statement's data.
pub(super) fn spoils_the_transaction(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed, NotADatabase,
        OperationInterrupted, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseCorrupt
                | DatabaseLocked
                | DiskFull
                | FileLockingProtocolFailed
                | NotADatabase
                | OperationInterrupted
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

/// Whether nothing may be written any more before the database is reopened: a sync failed, or the file is damaged.
pub(super) fn is_final(error: &rusqlite::Error) -> bool {
    let corrupt = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    let unsynced =
        matches!(error.sqlite_extended_error_code(), Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC));
    corrupt || unsynced
}

/// Whether it is not known if a COMMIT that ended so is on the disk. Where SQLite's shared memory can't grow it is: that comes
/// behind the sync.
pub(super) fn is_uncertain_at_commit(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    !matches!(error.sqlite_error_code(), Some(DiskFull | DatabaseBusy | DatabaseLocked))
}

/// No room; SQLite says so in its own words where its shared memory can't grow.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE)
}
