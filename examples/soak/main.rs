//! A soak: the real daemon under a steady load of two organizations' mail while everything around it, and it itself, fails
//! at random; at the end the faults stop, everything must drain, and the books must show that nothing was lost, altered
//! or doubled.
//!
//! ```text
//! cargo build --release && cargo run --release --example soak -- --minutes 60 [--seed N]
//! ```
//!
//! The clients, the next hop, the archives and the report mailbox are threads of this program; they keep hashes and not
//! contents. The daemon is a child process with its spool in a directory of its own. In the middle third of the time it is
//! neither killed nor restarted, so that its memory over a long life shows. Everything stays on this machine's loopback
//! network. With `--small-disk MIB` (needs root) the spool lies on a small tmpfs that runs full now and then.
//!
//! Exit status: 0 when every promise was kept; 1 otherwise: the violations are printed, and configuration, spool and log of
//! the daemon are kept. Faults and messages repeat with the seed; their moments are real time's.

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
    reason = "a measuring program: it may stop, and it stands outside the relay"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod disk;
mod faults;
mod memory;
mod operator;

use clap::Parser;
use common::trial::{Chance, Daemon, Ends, Findings, Kind, Ledger, Load, Manners, check, seed};
use common::{PATIENCE, Setup};
use disk::Disk;
use faults::Faults;
use memory::Memory;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long clients go on with their last message, and everything may take to drain, once the faults are over.
const DRAIN: Duration = Duration::from_secs(600);
/// How often the main thread looks round.
const TICK: Duration = Duration::from_millis(50);
/// SIGTERM: 30 s for what is open, 30 s to close.
const LONGEST_END: Duration = Duration::from_secs(75);

/// Runs the daemon under load and random faults and checks that nothing is lost or doubled.
#[derive(Debug, Parser)]
pub struct Options {
    /// How long there are load and faults
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Repeats messages and faults; default: JOURNAL_RELAY_SEED, or chance
    #[arg(long)]
    seed: Option<u64>,
    /// Messages a second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rate: u64,
    /// Clients at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=200))]
    clients: u64,
    /// Octets of the largest messages
    #[arg(long, default_value_t = 2 << 20, value_parser = clap::value_parser!(u64).range(1_024..=16 << 20))]
    largest: u64,
    /// The relay
    #[arg(long, default_value = "target/release/journal-relay")]
    program: PathBuf,
    /// Where the daemon's home is made; default: the system's temporary directory
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Put the spool on a tmpfs of so many MiB that runs full now and then; needs root
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..=4_096))]
    small_disk: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    assert!(options.program.is_file(), "{} is not there: cargo build --release", options.program.display());
    let seed = options.seed.unwrap_or_else(seed);
    println!("{} minutes, {} messages a second, --seed {seed}", options.minutes, options.rate);
    let directory = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let home = tempfile::Builder::new().prefix("journal-relay-soak").tempdir_in(&directory).expect("a directory");
    let findings = soak(&options, seed, home.path());
    if findings.is_clean() {
        println!("every promise was kept");
        return ExitCode::SUCCESS;
    }
    println!("{} VIOLATIONS; --seed {seed}; see {}", findings.violations.len(), home.keep().display());
    ExitCode::FAILURE
}

fn soak(options: &Options, seed: u64, home: &Path) -> Findings {
    let mut chance = Chance(seed);
    let ledger = Arc::new(Ledger::new(seed, options.largest));
    let ends = Ends::start(&ledger, &mut chance);
    let disk = options.small_disk.and_then(|mib| Disk::mount(&home.join("disk"), mib));
    if disk.is_none() {
        println!("skipped: a full disk (no small one was asked for or can be mounted)");
    }
    let mut daemon = Daemon::new(setup(options, &ends, disk.as_ref()), home, &ledger);
    daemon.launch();
    let manners =
        Manners { rate: options.rate, hangs_up: 1, longest_wait: Duration::from_millis(800), patience: DRAIN };
    let load = Load::new(daemon.setup.listen, &ledger, manners);
    let mut faults = Faults::new(chance.fork(), ends, daemon, disk, Arc::clone(&ledger));
    let mut memory = Memory::default();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.clients {
            let (load, chance) = (Arc::clone(&load), chance.fork());
            scope.spawn(move || load.run(chance));
        }
        // The clients end also when this thread panics.
        let stop = load.stop_at_end();
        rage(options, &mut faults, &mut memory, &load, start);
        println!("no more faults; clients bring their last messages");
        faults.end();
        drop(stop);
    });
    drain(&mut faults.daemon, &ledger);
    let (peak_kib, ticks) = faults.daemon.used();
    let ending = faults.daemon.terminate(LONGEST_END);
    if ending.cut_short {
        ledger.violation(Kind::Wrong, format!("an idle daemon was cut short after {:?}", ending.took));
    }
    memory.check(&ledger);
    let findings = check(&ledger);
    println!(
        "\nafter {:.1} minutes, {} lives of the relay, --seed {seed}\n",
        start.elapsed().as_secs_f64() / 60.0,
        faults.daemon.lives
    );
    println!("{findings}\n{faults}\n{memory}");
    for event in
        ["record.deferred", "record.failed", "record.merged", "report.sent", "report.suppressed", "config.reloaded"]
    {
        println!("{:>9}  log: {event}", faults.daemon.events().get(event).copied().unwrap_or(0));
    }
    let messages = load.promises().max(1);
    println!("{:>9}  KiB of memory at most (VmHWM)", peak_kib);
    println!(
        "{:>9.0}  microseconds of CPU time for each transaction answered 250",
        ticks as f64 * 10_000.0 / messages as f64
    );
    findings
}

/// The time with faults: the middle third without those that end the daemon.
fn rage(options: &Options, faults: &mut Faults, memory: &mut Memory, load: &Load, start: Instant) {
    let length = Duration::from_secs(options.minutes * 60);
    let mut told = 0;
    while start.elapsed() < length {
        let third = start.elapsed().as_millis() * 3 / length.as_millis();
        faults.look(third == 1);
        memory.look(&faults.daemon);
        let minute = start.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            let waiting = faults.daemon.queue().len();
            println!(
                "minute {minute}: {} messages begun, {} promises, {} entries wait",
                load.begun(),
                load.promises(),
                waiting
            );
        }
        Load::pause(TICK);
    }
}

/// Waits until the spool is empty; what failed is tried again, as an operator would.
fn drain(daemon: &mut Daemon, ledger: &Ledger) {
    let deadline = Instant::now() + DRAIN;
    loop {
        let left = daemon.queue();
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for entry in left.iter().take(20) {
                ledger.violation(Kind::Lost, format!("still in the spool after {DRAIN:?}: {entry}"));
            }
            return;
        }
        operator::retry_all(daemon, ledger);
        Load::pause(Duration::from_secs(2));
    }
}

/// Two organizations: one waits for a message's other transactions, one does not.
fn setup(options: &Options, ends: &Ends, disk: Option<&Disk>) -> Setup {
    let mut setup = Setup::new(&ends.next_hop, &ends.archives[0])
        .and("beta", &["beta.example"], &ends.archives[1])
        .at_a_fixed_address()
        .reporting_to(&ends.reports);
    setup.program.clone_from(&options.program);
    setup.organizations[0].more = "coalesce = \"2s\"".into();
    setup.retry_longest = "5s".into();
    setup.spool = disk.map(Disk::spool);
    assert!(DRAIN > PATIENCE);
    setup
}
