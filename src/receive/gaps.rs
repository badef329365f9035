//! What was relayed without a record (`spool.on_failure = "bypass"`), until the spool takes writes again and the gap can be
//! noted there, with its report.
//!
//! Promises: each message is an event at once (`record.bypassed`); one gap is open for each organization, and it is noted
//! within [`EVERY`] of the spool's recovery; what comes later opens another one, noted no sooner than a minute after the
//! first, and ever more rarely while it goes on; a gap is noted once, also when nobody knows how the first try went. What was
//! not noted before a crash is in the log alone.

use super::records::random_uuid;
use crate::clock::SharedClock;
use crate::drain::Drain;
use crate::journal::{Gap, ReportSeed};
use crate::mail::{Entropy, QueueId, RecordId, Timestamp};
use crate::spool::{Spool, SpoolError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How often the spool is asked to note what is open.
pub const EVERY: Duration = Duration::from_secs(5);
/// Between two gaps of an organization that are noted, and so told, at least; it doubles with each, …
const SHORTEST_DISTANCE: Duration = Duration::from_secs(60);
/// … up to this, …
const LONGEST_DISTANCE: Duration = Duration::from_secs(960);
/// … and begins anew when none was noted for so long.
const QUIET: Duration = Duration::from_secs(3_600);

/// The gaps that are not noted yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gaps(Arc<Mutex<Book>>);

impl Gaps {
    /// The next hop took, or may have taken, a message of `organization` that has no record, for this reason.
    pub(super) fn note(&self, organization: &str, queue_id: QueueId, reason: &str, now: Timestamp) {
        tracing::error!(
            event = "record.bypassed", organization, %queue_id, reason,
            "a message was relayed without a record: the spool did not take it"
        );
        self.book().note(organization, queue_id, reason, now);
    }

    /// Has the spool note what is open, every few seconds until the end begins.
    pub async fn keep(self, spool: Arc<dyn Spool>, clock: SharedClock, entropy: Arc<dyn Entropy>, drain: Drain) {
        loop {
            tokio::select! {
                biased;
                () = drain.begun() => return,
                () = sleep(EVERY) => {}
            }
            let due = self.book().due(clock.now());
            tokio::select! {
                biased;
                () = drain.begun() => return,
                () = self.write(due, &*spool, &clock, &*entropy) => {}
            }
        }
    }

    /// Has the spool note all that is open, at the end.
    pub async fn close(&self, spool: &dyn Spool, clock: &SharedClock, entropy: &dyn Entropy) {
        let open = self.book().open();
        self.write(open, spool, clock, entropy).await;
    }

    /// Messages in gaps that are not noted.
    pub fn messages(&self) -> u64 {
        self.book().messages()
    }

    /// A hung spool is waited for: asking it once more would only make its queue longer.
    async fn write(&self, organizations: Vec<String>, spool: &dyn Spool, clock: &SharedClock, entropy: &dyn Entropy) {
        for organization in organizations {
            let now = clock.now();
            let seed = ReportSeed {
                id: RecordId::new(now, entropy),
                date: now,
                message_uuid: random_uuid(entropy),
                boundary: random_uuid(entropy),
            };
            let Some((gap, seed)) = self.book().take(&organization, seed) else { continue };
            let noted = spool.note_gap(&organization, gap, seed).await;
            if let Err(error) = &noted {
                tracing::debug!(event = "spool.pressure", organization, %error, "a gap can't be noted yet");
            }
            self.book().settle(&organization, &noted, clock.now());
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page for each organization.
#[derive(Debug, Default)]
struct Book(BTreeMap<String, Page>);

#[derive(Debug, Default)]
struct Page {
    open: Option<Gap>,
    /// What the spool was asked to note and has not confirmed.
    asked: Option<(Gap, ReportSeed)>,
    /// When the last gap was noted.
    noted: Option<Timestamp>,
    /// How long after it the next one may be.
    distance: Duration,
}

impl Book {
    fn note(&mut self, organization: &str, queue_id: QueueId, reason: &str, now: Timestamp) {
        let page = self.0.entry(organization.to_owned()).or_default();
        match &mut page.open {
            Some(gap) => gap.add(queue_id, now),
            none => *none = Some(Gap::open(queue_id, reason, now)),
        }
    }

    /// The organizations whose gaps may be noted now.
    fn due(&self, now: Timestamp) -> Vec<String> {
        self.named(|page| page.is_due(now))
    }

    /// The organizations that have a gap.
    fn open(&self) -> Vec<String> {
        self.named(|page| page.open.is_some() || page.asked.is_some())
    }

    fn named(&self, means: impl Fn(&Page) -> bool) -> Vec<String> {
        self.0.iter().filter(|(_, page)| means(page)).map(|(name, _)| name.clone()).collect()
    }

    fn messages(&self) -> u64 {
        let gaps = self.0.values().flat_map(|page| page.open.iter().chain(page.asked.iter().map(|(gap, _)| gap)));
        gaps.fold(0, |sum, gap| sum.saturating_add(gap.messages))
    }

    /// What the spool is to note: what it was asked before, as it was, or what is open, with this seed.
    fn take(&mut self, organization: &str, seed: ReportSeed) -> Option<(Gap, ReportSeed)> {
        let page = self.0.get_mut(organization)?;
        if page.asked.is_none() {
            page.asked = page.open.take().map(|gap| (gap, seed));
        }
        page.asked.clone()
    }

    /// Takes the spool's answer.
    fn settle(&mut self, organization: &str, answer: &Result<(), SpoolError>, now: Timestamp) {
        let Some(page) = self.0.get_mut(organization) else { return };
        match answer {
            Ok(()) => {
                page.asked = None;
                let is_fresh = page.noted.is_some_and(|noted| now.since(noted) < QUIET);
                let doubled = (page.distance * 2).min(LONGEST_DISTANCE);
                page.distance = if is_fresh { doubled } else { SHORTEST_DISTANCE };
                page.noted = Some(now);
            }
            // Nothing was kept for sure: it is one gap with what came since.
            Err(SpoolError::Full(_)) => {
                if let Some((mut gap, _)) = page.asked.take() {
                    if let Some(later) = page.open.take() {
                        gap.join(later);
                    }
                    page.open = Some(gap);
                }
            }
            // It may be noted or not: asked again as it was.
            Err(_) => {}
        }
    }
}

impl Page {
    fn is_due(&self, now: Timestamp) -> bool {
        let is_far = |noted: Timestamp| now < noted || now.since(noted) >= self.distance;
        self.asked.is_some() || self.open.is_some() && self.noted.is_none_or(is_far)
    }
}

#[cfg(test)]
#[path = "gaps_tests.rs"]
mod tests;
