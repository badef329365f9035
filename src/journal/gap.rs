//! A gap in an organization's journal, as data: messages that were relayed without a record, because the spool could not keep
//! them and the configuration says that mail goes on then.

use crate::mail::{QueueId, Timestamp};
use serde::{Deserialize, Serialize};

/// Queue ids that a gap keeps; of further messages it keeps the number.
pub const MAX_QUEUE_IDS: usize = 100;
/// Octets of a reason that are kept.
const MAX_REASON: usize = 1_000;

/// Messages without a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When the next hop took the first of them, …
    pub since: Timestamp,
    /// … and the last.
    pub until: Timestamp,
    /// How many.
    pub messages: u64,
    /// Why the first could not be kept.
    pub reason: String,
    /// The queue ids of the first [`MAX_QUEUE_IDS`].
    pub queue_ids: Vec<QueueId>,
}

impl Gap {
    /// The gap that this message opens.
    pub fn open(queue_id: QueueId, reason: &str, now: Timestamp) -> Self {
        let reason = reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default().to_owned();
        Self { since: now, until: now, messages: 1, reason, queue_ids: vec![queue_id] }
    }

    /// One more message.
    pub fn add(&mut self, queue_id: QueueId, now: Timestamp) {
        self.messages = self.messages.saturating_add(1);
        self.until = self.until.max(now);
        if self.queue_ids.len() < MAX_QUEUE_IDS {
            self.queue_ids.push(queue_id);
        }
    }

    /// Puts a later gap behind this one.
    pub fn join(&mut self, later: Self) {
        self.messages = self.messages.saturating_add(later.messages);
        self.until = self.until.max(later.until);
        let room = MAX_QUEUE_IDS.saturating_sub(self.queue_ids.len());
        self.queue_ids.extend(later.queue_ids.into_iter().take(room));
    }

    /// Messages whose queue ids are not kept.
    pub fn more(&self) -> u64 {
        self.messages.saturating_sub(u64::try_from(self.queue_ids.len()).unwrap_or(u64::MAX))
    }

    /// The number for people.
    pub fn counted(&self) -> String {
        if self.messages == 1 { "1 message".to_owned() } else { format!("{} messages", self.messages) }
    }
}
