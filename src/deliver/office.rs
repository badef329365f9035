//! One attempt at a claimed record (see [`courier`](super::courier)) or report, from the claim to its settlement: what is sent
//! is put together from the current configuration, the verdict is turned into an outcome, the outcome is logged and kept.
//!
//! Promises: a record is acknowledged by the archive's final 2yz alone; a failed one has one notice, kept in the same
//! transaction; a report that fails causes no other; behind a circuit that has opened nothing is begun.

use super::circuits::{Circuits, Health, Pass};
use super::next::{self, Next};
use super::post::Post;
use super::verdict::Verdict;
use super::way::{Way, Ways};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::drain::Drain;
use crate::journal::{self, MacKey, ReportSeed};
use crate::mail::{Entropy, RecordId, Timestamp};
use crate::spool::{Archive, Claim, Outcome, Pending, ReportClaim, Spool, SpoolError};
use crate::watch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use uuid::Uuid;

/// How long a spool that fails is left alone before a result is brought to it again: it doubles, …
const SETTLE_WAIT: Duration = Duration::from_secs(6);
/// … up to this. There is no end: an entry whose result nobody brings would be `sending` until the next start.
const LONGEST_SETTLE_WAIT: Duration = Duration::from_secs(5 * 60);

/// All that attempts share.
pub(super) struct Office {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) clock: SharedClock,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) mac_key: MacKey,
    pub(super) drain: Drain,
    pub(super) post: Post,
    pub(super) circuits: Arc<Circuits>,
    pub(super) ways: Ways,
}

/// What a lane carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Freight {
    Records,
    Reports,
}

impl Freight {
    /// The word in logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Reports => "reports",
        }
    }
}

/// One claimed piece of it.
pub(super) enum Parcel {
    Record(Claim),
    Report(Box<ReportClaim>),
}

impl Office {
    /// Where records for `archive`, or reports of its organization, go now; none when the configuration no longer has it.
    pub(super) fn way(&self, archive: &Archive, freight: Freight) -> Option<Arc<Way>> {
        let config = Arc::clone(&self.config.borrow());
        self.ways.find(&config, archive, freight)
    }

    /// The slots of the route on which something goes.
    pub(super) fn slots(&self, way: &Way) -> Arc<Semaphore> {
        self.post.slots(&way.route, &way.forward_path)
    }

    /// What is known of the way.
    pub(super) fn health(&self, way: &Way) -> Health {
        self.circuits.health(way.line())
    }

    /// What a report made `now` gets from chance.
    pub(super) fn seed(&self, now: Timestamp) -> ReportSeed {
        ReportSeed {
            id: RecordId::new(now, &*self.entropy),
            date: now,
            message_uuid: self.uuid(),
            boundary: self.uuid(),
        }
    }

    /// Claims up to `limit` pieces that are due at `now`.
    pub(super) async fn claim(
        &self,
        archive: &Archive,
        freight: Freight,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Parcel>, SpoolError> {
        Ok(match freight {
            Freight::Records => self.spool.claim(archive, now, limit).await?.into_iter().map(Parcel::Record).collect(),
            Freight::Reports => {
                let organization = &archive.organization;
                self.spool
                    .claim_reports(organization, now, limit)
                    .await?
                    .into_iter()
                    .map(|claim| Parcel::Report(Box::new(claim)))
                    .collect()
            }
        })
    }

    /// The way of a claimed piece and the right to send it; none when it has to be put back.
    pub(super) fn departure(&self, archive: &Archive, freight: Freight, pass: Pass) -> Option<(Arc<Way>, Pass)> {
        let way = self.way(archive, freight).filter(|_| !self.drain.has_begun())?;
        let pass = pass.on(way.line());
        // Others that were claimed with it may have found the route shut meanwhile.
        (!pass.is_void(self.clock.now())).then_some((way, pass))
    }

    fn uuid(&self) -> Uuid {
        let mut chance = [0; 16];
        self.entropy.fill(&mut chance);
        uuid::Builder::from_random_bytes(chance).into_uuid()
    }

    /// Sends a report and settles it. The slot is free again once the attempt is over: the spool takes its result while the
    /// next one is on its way.
    pub(super) async fn carry_report(&self, claim: ReportClaim, pass: Pass, slot: OwnedSemaphorePermit) {
        let id = claim.fields.id;
        let Some((way, pass)) = self.departure(&claim.fields.organization.as_str().into(), Freight::Reports, pass)
        else {
            keep(&self.drain, id, || self.spool.unclaim(id)).await;
            return;
        };
        let letter = way.report_letter(&claim, self.mac_key);
        let verdict = self.post.send(&way.route, &way.config.hostname, &letter).await;
        drop(slot);
        let now = self.clock.now();
        let next_probe = pass.ended(&verdict, id, &way.config.retry, now);
        let outcome = report_outcome(&claim, &way, &verdict, next_probe, now);
        keep(&self.drain, id, || self.spool.settle_report(id, outcome.clone(), now)).await;
    }
}

/// Brings a result to the spool until it is kept. Once the relay drains the spool gets little time; what it has not kept by
/// then the next start puts in order: an attempt without a result is made again.
pub(super) async fn keep(drain: &Drain, id: RecordId, bring: impl Fn() -> Pending<()>) {
    let mut wait = SETTLE_WAIT;
    loop {
        let kept = tokio::select! {
            biased;
            kept = bring() => kept,
            () = in_time(drain) => Err(SpoolError::Failing("no answer in time".to_owned())),
        };
        match kept {
            Ok(()) => return,
            // An operator's command was faster; what it did stands.
            Err(error @ (SpoolError::NotFound(_) | SpoolError::NotNow(_))) => {
                tracing::warn!(event = "record.unsettled", record = %id, %error, "the result of an attempt is not kept");
                return;
            }
            Err(error) if drain.has_begun() => {
                tracing::error!(event = "record.unsettled", record = %id, %error, "the result of an attempt is not kept; the next start puts it in order");
                return;
            }
            Err(error) => {
                let next_s = wait.as_secs();
                tracing::error!(event = "record.unsettled", record = %id, %error, next_s, "the result of an attempt can't be kept yet");
            }
        }
        tokio::select! {
            biased;
            () = drain.begun() => {}
            () = sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_SETTLE_WAIT);
    }
}

/// Ends when the relay has drained for a little.
async fn in_time(drain: &Drain) {
    drain.begun().await;
    sleep(SETTLE_WAIT).await;
}

/// Turns a verdict on a report into what is kept, and logs it. Whatever happens to a report, no other is made.
fn report_outcome(
    claim: &ReportClaim,
    way: &Way,
    verdict: &Verdict,
    next_probe: Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    let (fields, attempts) = (&claim.fields, claim.attempts);
    let (report, organization, kind) = (fields.id, fields.organization.as_str(), fields.news.as_str());
    let record = fields.news.attached().map(tracing::field::display);
    let records = fields.news.named().map(journal::Named::total);
    let (route, reply) = (way.label(), verdict.reply().clone());
    match next::after(verdict, &way.config.retry, report, attempts, fields.date, now) {
        Next::Acked => {
            tracing::info!(event = "report.sent", %report, record, records, organization, kind, route, %reply, attempts, "the report was taken");
            Outcome::Acked { reply: reply.text, retain: false }
        }
        Next::Again(at) => {
            let at = next_probe.unwrap_or(at);
            let next_attempt = at.rfc3339();
            tracing::info!(event = "report.deferred", %report, record, records, organization, kind, route, %reply, attempt = attempts, next_attempt, "the report will be tried again");
            Outcome::Deferred { reply: reply.text, next_attempt: at }
        }
        step @ (Next::Refused | Next::GivenUp) => {
            let reason = if step == Next::Refused { "refused" } else { "given up" };
            tracing::warn!(event = "report.suppressed", %report, record, records, organization, kind, route, %reply, attempts, reason, "the report is not sent; no other follows from that");
            Outcome::Failed { reply: reply.text, notice: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::OsEntropy;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::Instant;

    fn full() -> Result<(), SpoolError> {
        Err(SpoolError::Full("no room".to_owned()))
    }

    /// How often a result is brought to a spool that answers by how long it has been asked.
    async fn tries(drain: &Drain, answer: impl Fn(Duration) -> Result<(), SpoolError>) -> u32 {
        let (count, begun) = (AtomicU32::new(0), Instant::now());
        let id = RecordId::new(Timestamp::from_millis(0), &OsEntropy);
        keep(drain, id, || {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(answer(begun.elapsed())))
        })
        .await;
        count.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_brought_until_the_spool_works_again_and_ever_more_rarely() {
        let drain = Drain::default();
        assert_eq!(tries(&drain, |_| Ok(())).await, 1);
        let after = |wait: u64| move |asked: Duration| if asked.as_secs() < wait { full() } else { Ok(()) };
        assert_eq!(tries(&drain, after(10)).await, 3);
        assert_eq!(tries(&drain, after(3_600)).await, 18, "an hour: 6, 12, … 192 s, then every 300 s");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_not_held_up_by_a_spool_that_fails_or_hangs() {
        let drain = Drain::default();
        let (brought, ()) = tokio::join!(tries(&drain, |_| full()), async {
            sleep(Duration::from_secs(60)).await;
            drain.begin();
        });
        assert_eq!(brought, 5, "four in a minute, and a last one");
        let begun = Instant::now();
        keep(&drain, RecordId::new(Timestamp::from_millis(0), &OsEntropy), || Box::pin(std::future::pending())).await;
        assert!(begun.elapsed() < SETTLE_WAIT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_an_operator_has_overtaken_is_let_go() {
        assert_eq!(tries(&Drain::default(), |_| Err(SpoolError::NotNow("discarded".to_owned()))).await, 1);
    }
}
