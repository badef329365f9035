//! Worlds: simulated disks, and what runs on them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a test program: it may stop, and its parts explain themselves where they stand"
)]

mod disk;
