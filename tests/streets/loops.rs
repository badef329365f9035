//! The relay's own records and reports that come back through a listener, and what only looks like them.

use crate::common::{Client, Record, Relay, Report, Setup, Sink, Stage, say, strip_received};
use crate::message;

fn record_of(relay: &Relay, archive: &Sink, mark: &str) -> Vec<u8> {
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message(mark)).starts("250");
    let octets = archive.wait_for(1).remove(0).octets;
    relay.wait_events("record.acked", 1);
    octets
}

#[test]
fn a_record_that_comes_back_is_relayed_and_not_journaled() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let record = record_of(&relay, &archive, "back");
    // The key outlives the process.
    relay.terminate();
    relay.launch();
    let back = [b"Received: from a by b; today\r\n", &record[..]].concat();
    let sender = "amazonjournaling@acme.awsapps.com";
    Client::ehlo(relay.address()).mail(sender, &["archive@example.org"], &back).starts("250");
    let found = relay.wait_event("loop.detected", |_| true);
    assert_eq!(found.text("record"), Record::read(&record).id());
    assert_eq!(found.text("kind"), "record");
    // Whom a copy went to: no record tells it.
    assert_eq!((found.text("sender"), &found.0["recipients"]), (sender, &serde_json::json!(["archive@example.org"])));
    assert_eq!(found.number("added_octets"), Some(30));
    assert_eq!(strip_received(&next_hop.wait_for(2)[1].octets).1, back);
    assert_eq!(relay.finish().len(), 0);
    assert_eq!(archive.transactions().len(), 1, "no record of the record");
}

#[test]
fn a_record_that_goes_in_circles_is_stopped_by_its_hops() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let record = record_of(&relay, &archive, "circle");
    let hops = "Received: from relay by relay; today\r\n".repeat(101);
    let reply = Client::ehlo(relay.address()).mail(
        "amazonjournaling@acme.awsapps.com",
        &["archive@example.org"],
        &[hops.as_bytes(), &record].concat(),
    );
    reply.starts("550 5.4.6");
    assert_eq!(relay.wait_events("loop.detected", 1)[0].number("hops"), Some(101));
    assert_eq!(relay.finish().len(), 0);
    assert_eq!(next_hop.transactions().len(), 1);
}

#[test]
fn a_report_relayed_through_our_own_listener_is_not_journaled() {
    let (next_hop, reports) = (Sink::start(), Sink::start());
    let archive = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("550 5.1.1 no such archive"),
        _ => None,
    });
    let mut relay = Setup::new(&next_hop, &archive).reporting_to(&reports).start();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("reported")).starts("250");
    let report = reports.wait_for(1).remove(0).octets;
    Report::read(&report);
    Client::ehlo(relay.address()).mail("", &["postmaster@example.org"], &report).starts("250");
    assert_eq!(relay.wait_event("loop.detected", |_| true).text("kind"), "report");
    assert_eq!(relay.finish().len(), 1, "the failed record alone");
    assert_eq!(relay.count("record.committed"), 1);
}

#[test]
fn a_copied_or_forged_marker_exempts_nothing() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let record = record_of(&relay, &archive, "forged");
    let end = memchr::memmem::find(&record, b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8(record.clone()).unwrap();
    let mac = text.lines().find(|line| line.starts_with("X-Journal-Mac: ")).unwrap();
    let others = [
        // The whole header of a record on another body.
        [&record[..end], b"Dear Eve, the numbers.\r\n"].concat(),
        // Its field on another message.
        [mac.as_bytes(), b"\r\n", &message("other")].concat(),
        text.replace("This is forged", "This was forged").into_bytes(),
        text.replace(mac, &format!("{mac}\r\n{mac}")).into_bytes(),
        text.replace("X-Journal-Mac: v1", "X-Journal-Mac: v2").into_bytes(),
        // A word in a field that servers add, where they don't.
        text.replace("MIME-Version:", "DKIM-Signature: the numbers\r\nMIME-Version:").into_bytes(),
    ];
    for other in &others {
        Client::ehlo(relay.address()).mail("mallory@example.org", &["eve@example.net"], other).starts("250");
    }
    let records = archive.wait_for(1 + others.len());
    let mut originals: Vec<_> = records.iter().skip(1).map(|record| Record::read(&record.octets).original).collect();
    let mut expected = others.to_vec();
    originals.sort();
    expected.sort();
    assert!(originals == expected, "each of them is journaled as it is");
    assert_eq!(relay.count("loop.detected"), 0);
    relay.finish_clean(1 + others.len());
}
