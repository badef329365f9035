//! What the black-box tests stand on: the real program as a child process ([`Relay`]), servers that answer as they are
//! told ([`Sink`]), a client that sends exactly the octets it is given ([`Client`]), a reader of journal records
//! ([`Record`]), the corpus, and a private Postfix ([`Postfix`]).
//!
//! Nothing here knows the daemon's inside: only its configuration, commands, replies, logs and octets. Nothing sleeps;
//! whoever waits names what for, and a deadline ([`PATIENCE`]) turns waiting for ever into a failure that says so.

#![allow(dead_code, unused_imports, reason = "each program that stands on this uses its part")]
#![allow(clippy::disallowed_methods, reason = "these programs stand outside the relay: deadlines are real time here")]

mod authority;
mod browser;
mod client;
mod corpus;
mod dovecot;
mod exim;
mod far;
mod fences;
mod haproxy;
mod opensmtpd;
mod page;
mod postfix;
mod program;
mod record;
mod relay;
mod sink;
mod terminal;
pub mod trial;
mod wire;

pub use authority::{Authority, Certificate};
pub use browser::Browser;
pub use client::{Client, Reply, stuff};
pub use corpus::{Sample, Wire as SampleWire, corpus};
pub use dovecot::Dovecot;
pub use exim::{Exim, RunningExim};
pub use far::FarLink;
pub use fences::{Fence, Part, fences, pages, parts};
pub use haproxy::HaProxy;
pub use opensmtpd::{OpenSmtpd, can_stand_apart};
pub use page::{Block, Page};
pub use postfix::{Postfix, Running, free_port, installed, open_to_others};
pub use program::{Program, cpu_ticks, pause, signal};
pub use record::{Record, Report, fields, strip_folded_received, strip_received};
pub use relay::{Event, Relay, Setup, json_lines, run};
pub use sink::{Answer, Gate, Sink, Stage, Transaction, drop_line, say};
pub use terminal::on_terminal;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long anything may take before it counts as never happening.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An address of this machine's loopback network that no other part of this process uses, so that a server that is down
/// for a while finds its port free when it comes back.
pub fn own_loopback_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    // 127.64.0.0 to 127.191.255.255: the process picks the second and third octet, the count the last one.
    let second = 64 + u8::try_from((process >> 8) % 64 + (number / 250) % 64).unwrap_or(0);
    let third = u8::try_from(process & 0xff).unwrap_or(0);
    Ipv4Addr::new(127, second, third, u8::try_from(number % 250 + 1).unwrap_or(1))
}

/// Ends the test with what was awaited and what there was instead.
pub fn gave_up(awaited: &str, found: &dyn std::fmt::Debug) -> ! {
    panic!("waited {PATIENCE:?} for {awaited}; there is: {found:#?}")
}
