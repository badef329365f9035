//! The daemon's memory over its lives.

use crate::common::trial::{Daemon, Kind, Ledger};
use std::fmt;
use std::time::{Duration, Instant};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A life that lasted so long tells something about growth.
const LONG: Duration = Duration::from_secs(60);
/// The last quarter of a long life may use so much more than the first, KiB: more than the allocator's moods, less than
/// any leak worth its name.
const MAY_GROW_KIB: u64 = 24 * 1024;

struct Life {
    number: u64,
    start: Instant,
    samples: Vec<(Duration, u64)>,
}

/// The samples of every life.
#[derive(Default)]
pub struct Memory {
    lives: Vec<Life>,
    last: Option<Instant>,
}

impl Memory {
    pub fn look(&mut self, daemon: &Daemon) {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let Some(kib) = daemon.memory_kib() else { return };
        if self.lives.last().is_none_or(|life| life.number != daemon.lives) {
            // Short lives tell nothing and are not kept.
            self.lives.retain(Life::is_long);
            self.lives.push(Life { number: daemon.lives, start: Instant::now(), samples: Vec::new() });
        }
        if let Some(life) = self.lives.last_mut() {
            life.samples.push((life.start.elapsed(), kib));
        }
    }

    /// A long life that grew is a violation.
    pub fn check(&self, ledger: &Ledger) {
        for life in self.lives.iter().filter(|life| life.is_long()) {
            let (first, last) = life.quarters();
            if last > first + MAY_GROW_KIB {
                let what = format!("life {} grew from {first} to {last} KiB in {:?}", life.number, life.length());
                ledger.violation(Kind::Wrong, what);
            }
        }
    }
}

impl Life {
    fn length(&self) -> Duration {
        self.samples.last().map_or(Duration::ZERO, |(at, _)| *at)
    }

    fn is_long(&self) -> bool {
        self.length() >= LONG
    }

    /// The medians of the first and of the last quarter, KiB.
    fn quarters(&self) -> (u64, u64) {
        let quarter = (self.samples.len() / 4).max(1);
        let median = |samples: &[(Duration, u64)]| {
            let mut sizes: Vec<_> = samples.iter().map(|(_, kib)| *kib).collect();
            sizes.sort_unstable();
            sizes.get(sizes.len() / 2).copied().unwrap_or(0)
        };
        (median(&self.samples[..quarter]), median(&self.samples[self.samples.len() - quarter..]))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memory of lives of at least {LONG:?}, KiB (VmRSS), medians of the first and the last quarter:")?;
        for life in self.lives.iter().filter(|life| life.is_long()) {
            let (first, last) = life.quarters();
            writeln!(f, "{:>9}  seconds of life {}: {first} then {last}", life.length().as_secs(), life.number)?;
        }
        Ok(())
    }
}
