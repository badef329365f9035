//! The queue of the last day, for a small picture: a look every five minutes, kept in memory and gone with the daemon.

use super::status::Line;
use crate::clock::SharedClock;
use crate::drain::Drain;
use crate::mail::Timestamp;
use crate::queue::State;
use crate::spool::{Figures, Spool};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{interval, timeout};

/// Between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(300);
/// Looks that are kept: a day's.
pub(super) const MOST: usize = 288;
/// For the spool to say what waits.
const SPOOL_TIMEOUT: Duration = Duration::from_secs(10);

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    /// Records that wait for their archive.
    pub(super) waiting: u64,
    /// Records that are failed or held: they wait for somebody.
    pub(super) stopped: u64,
}

impl Sample {
    /// What the figures say.
    pub(super) fn of(figures: &Figures, at: Timestamp) -> Self {
        let count = |stopped: bool| {
            let is_meant = |state: State| matches!(state, State::Failed | State::Held) == stopped;
            figures.waiting.iter().filter(|group| is_meant(group.state)).map(|group| group.count).sum()
        };
        Self { at, waiting: count(false), stopped: count(true) }
    }
}

impl Sample {
    /// What lines of the state say.
    pub(super) fn now(lines: &[Line], at: Timestamp) -> Self {
        let mut sample = Self { at, waiting: 0, stopped: 0 };
        for queue in lines.iter().filter_map(|line| if let Line::Queue(queue) = line { Some(queue) } else { None }) {
            let is_stopped = matches!(queue.state, State::Failed | State::Held);
            let count = if is_stopped { &mut sample.stopped } else { &mut sample.waiting };
            *count = count.saturating_add(queue.count);
        }
        sample
    }
}

/// The last day's looks, oldest first. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(Arc<Mutex<VecDeque<Sample>>>);

impl Samples {
    pub(super) fn put(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= MOST {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(super) fn all(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Looks until the end begins.
    pub(super) async fn keep(self, spool: Arc<dyn Spool>, clock: SharedClock, drain: Drain) {
        let mut looks = interval(EVERY);
        loop {
            tokio::select! {
                biased;
                () = drain.begun() => return,
                _ = looks.tick() => {}
            }
            // A look that fails leaves a hole in the picture; readiness tells why.
            if let Ok(Ok(figures)) = timeout(SPOOL_TIMEOUT, spool.figures()).await {
                self.put(Sample::of(&figures, clock.now()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_no_more() {
        let samples = Samples::default();
        for number in 0..1_000 {
            samples.put(Sample { at: Timestamp::from_millis(number), waiting: 1, stopped: 0 });
        }
        let all = samples.all();
        assert_eq!((all.len(), all[0].at, all[MOST - 1].at.as_millis()), (MOST, Timestamp::from_millis(712), 999));
    }
}
