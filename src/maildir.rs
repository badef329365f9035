//! A maildir: one file per message, complete in `new/` or not there at all (<https://cr.yp.to/proto/maildir.html>).
//!
//! Floor 3. Octets are kept as they are given, CRLF included. A delivery writes to `tmp/`, syncs, and moves the file to
//! `new/`; when [`Delivery::finish`] has returned a name, file and directory entry are on the disk. A delivery that is
//! dropped before leaves nothing behind. Directories are made with mode 0700, files with 0600. What is in a message is
//! not looked at, and nothing is ever read back.

use crate::clock::{self, SharedClock};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::fs::{DirBuilder, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// How many names are tried when files with such names exist.
const MAX_NAMES: usize = 100;

/// Deliveries of this process, so that no two have one name.
static DELIVERIES: AtomicU64 = AtomicU64::new(0);

/// A directory with `tmp`, `new` and `cur`, made when the first delivery needs it.
#[derive(Clone)]
pub struct Maildir {
    path: PathBuf,
    host: String,
    clock: SharedClock,
}

impl Maildir {
    /// The maildir at `path`. Touches nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { path: path.into(), host: escape_host(&host), clock: clock::system() }
    }

    /// The same, with names made from the time of `clock`.
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a delivery, making the directories where they lack.
    pub async fn begin(&self) -> io::Result<Delivery> {
        self.make_directories().await.map_err(|error| named(&self.path, &error))?;
        for _ in 0..MAX_NAMES {
            let name = self.next_name();
            let temporary = self.path.join("tmp").join(&name);
            let target = self.path.join("new").join(&name);
            if tokio::fs::try_exists(&target).await? {
                continue;
            }
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).await {
                Ok(file) => return Ok(Delivery { file, name, temporary: Temporary(Some(temporary)), target }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(named(&temporary, &error)),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: no free name", self.path.display())))
    }

    /// Whether it is there and takes a delivery: one is begun and given up. False where it will be made at the first one.
    pub async fn is_writable(&self) -> io::Result<bool> {
        if !tokio::fs::try_exists(self.path.join("tmp")).await? {
            return Ok(false);
        }
        self.begin().await.map(|_| true)
    }

    async fn make_directories(&self) -> io::Result<()> {
        let mut made = false;
        for part in ["tmp", "new", "cur"] {
            let directory = self.path.join(part);
            if !tokio::fs::try_exists(&directory).await? {
                DirBuilder::new().recursive(true).mode(0o700).create(&directory).await?;
                made = true;
            }
        }
        if made {
            // A synced file in a directory whose own entry is lost would be lost too.
            sync_directory(&self.path).await?;
            if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_directory(parent).await?;
            }
        }
        Ok(())
    }

    /// `time.MmicrosecondsPprocessQdelivery.host`
    fn next_name(&self) -> String {
        let millis = self.clock.now().as_millis();
        let (seconds, micros) = (millis.div_euclid(1000), millis.rem_euclid(1000) * 1000);
        let delivery = DELIVERIES.fetch_add(1, Ordering::Relaxed);
        format!("{seconds}.M{micros}P{}Q{delivery}.{}", std::process::id(), self.host)
    }
}

impl std::fmt::Debug for Maildir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Maildir({})", self.path.display())
    }
}

/// A message on its way into a maildir. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct Delivery {
    file: File,
    name: String,
    temporary: Temporary,
    target: PathBuf,
}

impl Delivery {
    /// Appends octets.
    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets).await.map_err(|error| self.temporary.named(&error))
    }

    /// Puts the message into `new/`, durably; gives its file name. After an error it is not there.
    pub async fn finish(mut self) -> io::Result<String> {
        self.file.flush().await.map_err(|error| self.temporary.named(&error))?;
        self.file.sync_all().await.map_err(|error| self.temporary.named(&error))?;
        let Some(temporary) = self.temporary.0.as_deref() else { return Ok(self.name) };
        tokio::fs::rename(temporary, &self.target).await.map_err(|error| named(&self.target, &error))?;
        self.temporary.0 = None;
        if let Some(directory) = self.target.parent()
            && let Err(error) = sync_directory(directory).await
        {
            // Whoever is told of a failure tries again; a second copy would be wrong.
            let _ = tokio::fs::remove_file(&self.target).await;
            return Err(named(directory, &error));
        }
        Ok(self.name)
    }
}

/// A file that goes away unless its path is taken out.
#[derive(Debug)]
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn named(&self, error: &io::Error) -> io::Error {
        self.0.as_deref().map_or_else(|| io::Error::from(error.kind()), |path| named(path, error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes the entries of a directory durable.
async fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path).await?.sync_all().await
}

/// The error with the path it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A host name as a part of a file name: a slash or a colon would mean something else there.
fn escape_host(host: &str) -> String {
    host.replace('/', "\\057").replace(':', "\\072")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::mail::Timestamp;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    struct Stopped;
    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_794_304_800_123)
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_message_appears_whole_and_only_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Maildir::new(directory.path().join("deep/box"));
        let mut delivery = maildir.begin().await.unwrap();
        delivery.write(b"a: b\r\n\r\n.dot\r\n").await.unwrap();
        delivery.write(b"\0\xff no end").await.unwrap();
        assert!(names(&maildir.path().join("new")).is_empty());
        let name = delivery.finish().await.unwrap();
        let file = maildir.path().join("new").join(&name);
        assert_eq!(std::fs::read(&file).unwrap(), b"a: b\r\n\r\n.dot\r\n\0\xff no end");
        assert!(names(&maildir.path().join("tmp")).is_empty());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for part in ["", "tmp", "new", "cur"] {
            let mode = std::fs::metadata(maildir.path().join(part)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{part:?}");
        }
    }

    #[tokio::test]
    async fn a_delivery_that_is_dropped_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Maildir::new(directory.path());
        let mut delivery = maildir.begin().await.unwrap();
        delivery.write(b"half a message").await.unwrap();
        assert_eq!(names(&directory.path().join("tmp")).len(), 1);
        drop(delivery);
        assert!(names(&directory.path().join("tmp")).is_empty());
        assert!(names(&directory.path().join("new")).is_empty());
    }

    #[tokio::test]
    async fn deliveries_of_one_moment_have_different_names() {
        let directory = tempfile::tempdir().unwrap();
        let maildir = Maildir::new(directory.path()).with_clock(Arc::new(Stopped));
        let (one, two) = (maildir.begin().await.unwrap(), maildir.begin().await.unwrap());
        let (one, two) = (one.finish().await.unwrap(), two.finish().await.unwrap());
        assert_ne!(one, two);
        assert!(one.starts_with(&format!("1794304800.M123000P{}Q", std::process::id())), "{one}");
        assert_eq!(names(&directory.path().join("new")).len(), 2);
    }

    #[test]
    fn a_host_cannot_lead_elsewhere() {
        assert_eq!(escape_host("a/b:c"), "a\\057b\\072c");
    }

    #[tokio::test]
    async fn an_error_names_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Maildir::new(&file).begin().await.unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
