//! The embedded spool: SQLite for what is known of messages, files for large ones, one directory for all.
//!
//! ```text
//! lock              one daemon at a time; names its process
//! front             what the database lacks yet, a log synced at every group of moves
//! spool.sqlite      records, reports, messages that are not large, the secret (write-ahead log, synced at every commit)
//! octets/ab/…ab     large messages, one file each
//! ```
//!
//! One thread writes what has gathered (`writer`, `core`); readers have connections of their own (`readers`); queue commands of
//! another process use SQLite's locks ([`EmbeddedSpool::open_beside`]). A daemon's start puts in order what a crash left (`sweep`).

mod attempts;
mod batch;
mod beside;
mod carry;
mod commit;
mod copies;
mod core;
mod decide;
mod drivers;
mod front;
mod gaps;
mod history;
mod news;
mod opening;
mod options;
mod pauses;
mod posts;
mod readers;
mod reports;
mod resending;
mod returned;
mod rows;
mod schema;
mod secret;
mod steps;
mod sweep;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use front::FrontBounds;
pub use options::{CHECKPOINT_PAGES, Options};
pub use schema::MIGRATIONS;

use super::allowance::Allowances;
use super::disk;
use super::files::OctetStore;
use super::life::Kept;
use super::{
    Agenda, Archive, Backlog, Claim, Draft, Figures, Filter, Followers, INLINE_LIMIT, Intake, Listing, NotedGap,
    Octets, Operation, Outcome, Pause, Pending, Receipt, ReportClaim, Resend, Resent, Returned, Room, Setback, Spool,
    SpoolError, Switched, Verdict,
};
use crate::journal::{Gap, Named, RecordFields, ReportFields, ReportSeed};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::watch;
use beside::Beside;
use decide::{Body, Prepared};
use front::FrontStep;
use posts::{apart, failed, post_decide, put_back};
use prometheus_client::metrics::histogram::Histogram;
use readers::Readers;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use steps::{Step, StepError};
use writer::Writer;

/// Records or reports that one claim gives out, whatever it asks for.
pub const MAX_CLAIM: usize = 256;
/// The directory of octet files.
const OCTETS: &str = "octets";

/// A spool in a directory. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedSpool {
    directory: PathBuf,
    store: Arc<OctetStore>,
    writer: Writer,
    readers: Readers,
    /// None beside a daemon: messages and attempts are the daemon's.
    options: Option<Options>,
    /// What messages on their way may take of memory.
    allowances: Allowances,
}

impl EmbeddedSpool {
    /// Transactions committed since it was opened.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// How long its commits take, in seconds; goes on counting.
    pub fn commit_seconds(&self) -> Histogram {
        self.writer.commit_seconds()
    }

    /// Whether it is lost for this process: a sync failed or the database is damaged. Only opening it anew tells what is there.
    pub fn broken(&self) -> watch::Receiver<bool> {
        self.writer.broken()
    }

    fn owner(&self) -> Result<&Options, SpoolError> {
        let why = "a spool opened beside the daemon takes no messages and makes no attempts";
        self.options.as_ref().ok_or_else(|| SpoolError::NotNow(why.to_owned()))
    }

    /// Asks a question; it learns whether no daemon runs.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection, bool) -> Result<T, StepError> + Send + 'static,
    ) -> Pending<T> {
        let beside = self.beside();
        self.readers.ask(move |db| {
            let stale = beside.as_ref().map_or(Ok(false), Beside::is_daemonless)?;
            question(db, stale)
        })
    }

    /// A step of the daemon's own that somebody waits for, and that stays done when nobody does any more.
    fn write<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Step<'_>) -> Result<T, StepError> + Send + 'static,
    ) -> Pending<T> {
        match self.owner() {
            Ok(_) => self.writer.call(0, step, |_, _| {}),
            Err(error) => failed(error),
        }
    }

    fn beside(&self) -> Option<Beside> {
        let beside = || Beside { disk: Arc::clone(self.store.disk()), directory: self.directory.clone() };
        self.options.is_none().then(beside)
    }
}

impl Spool for EmbeddedSpool {
    fn begin(&self, queue_id: QueueId) -> Intake {
        let small = self.options.as_ref().map_or(INLINE_LIMIT, |options| options.inline_limit);
        Intake::with_store(queue_id, Arc::clone(&self.store), small, self.allowances.clone())
    }

    fn prepare(&self, intake: Intake, draft: Draft) -> Pending<()> {
        let options = match self.owner() {
            Ok(options) => options.clone(),
            Err(error) => return failed(error),
        };
        if draft.records.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (spool, size, pace) = (self.clone(), intake.len(), posts::pace(&self.writer, &draft));
        Box::pin(async move {
            pace.await;
            let queue_id = draft.queue_id;
            if intake.queue_id() != queue_id {
                return Err(SpoolError::Failing("the octets are another message's".to_owned()));
            }
            let (body, _arriving) = Body::of(intake).await?;
            let keep = |draft| Kept::prepared(draft, options.message_uuid);
            let records = draft.records.into_iter().map(keep).collect();
            let octets = body.in_memory();
            let prepared = Prepared { queue_id, size, body, records };
            // Whoever stopped waiting can't have released the message.
            let undo = move |writer: &Writer, ()| drop(post_decide(writer, queue_id, Verdict::Refused, &options));
            let (writer, prepared) = (spool.writer.clone(), Arc::new(prepared));
            let first = {
                let prepared = Arc::clone(&prepared);
                move |step: &mut FrontStep<'_>| front::prepare(step, &prepared)
            };
            let prepare = move |step: &mut Step<'_>| {
                spool.store.reserve().admit()?;
                decide::prepare(step, &prepared)
            };
            writer.call_in_front(octets, first, prepare, undo).await
        })
    }

    fn decide(&self, queue_id: QueueId, verdict: Verdict) -> Pending<()> {
        match self.owner() {
            Ok(options) => post_decide(&self.writer, queue_id, verdict, options),
            Err(error) => failed(error),
        }
    }

    fn claim(&self, archive: &Archive, now: Timestamp, limit: usize) -> Pending<Vec<Claim>> {
        let message_uuid = match self.owner() {
            Ok(options) => options.message_uuid,
            Err(error) => return failed(error),
        };
        let (store, archive, limit) = (Arc::clone(&self.store), archive.clone(), limit.min(MAX_CLAIM));
        let first = {
            let archive = archive.clone();
            move |step: &mut FrontStep<'_>| front::claim(step, &archive, now, limit, message_uuid)
        };
        let step = move |step: &mut Step<'_>| attempts::claim(step, &store, &archive, now, limit, message_uuid);
        self.writer.call_in_front(0, first, step, |writer, claims| {
            claims.into_iter().for_each(|claim| put_back(writer, claim.fields.id));
        })
    }

    fn settle(&self, id: RecordId, outcome: Outcome, now: Timestamp) -> Pending<()> {
        match self.owner() {
            Ok(_) => {
                let taken = outcome.clone();
                let first = move |step: &mut FrontStep<'_>| front::settle(step, id, &taken, now);
                self.writer.post(first, move |step| attempts::settle(step, id, outcome.clone(), now))
            }
            Err(error) => failed(error),
        }
    }

    fn unclaim(&self, id: RecordId) -> Pending<()> {
        match self.owner() {
            Ok(_) => self.writer.post(move |step| front::unclaim(step, id), move |step| attempts::unclaim(step, id)),
            Err(error) => failed(error),
        }
    }

    fn claim_reports(&self, organization: &str, now: Timestamp, limit: usize) -> Pending<Vec<ReportClaim>> {
        if let Err(error) = self.owner() {
            return failed(error);
        }
        let (store, organization, limit) = (Arc::clone(&self.store), organization.to_owned(), limit.min(MAX_CLAIM));
        let step = move |step: &mut Step<'_>| reports::claim(step, &store, &organization, now, limit);
        self.writer.call_in_front(0, apart, step, |writer, claims| {
            claims.into_iter().for_each(|claim| put_back(writer, claim.fields.id));
        })
    }

    fn settle_report(&self, id: RecordId, outcome: Outcome, now: Timestamp) -> Pending<()> {
        match self.owner() {
            Ok(_) => self.writer.post(apart, move |step| {
                reports::settle(step.db, id, &outcome, now)?;
                step.effects.something_is_due();
                Ok(())
            }),
            Err(error) => failed(error),
        }
    }

    fn claim_urged(&self, archive: &Archive, now: Timestamp) -> Pending<Option<Claim>> {
        let message_uuid = match self.owner() {
            Ok(options) => options.message_uuid,
            Err(error) => return failed(error),
        };
        let (store, archive) = (Arc::clone(&self.store), archive.clone());
        let step = move |step: &mut Step<'_>| attempts::claim_urged(step, &store, &archive, now, message_uuid);
        self.writer.call(0, step, |writer, claim| {
            claim.into_iter().for_each(|claim| put_back(writer, claim.fields.id));
        })
    }

    fn hurry(&self, archive: &Archive, now: Timestamp) -> Pending<usize> {
        let archive = archive.clone();
        self.write(move |step| attempts::hurry(step, &archive, now, MAX_CLAIM))
    }

    fn give_up(&self, archive: &Archive, until: Timestamp, setback: Setback, now: Timestamp) -> Pending<Vec<RecordId>> {
        let archive = archive.clone();
        self.write(move |step| attempts::give_up(step, &archive, until, &setback, now, MAX_CLAIM))
    }

    fn gather(&self, organization: &str, seed: ReportSeed) -> Pending<bool> {
        let organization = organization.to_owned();
        self.write(move |step| news::gather(step, &organization, seed))
    }

    fn tell(&self, report: ReportFields) -> Pending<()> {
        self.write(move |step| news::tell(step, &report))
    }

    fn note_gap(&self, organization: &str, gap: Gap, seed: ReportSeed) -> Pending<()> {
        let organization = organization.to_owned();
        self.write(move |step| gaps::note(step, &organization, &gap, seed))
    }

    fn gaps(&self, limit: usize) -> Pending<Vec<NotedGap>> {
        self.readers.ask(move |db| gaps::last(db, limit))
    }

    fn switched(&self, switched: Switched) -> Pending<()> {
        self.write(move |step| pauses::note(step, &switched))
    }

    fn pauses(&self, limit: usize) -> Pending<Vec<Pause>> {
        self.readers.ask(move |db| pauses::last(db, limit))
    }

    fn hurry_reports(&self, organization: &str, now: Timestamp) -> Pending<usize> {
        let organization = organization.to_owned();
        self.write(move |step| {
            let hurried = reports::hurry(step.db, &organization, now, MAX_CLAIM)?;
            if hurried > 0 {
                step.effects.something_is_due();
            }
            Ok(hurried)
        })
    }

    fn agenda(&self, archive: &Archive) -> Pending<Agenda> {
        self.readers.agenda(archive)
    }

    fn backlog(&self, archive: &Archive) -> Pending<Backlog> {
        let archive = archive.clone();
        self.readers.ask(move |db| view::backlog(db, &archive))
    }

    fn waiting(&self, archive: &Archive, until: Timestamp, most: usize, now: Timestamp) -> Pending<Named> {
        let archive = archive.clone();
        self.readers.ask(move |db| view::waiting(db, &archive, until, most, now))
    }

    fn acked_since(&self, archive: &Archive, since: Timestamp) -> Pending<u64> {
        let archive = archive.clone();
        self.readers.ask(move |db| view::acked_since(db, &archive, since))
    }

    fn follow(&self, organization: &str, archives: Vec<String>, now: Timestamp) -> Pending<Followers> {
        let (spool, organization) = (self.clone(), organization.to_owned());
        Box::pin(async move {
            let (of, keys) = (organization.clone(), archives.clone());
            if !spool.readers.ask(move |db| copies::has_strays(db, &of, &keys)).await? {
                return Ok(Followers::default());
            }
            spool.write(move |step| copies::follow(step, &organization, &archives, now, MAX_CLAIM)).await
        })
    }

    fn resend(&self, resend: Resend) -> Pending<Resent> {
        let store = Arc::clone(&self.store);
        self.writer.call(0, move |step| resending::resend(step, &store, &resend), |_, _| {})
    }

    fn let_go(&self, before: BTreeMap<String, Timestamp>, rest: Timestamp) -> Pending<usize> {
        let spool = self.clone();
        Box::pin(async move {
            let asked = before.clone();
            if !spool.readers.ask(move |db| history::is_kept_too_long(db, &asked, rest)).await? {
                return Ok(0);
            }
            spool.write(move |step| history::let_go(step, &before, rest)).await
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.writer.changes()
    }

    fn list(&self, filter: Filter, limit: usize) -> Pending<Vec<Listing>> {
        self.ask(move |db, stale| view::list(db, &filter, limit, stale))
    }

    fn show(&self, id: RecordId) -> Pending<(RecordFields, Listing, Option<Octets>)> {
        let store = Arc::clone(&self.store);
        self.ask(move |db, stale| view::show(db, &store, id, stale))
    }

    fn operate(&self, id: RecordId, operation: Operation, now: Timestamp) -> Pending<Listing> {
        let beside = self.beside();
        let step = move |step: &mut Step<'_>| {
            let stale = beside.as_ref().map_or(Ok(false), Beside::is_daemonless)?;
            attempts::operate(step, id, &operation, now, stale)
        };
        self.writer.call(0, step, |_, _| {})
    }

    fn returned(&self, returned: Returned) -> Pending<Receipt> {
        if let Err(error) = self.owner() {
            return failed(error);
        }
        let spool = self.clone();
        Box::pin(async move {
            let (store, asked) = (Arc::clone(&spool.store), returned.clone());
            let lacking = spool.readers.ask(move |db| returned::lacking(db, &store, &asked)).await?;
            let (body, _arriving) = match (lacking, &returned.original) {
                (Some(queue_id), Some(octets)) => {
                    let mut intake = spool.begin(queue_id);
                    intake.append(octets).await?;
                    let (body, arriving) = Body::of(intake).await?;
                    (Some(body), arriving)
                }
                _ => (None, None),
            };
            let octets = body.as_ref().map_or(0, Body::in_memory);
            let store = Arc::clone(&spool.store);
            let take = move |step: &mut Step<'_>| returned::take(step, &store, &returned, body.as_ref());
            spool.writer.call(octets, take, |_, _| {}).await
        })
    }

    fn secret(&self, proposal: [u8; 32]) -> Pending<[u8; 32]> {
        self.writer.call(0, move |step| secret::keep(step.db, proposal), |_, _| {})
    }

    fn figures(&self) -> Pending<Figures> {
        let readers = self.readers.clone();
        self.readers.ask(move |db| view::figures(db, readers.log_octets()))
    }

    fn probe(&self, now: Timestamp) -> Pending<()> {
        let store = Arc::clone(&self.store);
        let step = move |step: &mut Step<'_>| {
            store.reserve().admit()?;
            let mut mark = step.db.prepare_cached("INSERT OR REPLACE INTO probe (id, at) VALUES (1, ?)")?;
            Ok(mark.execute([now.as_millis()]).map(drop)?)
        };
        self.writer.call_in_front(0, apart, step, |_, ()| {})
    }

    fn room(&self) -> Pending<Room> {
        let (disk, directory) = (Arc::clone(self.store.disk()), self.directory.clone());
        Box::pin(async move {
            let asked = Arc::clone(&disk);
            let found = disk::run(&*disk, move || asked.room(&directory)).await.ok_or_else(writer::closed)?;
            found.map_err(|error| SpoolError::Failing(format!("its file system can't be asked for its room: {error}")))
        })
    }

    fn complete(&self) -> Pending<()> {
        let writer = self.writer.clone();
        Box::pin(async move { writer.complete().await })
    }

    fn close(&self) -> Pending<()> {
        self.readers.close();
        self.writer.close()
    }
}
