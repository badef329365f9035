//! What a group of the log says: the rows that the database lacks, as they come to be, change and go.
//!
//! ```text
//! entry = kind length value [octets]    u8, u32, JSON; a message's octets stand behind it, with a u32 for their length
//! ```

use crate::journal::RecordFields;
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::Standing;
use crate::spool::life::Kept;
use crate::spool::{Copies, SpoolError};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const MESSAGE: u8 = 1;
const RECORD: u8 = 2;
const MOVE: u8 = 3;
const RECORD_GONE: u8 = 4;
const MESSAGE_GONE: u8 = 5;
const BEHIND: u8 = 6;

/// A message that came.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageEntry {
    pub(super) queue_id: QueueId,
    pub(super) received: Timestamp,
    pub(super) size: u64,
    /// Its octets are in a file, and do not follow.
    pub(super) in_file: bool,
}

/// A record whole.
#[derive(Debug, Serialize, Deserialize)]
struct RecordEntry {
    fields: RecordFields,
    standing: Standing,
    window_ms: u64,
    archive: String,
}

/// Where a record stands now, and what of its fields changes with a move.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MoveEntry {
    pub(super) id: RecordId,
    pub(super) standing: Standing,
    pub(super) date: Timestamp,
    pub(super) message_uuid: Uuid,
    pub(super) outcome_unknown: bool,
}

/// One entry as it is read.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Message(MessageEntry, &'a [u8]),
    Record(Box<Kept>),
    Move(MoveEntry),
    RecordGone(RecordId),
    MessageGone(QueueId),
    /// What follows begins a generation, and holds what stayed of this one.
    Behind(u64),
}

/// A message of so many octets is not copied into what is written …
const LARGE: usize = 16 * 1024;
/// … as long as there are no more than so many of them.
const MOST_LARGE: usize = 512;

/// Entries on their way into a group, which is written in slices: octets of messages are not copied where that pays.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// All but the large octets.
    written: Vec<u8>,
    /// Those, each with its place in what is written.
    large: Vec<(usize, Bytes)>,
    /// How many they are.
    large_octets: usize,
}

/// A place between entries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    written: usize,
    large: usize,
}

impl Entries {
    /// Octets of them.
    pub(super) fn len(&self) -> usize {
        self.written.len().saturating_add(self.large_octets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// What the log writes.
    pub(super) fn slices(&self) -> Vec<&[u8]> {
        let (mut slices, mut rest, mut before) =
            (Vec::with_capacity(2 * self.large.len() + 1), self.written.as_slice(), 0);
        for (place, octets) in &self.large {
            let (now, later) = rest.split_at_checked(place.saturating_sub(before)).unwrap_or((rest, &[]));
            slices.extend([now, octets]);
            (rest, before) = (later, *place);
        }
        slices.push(rest);
        slices
    }

    /// Where they end.
    pub(super) fn end(&self) -> Place {
        Place { written: self.written.len(), large: self.large.len() }
    }

    /// Keeps those before that place.
    pub(super) fn truncate(&mut self, to: Place) {
        self.written.truncate(to.written);
        let gone = self.large.drain(to.large.min(self.large.len())..).map(|(_, octets)| octets.len()).sum();
        self.large_octets = self.large_octets.saturating_sub(gone);
    }

    pub(super) fn clear(&mut self) {
        self.truncate(Place::default());
        // A group of many octets is rare, and its room not worth keeping.
        self.written.shrink_to(1 << 20);
    }

    pub(super) fn message(&mut self, message: &MessageEntry, octets: Option<&Bytes>) -> Result<(), SpoolError> {
        self.add(MESSAGE, message)?;
        self.written.extend_from_slice(&length(octets.map_or(0, Bytes::len))?.to_le_bytes());
        match octets {
            Some(octets) if octets.len() >= LARGE && self.large.len() < MOST_LARGE => {
                self.large.push((self.written.len(), octets.clone()));
                self.large_octets = self.large_octets.saturating_add(octets.len());
            }
            Some(octets) => self.written.extend_from_slice(octets),
            None => {}
        }
        Ok(())
    }

    pub(super) fn record(&mut self, kept: &Kept) -> Result<(), SpoolError> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            fields: &'a RecordFields,
            standing: &'a Standing,
            window_ms: u64,
            archive: &'a str,
        }
        let window_ms = u64::try_from(kept.window.as_millis()).unwrap_or(u64::MAX);
        let Kept { fields, standing, archive, .. } = kept;
        self.add(RECORD, &Borrowed { fields, standing, window_ms, archive })
    }

    pub(super) fn moved(&mut self, kept: &Kept) -> Result<(), SpoolError> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            id: RecordId,
            standing: &'a Standing,
            date: Timestamp,
            message_uuid: Uuid,
            outcome_unknown: bool,
        }
        let RecordFields { id, date, message_uuid, outcome_unknown, .. } = *kept.fields;
        self.add(MOVE, &Borrowed { id, standing: &kept.standing, date, message_uuid, outcome_unknown })
    }

    pub(super) fn record_gone(&mut self, id: RecordId) -> Result<(), SpoolError> {
        self.add(RECORD_GONE, &id)
    }

    pub(super) fn message_gone(&mut self, queue_id: QueueId) -> Result<(), SpoolError> {
        self.add(MESSAGE_GONE, &queue_id)
    }

    /// The first entry of what begins a generation: which one it is behind.
    pub(super) fn behind(&mut self, generation: u64) -> Result<(), SpoolError> {
        self.add(BEHIND, &generation)
    }

    fn add(&mut self, kind: u8, value: &impl Serialize) -> Result<(), SpoolError> {
        self.written.push(kind);
        let place = self.written.len();
        self.written.extend_from_slice(&[0; 4]);
        let start = self.written.len();
        serde_json::to_writer(&mut self.written, value).map_err(|error| unreadable(&error))?;
        let written = length(self.written.len().saturating_sub(start))?;
        if let Some(room) = self.written.get_mut(place..start) {
            room.copy_from_slice(&written.to_le_bytes());
        }
        Ok(())
    }
}

/// The generation that a group is behind whose first entry says so.
pub(super) fn is_behind(group: &[u8]) -> Option<u64> {
    let mut found = None;
    // The first one tells.
    let _ = read(group, |entry| {
        if let Entry::Behind(generation) = entry {
            found = Some(generation);
        }
        Err(unreadable(&"no more of it"))
    });
    found
}

/// Calls `take` with each entry of a group.
///
/// # Errors
/// A group that is whole by its sum, but can't be read, is another version's.
pub(super) fn read(
    mut group: &[u8],
    mut take: impl FnMut(Entry<'_>) -> Result<(), SpoolError>,
) -> Result<(), SpoolError> {
    while let Some((kind, rest)) = group.split_first() {
        let (value, mut rest) = piece(rest)?;
        let entry = match *kind {
            MESSAGE => {
                let (octets, behind) = piece(rest)?;
                rest = behind;
                Entry::Message(parse(value)?, octets)
            }
            RECORD => {
                let RecordEntry { fields, standing, window_ms, archive } = parse(value)?;
                let (window, copies) = (Duration::from_millis(window_ms), Copies::Alone);
                Entry::Record(Box::new(Kept { fields: Arc::new(fields), standing, window, archive, copies }))
            }
            MOVE => Entry::Move(parse(value)?),
            RECORD_GONE => Entry::RecordGone(parse(value)?),
            MESSAGE_GONE => Entry::MessageGone(parse(value)?),
            BEHIND => Entry::Behind(parse(value)?),
            kind => return Err(unreadable(&format!("entries of kind {kind} are unknown"))),
        };
        take(entry)?;
        group = rest;
    }
    Ok(())
}

fn piece(octets: &[u8]) -> Result<(&[u8], &[u8]), SpoolError> {
    let cut = || unreadable(&"an entry is cut");
    let (length, rest) = octets.split_first_chunk::<4>().ok_or_else(cut)?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX)).ok_or_else(cut)
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, SpoolError> {
    serde_json::from_slice(value).map_err(|error| unreadable(&error))
}

fn length(octets: usize) -> Result<u32, SpoolError> {
    u32::try_from(octets).map_err(|error| unreadable(&error))
}

fn unreadable(why: &dyn std::fmt::Display) -> SpoolError {
    SpoolError::Failing(format!("an entry of the spool's log: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::OsEntropy;

    /// Octets that are like no other message's.
    fn octets(number: usize, length: usize) -> Bytes {
        (0..length).map(|place| (number * 31 + place * 7 + place / 251) as u8).collect()
    }

    fn add(entries: &mut Entries, octets: Option<&Bytes>) -> QueueId {
        let queue_id = QueueId::new(Timestamp::from_millis(1_794_304_800_000), &OsEntropy);
        let received = Timestamp::from_millis(1_794_304_800_000);
        let size = octets.map_or(7, Bytes::len) as u64;
        entries.message(&MessageEntry { queue_id, received, size, in_file: octets.is_none() }, octets).unwrap();
        queue_id
    }

    fn found(entries: &Entries) -> Vec<(QueueId, Vec<u8>)> {
        let written = entries.slices().concat();
        assert_eq!(entries.len(), written.len());
        let mut found = Vec::new();
        let take = |entry: Entry<'_>| {
            if let Entry::Message(message, octets) = entry {
                found.push((message.queue_id, octets.to_vec()));
            }
            Ok(())
        };
        read(&written, take).unwrap();
        found
    }

    #[test]
    fn large_octets_are_where_they_belong_also_when_a_step_was_taken_back() {
        let mut entries = Entries::default();
        assert!(entries.is_empty() && found(&entries).is_empty());
        let mut expected = Vec::new();
        let add_all = |entries: &mut Entries, lengths: &[usize]| {
            let each = lengths.iter().enumerate().map(|(number, length)| {
                let octets = octets(number, *length);
                (add(entries, Some(&octets)), octets.to_vec())
            });
            each.collect::<Vec<_>>()
        };
        expected.extend(add_all(&mut entries, &[0, 10, LARGE, LARGE - 1, 3 * LARGE, LARGE]));
        expected.push((add(&mut entries, None), Vec::new()));
        assert_eq!(found(&entries), expected);
        let mark = entries.end();
        add_all(&mut entries, &[2 * LARGE, 5, LARGE]);
        entries.truncate(mark);
        assert_eq!(found(&entries), expected, "what was taken back is not there");
        expected.extend(add_all(&mut entries, &[LARGE + 5, 5]));
        assert_eq!(found(&entries), expected);
        entries.clear();
        assert!(entries.is_empty() && found(&entries).is_empty());
    }

    #[test]
    fn beyond_so_many_they_are_copied() {
        let mut entries = Entries::default();
        let octets = octets(1, LARGE);
        let expected: Vec<_> =
            (0..MOST_LARGE + 3).map(|_| (add(&mut entries, Some(&octets)), octets.to_vec())).collect();
        assert_eq!(entries.slices().len(), 2 * MOST_LARGE + 1);
        assert!(found(&entries) == expected);
    }
}
