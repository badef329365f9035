//! Octet for octet: every real message passes unchanged behind one `Received:` field, and its record holds it unchanged.

use crate::common::{Client, Record, SampleWire, Setup, Sink, corpus, fields, strip_received};
use crate::message;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};

const FROM: &str = "alice@example.org";
const TO: &str = "bob@example.net";

#[test]
fn every_sendable_message_of_the_corpus_passes_unchanged_and_has_one_record() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let samples: Vec<_> = corpus().into_iter().filter(|sample| sample.wire == SampleWire::Sendable).collect();
    assert!(samples.len() > 100, "the corpus is there");
    let mut client = Client::ehlo(relay.address());
    for sample in &samples {
        let body = if sample.octets.is_ascii() { "" } else { " BODY=8BITMIME" };
        client.command(&format!("MAIL FROM:<{FROM}>{body}")).starts("250");
        client.command(&format!("RCPT TO:<{TO}>")).starts("250");
        client.command("DATA").starts("354");
        let reply = client.data(&sample.octets);
        assert!(reply.is_taken(), "{}: {reply:?}", sample.file);
    }
    let relayed = next_hop.wait_for(samples.len());
    for (copy, sample) in relayed.iter().zip(&samples) {
        let (received, rest) = strip_received(&copy.octets);
        assert!(rest == sample.octets, "{} was changed on its way to the next hop", sample.file);
        assert!(received.contains("by relay.example.org"), "{received}");
        assert_eq!((copy.reverse_path(), copy.forward_paths()), (FROM, vec![TO]), "{}", sample.file);
    }
    check_records(
        &archive,
        &samples.iter().map(|sample| (sample.file.as_str(), &sample.octets[..])).collect::<Vec<_>>(),
    );
    let messages: usize = distinct(samples.iter().map(|sample| &sample.octets[..]));
    relay.finish_clean(messages);
}

/// Messages that differ in trace fields alone are one message: the record of the second would say nothing new.
pub fn distinct<'a>(messages: impl Iterator<Item = &'a [u8]>) -> usize {
    messages.map(without_trace).collect::<std::collections::HashSet<_>>().len()
}

/// The message without its trace fields, each with its folded lines.
fn without_trace(octets: &[u8]) -> Vec<u8> {
    const TRACE: [&[u8]; 8] = [
        b"received:",
        b"return-path:",
        b"delivered-to:",
        b"x-original-to:",
        b"dkim-signature:",
        b"arc-",
        b"authentication-results:",
        b"received-spf:",
    ];
    let header = memchr::memmem::find(octets, b"\r\n\r\n").map_or(octets.len(), |end| end + 2);
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in octets[..header].split_inclusive(|octet| *octet == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.to_ascii_lowercase();
            skipping = TRACE.iter().any(|trace| name.starts_with(trace));
        }
        if !skipping {
            kept.extend_from_slice(line);
        }
    }
    kept.extend_from_slice(&octets[header..]);
    kept
}

fn check_records(archive: &Sink, samples: &[(&str, &[u8])]) {
    let expected = distinct(samples.iter().map(|(_, octets)| *octets));
    let mut records = HashMap::new();
    for transaction in archive.wait_for(expected) {
        let record = Record::read(&transaction.octets);
        assert_eq!(transaction.forward_paths(), ["archive@vault.example"]);
        assert_eq!(record.recipients(), [TO]);
        let other = records.insert(without_trace(&record.original), record);
        assert!(other.is_none(), "two records of one message: {other:?}");
    }
    for (file, octets) in samples {
        let Some(record) = records.get(&without_trace(octets)) else { panic!("{file} has no record") };
        // The record of a message that came with two sets of trace fields holds the first.
        let twin = samples.iter().find(|(_, other)| without_trace(other) == without_trace(octets)).unwrap();
        assert!(record.original == twin.1, "the record of {file} does not hold it unchanged");
    }
}

#[test]
fn messages_with_a_bare_cr_or_lf_are_refused_and_leave_nothing_behind() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let samples: Vec<_> = corpus().into_iter().filter(|sample| sample.has_bare_line_end()).collect();
    assert!(samples.len() > 5, "the corpus has such messages");
    for sample in &samples {
        let reply = Client::ehlo(relay.address()).mail(FROM, &[TO], &sample.octets);
        assert!(reply.text().starts_with("550 5.6.11"), "{}: {reply:?}", sample.file);
    }
    // A message may not be ended, nor another one begun, by anything but CRLF (SMTP smuggling).
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n\0.\r\n\n"] {
        let mut client = Client::ehlo(relay.address());
        for (line, expected) in
            [(format!("MAIL FROM:<{FROM}>"), "250"), (format!("RCPT TO:<{TO}>"), "250"), ("DATA".into(), "354")]
        {
            client.command(&line).starts(expected);
        }
        // As it is: no dot is doubled here.
        client.send(format!("Subject: a\r\n\r\nb{end}MAIL FROM:<x@example.org>\r\nDATA\r\nc\r\n.\r\n").as_bytes());
        let reply = client.reply();
        assert!(reply.text().starts_with("550 5.6.11"), "{end:?}: {reply:?}");
    }
    let refused = relay.wait_events("message.refused", samples.len() + 7);
    assert!(refused.iter().all(|event| event.text("reply").starts_with("550 5.6.11")), "{refused:?}");
    Client::ehlo(relay.address()).mail(FROM, &[TO], &message("after")).starts("250");
    relay.finish_clean(1);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (1, 1));
}

#[test]
fn messages_with_a_nul_are_refused_and_leave_nothing_behind() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let samples: Vec<_> = corpus()
        .into_iter()
        .filter(|sample| sample.is("nul") && sample.is("eol-crlf") && sample.octets.ends_with(b"\r\n"))
        .collect();
    assert!(!samples.is_empty(), "the corpus has such messages");
    for sample in &samples {
        let reply = Client::ehlo(relay.address()).mail(FROM, &[TO], &sample.octets);
        assert!(reply.text().starts_with("550 5.6.11"), "{}: {reply:?}", sample.file);
    }
    relay.finish_clean(0);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (0, 0));
}

#[test]
fn a_record_has_its_fields_in_the_documented_order_and_tells_the_originals_hash() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let original = message("order");
    Client::ehlo(relay.address()).mail(FROM, &[TO, "eve@example.net"], &original).starts("250");
    let transaction = archive.wait_for(1).remove(0);
    let record = Record::read(&transaction.octets);
    let names: Vec<_> =
        record.header.iter().map(|(name, _)| name.as_str()).filter(|name| !name.starts_with("X-Journal-")).collect();
    let documented = [
        "From",
        "To",
        "Subject",
        "Message-ID",
        "Date",
        "MIME-Version",
        "X-MS-Journal-Report",
        "X-WM-Journal-Report",
        "X-MS-Exchange-Parent-Message-Id",
        "Auto-Submitted",
        "Content-Type",
    ];
    assert_eq!(names, documented);
    assert_eq!(record.field("From"), Some("amazonjournaling@acme.awsapps.com"));
    assert_eq!(record.field("To"), Some("archive@vault.example"));
    assert_eq!(record.field("Subject"), Some("about order"));
    assert_eq!(record.field("X-MS-Exchange-Parent-Message-Id"), Some("<order@example.org>"));
    assert_eq!(transaction.reverse_path(), "amazonjournaling@acme.awsapps.com");
    assert!(record.message_id().ends_with("@journal.report.generator>"));
    let accepted = relay.wait_event("message.accepted", |_| true);
    assert_eq!(record.field("X-Journal-Original-SHA256"), Some(accepted.text("sha256")));
    assert_eq!(relay.wait_event("record.acked", |_| true).text("record"), record.id());
    let lines: Vec<_> = record.envelope.iter().map(|(label, value)| format!("{label}: {value}")).collect();
    let expected = [
        "Sender: alice@example.org",
        "Subject: about order",
        "Message-Id: <order@example.org>",
        "To: bob@example.net",
        "Bcc: eve@example.net",
    ];
    assert_eq!(lines, expected);
    let relayed = next_hop.wait_for(1).remove(0);
    let received = fields(strip_received(&relayed.octets).0.as_bytes());
    assert_eq!(received.len(), 1, "one field is prepended: {received:?}");
    assert!(received[0].1.contains(accepted.text("queue_id")), "{received:?} names {}", accepted.text("queue_id"));
    relay.finish_clean(1);
}

#[test]
fn no_octet_behind_a_flaw_reaches_the_next_hop_of_a_large_message_either() {
    for flaw in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n\0.\r\n"] {
        let (route, octets) = next_hop_that_keeps_all_octets();
        let archive = Sink::start();
        let mut relay = Setup::with_routes(&route, &archive.route()).start();
        let mut client = Client::ehlo(relay.address());
        for (line, expected) in
            [(format!("MAIL FROM:<{FROM}>"), "250"), (format!("RCPT TO:<{TO}>"), "250"), ("DATA".into(), "354")]
        {
            client.command(&line).starts(expected);
        }
        // Large enough to be streamed: before the flaw, and behind it.
        let padding = format!("{}\r\n", "x".repeat(70)).repeat(4_000);
        client.send(
            format!("Subject: a\r\n\r\n{padding}b{flaw}MAIL FROM:<smuggled@example.org>\r\n{padding}.\r\n").as_bytes(),
        );
        assert!(client.reply().text().starts_with("550 5.6.11"), "{flaw:?}");
        relay.finish_clean(0);
        let seen = octets.join().unwrap();
        assert!(seen.len() > 100_000, "{flaw:?}: the message was streamed");
        assert!(memchr::memmem::find(&seen, b"smuggled").is_none(), "{flaw:?}: octets behind it went on");
    }
}

/// A next hop for one connection; it answers up to DATA and then keeps every octet up to the end of the connection.
fn next_hop_that_keeps_all_octets() -> (String, std::thread::JoinHandle<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let route = format!("smtp://{}?tls=none", listener.local_addr().unwrap());
    let octets = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        stream.write_all(b"220 lax.example ESMTP\r\n").unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while !line.starts_with("DATA") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the relay left before DATA");
            let reply = if line.starts_with("DATA") { "354 go on\r\n" } else { "250 2.0.0 Ok\r\n" };
            stream.write_all(reply.as_bytes()).unwrap();
        }
        let mut seen = Vec::new();
        // A connection that is reset ends here, too.
        let _ = reader.read_to_end(&mut seen);
        seen
    });
    (route, octets)
}
