//! `kill -9` in the middle of a load, again and again, while clients bring their messages again and the servers around
//! die too: every message that the next hop has taken has its record, unchanged, and every repeat of a record is the same
//! octet for octet and explained by a lost reply.
//!
//! ```text
//! JOURNAL_RELAY_KILL_ROUNDS=300 cargo test --release --test streets crash -- --nocapture
//! ```
//!
//! `JOURNAL_RELAY_SEED` repeats messages, faults and their order; the moments are real time's.

use crate::common::trial::{
    ArchiveMood, Chance, Daemon, Ends, Ledger, Load, Manners, NextHopMood, ORGANIZATIONS, check, seed,
};
use crate::common::{PATIENCE, Setup};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 6;
/// Large enough to be kept in a file by the spool, small enough for many.
const LARGEST: u64 = 300 << 10;

/// `JOURNAL_RELAY_KILL_ROUNDS`, or as many as every change must pass.
fn rounds() -> u64 {
    std::env::var("JOURNAL_RELAY_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

/// The daemon of a trial, with two organizations: one waits for a message's other transactions, one does not.
fn setup(ends: &Ends) -> Setup {
    let mut setup = Setup::new(&ends.next_hop, &ends.archives[0])
        .and("beta", &["beta.example"], &ends.archives[1])
        .at_a_fixed_address();
    setup = setup.reporting_to(&ends.reports);
    setup.organizations[0].more = "coalesce = \"500ms\"".into();
    setup
}

#[test]
fn no_promised_message_loses_its_record_by_kill_9() {
    let (seed, rounds) = (seed(), rounds());
    println!("JOURNAL_RELAY_SEED={seed} JOURNAL_RELAY_KILL_ROUNDS={rounds}");
    let mut chance = Chance(seed);
    let ledger = Arc::new(Ledger::new(seed, LARGEST));
    let mut ends = Ends::start(&ledger, &mut chance);
    let home = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::new(setup(&ends), home.path(), &ledger);
    daemon.launch();
    let manners = Manners { rate: 0, hangs_up: 1, longest_wait: Duration::from_millis(60), patience: PATIENCE };
    let load = Load::new(daemon.setup.listen, &ledger, manners);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (load, chance) = (Arc::clone(&load), chance.fork());
            scope.spawn(move || load.run(chance));
        }
        // The clients end also when this thread panics.
        let _stop = load.stop_at_end();
        for round in 1..=rounds {
            one_round(&mut chance, &mut ends, &mut daemon, &load);
            if round % 10 == 0 {
                println!("{round} kills, {} messages begun, {} entries wait", load.begun(), daemon.queue().len());
            }
        }
        ends.calm();
    });
    let left = drained(&daemon);
    let findings = check(&ledger);
    println!("{rounds} rounds, {} lives of the relay\n{findings}", daemon.lives);
    assert!(findings.is_clean(), "see above; JOURNAL_RELAY_SEED={seed}");
    assert_eq!(left, [""; 0], "what the spool still holds");
    assert!(!daemon.terminate(PATIENCE).cut_short, "an idle daemon ends within its grace period");
}

/// Some promises, a moment more, and the kill; sometimes a neighbour dies with the daemon, or the daemon twice.
fn one_round(chance: &mut Chance, ends: &mut Ends, daemon: &mut Daemon, load: &Load) {
    const NEXT_HOP: [NextHopMood; 5] = [
        NextHopMood::Willing,
        NextHopMood::TakesAndLeaves,
        NextHopMood::LeavesAtEnd,
        NextHopMood::LaterAtEnd,
        NextHopMood::LaterAtRcpt,
    ];
    const ARCHIVE: [ArchiveMood; 4] =
        [ArchiveMood::Willing, ArchiveMood::TakesAndLeaves, ArchiveMood::LeavesAtEnd, ArchiveMood::LaterAtEnd];
    ends.calm();
    if chance.hits(40) {
        ends.set_next_hop(NEXT_HOP[chance.next(5) as usize]);
        let organization = chance.next(ORGANIZATIONS.len() as u64) as usize;
        ends.set_archive(organization, ARCHIVE[chance.next(4) as usize]);
    }
    let goal = load.promises() + chance.between(1, 60);
    let deadline = Instant::now() + PATIENCE;
    while load.promises() < goal {
        assert!(Instant::now() < deadline, "the load goes on: {} of {goal} promises", load.promises());
        Load::pause(Duration::from_millis(1));
    }
    Load::pause(Duration::from_micros(chance.next(20_000)));
    match chance.next(10) {
        0 | 1 => {
            let organization = chance.next(ORGANIZATIONS.len() as u64) as usize;
            ends.archive_down(organization);
            daemon.kill9();
            ends.archive_up(organization);
        }
        2 => {
            ends.next_hop_down();
            daemon.kill9();
            ends.next_hop_up();
        }
        _ => daemon.kill9(),
    }
    if chance.hits(15) {
        // In the middle of its start.
        daemon.begin();
        Load::pause(Duration::from_micros(chance.next(30_000)));
        daemon.kill9();
    }
    daemon.launch();
}

/// Waits until the spool is empty; what it holds when patience ends.
fn drained(daemon: &Daemon) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: Vec<_> = daemon.queue().iter().map(ToString::to_string).collect();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        Load::pause(Duration::from_millis(100));
    }
}
