//! What tests of the parts of a transaction are made of.

use super::files::{Allowance, Files};
use super::gaps::Gaps;
use super::listener::Parts;
use super::places::Places;
use crate::drain::Drain;
use crate::journal::MacKey;
use crate::mail::OsEntropy;
use crate::spool::fixtures::{HandClock, options};
use crate::spool::{MemorySpool, Pressure, Spool};
use std::sync::Arc;

pub(super) fn spool() -> MemorySpool {
    MemorySpool::new(options(&HandClock::new()))
}

pub(super) fn parts(spool: Arc<dyn Spool>) -> Arc<Parts> {
    Arc::new(Parts {
        spool,
        pressure: Pressure::new(1_000),
        gaps: Gaps::default(),
        clock: HandClock::new(),
        entropy: Arc::new(OsEntropy),
        mac_key: MacKey::from_bytes([7; 32]),
        bounces: Places::default(),
        files: Files::new(Allowance::ENDLESS),
        drain: Drain::default(),
    })
}
