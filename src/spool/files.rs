//! The octets of large messages, each in a file of its own: `octets/<last two letters of the id>/<id>`.
//!
//! A file is written while the octets arrive and removed again unless somebody keeps it, so that whatever goes wrong before
//! a message is durable leaves nothing. Its name is durable before it counts: file, directory and the directory above are
//! synced. All functions block; callers run them where blocking is allowed.

use super::SpoolError;
use crate::mail::QueueId;
use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Letters of an id that name its directory: the last ones, drawn by chance, spread the files.
const SHELF_LETTERS: usize = 2;

/// The directory of octet files.
#[derive(Debug)]
pub(super) struct OctetStore {
    directory: PathBuf,
    /// Directories below that are known to be durable.
    shelves: Mutex<HashSet<PathBuf>>,
}

impl OctetStore {
    /// The store in `directory`, which is made when it is missing.
    pub(super) fn open(directory: PathBuf) -> io::Result<Arc<Self>> {
        make_directory(&directory)?;
        let mut shelves = HashSet::new();
        for entry in std::fs::read_dir(&directory)? {
            shelves.insert(entry?.path());
        }
        sync_directory(&directory)?;
        Ok(Arc::new(Self { directory, shelves: Mutex::new(shelves) }))
    }

    /// Where the octets of `queue_id` are.
    pub(super) fn path(&self, queue_id: QueueId) -> PathBuf {
        let id = queue_id.as_str();
        let shelf = id.get(id.len().saturating_sub(SHELF_LETTERS)..).unwrap_or_default();
        self.directory.join(shelf).join(id)
    }

    /// A new file for `queue_id`.
    pub(super) fn create(&self, queue_id: QueueId) -> io::Result<OctetFile> {
        let path = self.path(queue_id);
        if let Some(shelf) = path.parent() {
            self.make_shelf(shelf)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(OctetFile { file, path, kept: AtomicBool::new(false) })
    }

    /// Removes the file of `queue_id`. One that can't be removed is found again by the next start.
    pub(super) fn remove(&self, queue_id: QueueId) {
        let path = self.path(queue_id);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "the octets of a message that is over could not be removed");
        }
    }

    /// Calls `visit` with every file's name and path.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, &Path)) -> io::Result<()> {
        for shelf in std::fs::read_dir(&self.directory)? {
            let shelf = shelf?;
            if !shelf.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(shelf.path())? {
                let file = file?;
                if let Some(name) = file.file_name().to_str() {
                    visit(name, &file.path());
                }
            }
        }
        Ok(())
    }

    /// One thread at a time, so that nobody relies on a directory that another has made and not synced yet.
    fn make_shelf(&self, shelf: &Path) -> io::Result<()> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if !shelves.contains(shelf) {
            make_directory(shelf)?;
            sync_directory(&self.directory)?;
            shelves.insert(shelf.to_owned());
        }
        Ok(())
    }
}

/// A file being written. Dropped before it is kept, it is removed.
#[derive(Debug)]
pub(super) struct OctetFile {
    file: File,
    path: PathBuf,
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
        self.file.write_all(octets)
    }

    /// Makes the octets and the name durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.path.parent().map_or(Ok(()), sync_directory)
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
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a directory for its owner alone (0700), with the directories above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What an error of the file system means for the caller.
pub(super) fn file_error(what: &str, error: &io::Error) -> SpoolError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::Full(format!("{what}: {error}")),
        _ => SpoolError::Failing(format!("{what}: {error}")),
    }
}
