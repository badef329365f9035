//! The relay's disk, and the spool on it: over kills and losses of power the next life finds what the one before left.

use super::clock::SimClock;
use super::dice::Dice;
use super::disk::{Aftermath, Fault, SimulatedDisk};
use super::trace::Trace;
use journal_relay::config::Config;
use journal_relay::spool::{EmbeddedSpool, FrontBounds, Options, Spool, SpoolError};
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// Where a world's disk begins.
const ROOT: &str = "/disk";

/// An open spool, and what start-up found: records, and those of unknown outcome.
pub type Opened = (Arc<dyn Spool>, (u64, u64));

/// The disk of one world. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

struct Inner {
    disk: SimulatedDisk,
    /// How much stays in front of the database.
    front: FrontBounds,
    dice: Dice,
    /// Operations of the lives before.
    operations: u64,
    /// Files that a process of them synced again after a sync of its own had failed.
    synced_again: Vec<PathBuf>,
}

impl Store {
    pub fn new(mut dice: Dice, trace: Trace) -> Self {
        let disk = SimulatedDisk::new(ROOT, dice.draw());
        let front = if dice.draw().is_multiple_of(2) { super::disk::work::NARROW } else { FrontBounds::default() };
        Self {
            inner: Arc::new(Mutex::new(Inner { disk, front, dice, operations: 0, synced_again: Vec::new() })),
            trace,
        }
    }

    /// Opens the spool.
    pub fn open(&self, config: &Config, clock: &SimClock) -> Result<Opened, SpoolError> {
        let options = Options {
            disk: self.disk().shared(),
            clock: Arc::new(clock.clone()),
            message_uuid: journal_relay::journal::message_uuid,
            keep_history: config.retry.give_up,
            checkpoint_pages: 200,
            inline_limit: super::disk::work::INLINE,
            front: self.inner().front,
        };
        let (spool, recovered) = EmbeddedSpool::open(&config.spool.path, options)?;
        Ok((Arc::new(spool), (recovered.records, recovered.unknown)))
    }

    /// Something goes wrong so many operations from now.
    pub fn plan(&self, in_operations: u64, fault: Fault) {
        let disk = self.disk();
        disk.plan(disk.operations() + in_operations, fault);
    }

    pub fn set_full(&self, is_full: bool) {
        let disk = self.disk();
        if is_full {
            disk.plan_full(disk.operations()..u64::MAX);
        } else {
            disk.clear();
        }
    }

    /// The machine's power is gone.
    pub fn cut_power(&self) {
        self.disk().cut_power();
    }

    pub fn has_no_power(&self) -> bool {
        self.disk().is_dead()
    }

    /// No directory can be synced before the machine starts again.
    pub fn is_stopped(&self) -> bool {
        self.disk().is_stopped()
    }

    /// The power is back.
    pub fn after_power_cut(&self) {
        let mut inner = self.inner();
        let seed = inner.dice.draw();
        let aftermath = match inner.dice.between(0, 4) {
            0 => Aftermath::Lost,
            1 => Aftermath::Kept,
            2 => Aftermath::Mixed(seed),
            _ => Aftermath::Torn(seed),
        };
        self.trace.note(format!("the disk comes back: {aftermath:?}"));
        self.next_life(&mut inner, |disk| disk.after_power_cut(aftermath));
    }

    /// The program is gone, the machine isn't.
    pub fn after_kill(&self) {
        self.next_life(&mut self.inner(), SimulatedDisk::after_kill);
    }

    /// The program has ended in order.
    pub fn after_end(&self) {
        self.disk().forget_failed_syncs();
    }

    /// Every operation goes into the trace, when a life ends.
    fn next_life(&self, inner: &mut Inner, next: impl FnOnce(&SimulatedDisk) -> SimulatedDisk) {
        inner.operations += inner.disk.operations();
        self.note_operations(&inner.disk);
        inner.synced_again.extend(inner.disk.synced_again());
        inner.disk = next(&inner.disk);
    }

    /// The same at the end of a world; operations of all lives.
    pub fn finish(&self) -> u64 {
        let inner = self.inner();
        self.note_operations(&inner.disk);
        inner.operations + inner.disk.operations()
    }

    /// Files that a process synced again after a sync of its own had failed.
    pub fn synced_again(&self) -> Vec<String> {
        let inner = self.inner();
        inner.synced_again.iter().chain(&inner.disk.synced_again()).map(|path| path.display().to_string()).collect()
    }

    fn note_operations(&self, disk: &SimulatedDisk) {
        let mut hasher = DefaultHasher::new();
        disk.log().iter().for_each(|operation| hasher.write(operation.to_string().as_bytes()));
        self.trace.note(format!("the disk did {} operations, sum {:x}", disk.operations(), hasher.finish()));
    }

    fn disk(&self) -> SimulatedDisk {
        self.inner().disk.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}
