//! How the writer makes a batch durable: in front of the database where all of it can be taken there, else in a transaction.
//!
//! ```text
//! every step is known in front, or the database's alone ─▶ one group of the log; one transaction for those apart
//! one must come behind what is in front                 ─▶ one transaction: what is in front, then the steps
//! the log can't be written                              ─▶ the same, and nothing is taken in front before that is done
//! enough is history, or too much waits                  ─▶ behind the batch, one transaction: a part of what is in front
//! a sync fails, of whatever file                        ─▶ nothing is written any more
//! ```

use super::core::Core;
use super::front::{Choice, Front, FrontStep, Leaving, Place, Unwritten};
use super::steps::{Effects, Step, StepError, answer_for, is_final, is_uncertain_at_commit, spoils_the_transaction};
use super::writer::Queued;
use crate::mail::Timestamp;
use crate::spool::SpoolError;
use crate::spool::files::file_error;
use rusqlite::Connection;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Why a transaction failed.
pub(super) struct Failure {
    pub(super) error: SpoolError,
    /// Nothing may be written any more.
    pub(super) last: bool,
    /// It may be on the disk all the same.
    pub(super) uncertain: bool,
}

impl Failure {
    /// Whether it may be tried again with more room. What may be on the disk is never tried again, whatever it lacked.
    fn is_for_want_of_room(&self) -> bool {
        !self.last && matches!(self.error, SpoolError::Full(_))
    }
}

/// What a transaction brings from the front into the database.
#[derive(Clone, Copy)]
enum Carry<'a> {
    Nothing,
    Part(&'a Leaving),
    Everything,
}

/// A batch that has been asked in front of the database.
#[derive(Default)]
struct Sorted {
    /// Taken.
    here: Vec<Box<dyn Queued>>,
    effects: Effects,
    /// For the database.
    there: Vec<Box<dyn Queued>>,
    /// One of those has to come behind what is in front.
    is_behind: bool,
}

impl Core {
    /// Makes a batch durable, and answers.
    pub(super) fn transact(&mut self, batch: Vec<Box<dyn Queued>>) {
        let Sorted { here, effects, there, is_behind } = self.sort(batch);
        if is_behind {
            self.write(here, effects, there, true);
            return;
        }
        if !here.is_empty() {
            self.log(here, effects);
        }
        if !there.is_empty() {
            self.write(Vec::new(), Effects::default(), there, false);
        }
    }

    /// Brings what is in front into the database; where that fails, it is tried again after `rest`.
    pub(super) fn complete(&mut self, rest: Duration) {
        if self.broken.is_none() && self.parts.front.as_ref().is_some_and(Front::is_owed) {
            self.write(Vec::new(), Effects::default(), Vec::new(), true);
            if let Some(front) = &mut self.parts.front
                && front.is_owed()
            {
                front.put_off(rest);
            }
        }
    }

    /// Brings some of what is in front into the database, where it is time for that; what is on its way stays.
    pub(super) fn thin_out(&mut self, rest: Duration) {
        let Some(front) = self.parts.front.as_mut().filter(|front| self.broken.is_none() && front.is_ripe()) else {
            return;
        };
        let now = self.parts.pruned.as_ref().map_or(Timestamp::from_millis(i64::MAX), |(clock, _)| clock.now());
        let leaving = match front.choose(now) {
            Ok(Choice::Some(leaving)) => leaving,
            Ok(Choice::Nothing) => return front.put_off(rest),
            Ok(Choice::Everything) => return self.complete(rest),
            Err(Unwritten::Not(_)) => {
                front.put_off(rest);
                return self.complete(rest);
            }
            Err(Unwritten::Unsynced(error)) => return drop(self.lose(&error)),
        };
        let mut stored = self.store_part(&leaving);
        if stored.as_ref().is_err_and(Failure::is_for_want_of_room) {
            self.make_room();
            if self.parts.store.reserve().give_up() {
                stored = self.store_part(&leaving);
            }
        }
        if let Err(failure) = stored {
            self.take_note(failure);
            if let Some(front) = &mut self.parts.front {
                front.put_off(rest);
            }
            return;
        }
        let Some(front) = &mut self.parts.front else { return };
        let left = front.leave(&leaving);
        if leaving.has_live() {
            front.database_moves();
        }
        match left {
            Ok(()) => {}
            Err(Unwritten::Not(error)) => {
                front.suspend();
                tracing::debug!(event = "spool.upkeep", %error, "the spool's log could not be written: its database is");
            }
            Err(Unwritten::Unsynced(error)) => {
                self.lose(&error);
                return self.see(leaving.has_live());
            }
        }
        self.see(leaving.has_live());
        self.works_again();
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.checkpoint("PASSIVE", i64::from(self.parts.checkpoint_pages));
    }

    fn works_again(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(event = "spool.pressure", state = "ok", "the spool takes writes again");
        }
    }

    fn store_part(&mut self, leaving: &Leaving) -> Result<(), Failure> {
        self.carry_over()?;
        self.attempt(&mut [], &Effects::default(), Carry::Part(leaving)).map(drop)
    }

    /// The log can't be synced: nothing is written any more.
    fn lose(&mut self, error: &std::io::Error) -> SpoolError {
        let error = file_error("the spool's log could not be synced", error);
        self.take_note(Failure { error, last: true, uncertain: true })
    }

    /// Asks each step whether it is taken in front, until one has to come behind.
    fn sort(&mut self, batch: Vec<Box<dyn Queued>>) -> Sorted {
        let mut sorted = Sorted::default();
        let parts = &mut self.parts;
        let Some(front) = parts.front.as_mut().filter(|_| self.broken.is_none()) else {
            return Sorted { there: batch, ..sorted };
        };
        sorted.is_behind = !front.is_open();
        // Questions to the database see one state of it, and are asked in one go.
        let in_one_go = batch.len() > 1 && statement(&parts.db, "BEGIN").is_ok();
        for mut task in batch {
            if sorted.is_behind {
                sorted.there.push(task);
                continue;
            }
            let mut step = FrontStep { front, db: &parts.db, store: &parts.store, effects: Effects::default() };
            let place = if task.is_unwanted() { Place::Taken(()) } else { task.take_in_front(&mut step) };
            let effects = step.effects;
            match place {
                Place::Taken(()) => {
                    sorted.effects.append(effects);
                    sorted.here.push(task);
                }
                Place::Apart => sorted.there.push(task),
                Place::Behind => {
                    sorted.is_behind = true;
                    sorted.there.push(task);
                }
            }
        }
        if in_one_go {
            roll_back(&parts.db);
        }
        sorted.is_behind |= front.is_full();
        sorted
    }

    /// Makes what was taken in front durable by its log.
    fn log(&mut self, here: Vec<Box<dyn Queued>>, effects: Effects) {
        let Some(front) = &mut self.parts.front else { return };
        let begun = Instant::now();
        match front.commit() {
            Ok(()) => {
                self.shared.commit_seconds.observe(begun.elapsed().as_secs_f64());
                effects.keep_files();
                self.done(here, effects, false);
            }
            Err(Unwritten::Not(error)) => {
                front.undo();
                front.suspend();
                tracing::debug!(event = "spool.upkeep", %error, "the spool's log could not be written: its database is");
                self.write(Vec::new(), Effects::default(), here, true);
            }
            Err(Unwritten::Unsynced(error)) => {
                front.undo();
                // It may come back with the next start, which sorts the files out.
                effects.keep_files();
                let error = self.lose(&error);
                self.undone(here, &error);
            }
        }
    }

    /// One transaction: what is in front where `carried` says so, then the steps of `there`. Those of `here` were taken in front
    /// and are durable with it.
    fn write(&mut self, here: Vec<Box<dyn Queued>>, effects: Effects, mut there: Vec<Box<dyn Queued>>, carried: bool) {
        let carried = carried && self.parts.front.as_ref().is_some_and(Front::is_owed);
        let (mut here, mut effects) = (here, effects);
        if let Some(front) = &mut self.parts.front {
            front.database_moves();
        }
        let result = match self.broken.clone() {
            Some(error) => Err(error),
            None => self
                .try_with_reserve(&mut here, &mut there, &mut effects, carried)
                .map_err(|failure| self.take_note(failure)),
        };
        let mut all = here;
        all.append(&mut there);
        match result {
            Ok(more) => {
                if let Some(front) = self.parts.front.as_mut().filter(|_| carried) {
                    front.restart();
                }
                self.works_again();
                effects.append(more);
                self.done(all, effects, true);
                self.checkpoint("PASSIVE", i64::from(self.parts.checkpoint_pages));
            }
            Err(error) => {
                if let Some(front) = &mut self.parts.front {
                    front.undo();
                }
                self.undone(all, &error);
                if matches!(error, SpoolError::Full(_)) {
                    self.make_room();
                }
            }
        }
    }

    fn done(&mut self, batch: Vec<Box<dyn Queued>>, effects: Effects, in_database: bool) {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.see(in_database);
        for task in batch {
            task.answer(Ok(()), false);
        }
        if effects.is_due() {
            self.shared.change();
        }
        effects.carry_out(&self.parts.store);
    }

    fn undone(&mut self, batch: Vec<Box<dyn Queued>>, error: &SpoolError) {
        let again = self.broken.is_none();
        self.owed.extend(batch.into_iter().filter_map(|task| task.answer(Err(error.clone()), again)));
    }

    /// Lets everybody see how things stand, before anybody is answered.
    pub(super) fn see(&self, database_moved: bool) {
        let mut seen = self.shared.seen();
        if let Some(front) = &self.parts.front {
            (seen.has_rows, seen.agenda) = (front.is_owed(), front.agenda());
            seen.lags = self.parts.pruned.as_ref().map(|(clock, _)| front.lags(clock.now())).unwrap_or_default();
        }
        seen.database = seen.database.wrapping_add(u64::from(database_moved));
    }

    /// A batch that finds no room is tried again, once, with the reserve's. What was taken in front brought octets, perhaps,
    /// before anybody knew that there is no room for them: it is asked again, of the database.
    fn try_with_reserve(
        &mut self,
        here: &mut Vec<Box<dyn Queued>>,
        there: &mut Vec<Box<dyn Queued>>,
        effects: &mut Effects,
        carried: bool,
    ) -> Result<Effects, Failure> {
        let carried = if carried { Carry::Everything } else { Carry::Nothing };
        let tried = self.carry_over().and_then(|()| self.attempt(there, effects, carried));
        let is_full = tried.as_ref().is_err_and(Failure::is_for_want_of_room);
        if !is_full || !self.parts.store.reserve().give_up() {
            return tried;
        }
        if let Some(front) = self.parts.front.as_mut().filter(|_| !here.is_empty()) {
            front.undo();
            *effects = Effects::default();
            here.append(there);
            std::mem::swap(here, there);
        }
        self.make_room();
        self.carry_over().and_then(|()| self.attempt(there, effects, carried))
    }

    /// Takes every step and commits. On failure everything is rolled back; octet files of its steps go with the steps.
    ///
    /// A savepoint for each step makes SQLite copy every page that the step touches, and steps hardly ever fail after they
    /// have written. So the batch goes without first, and again with savepoints when one step's writes have to be undone.
    /// Before them goes what `carried` says of what is in front.
    fn attempt(&self, batch: &mut [Box<dyn Queued>], here: &Effects, carried: Carry<'_>) -> Result<Effects, Failure> {
        let db = &self.parts.db;
        // Decided once: what one pass has taken the other must not leave out.
        let mut wanted: Vec<_> = batch.iter_mut().filter(|task| !task.is_unwanted()).collect();
        let mut all = Effects::default();
        let front = self.parts.front.as_ref().map(|front| (front, carried));
        let mut result = take_all(db, front, &mut wanted, &mut all, take_bare);
        if let Ok(Pass::Spoilt) = result {
            roll_back(db);
            all = Effects::default();
            result = take_all(db, front, &mut wanted, &mut all, take_guarded);
        }
        if let Err(error) = result {
            roll_back(db);
            return Err(Failure { last: is_final(&error), error: answer_for(&error), uncertain: false });
        }
        let begun = Instant::now();
        match statement(db, "COMMIT") {
            Ok(()) => {
                self.shared.commit_seconds.observe(begun.elapsed().as_secs_f64());
                here.keep_files();
                all.keep_files();
                Ok(all)
            }
            Err(error) => {
                roll_back(db);
                let uncertain = is_uncertain_at_commit(&error);
                if uncertain {
                    // The rows may be on the disk and come back with the next start, which sorts the files out.
                    here.keep_files();
                    all.keep_files();
                }
                Err(Failure { last: uncertain, error: answer_for(&error), uncertain })
            }
        }
    }
}

/// How far a batch or a step got.
enum Pass {
    Clean,
    /// A step failed by itself after it had written: its writes have to go, and only its.
    Spoilt,
}

type Take = fn(&Connection, &mut dyn Queued, &mut Effects) -> rusqlite::Result<Pass>;

fn take_all(
    db: &Connection,
    front: Option<(&Front, Carry<'_>)>,
    wanted: &mut [&mut Box<dyn Queued>],
    all: &mut Effects,
    take: Take,
) -> rusqlite::Result<Pass> {
    statement(db, "BEGIN IMMEDIATE")?;
    match front {
        Some((front, Carry::Everything)) => front.store(db)?,
        Some((front, Carry::Part(leaving))) => front.store_leaving(db, leaving)?,
        Some((_, Carry::Nothing)) | None => {}
    }
    for task in wanted {
        if let Pass::Spoilt = take(db, task.as_mut(), all)? {
            return Ok(Pass::Spoilt);
        }
    }
    Ok(Pass::Clean)
}

/// Takes one step; says when its own failure leaves something behind.
fn take_bare(db: &Connection, task: &mut dyn Queued, all: &mut Effects) -> rusqlite::Result<Pass> {
    let changes = db.total_changes();
    let Some(failed) = take(db, task, all)? else { return Ok(Pass::Clean) };
    task.fail(failed);
    Ok(if db.total_changes() == changes { Pass::Clean } else { Pass::Spoilt })
}

/// Takes one step; its own failure undoes that step alone.
fn take_guarded(db: &Connection, task: &mut dyn Queued, all: &mut Effects) -> rusqlite::Result<Pass> {
    statement(db, "SAVEPOINT step")?;
    if let Some(failed) = take(db, task, all)? {
        task.fail(failed);
        statement(db, "ROLLBACK TO step")?;
    }
    statement(db, "RELEASE step")?;
    Ok(Pass::Clean)
}

/// Takes one step; gives its own failure. `Err` is what spoils the whole transaction.
fn take(db: &Connection, task: &mut dyn Queued, all: &mut Effects) -> rusqlite::Result<Option<SpoolError>> {
    let mut step = Step { db, effects: Effects::default() };
    match task.take(&mut step) {
        Ok(()) => {
            all.append(step.effects);
            Ok(None)
        }
        Err(StepError::Sql(error)) if spoils_the_transaction(&error) || db.is_autocommit() => Err(error),
        Err(error) => Ok(Some(SpoolError::from(error))),
    }
}

pub(super) fn statement(db: &Connection, text: &str) -> rusqlite::Result<()> {
    db.prepare_cached(text)?.execute([]).map(drop)
}

pub(super) fn roll_back(db: &Connection) {
    // Where SQLite has rolled back by itself there is nothing left to do, and where it can't, the next BEGIN says so.
    if !db.is_autocommit() {
        let _ = statement(db, "ROLLBACK");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn what_may_be_on_the_disk_is_not_tried_again_with_more_room() {
        let failure = |code| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let uncertain = is_uncertain_at_commit(&error);
            Failure { error: answer_for(&error), last: uncertain, uncertain }
        };
        let full = failure(ffi::SQLITE_FULL);
        assert!(!full.uncertain && full.is_for_want_of_room());
        // The commit's mark is synced before the shared memory has to grow.
        let unseen = failure(ffi::SQLITE_IOERR_SHMSIZE);
        assert!(matches!(unseen.error, SpoolError::Full(_)) && unseen.uncertain && !unseen.is_for_want_of_room());
    }
}
