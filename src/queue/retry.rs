//! When a deferred entry is tried again: exponential waits with jitter, and an end.

use crate::config::Retry;
use crate::mail::Sha256;
use crate::mail::{RecordId, Timestamp};
use std::time::Duration;

/// What follows from a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again then.
    Again(Timestamp),
    /// The time is over: the entry is failed.
    GiveUp,
}

/// What follows when attempt number `attempt` (the first is 1) of an entry made at `created` was deferred at `now`.
///
/// The wait is `first`, doubled by each attempt up to `longest`, and then made shorter or longer by up to a tenth, by a
/// hash of id and attempt: entries deferred together come back apart, and a test knows when.
pub fn after_deferral(retry: &Retry, id: RecordId, attempt: u32, created: Timestamp, now: Timestamp) -> Decision {
    if now.since(created) >= retry.give_up {
        return Decision::GiveUp;
    }
    Decision::Again(now.plus(backoff(retry.first, retry.longest, id.as_str(), attempt.saturating_sub(1))))
}

/// The wait after `failed` tries beyond the first: `first`, doubled by each up to `longest`, made shorter or longer by up to
/// a tenth by a hash of `name` and `failed`.
pub fn backoff(first: Duration, longest: Duration, name: &str, failed: u32) -> Duration {
    let wait = first.saturating_mul(1 << failed.min(31)).min(longest);
    let hash = Sha256::of(&[name.as_bytes(), &failed.to_be_bytes()].concat());
    let share = hash.first().copied().map_or(128, u32::from);
    // 0.9 to 1.1 times the wait.
    wait.mul_f64(0.9 + 0.2 * f64::from(share) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::OsEntropy;

    const CREATED: Timestamp = Timestamp::from_millis(1_794_304_800_000);
    const RETRY: Retry = Retry {
        first: Duration::from_secs(60),
        longest: Duration::from_secs(3_600),
        give_up: Duration::from_secs(8 * 86_400),
        report_after: Duration::from_secs(4 * 3_600),
    };

    fn wait(id: RecordId, attempt: u32) -> f64 {
        match after_deferral(&RETRY, id, attempt, CREATED, CREATED) {
            Decision::Again(then) => then.since(CREATED).as_secs_f64(),
            Decision::GiveUp => panic!("gave up at once"),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_within_a_tenth() {
        let id = RecordId::new(CREATED, &OsEntropy);
        for (attempt, middle) in [(1, 60.0), (2, 120.0), (3, 240.0), (6, 1_920.0), (7, 3_600.0), (1_000, 3_600.0)] {
            let wait = wait(id, attempt);
            assert!((middle * 0.9 - 0.01..=middle * 1.1 + 0.01).contains(&wait), "attempt {attempt}: {wait} s");
        }
    }

    #[test]
    fn the_same_entry_and_attempt_wait_the_same_time() {
        let id = RecordId::new(CREATED, &OsEntropy);
        assert_eq!(wait(id, 3).to_bits(), wait(id, 3).to_bits());
    }

    #[test]
    fn entries_deferred_together_come_back_apart() {
        let waits: std::collections::HashSet<_> =
            (0..50).map(|_| wait(RecordId::new(CREATED, &OsEntropy), 1).to_bits()).collect();
        assert!(waits.len() > 10, "{} different waits of 50", waits.len());
    }

    #[test]
    fn an_entry_is_given_up_when_its_time_is_over_and_not_before() {
        let id = RecordId::new(CREATED, &OsEntropy);
        let almost = CREATED.plus(RETRY.give_up - Duration::from_secs(1));
        assert!(matches!(after_deferral(&RETRY, id, 200, CREATED, almost), Decision::Again(_)));
        assert_eq!(after_deferral(&RETRY, id, 200, CREATED, CREATED.plus(RETRY.give_up)), Decision::GiveUp);
    }
}
