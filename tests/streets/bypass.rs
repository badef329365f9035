//! Mail that goes on while the spool can't take it (`spool.on_failure = "bypass"`), and what is told of it.

use crate::admin;
use crate::common::{Client, Record, Relay, Report, Setup, Sink, Stage, json_lines, say, strip_received};
use crate::message;
use crate::room::Disk;
use std::net::SocketAddr;

const BYPASSED: &str = "journal_relay_bypassed_total{organization=\"acme\"}";

/// A relay with its spool on `disk` that was told by a reload to let mail go on.
fn start(disk: &Disk, next_hop: &Sink, archive: &Sink, reports: &Sink) -> (Relay, SocketAddr) {
    let mut setup = Setup::new(next_hop, archive).reporting_to(reports);
    setup.spool = Some(disk.path().join("spool"));
    let (relay, admin) = admin::start(setup);
    let toml = std::fs::read_to_string(relay.config()).unwrap();
    relay.configure(&toml.replace("allow_volatile = true\n", "allow_volatile = true\non_failure = \"bypass\"\n"));
    relay.ask_to_reload();
    relay.wait_event("config.reloaded", |_| true);
    (relay, admin)
}

/// `queue gaps --json`
fn gaps(relay: &Relay) -> Vec<serde_json::Value> {
    let output = relay.command(&["queue", "gaps", "--json"]);
    assert!(output.status.success(), "{output:?}");
    json_lines(&output.stdout)
}

fn large(mark: &str, octets: usize) -> Vec<u8> {
    let mut text = message(mark);
    while text.len() < octets {
        text.extend_from_slice(&[b'x'; 70]);
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// The queue ids that gaps name, sorted.
fn ids(gaps: &[serde_json::Value]) -> Vec<String> {
    let named = gaps.iter().flat_map(|gap| gap["queue_ids"].as_array().unwrap());
    let mut named: Vec<_> = named.map(|id| id.as_str().unwrap().to_owned()).collect();
    named.sort();
    named
}

/// The queue ids of `record.bypassed`, sorted.
fn bypassed(relay: &Relay) -> Vec<String> {
    let events = relay.events("record.bypassed");
    assert!(events.iter().all(|event| event.text("organization") == "acme" && !event.text("reason").is_empty()));
    let mut ids: Vec<_> = events.iter().map(|event| event.text("queue_id").to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn mail_passes_a_full_spool_without_a_record_and_the_gap_is_noted_and_told() {
    let Some(disk) = Disk::mount("4m") else {
        println!("skipped: no disk can be mounted here");
        return;
    };
    let (next_hop, archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    let (mut relay, admin) = start(&disk, &next_hop, &archive, &reports);
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("before")).starts("250");
    relay.wait_events("record.acked", 1);
    let filler = disk.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    relay.wait_event("spool.pressure", |event| event.text("state") == "low");
    let mails = [message("small"), large("large", 1 << 20), message("last")];
    for mail in &mails {
        client.mail("alice@example.org", &["bob@example.net"], mail).starts("250");
    }
    // Mail of nobody has no record, and leaves no gap.
    client.mail("alice@else.example", &["bob@example.net"], &message("foreign")).starts("250");
    let passed = next_hop.wait_for(5);
    for (mail, passed) in mails.iter().zip(&passed[1..]) {
        assert_eq!(strip_received(&passed.octets).1, mail);
    }
    assert_eq!(relay.wait_events("record.bypassed", 3).len(), 3);
    std::fs::remove_file(&filler).unwrap();
    relay.wait_event("spool.pressure", |event| event.text("state") == "ok" && event.number("free_octets").is_some());
    // New mail waits for the reserve, too, where that was given up.
    relay.poll("the spool's reserve", || {
        let count = |state| relay.events("spool.pressure").iter().filter(|event| event.text("state") == state).count();
        (count("reserve_held") >= count("reserve_spent")).then_some(())
    });
    client.mail("alice@example.org", &["bob@example.net"], &message("after")).starts("250");
    assert_eq!(Record::read(&archive.wait_for(2)[1].octets).original, message("after"));
    let first = relay.poll("a gap", || gaps(&relay).into_iter().next());
    assert_eq!(first["organization"], "acme");
    assert!(first["reason"].as_str().unwrap().contains("full"), "{first}");
    let mail = reports.wait_for(1).remove(0);
    assert_eq!((mail.reverse_path(), mail.forward_paths()), ("", vec!["postmaster@example.org"]));
    let report = Report::read(&mail.octets);
    assert!(report.text.contains("WITHOUT a record"), "{report:?}");
    for id in first["queue_ids"].as_array().unwrap() {
        assert!(report.text.contains(id.as_str().unwrap()), "{id} is not in {report:?}");
    }
    let (_, metrics) = admin::get(admin, "/metrics");
    assert_eq!(admin::value(&metrics, BYPASSED), Some(3.0), "{metrics}");
    let list = relay.command(&["queue", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).trim_end().ends_with("in the journal: journal-relay queue gaps"));
    drop(client);
    relay.finish_clean(2);
    // What came after the first gap was noted, on what little room the log had kept, is noted at the end.
    assert_eq!(ids(&gaps(&relay)), bypassed(&relay));
}

#[test]
fn a_message_that_outgrows_the_spool_on_its_way_arrives_whole() {
    let Some(disk) = Disk::mount("4m") else {
        println!("skipped: no disk can be mounted here");
        return;
    };
    let (next_hop, archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    let (mut relay, _) = start(&disk, &next_hop, &archive, &reports);
    let mut client = Client::ehlo(relay.address());
    // Without SIZE nobody knows before that it does not fit.
    let mail = large("outgrows", 6 << 20);
    client.mail("alice@example.org", &["bob@example.net"], &mail).starts("250");
    let passed = next_hop.wait_for(1);
    assert!(strip_received(&passed[0].octets).1 == mail, "{} octets arrived", passed[0].octets.len());
    relay.wait_events("record.bypassed", 1);
    relay.poll("the gap", || (ids(&gaps(&relay)) == bypassed(&relay)).then_some(()));
    reports.wait_for(1);
    drop(client);
    relay.finish_clean(0);
}

#[test]
fn a_next_hop_that_refuses_leaves_no_gap() {
    let Some(disk) = Disk::mount("4m") else {
        println!("skipped: no disk can be mounted here");
        return;
    };
    let (next_hop, archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    let (mut relay, _) = start(&disk, &next_hop, &archive, &reports);
    let _ = std::fs::write(disk.path().join("filler"), vec![0; 8 << 20]);
    relay.wait_event("spool.pressure", |event| event.text("state") == "low");
    next_hop.script(|stage| match stage {
        Stage::End(_) => say("550 5.7.1 no"),
        _ => None,
    });
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("refused")).starts("550 5.7.1 no");
    relay.wait_events("message.refused", 1);
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    drop(client);
    relay.finish_clean(0);
    assert_eq!((bypassed(&relay), gaps(&relay).len()), (Vec::new(), 0));
}
