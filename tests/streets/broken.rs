//! A spool that is lost for the process: the daemon ends, so that whoever watches it starts it anew.

use crate::common::{Client, Record, Relay, Setup, Sink, Stage, drop_line};
use crate::message;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The database's pages, but for the first.
const PAGE: usize = 4_096;

/// Destroys the database under the running daemon; gives what it was.
fn damage(relay: &Relay) -> Vec<u8> {
    let path = relay.spool().join("spool.sqlite");
    let neighbour = Connection::open(&path).unwrap();
    let records: i64 = neighbour.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(records, 0);
    // All of it is in the file: also which generation of the log it lacks.
    let busy: i64 = neighbour.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[PAGE..].fill(0xff);
    std::fs::write(&path, &damaged).unwrap();
    // A commit of another process: the daemon reads anew what it had in memory.
    let id: i64 = neighbour.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    neighbour.pragma_update(None, "application_id", id + 1).unwrap();
    neighbour.pragma_update(None, "application_id", id).unwrap();
    whole
}

fn mend(relay: &Relay, whole: &[u8]) {
    std::fs::write(relay.spool().join("spool.sqlite"), whole).unwrap();
}

#[test]
fn a_damaged_spool_ends_the_daemon_with_a_status_of_its_own_and_a_start_goes_on() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let whole = damage(&relay);
    let was_taken = show(&relay);
    assert_eq!(relay.ended().code(), Some(74), "EX_IOERR: systemd's Restart=on-failure starts it anew");
    assert_eq!(relay.events("daemon.stopped").len(), 1, "it drained");
    // The archive may have the first one's record already.
    let was_acked = relay.count("record.acked");
    mend(&relay, &whole);
    relay.launch();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("mended")).starts("250");
    let mut expected = vec![message("mended")];
    if was_taken {
        expected.insert(0, message("damaged"));
    }
    relay.finish_clean(expected.len() - was_acked);
    assert_eq!(next_hop.transactions().len(), expected.len());
    let mut records: Vec<_> = archive.transactions().iter().map(|it| Record::read(&it.octets).original).collect();
    records.sort_by_key(|original| *original == message("mended"));
    assert!(records == expected, "that of the first came through the log, once");
}

/// A message shows the damage, unless the daemon has found it by itself before; whether it was taken. Then it has its record:
/// octets and fields are durable in the log in front of the database.
fn show(relay: &Relay) -> bool {
    let reply = Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("damaged"));
    relay.wait_event("spool.pressure", |event| event.text("state") == "failed");
    if reply.text().starts_with("250") {
        return true;
    }
    reply.starts("451 4.3.0");
    false
}

/// The same where mail passes all the same; how many records were given up for that.
fn show_passing(relay: &Relay) -> usize {
    show(relay);
    // What is logged of its record comes before.
    relay.wait_event("message.accepted", |_| true);
    relay.count("record.bypassed")
}

/// The relay with this configuration, told by a reload to let mail go on, and what it was configured with before.
fn bypassing(next_hop: &Sink, archive: &Sink) -> (Relay, String) {
    let relay = Setup::new(next_hop, archive).start();
    let tempfail = std::fs::read_to_string(relay.config()).unwrap();
    relay.configure(&tempfail.replace("allow_volatile = true\n", "allow_volatile = true\non_failure = \"bypass\"\n"));
    relay.ask_to_reload();
    relay.wait_event("config.reloaded", |_| true);
    (relay, tempfail)
}

#[test]
fn a_verdict_that_is_lost_without_the_spool_is_a_gap_and_the_client_comes_again() {
    let is_lost = Arc::new(AtomicBool::new(false));
    let once = Arc::clone(&is_lost);
    let next_hop = Sink::scripted(move |stage| match stage {
        Stage::End(_) if once.swap(false, Ordering::SeqCst) => drop_line(),
        _ => None,
    });
    let archive = Sink::start();
    let (relay, _) = bypassing(&next_hop, &archive);
    damage(&relay);
    let before = show_passing(&relay);
    is_lost.store(true, Ordering::SeqCst);
    for (expected, bypassed) in [("451 4.4.1", 1), ("250", 2)] {
        let mut client = Client::ehlo(relay.address());
        client.mail("alice@example.org", &["bob@example.net"], &message("lost")).starts(expected);
        // The next hop may have taken it the first time, too.
        assert_eq!(relay.wait_events("record.bypassed", before + bypassed).len(), before + bypassed);
    }
    let unknown = relay.wait_event("message.refused", |event| event.0["outcome"] == "unknown");
    assert!(unknown.text("message").contains("it has no record"), "{unknown:?}");
    assert_eq!(archive.transactions().len(), 0);
}

#[test]
fn where_mail_passes_without_the_spool_a_damaged_one_ends_nothing_until_that_is_over() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let (mut relay, tempfail) = bypassing(&next_hop, &archive);
    damage(&relay);
    let before = show_passing(&relay);
    for round in 1..=2 {
        let mut client = Client::ehlo(relay.address());
        client.mail("alice@example.org", &["bob@example.net"], &message(&format!("passes {round}"))).starts("250");
        relay.wait_events("record.bypassed", before + round);
    }
    // It lives on: the reload finds it, and is what ends it.
    relay.configure(&tempfail);
    relay.ask_to_reload();
    assert_eq!(relay.ended().code(), Some(74));
    assert_eq!(next_hop.transactions().len(), 3);
}
