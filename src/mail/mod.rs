//! The words everybody uses: addresses, replies, ids, times.
//!
//! Floor 1: pure values with no input or output of their own.

mod address;
mod digest;
mod hex;
mod id;
mod reply;
mod shown;
mod time;

pub use address::{
    Address, AddressError, DomainPattern, MAX_DOMAIN, MAX_LOCAL_PART, MAX_PATH, Mailbox, ReversePath, ascii_domain,
};
pub use digest::{HmacKey, Sha256};
pub use hex::{hex, read_hex, write_hex};
pub use id::{Entropy, OsEntropy, QueueId, RecordId, SessionId};
pub use reply::{Reply, ReplyClass};
pub use shown::{octets, shown, span};
pub use time::Timestamp;
