//! One attempt at a claimed record or report, from the claim to its settlement: what is sent is put together from the
//! current configuration, the verdict is turned into an outcome, the outcome is logged and kept.
//!
//! Promises: a record is acknowledged by the archive's final 2yz alone; a failed one has one notification, kept in the same
//! transaction; a report that fails causes no other.

use super::letter::Letter;
use super::next::{self, Admission, DelayReports, Next};
use super::post::{self, Post};
use super::verdict::{Said, Verdict};
use crate::clock::SharedClock;
use crate::config::{Config, Organization, Route};
use crate::drain::Drain;
use crate::journal::{self, MacKey, ReportContext, ReportFields, ReportKind};
use crate::mail::{Address, Entropy, RecordId, ReversePath, Timestamp};
use crate::spool::{Claim, Outcome, Pending, ReportClaim, Spool, SpoolError};
use crate::watch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// How often a result is brought to a spool that fails, …
const SETTLE_TRIES: u32 = 10;
/// … and how long it is left alone between.
const SETTLE_WAIT: Duration = Duration::from_secs(6);

/// All that attempts share.
pub(super) struct Office {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) clock: SharedClock,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) mac_key: MacKey,
    pub(super) drain: Drain,
    pub(super) post: Post,
    pub(super) delay_reports: DelayReports,
}

/// What a lane carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freight {
    Records,
    Reports,
}

/// One claimed piece of it.
pub(super) enum Parcel {
    Record(Claim),
    Report(ReportClaim),
}

impl Parcel {
    /// What its task is called while it is open.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Record(claim) => format!("record {}", claim.fields.id),
            Self::Report(claim) => format!("report {}", claim.fields.id),
        }
    }
}

impl Office {
    /// Where `organization`'s freight goes now; none when the configuration no longer has it.
    fn way(&self, organization: &str, freight: Freight) -> Option<Way> {
        let config = Arc::clone(&self.config.borrow());
        let organization = config.organizations.iter().find(|candidate| candidate.name == organization)?.clone();
        let (route, forward_path) = match freight {
            Freight::Records => (&organization.journaling_route, &organization.journaling_address),
            Freight::Reports => (&organization.report_route, &organization.report_address),
        };
        Some(Way { route: route.clone(), forward_path: forward_path.clone(), organization, config })
    }

    /// The slots of the route on which `organization`'s freight goes now.
    pub(super) fn slots(&self, organization: &str, freight: Freight) -> Option<Arc<Semaphore>> {
        let way = self.way(organization, freight)?;
        Some(self.post.slots(&way.route, &way.forward_path))
    }

    /// Claims up to `limit` pieces that are due at `now`.
    pub(super) async fn claim(
        &self,
        organization: &str,
        freight: Freight,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Parcel>, SpoolError> {
        Ok(match freight {
            Freight::Records => {
                self.spool.claim(organization, now, limit).await?.into_iter().map(Parcel::Record).collect()
            }
            Freight::Reports => {
                self.spool.claim_reports(organization, now, limit).await?.into_iter().map(Parcel::Report).collect()
            }
        })
    }

    /// Sends one piece and settles it.
    /// The slot is free again once the attempt is over: the spool takes its result while the next one is on its way.
    pub(super) async fn carry(&self, parcel: Parcel, slot: OwnedSemaphorePermit) {
        match parcel {
            Parcel::Record(claim) => self.carry_record(claim, slot).await,
            Parcel::Report(claim) => self.carry_report(claim, slot).await,
        }
    }

    async fn carry_record(&self, claim: Claim, slot: OwnedSemaphorePermit) {
        let id = claim.fields.id;
        let way = self.way(&claim.fields.organization, Freight::Records).filter(|_| !self.drain.has_begun());
        let Some(way) = way else {
            keep(id, || self.spool.unclaim(id)).await;
            return;
        };
        let letter = way.record_letter(&claim, self.mac_key);
        let verdict = self.post.send(&way.route, &way.config.hostname, &letter).await;
        drop(slot);
        let now = self.clock.now();
        let outcome = self.record_outcome(&claim, &way, verdict, now);
        keep(id, || self.spool.settle(id, outcome.clone(), now)).await;
    }

    /// Turns a verdict on a record into what is kept, and logs it.
    fn record_outcome(&self, claim: &Claim, way: &Way, verdict: Verdict, now: Timestamp) -> Outcome {
        let (fields, attempts) = (&claim.fields, claim.status.attempts);
        let created = fields.original.received;
        let (record, organization) = (fields.id, fields.organization.as_str());
        let reply = verdict.reply().clone();
        match next::after(&verdict, &way.config.retry, record, attempts, created, now) {
            Next::Acked => {
                self.delay_reports.forget(organization);
                let archive = if let Verdict::Accepted { archive, .. } = &verdict { archive.as_str() } else { "" };
                let age_ms = u64::try_from(now.since(created).as_millis()).unwrap_or(u64::MAX);
                tracing::info!(event = "record.acked", %record, organization, archive, %reply, attempts, age_ms, "the archive took the record");
                Outcome::Acked { reply: reply.text }
            }
            Next::Again { at, is_late } => {
                let next_attempt = at.rfc3339();
                tracing::info!(event = "record.deferred", %record, organization, route = way.label(), %reply, attempt = attempts, next_attempt, "the record will be tried again");
                let is_due = is_late && !claim.status.delay_reported && self.admits_delay_report(record, organization);
                let report = is_due.then(|| self.report(claim, way, ReportKind::Delayed, &reply, Some(at), now));
                Outcome::Deferred { reply: reply.text, next_attempt: at, report }
            }
            step @ (Next::Refused | Next::GivenUp) => {
                let reason = if step == Next::Refused { "refused" } else { "given up" };
                tracing::error!(event = "record.failed", %record, organization, route = way.label(), %reply, attempts, reason, "the record is kept as failed");
                let report = Some(self.report(claim, way, ReportKind::Failed, &reply, None, now));
                Outcome::Failed { reply: reply.text, report }
            }
        }
    }

    fn admits_delay_report(&self, record: RecordId, organization: &str) -> bool {
        let admission = self.delay_reports.admit(organization);
        if admission == Admission::FirstTooMany {
            let reason = "enough delays have been reported since the archive last took a record";
            tracing::warn!(event = "report.suppressed", %record, organization, reason, "no further delay is reported");
        }
        admission == Admission::Granted
    }

    fn report(
        &self,
        claim: &Claim,
        way: &Way,
        kind: ReportKind,
        reply: &Said,
        next_attempt: Option<Timestamp>,
        now: Timestamp,
    ) -> ReportFields {
        ReportFields {
            id: RecordId::new(now, &*self.entropy),
            organization: claim.fields.organization.clone(),
            kind,
            record: claim.fields.id,
            date: now,
            message_uuid: self.uuid(),
            boundary: self.uuid(),
            route: way.label(),
            reply: reply.text.clone(),
            reply_is_smtp: reply.is_smtp,
            attempts: claim.status.attempts,
            next_attempt,
        }
    }

    fn uuid(&self) -> Uuid {
        let mut chance = [0; 16];
        self.entropy.fill(&mut chance);
        uuid::Builder::from_random_bytes(chance).into_uuid()
    }

    async fn carry_report(&self, claim: ReportClaim, slot: OwnedSemaphorePermit) {
        let id = claim.fields.id;
        let way = self.way(&claim.fields.organization, Freight::Reports).filter(|_| !self.drain.has_begun());
        let Some(way) = way else {
            keep(id, || self.spool.unclaim(id)).await;
            return;
        };
        let letter = way.report_letter(&claim, self.mac_key);
        let verdict = self.post.send(&way.route, &way.config.hostname, &letter).await;
        drop(slot);
        let now = self.clock.now();
        let outcome = report_outcome(&claim, &way, &verdict, now);
        keep(id, || self.spool.settle_report(id, outcome.clone(), now)).await;
    }
}

/// Brings a result to the spool, several times when it fails.
async fn keep(id: RecordId, bring: impl Fn() -> Pending<()>) {
    for attempt in 1..=SETTLE_TRIES {
        match bring().await {
            Ok(()) => return,
            // An operator's command was faster; what it did stands.
            Err(error @ (SpoolError::NotFound(_) | SpoolError::NotNow(_))) => {
                tracing::warn!(event = "record.unsettled", record = %id, %error, "the result of an attempt is not kept");
                return;
            }
            Err(error) => {
                tracing::error!(event = "record.unsettled", record = %id, %error, attempt, "the result of an attempt can't be kept");
            }
        }
        if attempt < SETTLE_TRIES {
            tokio::time::sleep(SETTLE_WAIT).await;
        }
    }
}

/// Turns a verdict on a report into what is kept, and logs it. Whatever happens to a report, no other is made.
fn report_outcome(claim: &ReportClaim, way: &Way, verdict: &Verdict, now: Timestamp) -> Outcome {
    let (fields, attempts) = (&claim.fields, claim.attempts);
    let (report, record, organization) = (fields.id, fields.record, fields.organization.as_str());
    let (route, reply) = (way.label(), verdict.reply().clone());
    match next::after(verdict, &way.config.retry, report, attempts, fields.date, now) {
        Next::Acked => {
            tracing::info!(event = "report.sent", %report, %record, organization, kind = ?fields.kind, route, %reply, attempts, "the report was taken");
            Outcome::Acked { reply: reply.text }
        }
        Next::Again { at, .. } => {
            let next_attempt = at.rfc3339();
            tracing::info!(event = "report.deferred", %report, %record, organization, route, %reply, attempt = attempts, next_attempt, "the report will be tried again");
            Outcome::Deferred { reply: reply.text, next_attempt: at, report: None }
        }
        step @ (Next::Refused | Next::GivenUp) => {
            let reason = if step == Next::Refused { "refused" } else { "given up" };
            tracing::warn!(event = "report.suppressed", %report, %record, organization, route, %reply, attempts, reason, "the report is not sent; no other follows from that");
            Outcome::Failed { reply: reply.text, report: None }
        }
    }
}

/// Where something goes, by the configuration of the moment.
struct Way {
    route: Route,
    forward_path: Address,
    organization: Organization,
    config: Arc<Config>,
}

impl Way {
    fn label(&self) -> String {
        post::label(&self.route, &self.forward_path)
    }

    fn record_letter(&self, claim: &Claim, key: MacKey) -> Letter {
        let (sender, address) = (self.organization.sender.clone(), self.forward_path.clone());
        let fields = claim.fields.clone();
        Letter {
            id: fields.id,
            reverse_path: ReversePath::Address(sender.clone()),
            forward_path: address.clone(),
            original: Some(claim.octets.clone()).into(),
            render: Box::new(move |offers| journal::render(&fields, &sender, &address, offers, Some(&key)).into()),
        }
    }

    fn report_letter(&self, claim: &ReportClaim, key: MacKey) -> Letter {
        let (fields, config) = (claim.fields.clone(), Arc::clone(&self.config));
        let (organization, record) =
            (self.organization.clone(), claim.record.as_ref().map(|(record, _)| record.clone()));
        let render = move |offers| {
            let context = ReportContext {
                hostname: &config.hostname,
                sender: &organization.sender,
                report_address: &organization.report_address,
                journaling_address: &organization.journaling_address,
                key: &key,
                retry_until: record.as_ref().map(|record| record.original.received.plus(config.retry.give_up)),
            };
            journal::render_report(&fields, record.as_ref(), &context, offers).into()
        };
        Letter {
            id: claim.fields.id,
            // RFC 3464, section 2: a notification is never answered by another.
            reverse_path: ReversePath::Null,
            forward_path: self.forward_path.clone(),
            original: claim.record.as_ref().map(|(_, octets)| octets.clone()).into(),
            render: Box::new(render),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::OsEntropy;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// How often a result is brought to a spool that answers `answer(1)`, `answer(2)`, …
    async fn tries(answer: fn(u32) -> Result<(), SpoolError>) -> u32 {
        let count = AtomicU32::new(0);
        let id = RecordId::new(Timestamp::from_millis(0), &OsEntropy);
        keep(id, || {
            let answer = answer(count.fetch_add(1, Ordering::Relaxed) + 1);
            Box::pin(async move { answer })
        })
        .await;
        count.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_brought_again_to_a_spool_that_fails_for_a_while() {
        fn full() -> Result<(), SpoolError> {
            Err(SpoolError::Full("no room".to_owned()))
        }
        assert_eq!(tries(|_| Ok(())).await, 1);
        assert_eq!(tries(|number| if number < 3 { full() } else { Ok(()) }).await, 3);
        assert_eq!(tries(|_| full()).await, SETTLE_TRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_an_operator_has_overtaken_is_let_go() {
        assert_eq!(tries(|_| Err(SpoolError::NotNow("discarded".to_owned()))).await, 1);
    }
}
