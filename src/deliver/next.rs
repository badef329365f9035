//! What follows from a verdict, as a value: the tables of the retries applied, nothing done yet.

use super::verdict::Verdict;
use crate::config::Retry;
use crate::mail::{RecordId, Timestamp};
use crate::queue::{Decision, after_deferral};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Delay reports to one organization from one acceptance by its archive to the next. An archive that is down for days
/// delays every record; whoever reads the first reports knows.
pub const MAX_DELAY_REPORTS: u32 = 5;

/// What becomes of an entry after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over.
    Acked,
    /// It is tried again then.
    Again {
        at: Timestamp,
        /// It has been waiting for so long that somebody should know.
        is_late: bool,
    },
    /// Refused; no further attempt.
    Refused,
    /// Deferred for too long; no further attempt.
    GivenUp,
}

/// What follows from `verdict` on attempt number `attempt` of the entry `id`, made at `created`.
pub(super) fn after(
    verdict: &Verdict,
    retry: &Retry,
    id: RecordId,
    attempt: u32,
    created: Timestamp,
    now: Timestamp,
) -> Next {
    match verdict {
        Verdict::Accepted { .. } => Next::Acked,
        Verdict::Refused { .. } => Next::Refused,
        Verdict::Deferred { .. } => match after_deferral(retry, id, attempt, created, now) {
            Decision::Again(at) => Next::Again { at, is_late: now.since(created) >= retry.report_after },
            Decision::GiveUp => Next::GivenUp,
        },
    }
}

/// Delay reports made for each organization since its archive last took a record.
#[derive(Debug, Default)]
pub(super) struct DelayReports {
    made: Mutex<HashMap<String, u32>>,
}

impl DelayReports {
    /// Counts another report, unless there have been enough. Tells also whether this is the first one too many.
    pub(super) fn admit(&self, organization: &str) -> Admission {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let count = made.entry(organization.to_owned()).or_default();
        *count = count.saturating_add(1);
        match (*count).cmp(&(MAX_DELAY_REPORTS + 1)) {
            std::cmp::Ordering::Less => Admission::Granted,
            std::cmp::Ordering::Equal => Admission::FirstTooMany,
            std::cmp::Ordering::Greater => Admission::TooMany,
        }
    }

    /// The archive took a record: the next delay is news again.
    pub(super) fn forget(&self, organization: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(organization);
    }
}

/// Whether a delay report may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Granted,
    FirstTooMany,
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Said;
    use crate::mail::OsEntropy;
    use std::time::Duration;

    const CREATED: Timestamp = Timestamp::from_millis(1_794_304_800_000);
    const RETRY: Retry = Retry {
        first: Duration::from_secs(60),
        longest: Duration::from_secs(3_600),
        give_up: Duration::from_secs(8 * 86_400),
        report_after: Duration::from_secs(4 * 3_600),
    };

    fn deferred_after(waited: Duration) -> Next {
        let verdict =
            Verdict::Deferred { reply: Said { text: "451 later".into(), is_smtp: true }, route_failed: false };
        after(&verdict, &RETRY, RecordId::new(CREATED, &OsEntropy), 3, CREATED, CREATED.plus(waited))
    }

    #[test]
    fn a_deferral_is_late_from_report_after_on_and_given_up_at_its_end() {
        let minute = Duration::from_secs(60);
        assert!(matches!(deferred_after(RETRY.report_after - minute), Next::Again { is_late: false, .. }));
        assert!(matches!(deferred_after(RETRY.report_after), Next::Again { is_late: true, .. }));
        assert_eq!(deferred_after(RETRY.give_up), Next::GivenUp);
    }

    #[test]
    fn an_outage_makes_a_handful_of_delay_reports_and_the_next_outage_again() {
        let reports = DelayReports::default();
        let granted = || (0..100).filter(|_| reports.admit("one") == Admission::Granted).count();
        assert_eq!(granted(), MAX_DELAY_REPORTS as usize);
        assert_eq!(granted(), 0);
        assert_eq!(reports.admit("two"), Admission::Granted);
        reports.forget("one");
        assert_eq!((0..100).filter(|_| reports.admit("one") == Admission::FirstTooMany).count(), 1);
    }
}
