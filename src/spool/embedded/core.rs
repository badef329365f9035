//! The writer's work: takes steps, which `commit` makes durable together, and looks after the database in between.
//!
//! It never waits for anything but the disk; what it is given, and when, is its driver's part (`drivers`).

use super::batch::{Batch, Close, MAX_STEPS};
use super::carry::FoundLog;
use super::commit::Failure;
use super::front::Front;
use super::history;
use super::rows;
use super::steps::{answer_for, is_final, spoils_the_transaction};
use super::writer::{Queued, Shared};
use crate::clock::SharedClock;
use crate::spool::SpoolError;
use crate::spool::disk::Hold;
use crate::spool::files::OctetStore;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the database is asked whether another process has changed it, and steps that failed are tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often history that is old enough is removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// What the writer needs from its maker.
pub(super) struct Parts {
    pub(super) db: Connection,
    pub(super) store: Arc<OctetStore>,
    /// A daemon's; none beside one.
    pub(super) lock: Option<Hold>,
    /// A daemon's: by which time, and how long history is kept.
    pub(super) pruned: Option<(SharedClock, Duration)>,
    /// What is in front of the database; a daemon's, where there is room for its log.
    pub(super) front: Option<Front>,
    /// See [`Options`](super::Options).
    pub(super) checkpoint_pages: u32,
    /// The database's log that was there.
    pub(super) found: FoundLog,
    /// The spool's.
    pub(super) directory: PathBuf,
}

/// The writer.
pub(super) struct Core {
    pub(super) parts: Parts,
    pub(super) shared: Arc<Shared>,
    /// Steps that nobody waits for, of transactions that failed.
    pub(super) owed: Vec<Box<dyn Queued>>,
    /// Why nothing is written any more.
    pub(super) broken: Option<SpoolError>,
    /// Whether the last transaction failed.
    pub(super) failing: bool,
    data_version: i64,
    next_look: Instant,
    next_prune: Instant,
}

impl Core {
    pub(super) fn new(parts: Parts, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            owed: Vec::new(),
            broken: None,
            failing: false,
            data_version: data_version(&parts.db).unwrap_or(0),
            parts,
            next_look: now,
            next_prune: now,
        }
    }

    /// How long the next batch may be waited for.
    pub(super) fn until_look(&self) -> Duration {
        let store = self.parts.front.as_ref().filter(|_| self.broken.is_none()).and_then(Front::until);
        store.map_or(self.next_look, |store| store.min(self.next_look)).saturating_duration_since(Instant::now())
    }

    /// How many messages are on their way whose next step comes soon.
    pub(super) fn company(&mut self) -> usize {
        self.parts.front.as_mut().map_or(0, Front::company)
    }

    /// Commits what is owed, then the batch; answers its questions; gives back who waits for the end.
    pub(super) fn work(&mut self, batch: Batch) -> Option<Close> {
        let Batch { steps, questions, close, .. } = batch;
        self.heed_files();
        self.pay();
        if !steps.is_empty() {
            self.transact(steps);
        }
        questions.into_iter().for_each(|question| question(&self.parts.db));
        close
    }

    fn pay(&mut self) {
        let mut owed = std::mem::take(&mut self.owed);
        while !owed.is_empty() {
            let later = owed.split_off(owed.len().min(MAX_STEPS));
            self.transact(owed);
            owed = later;
        }
    }

    /// A log that is carried over begins anew at its front: room for what makes room, without a new octet.
    pub(super) fn make_room(&mut self) {
        self.checkpoint("PASSIVE", 1);
    }

    /// Nothing is written behind a log that the disk may lack, nor by a daemon behind one that is not carried over yet.
    pub(super) fn carry_over(&mut self) -> Result<(), Failure> {
        let Parts { db, store, directory, found, lock, .. } = &mut self.parts;
        found.make_durable(db, &**store.disk(), directory)?;
        if lock.is_some() {
            found.carry_over(db)?;
        }
        Ok(())
    }

    /// A sync that failed, of whatever file, ends all.
    pub(super) fn heed_files(&mut self) {
        if self.broken.is_none()
            && let Some(error) = self.parts.store.failure()
        {
            self.take_note(Failure { error, last: true, uncertain: false });
        }
    }

    pub(super) fn take_note(&mut self, failure: Failure) -> SpoolError {
        let Failure { error, last, uncertain } = failure;
        if last {
            tracing::error!(
                event = "spool.pressure", state = "failed", %error, uncertain,
                "the spool can't be trusted any more and takes nothing until it is opened again"
            );
            self.broken = Some(error.clone());
            self.shared.broken.send_replace(true);
        } else if !self.failing {
            tracing::error!(event = "spool.pressure", state = "failing", %error, "the spool could not write");
        }
        self.failing = true;
        error
    }

    /// Carries the write-ahead log over into the database when it has at least `pages` that are not there yet.
    pub(super) fn checkpoint(&mut self, mode: &str, pages: i64) {
        if self.broken.is_some() || !self.parts.found.may_be_carried() {
            return;
        }
        let db = &self.parts.db;
        let done = log_pages(db, "NOOP").and_then(|(log, carried)| {
            if log.saturating_sub(carried) < pages { Ok(()) } else { log_pages(db, mode).map(drop) }
        });
        if let Err(error) = done
            && spoils_the_transaction(&error)
        {
            // A reader in the way or a full disk is no loss: the log stays as long as it is needed. A failed sync is.
            let last = is_final(&error);
            if last {
                self.take_note(Failure { error: answer_for(&error), last, uncertain: false });
            } else {
                tracing::debug!(event = "spool.upkeep", %error, "a checkpoint of the spool was not finished");
            }
        }
    }

    /// Looks for changes of other processes, tries again what failed, removes old history; when it is time.
    pub(super) fn look_after_in_time(&mut self) {
        let now = Instant::now();
        if self.parts.front.as_ref().is_some_and(Front::is_over) {
            self.complete(LOOK_EVERY);
        } else {
            self.thin_out(LOOK_EVERY);
        }
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        self.heed_files();
        if self.broken.is_some() {
            return;
        }
        self.pay();
        self.parts.store.reserve().look_after();
        if self.parts.store.reserve().admit().is_err() {
            // What commands write beside an idle daemon finds room in the log again.
            self.make_room();
        }
        // On the writing connection this number moves by the commits of others alone.
        if let Ok(version) = data_version(&self.parts.db)
            && version != self.data_version
        {
            // What can't be asked is asked again the next time.
            if self.let_go_of_what_others_removed().is_ok() {
                self.data_version = version;
            }
            if let Some(front) = &mut self.parts.front {
                front.database_moves();
            }
            self.see(true);
            self.shared.change();
            self.checkpoint("PASSIVE", i64::from(self.parts.checkpoint_pages));
        }
        if now >= self.next_prune && !self.failing && self.parts.found == FoundLog::CarriedOver {
            self.next_prune = now + PRUNE_EVERY;
            self.prune();
        }
    }

    /// A queue command may have let go of a message: what it held is free again.
    fn let_go_of_what_others_removed(&self) -> rusqlite::Result<()> {
        let Parts { db, store, front, .. } = &self.parts;
        store.let_go_if(|queue_id| {
            let is_here = front.as_ref().is_some_and(|front| front.has_message(queue_id));
            Ok(!is_here && rows::lacks_message(db, queue_id)?)
        })
    }

    /// One small batch; the next look takes another while there is more.
    fn prune(&mut self) {
        let Some((clock, keep)) = &self.parts.pruned else { return };
        match history::prune(&self.parts.db, clock.now(), *keep) {
            Ok(true) => self.next_prune = Instant::now(),
            Ok(false) => {}
            Err(error) if is_final(&error) => {
                self.take_note(Failure { error: answer_for(&error), last: true, uncertain: false });
            }
            Err(error) => {
                tracing::debug!(event = "spool.upkeep", %error, "old history of the spool could not be removed")
            }
        }
    }

    /// Carries everything over, closes the database, lets go of the lock, and only then answers.
    pub(super) fn end(mut self, answer: Option<Close>) {
        self.heed_files();
        self.pay();
        let Parts { lock, store, directory, .. } = &self.parts;
        if lock.is_none() && store.disk().is_locked(directory).unwrap_or(true) {
            // A daemon has begun beside this command.
            self.parts.found = FoundLog::Anothers;
        }
        // What finds no place there is in the log, which the next start carries over.
        self.complete(LOOK_EVERY);
        self.checkpoint("TRUNCATE", 1);
        let mut result = self.broken.take().map_or(Ok(()), Err);
        for task in self.owed.drain(..) {
            result = Err(SpoolError::Failing("some moves could not be written".to_owned()));
            drop(task);
        }
        let Parts { db, lock, found, .. } = self.parts;
        if found.may_be_carried() && result.is_ok() {
            // The last one to close it carries the log over. Otherwise what it holds is for the next start to judge.
            let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
        if let Err((_, error)) = db.close() {
            result = result.and(Err(answer_for(&error)));
        }
        drop(lock);
        if let Some(answer) = answer {
            let _ = answer.send(result);
        }
    }
}

/// Moves with the commits of other connections.
fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// Carries the write-ahead log over as `mode` says; gives its pages and how many of them are in the database.
fn log_pages(db: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    db.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}
