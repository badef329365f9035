//! Who comes beside a daemon's spool: what is being sent there is the daemon's, if one runs.

use crate::spool::SpoolError;
use crate::spool::disk::SharedDisk;
use std::path::PathBuf;

/// A place beside the daemon, if there is one.
pub(super) struct Beside {
    pub(super) disk: SharedDisk,
    pub(super) directory: PathBuf,
}

impl Beside {
    /// Whether no daemon runs: then what is being sent waits in truth. Asked within the transaction that relies on it: a
    /// daemon that starts meanwhile writes behind it.
    pub(super) fn is_daemonless(&self) -> Result<bool, SpoolError> {
        let taken = self.disk.is_locked(&self.directory);
        taken.map(|taken| !taken).map_err(|error| SpoolError::Failing(format!("{}: {error}", self.directory.display())))
    }
}
