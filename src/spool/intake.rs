//! A message's octets on their way in, and at rest.

use crate::mail::QueueId;
use bytes::Bytes;
use std::path::PathBuf;

/// Where the octets of one message gather while they arrive: up to a limit in memory, beyond it in a file of the spool.
/// Dropped unprepared, it leaves nothing behind.
#[derive(Debug)]
pub struct Intake {
    #[allow(dead_code)]
    queue_id: QueueId,
}

/// The octets of a message at rest. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Octets {
    /// A small message's.
    Inline(Bytes),
    /// A large message's, in a file of the spool.
    File {
        /// The file.
        path: PathBuf,
        /// Its octets.
        length: u64,
    },
}
