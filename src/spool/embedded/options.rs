//! What a daemon says when it opens its spool.

use super::FrontBounds;
use crate::clock::SharedClock;
use crate::spool::disk::SharedDisk;
use crate::spool::life::MessageUuid;
use std::time::Duration;

/// Pages of the write-ahead log that a daemon carries over together: 16 MiB. Most of a busy spool's pages are written again
/// before that, and reach the database once.
pub const CHECKPOINT_PAGES: u32 = 4_000;

/// How a daemon wants its spool.
#[derive(Clone)]
pub struct Options {
    /// Where it lies.
    pub disk: SharedDisk,
    /// Decides when windows end and history is old.
    pub clock: SharedClock,
    /// How long acknowledged records and failed reports are remembered; `retry.give_up`.
    pub keep_history: Duration,
    /// Pages of the write-ahead log that are carried over into the database together; [`CHECKPOINT_PAGES`].
    pub checkpoint_pages: u32,
    /// Octets of a small message, [`INLINE_LIMIT`](crate::spool::INLINE_LIMIT). It is stored inline, unless too many arrive at a
    /// time; larger ones, up to four times that, are while the allowance for them lasts. Others have a file each.
    pub inline_limit: usize,
    /// How much stays in front of the database.
    pub front: FrontBounds,
    /// Derives the UUID of a record's Message-ID when it is sealed.
    pub message_uuid: MessageUuid,
}
