//! Several archives for one organization: each gets every record once; one may be down, be replaced, or be enough; what was
//! delivered can be sent again.

use crate::common::{Client, Record, Relay, Setup, Sink, Stage, Transaction, json_lines, say};
use crate::message;
use std::collections::{BTreeMap, BTreeSet};

const FIRST: &str = "archive@vault.example";
const SECOND: &str = "archive@second.example";

struct Street {
    next_hop: Sink,
    first: Sink,
    second: Sink,
    setup: Setup,
}

/// Two archives; `more` stands in the organization's table.
fn street(more: &str) -> Street {
    let (next_hop, first, second) = (Sink::start(), Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &first);
    setup.organizations[0].more = format!("{}\n{more}", also(SECOND, &second));
    Street { next_hop, first, second, setup }
}

fn also(address: &str, sink: &Sink) -> String {
    format!("also = [{{ journaling_address = \"{address}\", journaling_route = \"{}\" }}]", sink.route())
}

fn send(relay: &Relay, mark: &str) {
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message(mark)).starts("250");
}

fn reload(relay: &Relay, toml: &str) {
    let before = relay.count("config.reloaded");
    relay.configure(toml);
    relay.ask_to_reload();
    relay.wait_events("config.reloaded", before + 1);
}

/// The records by their Message-ID; two under one would be a double.
fn records(taken: &[Transaction]) -> BTreeMap<String, Record> {
    let records: BTreeMap<_, _> = taken
        .iter()
        .map(|taken| Record::read(&taken.octets))
        .map(|record| (record.message_id().to_owned(), record))
        .collect();
    assert_eq!(records.len(), taken.len(), "no record is there twice");
    records
}

fn originals(taken: &[Transaction]) -> BTreeSet<Vec<u8>> {
    records(taken).into_values().map(|record| record.original).collect()
}

/// Waits until the spool holds so many: an acknowledgement is told before it is kept.
fn waiting(relay: &Relay, count: usize) -> Vec<serde_json::Value> {
    relay.poll("records in the spool", || Some(relay.queue()).filter(|queue| queue.len() == count))
}

fn messages(marks: &[&str]) -> BTreeSet<Vec<u8>> {
    marks.iter().map(|mark| message(mark)).collect()
}

/// The header without what tells one copy from another.
fn common_header(record: &Record) -> Vec<&(String, String)> {
    let own = ["To", "X-Journal-Record", "X-Journal-Mac"];
    record.header.iter().filter(|(name, _)| !own.contains(&name.as_str())).collect()
}

#[test]
fn each_archive_gets_every_record_once_and_the_copies_differ_in_their_address_id_and_seal_alone() {
    let Street { next_hop: _next_hop, first, second, setup } = street("");
    let mut relay = setup.start();
    for mark in ["one", "two", "three"] {
        send(&relay, mark);
    }
    let (at_first, at_second) = (first.wait_for(3), second.wait_for(3));
    let (of_first, of_second) = (records(&at_first), records(&at_second));
    assert_eq!(of_first.keys().collect::<Vec<_>>(), of_second.keys().collect::<Vec<_>>());
    for taken in [&at_first, &at_second].into_iter().zip([FIRST, SECOND]) {
        assert!(taken.0.iter().all(|copy| copy.forward_paths() == [taken.1]));
    }
    for (one, two) in of_first.values().zip(of_second.values()) {
        assert_eq!(common_header(one), common_header(two));
        assert_eq!((one.field("To"), two.field("To")), (Some(FIRST), Some(SECOND)));
        assert_eq!((&one.original, &one.envelope), (&two.original, &two.envelope));
        assert_ne!((one.id(), one.field("X-Journal-Mac")), (two.id(), two.field("X-Journal-Mac")));
    }
    relay.finish_clean(6);
    // The log says from the beginning which is for whom.
    let committed = relay.events("record.committed");
    let told: BTreeMap<_, _> = committed.iter().map(|it| (it.text("record"), it.text("archive"))).collect();
    let sent =
        of_first.values().map(|copy| (copy.id(), FIRST)).chain(of_second.values().map(|copy| (copy.id(), SECOND)));
    assert_eq!(told, sent.collect());
}

#[test]
fn a_record_for_the_only_archive_is_committed_without_its_name() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    send(&relay, "alone");
    relay.finish_clean(1);
    let [committed] = relay.events("record.committed").try_into().unwrap();
    assert!(committed.0.get("archive").is_none(), "{committed:?}");
}

#[test]
fn an_archive_that_is_down_keeps_its_copies_and_holds_nobody_up() {
    let Street { next_hop: _next_hop, first, mut second, setup } = street("");
    let mut relay = setup.start();
    second.down();
    send(&relay, "one");
    send(&relay, "two");
    first.wait_for(2);
    relay.wait_events("record.acked", 2);
    relay.wait_event("record.deferred", |_| true);
    let queue = waiting(&relay, 2);
    assert_eq!(queue.iter().map(|entry| entry["archive"].as_str().unwrap()).collect::<Vec<_>>(), [SECOND, SECOND]);
    let table = String::from_utf8(relay.command(&["queue", "list"]).stdout).unwrap();
    assert!(table.lines().next().unwrap().contains("ARCHIVE") && table.contains(SECOND), "{table}");
    assert!(second.route().starts_with(queue[0]["route"].as_str().unwrap()));
    relay.kill9();
    relay.launch();
    second.up();
    assert_eq!(originals(&second.wait_for(2)), messages(&["one", "two"]));
    assert_eq!(relay.finish(), Vec::<serde_json::Value>::new());
    assert_eq!(first.count(), 2);
}

#[test]
fn where_any_archive_is_enough_one_that_is_down_keeps_nothing_waiting_and_causes_no_report() {
    let Street { next_hop: _next_hop, first, mut second, setup } = street("delivered_when = \"any\"");
    let reports = Sink::start();
    let mut relay = setup.reporting_to(&reports).start();
    second.down();
    send(&relay, "one");
    let over = relay.wait_event("record.superseded", |_| true);
    assert_eq!((over.text("archive"), over.text("organization")), (SECOND, "acme"));
    assert_eq!(originals(&first.wait_for(1)), messages(&["one"]));
    // One archive that refuses is no failure while the other takes.
    second.up();
    second.script(|stage| if matches!(stage, Stage::End(_)) { say("554 5.6.0 not today") } else { None });
    send(&relay, "two");
    first.wait_for(2);
    relay.wait_events("record.superseded", 2);
    assert_eq!(relay.finish(), Vec::<serde_json::Value>::new());
    assert_eq!((second.taken().len(), reports.count()), (0, 0));
}

#[test]
fn an_archive_is_replaced_without_a_gap_and_without_a_double() {
    let Street { next_hop: _next_hop, first: mut old, second: new, mut setup } = street("");
    setup.organizations[0].more = String::new();
    let mut relay = setup.start();
    let alone = std::fs::read_to_string(relay.config()).unwrap();
    let both = alone.replace("coalesce = \"0s\"", &format!("coalesce = \"0s\"\n{}", also(SECOND, &new)));
    let moved = alone.replace(FIRST, SECOND).replace(
        &format!("journaling_route = \"{}\"", old.route()),
        &format!("journaling_route = \"{}\"", new.route()),
    );
    let swapped = moved.replace("coalesce = \"0s\"", &format!("coalesce = \"0s\"\n{}", also(FIRST, &old)));
    assert!(alone != both && moved != swapped && moved.contains(&new.route()));

    send(&relay, "before");
    old.wait_for(1);
    reload(&relay, &both);
    send(&relay, "at both");
    old.wait_for(2);
    new.wait_for(1);
    // The old one fails for good while the new one takes its place, by way of a crash.
    old.down();
    send(&relay, "while it is down");
    new.wait_for(2);
    relay.wait_event("record.deferred", |_| true);
    reload(&relay, &swapped);
    send(&relay, "when they have changed places");
    new.wait_for(3);
    waiting(&relay, 2);
    relay.kill9();
    relay.launch();
    waiting(&relay, 2);
    reload(&relay, &moved);
    relay.wait_events("record.superseded", 2);
    send(&relay, "after");
    new.wait_for(4);
    assert_eq!(relay.finish(), Vec::<serde_json::Value>::new());
    let rest = ["at both", "while it is down", "when they have changed places", "after"];
    assert_eq!(originals(&new.taken()), messages(&rest));
    assert_eq!(originals(&old.taken()), messages(&["before", "at both"]));
}

#[test]
fn a_record_that_no_archive_took_stays_whichever_archives_come_and_go() {
    let Street { next_hop: _next_hop, first: mut old, second: mut new, setup } = street("");
    let mut relay = setup.start();
    old.down();
    new.down();
    send(&relay, "one");
    waiting(&relay, 2);
    let both = std::fs::read_to_string(relay.config()).unwrap();
    let alone = both.lines().filter(|line| !line.starts_with("also")).collect::<Vec<_>>().join("\n");
    // To the new one, and back to the old one, before either has taken anything.
    reload(&relay, &alone.replace(FIRST, SECOND).replace(&old.route(), &new.route()));
    relay.wait_events("record.superseded", 1);
    waiting(&relay, 1);
    reload(&relay, &alone);
    old.up();
    assert_eq!(originals(&old.wait_for(1)), messages(&["one"]));
    assert_eq!(relay.finish(), Vec::<serde_json::Value>::new());
    assert_eq!(new.count(), 0);
}

#[test]
fn what_waits_for_an_archive_goes_to_its_new_address() {
    let Street { next_hop: _next_hop, first: mut old, second: new, mut setup } = street("");
    setup.organizations[0].more = String::new();
    let mut relay = setup.start();
    old.down();
    send(&relay, "one");
    relay.wait_event("record.deferred", |_| true);
    let toml = std::fs::read_to_string(relay.config()).unwrap().replace(FIRST, SECOND);
    reload(&relay, &toml.replace(&old.route(), &new.route()));
    assert_eq!(originals(&new.wait_for(1)), messages(&["one"]));
    relay.wait_event("records.followed", |event| event.number("redirected") == Some(1));
    relay.finish_clean(1);
}

fn resend(relay: &Relay, more: &[&str]) -> (i32, String, String) {
    let output =
        relay.command(&[&["queue", "resend", "--organization", "acme", "--since", "2020-01-01"][..], more].concat());
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn delivered_records_are_sent_again_under_their_message_id_and_say_so() {
    let Street { next_hop: _next_hop, first, second, mut setup } = street("");
    setup.organizations[0].more = "retention = \"30d\"".to_owned();
    let mut relay = setup.start();
    send(&relay, "one");
    send(&relay, "two");
    first.wait_for(2);
    relay.wait_events("record.acked", 2);
    let (code, told, _) = resend(&relay, &["--until", "2020-01-02"]);
    assert_eq!((code, told.starts_with("0 records")), (0, true), "{told}");
    let (code, told, warned) = resend(&relay, &[]);
    assert_eq!(
        (code, told.starts_with("2 records are sent again"), warned.lines().count()),
        (0, true, 1),
        "{told}{warned}"
    );
    assert!(warned.contains("records.resent"), "{warned}");
    let taken = first.wait_for(4);
    let (before, again) = (records(&taken[..2]), records(&taken[2..]));
    assert_eq!(before.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (id, replay) in &again {
        let first = &before[id];
        assert_eq!((&replay.original, replay.field("Date")), (&first.original, first.field("Date")));
        assert!(replay.field("X-Journal-Replay").is_some() && first.field("X-Journal-Replay").is_none());
        assert_ne!(replay.id(), first.id());
    }
    relay.wait_event("record.acked", |event| event.0["replay_of"].is_string());

    // To an archive that is new.
    let toml = std::fs::read_to_string(relay.config()).unwrap();
    let (code, _, why) = resend(&relay, &["--to", SECOND]);
    assert_eq!(
        (code, why.contains("is no archive of acme; its archives are archive@vault.example")),
        (1, true),
        "{why}"
    );
    reload(&relay, &toml.replace("retention = ", &format!("{}\nretention = ", also(SECOND, &second))));
    assert_eq!(resend(&relay, &["--to", SECOND]).0, 0);
    assert_eq!(originals(&second.wait_for(2)), messages(&["one", "two"]));

    // Nothing is kept any more once the configuration says so.
    waiting(&relay, 0);
    relay.kill9();
    relay.configure(&toml.replace("retention = \"30d\"", ""));
    relay.launch();
    let (code, told, why) = relay.poll("that the messages are let go", || {
        Some(resend(&relay, &["--until", "2020-01-02"])).filter(|_| kept(&relay) == 0)?;
        Some(resend(&relay, &[]))
    });
    assert_eq!((code, told.starts_with("0 records are sent again")), (1, true), "{told}");
    assert!(why.contains("2 records: not sent again, the message is not kept"), "{why}");
    assert_eq!(relay.finish(), Vec::<serde_json::Value>::new());
}

/// Delivered records whose message can still be shown.
fn kept(relay: &Relay) -> usize {
    let acked = json_lines(&relay.command(&["queue", "list", "--state", "acked", "--json"]).stdout);
    let is_kept = |entry: &&serde_json::Value| {
        relay.command(&["queue", "show", entry["id"].as_str().unwrap(), "--original"]).status.success()
    };
    acked.iter().filter(is_kept).count()
}
