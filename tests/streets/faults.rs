//! What happens when the archive, the next hop or the client fails: no record is lost, none is made twice, and every reply
//! says what happened.

use crate::common::{Answer, Client, Gate, Record, Relay, Report, Setup, Sink, Stage, drop_line, say, stuff};
use crate::message;
use std::time::Duration;

const TO: &[&str] = &["bob@example.net"];

fn send(relay: &Relay, mark: &str) -> crate::common::Reply {
    Client::ehlo(relay.address()).mail("alice@example.org", TO, &message(mark))
}

#[test]
fn records_wait_while_the_archive_is_down_and_arrive_when_it_is_back() {
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    archive.down();
    for mark in ["down-1", "down-2", "down-3"] {
        send(&relay, mark).starts("250");
    }
    relay.wait_event("record.deferred", |_| true);
    assert_eq!(relay.queue().len(), 3);
    archive.up();
    let mut originals: Vec<_> =
        archive.wait_for(3).iter().map(|record| Record::read(&record.octets).original).collect();
    originals.sort();
    assert_eq!(originals, ["down-1", "down-2", "down-3"].map(message));
    relay.finish_clean(3);
}

#[test]
fn records_survive_a_restart_while_the_archive_is_down() {
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    archive.down();
    send(&relay, "restart").starts("250");
    let left = relay.finish();
    assert_eq!(left.len(), 1, "{left:?}");
    archive.up();
    relay.launch();
    let recovered = relay.wait_event("spool.recovered", |_| true);
    assert_eq!(recovered.number("records"), Some(1), "{recovered:?}");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("restart"));
    relay.finish_clean(1);
}

#[test]
fn a_record_that_the_archive_refuses_is_kept_as_failed_and_reported_once() {
    let (next_hop, reports) = (Sink::start(), Sink::start());
    let archive = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("550-5.1.1 no such\n550 5.1.1 archive <here>"),
        _ => None,
    });
    let mut relay = Setup::new(&next_hop, &archive).reporting_to(&reports).start();
    send(&relay, "refused").starts("250");
    let failed = relay.wait_event("record.failed", |_| true);
    let id = failed.text("record").to_owned();
    let transaction = reports.wait_for(1).remove(0);
    let queue = relay.queue();
    assert_eq!(queue.len(), 1);
    assert_eq!((queue[0]["id"].as_str(), queue[0]["state"].as_str()), (Some(id.as_str()), Some("failed")));
    let message_id = queue[0]["message_id"].as_str().unwrap().to_owned();
    assert_eq!(queue[0]["original_message_id"], "<refused@example.org>");
    assert!(queue[0]["last_reply"].as_str().unwrap().contains("550"), "{queue:?}");
    check_report(&transaction, &id, &message_id);

    // The archive has mended its ways, and the operator knows.
    archive.script(|_| None);
    let output = relay.command(&["queue", "retry", &id]);
    assert!(output.status.success(), "{output:?}");
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!((record.id(), record.message_id()), (id.as_str(), message_id.as_str()));
    assert_eq!(record.original, message("refused"));
    relay.finish_clean(1);
    assert_eq!(reports.transactions().len(), 1, "one notification");
}

fn check_report(transaction: &crate::common::Transaction, id: &str, message_id: &str) {
    assert_eq!((transaction.reverse_path(), transaction.forward_paths()), ("", vec!["postmaster@example.org"]));
    let report = Report::read(&transaction.octets);
    assert!(report.field("From").unwrap().contains("amazonjournaling@acme.awsapps.com"), "{report:?}");
    assert_eq!(report.field("Auto-Submitted"), Some("auto-generated"));
    assert!(report.field("Content-Type").unwrap().contains("report-type=delivery-status"));
    for needle in [id, message_id, "550"] {
        assert!(report.text.contains(needle), "{needle} in {}", report.text);
    }
    for line in [
        "Reporting-MTA: dns; relay.example.org",
        "Final-Recipient: rfc822; archive@vault.example",
        "Action: failed",
        "Status: 5.1.1",
    ] {
        let line = line.to_ascii_lowercase().replace(' ', "");
        assert!(report.status.to_ascii_lowercase().replace(' ', "").contains(&line), "{line} in {}", report.status);
    }
    assert!(
        report.status.contains("Diagnostic-Code:") && report.status.contains("archive <here>"),
        "{}",
        report.status
    );
    let attached = report.attached.iter().any(|part| memchr::memmem::find(part, &message("refused")).is_some());
    assert!(attached, "the record is attached with its original");
}

#[test]
fn a_record_is_tried_again_after_every_passing_refusal_and_stays_the_same() {
    for (name, refuse) in [
        ("the greeting", (|stage| matches!(stage, Stage::Greeting)) as fn(&Stage<'_>) -> bool),
        ("EHLO", |stage| matches!(stage, Stage::Ehlo(_))),
        ("MAIL", |stage| matches!(stage, Stage::Mail(_))),
        ("RCPT", |stage| matches!(stage, Stage::Rcpt(_))),
        ("DATA", |stage| matches!(stage, Stage::Data)),
        ("the end of data", |stage| matches!(stage, Stage::End(_))),
    ] {
        let next_hop = Sink::start();
        let archive = Sink::scripted(move |stage| if refuse(stage) { say("451 4.7.1 come back later") } else { None });
        let mut relay = Setup::new(&next_hop, &archive).start();
        send(&relay, "later").starts("250");
        let deferred = relay.wait_event("record.deferred", |_| true);
        assert!(deferred.text("reply").contains("451 4.7.1 come back later"), "{name}: {deferred:?}");
        archive.script(|_| None);
        archive.wait_for(1);
        relay.finish_clean(1);
        let ends = archive.transactions();
        assert!(ends.iter().all(|end| end.octets == ends[0].octets), "{name}: a repeat differs");
    }
}

#[test]
fn a_fault_of_the_route_defers_the_record_even_when_the_code_says_never() {
    for (name, refuse) in [
        ("the greeting", (|stage| matches!(stage, Stage::Greeting)) as fn(&Stage<'_>) -> bool),
        ("MAIL", |stage| matches!(stage, Stage::Mail(_))),
    ] {
        let next_hop = Sink::start();
        let archive = Sink::scripted(move |stage| if refuse(stage) { say("554 5.7.1 not you") } else { None });
        let reports = Sink::start();
        let mut relay = Setup::new(&next_hop, &archive).reporting_to(&reports).start();
        send(&relay, "route").starts("250");
        relay.wait_event("record.deferred", |_| true);
        assert_eq!(relay.events("record.failed").len(), 0, "{name}");
        archive.script(|_| None);
        archive.wait_for(1);
        relay.finish_clean(1);
    }
}

#[test]
fn a_repeat_after_a_lost_reply_is_the_same_octet_for_octet() {
    let next_hop = Sink::start();
    let archive = Sink::scripted(|stage| if matches!(stage, Stage::End(_)) { drop_line() } else { None });
    let mut relay = Setup::new(&next_hop, &archive).start();
    send(&relay, "lost-reply").starts("250");
    archive.wait_for_ends(2);
    archive.script(|_| None);
    archive.wait_for(1);
    relay.finish_clean(1);
    let ends = archive.transactions();
    assert!(ends.len() >= 3);
    assert!(ends.iter().all(|end| end.octets == ends[0].octets), "octet for octet");
    assert!(!Record::read(&ends[0].octets).message_id().is_empty());
}

#[test]
fn a_repeat_after_kill_9_is_the_same_octet_for_octet() {
    let next_hop = Sink::start();
    let gate = Gate::default();
    let held = gate.clone();
    let archive = Sink::scripted(move |stage| match stage {
        Stage::End(_) => Some(Answer::Hold(held.clone(), Box::new(Answer::Say("250 2.0.0 taken".into())))),
        _ => None,
    });
    let mut relay = Setup::new(&next_hop, &archive).start();
    send(&relay, "killed").starts("250");
    // The archive has it all, but its reply finds nobody.
    gate.wait_for_arrivals(1);
    relay.kill9();
    gate.open();
    archive.wait_for(1);
    relay.launch();
    let ends = archive.wait_for(2);
    assert!(ends[0].octets == ends[1].octets, "octet for octet");
    relay.finish_clean(1);
}

#[test]
fn a_next_hop_that_is_down_is_answered_with_451() {
    let (mut next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    next_hop.down();
    let mut client = Client::connect(relay.address());
    let reply = client.command("EHLO client.example.com");
    if reply.is_taken() {
        client.mail("alice@example.org", TO, &message("down")).starts("451 4.4.1");
    } else {
        reply.starts("451 4.4.1");
    }
    next_hop.up();
    send(&relay, "up").starts("250");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("up"));
    relay.finish_clean(1);
}

#[test]
fn a_next_hop_that_leaves_before_the_dot_is_answered_with_451_and_there_is_no_record() {
    for (name, leave) in [
        ("MAIL", (|stage| matches!(stage, Stage::Mail(_))) as fn(&Stage<'_>) -> bool),
        ("RCPT", |stage| matches!(stage, Stage::Rcpt(_))),
        ("DATA", |stage| matches!(stage, Stage::Data)),
    ] {
        let next_hop = Sink::scripted(move |stage| if leave(stage) { drop_line() } else { None });
        let archive = Sink::start();
        let mut relay = Setup::new(&next_hop, &archive).start();
        let reply = send(&relay, "left");
        assert!(reply.text().starts_with("451 4.4.1"), "{name}: {reply:?}");
        // While the data is on its way.
        next_hop.script(|stage| match stage {
            Stage::Data => Some(Answer::SayAndDrop("354 but I leave".into())),
            _ => None,
        });
        let reply = send(&relay, "left-in-data");
        assert!(reply.text().starts_with("451 4.4.1"), "{name}: {reply:?}");
        next_hop.script(|_| None);
        let ends = next_hop.transactions().len();
        send(&relay, "back").starts("250");
        let back = relay.wait_event("message.accepted", |_| true);
        let record = relay.wait_event("record.committed", |event| event.text("queue_id") == back.text("queue_id"));
        relay.wait_event("record.acked", |event| event.text("record") == record.text("record"));
        // The dot of the second message may have left before the loss was seen: its record then says so.
        let records = archive.wait_for(1);
        assert!(records.len() <= 2 && ends == 0, "{name}");
        let unknown = relay.finish();
        assert_eq!(unknown.len(), 0, "{name}: {unknown:?}");
        for transaction in archive.taken() {
            let record = Record::read(&transaction.octets);
            assert_ne!(record.original, message("left"), "{name}");
            let lost = record.original == message("left-in-data");
            assert_eq!(record.field("X-Journal-Outcome"), lost.then_some("unknown"), "{name}");
        }
    }
}

#[test]
fn a_lost_verdict_is_answered_with_451_recorded_as_unknown_and_a_second_try_adds_no_record() {
    let next_hop = Sink::scripted(|stage| if matches!(stage, Stage::End(_)) { drop_line() } else { None });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    send(&relay, "verdict").starts("451");
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.field("X-Journal-Outcome"), Some("unknown"));
    assert_eq!(record.original, message("verdict"));
    next_hop.script(|_| None);
    send(&relay, "verdict").starts("250");
    // A message after it, so that whatever the second try would add has been seen.
    send(&relay, "marker").starts("250");
    archive.wait_for(2);
    relay.finish_clean(2);
    let originals: Vec<_> = archive.taken().iter().map(|taken| Record::read(&taken.octets).original).collect();
    assert_eq!(originals, [message("verdict"), message("marker")]);
}

#[test]
fn a_client_that_leaves_at_any_point_leaves_nothing_behind() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let lines = ["EHLO client.example.com", "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.net>", "DATA"];
    for count in 0..=lines.len() {
        let mut client = Client::connect(relay.address());
        for line in &lines[..count] {
            client.command(line);
        }
        client.hang_up();
        let mut client = Client::connect(relay.address());
        for line in &lines[..count] {
            client.command(line);
        }
        client.send(b"MAI");
        client.hang_up();
    }
    let octets = stuff(&message("half"));
    let cuts = (0..octets.len()).step_by(17).chain(octets.len() - 5..octets.len());
    let mut closed = 2 * (lines.len() + 1);
    for cut in cuts {
        let mut client = Client::connect(relay.address());
        for line in lines {
            client.command(line);
        }
        client.send(&octets[..cut]);
        client.hang_up();
        closed += 1;
    }
    relay.wait_events("session.closed", closed);
    send(&relay, "whole").starts("250");
    relay.finish_clean(1);
    assert_eq!(next_hop.transactions().len(), 1, "the next hop got the whole message alone");
    assert_eq!(Record::read(&archive.taken()[0].octets).original, message("whole"));
    assert_eq!(archive.transactions().len(), 1);
}

#[test]
fn sigterm_lets_open_transactions_end_and_takes_no_new_connections() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let address = relay.address();
    let mut idle = Client::ehlo(address);
    let mut client = Client::ehlo(address);
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    client.command("DATA").starts("354");
    let octets = stuff(&message("drain"));
    client.send(&octets[..octets.len() / 2]);
    relay.ask_to_end();
    relay.poll("new connections to be refused", || match Client::try_connect(address, Duration::from_secs(5)) {
        Err(_) => Some(()),
        Ok(client) => (client.greeting.code() == 421).then_some(()),
    });
    client.send(&octets[octets.len() / 2..]);
    client.reply().starts("250");
    idle.reply().starts("421 4.3.2");
    assert_eq!(relay.ended().code(), Some(0));
    assert_eq!(next_hop.count(), 1);
    // The record was sent before the end or waits for the next start.
    relay.launch();
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("drain"));
    assert_eq!(relay.finish().len(), 0);
    assert_eq!(archive.transactions().len(), 1);
}

#[test]
fn sigterm_without_anything_to_do_ends_at_once_with_status_0() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    assert_eq!(relay.finish().len(), 0);
}
