//! What happened, twice: as lines for people, and as one number that two equal runs have in common.

use super::clock::SimClock;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard};

/// Octets of a payload that a line shows.
const SHOWN: usize = 120;

/// The trace of one world. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    clock: SimClock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    hasher: DefaultHasher,
    lines: Vec<String>,
    events: u64,
}

impl Trace {
    pub fn new(clock: SimClock) -> Self {
        Self { clock, inner: Arc::default() }
    }

    /// Something happened.
    pub fn note(&self, text: impl AsRef<str>) {
        let (now, text) = (self.clock.millis(), text.as_ref());
        let mut inner = self.inner();
        inner.hasher.write_u64(now);
        inner.hasher.write(text.as_bytes());
        inner.events += 1;
        inner.lines.push(format!("{:>7}.{:03} {text}", now / 1000, now % 1000));
    }

    /// Octets went over a line.
    pub fn octets(&self, way: &str, octets: &[u8]) {
        self.inner().hasher.write(octets);
        let mut shown = String::from_utf8_lossy(&octets[..octets.len().min(SHOWN)]).escape_debug().to_string();
        if octets.len() > SHOWN {
            shown.push('…');
        }
        self.note(format!("{way} {} octets: {shown}", octets.len()));
    }

    /// How much happened, and its hash.
    pub fn sum(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.events, inner.hasher.finish())
    }

    pub fn lines(&self) -> Vec<String> {
        self.inner().lines.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}
