//! What is known again as our own, and what is not.

use super::super::samples_tests::{DATE, TO_ARCHIVE, address, fields as sample, journaling_sender};
use super::super::{
    ArchiveOffers, Cause, Named, News, Notice, Observer, RecordFields, ReportContext, ReportSeed, render, render_report,
};
use super::*;
use crate::mail::OsEntropy;
use uuid::Uuid;

const KEY: [u8; 32] = [7; 32];
const ORIGINAL: &[u8] =
    b"From: alice@acme.example\r\nTo: bob@partner.example\r\nX-Journal-Mac: v1; a; b\r\n\r\nHello\r\n";

fn key() -> MacKey {
    MacKey::from_bytes(KEY)
}

fn record_fields() -> RecordFields {
    let mut fields = sample();
    fields.original.sha256 = Sha256::of(ORIGINAL);
    fields
}

fn record() -> Vec<u8> {
    let to = address(TO_ARCHIVE);
    let rendering = render(&record_fields(), &journaling_sender(), &to, ArchiveOffers::default(), Some(&key()));
    [&rendering.prefix, ORIGINAL, &rendering.suffix].concat()
}

fn report(record: Option<&RecordFields>) -> Vec<u8> {
    let notice = Notice { attempts: 1, ..Notice::about(&sample(), Cause::Refused, DATE) };
    let reply = "550 5.7.1 Content-Type: message/rfc822";
    let notice = notice.with_reply("smtp://archive.example:25", reply, true);
    let seed = ReportSeed {
        id: RecordId::new(DATE, &OsEntropy),
        date: DATE,
        message_uuid: Uuid::new_v4(),
        boundary: Uuid::new_v4(),
    };
    let fields = seed.tell("acme", News::Failed(Named { records: vec![notice], more: 0 }));
    let (sender, report_address, journaling_address) =
        (journaling_sender(), address("postmaster@acme.example"), address(TO_ARCHIVE));
    let context = ReportContext {
        hostname: "relay.example.org",
        sender: &sender,
        report_address: &report_address,
        journaling_address: &journaling_address,
        give_up: std::time::Duration::from_secs(8 * 86_400),
        key: &key(),
    };
    let rendering = render_report(&fields, record, &context, ArchiveOffers::default());
    let original = if record.is_some() { ORIGINAL } else { b"" };
    [&rendering.prefix, original, &rendering.suffix].concat()
}

/// What an observer takes a mail for, the same however it is cut.
#[track_caller]
fn seen_by(key: MacKey, octets: &[u8]) -> Option<OwnMail> {
    let whole = {
        let mut observer = Observer::knowing(key);
        observer.observe(octets);
        observer.finish().own
    };
    for size in [1, 7, 45, 46, 47, 300] {
        let mut observer = Observer::knowing(key);
        octets.chunks(size).for_each(|piece| observer.observe(piece));
        assert_eq!(observer.finish().own, whole, "in pieces of {size}");
    }
    whole
}

#[track_caller]
fn seen(octets: &[u8]) -> Option<OwnMail> {
    seen_by(key(), octets)
}

fn replaced(octets: &[u8], from: &str, to: &str) -> Vec<u8> {
    let place = memchr::memmem::find(octets, from.as_bytes()).unwrap_or_else(|| panic!("{from:?} is not there"));
    [&octets[..place], to.as_bytes(), &octets[place + from.len()..]].concat()
}

#[test]
fn the_field_is_the_last_of_the_relay_s_own_and_has_three_parts() {
    let record = String::from_utf8(record()).unwrap();
    let (before, behind) = record.split_once("X-Journal-Mac: ").unwrap();
    let (value, behind) = behind.split_once("\r\n").unwrap();
    let parts: Vec<_> = value.split("; ").collect();
    assert_eq!((parts[0], parts[1].len(), parts[2].len(), parts.len()), ("v1", 16, 64, 3));
    assert!(before.lines().last().unwrap().starts_with("X-Journal-"));
    assert!(behind.starts_with("Content-Type: multipart/mixed"));
}

#[test]
fn records_and_reports_are_known_again() {
    let id = Some(sample().id);
    assert_eq!(seen(&record()), Some(OwnMail { is_record: true, record: id, added_octets: 0 }));
    let report_of_it = Some(OwnMail { is_record: false, record: id, added_octets: 0 });
    assert_eq!(seen(&report(Some(&record_fields()))), report_of_it);
    assert_eq!(seen(&report(None)), report_of_it);
}

#[test]
fn what_servers_add_on_the_way_does_not_matter() {
    let trace = "Return-Path: <x@y.example>\r\nReceived: from a\r\n\tby b; today\r\nDelivered-To: archive@vault.example\r\n\
        ARC-Seal: i=1\r\narc-message-signature: i=1\r\nARC-Authentication-Results: i=1\r\nDKIM-Signature: v=1;\r\n b=abc\r\n\
        Authentication-Results: a; none\r\nReceived-SPF: none\r\n";
    let own = seen(&[trace.as_bytes(), &record()].concat()).unwrap();
    assert_eq!(own.added_octets, trace.len());
}

/// Whoever has seen a record could else write what he likes into it.
#[test]
fn nothing_is_added_elsewhere_or_by_another_name() {
    let record = record();
    for field in ["Received: from a", "DKIM-Signature: v=1", "ARC-Seal: i=1", "Delivered-To: a@b.example"] {
        for place in ["To: ", "Subject: ", "MIME-Version: ", "X-Journal-Mac: ", "Content-Type: multipart"] {
            let place = format!("\r\n{place}");
            let put = replaced(&record, &place, &format!("\r\n{field}{place}"));
            assert_eq!(seen(&put), None, "{field} before {place:?}");
        }
        let end = memchr::memmem::find(&record, b"\r\n\r\n").unwrap() + 2;
        let last = [&record[..end], field.as_bytes(), b"\r\n", &record[end..]].concat();
        assert_eq!(seen(&last), None, "{field} at the end");
        let behind_another = [b"X-Word: x\r\n", field.as_bytes(), b"\r\n", &record[..]].concat();
        assert_eq!(seen(&behind_another), None);
    }
    for field in
        ["X-Original-To: a@b.example", "X-Spam-Status: No", "ARC-Else: x", "Received : from a\r\nX: y", "From x"]
    {
        assert_eq!(seen(&[field.as_bytes(), b"\r\n", &record[..]].concat()), None, "{field}");
    }
    let text = String::from_utf8_lossy(&record).into_owned();
    let mac = text.lines().find(|line| line.starts_with(MAC_FIELD)).unwrap();
    let moved = format!("{mac}\r\nReceived: from a\r\n{}", text.replace(&format!("{mac}\r\n"), ""));
    assert_eq!(seen(moved.as_bytes()), None, "behind our own field, wherever that is");
}

#[test]
fn nothing_else_may_differ() {
    let record = record();
    let changes = [
        ("To: archive@vault.example", "To: other@vault.example"),
        ("From: amazon", "From:  amazon"),
        ("Subject: Quarterly numbers", "Subject: Other numbers"),
        ("X-Journal-Received: 2026", "X-Journal-Received: 2027"),
        ("X-Journal-Record", "X-Journal-Recorder"),
        ("MIME-Version: 1.0\r\n", ""),
        ("MIME-Version: 1.0\r\n", "MIME-Version: 1.0\r\nX-Secret: word\r\n"),
        ("MIME-Version: 1.0\r\n", "MIME-Version: 1.0\r\nCc: eve@evil.example\r\n"),
        ("Hello", "Hallo"),
        ("Hello\r\n", "Hello\r\n\r\n"),
        ("\r\n\r\n--_", "\r\n\r\npreamble\r\n--_"),
        ("Bcc: eve", "Bcc: eva"),
        ("message/rfc822", "text/plain"),
        ("message/rfc822\r\n\r\n", "message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n"),
    ];
    for (from, to) in changes {
        assert_eq!(seen(&replaced(&record, from, to)), None, "{from:?} to {to:?}");
    }
    assert_eq!(seen(&[&record[..], b"epilogue\r\n"].concat()), None);
    assert_eq!(seen(&record[..record.len() - 2]), None);
    assert_eq!(seen(&[b"\r\n", &record[..]].concat()), None);
    assert_eq!(seen(record.split(|octet| *octet == b'-').next().unwrap()), None, "a header alone");
}

/// Whoever has seen a record has its whole header.
#[test]
fn a_record_s_header_exempts_no_other_body() {
    let record = record();
    let end = memchr::memmem::find(&record, b"\r\n\r\n").unwrap() + 4;
    let header = &record[..end];
    for body in [&b""[..], b"Hello\r\n", b"Content-Type: message/rfc822\r\n\r\n", &record[end + 1..]] {
        assert_eq!(seen(&[header, body].concat()), None, "{body:?}");
    }
    // The same pieces, cut elsewhere.
    let moved =
        replaced(&record, "Content-Type: message/rfc822\r\n\r\nFrom:", "From: Content-Type: message/rfc822\r\n\r\n");
    assert_eq!(seen(&moved), None);
}

#[test]
fn another_key_knows_nothing() {
    assert_eq!(seen_by(MacKey::from_bytes([8; 32]), &record()), None);
    let mut observer = Observer::new();
    observer.observe(&record());
    assert_eq!(observer.finish().own, None, "an observer without a key");
}

#[test]
fn odd_fields_exempt_nothing() {
    let record = record();
    let text = String::from_utf8_lossy(&record).into_owned();
    let field = text.lines().find(|line| line.starts_with(MAC_FIELD)).unwrap().to_owned();
    let value = field.split_once(": ").unwrap().1.to_owned();
    let (mac, long) = (value.rsplit_once(' ').unwrap().1, "0".repeat(100_000));
    let twice = format!("{field}\r\n{field}");
    let first = format!("{MAC_FIELD}: v1; x; y\r\n{field}");
    for other in [
        field.replace("v1;", "v2;"),
        field.replace("v1;", "v1; v1;"),
        field.replace(mac, &mac.to_uppercase()),
        field.replace(mac, mac.split_at(62).0),
        field.replace(mac, &format!("{mac}00")),
        field.replace(mac, &format!("{mac};")),
        field.replace(mac, ""),
        field.replace(mac, &long),
        field.replace(mac, &"0".repeat(64)),
        format!("{MAC_FIELD}:"),
        format!("{MAC_FIELD}: \u{fc}"),
        format!("{MAC_FIELD}-2: {value}"),
        twice,
        first,
    ] {
        assert_eq!(seen(&replaced(&record, &field, &other)), None, "{:.100}", other);
    }
    // The same field, written in another way, is the same field.
    let folded = format!("x-journal-MAC :\r\n\t{}", value.replace("; ", ";\r\n "));
    assert!(seen(&replaced(&record, &field, &folded)).is_some());
}

#[test]
fn the_key_is_not_shown() {
    assert_eq!(format!("{:?}", key()), "MacKey");
}

#[test]
fn no_more_is_added_to_our_own_mail_than_servers_add() {
    let trace = |octets: usize| {
        [b"Received: from a\r\n".to_vec(), [&[b' '][..], &vec![b'x'; 900], b"\r\n"].concat().repeat(octets / 903)]
            .concat()
    };
    assert!(seen(&[trace(MAX_ADDED - 1_000), record()].concat()).is_some());
    assert!(seen(&[trace(MAX_ADDED + 1_000), record()].concat()).is_none());
    let many = b"DKIM-Signature: what nobody is to read\r\n".repeat(MAX_ADDED / 40 + 1);
    assert!(seen(&[many, record()].concat()).is_none());
}
