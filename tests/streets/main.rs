//! Streets: the real program over real sockets, seen from outside alone. Each module is one part of what users are promised;
//! `common` is what all of them stand on.
//!
//! `JOURNAL_RELAY_PEERS=required` makes a missing peer (Postfix, Exim, OpenSMTPD, HAProxy, swaks, nmap, …) a failure; without it
//! such a test says that it was skipped. `.ci/peers` unpacks those that can't be installed beside Postfix.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    reason = "a test program: it may stop, and its parts explain themselves where they stand"
)]

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod archives;
mod auth;
mod auth_identities;
mod balancers;
mod books;
mod bounces;
mod broken;
mod bypass;
mod certificates;
mod check;
mod chunks;
mod commands;
mod crash;
mod documents;
mod drain;
mod envelope;
mod exim;
mod faults;
mod harness;
mod held_back;
mod identities;
mod idle;
mod json;
mod limits;
mod loops;
mod manager;
mod messages;
mod names;
mod once;
mod open_relay;
mod opensmtpd;
mod outages;
mod page;
mod pages;
mod peers;
mod queue;
mod reload;
mod reload_load;
mod replies;
mod room;
mod smuggling;
mod splitting;
mod status;
mod swaks;
mod switch;
mod terminal;
mod test_send;
mod tls;
mod trace;

/// A small message from alice@example.org to bob@example.net whose Message-ID and body carry `mark`.
fn message(mark: &str) -> Vec<u8> {
    format!(
        "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: about {mark}\r\n\
         Date: Tue, 10 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{mark}@example.org>\r\n\r\nThis is {mark}.\r\n.\r\n..two dots\r\n"
    )
    .into_bytes()
}
