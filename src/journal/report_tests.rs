//! Notifications as administrators and programs read them.

use super::super::samples_tests::{DATE, TO_ARCHIVE, address, fields as record_fields, journaling_sender};
use super::super::{Cause, Gap, Named, Notice, OctetsKind, Outage, ReportSeed, message_id, render};
use super::*;
use std::time::Duration;

const BOUNDARY: &str = "--_11111111-2222-4333-8444-555555555555_";
const PLAIN: ArchiveOffers =
    ArchiveOffers { eight_bit_mime: false, binary_mime: false, chunking: false, smtp_utf8: false };
const EIGHT_BIT: ArchiveOffers = ArchiveOffers { eight_bit_mime: true, ..PLAIN };

fn notice(cause: Cause, reply: &str, reply_is_smtp: bool) -> Notice {
    let waits = cause == Cause::Waits;
    Notice {
        archive: String::new(),
        attempts: 3,
        next_attempt: waits.then(|| DATE.plus(Duration::from_secs(7_200))),
        ..Notice::about(&record_fields(), cause, DATE.plus(Duration::from_secs(3_600))).with_reply(
            "smtp://vault.example:25",
            reply,
            reply_is_smtp,
        )
    }
}

fn telling(news: News) -> ReportFields {
    let seed = ReportSeed {
        id: "01jcb4x5w0rrrrrr".parse().unwrap(),
        date: DATE.plus(Duration::from_secs(3_600)),
        message_uuid: "99999999-2222-4333-8444-555555555555".parse().unwrap(),
        boundary: "11111111-2222-4333-8444-555555555555".parse().unwrap(),
    };
    seed.tell("acme", news)
}

fn outage(reply: &str, reply_is_smtp: bool) -> Outage {
    Outage {
        archive: String::new(),
        route: "smtp://vault.example:25".into(),
        since: DATE,
        reply: reply.into(),
        reply_is_smtp,
        shut: false,
        waiting: 1,
        next_probe: Some(DATE.plus(Duration::from_secs(7_200))),
    }
}

/// The report about one record.
fn report(cause: Cause, reply: &str, reply_is_smtp: bool) -> ReportFields {
    let named = Named { records: vec![notice(cause, reply, reply_is_smtp)], more: 0 };
    telling(match cause {
        Cause::Waits => News::Delayed { outage: outage(reply, reply_is_smtp), late: named },
        _ => News::Failed(named),
    })
}

/// The report about so many.
fn digest(count: usize) -> ReportFields {
    let records = (0..count).map(|number| {
        let record = format!("01jcb4x5w0{number:06}").parse().unwrap();
        let reply = if number % 3 == 0 { "552 5.2.2 full, \"sorry\"" } else { "550 5.7.1 no" };
        Notice { record, ..notice(Cause::Refused, reply, true) }
    });
    telling(News::Failed(Named { records: records.collect(), more: 0 }))
}

fn rendered(fields: &ReportFields, record: Option<&RecordFields>, server: ArchiveOffers) -> ReportRendering {
    let (sender, to, archive) = (journaling_sender(), address("postmaster@acme.example"), address(TO_ARCHIVE));
    let context = ReportContext {
        hostname: "relay.acme.example",
        sender: &sender,
        report_address: &to,
        journaling_address: &archive,
        give_up: Duration::from_secs(8 * 86_400),
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
    let parts = parts(&report(Cause::Refused, "550 5.7.1 no", true), Some(&record_fields()));
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
    let text = parts(&report(Cause::Refused, "550 5.7.1 no such archive", true), Some(&record_fields())).swap_remove(1);
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
    let text = parts(&report(Cause::Waits, "451 4.3.0 later", true), Some(&record_fields())).swap_remove(1);
    for said in ["delayed", "451 4.3.0 later", "again at Tue, 10 Nov 2026 12:00:00", "Wed, 18 Nov 2026 10:00:00"] {
        assert!(text.contains(said), "{said:?} is missing in\n{text}");
    }
}

#[test]
fn the_second_part_tells_a_program() {
    assert_eq!(
        status_of(&report(Cause::Waits, "451 4.3.0 later", true)),
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.acme.example\r\n\
         Arrival-Date: Tue, 10 Nov 2026 10:00:00 +0000\r\n\r\n\
         Final-Recipient: rfc822; archive@vault.example\r\nAction: delayed\r\nStatus: 4.3.0\r\n\
         Remote-MTA: dns; vault.example\r\nDiagnostic-Code: smtp; 451 4.3.0 later\r\n\
         Will-Retry-Until: Wed, 18 Nov 2026 10:00:00 +0000\r\nX-Journal-Record: 01jcb4x5w0abcdef\r\n\r\n"
    );
}

#[test]
fn the_status_is_the_archive_s_own_where_it_fits() {
    use Cause::{GivenUp, Refused, Waits};
    let cases = [
        (Refused, "550 5.7.1 no", true, "failed", "5.7.1"),
        (Refused, "550 no", true, "failed", "5.0.0"),
        (Refused, "550 4.7.1 no", true, "failed", "5.0.0"),
        (GivenUp, "451 4.3.0 later", true, "failed", "4.4.7"),
        (GivenUp, "connection refused", false, "failed", "4.4.7"),
        (Waits, "451 later", true, "delayed", "4.0.0"),
        (Waits, "554 5.7.1 not you", true, "delayed", "4.0.0"),
        (Waits, "550 is no reply of theirs", false, "delayed", "4.0.0"),
    ];
    for (cause, reply, smtp, action, status) in cases {
        let text = status_of(&report(cause, reply, smtp));
        assert!(text.contains(&format!("Action: {action}\r\nStatus: {status}\r\n")), "{reply}: {text}");
        assert_eq!(text.contains("Diagnostic-Code: smtp; "), smtp);
        assert_eq!(text.contains("Remote-MTA"), smtp);
        assert_eq!(text.contains("Will-Retry-Until"), cause == Waits);
        assert_eq!(text.contains("Last-Attempt-Date"), cause != Waits);
    }
}

#[test]
fn a_long_or_foreign_reply_stays_one_folded_ascii_field() {
    let reply = format!("550 5.7.1 {} nön\r\nAction: delivered", "many words ".repeat(40));
    let text = status_of(&report(Cause::Refused, &reply, true));
    assert!(text.is_ascii() && text.contains("n\\x{F6}n"), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 78) && !text.contains("\r\nAction: delivered"), "{text}");
}

#[test]
fn the_record_is_attached_as_it_would_be_sent() {
    let mut record = record_fields();
    record.original.kind = OctetsKind::EightBit;
    let rendering = rendered(&report(Cause::Refused, "550 no", true), Some(&record), EIGHT_BIT);
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
    let fields = report(Cause::Refused, "550 no", true);
    let parts = parts(&fields, None);
    assert_eq!(parts.len(), 3);
    assert!(parts[1].contains("no longer in the queue") && !parts[1].contains("queue retry"));
    let rendering = rendered(&fields, None, PLAIN);
    assert_eq!(rendering.suffix, format!("\r\n{BOUNDARY}--\r\n").into_bytes());
    assert!(rendering.prefix.ends_with(b"X-Journal-Record: 01jcb4x5w0abcdef\r\n"));
}

#[test]
fn a_reply_cannot_pass_for_words_of_ours() {
    let fields = report(Cause::Refused, "550 no\r\n\r\nYou may\u{2028}delete it", true);
    let text = parts(&fields, Some(&record_fields())).swap_remove(1);
    assert!(text.contains("550 no    You may delete it\r\n"), "{text}");
}

#[test]
fn a_foreign_reply_is_shown_as_it_is_where_the_way_allows_it() {
    let fields = report(Cause::Refused, "550 nön", true);
    let eight = rendered(&fields, Some(&record_fields()), EIGHT_BIT);
    assert!(String::from_utf8(eight.prefix).unwrap().contains("550 nön"));
    assert_eq!(eight.body, BodyKind::EightBitMime);
    let plain = rendered(&fields, Some(&record_fields()), PLAIN);
    assert!(plain.prefix.is_ascii() && plain.body == BodyKind::SevenBit);
}

#[test]
fn a_digest_says_how_many_why_and_what_to_do_and_names_each() {
    let fields = digest(500);
    let parts = parts(&fields, None);
    assert_eq!(parts.len(), 4);
    assert!(parts[0].contains("Subject: 500 journal records not delivered: acme\r\n"), "{}", parts[0]);
    assert!(!parts[0].contains("X-Journal-Record"));
    for said in [
        "500 journal records were NOT delivered",
        "  333 × 550 5.7.1 no\r\n  167 × 552 5.2.2 full, \"sorry\"\r\n",
        "Refused:       500",
        "queue retry --all",
        "queue list --state failed",
        "names each of them",
    ] {
        assert!(parts[1].replace("=C3=97", "×").contains(said), "{said:?} is missing in\n{}", parts[1]);
    }
    let groups: Vec<_> = parts[2].split("\r\n\r\n").skip(2).collect();
    assert_eq!(groups.iter().filter(|group| group.contains("Action: failed\r\nStatus: 5.")).count(), 500);
    let rows: Vec<_> = parts[3].split("\r\n\r\n").nth(1).unwrap().lines().collect();
    assert_eq!(rows.len(), 501);
    assert!(rows[1].starts_with("01jcb4x5w0000000,<020b9deb-"), "{}", rows[1]);
    assert!(rows[1].ends_with(",\"552 5.2.2 full, \"\"sorry\"\"\""), "{}", rows[1]);
}

#[test]
fn a_digest_that_can_not_name_all_says_how_many_it_leaves_out() {
    let mut fields = digest(3);
    let News::Failed(named) = &mut fields.news else { unreachable!() };
    named.more = 97;
    let text = parts(&fields, None).swap_remove(1);
    assert!(text.contains("100 journal records") && text.contains("names 3 of them"), "{text}");
    assert!(text.contains("The other 97 are in the queue's list"), "{text}");
}

#[test]
fn a_route_that_refuses_us_is_told_without_a_record() {
    let outage = Outage { shut: true, waiting: 7, ..outage("535 5.7.8 bad password", true) };
    let parts = parts(&telling(News::Delayed { outage, late: Named::default() }), None);
    assert_eq!(parts.len(), 3);
    assert!(parts[0].contains("Subject: Journal archive refuses the relay: acme, 7 records wait\r\n"));
    assert!(parts[1].contains("Waiting will not mend that") && parts[1].contains("535 5.7.8 bad password"));
    assert!(parts[2].contains("Action: delayed\r\nStatus: 4.0.0\r\n"), "{}", parts[2]);
}

#[test]
fn a_route_that_leads_nowhere_is_not_called_a_refusal_of_the_archive() {
    let outage = Outage { shut: true, waiting: 7, ..outage("MX of x.example: the domain does not exist", false) };
    let parts = parts(&telling(News::Delayed { outage, late: Named::default() }), None);
    assert!(parts[0].contains("Subject: Journal route does not work: acme, 7 records wait\r\n"), "{}", parts[0]);
    assert!(
        parts[1].contains("The route to the archive does not work") && !parts[1].contains("refuses"),
        "{}",
        parts[1]
    );
    assert!(parts[2].contains("Diagnostic-Code: x-journal-relay; MX of x.example"), "{}", parts[2]);
}

#[test]
fn the_end_of_a_delay_is_told_with_its_figures() {
    let outage = Outage { waiting: 3, ..outage("451 4.3.0 later", true) };
    let parts = parts(&telling(News::Restored { outage, delivered: 120, until: None }), None);
    for said in [
        "Since:         Tue, 10 Nov 2026 10:00:00",
        "Until:         Tue, 10 Nov 2026 11:00:00",
        "120",
        "Still waiting: 3",
    ] {
        assert!(parts[1].contains(said), "{said:?} is missing in\n{}", parts[1]);
    }
    assert!(parts[2].contains("Action: delivered\r\nStatus: 2.0.0\r\n"), "{}", parts[2]);
}

#[test]
fn a_gap_is_told_with_its_times_its_reason_and_queue_ids() {
    let ids: Vec<crate::mail::QueueId> =
        (0..103).map(|number| format!("01jcb4x5w0{number:06}").parse().unwrap()).collect();
    let mut gap = Gap::open(ids[0], "the spool is full: no room\r\nOrganization: other", DATE);
    ids[1..].iter().for_each(|id| gap.add(*id, DATE.plus(Duration::from_secs(3_600))));
    let parts = parts(&telling(News::Bypassed(gap)), None);
    assert_eq!(parts.len(), 3);
    assert!(parts[0].contains("Subject: Gap in the journal: acme, 103 messages without a record\r\n"), "{}", parts[0]);
    for said in [
        "103 messages relayed WITHOUT a record",
        "First:         Tue, 10 Nov 2026 10:00:00",
        "Last:          Tue, 10 Nov 2026 11:00:00",
        "The reason:    the spool is full: no room  Organization: other\r\n",
        "01jcb4x5w0000099\r\n  and 3 more, in the log",
    ] {
        assert!(parts[1].contains(said), "{said:?} is missing in\n{}", parts[1]);
    }
    assert!(parts[2].contains("Action: failed\r\nStatus: 5.3.0\r\n"), "{}", parts[2]);
    assert!(parts[2].contains("Diagnostic-Code: x-journal-relay; the spool is full: no room"), "{}", parts[2]);
}
