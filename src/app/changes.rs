//! Files that the configuration is made of, and whether one of them changed: the file itself, certificates, keys and
//! authorities.
//!
//! They are looked at every few seconds and not watched for events: a file that is replaced by rename, reached over a
//! symbolic link that is turned (as Kubernetes and certbot do) or kept on a network would escape those. A change counts once
//! it has held still for one look, so that a file is not read while it is written.

use crate::config::Config;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells one state of a file from another; none for a file that is not there.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// The files as they were when they were last read.
pub(super) struct Changes {
    file: PathBuf,
    read: BTreeMap<PathBuf, Mark>,
    seen: BTreeMap<PathBuf, Mark>,
}

impl Changes {
    /// What the file is before it is read for the first time. Blocks on the disk.
    pub(super) fn of(file: &Path) -> Self {
        let read: BTreeMap<_, _> = [(file.to_owned(), mark(file))].into();
        Self { file: file.to_owned(), seen: read.clone(), read }
    }

    /// The files are about to be read: later states are compared with those of now. Blocks on the disk.
    pub(super) fn begin_reading(&mut self) {
        self.read = self.read.keys().map(|path| (path.clone(), mark(path))).collect();
        self.seen = self.read.clone();
    }

    /// They were read, and these are in use from now on. Blocks on the disk.
    pub(super) fn note_files(&mut self, config: &Config) {
        let files = std::iter::once(self.file.clone()).chain(config.files());
        // Those that were known keep the state from before the reading: what came meanwhile is a change.
        let known = |path: PathBuf| {
            let state = self.read.get(&path).copied().unwrap_or_else(|| mark(&path));
            (path, state)
        };
        self.read = files.map(known).collect();
        self.seen = self.read.clone();
    }

    /// The next change. May be dropped and called again.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let paths: Vec<_> = self.read.keys().cloned().collect();
            let look = move || paths.into_iter().map(|path| (path.clone(), mark(&path))).collect();
            let Ok(now) = tokio::task::spawn_blocking(look).await else { continue };
            let still = std::mem::replace(&mut self.seen, now) == self.seen;
            if still && self.seen != self.read {
                self.read = self.seen.clone();
                return;
            }
        }
    }
}

fn mark(path: &Path) -> Mark {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;

    fn config(place: &Path) -> (PathBuf, Config) {
        let file = place.join("config.toml");
        std::fs::copy("config/journal-relay.toml", &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let machine = Machine { hostname: "relay.example.org".to_owned(), stderr_is_terminal: false };
        (file.clone(), Config::parse(&text, &file, &machine).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_when_it_holds_still() {
        let place = tempfile::tempdir().unwrap();
        let (file, config) = config(place.path());
        let mut changes = Changes::of(&file);
        changes.note_files(&config);
        // Replaced by rename, with the same content.
        let new = place.path().join("new");
        std::fs::copy(&file, &new).unwrap();
        std::fs::rename(&new, &file).unwrap();
        changes.next().await;
        assert_eq!(changes.read, changes.seen);
        std::fs::remove_file(&file).unwrap();
        changes.next().await;
        assert_eq!(changes.read.get(&file), Some(&None), "a file that is gone is a change, too");
    }
}
