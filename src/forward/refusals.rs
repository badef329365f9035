//! How often it is told that a next hop refuses XFORWARD: it may do so for each message.
//!
//! Promises: the first refusal is told at once, further ones at distances that grow from [`FIRST`] to [`LONGEST`], each with how
//! many there were since.

use crate::mail::Reply;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// From the first refusal that is told to the second.
const FIRST: Duration = Duration::from_secs(60);
/// Between two that are told, at most; twice this without a refusal, and the next is the first again.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The refusals of one next hop.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Until the next is told.
    wait: Duration,
    /// Refusals that were not told.
    since: u64,
}

impl Refusals {
    /// One more; how many there were since the last that was told, this one included, where it is time to tell.
    fn count(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let recent = told.take().filter(|told| now.duration_since(told.at) < 2 * LONGEST);
        let Some(mut recent) = recent else {
            *told = Some(Told { at: now, wait: FIRST, since: 0 });
            return Some(1);
        };
        recent.since += 1;
        let due = now.duration_since(recent.at) >= recent.wait;
        let count = due.then_some(recent.since);
        if due {
            recent = Told { at: now, wait: (2 * recent.wait).min(LONGEST), since: 0 };
        }
        *told = Some(recent);
        count
    }

    /// Tells of a refusal, where it is time to. Postfix goes on as well: what the next hop knows of the client is for its log.
    pub(super) fn note(&self, next_hop: &str, reply: &Reply) {
        if let Some(refused) = self.count() {
            tracing::warn!(event = "next_hop.failed", next_hop, %reply, refused, "the next hop does not hear who the client is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn refusals_are_told_at_growing_distances() {
        let refusals = Refusals::default();
        let mut told = Vec::new();
        for second in 0..10_000_u64 {
            told.extend(refusals.count().map(|count| (second, count)));
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(
            told,
            [(0, 1), (60, 60), (180, 120), (420, 240), (900, 480), (1860, 960), (3780, 1920), (7380, 3600)]
        );
        advance(2 * LONGEST).await;
        assert_eq!(refusals.count(), Some(1), "it is news again");
    }
}
