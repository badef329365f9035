//! SIGTERM: no new work, open transactions end, what stays open is named, and nothing that was promised is torn.

use crate::common::trial::{Chance, Daemon, Ends, Ledger, Load, Manners, check, seed};
use crate::common::{Answer, Client, Gate, PATIENCE, Program, Record, Relay, Setup, Sink, Stage, signal, stuff};
use crate::message;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The grace period, and what closing may take behind it.
const LONGEST: Duration = Duration::from_secs(30 + 20);

/// An archive that takes no notice until the gate opens.
fn hanging(gate: &Gate) -> Sink {
    let held = gate.clone();
    Sink::scripted(move |stage| match stage {
        Stage::End(_) => Some(Answer::Hold(held.clone(), Box::new(Answer::Say("250 2.0.0 kept".into())))),
        _ => None,
    })
}

/// A daemon in the middle of bringing a record to an archive that hangs; the record's id.
fn with_a_hanging_archive(next_hop: &Sink, archive: &Sink, gate: &Gate) -> (Relay, String) {
    let relay = Setup::new(next_hop, archive).start();
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("hanging")).starts("250");
    gate.wait_for_arrivals(1);
    let id = relay.wait_event("record.committed", |_| true).text("record").to_owned();
    (relay, id)
}

/// Whether one of the lines that say what is open names the record.
fn named(relay: &Relay, record: &str) -> bool {
    relay.events("daemon.draining").iter().any(|event| event.0["open"].to_string().contains(record))
}

/// After the next start the record arrives, once the archive answers, and it is the one that was on its way.
fn arrives_after_a_start(mut relay: Relay, archive: &Sink, gate: &Gate, id: &str) {
    gate.open();
    relay.launch();
    relay.wait_events("record.acked", 1);
    let ends = archive.wait_for_ends(2);
    assert!(ends[0].octets == ends[1].octets, "octet for octet");
    assert_eq!(Record::read(&ends[0].octets).id(), id);
    assert_eq!(relay.finish().len(), 0);
}

#[test]
fn an_archive_that_hangs_is_named_and_does_not_hold_up_the_end_nor_lose_the_record() {
    let (next_hop, gate) = (Sink::start(), Gate::default());
    let archive = hanging(&gate);
    let (mut relay, id) = with_a_hanging_archive(&next_hop, &archive, &gate);
    let start = Instant::now();
    relay.ask_to_end();
    // An administrator who waits learns what for before the grace period is over.
    relay.wait_event("daemon.draining", |event| event.0["open"].to_string().contains(&id));
    assert!(relay.events("daemon.stopped").is_empty());
    assert_eq!(relay.ended().code(), Some(0));
    assert!(start.elapsed() < LONGEST, "it took {:?}", start.elapsed());
    let last = relay.events("daemon.draining").pop().unwrap();
    assert_eq!((last.text("reason"), named(&relay, &id)), ("the grace period is over", true), "{last:?}");
    arrives_after_a_start(relay, &archive, &gate, &id);
}

#[test]
fn a_second_sigterm_stops_at_once_and_loses_nothing() {
    let (next_hop, gate) = (Sink::start(), Gate::default());
    let archive = hanging(&gate);
    let (mut relay, id) = with_a_hanging_archive(&next_hop, &archive, &gate);
    relay.ask_to_end();
    relay.wait_event("daemon.draining", |_| true);
    relay.ask_to_end();
    assert_eq!(relay.ended().code(), Some(0));
    let last = relay.events("daemon.draining").pop().unwrap();
    assert_eq!((last.text("reason"), named(&relay, &id)), ("a second signal", true), "{last:?}");
    arrives_after_a_start(relay, &archive, &gate, &id);
}

#[test]
fn a_client_in_the_middle_of_its_message_gets_the_next_hop_s_reply_whatever_it_is() {
    for reply in ["250 2.0.0 taken", "554 5.6.0 not this one"] {
        let next_hop = Sink::scripted(move |stage| match stage {
            Stage::End(_) => Some(Answer::Say(reply.into())),
            _ => None,
        });
        let archive = Sink::start();
        let mut relay = Setup::new(&next_hop, &archive).start();
        let mut client = Client::ehlo(relay.address());
        client.command("MAIL FROM:<alice@example.org>").starts("250");
        client.command("RCPT TO:<bob@example.net>").starts("250");
        client.command("DATA").starts("354");
        let octets = stuff(&message("middle"));
        client.send(&octets[..octets.len() / 2]);
        relay.ask_to_end();
        relay.wait_event("daemon.draining", |_| true);
        client.send(&octets[octets.len() / 2..]);
        assert_eq!(client.reply().text(), reply);
        assert_eq!(relay.ended().code(), Some(0));
        let taken = usize::from(reply.starts_with('2'));
        relay.launch();
        relay.poll("the record", || (archive.count() == taken).then_some(()));
        assert_eq!(relay.finish().len(), 0, "{reply}");
        assert_eq!((next_hop.count(), archive.count()), (taken, taken));
    }
}

#[test]
fn a_sigterm_at_any_moment_of_a_start_leaves_the_spool_as_it_was() {
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    archive.down();
    let ledger = Arc::new(Ledger::new(0, 0));
    let home = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::new(Setup::new(&next_hop, &archive).at_a_fixed_address(), home.path(), &ledger);
    daemon.launch();
    let mut client = Client::ehlo(daemon.setup.listen);
    client.mail("alice@example.org", &["bob@example.net"], &message("start")).starts("250");
    drop(client);
    daemon.terminate(LONGEST);
    for wait in (0..20).map(|step| Duration::from_millis(2) * step) {
        daemon.begin();
        Load::pause(wait);
        signal(daemon.pid().unwrap(), "TERM");
        let status = daemon.ended(LONGEST).expect("it ends");
        // Before it can listen to signals the system ends it.
        assert!(status.code() == Some(0) || status.signal() == Some(15), "{status:?} after {wait:?}");
        assert_eq!(daemon.queue().len(), 1);
    }
    archive.up();
    daemon.launch();
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("start"));
    assert!(!daemon.terminate(LONGEST).cut_short);
    assert_eq!((daemon.queue().len(), archive.transactions().len()), (0, 1));
    assert!(ledger.books().violations.is_empty());
}

#[test]
fn no_client_loses_a_message_by_sigterm_under_load_and_nothing_is_sent_twice() {
    const ROUNDS: u64 = 20;
    let seed = seed();
    println!("JOURNAL_RELAY_SEED={seed}");
    let mut chance = Chance(seed);
    let ledger = Arc::new(Ledger::new(seed, 100 << 10));
    let ends = Ends::start(&ledger, &mut chance);
    let home = tempfile::tempdir().unwrap();
    let setup = Setup::new(&ends.next_hop, &ends.archives[0])
        .and("beta", &["beta.example"], &ends.archives[1])
        .reporting_to(&ends.reports)
        .at_a_fixed_address();
    let mut daemon = Daemon::new(setup, home.path(), &ledger);
    daemon.launch();
    let manners = Manners { rate: 0, hangs_up: 0, longest_wait: Duration::from_millis(60), patience: PATIENCE };
    let load = Load::new(daemon.setup.listen, &ledger, manners);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (load, chance) = (Arc::clone(&load), chance.fork());
            scope.spawn(move || load.run(chance));
        }
        let _stop = load.stop_at_end();
        for round in 0..ROUNDS {
            let goal = load.promises() + chance.between(1, 25);
            let deadline = Instant::now() + PATIENCE;
            while load.promises() < goal {
                assert!(Instant::now() < deadline, "the load goes on");
                Load::pause(Duration::from_millis(1));
            }
            let ending = daemon.terminate(LONGEST);
            assert!(!ending.cut_short, "round {round}: {ending:?}");
            daemon.launch();
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while !daemon.queue().is_empty() && Instant::now() < deadline {
        Load::pause(Duration::from_millis(50));
    }
    assert!(!daemon.terminate(LONGEST).cut_short);
    let findings = check(&ledger);
    println!("{findings}");
    assert!(findings.is_clean(), "see above; JOURNAL_RELAY_SEED={seed}");
    let books = ledger.books();
    assert_eq!(books.repeats.all(), 0, "an end in order repeats nothing");
    assert!(books.records.values().all(|record| !record.unknown), "and leaves no outcome unknown");
    drop(books);
    assert_eq!(daemon.queue().len(), 0);
}

/// The daemon reads its configuration from a pipe, so that a test knows when it has begun to.
fn mkfifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_sigterm_while_the_daemon_starts_ends_it_in_order_at_whatever_moment() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let config = std::fs::read(relay.config()).unwrap();
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("kept")).starts("250");
    relay.wait_events("record.acked", 1);
    relay.terminate();
    let pipe = relay.home().join("pipe.toml");
    mkfifo(&pipe);
    for round in 0..8 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_journal-relay"));
        command.args(["run", "--config"]).arg(&pipe).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = Program::start(&mut command);
        // Waits until the daemon opens it, too.
        let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        if round == 0 {
            signal(daemon.pid(), "TERM");
        }
        writer.write_all(&config).unwrap();
        drop(writer);
        // Whatever it does by now: reads, opens the spool, listens.
        if round > 0 {
            std::thread::park_timeout(Duration::from_millis(3 * round));
            signal(daemon.pid(), "TERM");
        }
        let status = daemon.wait(LONGEST).expect("it ends");
        assert_eq!((status.code(), status.signal()), (Some(0), None), "round {round}");
    }
    relay.launch();
    assert_eq!(relay.wait_event("spool.recovered", |_| true).number("records"), Some(0));
    assert_eq!(relay.finish().len(), 0);
}
