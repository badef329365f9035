//! What the octets of messages on their way may take of memory, all together.
//!
//! Who asks never waits: where it is refused it goes to a file. There are two allowances. One is for what arrives: a crowd of
//! clients that each send a little and stop would else be a heap of memory. It is given back when a message is durable; what is
//! in front of the database has bounds of its own.
//!
//! The other is for messages of the middling sort, which are best stored like small ones: their octets are synced with what comes
//! at the same time, where a file of its own needs syncs of its own. But where they wait they are a burden to memory and
//! database. So they hold what was granted for as long as they are stored ([`OctetStore::hold`](super::files::OctetStore::hold)):
//! where an archive lags behind the allowance is soon used up, and what comes then goes to files. Large ones take a little of
//! it while they arrive, for larger pieces.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Octets that are granted together.
const UNIT: usize = 1_024;
/// So many small messages may arrive at a time and all be in memory.
const ARRIVING: usize = 512;

/// What may be granted. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<Semaphore>);

/// Both. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Allowances {
    pub(super) arriving: Allowance,
    pub(super) middling: Allowance,
}

/// What one message was granted; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Grant(OwnedSemaphorePermit);

impl Allowances {
    /// For a spool whose small messages have up to so many octets, and whose front takes so many octets of the middling sort.
    pub(super) fn new(small: usize, middling: usize) -> Self {
        Self { arriving: Allowance::new(small.saturating_mul(ARRIVING)), middling: Allowance::new(middling) }
    }
}

impl Allowance {
    /// So many octets, rounded down to KiB.
    pub(super) fn new(octets: usize) -> Self {
        Self(Arc::new(Semaphore::new((octets / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// So many octets, rounded up to KiB, or none when there are not so many left.
    pub(super) fn ask(&self, octets: usize) -> Option<Grant> {
        let units = u32::try_from(octets.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(units).ok().map(Grant)
    }

    /// Octets that can be granted.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.available_permits() * UNIT
    }
}

impl Grant {
    /// How many octets were granted.
    pub(super) fn octets(&self) -> usize {
        self.0.num_permits().saturating_mul(UNIT)
    }

    /// Gives back what is beyond so many octets.
    pub(super) fn keep(&mut self, octets: usize) {
        drop(self.0.split(self.0.num_permits().saturating_sub(octets.div_ceil(UNIT))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_comes_back_in_part_and_whole() {
        let allowance = Allowance::new(10 * UNIT + 5);
        assert_eq!(allowance.left(), 10 * UNIT);
        let mut grant = allowance.ask(9 * UNIT + 1).unwrap();
        assert_eq!((grant.octets(), allowance.left()), (10 * UNIT, 0));
        grant.keep(20 * UNIT);
        assert_eq!(allowance.left(), 0);
        grant.keep(5 * UNIT);
        assert!(allowance.ask(5 * UNIT + 1).is_none(), "there is not so much left");
        assert_eq!(allowance.left(), 5 * UNIT, "a refusal takes nothing");
        grant.keep(UNIT + 1);
        assert_eq!((grant.octets(), allowance.left()), (2 * UNIT, 8 * UNIT));
        drop(grant);
        assert_eq!(allowance.left(), 10 * UNIT);
    }
}
