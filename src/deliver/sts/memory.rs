//! Where policies are kept across restarts: a file beside the spool.
//!
//! It holds nothing that a lost record could hang on, so it is no part of the spool's database: a file that is lost or damaged
//! means that policies are fetched again.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// Octets that are kept, and read back.
pub(super) const MAX_OCTETS: usize = 64 * 1024 * 1024;

/// A result that comes later.
pub type Saved = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Keeps octets across restarts.
pub trait PolicyMemory: Send + Sync + 'static {
    /// What was kept last; none at the first start. May block.
    fn recall(&self) -> io::Result<Option<Vec<u8>>>;

    /// Keeps these instead: after a crash either they are there or what was there before.
    fn keep(&self, octets: Vec<u8>) -> Saved;
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoMemory;

impl PolicyMemory for NoMemory {
    fn recall(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn keep(&self, _: Vec<u8>) -> Saved {
        Box::pin(async { Ok(()) })
    }
}

/// A file of this machine, for its owner alone.
#[derive(Debug, Clone)]
pub struct FileMemory {
    path: PathBuf,
}

impl FileMemory {
    /// `mta-sts.json` in this directory.
    pub fn within(directory: &Path) -> Self {
        Self { path: directory.join("mta-sts.json") }
    }
}

impl PolicyMemory for FileMemory {
    fn recall(&self) -> io::Result<Option<Vec<u8>>> {
        let mut octets = Vec::new();
        match File::open(&self.path).and_then(|file| file.take(MAX_OCTETS as u64).read_to_end(&mut octets)) {
            Ok(_) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep(&self, octets: Vec<u8>) -> Saved {
        let path = self.path.clone();
        Box::pin(async move { tokio::task::spawn_blocking(move || write(&path, &octets)).await? })
    }
}

fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn what_was_kept_last_is_recalled_and_is_its_owner_s_alone() {
        let directory = tempfile::tempdir().unwrap();
        let memory = FileMemory::within(directory.path());
        assert_eq!(memory.recall().unwrap(), None);
        memory.keep(b"one and more".to_vec()).await.unwrap();
        memory.keep(b"two".to_vec()).await.unwrap();
        assert_eq!(FileMemory::within(directory.path()).recall().unwrap(), Some(b"two".to_vec()));
        let file = directory.path().join("mta-sts.json");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
