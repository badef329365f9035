//! The time of a world: turmoil's simulated time behind a fixed beginning, and chance for ids from the seed.

use super::dice::Dice;
use journal_relay::clock::Clock;
use journal_relay::mail::{Entropy, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// When every world begins: 2026-11-10T10:00:00Z.
const BEGINNING: Timestamp = Timestamp::from_millis(1_794_304_800_000);

/// The simulated time; to the millisecond inside a host, to the tick outside.
#[derive(Debug, Clone, Default)]
pub struct SimClock(Arc<AtomicU64>);

impl SimClock {
    /// Milliseconds since the beginning.
    pub fn millis(&self) -> u64 {
        // Where tasks are only dropped (a crash) there is no runtime, and its clock would be the machine's.
        let inside = tokio::runtime::Handle::try_current().is_ok().then(turmoil::sim_elapsed).flatten();
        if let Some(elapsed) = inside {
            self.set(elapsed);
        }
        self.0.load(Ordering::Relaxed)
    }

    /// For what happens between two steps.
    pub fn set(&self, elapsed: Duration) {
        self.0.store(u64::try_from(elapsed.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        BEGINNING.plus(Duration::from_millis(self.millis()))
    }
}

/// Chance for the relay.
pub struct SimEntropy(Mutex<Dice>);

impl SimEntropy {
    pub fn new(dice: Dice) -> Self {
        Self(Mutex::new(dice))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            let drawn = dice.draw().to_be_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}
