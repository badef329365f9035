//! The spool in memory: the same promises as the embedded one but for the crash. For tests of the rooms above.
//!
//! One mutex guards everything; no operation waits. [`MemorySpool::fail_with`] makes it fail as a full or broken disk would.

mod copies;
mod moves;
mod news;
mod octets;
mod pauses;

use super::embedded::MAX_CLAIM;
use super::life::{self, Decided, Event, Kept};
use super::{
    Agenda, Archive, Backlog, Claim, Draft, Figures, Filter, Followers, Intake, Listing, NotedGap, Octets, Operation,
    Options, Outcome, Pause, Pending, Receipt, ReportClaim, Resend, Resent, Returned, Room, Setback, Spool, SpoolError,
    Switched, Verdict, Waiting, Warned,
};
use crate::journal::{Gap, Named, RecordFields, ReportFields, ReportSeed};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::State;
use crate::spool::intake::Gathered;
use crate::watch;
use bytes::Bytes;
use news::Telling;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A spool in memory. Cheap to clone.
#[derive(Clone)]
pub struct MemorySpool {
    options: Options,
    kept: Arc<Mutex<Everything>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Everything {
    failure: Option<SpoolError>,
    hangs: bool,
    room: Option<Room>,
    messages: BTreeMap<QueueId, Bytes>,
    records: BTreeMap<RecordId, Kept>,
    reports: BTreeMap<RecordId, Report>,
    secret: Option<[u8; 32]>,
    telling: BTreeMap<String, Telling>,
    /// Told delays, by organization and archive.
    warned: BTreeMap<(String, String), Warned>,
    /// Delivered records whose octets are kept.
    retained: BTreeSet<RecordId>,
    gaps: Vec<(RecordId, NotedGap)>,
    pauses: Vec<Pause>,
}

struct Report {
    fields: ReportFields,
    /// Waiting, sending or failed.
    state: State,
    attempts: u32,
    due: Timestamp,
}

impl MemorySpool {
    /// An empty spool; `options.keep_history` doesn't matter here.
    pub fn new(options: Options) -> Self {
        Self { options, kept: Arc::default(), changes: watch::Sender::new(0) }
    }

    /// From now on everything fails with this error; none: works again.
    pub fn fail_with(&self, failure: Option<SpoolError>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }

    /// From now on, or no longer, nothing is done and nothing answered.
    pub fn hang(&self, hangs: bool) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).hangs = hangs;
    }

    /// From now on there is so much room.
    pub fn set_room(&self, room: Room) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).room = Some(room);
    }

    /// Does something at once; the future only tells how it went.
    fn now<T: Send + 'static>(&self, act: impl FnOnce(&mut Everything) -> Result<T, SpoolError>) -> Pending<T> {
        if self.kept.lock().unwrap_or_else(PoisonError::into_inner).hangs {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(self.act(act)))
    }

    /// The same where something may become due by it.
    fn now_due<T: Send + 'static>(&self, act: impl FnOnce(&mut Everything) -> Result<T, SpoolError>) -> Pending<T> {
        let done = self.now(act);
        self.change();
        done
    }

    fn act<T>(&self, act: impl FnOnce(&mut Everything) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.failure.clone().map_or(Ok(()), Err)?;
        act(&mut kept)
    }

    fn change(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }
}

impl Spool for MemorySpool {
    fn begin(&self, queue_id: QueueId) -> Intake {
        Intake::in_memory(queue_id)
    }

    fn prepare(&self, intake: Intake, draft: Draft) -> Pending<()> {
        let spool = self.clone();
        Box::pin(async move {
            if draft.records.is_empty() {
                return Ok(());
            }
            let Gathered::Inline(octets) = intake.finish().await?.octets else {
                return Err(SpoolError::Failing("octets in a file".to_owned()));
            };
            spool
                .now(|kept| {
                    kept.messages.insert(draft.queue_id, octets);
                    for draft in draft.records {
                        let new = Kept::prepared(draft, spool.options.message_uuid);
                        kept.records.insert(new.fields.id, new);
                    }
                    Ok(())
                })
                .await
        })
    }

    fn decide(&self, queue_id: QueueId, verdict: Verdict) -> Pending<()> {
        let done = self.now(|kept| {
            kept.decide(queue_id, verdict, &self.options);
            Ok(())
        });
        self.change();
        done
    }

    fn claim(&self, archive: &Archive, now: Timestamp, limit: usize) -> Pending<Vec<Claim>> {
        self.now(|kept| {
            let of_it = kept.records.values().filter(|kept| kept.is_for(archive));
            let due = of_it.filter_map(|kept| Some((kept.standing.due().filter(|due| *due <= now)?, kept.fields.id)));
            let ids = first_of(due.collect(), limit);
            Ok(ids.into_iter().filter_map(|id| kept.claim(id, now, &self.options)).collect())
        })
    }

    fn settle(&self, id: RecordId, outcome: Outcome, now: Timestamp) -> Pending<()> {
        let done = self.now(|kept| kept.settle(id, outcome, now));
        self.change();
        done
    }

    fn unclaim(&self, id: RecordId) -> Pending<()> {
        self.now(|kept| {
            if let Some(report) = kept.reports.get_mut(&id) {
                report.must_be_sending(id)?;
                (report.state, report.attempts) = (State::Waiting, report.attempts.saturating_sub(1));
                return Ok(());
            }
            let record = kept.record(id)?;
            record.standing.unclaim().map_err(|unmoved| life::not_now(id, &unmoved.0))
        })
    }

    fn claim_reports(&self, organization: &str, now: Timestamp, limit: usize) -> Pending<Vec<ReportClaim>> {
        self.now(|kept| {
            let waiting = kept.reports.iter().filter(|(_, report)| report.state == State::Waiting);
            let due = waiting.filter(|(_, report)| report.fields.organization == organization && report.due <= now);
            let ids = first_of(due.map(|(id, report)| (report.due, *id)).collect(), limit);
            Ok(ids.into_iter().filter_map(|id| kept.claim_report(id)).collect())
        })
    }

    fn settle_report(&self, id: RecordId, outcome: Outcome, _now: Timestamp) -> Pending<()> {
        let done = self.now(|kept| {
            let report = kept.reports.get_mut(&id).ok_or(SpoolError::NotFound(id))?;
            report.must_be_sending(id)?;
            match outcome {
                Outcome::Acked { .. } => drop(kept.reports.remove(&id)),
                Outcome::Deferred { next_attempt, .. } => (report.state, report.due) = (State::Waiting, next_attempt),
                Outcome::Failed { .. } => report.state = State::Failed,
            }
            Ok(())
        });
        self.change();
        done
    }

    fn claim_urged(&self, archive: &Archive, now: Timestamp) -> Pending<Option<Claim>> {
        self.now(|kept| Ok(kept.take_urged(archive, now).and_then(|id| kept.claim(id, now, &self.options))))
    }

    fn hurry(&self, archive: &Archive, now: Timestamp) -> Pending<usize> {
        self.now_due(|kept| Ok(kept.hurry(archive, now)))
    }

    fn give_up(&self, archive: &Archive, until: Timestamp, setback: Setback, now: Timestamp) -> Pending<Vec<RecordId>> {
        self.now_due(|kept| kept.give_up(archive, until, &setback, now, MAX_CLAIM))
    }

    fn gather(&self, organization: &str, seed: ReportSeed) -> Pending<bool> {
        self.now_due(|kept| Ok(kept.gather(organization, seed)))
    }

    fn tell(&self, report: ReportFields) -> Pending<()> {
        self.now_due(|kept| {
            kept.tell(report);
            Ok(())
        })
    }

    fn note_gap(&self, organization: &str, gap: Gap, seed: ReportSeed) -> Pending<()> {
        self.now_due(|kept| {
            kept.note_gap(organization, gap, seed);
            Ok(())
        })
    }

    fn gaps(&self, limit: usize) -> Pending<Vec<NotedGap>> {
        self.now(|kept| Ok(kept.last_gaps(limit)))
    }

    fn switched(&self, switched: Switched) -> Pending<()> {
        self.now(|kept| {
            kept.switched(switched);
            Ok(())
        })
    }

    fn pauses(&self, limit: usize) -> Pending<Vec<Pause>> {
        self.now(|kept| Ok(kept.last_pauses(limit)))
    }

    fn hurry_reports(&self, organization: &str, now: Timestamp) -> Pending<usize> {
        self.now_due(|kept| Ok(kept.hurry_reports(organization, now)))
    }

    fn agenda(&self, archive: &Archive) -> Pending<Agenda> {
        self.now(|kept| Ok(kept.agenda(archive)))
    }

    fn backlog(&self, archive: &Archive) -> Pending<Backlog> {
        self.now(|kept| Ok(kept.backlog(archive)))
    }

    fn waiting(&self, archive: &Archive, until: Timestamp, most: usize, now: Timestamp) -> Pending<Named> {
        self.now(|kept| Ok(kept.waiting(archive, until, most, now)))
    }

    fn acked_since(&self, archive: &Archive, since: Timestamp) -> Pending<u64> {
        self.now(|kept| Ok(kept.acked_since(archive, since)))
    }

    fn follow(&self, organization: &str, archives: Vec<String>, now: Timestamp) -> Pending<Followers> {
        self.now_due(|kept| kept.follow(organization, &archives, now))
    }

    fn resend(&self, resend: Resend) -> Pending<Resent> {
        self.now_due(|kept| Ok(kept.resend(&resend)))
    }

    fn let_go(&self, before: BTreeMap<String, Timestamp>, rest: Timestamp) -> Pending<usize> {
        self.now(|kept| Ok(kept.let_go(&before, rest)))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn list(&self, filter: Filter, limit: usize) -> Pending<Vec<Listing>> {
        self.now(|kept| {
            let lines = kept.records.values().map(life::listing).filter(|line| {
                filter.state.map_or(!line.state.is_history(), |state| line.state == state)
                    && filter.organization.as_ref().is_none_or(|organization| line.organization == *organization)
                    && filter.after.is_none_or(|after| line.id > after)
            });
            Ok(lines.take(limit).collect())
        })
    }

    fn show(&self, id: RecordId) -> Pending<(RecordFields, Listing, Option<Octets>)> {
        self.now(|kept| {
            let record = kept.record(id)?.clone();
            let octets = kept.octets(&record);
            Ok(((*record.fields).clone(), life::listing(&record), octets))
        })
    }

    fn operate(&self, id: RecordId, operation: Operation, now: Timestamp) -> Pending<Listing> {
        let done = self.now(|kept| {
            life::operate(kept.record(id)?, &operation, now)?;
            match operation {
                Operation::Release => kept.released(id, now),
                Operation::Discard { .. } => kept.hope_ended(id, now),
                Operation::Hold | Operation::Retry => {}
            }
            let record = kept.record(id)?;
            let (listing, event) = (life::listing(record), Event::discarded(record));
            if let Some(event) = event {
                event.write();
                kept.forget_octets();
            }
            Ok(listing)
        });
        self.change();
        done
    }

    fn returned(&self, returned: Returned) -> Pending<Receipt> {
        let done = self.now(|kept| kept.returned(&returned));
        self.change();
        done
    }

    fn secret(&self, proposal: [u8; 32]) -> Pending<[u8; 32]> {
        self.now(|kept| Ok(*kept.secret.get_or_insert(proposal)))
    }

    fn figures(&self) -> Pending<Figures> {
        self.now(|kept| {
            let mut groups: BTreeMap<(String, &str), Waiting> = BTreeMap::new();
            for kept in kept.records.values().filter(|kept| kept.standing.ended.is_none()) {
                let (organization, state) = (kept.fields.organization.clone(), kept.standing.status().state);
                let oldest = kept.fields.since();
                let new = || Waiting { organization: organization.clone(), state, count: 0, oldest };
                let group = groups.entry((organization.clone(), state.as_str())).or_insert_with(new);
                group.count += 1;
                group.oldest = group.oldest.min(oldest);
            }
            let octets = kept.messages.values().map(|octets| octets.len() as u64).sum();
            Ok(Figures { waiting: groups.into_values().collect(), octets })
        })
    }

    fn probe(&self, _: Timestamp) -> Pending<()> {
        self.now(|_| Ok(()))
    }

    fn room(&self) -> Pending<Room> {
        self.now(|kept| Ok(kept.room.unwrap_or(Room::ENDLESS)))
    }

    fn close(&self) -> Pending<()> {
        self.now(|kept| {
            kept.failure = Some(SpoolError::Failing("the spool is closed".to_owned()));
            Ok(())
        })
    }
}

impl Everything {
    fn record(&mut self, id: RecordId) -> Result<&mut Kept, SpoolError> {
        self.records.get_mut(&id).ok_or(SpoolError::NotFound(id))
    }

    fn decide(&mut self, queue_id: QueueId, verdict: Verdict, options: &Options) {
        let prepared = self
            .records
            .values()
            .filter(|kept| kept.fields.original.queue_id == queue_id && kept.standing.state == State::Prepared);
        let ids: Vec<_> = prepared.map(|kept| kept.fields.id).collect();
        for id in ids {
            let Some(mut new) = self.records.remove(&id) else { continue };
            let Some(unknown) = life::is_unknown(verdict) else { continue };
            let mut earlier: Vec<_> =
                self.records.values().filter(|kept| kept.is_earlier_than(&new)).cloned().collect();
            let decided = life::decide(&mut new, unknown, &mut earlier, options.clock.now(), options.message_uuid);
            match decided {
                Decided::Stays { sealed } => {
                    if let Some(first) = sealed.and_then(|place| earlier.get(place)) {
                        self.seal_copies(first, options);
                    }
                    Event::committed(&new).write();
                    self.records.insert(new.fields.id, new);
                }
                Decided::Merged { earlier: place, added } => {
                    if let Some(kept) = earlier.get(place) {
                        Event::merged(kept, queue_id, added).write();
                    }
                }
            }
            self.records.extend(earlier.into_iter().map(|kept| (kept.fields.id, kept)));
        }
        self.forget_octets();
    }
}

impl Report {
    fn must_be_sending(&self, id: RecordId) -> Result<(), SpoolError> {
        if self.state == State::Sending {
            return Ok(());
        }
        Err(SpoolError::NotNow(format!("report {id} is {}, not being sent", self.state)))
    }
}

impl Kept {
    /// Whether it goes there.
    fn is_for(&self, archive: &Archive) -> bool {
        self.fields.organization == archive.organization && self.archive == archive.key
    }

    /// Whether it is a decided record of the same message and organization.
    fn is_earlier_than(&self, new: &Self) -> bool {
        !matches!(self.standing.state, State::Prepared | State::Discarded)
            && life::copies::stands_for_later(&self.standing)
            && self.fields.organization == new.fields.organization
            && (self.archive == new.archive || self.archive.is_empty())
            && self.fields.replay.is_none()
            && self.fields.original.identity == new.fields.original.identity
    }
}

/// The ids that are due first.
fn first_of(mut due: Vec<(Timestamp, RecordId)>, limit: usize) -> Vec<RecordId> {
    due.sort_unstable();
    due.into_iter().take(limit).map(|(_, id)| id).collect()
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
