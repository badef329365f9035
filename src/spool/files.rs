//! The octets of messages that are not stored inline, large ones above all, each in a file of its own: `octets/<last two letters of the id>/<id>`.
//!
//! A file is written while the octets arrive and removed again unless somebody keeps it, so that whatever goes wrong before
//! a message is durable leaves nothing. Its name is durable before it counts: file, directory and the directory above are
//! synced. All functions block; callers run them where blocking is allowed.

use super::SpoolError;
use super::allowance::Grant;
use super::disk::{Disk, NewFile, SharedDisk};
use super::octets::Octets;
use super::reserve::Reserve;
use crate::mail::QueueId;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Letters of an id that name its directory: the last ones, drawn by chance, spread the files.
const SHELF_LETTERS: usize = 2;

/// The directory of octet files.
#[derive(Debug)]
pub(super) struct OctetStore {
    disk: SharedDisk,
    directory: PathBuf,
    /// Directories below that are known to be durable.
    shelves: Mutex<HashSet<PathBuf>>,
    failed_sync: FailedSync,
    reserve: Arc<Reserve>,
    /// What messages hold that are stored elsewhere, inline.
    held: Mutex<HashMap<QueueId, Arc<Grant>>>,
}

/// The first sync that failed, and why. What the system shows of a file or directory then is not what the disk has, and
/// another sync of it would say yes all the same; so nothing is taken any more before the spool is opened again.
type FailedSync = Arc<OnceLock<String>>;

impl OctetStore {
    /// The store in `directory`, which is made when it is missing.
    pub(super) fn open(disk: SharedDisk, directory: PathBuf, reserve: Reserve) -> io::Result<Arc<Self>> {
        make_if_missing(&*disk, &directory)?;
        let shelves = disk.list(&directory)?.into_iter().map(|entry| directory.join(entry.name)).collect();
        disk.sync_directory(&directory)?;
        let (shelves, failed_sync) = (Mutex::new(shelves), FailedSync::default());
        let (reserve, held) = (Arc::new(reserve), Mutex::default());
        Ok(Arc::new(Self { disk, directory, shelves, failed_sync, reserve, held }))
    }

    /// The room that is held beside the octets.
    pub(super) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Where it is.
    pub(super) fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    /// Where the octets of `queue_id` are.
    pub(super) fn path(&self, queue_id: QueueId) -> PathBuf {
        let id = queue_id.as_str();
        let shelf = id.get(id.len().saturating_sub(SHELF_LETTERS)..).unwrap_or_default();
        self.directory.join(shelf).join(id)
    }

    /// Why nothing is taken any more: a sync that failed.
    pub(super) fn failure(&self) -> Option<SpoolError> {
        self.failed_sync.get().map(|why| SpoolError::Failing(why.clone()))
    }

    /// A new file for `queue_id`.
    pub(super) fn create(&self, queue_id: QueueId) -> io::Result<OctetFile> {
        if let Some(why) = self.failed_sync.get() {
            return Err(io::Error::other(why.clone()));
        }
        may_write(&self.reserve)?;
        let path = self.path(queue_id);
        if let Some(shelf) = path.parent() {
            self.make_shelf(shelf)?;
        }
        let file = self.disk.create(&path)?;
        let (disk, reserve) = (Arc::clone(&self.disk), Arc::clone(&self.reserve));
        let failed_sync = Arc::clone(&self.failed_sync);
        Ok(OctetFile { file, disk, path, failed_sync, reserve, kept: AtomicBool::new(false) })
    }

    /// The octets of `queue_id`, which are `length`.
    pub(super) fn octets(&self, queue_id: QueueId, length: u64) -> Octets {
        Octets::File { disk: Arc::clone(&self.disk), path: self.path(queue_id), length }
    }

    /// Removes the file of `queue_id`. One that can't be removed is found again by the next start.
    pub(super) fn remove(&self, queue_id: QueueId) {
        let path = self.path(queue_id);
        if let Err(error) = self.disk.remove(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(event = "spool.leftover", path = %path.display(), %error, "the octets of a message that is over could not be removed");
        }
    }

    /// The octets of `queue_id` are stored inline, as was granted.
    pub(super) fn hold(&self, queue_id: QueueId, grant: Arc<Grant>) {
        self.held().insert(queue_id, grant);
    }

    /// The octets of `queue_id` are no longer stored.
    pub(super) fn let_go(&self, queue_id: QueueId) {
        self.held().remove(&queue_id);
    }

    /// Lets go those for which `is_over` says so.
    pub(super) fn let_go_if<E>(&self, mut is_over: impl FnMut(QueueId) -> Result<bool, E>) -> Result<(), E> {
        let all: Vec<_> = self.held().keys().copied().collect();
        for queue_id in all {
            if is_over(queue_id)? {
                self.let_go(queue_id);
            }
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<QueueId, Arc<Grant>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `visit` with every file's name and path.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, &Path)) -> io::Result<()> {
        for shelf in self.disk.list(&self.directory)?.into_iter().filter(|entry| entry.is_directory) {
            let shelf = self.directory.join(shelf.name);
            for file in self.disk.list(&shelf)? {
                visit(&file.name, &shelf.join(&file.name));
            }
        }
        Ok(())
    }

    /// One thread at a time, so that nobody relies on a directory that another has made and not synced yet.
    fn make_shelf(&self, shelf: &Path) -> io::Result<()> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if !shelves.contains(shelf) {
            make_if_missing(&*self.disk, shelf)?;
            note(&self.failed_sync, &self.directory, self.disk.sync_directory(&self.directory))?;
            shelves.insert(shelf.to_owned());
        }
        Ok(())
    }
}

/// A file being written. Dropped before it is kept, it is removed.
#[derive(Debug)]
pub(super) struct OctetFile {
    file: Box<dyn NewFile>,
    disk: SharedDisk,
    path: PathBuf,
    failed_sync: FailedSync,
    reserve: Arc<Reserve>,
    kept: AtomicBool,
}

impl OctetFile {
    /// Where it is.
    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds octets at the end.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        may_write(&self.reserve)?;
        self.file.write(octets)
    }

    /// Makes the octets and the name durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        note(&self.failed_sync, &self.path, self.file.sync())?;
        self.path.parent().map_or(Ok(()), |shelf| note(&self.failed_sync, shelf, self.disk.sync_directory(shelf)))
    }

    /// From now on the file stays.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }
}

impl Drop for OctetFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            // One that can't be removed has no row, and goes at the next start.
            let _ = self.disk.remove(&self.path);
        }
    }
}

fn may_write(reserve: &Reserve) -> io::Result<()> {
    reserve.admit().map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))
}

fn note(failed_sync: &FailedSync, path: &Path, synced: io::Result<()>) -> io::Result<()> {
    synced.inspect_err(|error| {
        let _ = failed_sync.set(format!("{} could not be synced: {error}", path.display()));
    })
}

fn make_if_missing(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    match disk.make_directory(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What an error of the file system means for the caller.
pub(super) fn file_error(what: &str, error: &io::Error) -> SpoolError {
    let why = format!("{what}: {error}");
    if is_full(error) { SpoolError::Full(why) } else { SpoolError::Failing(why) }
}

/// Whether there was no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
