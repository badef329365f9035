//! A message's octets on their way in, and at rest.
//!
//! Small messages stay in memory until they are stored inline; larger ones go to a file of the spool piece by piece, so
//! that memory does not grow with a message. What makes them durable is [`Spool::prepare`](super::Spool::prepare).

use super::SpoolError;
use super::disk::{ReadFile, SharedDisk, run};
use super::files::{OctetFile, OctetStore, file_error};
use crate::mail::QueueId;
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Octets of a message that is stored inline; what is larger goes to a file.
pub const INLINE_LIMIT: usize = 128 * 1024;
/// Octets gathered in memory before they are written to the file.
const WRITE_CHUNK: usize = 256 * 1024;
/// Octets of the pieces that [`Octets::chunks`] gives.
pub const READ_CHUNK: usize = 64 * 1024;

/// Where the octets of one message gather while they arrive: up to a limit in memory, beyond it in a file of the spool.
/// Dropped unprepared, it leaves nothing behind.
#[derive(Debug)]
pub struct Intake {
    queue_id: QueueId,
    /// None: all octets stay in memory.
    store: Option<Arc<OctetStore>>,
    /// Octets of a message that is stored inline.
    inline_limit: usize,
    /// What is not in the file yet; never more than [`WRITE_CHUNK`] with a store.
    buffer: Vec<u8>,
    file: Written,
    length: u64,
}

/// What the file has.
#[derive(Debug)]
enum Written {
    Nothing,
    Some(OctetFile),
    /// A write failed or was given up halfway: the octets are no longer whole.
    Broken,
}

/// Octets that wait for their row.
#[derive(Debug)]
pub(super) enum Gathered {
    Inline(Bytes),
    /// Synced.
    File(OctetFile),
}

impl Intake {
    /// An intake that keeps all in memory.
    pub(super) fn in_memory(queue_id: QueueId) -> Self {
        let inline_limit = INLINE_LIMIT;
        Self { queue_id, store: None, inline_limit, buffer: Vec::new(), file: Written::Nothing, length: 0 }
    }

    /// An intake whose large messages go to `store`.
    pub(super) fn with_store(queue_id: QueueId, store: Arc<OctetStore>) -> Self {
        Self { store: Some(store), ..Self::in_memory(queue_id) }
    }

    /// The same, which has messages of up to so many octets stored inline; at most 256 KiB, which gather in memory anyway.
    pub(super) fn inline_up_to(self, octets: usize) -> Self {
        Self { inline_limit: octets.min(WRITE_CHUNK), ..self }
    }

    /// The relayed message.
    pub fn queue_id(&self) -> QueueId {
        self.queue_id
    }

    /// Octets taken so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes more octets. Waits only where 256 KiB are full and go to the file; needs tokio's runtime then.
    ///
    /// # Errors
    /// [`SpoolError::Full`] or [`SpoolError::Failing`] from the file. After an error, or when the future was dropped before
    /// its end, the message can't be prepared any more.
    pub async fn append(&mut self, mut octets: &[u8]) -> Result<(), SpoolError> {
        self.length = self.length.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if self.store.is_none() {
            self.buffer.extend_from_slice(octets);
            return Ok(());
        }
        loop {
            let room = WRITE_CHUNK.saturating_sub(self.buffer.len());
            let Some((now, later)) = octets.split_at_checked(room) else {
                self.buffer.extend_from_slice(octets);
                return Ok(());
            };
            self.buffer.extend_from_slice(now);
            octets = later;
            self.write_out(false).await?;
        }
    }

    /// Ends the message: small octets as they are, large ones in their synced file.
    pub(super) async fn finish(mut self) -> Result<Gathered, SpoolError> {
        let inline = self.store.is_none() || self.buffer.len() <= self.inline_limit;
        if matches!(self.file, Written::Nothing) && inline {
            return Ok(Gathered::Inline(Bytes::from(std::mem::take(&mut self.buffer))));
        }
        self.write_out(true).await?;
        match std::mem::replace(&mut self.file, Written::Broken) {
            Written::Some(file) => Ok(Gathered::File(file)),
            Written::Nothing | Written::Broken => Err(broken()),
        }
    }

    /// Writes the buffer to the file. While it is written the intake counts as broken, so that a future dropped halfway
    /// can't leave a message with a hole.
    async fn write_out(&mut self, last: bool) -> Result<(), SpoolError> {
        let Some(store) = self.store.clone() else { return Err(broken()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let (queue_id, written) = (self.queue_id, std::mem::replace(&mut self.file, Written::Broken));
        let disk = Arc::clone(store.disk());
        let write = move || -> io::Result<(OctetFile, Vec<u8>)> {
            let mut file = match written {
                Written::Nothing => store.create(queue_id)?,
                Written::Some(file) => file,
                Written::Broken => return Err(io::Error::other("an earlier write failed")),
            };
            file.write(&buffer)?;
            if last {
                file.sync()?;
            }
            buffer.clear();
            Ok((file, buffer))
        };
        let done = run(&*disk, write).await.ok_or_else(broken)?;
        let (file, buffer) = done.map_err(|error| file_error("the octets could not be written", &error))?;
        self.file = Written::Some(file);
        self.buffer = buffer;
        Ok(())
    }
}

fn broken() -> SpoolError {
    SpoolError::Failing("the octets of the message are not whole".to_owned())
}

/// The octets of a message at rest. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Octets {
    /// A small message's.
    Inline(Bytes),
    /// A large message's, in a file of the spool.
    File {
        /// Where the file is.
        disk: SharedDisk,
        /// The file.
        path: PathBuf,
        /// Its octets.
        length: u64,
    },
}

impl Octets {
    /// How many there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(octets) => u64::try_from(octets.len()).unwrap_or(u64::MAX),
            Self::File { length, .. } => *length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The octets in pieces of 64 KiB at most. Blocks on the file: for `spawn_blocking` and commands.
    ///
    /// # Errors
    /// When the file can't be opened. A piece is an error when it can't be read or the file is shorter than it was: a
    /// message cut off is never taken for a whole one.
    pub fn chunks(&self) -> io::Result<Chunks> {
        Ok(match self {
            Self::Inline(octets) => Chunks { source: Source::Inline(octets.clone()), left: self.len() },
            Self::File { disk, path, length } => Chunks { source: Source::File(disk.open(path)?), left: *length },
        })
    }

    /// All octets at once, for small messages and commands. Blocks.
    ///
    /// # Errors
    /// As [`chunks`](Self::chunks).
    pub fn read_all(&self) -> io::Result<Bytes> {
        if let Self::Inline(octets) = self {
            return Ok(octets.clone());
        }
        let mut all = Vec::new();
        for chunk in self.chunks()? {
            all.extend_from_slice(&chunk?);
        }
        Ok(Bytes::from(all))
    }
}

/// Octets in pieces; ends after the first error.
#[derive(Debug)]
pub struct Chunks {
    source: Source,
    left: u64,
}

#[derive(Debug)]
enum Source {
    Inline(Bytes),
    File(Box<dyn ReadFile>),
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(READ_CHUNK);
        let chunk = match &mut self.source {
            Source::Inline(octets) => Ok(octets.split_to(size.min(octets.len()))),
            Source::File(file) => {
                let mut chunk = vec![0; size];
                file.read_exact(&mut chunk).map(|()| Bytes::from(chunk))
            }
        };
        self.left = match &chunk {
            Ok(chunk) => self.left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX)),
            Err(_) => 0,
        };
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{OsEntropy, Timestamp};
    use crate::spool::disk::system;
    use crate::spool::reserve::Reserve;
    use proptest::prelude::*;

    fn queue_id() -> QueueId {
        QueueId::new(Timestamp::from_millis(1_794_304_800_000), &OsEntropy)
    }

    fn store() -> (tempfile::TempDir, Arc<OctetStore>) {
        let directory = tempfile::tempdir().unwrap();
        let store =
            OctetStore::open(system(), directory.path().join("octets"), Reserve::beside(system(), directory.path()))
                .unwrap();
        (directory, store)
    }

    fn files(store: &OctetStore) -> Vec<PathBuf> {
        let mut found = Vec::new();
        store.each(|_, path| found.push(path.to_owned())).unwrap();
        found
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn octets_come_back_as_they_came_however_they_are_cut(
            pieces in prop::collection::vec((any::<u8>(), prop::sample::select(vec![0, 1, 1000, 32_767, 65_537, 300_000])), 0..7)
        ) {
            let (_directory, store) = store();
            let expected: Vec<u8> = pieces.iter().flat_map(|(octet, count)| vec![*octet; *count]).collect();
            let mut intake = Intake::with_store(queue_id(), Arc::clone(&store));
            let gathered = run(async {
                for (octet, count) in &pieces {
                    intake.append(&vec![*octet; *count]).await.unwrap();
                    assert!(intake.buffer.capacity() <= 2 * WRITE_CHUNK, "memory grows with the message");
                }
                assert_eq!(intake.len(), expected.len() as u64);
                intake.finish().await.unwrap()
            });
            let length = expected.len() as u64;
            let octets = match &gathered {
                Gathered::Inline(octets) => Octets::Inline(octets.clone()),
                Gathered::File(file) => Octets::File { disk: system(), path: file.path().to_owned(), length },
            };
            prop_assert_eq!(matches!(octets, Octets::Inline(_)), expected.len() <= INLINE_LIMIT);
            prop_assert!(octets.chunks().unwrap().all(|chunk| chunk.unwrap().len() <= READ_CHUNK));
            prop_assert_eq!(octets.read_all().unwrap(), expected);
        }
    }

    #[test]
    fn what_is_dropped_unprepared_leaves_no_file() {
        let (_directory, store) = store();
        run(async {
            let mut intake = Intake::with_store(queue_id(), Arc::clone(&store));
            intake.append(&vec![b'x'; WRITE_CHUNK + 1]).await.unwrap();
            assert_eq!(files(&store).len(), 1);
            drop(intake);
            assert!(files(&store).is_empty());
        });
    }

    #[test]
    fn an_append_given_up_halfway_breaks_the_message_and_leaves_no_file() {
        let (_directory, store) = store();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut intake = Intake::with_store(queue_id(), Arc::clone(&store));
            {
                let piece = vec![b'x'; WRITE_CHUNK];
                let mut append = std::pin::pin!(intake.append(&piece));
                // Polled once: the write is under way, and then nobody wants it any more.
                assert!(
                    std::future::poll_fn(|context| std::task::Poll::Ready(append.as_mut().poll(context)))
                        .await
                        .is_pending()
                );
            }
            assert!(matches!(intake.finish().await, Err(SpoolError::Failing(_))));
        });
        // Waits for the blocking write.
        drop(runtime);
        assert!(files(&store).is_empty());
    }

    #[test]
    fn a_file_cut_short_is_an_error_and_not_a_short_message() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut");
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        let octets = Octets::File { disk: system(), path, length: 80_000 };
        assert_eq!(octets.read_all().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
