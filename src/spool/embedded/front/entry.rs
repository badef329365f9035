//! What a group of the log says: the rows that the database lacks, as they come to be, change and go.
//!
//! ```text
//! entry = kind length value [octets]    u8, u32, JSON; a message's octets stand behind it, with a u32 for their length
//! ```

use super::log::HEAD;
use crate::journal::RecordFields;
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::Standing;
use crate::spool::life::Kept;
use crate::spool::{Copies, SpoolError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const MESSAGE: u8 = 1;
const RECORD: u8 = 2;
const MOVE: u8 = 3;
const RECORD_GONE: u8 = 4;
const MESSAGE_GONE: u8 = 5;

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
}

/// Entries on their way into a group: behind room for its head.
#[derive(Debug)]
pub(super) struct Entries(Vec<u8>);

impl Default for Entries {
    fn default() -> Self {
        Self(vec![0; HEAD])
    }
}

impl Entries {
    /// Octets of them.
    pub(super) fn len(&self) -> usize {
        self.0.len().saturating_sub(HEAD)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the log writes.
    pub(super) fn group(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Keeps so many octets of them.
    pub(super) fn truncate(&mut self, octets: usize) {
        self.0.truncate(HEAD.saturating_add(octets));
    }

    pub(super) fn clear(&mut self) {
        self.truncate(0);
        // A group of many octets is rare, and its room not worth keeping.
        self.0.shrink_to(1 << 20);
    }

    pub(super) fn message(&mut self, message: &MessageEntry, octets: &[u8]) -> Result<(), SpoolError> {
        self.add(MESSAGE, message)?;
        self.0.extend_from_slice(&length(octets.len())?.to_le_bytes());
        self.0.extend_from_slice(octets);
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

    fn add(&mut self, kind: u8, value: &impl Serialize) -> Result<(), SpoolError> {
        self.0.push(kind);
        let place = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        let start = self.0.len();
        serde_json::to_writer(&mut self.0, value).map_err(|error| unreadable(&error))?;
        let written = length(self.0.len().saturating_sub(start))?;
        if let Some(room) = self.0.get_mut(place..start) {
            room.copy_from_slice(&written.to_le_bytes());
        }
        Ok(())
    }
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
