//! Archives that are down, full or closed to us, with hundreds of records: they are not hammered, people are told in a mail
//! or two, and everything arrives once it can.

use crate::common::{Client, Relay, Report, Setup, Sink, Stage, installed, say};
use crate::message;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const RECORDS: usize = 500;
/// Attempts that may be under way when the first failures come in, and a probe each 200 ms to 1 s for a minute.
const MOST_ATTEMPTS: usize = 20 + 80;

fn send(relay: &Relay, count: usize) {
    let mut client = Client::ehlo(relay.address());
    for number in 0..count {
        client.mail("alice@example.org", &["bob@example.net"], &message(&format!("outage-{number}"))).starts("250");
    }
}

/// The states that were logged of a route that is not the report route's.
fn states(relay: &Relay, route: &str) -> Vec<String> {
    let events = relay.events("route.state");
    events.iter().filter(|event| event.text("route") == route).map(|event| event.text("state").to_owned()).collect()
}

#[test]
fn five_hundred_records_wait_for_an_archive_that_is_down_without_hammering_it() {
    let (next_hop, mut archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).reporting_to(&reports).start();
    archive.down();
    send(&relay, RECORDS);
    let down = relay.wait_event("route.state", |event| event.text("state") == "down");
    assert!(!down.text("reply").is_empty() && !down.text("next_probe").is_empty(), "{down:?}");
    let waiting = relay.queue();
    assert_eq!(waiting.len(), RECORDS);
    let attempts: u64 = waiting.iter().map(|entry| entry["attempts"].as_u64().unwrap()).sum();
    assert!(attempts as usize <= MOST_ATTEMPTS, "{attempts} attempts");
    archive.up();
    archive.wait_for(RECORDS);
    relay.wait_events("record.acked", RECORDS);
    assert_eq!(states(&relay, down.text("route")), ["down", "up"]);
    let deferred = relay.count("record.deferred");
    assert!(deferred <= MOST_ATTEMPTS, "{deferred} deferrals");
    relay.finish_clean(RECORDS);
    assert!(reports.transactions().is_empty(), "nobody needed to know");
}

#[test]
fn five_hundred_refused_records_are_told_in_a_mail_or_two_that_name_each() {
    if !installed(&["python3"]) {
        return;
    }
    let (next_hop, mut archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).reporting_to(&reports).start();
    archive.down();
    send(&relay, RECORDS);
    archive.script(|stage| match stage {
        Stage::Rcpt(_) => say("550 5.7.1 no records, \"thank you\""),
        _ => None,
    });
    archive.up();
    let failed = relay.wait_events("record.failed", RECORDS);
    reports.wait_for(1);
    relay.wait_event("report.sent", |event| event.text("kind") == "failed");
    let mails = reports.transactions();
    assert!(mails.len() <= 2, "{} mails", mails.len());
    let failed: BTreeSet<_> = failed.iter().map(|event| event.text("record").to_owned()).collect();
    let mut paths = Vec::new();
    for (number, mail) in mails.iter().enumerate() {
        assert_eq!((mail.reverse_path(), mail.forward_paths()), ("", vec!["postmaster@example.org"]));
        let path = relay.home().join(format!("report-{number}.eml"));
        std::fs::write(&path, &mail.octets).unwrap();
        paths.push(path);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_digest.py");
    let output = Command::new("python3").arg(script).args(&paths).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let named: BTreeSet<_> = said.lines().map(str::to_owned).collect();
    assert_eq!((named.len(), named), (RECORDS, failed));
    assert_eq!(relay.finish().len(), RECORDS, "all are kept");
}

#[test]
fn an_archive_that_refuses_us_is_told_of_once_and_so_is_the_end() {
    let (next_hop, reports) = (Sink::start(), Sink::start());
    let archive = Sink::scripted(|stage| match stage {
        Stage::Mail(_) => say("554 5.7.1 who are you"),
        _ => None,
    });
    let mut setup = Setup::new(&next_hop, &archive).reporting_to(&reports);
    // So long it must take records again before that is told.
    setup.report_after = "2s".into();
    let mut relay = setup.start();
    send(&relay, 5);
    let mail = reports.wait_for(1).remove(0);
    let report = Report::read(&mail.octets);
    assert!(report.field("Subject").unwrap().contains("refuses the relay"), "{report:?}");
    assert!(report.status.contains("Action: delayed") && report.status.contains("554 5.7.1 who are you"));
    assert_eq!(relay.count("record.failed"), 0);
    archive.script(|_| None);
    relay.wait_events("record.acked", 5);
    let mail = reports.wait_for(2).remove(1);
    assert!(Report::read(&mail.octets).text.contains("takes journal records again"));
    assert_eq!(states(&relay, relay.events("route.state")[0].text("route")).last().map(String::as_str), Some("up"));
    relay.finish_clean(5);
    assert_eq!(reports.transactions().len(), 2);
}
