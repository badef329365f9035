//! Bounces in the shapes that servers write.

use super::super::samples_tests::{TO_ARCHIVE, address, fields, journaling_sender};
use super::super::{ArchiveOffers, MacKey, render};
use super::*;
use crate::mail::OsEntropy;

const ORIGINAL: &str = "From: alice@acme.example\r\nSubject: x\r\n\r\nHello\r\n";

fn record() -> String {
    let key = MacKey::from_bytes(MacKey::draw(&OsEntropy));
    let rendering = render(&fields(), &journaling_sender(), &address(TO_ARCHIVE), ArchiveOffers::default(), Some(&key));
    String::from_utf8([&rendering.prefix, ORIGINAL.as_bytes(), &rendering.suffix].concat()).unwrap()
}

fn header() -> String {
    format!("{}\r\n", record().split_once("\r\n\r\n").unwrap().0)
}

/// As Postfix, Exchange, Gmail and Exim put it together.
fn dsn(status: &str, kind: &str, returned: &str) -> String {
    format!(
        "From: MAILER-DAEMON@vault.example\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"B0/vault.example\"\r\n\r\n\
         This is a MIME-encapsulated message.\r\n\r\n--B0/vault.example\r\nContent-Description: Notification\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\nI'm sorry: 550 5.7.1 in words.\r\n\r\n--B0/vault.example\r\n\
         Content-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; vault.example\r\n\r\nFinal-Recipient: rfc822; archive@vault.example\r\n{status}\r\n\
         --B0/vault.example\r\nContent-Type: {kind}\r\n\r\n{returned}\r\n--B0/vault.example--\r\n"
    )
}

const FAILED: &str =
    "Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1\r\n <archive@vault.example>: unknown\r\n";

#[track_caller]
fn read(text: &str) -> Bounce {
    Bounce::read(text.as_bytes()).unwrap()
}

#[test]
fn a_bounce_with_the_whole_record_names_it_and_brings_its_original_back() {
    let text = dsn(FAILED, "message/rfc822", &record());
    let bounce = read(&text);
    assert_eq!(bounce.action, Action::Failed);
    assert_eq!(bounce.diagnostic, "550 5.1.1 <archive@vault.example>: unknown");
    assert_eq!(bounce.record, Some(fields().id));
    assert_eq!(bounce.message_uuid, Some(fields().message_uuid));
    assert_eq!(bounce.boundary, Some(fields().boundary));
    assert_eq!(text.get(bounce.original.unwrap()).unwrap(), ORIGINAL);
}

#[test]
fn a_header_is_enough_to_name_a_record() {
    for kind in ["text/rfc822-headers", "message/rfc822", "message/global-headers"] {
        let bounce = read(&dsn(FAILED, kind, &header()));
        assert_eq!((bounce.record, bounce.original), (Some(fields().id), None), "{kind}");
    }
    let without_id = header().replace("X-Journal-Record", "X-Other");
    let bounce = read(&dsn(FAILED, "text/rfc822-headers", &without_id));
    assert_eq!((bounce.record, bounce.message_uuid), (None, Some(fields().message_uuid)));
    assert_eq!(bounce.boundary, Some(fields().boundary));
}

#[test]
fn a_record_cut_on_the_way_brings_nothing_back() {
    let record = record();
    let bounce = read(&dsn(FAILED, "message/rfc822", record.split_at(record.len() - 60).0));
    assert_eq!((bounce.record, bounce.original), (Some(fields().id), None));
}

#[test]
fn the_action_says_what_happened() {
    let cases = [
        ("Action: failed\r\nStatus: 5.0.0\r\n", Action::Failed),
        ("Action: FAILED (rejected)\r\nStatus: 5.0.0\r\n", Action::Failed),
        ("action: Delayed\r\nStatus: 4.4.1\r\n", Action::Delayed),
        ("Action: delivered\r\nStatus: 2.0.0\r\n", Action::Passed),
        ("Action: relayed\r\n", Action::Passed),
        ("Action: expanded\r\n", Action::Passed),
        ("Status: 2.0.0\r\n", Action::Passed),
        ("Status: 5.4.4\r\n", Action::Failed),
        ("Action: delivered\r\n\r\nFinal-Recipient: rfc822; b@x.example\r\nAction: failed\r\n", Action::Failed),
    ];
    for (status, action) in cases {
        let bounce = read(&dsn(status, "text/rfc822-headers", &header()));
        // A word that RFC 3464 does not know leaves the status to speak.
        assert_eq!(bounce.action, action, "{status:?}");
    }
}

#[test]
fn a_text_with_the_message_behind_it_is_a_bounce_unless_it_warns() {
    let exim = |subject: &str, more: &str| {
        format!(
            "From: Mail Delivery System <Mailer-Daemon@vault.example>\r\nSubject: {subject}\r\n{more}\r\n\
             This message was created automatically by mail delivery software.\r\n\r\n  archive@vault.example\r\n    \
             host mx.vault.example: 550 5.2.2 mailbox full\r\n\r\n------ This is a copy of the message. ------\r\n\r\n{}",
            record()
        )
    };
    let text =
        exim("Mail delivery failed: returning message to sender", "X-Failed-Recipients: archive@vault.example\r\n");
    let bounce = read(&text);
    assert_eq!((bounce.action, bounce.record), (Action::Failed, Some(fields().id)));
    assert_eq!(bounce.diagnostic, "host mx.vault.example: 550 5.2.2 mailbox full");
    assert_eq!(text.get(bounce.original.unwrap()).unwrap(), ORIGINAL);
    assert_eq!(read(&exim("failure notice", "")).action, Action::Failed);
    assert_eq!(read(&exim("Warning: message 1abc delayed 24 hours", "")).action, Action::Delayed);
}

#[test]
fn what_is_no_bounce_of_a_record_is_none() {
    let receipt = dsn(FAILED, "message/rfc822", &record())
        .replace("report-type=delivery-status", "report-type=disposition-notification");
    for text in [
        String::new(),
        "Subject: buy\r\n\r\nnow\r\n".to_owned(),
        receipt,
        dsn(FAILED, "message/rfc822", "From: a@b.example\r\nMessage-ID: <1@b.example>\r\n\r\nHello\r\n"),
        dsn(FAILED, "message/rfc822", "X-Journal-Record: ../../etc/passwd\r\n\r\n"),
    ] {
        assert_eq!(Bounce::read(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn words_are_kept_on_one_short_line() {
    let status =
        format!("Action: failed\r\nDiagnostic-Code: smtp; 550 =?utf-8?q?a=0D=0AX=3A_y?= {}\r\n", "ü".repeat(2_000));
    let diagnostic = read(&dsn(&status, "text/rfc822-headers", &header())).diagnostic;
    assert!(diagnostic.starts_with("550 a  X: y") && diagnostic.len() <= MAX_DIAGNOSTIC, "{diagnostic}");
    assert_eq!(
        read(&dsn("Action: failed\r\n", "text/rfc822-headers", &header())).diagnostic,
        "I'm sorry: 550 5.7.1 in words."
    );
}

#[test]
fn no_shape_costs_more_than_its_octets() {
    let deep: String = (0..20_000)
        .map(|level| format!("--b{level}\r\nContent-Type: multipart/mixed; boundary=b{level}\r\n\r\n"))
        .collect();
    let many = "--B0/vault.example\r\nContent-Type: message/delivery-status\r\n\r\nAction: failed\r\n".repeat(50_000);
    for bomb in [deep, many, "\r\n".repeat(2_000_000), "x".repeat(4_000_000)] {
        let bounce = read(&dsn(FAILED, "message/rfc822", &format!("{}\r\n{bomb}", header())));
        assert_eq!((bounce.action, bounce.record), (Action::Failed, Some(fields().id)));
    }
}
