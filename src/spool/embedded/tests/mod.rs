//! What the embedded spool promises beyond the trait: crashes, full and failing disks, other processes, history.

mod agreement;
mod damage;
mod failures;
mod neighbours;
mod restarts;
mod savepoints;
mod upgrade;

use super::steps::{Step, StepError};
use super::*;
use crate::spool::Recovered;
use crate::spool::disk::{SystemDisk, system};
use crate::spool::fixtures::Prepared;
use crate::spool::fixtures::*;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

/// An embedded spool in a directory that outlives it.
pub(super) struct House {
    pub(super) world: World,
    pub(super) spool: EmbeddedSpool,
}

impl House {
    pub(super) fn new() -> Self {
        let clock = HandClock::new();
        Self::open(tempfile::tempdir().unwrap(), clock).0
    }

    pub(super) fn open(directory: tempfile::TempDir, clock: Arc<HandClock>) -> (Self, Recovered) {
        let (spool, recovered) = EmbeddedSpool::open(&directory.path().join("spool"), options(&clock)).unwrap();
        let world = World { spool: Arc::new(spool.clone()), clock, directory };
        (Self { world, spool }, recovered)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.world.directory.path().join("spool")
    }

    /// What a kill would leave: a copy of the directory as it is now, opened.
    pub(super) fn killed(&self) -> (Self, Recovered) {
        let copy = self.copy();
        Self::open(copy, Arc::clone(&self.world.clock))
    }

    pub(super) fn copy(&self) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        copy_all(&self.path(), &directory.path().join("spool"));
        directory
    }

    /// Runs statements in the writer's transaction.
    pub(super) async fn sql(&self, text: &'static str) -> Result<(), SpoolError> {
        self.step(move |step| Ok(step.db.execute_batch(text)?)).await
    }

    pub(super) fn step<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Step<'_>) -> Result<T, StepError> + Send + 'static,
    ) -> Pending<T> {
        self.spool.writer.call(0, step, |_, _| {})
    }

    /// Makes the writer busy until the sender is used or dropped; it is busy when this returns, so that what is asked from
    /// then on gathers behind it.
    pub(super) fn occupy(&self) -> (mpsc::Sender<()>, Pending<()>) {
        let ((release, released), (tell, begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let mut released = Some(released);
        let mut busy = self.step(move |_| {
            let _ = tell.send(());
            // A batch may be taken more than once.
            let _ = released.take().map(|released| released.recv());
            Ok(())
        });
        assert!(busy.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        begun.recv().unwrap();
        (release, busy)
    }

    /// The names of all octet files.
    pub(super) fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.spool.store.each(|name, _| names.push(name.to_owned())).unwrap();
        names.sort();
        names
    }

    /// Prepares and decides a message whose octets go to a file.
    pub(super) async fn relay_large(&self, message: &Message) -> Prepared {
        let prepared = self.world.prepare(message, &[b'x'; LARGE]).await.unwrap();
        self.spool.decide(prepared.queue_id, Verdict::Accepted).await.unwrap();
        prepared
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
