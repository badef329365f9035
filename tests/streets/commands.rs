//! The commands, beside a running daemon and without one.

use crate::common::{Client, Record, Relay, Setup, Sink, Stage, run, say, strip_received};
use crate::message;
use std::process::Output;

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// A daemon whose archive is unwilling, so that records stay.
fn with_waiting_records(marks: &[&str]) -> (Sink, Sink, Relay) {
    let next_hop = Sink::start();
    let archive = Sink::scripted(|stage| matches!(stage, Stage::Mail(_)).then(|| say("451 4.3.2 not now")).flatten());
    let mut setup = Setup::new(&next_hop, &archive);
    // Nothing is tried again by itself.
    (setup.retry_first, setup.retry_longest) = ("1h".into(), "2h".into());
    let relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    for mark in marks {
        client.mail("alice@example.org", &["bob@example.net", "eve@example.net"], &message(mark)).starts("250");
    }
    relay.wait_event("record.deferred", |_| true);
    (next_hop, archive, relay)
}

#[test]
fn check_says_nothing_bad_about_a_good_configuration() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let relay = Relay::prepare(Setup::new(&next_hop, &archive), tempfile::tempdir().unwrap());
    done(relay.command(&["check"]));
    assert!(!relay.spool().exists(), "nothing is started, nothing is made");
}

#[test]
fn a_wrong_configuration_is_named_by_file_line_and_column_with_status_78() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive);
    let relay = Relay::prepare(setup.clone(), tempfile::tempdir().unwrap());
    let good = setup.toml(&relay.spool());
    for (from, to, says) in [
        ("next_hop = ", "nxt_hop = ", "nxt_hop"),
        ("trusted_networks = [\"127.0.0.0/8\"", "trusted_networks = [\"127.0.0.0/99\"", "127.0.0.0/99"),
        ("coalesce = \"0s\"", "coalesce = 5", "coalesce"),
        ("domains = [\"example.org\"]", "domains = [\"example.org\", \"example.org\"]", "example.org"),
        ("[spool]", "[spool", ""),
    ] {
        let wrong = good.replacen(from, to, 1);
        assert_ne!(wrong, good);
        relay.configure(&wrong);
        let changed = wrong.lines().zip(good.lines()).position(|(one, other)| one != other).unwrap() + 1;
        for command in ["check", "run"] {
            let output = relay.command(&[command]);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{command} {to}: {stderr}");
            // A missing key is reported at its table's line, whatever is wrong with what stands there instead too.
            let place = format!("{}:{changed}:", relay.config().display());
            assert!(stderr.contains(&place) && stderr.contains(says), "{command}: {place} {says:?} in {stderr}");
        }
    }
    std::fs::remove_file(relay.config()).unwrap();
    let output = relay.command(&["check"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(text(&output.stderr).contains("config.toml"), "{output:?}");
    assert!(!relay.spool().exists());
}

#[test]
fn an_unknown_command_or_option_is_status_2() {
    for arguments in [
        &["frobnicate"][..],
        &["queue", "lose"],
        &["check", "--frobnicate"],
        &["queue", "show"],
        &["queue", "discard", "x"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    for arguments in [&["--help"][..], &["queue", "list", "--help"], &["--version"]] {
        assert!(done(run(arguments)).contains("journal-relay"), "{arguments:?}");
    }
}

#[test]
fn record_prints_the_record_that_a_message_would_get() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let relay = Relay::prepare(Setup::new(&next_hop, &archive), tempfile::tempdir().unwrap());
    let file = relay.home().join("message.eml");
    let crlf = message("printed");
    let lf: Vec<u8> = crlf.iter().copied().filter(|octet| *octet != b'\r').collect();
    for (octets, converted) in [(&crlf, false), (&lf, true)] {
        std::fs::write(&file, octets).unwrap();
        let arguments = [
            "record",
            file.to_str().unwrap(),
            "--from",
            "alice@example.org",
            "--to",
            "bob@example.net",
            "--to",
            "eve@example.net",
        ];
        let output = relay.command(&arguments);
        assert!(output.status.success(), "{output:?}");
        let record = Record::read(&output.stdout);
        assert_eq!(record.original, crlf);
        assert_eq!(record.lines("To"), ["bob@example.net"]);
        assert_eq!(record.lines("Bcc"), ["eve@example.net"]);
        assert_eq!(!output.stderr.is_empty(), converted, "{}", text(&output.stderr));
    }
    let nobodys = ["record", file.to_str().unwrap(), "--from", "a@remote.example", "--to", "b@remote.example"];
    assert_eq!(relay.command(&nobodys).status.code(), Some(1), "nobody's mail has no record");
    let missing = ["record", "/nonexistent.eml", "--from", "alice@example.org", "--to", "bob@example.net"];
    assert_eq!(relay.command(&missing).status.code(), Some(1));
    assert_eq!((next_hop.connections(), archive.connections()), (0, 0), "nothing is sent");
}

/// The keys that a record's line has.
const KEYS: [&str; 12] = [
    "id",
    "organization",
    "state",
    "message_id",
    "original_message_id",
    "created",
    "size",
    "recipients",
    "attempts",
    "next_attempt",
    "last_reply",
    "route",
];

fn look_at_the_queue(relay: &Relay, marks: &[&str]) {
    let listed = relay.queue();
    let messages: Vec<_> = listed.iter().map(|line| line["original_message_id"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = marks.iter().map(|mark| format!("<{mark}@example.org>")).collect();
    assert_eq!(messages, expected, "oldest first");
    for (line, mark) in listed.iter().zip(marks) {
        for key in KEYS {
            assert!(line.get(key).is_some(), "{key} in {line}");
        }
        assert_eq!(line["recipients"], serde_json::json!(["bob@example.net", "eve@example.net"]));
        assert_eq!(line["size"], message(mark).len());
        let id = line["id"].as_str().unwrap();
        let table = done(relay.command(&["queue", "list"]));
        assert!(table.contains(id) && table.contains("acme"), "{table}");
        let shown = done(relay.command(&["queue", "show", id]));
        assert!(shown.contains(id) && shown.contains(&format!("<{mark}@example.org>")), "{shown}");
        let shown: serde_json::Value =
            serde_json::from_str(done(relay.command(&["queue", "show", id, "--json"])).trim()).unwrap();
        assert_eq!(shown["id"], id);
        let original = relay.command(&["queue", "show", id, "--original"]);
        assert_eq!(original.stdout, message(mark), "{original:?}");
        let record = Record::read(&relay.command(&["queue", "show", id, "--record"]).stdout);
        assert_eq!((record.original, record.header.iter().any(|(_, value)| value == id)), (message(mark), true));
    }
    assert_eq!(relay.command(&["queue", "list", "--state", "lost"]).status.code(), Some(2));
    assert_eq!(done(relay.command(&["queue", "list", "--state", "failed", "--json"])), "");
    let unknown = relay.command(&["queue", "show", "0000000000000000"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn the_queue_is_seen_beside_a_running_daemon_and_without_one() {
    let marks = ["first", "second", "third"];
    let (_next_hop, _archive, mut relay) = with_waiting_records(&marks);
    look_at_the_queue(&relay, &marks);
    assert_eq!(relay.terminate().code(), Some(0));
    look_at_the_queue(&relay, &marks);
}

#[test]
fn retry_takes_effect_at_once_beside_a_running_daemon() {
    let (_next_hop, archive, mut relay) = with_waiting_records(&["again-1", "again-2"]);
    let ids: Vec<_> = relay.queue().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    archive.script(|_| None);
    done(relay.command(&["queue", "retry", &ids[0]]));
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).id(), ids[0]);
    done(relay.command(&["queue", "retry", "--all"]));
    assert_eq!(Record::read(&archive.wait_for(2)[1].octets).id(), ids[1]);
    relay.finish_clean(2);
}

#[test]
fn retry_without_a_daemon_takes_effect_at_its_start() {
    let (_next_hop, archive, mut relay) = with_waiting_records(&["asleep"]);
    assert_eq!(relay.terminate().code(), Some(0));
    archive.script(|_| None);
    done(relay.command(&["queue", "retry", "--all"]));
    relay.launch();
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("asleep"));
    relay.finish_clean(1);
}

#[test]
fn a_held_record_stays_until_it_is_released() {
    let (_next_hop, archive, mut relay) = with_waiting_records(&["held"]);
    let id = relay.queue()[0]["id"].as_str().unwrap().to_owned();
    done(relay.command(&["queue", "hold", &id]));
    assert_eq!(relay.queue()[0]["state"], "held");
    archive.script(|_| None);
    done(relay.command(&["queue", "retry", "--all"]));
    assert_eq!(relay.queue()[0]["state"], "held");
    done(relay.command(&["queue", "release", &id]));
    done(relay.command(&["queue", "retry", "--all"]));
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).id(), id);
    relay.finish_clean(1);
}

#[test]
fn discard_needs_a_reason_and_leaves_it_in_log_and_history() {
    let (_next_hop, _archive, mut relay) = with_waiting_records(&["kept", "discarded"]);
    let ids: Vec<_> = relay.queue().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(relay.command(&["queue", "discard", &ids[1]]).status.code(), Some(2), "a reason is required");
    let output = relay.command(&["queue", "discard", &ids[1], "--reason", "court order 7"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output.stderr).contains("record.discarded") && text(&output.stderr).contains("court order 7"),
        "{output:?}"
    );
    let left = relay.queue();
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, Some(ids[0].as_str())));
    let history = done(relay.command(&["queue", "list", "--state", "discarded", "--json"]));
    assert!(history.contains(&ids[1]) && history.contains("court order 7"), "{history}");
    assert_eq!(relay.command(&["queue", "discard", &ids[1], "--reason", "again"]).status.code(), Some(1));
    assert_eq!(relay.finish().len(), 1);
}

#[test]
fn export_writes_every_waiting_record_and_changes_nothing() {
    let marks = ["export-1", "export-2"];
    let (_next_hop, archive, mut relay) = with_waiting_records(&marks);
    let directory = relay.home().join("exported");
    done(relay.command(&["queue", "export", directory.to_str().unwrap()]));
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.iter().all(|file| file.extension().is_some_and(|extension| extension == "eml")), "{files:?}");
    let exported: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let originals: Vec<_> = exported.iter().map(|octets| Record::read(octets).original).collect();
    assert_eq!(originals, marks.map(message));
    archive.script(|_| None);
    done(relay.command(&["queue", "retry", "--all"]));
    for sent in archive.wait_for(2) {
        assert!(exported.contains(&sent.octets), "what is sent is what was exported");
    }
    relay.finish_clean(2);
}

/// What lies in a maildir's `new`.
fn delivered(maildir: &std::path::Path) -> Option<Vec<u8>> {
    let entry = std::fs::read_dir(maildir.join("new")).ok()?.next()?.ok()?;
    std::fs::read(entry.path()).ok()
}

#[test]
fn the_example_configuration_starts_as_it_is_and_journals_the_example_message() {
    let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = std::fs::read_to_string(home.join("config/journal-relay.toml")).unwrap();
    let octets = std::fs::read(home.join("examples/message.eml")).unwrap();
    let mut relay = Relay::prepare(Setup::with_routes("maildir:/", "maildir:/"), tempfile::tempdir().unwrap());
    let data = relay.home().join("journal-relay-data");
    // Another place and any free port: the daemon's own are for people.
    let moved = example
        .replace("journal-relay-data", data.to_str().unwrap())
        .replace("127.0.0.1:2525", "127.0.0.1:0")
        .replace("127.0.0.1:8025", "127.0.0.1:0");
    assert_ne!(moved, example);
    relay.configure(&moved);
    relay.launch();
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net", "hidden@example.com"], &octets).starts("250");
    let copy = relay.poll("the message", || delivered(&data.join("delivered")));
    assert_eq!(strip_received(&copy).1, octets);
    let record = Record::read(&relay.poll("its record", || delivered(&data.join("journal"))));
    assert_eq!(record.original, octets);
    assert_eq!((record.lines("To"), record.lines("Bcc")), (vec!["bob@example.net"], vec!["hidden@example.com"]));
    relay.finish_clean(1);
}
