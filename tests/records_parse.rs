//! Records of the whole corpus, read by another program: Python's email package finds two parts, the fields in their
//! order, the envelope's lines, and the original octet for octet; and a notification about each as one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test stops where it fails")]

use journal_relay::config::UnlistedRecipients;
use journal_relay::journal::{
    ArchiveOffers, Cause, HeaderFacts, Label, MacKey, Named, News, Notice, Observation, Observer, RecordFields,
    Relayed, ReportContext, ReportRendering, ReportSeed, label_recipients, message_uuid, original, render,
    render_report,
};
use journal_relay::mail::{Address, OsEntropy, QueueId, RecordId, ReversePath, Timestamp};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_millis(1_794_304_800_000);
const SENDER: &str = "amazonjournaling@acme.awsapps.com";
const ARCHIVE: &str = "archive@vault.example";
const PLAIN: ArchiveOffers =
    ArchiveOffers { eight_bit_mime: false, binary_mime: false, chunking: false, smtp_utf8: false };

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A message of the corpus in the form it has on the wire.
struct Message {
    name: String,
    octets: Vec<u8>,
}

/// Every message, checked against its hash, so that a checkout that changed line ends is noticed here.
fn corpus() -> Vec<Message> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let manifest = fs::read_to_string(root.join("MANIFEST.jsonl")).unwrap();
    manifest
        .lines()
        .map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = entry["file"].as_str().unwrap().to_owned();
            let octets = fs::read(root.join(&name)).unwrap();
            assert_eq!(hex(&octets), entry["sha256"].as_str().unwrap(), "{name} is not as it was");
            let octets = match entry["wire"].as_str().unwrap() {
                "crlf-convert" => converted(&octets),
                "as-is-plus-final-crlf" => [&octets[..], b"\r\n"].concat(),
                _ => octets,
            };
            if let Some(hash) = entry["crlf_sha256"].as_str() {
                assert_eq!(hex(&octets), hash, "{name} on the wire");
            }
            Message { name: name.replace('/', "-"), octets }
        })
        .collect()
}

fn hex(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Every line end, LF, CR or CRLF, made CRLF; a last one added.
fn converted(octets: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(octets.len() * 21 / 20);
    let mut before = 0;
    for octet in octets {
        match (octet, before) {
            (b'\n', b'\r') => {}
            (b'\n' | b'\r', _) => wire.extend_from_slice(b"\r\n"),
            (octet, _) => wire.push(*octet),
        }
        before = *octet;
    }
    if !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

fn observed(octets: &[u8], piece: usize) -> Observation {
    let mut observer = Observer::new();
    octets.chunks(piece).for_each(|piece| observer.observe(piece));
    observer.finish()
}

/// Fields as a relay makes them. Everybody named gets the message, and somebody who isn't.
fn record_of(octets: &[u8]) -> RecordFields {
    let observation = observed(octets, 1_000);
    let facts = HeaderFacts::read(&observation.header);
    let relayed = Relayed {
        queue_id: QueueId::new(NOW, &OsEntropy),
        received: NOW,
        reverse_path: ReversePath::Null,
        login: Some("alice".into()),
    };
    let hidden = address("hidden@acme.example");
    let accepted = facts.to.iter().chain(&facts.cc).chain([&hidden]);
    let mut fields = RecordFields {
        id: RecordId::new(NOW, &OsEntropy),
        organization: "acme".into(),
        original: original(&observation, &facts, relayed),
        recipients: label_recipients(&facts, accepted, UnlistedRecipients::Bcc),
        copy_of: None,
        replay: None,
        message_uuid: Uuid::nil(),
        boundary: Uuid::new_v4(),
        date: NOW,
        outcome_unknown: false,
        supplements: None,
        retry_came: false,
        owed: Vec::new(),
    };
    fields.message_uuid = message_uuid(&fields);
    fields
}

fn report_about(fields: &RecordFields, server: ArchiveOffers) -> ReportRendering {
    let notice = Notice { attempts: 1, ..Notice::about(fields, Cause::Refused, NOW) };
    let notice = notice.with_reply("smtp://vault.example:25", "550 5.7.1 no such archive", true);
    let seed = ReportSeed {
        id: RecordId::new(NOW, &OsEntropy),
        date: NOW,
        message_uuid: Uuid::new_v4(),
        boundary: Uuid::new_v4(),
    };
    let report = seed.tell(&fields.organization, News::Failed(Named { records: vec![notice], more: 0 }));
    let context = ReportContext {
        hostname: "relay.acme.example",
        sender: &address(SENDER),
        report_address: &address("postmaster@acme.example"),
        journaling_address: &address(ARCHIVE),
        give_up: Duration::from_secs(8 * 86_400),
        key: &MacKey::from_bytes([7; 32]),
    };
    render_report(&report, Some(fields), &context, server)
}

fn write_record(directory: &Path, name: &str, octets: &[u8], archive: ArchiveOffers) {
    let fields = record_of(octets);
    let rendering = render(&fields, &address(SENDER), &address(ARCHIVE), archive, Some(&MacKey::from_bytes([7; 32])));
    let recipients: Vec<_> = fields
        .recipients
        .iter()
        .map(|recipient| (format!("{:?}", recipient.label), recipient.address.as_str().to_owned()))
        .collect();
    let expected =
        serde_json::json!({ "sender": SENDER, "journaling_address": ARCHIVE, "recipients": recipients }).to_string();
    let write = |extension: &str, octets: &[u8]| {
        let path: PathBuf = directory.join(format!("{name}.{extension}"));
        fs::write(path, octets).unwrap();
    };
    let report = report_about(&fields, archive);
    write("report", &[&report.prefix, octets, &report.suffix].concat());
    write("record", &[&rendering.prefix, octets, &rendering.suffix].concat());
    write("original", octets);
    write("json", expected.as_bytes());
}

#[test]
fn python_reads_the_record_of_every_message_and_a_report_about_it() {
    let directory = tempfile::tempdir().unwrap();
    let corpus = corpus();
    for (number, archive) in [PLAIN, ArchiveOffers::ALL].into_iter().enumerate() {
        for message in &corpus {
            write_record(directory.path(), &format!("{number}-{}", message.name), &message.octets, archive);
        }
    }
    let (success, said) = read_by_python(directory.path());
    assert!(success, "{said}");
    assert!(said.starts_with(&format!("{} records", 2 * corpus.len())), "{said}");
    let agreed: usize = said.split(' ').nth(2).unwrap().parse().unwrap();
    assert!(agreed > 500, "{said}");
    assert!(said.ends_with(&format!(" {} reports\n", 2 * corpus.len())), "{said}");
}

/// Whether Python's reader found nothing wrong, and what it said.
fn read_by_python(directory: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_record.py");
    let output = Command::new("python3").arg(script).arg(directory).output().expect("python3 is needed");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_reader_that_checks_records_refuses_tampered_ones() {
    let octets = b"From: a@x.example\r\nTo: b@x.example\r\nSubject: s\r\nMessage-ID: <1@x.example>\r\n\r\nbody\r\n";
    let tampered = [
        ("Subject: s\r\nMessage-Id", "Subject: s\r\nBcc: forged@x.example\r\nMessage-Id"),
        ("To: b@x.example\r\nBcc", "To: b@x.example\r\nTo: forged@x.example\r\nBcc"),
        ("Message-Id: ", "Message-ID: "),
        ("X-WM-Journal-Report: journal\r\n", ""),
        ("X-Journal-Auth", "X-Forged: x\r\nX-Journal-Auth"),
        ("body\r\n\r\n--", "body\r\n--"),
        ("\r\nbody", "\r\nBody"),
        ("Content-Type: message/rfc822", "Content-Transfer-Encoding: base64\r\nContent-Type: message/rfc822"),
    ];
    let directory = tempfile::tempdir().unwrap();
    write_record(directory.path(), "one", octets, PLAIN);
    let path = directory.path().join("one.record");
    let record = fs::read_to_string(&path).unwrap();
    assert!(read_by_python(directory.path()).0);
    for (part, other) in tampered {
        assert!(record.contains(part), "{part:?}");
        fs::write(&path, record.replacen(part, other, 1)).unwrap();
        assert!(!read_by_python(directory.path()).0, "{other:?} was taken");
    }
}

#[test]
fn every_message_is_observed_the_same_in_small_pieces_and_large() {
    for message in corpus() {
        let whole = observed(&message.octets, usize::MAX);
        assert_eq!(observed(&message.octets, 13), whole, "{}", message.name);
        assert_eq!(whole.size, message.octets.len() as u64);
        assert_eq!(whole.ends_with_crlf, message.octets.ends_with(b"\r\n"));
    }
}

#[test]
fn another_hop_makes_no_other_identity() {
    // A message that starts with a folded line would lend it to the field put before it.
    for message in corpus().into_iter().filter(|message| !message.octets.starts_with(b" ")) {
        let received =
            b"Received: from a.example by b.example with ESMTP id 1;\r\n\tTue, 10 Nov 2026 10:00:00 +0000\r\n";
        let first = observed(&message.octets, 1_000);
        let relayed = observed(&[&received[..], &message.octets].concat(), 1_000);
        assert_eq!(first.identity, relayed.identity, "{}", message.name);
        assert_eq!(first.hops + 1, relayed.hops, "{}", message.name);
    }
}

#[test]
fn a_thousand_recipients_named_in_a_header_are_all_found() {
    let message = corpus().into_iter().find(|message| message.name.contains("huge-recipients-1000")).unwrap();
    let fields = record_of(&message.octets);
    let listed = fields.recipients.iter().filter(|recipient| recipient.label != Label::Bcc).count();
    assert!(listed >= 1_000, "{listed}");
}
