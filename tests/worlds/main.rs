//! Worlds: the whole relay with its clients, a next hop, two archives and a report mailbox in one process and one thread,
//! from a seed. Network, hosts, crashes and time are turmoil's; the disk is a simulated one.
//!
//! ```text
//! plan      what a seed means: mails, behaviour of the servers, faults
//! world     one run: hosts, time, the end            faults    injects them, and ends them
//! client, server, returns, relay                     who lives there
//! net, store, clock, log                             the relay's surroundings          operator  queue commands
//! history, trace                                     what happened, for the checker and for people
//! promises  the one function that checks a run       seeds     runs many, says how to replay one
//! ```
//!
//! `cargo test --test worlds` runs 300 worlds. `WORLDS_SEEDS=0..5000 cargo test --test worlds
//! worlds_keep_what_is_promised -- --nocapture` runs any number and shows figures; with a single seed and `WORLDS_TRACE=1`
//! the log is shown also when all is well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a test program: it may stop, and its parts explain themselves where they stand"
)]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod clock;
mod dice;
mod disk;
mod distance;
mod faults;
mod history;
mod log;
mod mail;
mod net;
mod operator;
mod plan;
mod promises;
mod relay;
mod returns;
mod seeds;
mod server;
mod store;
mod trace;
mod wire;
mod world;

#[test]
fn worlds_keep_what_is_promised_even_seeds() {
    seeds::run_share(0, 2);
}

#[test]
fn worlds_keep_what_is_promised_odd_seeds() {
    seeds::run_share(1, 2);
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..6 {
        let plan = plan::Plan::of(seed);
        let (first, second) = (world::run(&plan), world::run(&plan));
        let same = first.lines.iter().zip(&second.lines).take_while(|(one, two)| one == two).count();
        let around = |lines: &[String]| lines.iter().skip(same.saturating_sub(5)).take(10).cloned().collect::<Vec<_>>();
        let (one, two) = (around(&first.lines), around(&second.lines));
        assert_eq!(first.sum, second.sum, "seed {seed} is two worlds, here:\n{one:#?}\nand\n{two:#?}");
    }
}
