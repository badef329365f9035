//! journal-relay: an SMTP relay that passes mail on octet for octet and journals every message once.
//!
//! The house has floors; an import points to a lower one (`tests/tidy.rs` checks it):
//!
//! ```text
//! 7  cli                         what an administrator types
//! 6  app                         every part built from the configuration, started, waited for, drained
//! 5  admin                       health and metrics over HTTP: a leaf
//! 4  receive  forward  deliver   inbound sessions; next-hop conversations; records and reports outward
//! 3  spool  maildir              durable storage
//! 2  smtp  journal  queue        pure: the protocol as values, the record, the life of an entry as data
//! 1  mail                        the words: addresses, replies, ids, times
//! ```
//!
//! Beside the stairs stand `config`, `clock`, `drain`, `net`, `telemetry` and `watch`; any floor may use them.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod drain;
pub mod forward;
pub mod journal;
pub mod mail;
pub mod maildir;
pub mod net;
pub mod queue;
pub mod receive;
pub mod smtp;
pub mod spool;
pub mod telemetry;
pub mod watch;
