//! A message's octets on their way in.
//!
//! Small messages stay in memory until they are stored inline, and those of the middling sort, where there is an
//! [allowance](Allowances) for them; others go to a file of the spool piece by piece, so that memory grows neither with a message nor
//! with the number of them. What makes them durable is [`Spool::prepare`](super::Spool::prepare).

use super::SpoolError;
use super::allowance::{Allowances, Grant};
use super::disk::run;
use super::files::{OctetFile, OctetStore, file_error};
use crate::mail::QueueId;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Octets of a small message. It is stored inline, unless many arrive at a time.
pub const INLINE_LIMIT: usize = 128 * 1024;
/// A message of so many times that is stored inline where there is an allowance for it; what is larger goes to a file.
const MIDDLING: usize = 4;
/// A file is written in pieces of so many times that where there is an allowance for them.
const PIECE: usize = 2;
/// This part of a small message may be in memory without an allowance …
const FREE_PART: usize = 8;
/// … and in any case so many octets.
const LEAST: usize = 1_024;
/// Nobody is believed to send more than so many times what has come: who says so and stops has little.
const BELIEVED: usize = 4;
/// Octets that come besides those that were announced: the relay's own field.
const OWN_OCTETS: u64 = 2_048;

/// Where the octets of one message gather while they arrive: up to a limit in memory, beyond it in a file of the spool.
/// Dropped unprepared, it leaves nothing behind.
#[derive(Debug)]
pub struct Intake {
    queue_id: QueueId,
    /// None: all octets stay in memory.
    store: Option<Arc<OctetStore>>,
    /// Octets of a small message.
    small: usize,
    allowances: Allowances,
    held: Held,
    /// How many octets will come, as far as somebody has said.
    expected: usize,
    /// What is not in the file yet; with a store never more than it has [room](Self::room) for.
    buffer: Vec<u8>,
    file: Written,
    length: u64,
}

/// What was granted for all that is in memory.
#[derive(Debug)]
enum Held {
    Nothing,
    Arriving(Grant),
    Middling(Grant),
}

/// What the file has.
#[derive(Debug)]
enum Written {
    Nothing,
    Some(OctetFile),
    /// A write failed or was given up halfway: the octets are no longer whole.
    Broken,
}

/// A message that has come.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) octets: Gathered,
    /// To be held until they are durable, or elsewhere.
    pub(super) arriving: Option<Grant>,
    /// To be held as long as they are stored inline.
    pub(super) middling: Option<Grant>,
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
        Self {
            queue_id,
            store: None,
            small: INLINE_LIMIT,
            allowances: Allowances::new(0, 0),
            held: Held::Nothing,
            expected: 0,
            buffer: Vec::new(),
            file: Written::Nothing,
            length: 0,
        }
    }

    /// An intake whose large messages go to `store`, as do others that are not allowed what they take of memory. Those of `small`
    /// octets are small.
    pub(super) fn with_store(queue_id: QueueId, store: Arc<OctetStore>, small: usize, allowances: Allowances) -> Self {
        Self { store: Some(store), small, allowances, ..Self::in_memory(queue_id) }
    }

    /// Somebody says that so many octets will come (SIZE of RFC 1870); more or fewer may.
    pub fn announce(&mut self, octets: u64) {
        self.expected = usize::try_from(octets.saturating_add(OWN_OCTETS)).unwrap_or(usize::MAX);
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

    /// Takes more octets. Waits only where they go to the file; needs tokio's runtime then.
    ///
    /// # Errors
    /// [`SpoolError::Full`] or [`SpoolError::Failing`] from the file. After an error, or when the future was dropped before
    /// its end, the message can't be prepared any more.
    pub async fn append(&mut self, mut octets: &[u8]) -> Result<(), SpoolError> {
        self.length = self.length.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        loop {
            let room = self.room().saturating_sub(self.buffer.len());
            let Some((now, later)) = octets.split_at_checked(room).filter(|(_, later)| !later.is_empty()) else {
                self.gather(octets);
                return Ok(());
            };
            if self.ask_for_more(octets.len()) {
                continue;
            }
            self.gather(now);
            octets = later;
            self.write_out(false).await?;
        }
    }

    /// Octets that may be in memory.
    fn room(&self) -> usize {
        if self.store.is_none() {
            return usize::MAX;
        }
        match &self.held {
            Held::Nothing => (self.small / FREE_PART).max(LEAST),
            Held::Arriving(grant) => grant.octets().min(self.small),
            Held::Middling(grant) => grant.octets(),
        }
    }

    /// How many octets will come, where there are so many already: no more than four times that, whatever was said.
    fn expected(&self, come: usize) -> usize {
        self.expected.min(come.saturating_mul(BELIEVED))
    }

    /// Asks for room in memory, where there is not enough for so many more octets; whether there is more now.
    fn ask_for_more(&mut self, octets: usize) -> bool {
        let (room, come) = (self.room(), self.buffer.len().saturating_add(octets));
        let (expected, most) = (self.expected(come), self.small.saturating_mul(MIDDLING));
        let (all, is_known) = (come.max(expected), expected >= come);
        let held = if !matches!(self.file, Written::Nothing) {
            // The next piece may be a larger one.
            self.more_arriving(self.small)
        } else if all <= self.small {
            self.more_arriving(if is_known { all } else { room.saturating_mul(2).max(come).min(self.small) })
        } else {
            let wanted = match all <= most {
                true if is_known => all,
                true => room.saturating_add(room / 2).max(come).min(most),
                false => self.small.saturating_mul(PIECE),
            };
            self.more_middling(wanted).or_else(|| self.more_arriving(self.small))
        };
        let Some(held) = held else { return false };
        self.held = held;
        true
    }

    /// Room for so many octets, unless there is as much already.
    fn more_arriving(&self, octets: usize) -> Option<Held> {
        (octets > self.room()).then(|| self.allowances.arriving.ask(octets)).flatten().map(Held::Arriving)
    }

    fn more_middling(&self, octets: usize) -> Option<Held> {
        (octets > self.room()).then(|| self.allowances.middling.ask(octets)).flatten().map(Held::Middling)
    }

    /// Takes octets for which there is room, in as few steps as what is known allows.
    fn gather(&mut self, octets: &[u8]) {
        let (length, capacity) = (self.buffer.len(), self.buffer.capacity());
        let needed = length.saturating_add(octets.len());
        if needed > capacity {
            let expected = self.expected(needed);
            let wanted = if expected >= needed { expected } else { capacity.saturating_mul(2) };
            self.buffer.reserve_exact(wanted.min(self.room()).max(needed).saturating_sub(length));
        }
        self.buffer.extend_from_slice(octets);
    }

    /// Ends the message: octets that are still in memory as they are, the others in their synced file.
    pub(super) async fn finish(mut self) -> Result<Whole, SpoolError> {
        if matches!(self.file, Written::Nothing) {
            return Ok(self.whole());
        }
        self.write_out(true).await?;
        match std::mem::replace(&mut self.file, Written::Broken) {
            Written::Some(file) => Ok(Whole { octets: Gathered::File(file), arriving: None, middling: None }),
            Written::Nothing | Written::Broken => Err(broken()),
        }
    }

    fn whole(&mut self) -> Whole {
        let mut octets = std::mem::take(&mut self.buffer);
        let length = octets.len();
        if octets.capacity() / 2 > length || length > self.small {
            octets.shrink_to_fit();
        }
        let (arriving, middling) = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => (None, None),
            Held::Arriving(grant) => (Some(grant), None),
            Held::Middling(mut grant) => {
                grant.keep(length);
                if length > self.small { (None, Some(grant)) } else { (Some(grant), None) }
            }
        };
        Whole { octets: Gathered::Inline(Bytes::from(octets)), arriving, middling }
    }

    /// Writes the buffer to the file. While it is written the intake counts as broken, so that a future dropped halfway
    /// can't leave a message with a hole.
    async fn write_out(&mut self, last: bool) -> Result<(), SpoolError> {
        let Some(store) = self.store.clone() else { return Err(broken()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let (queue_id, written) = (self.queue_id, std::mem::replace(&mut self.file, Written::Broken));
        // It goes with the buffer: who gives up leaves both behind, perhaps for long.
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        let disk = Arc::clone(store.disk());
        let write = move || -> io::Result<(OctetFile, Vec<u8>, Held)> {
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
            Ok((file, buffer, held))
        };
        let done = run(&*disk, write).await.ok_or_else(broken)?;
        let (file, buffer, held) = done.map_err(|error| file_error("the octets could not be written", &error))?;
        self.file = Written::Some(file);
        (self.buffer, self.held) = (buffer, held);
        if let Held::Middling(grant) = &mut self.held {
            grant.keep(self.small.saturating_mul(PIECE));
        }
        self.buffer.shrink_to(self.room());
        Ok(())
    }
}

fn broken() -> SpoolError {
    SpoolError::Failing("the octets of the message are not whole".to_owned())
}

#[cfg(test)]
mod tests;
