//! Notifications as administrators and programs read them.

use super::super::samples_tests::{DATE, TO_ARCHIVE, address, fields as record_fields, journaling_sender};
use super::super::{OctetsKind, message_id, render};
use super::*;
use std::time::Duration;

const BOUNDARY: &str = "--_11111111-2222-4333-8444-555555555555_";
const PLAIN: ArchiveOffers =
    ArchiveOffers { eight_bit_mime: false, binary_mime: false, chunking: false, smtp_utf8: false };
const EIGHT_BIT: ArchiveOffers = ArchiveOffers { eight_bit_mime: true, ..PLAIN };

fn report(kind: ReportKind, reply: &str, reply_is_smtp: bool) -> ReportFields {
    ReportFields {
        id: "01jcb4x5w0rrrrrr".parse().unwrap(),
        organization: "acme".into(),
        kind,
        record: record_fields().id,
        date: DATE.plus(Duration::from_secs(3_600)),
        message_uuid: "99999999-2222-4333-8444-555555555555".parse().unwrap(),
        boundary: "11111111-2222-4333-8444-555555555555".parse().unwrap(),
        route: "smtp://vault.example:25".into(),
        reply: reply.into(),
        reply_is_smtp,
        attempts: 3,
        next_attempt: (kind == ReportKind::Delayed).then(|| DATE.plus(Duration::from_secs(7_200))),
    }
}

fn rendered(fields: &ReportFields, record: Option<&RecordFields>, server: ArchiveOffers) -> ReportRendering {
    let (sender, to, archive) = (journaling_sender(), address("postmaster@acme.example"), address(TO_ARCHIVE));
    let context = ReportContext {
        hostname: "relay.acme.example",
        sender: &sender,
        report_address: &to,
        journaling_address: &archive,
        retry_until: Some(DATE.plus(Duration::from_secs(8 * 86_400))),
        key: &MacKey::from_bytes([7; 32]),
    };
    render_report(fields, record, &context, server)
}

/// Header, explanation, status and what stands before the original, as text.
fn parts(fields: &ReportFields, record: Option<&RecordFields>) -> Vec<String> {
    let rendering = rendered(fields, record, PLAIN);
    let text = String::from_utf8(rendering.prefix).unwrap();
    text.split(&format!("{BOUNDARY}\r\n")).map(str::to_owned).collect()
}

fn status_of(fields: &ReportFields) -> String {
    parts(fields, Some(&record_fields())).swap_remove(2)
}

#[test]
fn the_header_is_that_of_a_report() {
    let parts = parts(&report(ReportKind::Failed, "550 5.7.1 no", true), Some(&record_fields()));
    let (before, behind) = parts[0].split_once("X-Journal-Mac: ").unwrap();
    let header = format!("{before}X-Journal-Mac: MAC\r\n{}", behind.split_once("\r\n").unwrap().1);
    assert_eq!(
        header,
        "From: amazonjournaling@acme.awsapps.com\r\nTo: postmaster@acme.example\r\n\
         Subject: Journal record not delivered: acme, record 01jcb4x5w0abcdef\r\n\
         Date: Tue, 10 Nov 2026 11:00:00 +0000\r\n\
         Message-ID: <99999999-2222-4333-8444-555555555555@relay.acme.example>\r\nMIME-Version: 1.0\r\n\
         Auto-Submitted: auto-generated\r\nX-Journal-Record: 01jcb4x5w0abcdef\r\nX-Journal-Mac: MAC\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n \
         boundary=\"_11111111-2222-4333-8444-555555555555_\"\r\n\r\n"
    );
    assert_eq!(parts.len(), 4);
}

#[test]
fn the_first_part_tells_an_administrator_everything() {
    let text =
        parts(&report(ReportKind::Failed, "550 5.7.1 no such archive", true), Some(&record_fields())).swap_remove(1);
    for said in [
        "NOT delivered",
        "01jcb4x5w0abcdef",
        message_id(record_fields().message_uuid).as_str(),
        "<orig-1@acme.example>",
        "alice@acme.example",
        "Recipients:   4",
        "Tue, 10 Nov 2026 10:00:00 +0000",
        TO_ARCHIVE,
        "smtp://vault.example:25",
        "550 5.7.1 no such archive",
        "Attempts:      3",
        "never deleted",
        "journal-relay queue retry 01jcb4x5w0abcdef",
        "journal-relay queue show 01jcb4x5w0abcdef",
    ] {
        assert!(text.contains(said), "{said:?} is missing in\n{text}");
    }
    assert!(!text.contains("Quarterly"), "the subject is content");
    let text = parts(&report(ReportKind::Delayed, "451 4.3.0 later", true), Some(&record_fields())).swap_remove(1);
    for said in ["delayed", "451 4.3.0 later", "again at Tue, 10 Nov 2026 12:00:00", "by Wed, 18 Nov 2026 10:00:00"] {
        assert!(text.contains(said), "{said:?} is missing in\n{text}");
    }
}

#[test]
fn the_second_part_tells_a_program() {
    assert_eq!(
        status_of(&report(ReportKind::Delayed, "451 4.3.0 later", true)),
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.acme.example\r\n\
         Arrival-Date: Tue, 10 Nov 2026 10:00:00 +0000\r\nX-Journal-Record: 01jcb4x5w0abcdef\r\n\r\n\
         Final-Recipient: rfc822; archive@vault.example\r\nAction: delayed\r\nStatus: 4.3.0\r\n\
         Remote-MTA: dns; vault.example\r\nDiagnostic-Code: smtp; 451 4.3.0 later\r\n\
         Last-Attempt-Date: Tue, 10 Nov 2026 11:00:00 +0000\r\n\
         Will-Retry-Until: Wed, 18 Nov 2026 10:00:00 +0000\r\n\r\n"
    );
}

#[test]
fn the_status_is_the_archive_s_own_where_it_fits() {
    use ReportKind::{Delayed, Failed};
    let cases = [
        (Failed, "550 5.7.1 no", true, "failed", "5.7.1"),
        (Failed, "550 no", true, "failed", "5.0.0"),
        (Failed, "550 4.7.1 no", true, "failed", "5.0.0"),
        (Failed, "451 4.3.0 later", true, "failed", "4.4.7"),
        (Failed, "connection refused", false, "failed", "4.4.7"),
        (Delayed, "451 later", true, "delayed", "4.0.0"),
        (Delayed, "554 5.7.1 not you", true, "delayed", "4.0.0"),
        (Delayed, "550 is no reply of theirs", false, "delayed", "4.0.0"),
    ];
    for (kind, reply, smtp, action, status) in cases {
        let text = status_of(&report(kind, reply, smtp));
        assert!(text.contains(&format!("Action: {action}\r\nStatus: {status}\r\n")), "{reply}: {text}");
        assert_eq!(text.contains("Diagnostic-Code: smtp; "), smtp);
        assert_eq!(text.contains("Remote-MTA"), smtp);
        assert_eq!(text.contains("Will-Retry-Until"), kind == Delayed);
    }
}

#[test]
fn a_long_or_foreign_reply_stays_one_folded_ascii_field() {
    let reply = format!("550 5.7.1 {} nön\r\nAction: delivered", "many words ".repeat(40));
    let text = status_of(&report(ReportKind::Failed, &reply, true));
    assert!(text.is_ascii() && text.contains("n\\x{F6}n"), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 78) && !text.contains("\r\nAction: delivered"), "{text}");
}

#[test]
fn the_record_is_attached_as_it_would_be_sent() {
    let mut record = record_fields();
    record.original.kind = OctetsKind::EightBit;
    let rendering = rendered(&report(ReportKind::Failed, "550 no", true), Some(&record), EIGHT_BIT);
    let own =
        render(&record, &journaling_sender(), &address(TO_ARCHIVE), EIGHT_BIT, Some(&MacKey::from_bytes([7; 32])));
    assert_eq!(rendering.body, BodyKind::EightBitMime);
    let before = format!("\r\n{BOUNDARY}\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: message/rfc822\r\n\r\n");
    let start = rendering.prefix.len() - own.prefix.len();
    assert!(rendering.prefix.ends_with(&own.prefix) && rendering.prefix[..start].ends_with(before.as_bytes()));
    assert_eq!(rendering.suffix, [own.suffix, format!("\r\n{BOUNDARY}--\r\n").into_bytes()].concat());
}

#[test]
fn without_the_record_nothing_is_attached() {
    let fields = report(ReportKind::Failed, "550 no", true);
    let parts = parts(&fields, None);
    assert_eq!(parts.len(), 3);
    assert!(parts[1].contains("discarded by an operator") && !parts[1].contains("queue retry"));
    let rendering = rendered(&fields, None, PLAIN);
    assert_eq!(rendering.suffix, format!("\r\n{BOUNDARY}--\r\n").into_bytes());
    assert!(rendering.prefix.ends_with(b"+0000\r\n"));
}

#[test]
fn a_reply_cannot_pass_for_words_of_ours() {
    let fields = report(ReportKind::Failed, "550 no\r\n\r\nYou may\u{2028}delete it", true);
    let text = parts(&fields, Some(&record_fields())).swap_remove(1);
    assert!(text.contains("550 no    You may delete it\r\n"), "{text}");
}

#[test]
fn a_foreign_reply_is_shown_as_it_is_where_the_way_allows_it() {
    let fields = report(ReportKind::Failed, "550 nön", true);
    let eight = rendered(&fields, Some(&record_fields()), EIGHT_BIT);
    assert!(String::from_utf8(eight.prefix).unwrap().contains("550 nön"));
    assert_eq!(eight.body, BodyKind::EightBitMime);
    let plain = rendered(&fields, Some(&record_fields()), PLAIN);
    assert!(plain.prefix.is_ascii() && plain.body == BodyKind::SevenBit);
}
