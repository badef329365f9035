//! What follows from a verdict, as a value: the tables of the retries applied, nothing done yet.

use super::verdict::Verdict;
use crate::config::Retry;
use crate::mail::{RecordId, Timestamp};
use crate::queue::{Decision, after_deferral};

/// What becomes of an entry after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over.
    Acked,
    /// It is tried again then.
    Again(Timestamp),
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
            Decision::Again(at) => Next::Again(at),
            Decision::GiveUp => Next::GivenUp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::{Fault, Said};
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
            Verdict::Deferred { reply: Said { text: "451 later".into(), is_smtp: true }, fault: Fault::Record };
        after(&verdict, &RETRY, RecordId::new(CREATED, &OsEntropy), 3, CREATED, CREATED.plus(waited))
    }

    #[test]
    fn a_deferral_is_tried_again_until_its_time_is_over() {
        assert!(matches!(deferred_after(RETRY.give_up - Duration::from_secs(60)), Next::Again(_)));
        assert_eq!(deferred_after(RETRY.give_up), Next::GivenUp);
    }
}
