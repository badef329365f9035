//! One daemon for each spool: an exclusive lock on the file `lock`, which names its process.
//!
//! The operating system releases the lock with the process, however it ends. A command beside the daemon takes it shared
//! for a moment to learn whether a daemon runs.

use crate::spool::SpoolError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The file's name in the spool's directory.
const LOCK: &str = "lock";
/// A command holds the lock for a moment only: so often a starting daemon asks …
const TRIES: u32 = 20;
/// … and so long it waits in between.
const BETWEEN: Duration = Duration::from_millis(50);

/// Takes the lock for a daemon and writes the process's number into the file. It is held until the file is closed.
pub(super) fn exclusive(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.join(LOCK);
    let unusable = |error: std::io::Error| SpoolError::Unusable(format!("{}: {error}", path.display()));
    let mut file = open(&path).map_err(unusable)?;
    for attempt in 1..=TRIES {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) if attempt < TRIES => std::thread::sleep(BETWEEN),
            Err(TryLockError::WouldBlock) => return Err(taken(&mut file, directory)),
        }
    }
    write_process(&mut file).map_err(unusable)?;
    Ok(file)
}

/// Whether a daemon has the lock. Looks alone: a file that whoever asks would make is one that the daemon can't open, perhaps.
pub(super) fn is_taken(directory: &Path) -> std::io::Result<bool> {
    let file = match File::open(directory.join(LOCK)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_process(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn taken(file: &mut File, directory: &Path) -> SpoolError {
    let mut process = String::new();
    // Its content is for people; without it the refusal stands all the same.
    let _ = file.take(32).read_to_string(&mut process);
    let process = if process.trim().is_empty() { "unknown" } else { process.trim() };
    SpoolError::Unusable(format!("{} is in use by another daemon (process {process})", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_daemon_leaves_nothing_where_none_has_been() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_taken(directory.path()).unwrap());
        assert!(!is_taken(&directory.path().join("not there")).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let held = exclusive(directory.path()).unwrap();
        assert!(is_taken(directory.path()).unwrap());
        drop(held);
        assert!(!is_taken(directory.path()).unwrap());
    }
}
