//! How the embedded spool is opened: for the daemon, which puts in order what a crash left, or beside it for commands.

use super::carry::{FoundLog, make_durable};
use super::core::Parts;
use super::front::{self, Front};
use super::readers::Readers;
use super::writer::Writer;
use super::{CHECKPOINT_PAGES, EmbeddedSpool, OCTETS, Options, schema, sweep};
use crate::spool::allowance::Allowances;
use crate::spool::disk::{Disk, Hold, SharedDisk, make_lasting};
use crate::spool::files::OctetStore;
use crate::spool::reserve::Reserve;
use crate::spool::{Recovered, Room, SpoolError};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

/// The write-ahead log is carried over when it is this part of a small file system at the latest …
const LOG_PART: u64 = 40;
/// … but not for fewer pages than this.
const FEWEST_PAGES: u32 = 32;
/// A page of the database, with its frame's head in the log.
const PAGE_OCTETS: u64 = 4_096 + 24;

/// Who opens a spool, and what he has of it.
pub(super) enum Opener {
    Daemon(Box<Daemon>),
    /// A queue command.
    Command(FoundLog),
}

/// What a daemon has of a spool, and nobody beside it.
pub(super) struct Daemon {
    lock: Hold,
    found: FoundLog,
    front: Option<Front>,
}

impl EmbeddedSpool {
    /// Opens the spool in `path` for the daemon, makes it at the first start (directories 0700, files 0600), and puts in
    /// order what a crash left. Blocks; on a simulated disk it needs tokio's runtime instead.
    ///
    /// # Errors
    /// [`SpoolError::Unusable`]: another daemon has it (its process is named), the schema is newer, the directory can't be
    /// used.
    pub fn open(path: &Path, options: Options) -> Result<(Self, Recovered), SpoolError> {
        let disk = Arc::clone(&options.disk);
        make_lasting(&*disk, path).map_err(|error| at(path, &error))?;
        let lock = disk.lock(path)?;
        // A disk that is full gets room for what the start has to write.
        let reserve = Reserve::hold(Arc::clone(&disk), path);
        let (mut db, mut found) = open_durable(&*disk, path)?;
        schema::migrate(&mut db, schema::MIGRATIONS).map_err(|error| in_directory(path, error))?;
        let store =
            OctetStore::open(Arc::clone(&disk), path.join(OCTETS), reserve).map_err(|error| at(path, &error))?;
        disk.sync_directory(path).map_err(|error| at(path, &error))?;
        match found.make_durable(&db, &*disk, path).and_then(|()| found.carry_over(&db)) {
            // It is tried again before the first transaction.
            Err(obstacle) if !obstacle.may_pass() => return Err(in_directory(path, obstacle.into())),
            _ => {}
        }
        front::recover(&mut db, &disk, path).map_err(|error| in_directory(path, error))?;
        let evidence = front::evidence(&disk, path).map_err(|error| in_directory(path, error))?;
        for log in &evidence {
            tracing::error!(
                event = "spool.damaged",
                path = %log.display(),
                "a damaged log is kept; while it is, octet files that no message has stay, too"
            );
        }
        let recovered = sweep::put_in_order(&mut db, &store, &options, !evidence.is_empty())
            .map_err(|error| in_directory(path, error))?;
        // Rows behind a log that is not carried over may be lost with the power: then what they came from is still needed.
        let front = if found == FoundLog::CarriedOver {
            front::renew(&db, &disk, path, options.front).map_err(|error| in_directory(path, error))?
        } else {
            None
        };
        if front.is_none() {
            tracing::debug!(
                event = "spool.upkeep",
                "there is no room for a log in front of the database: every move is the database's until the next start"
            );
        }
        let daemon = Box::new(Daemon { lock, found, front });
        let spool = Self::start(path, db, store, Opener::Daemon(daemon), Some(options))?;
        Ok((spool, recovered))
    }

    /// Opens the spool in `path` for queue commands, beside a running daemon or without one: [`Spool::list`],
    /// [`Spool::show`], [`Spool::agenda`], [`Spool::changes`] and [`Spool::operate`] work, everything else is the
    /// daemon's and fails. Nothing is made. While no daemon runs, records that one was sending when it ended
    /// count as waiting (or deferred). Blocks.
    ///
    /// # Errors
    /// [`SpoolError::Unusable`]: there is no spool, or its schema is not this program's.
    pub fn open_beside(path: &Path, disk: SharedDisk) -> Result<Self, SpoolError> {
        let mut db = schema::open_writable(&*disk, path, false)?;
        schema::require_current(&db).map_err(|error| in_directory(path, error))?;
        // Beside a daemon its logs are its own business.
        let is_alone = !disk.is_locked(path).unwrap_or(true);
        let durable = if is_alone { make_durable(&db, &*disk, path).map(drop) } else { Ok(()) };
        let found = match &durable {
            Err(_) => FoundLog::Shown,
            // A daemon may have begun meanwhile.
            Ok(()) if disk.is_locked(path).unwrap_or(true) => FoundLog::Anothers,
            Ok(()) => FoundLog::CarriedOver,
        };
        let is_left = is_alone
            && match front::is_left(&db, &disk, path) {
                // The log of a daemon that has begun meanwhile.
                Err(_) if disk.is_locked(path).unwrap_or(true) => false,
                is_left => is_left.map_err(|error| in_directory(path, error))?,
            };
        if is_left && let Ok(_lock) = disk.lock(path) {
            // No daemon runs: what the last one has not brought into the database is brought there.
            durable.map_err(|obstacle| in_directory(path, obstacle.into()))?;
            front::recover(&mut db, &disk, path).map_err(|error| in_directory(path, error))?;
        }
        let reserve = Reserve::beside(Arc::clone(&disk), path);
        let store = OctetStore::open(disk, path.join(OCTETS), reserve).map_err(|error| at(path, &error))?;
        Self::start(path, db, store, Opener::Command(found), None)
    }

    pub(super) fn start(
        path: &Path,
        db: Connection,
        store: Arc<OctetStore>,
        opener: Opener,
        options: Option<Options>,
    ) -> Result<Self, SpoolError> {
        let pruned = options.as_ref().map(|options| (Arc::clone(&options.clock), options.keep_history));
        let wanted = options.as_ref().map_or(CHECKPOINT_PAGES, |options| options.checkpoint_pages);
        let checkpoint_pages = store.disk().room(path).map_or(wanted, |room| pages_on(&room, wanted));
        let (lock, found, front) = match opener {
            Opener::Daemon(daemon) => (Some(daemon.lock), daemon.found, daemon.front),
            Opener::Command(found) => (None, found, None),
        };
        let middling = front.as_ref().map_or(0, Front::middling);
        let allowances = Allowances::new(options.as_ref().map_or(0, |options| options.inline_limit), middling);
        let directory = path.to_owned();
        let parts = Parts {
            db,
            store: Arc::clone(&store),
            lock,
            pruned,
            front,
            checkpoint_pages,
            found,
            directory: directory.clone(),
        };
        let writer = Writer::start(parts)?;
        let readers = Readers::new(Arc::clone(store.disk()), directory.clone(), writer.clone(), options.is_some());
        Ok(Self { readers, directory, store, writer, options, allowances })
    }
}

/// Opens the database for the daemon, with a log that the disk has. What was written anew is looked through anew: what SQLite
/// has found in it may have been in memory alone.
fn open_durable(disk: &dyn Disk, path: &Path) -> Result<(Connection, FoundLog), SpoolError> {
    let db = schema::open_writable(disk, path, true)?;
    match make_durable(&db, disk, path) {
        Ok(0) => Ok((db, FoundLog::Durable)),
        Ok(_) => {
            drop(db);
            Ok((schema::open_writable(disk, path, true)?, FoundLog::Durable))
        }
        Err(obstacle) if obstacle.may_pass() => Ok((db, FoundLog::Shown)),
        Err(obstacle) => Err(in_directory(path, obstacle.into())),
    }
}

/// Pages of the log that are carried over together: on a small file system no more than the reserve has room for.
fn pages_on(room: &Room, wanted: u32) -> u32 {
    let fitting = room.total_octets / LOG_PART / PAGE_OCTETS;
    u32::try_from(fitting).unwrap_or(u32::MAX).max(FEWEST_PAGES).min(wanted)
}

fn at(path: &Path, error: &std::io::Error) -> SpoolError {
    SpoolError::Unusable(format!("{}: {error}", path.display()))
}

fn in_directory(path: &Path, error: SpoolError) -> SpoolError {
    match error {
        SpoolError::Unusable(why) => SpoolError::Unusable(format!("{}: {why}", path.display())),
        error => error,
    }
}
