//! A trial: the real daemon under a load whose every message, record and reply is kept in books, while things fail.
//!
//! [`letter`] makes messages out of a seed; [`clients`] bring them, again and again, as a mail server would; [`ends`] are
//! the next hop, the archives and the report mailbox with their moods; [`daemon`] starts, kills and ends the program;
//! [`ledger`] keeps the books (hashes in place of contents, so that an hour fits into memory), and [`check`] compares them
//! with what is promised. The kill test and the soak are both made of these.

pub mod chance;
pub mod check;
pub mod clients;
pub mod daemon;
pub mod ends;
pub mod ledger;
pub mod letter;

pub use chance::{Chance, seed};
pub use check::{Findings, check};
pub use clients::{Load, Manners};
pub use daemon::{Daemon, Ending};
pub use ends::{ArchiveMood, Ends, NextHopMood};
pub use ledger::{Kind, Ledger};
pub use letter::Letter;

/// The organizations of a trial, each with its domain and an archive of its own.
pub const ORGANIZATIONS: [(&str, &str); 2] = [("acme", "example.org"), ("beta", "beta.example")];

/// Whose address it is: a place in [`ORGANIZATIONS`].
pub fn organization_of(address: &str) -> Option<usize> {
    let domain = address.rsplit_once('@')?.1;
    ORGANIZATIONS.iter().position(|(_, own)| *own == domain)
}
