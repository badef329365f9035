//! CHUNKING (RFC 3030): exact octets from chunks to chunks, chunks said as DATA where the next hop takes none, and clients that
//! make mistakes with them.

use crate::common::{
    Answer, Client, Gate, Postfix, Record, Setup, Sink, Stage, corpus, free_port, installed, own_loopback_address, say,
    strip_folded_received, strip_received,
};
use crate::message;
use std::collections::HashMap;

const FROM: &str = "alice@example.org";
const TO: &str = "bob@example.net";
const OFFERS: &str =
    "250-sink.example\n250-PIPELINING\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250 CHUNKING";

/// A next hop that offers CHUNKING.
fn taking_chunks() -> Sink {
    Sink::scripted(|stage| match stage {
        Stage::Ehlo(_) => say(OFFERS),
        _ => None,
    })
}

#[track_caller]
fn begin(client: &mut Client, from: &str, to: &str) {
    client.command(&format!("MAIL FROM:<{from}>")).starts("250");
    client.command(&format!("RCPT TO:<{to}>")).starts("250");
}

fn chunk(octets: &[u8], last: &str) -> Vec<u8> {
    [format!("BDAT {}{last}\r\n", octets.len()).as_bytes(), octets].concat()
}

/// A message in chunks of so many octets; all commands at once. The last reply.
#[track_caller]
fn send_chunks(client: &mut Client, octets: &[u8], size: usize) -> crate::common::Reply {
    let mut chunks = octets.chunks(size).peekable();
    while let Some(octets) = chunks.next() {
        let last = if chunks.peek().is_none() { " LAST" } else { "" };
        client.send(&chunk(octets, last));
        if last.is_empty() {
            client.reply().starts("250");
        }
    }
    client.reply()
}

#[test]
fn the_corpus_goes_from_chunks_to_chunks_octet_for_octet_and_its_records_hold_it() {
    let (next_hop, archive) = (taking_chunks(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let flawed = |octets: &[u8]| {
        let bare = |at: usize| match octets[at] {
            b'\r' => octets.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || octets[at - 1] != b'\r',
            octet => octet == 0,
        };
        (0..octets.len()).any(bare)
    };
    let mut samples: Vec<_> = corpus().into_iter().filter(|sample| !sample.octets.is_empty()).collect();
    // DATA can't say a message without its final CRLF; chunks can.
    for sample in samples.iter_mut().step_by(5).filter(|sample| sample.octets.ends_with(b"\r\n")) {
        sample.octets.truncate(sample.octets.len() - 2);
    }
    let (refused, sound): (Vec<_>, Vec<_>) = samples.iter().partition(|sample| flawed(&sample.octets));
    assert!(sound.len() > 100 && !refused.is_empty() && sound.iter().any(|it| !it.octets.ends_with(b"\r\n")));
    let mut client = Client::ehlo(relay.address());
    for (number, sample) in sound.iter().enumerate() {
        let body = if sample.octets.is_ascii() { "" } else { " BODY=8BITMIME" };
        client.command(&format!("MAIL FROM:<{FROM}>{body}")).starts("250");
        client.command(&format!("RCPT TO:<{TO}>")).starts("250");
        let size = [usize::MAX, 1 + sample.octets.len() / 7, 1 + sample.octets.len() / 2][number % 3];
        let reply = send_chunks(&mut client, &sample.octets, size);
        assert!(reply.is_taken(), "{}: {reply:?}", sample.file);
    }
    for sample in &refused {
        begin(&mut client, FROM, TO);
        let reply = send_chunks(&mut client, &sample.octets, usize::MAX);
        assert!(reply.text().starts_with("550 5.6.11"), "{}: {reply:?}", sample.file);
    }
    for (copy, sample) in next_hop.wait_for(sound.len()).iter().zip(&sound) {
        assert!(strip_received(&copy.octets).1 == sample.octets, "{} was changed on its way", sample.file);
    }
    assert!(!next_hop.commands().iter().any(|line| line == "DATA"), "everything went in chunks");
    assert_eq!(next_hop.transactions().len(), sound.len());
    // Some differ in trace fields alone, and are one message to the journal.
    let by_octets: HashMap<_, _> = sound.iter().map(|sample| (&sample.octets[..], &sample.file)).collect();
    relay.finish();
    let records = archive.taken();
    assert!(records.len() * 10 > sound.len() * 9, "{} records of {}", records.len(), sound.len());
    for record in &records {
        let record = Record::read(&record.octets);
        assert!(by_octets.contains_key(&record.original[..]), "{} holds what nobody sent", record.message_id());
    }
    let unended: Vec<_> = sound.iter().filter(|sample| !sample.octets.ends_with(b"\r\n")).collect();
    assert!(unended.iter().any(|sample| records.iter().any(|it| Record::read(&it.octets).original == sample.octets)));
}

#[test]
fn a_large_message_is_streamed_in_chunks_and_its_end_waits_for_the_record() {
    let gate = Gate::default();
    let held = gate.clone();
    let next_hop = Sink::scripted(move |stage| match stage {
        Stage::Ehlo(_) => say(OFFERS),
        Stage::End(_) => Some(Answer::Hold(held.clone(), Box::new(Answer::Say("250 2.0.0 taken".into())))),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let large = [message("large"), vec![b'.'; 3_000_000], b"no end".to_vec()].concat();
    let mut client = Client::ehlo(relay.address());
    begin(&mut client, FROM, TO);
    client.send(&chunk(&large, ""));
    client.reply().starts("250");
    // What is not the end has gone on; the end can't have.
    next_hop.wait_for_commands("BDAT ", 20);
    assert!(!next_hop.commands().iter().any(|line| line.ends_with("LAST")));
    client.send(b"BDAT 0 LAST\r\n");
    gate.wait_for_arrivals(1);
    // The next hop has the end, so the record is on disk: nobody needs to be alive for it.
    relay.kill9();
    gate.open();
    relay.launch();
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert!(record.original == large);
    assert_eq!(record.field("X-Journal-Outcome"), Some("unknown"));
    assert!(strip_received(&next_hop.wait_for(1)[0].octets).1 == large);
    relay.finish_clean(1);
}

#[test]
fn where_the_next_hop_takes_no_chunks_they_become_data_or_are_refused() {
    let (mut next_hop, archive) = (taking_chunks(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    // The client was told of CHUNKING before the next hop changed.
    let mut client = Client::ehlo(relay.address());
    next_hop.script(|_| None);
    next_hop.down();
    next_hop.up();
    let dotted = [message("dotted"), b".\r\n..\r\n.dot\r\n".to_vec()].concat();
    begin(&mut client, FROM, TO);
    send_chunks(&mut client, &dotted, 7).starts("250");
    begin(&mut client, FROM, TO);
    // The client kept to what it was offered: what this connection lacks is nothing to bounce a message for.
    send_chunks(&mut client, b"Subject: no end\r\n\r\nx", 7).starts("451 4.3.5");
    let bare = b"Subject: bare\r\n\r\nx\n.\ny\r\n";
    begin(&mut client, "rita@remote.example", "rob@remote.example");
    send_chunks(&mut client, bare, usize::MAX).starts("451 4.3.5");
    // These would be refused in chunks as well.
    for (from, to) in [("rita@remote.example", "dora@example.org"), ("", "rob@remote.example")] {
        begin(&mut client, from, to);
        send_chunks(&mut client, bare, usize::MAX).starts("550 5.6.11");
    }
    begin(&mut client, "rita@remote.example", "rob@remote.example");
    send_chunks(&mut client, b"a NUL \0\r\n", 99).starts("550 5.6.11");
    begin(&mut client, "rita@remote.example", "rob@remote.example");
    client.command("DATA").starts("354");
    client.data(b"a\n.\nb\r\n").starts("550 5.6.11");
    begin(&mut client, FROM, TO);
    client.command("BDAT 0 LAST").starts("250");
    let copies = next_hop.wait_for(2);
    assert!(strip_received(&copies[0].octets).1 == dotted);
    assert_eq!(strip_received(&copies[1].octets).1, b"");
    relay.finish_clean(2);
    assert_eq!(next_hop.transactions().len(), 2);
    assert!(!next_hop.commands().iter().any(|line| line.starts_with("BDAT")));
}

#[test]
fn bare_line_ends_pass_from_chunks_to_chunks_only_where_no_record_has_to_hold_them() {
    let (next_hop, archive) = (taking_chunks(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let bare = b"Subject: bare\r\n\r\na\n.\nMAIL FROM:<smuggled@example.org>\r\n.\rb\r\n.\r\n";
    let mut client = Client::ehlo(relay.address());
    // Nobody's of the organization: there is no record.
    begin(&mut client, "rita@remote.example", "rob@remote.example");
    send_chunks(&mut client, bare, 5).starts("250");
    begin(&mut client, "rita@remote.example", "dora@example.org");
    send_chunks(&mut client, bare, 5).starts("550 5.6.11");
    // Whose mail it is would be for the header alone to say.
    begin(&mut client, "", "rob@remote.example");
    send_chunks(&mut client, bare, 5).starts("550 5.6.11");
    begin(&mut client, "rita@remote.example", "rob@remote.example");
    client.command("DATA").starts("354");
    client.data(b"a\n.\nb\r\n").starts("550 5.6.11");
    begin(&mut client, "rita@remote.example", "rob@remote.example");
    send_chunks(&mut client, b"a NUL \0\r\n", 99).starts("550 5.6.11");
    assert_eq!(strip_received(&next_hop.wait_for(1)[0].octets).1, bare);
    relay.finish_clean(0);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (1, 0));
    assert!(!next_hop.commands().iter().any(|line| line.contains("smuggled")));
}

#[test]
fn mistakes_with_chunks_leave_no_message_and_no_record_behind() {
    let (next_hop, archive) = (taking_chunks(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    // Forgotten between chunks.
    begin(&mut client, FROM, TO);
    client.send(&chunk(b"Subject: half\r\n", ""));
    client.reply().starts("250");
    client.command("DATA").starts("503");
    client.command("RSET").starts("250");
    client.send(&chunk(b"NOOP\r\n", " LAST"));
    client.reply().starts("503");
    // Lost in a chunk, and between two.
    for octets in [&b"BDAT 100\r\nhalf"[..], b"BDAT 4 LAST\r\nha", b"BDAT 4\r\nhalf", b"BDAT 4\r\nhalfBDAT 5 LA"] {
        let mut lost = Client::ehlo(relay.address());
        begin(&mut lost, FROM, TO);
        lost.send(octets);
        lost.rest();
    }
    // The last one twice.
    begin(&mut client, FROM, TO);
    client.send(&[chunk(&message("once"), " LAST"), chunk(&message("twice"), " LAST")].concat());
    client.reply().starts("250");
    client.reply().starts("503");
    // No recipient.
    client.command(&format!("MAIL FROM:<{FROM}>")).starts("250");
    client.send(&chunk(b"NOOP\r\n", " LAST"));
    client.reply().starts("503");
    client.command("QUIT").starts("221");
    relay.finish_clean(1);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (1, 1));
}

#[test]
fn the_size_is_counted_over_all_chunks_and_told_before_the_last_one() {
    let (next_hop, archive) = (taking_chunks(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    setup.listener.push_str("max_message_size = \"100KiB\"\n");
    let mut relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    client.command(&format!("MAIL FROM:<{FROM}> SIZE=102401")).starts("552 5.3.4");
    begin(&mut client, FROM, TO);
    let line = b"x\r\n".repeat(20_000);
    client.send(&chunk(&line, ""));
    client.reply().starts("250");
    client.send(&chunk(&line, ""));
    client.reply().starts("552 5.3.4");
    client.send(&chunk(b"NOOP\r\n", " LAST"));
    client.reply().starts("503 5.5.1");
    client.command("RSET").starts("250");
    begin(&mut client, FROM, TO);
    client.send(&chunk(&line.repeat(2), " LAST"));
    client.reply().starts("552 5.3.4");
    begin(&mut client, FROM, TO);
    client.send(&chunk(&message("small"), " LAST"));
    client.reply().starts("250");
    relay.finish_clean(1);
    assert_eq!(next_hop.transactions().len(), 1);
    assert_eq!(relay.events("message.refused").len(), 2, "{:?}", relay.events("message.refused"));
}

#[test]
fn postfix_behind_the_relay_takes_chunks() {
    if !installed(&["postfix"]) {
        return;
    }
    let (mailbox, archive) = (Sink::start(), Sink::start());
    let home = tempfile::tempdir().unwrap();
    let behind = Postfix::new(free_port(own_loopback_address()), mailbox.address()).start(home.path());
    let mut relay = Setup::with_routes(&format!("smtp://{}?tls=none", behind.address), &archive.route()).start();
    let mut client = Client::connect(relay.address());
    let offers = client.command("EHLO client.example.com");
    assert!(offers.text().contains("CHUNKING"), "{offers:?}");
    let large = [message("chunks"), b".dot and more\r\n".repeat(20_000)].concat();
    for (octets, size) in [(&message("one"), usize::MAX), (&message("small"), 7), (&large, 100_000)] {
        begin(&mut client, FROM, TO);
        send_chunks(&mut client, octets, size).starts("250");
    }
    let copies = mailbox.wait_for(3);
    for octets in [&message("one"), &message("small"), &large] {
        assert!(
            copies.iter().any(|copy| strip_folded_received(strip_folded_received(&copy.octets).1).1 == &octets[..])
        );
    }
    relay.finish_clean(3);
}
