//! Records read back by a strict reader: form, encodings, and that nothing can be forged in them.

use super::super::samples_tests::{TO_ARCHIVE, address, fields, journaling_sender, recipient};
use super::super::{HeaderFacts, RecordFields, label_recipients, message_uuid};
use super::*;
use crate::config::UnlistedRecipients;
use crate::mail::ReversePath;
use proptest::prelude::*;

const PLAIN: ArchiveOffers =
    ArchiveOffers { eight_bit_mime: false, binary_mime: false, chunking: false, smtp_utf8: false };
const EIGHT_BIT: ArchiveOffers = ArchiveOffers { eight_bit_mime: true, ..PLAIN };
const BINARY: ArchiveOffers = ArchiveOffers { binary_mime: true, chunking: true, ..EIGHT_BIT };

/// The outer fields that may stand in a record, in their order.
const ORDER: [&str; 19] = [
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
    "X-Journal-Record",
    "X-Journal-Received",
    "X-Journal-Original-SHA256",
    "X-Journal-Mail-From",
    "X-Journal-Auth",
    "X-Journal-Outcome",
    "X-Journal-Supplement",
    "Content-Transfer-Encoding",
    "Content-Type",
];

/// A record's prefix taken apart; anything out of place is a failed test.
#[derive(Debug)]
struct Parsed {
    headers: Vec<(String, String)>,
    /// The fields of the envelope part.
    part: Vec<String>,
    /// The envelope part's lines, decoded.
    lines: Vec<(String, String)>,
    /// The fields of the part that holds the original.
    attached: Vec<String>,
}

impl Parsed {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn values(&self, name: &str) -> Vec<&str> {
        self.lines.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

fn split_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
    assert!(value.is_empty() || value.starts_with(' '), "{line:?}");
    (name.to_owned(), value.strip_prefix(' ').unwrap_or_default().to_owned())
}

fn parse(rendering: &Rendering) -> Parsed {
    let text = String::from_utf8(rendering.prefix.clone()).unwrap();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0', '\u{2028}', '\u{85}']), "CRLF everywhere: {text:?}");
    assert!(text.split("\r\n").all(|line| line.len() <= MAX_LINE), "a line is too long");
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.is_ascii());
    let headers: Vec<_> = head.replace("\r\n ", " ").split("\r\n").map(split_field).collect();
    let mut places = ORDER.iter();
    for (name, _) in &headers {
        assert!(places.any(|known| known == name), "{name} is unknown, repeated or out of order in\n{head}");
    }
    let boundary = head.rsplit_once("boundary=\"").unwrap().1.strip_suffix('"').unwrap();
    assert_eq!(rendering.suffix, format!("\r\n--{boundary}--\r\n").as_bytes());
    let body = format!("\r\n{rest}");
    let mut parts = body.split(&format!("\r\n--{boundary}\r\n")).collect::<Vec<_>>();
    assert_eq!(parts.len(), 3, "two parts");
    let attached = parts.pop().unwrap().strip_suffix("\r\n\r\n").unwrap();
    let (part, lines) = parts.pop().unwrap().split_once("\r\n\r\n").unwrap();
    assert_eq!(parts.pop(), Some(""), "no preamble");
    let lines = lines.strip_suffix("\r\n").expect("an empty line before the delimiter");
    let lines = if part.contains("quoted-printable") { decode(lines) } else { lines.to_owned() };
    Parsed {
        headers,
        part: part.split("\r\n").map(str::to_owned).collect(),
        lines: lines.split("\r\n").map(split_field).collect(),
        attached: attached.split("\r\n").map(str::to_owned).collect(),
    }
}

fn decode(lines: &str) -> String {
    let mut octets = Vec::new();
    let joined = lines.replace("=\r\n", "");
    let mut rest = joined.bytes();
    while let Some(octet) = rest.next() {
        let hex = |rest: &mut std::str::Bytes<'_>| char::from(rest.next().unwrap()).to_digit(16).unwrap() as u8;
        octets.push(if octet == b'=' { hex(&mut rest) * 16 + hex(&mut rest) } else { octet });
    }
    String::from_utf8(octets).unwrap()
}

fn rendered(fields: &RecordFields, archive: ArchiveOffers) -> (Rendering, Parsed) {
    let rendering = render(fields, &journaling_sender(), &address(TO_ARCHIVE), archive, None);
    let parsed = parse(&rendering);
    (rendering, parsed)
}

fn names(parsed: &Parsed) -> Vec<&str> {
    parsed.lines.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_relay_s_own_fields_say_what_it_knows() {
    let mut fields = fields();
    fields.original.login = Some("alice (web)".into());
    fields.original.reverse_path = ReversePath::Address(address("bounce+1@lists.example"));
    fields.outcome_unknown = true;
    fields.supplements = Some("<first@journal.report.generator>".into());
    let (_, parsed) = rendered(&fields, PLAIN);
    assert_eq!(parsed.header("X-Journal-Record"), Some("01jcb4x5w0abcdef"));
    assert_eq!(parsed.header("X-Journal-Received"), Some("2026-11-10T10:00:00Z"));
    assert_eq!(parsed.header("X-Journal-Original-SHA256"), Some("01".repeat(32).as_str()));
    assert_eq!(parsed.header("X-Journal-Mail-From"), Some("bounce+1@lists.example"));
    assert_eq!(parsed.header("X-Journal-Auth"), Some("alice (web)"));
    assert_eq!(parsed.header("X-Journal-Outcome"), Some("unknown"));
    assert_eq!(parsed.header("X-Journal-Supplement"), Some("<first@journal.report.generator>"));
}

#[test]
fn what_need_not_be_said_is_not_said() {
    let (_, parsed) = rendered(&fields(), PLAIN);
    for name in ["X-Journal-Mail-From", "X-Journal-Auth", "X-Journal-Outcome", "X-Journal-Supplement"] {
        assert_eq!(parsed.header(name), None, "{name}");
    }
    assert_eq!(parsed.header("Content-Transfer-Encoding"), None);
}

#[test]
fn a_null_reverse_path_is_written_as_angle_brackets() {
    let mut fields = fields();
    fields.original.reverse_path = ReversePath::Null;
    assert_eq!(rendered(&fields, PLAIN).1.header("X-Journal-Mail-From"), Some("<>"));
}

#[test]
fn envelope_lines_stand_in_label_order_and_in_rcpt_order_within() {
    let mut fields = fields();
    fields.original.on_behalf_of = Some("boss@acme.example".into());
    fields.recipients.insert(0, recipient(Label::Recipient, "r@acme.example"));
    let (_, parsed) = rendered(&fields, PLAIN);
    let expected = ["Sender", "On-Behalf-Of", "Subject", "Message-Id", "To", "To", "Cc", "Bcc", "Recipient"];
    assert_eq!(names(&parsed), expected);
    assert_eq!(parsed.values("To"), ["bob@partner.example", "carol@acme.example"]);
}

#[test]
fn octets_are_labelled_by_what_they_need_and_the_archive_offers() {
    use BodyKind::{BinaryMime, EightBitMime, SevenBit};
    let cases = [
        (OctetsKind::SevenBit, PLAIN, None, SevenBit, false),
        (OctetsKind::SevenBit, BINARY, None, SevenBit, false),
        (OctetsKind::EightBit, PLAIN, Some("8bit"), SevenBit, true),
        (OctetsKind::EightBit, EIGHT_BIT, Some("8bit"), EightBitMime, false),
        (OctetsKind::EightBit, BINARY, Some("8bit"), EightBitMime, false),
        (OctetsKind::Binary, BINARY, Some("binary"), BinaryMime, false),
        (OctetsKind::Binary, ArchiveOffers { chunking: false, ..BINARY }, Some("8bit"), EightBitMime, true),
        (OctetsKind::Binary, EIGHT_BIT, Some("8bit"), EightBitMime, true),
        (OctetsKind::Binary, PLAIN, Some("8bit"), SevenBit, true),
    ];
    for (kind, archive, encoding, body, exceeds) in cases {
        let mut fields = fields();
        fields.original.kind = kind;
        let (rendering, parsed) = rendered(&fields, archive);
        assert_eq!(parsed.header("Content-Transfer-Encoding"), encoding, "{kind:?} {archive:?}");
        let mut attached = Vec::new();
        attached.extend(encoding.map(|encoding| format!("Content-Transfer-Encoding: {encoding}")));
        attached.push("Content-Type: message/rfc822".to_owned());
        assert_eq!(parsed.attached, attached);
        assert_eq!((rendering.body, rendering.exceeds_offers), (body, exceeds), "{kind:?} {archive:?}");
    }
}

#[test]
fn the_envelope_part_is_as_plain_as_it_can_be_and_never_base64() {
    let form = |fields: &RecordFields, archive| rendered(fields, archive).1.part;
    let part = |charset: &str, encoding: &str| {
        vec![
            format!("Content-Type: text/plain; charset=\"{charset}\""),
            format!("Content-Transfer-Encoding: {encoding}"),
        ]
    };
    let mut fields = fields();
    assert_eq!(form(&fields, EIGHT_BIT), part("us-ascii", "7bit"));
    fields.original.subject = Some("ü".repeat(499));
    assert_eq!(form(&fields, EIGHT_BIT), part("utf-8", "quoted-printable"), "1007 octets");
    fields.original.subject = Some("ü".into());
    assert_eq!(form(&fields, EIGHT_BIT), part("utf-8", "8bit"));
    assert_eq!(form(&fields, PLAIN), part("utf-8", "quoted-printable"));
    fields.original.subject = Some("s".repeat(998 - "Subject: ".len()));
    assert_eq!(form(&fields, EIGHT_BIT), part("us-ascii", "7bit"));
    fields.original.subject = Some("s".repeat(999 - "Subject: ".len()));
    let (rendering, parsed) = rendered(&fields, EIGHT_BIT);
    assert_eq!(parsed.part, part("us-ascii", "quoted-printable"));
    assert_eq!(parsed.values("Subject"), [fields.original.subject.as_deref().unwrap()]);
    assert_eq!(rendering.body, BodyKind::SevenBit);
}

#[test]
fn an_internationalized_recipient_is_written_in_utf_8() {
    let mut fields = fields();
    fields.recipients.push(recipient(Label::Bcc, "用户@例え.example"));
    for archive in [PLAIN, EIGHT_BIT] {
        let (rendering, parsed) = rendered(&fields, archive);
        assert_eq!(parsed.values("Bcc"), ["eve.hidden@acme.example", "用户@例え.example"]);
        assert!(!rendering.needs_smtp_utf8);
    }
}

#[test]
fn smtp_utf8_is_needed_by_the_record_s_own_addresses_alone() {
    let archive = address("archiv@köln.example");
    assert!(render(&fields(), &journaling_sender(), &archive, BINARY, None).needs_smtp_utf8);
    let mut fields = fields();
    fields.original.sender = "ü@x.example".into();
    fields.original.login = Some("jürgen".into());
    fields.original.reverse_path = ReversePath::Address(address("ö@x.example"));
    let (rendering, parsed) = rendered(&fields, BINARY);
    assert!(!rendering.needs_smtp_utf8);
    assert_eq!(parsed.header("X-Journal-Auth"), Some("=?utf-8?b?asO8cmdlbg==?="));
}

#[test]
fn a_missing_message_id_is_made_from_the_original_s_hash() {
    let mut fields = fields();
    fields.original.message_id = None;
    let (_, parsed) = rendered(&fields, PLAIN);
    assert_eq!(parsed.values("Message-Id"), [format!("<{}.no-message-id@acme.awsapps.com>", "01".repeat(16))]);
    assert_eq!(parsed.header("X-MS-Exchange-Parent-Message-Id"), None);
}

#[test]
fn a_parent_message_id_that_a_header_line_cannot_hold_is_left_out() {
    for (id, there) in [("<ü@x>".to_owned(), false), ("x".repeat(998 - 33), true), ("x".repeat(999 - 33), false)] {
        let mut fields = fields();
        fields.original.message_id = Some(id.clone());
        let (_, parsed) = rendered(&fields, PLAIN);
        assert_eq!(parsed.header("X-MS-Exchange-Parent-Message-Id").is_some(), there);
        assert_eq!(parsed.values("Message-Id"), [id.as_str()]);
    }
}

#[test]
fn thousands_of_recipients_get_a_line_each() {
    let mut fields = fields();
    fields.recipients = (0..5_000).map(|n| recipient(Label::To, &format!("u{n}@x.example"))).collect();
    assert_eq!(rendered(&fields, PLAIN).1.values("To").len(), 5_000);
}

/// Texts an attacker would try, and any other.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "\r\n",
            "\r",
            "\n",
            "\0",
            "\u{2028}",
            "\u{85}",
            "Bcc: x@y.example",
            "\r\nTo: x@y.example\r\n",
            "\r\n\r\n",
            ":",
            " ",
            "=?utf-8?q?=0D=0ATo:_x@y.example?=",
            "=?",
            "?=",
            "=0D=0A",
            "ü",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn offers() -> impl Strategy<Value = ArchiveOffers> {
    prop::sample::select(vec![PLAIN, EIGHT_BIT, BINARY])
}

proptest! {
    #[test]
    fn no_stored_text_adds_a_line_or_a_field(
        texts in prop::array::uniform5(prop::option::of(hostile())),
        supplements in prop::option::of(hostile()),
        archive in offers(),
    ) {
        let mut fields = fields();
        let [subject, message_id, sender, on_behalf_of, login] = texts;
        let has_author = on_behalf_of.is_some();
        fields.original.sender = sender.unwrap_or_default();
        (fields.original.subject, fields.original.message_id) = (subject, message_id);
        (fields.original.on_behalf_of, fields.original.login) = (on_behalf_of, login);
        fields.supplements = supplements;
        let (_, parsed) = rendered(&fields, archive);
        let mut expected = vec!["Sender", "On-Behalf-Of", "Subject", "Message-Id", "To", "To", "Cc", "Bcc"];
        if !has_author {
            expected.remove(1);
        }
        prop_assert_eq!(names(&parsed), expected);
    }

    #[test]
    fn no_header_of_an_original_adds_a_line_or_a_field(
        values in prop::array::uniform5(hostile()),
        archive in offers(),
    ) {
        let [subject, message_id, from, sender, to] = values;
        // Line ends that would begin another field in the original are folded: the texts stay one field's.
        let header = format!("Subject: {subject}\nMessage-ID: {message_id}\nFrom: {from}\nSender: {sender}\nTo: {to}\n");
        let facts = HeaderFacts::read(header.replace("\r\n\r\n", "\r\n ").as_bytes());
        let mut fields = fields();
        let relayed = super::super::Relayed {
            queue_id: fields.original.queue_id,
            received: fields.original.received,
            reverse_path: fields.original.reverse_path.clone(),
            login: None,
        };
        let observation = super::super::Observer::new().finish();
        fields.original = super::super::original(&observation, &facts, relayed);
        let accepted = ["bob@partner.example", "x@y.example"].map(address);
        fields.recipients = label_recipients(&facts, &accepted, UnlistedRecipients::Bcc);
        fields.message_uuid = message_uuid(&fields);
        let (_, parsed) = rendered(&fields, archive);
        let recipients: Vec<_> =
            ["To", "Cc", "Bcc", "Recipient"].iter().flat_map(|label| parsed.values(label)).collect();
        prop_assert_eq!(recipients.len(), 2);
        prop_assert!(recipients.contains(&"bob@partner.example") && recipients.contains(&"x@y.example"));
        for name in ["Sender", "Subject", "Message-Id"] {
            prop_assert_eq!(parsed.values(name).len(), 1);
        }
    }
}
