//! Facts from headers of every make, and that no octets are too odd to be read.

use super::*;
use proptest::prelude::*;

fn texts(addresses: &[Address]) -> Vec<&str> {
    addresses.iter().map(Address::as_str).collect()
}

#[test]
fn every_fact_is_read() {
    let facts = HeaderFacts::read(
        b"Received: from a\r\n by b\r\nFROM: Alice <alice@x.example>, al@x.example\r\nsender : Bob\r\n <bob@x.example>\r\n\
        To: a@x.example\r\nResent-To: b@x.example\r\nCC: T: c@x.example, d@x.example;\r\nResent-Cc: e@x.example\r\n\
        Bcc: f@x.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_aus?= K\xc3\xb6ln\r\n\
        Message-Id: <m\r\n @x.example>\r\nList-ID: <l>\r\n\r\nSubject: body\r\n",
    );
    assert_eq!(facts.from.as_deref(), Some("alice@x.example"));
    assert_eq!(facts.sender.as_deref(), Some("bob@x.example"));
    assert_eq!(texts(&facts.to), ["a@x.example", "b@x.example"]);
    assert_eq!(texts(&facts.cc), ["c@x.example", "d@x.example", "e@x.example"]);
    assert_eq!(facts.subject.as_deref(), Some("Grüße aus Köln"));
    assert_eq!(facts.message_id.as_deref(), Some("<m @x.example>"));
    assert!(facts.has_bcc && facts.names_recipients && facts.list_mail);
}

#[test]
fn no_header_says_nothing() {
    for header in ["", "\r\n", "just a body, no headers\r\nsecond line\r\n", "From alice Tue Nov 10 10:00:00 2026\r\n"]
    {
        assert_eq!(HeaderFacts::read(header.as_bytes()), HeaderFacts::default(), "{header:?}");
    }
}

#[test]
fn a_line_that_is_no_field_is_passed_over() {
    for junk in
        ["From alice Tue Nov 10 10:00:00 2026\r\n", ">From x\r\n", "no field\r\n folded: x\r\n", ": x\r\n", " x\r\n"]
    {
        let facts = HeaderFacts::read(format!("{junk}Subject: s\r\n").as_bytes());
        assert_eq!(facts.subject.as_deref(), Some("s"), "{junk:?}");
        assert_eq!(facts.from, None);
    }
}

#[test]
fn of_fields_that_stand_twice_the_first_counts_and_of_recipients_all() {
    let facts = HeaderFacts::read(
        b"Subject: one\r\nSubject: two\r\nMessage-ID:\r\nMessage-ID: <1@x>\r\nMessage-ID: <2@x>\r\nFrom: nobody\r\n\
        From: a@x.example\r\nFrom: b@x.example\r\nTo: a@x.example\r\nTo: b@x.example\r\n",
    );
    assert_eq!(facts.subject.as_deref(), Some("one"));
    assert_eq!(facts.message_id.as_deref(), Some("<1@x>"));
    assert_eq!(facts.from.as_deref(), Some("a@x.example"));
    assert_eq!(texts(&facts.to), ["a@x.example", "b@x.example"]);
}

#[test]
fn an_empty_subject_is_one_and_an_empty_message_id_is_none() {
    let facts = HeaderFacts::read(b"Subject:\r\nMessage-ID: \r\n");
    assert_eq!((facts.subject.as_deref(), facts.message_id), (Some(""), None));
}

#[test]
fn recipients_are_told_of_by_addresses_and_by_empty_groups() {
    let cases = [
        ("To: a@x.example\r\n", true),
        ("Cc: a@x.example\r\n", true),
        ("Bcc: a@x.example\r\n", true),
        ("Bcc:\r\n", true),
        ("Bcc: (nobody)\r\n", true),
        ("To: undisclosed-recipients:;\r\n", true),
        ("To:\r\n", false),
        ("To: undisclosed recipients\r\n", false),
        ("Bcc: everybody\r\n", false),
        ("Reply-To: a@x.example\r\n", false),
    ];
    for (header, told) in cases {
        assert_eq!(HeaderFacts::read(header.as_bytes()).names_recipients, told, "{header:?}");
    }
}

#[test]
fn list_mail_is_known_by_its_id_or_precedence() {
    for (header, list) in [
        ("List-Id: x\r\n", true),
        ("precedence: LIST\r\n", true),
        ("Precedence: bulk\r\n", false),
        ("List-Unsubscribe: x\r\n", false),
    ] {
        assert_eq!(HeaderFacts::read(header.as_bytes()).list_mail, list, "{header:?}");
    }
}

#[test]
fn a_header_with_bare_line_feeds_is_read_all_the_same() {
    let facts = HeaderFacts::read(b"Subject: a\n b\nTo: a@x.example\n\nTo: b@x.example\n");
    assert_eq!(facts.subject.as_deref(), Some("a b"));
    assert_eq!(texts(&facts.to), ["a@x.example"]);
}

#[test]
fn a_megabyte_of_fields_is_read() {
    let header = "To: a@x.example\r\n".repeat(60_000);
    assert_eq!(HeaderFacts::read(header.as_bytes()).to.len(), 60_000);
}

proptest! {
    #[test]
    fn any_octets_are_read_and_every_text_is_one_line(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    &b"Subject: "[..], b"Message-ID: ", b"From: ", b"Sender: ", b"To: ", b"Cc: ", b"Bcc: ", b"\r\n", b"\r\n ", b"\n",
                    b"=?utf-8?q?=0D=0A?=", b"=?utf-8?b?", b"?=", b"<", b">", b"\"", b"(", b"@", b":", b";", b",", b"a@x.example",
                ]).prop_map(<[u8]>::to_vec),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..40,
        ),
    ) {
        let facts = HeaderFacts::read(&pieces.concat());
        for text in [facts.subject, facts.message_id, facts.from, facts.sender].into_iter().flatten() {
            let breaks = text.contains(|letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}'));
            prop_assert!(!breaks, "{:?}", text);
        }
    }
}

#[test]
fn a_subject_beyond_its_bound_is_cut_between_characters() {
    let facts = HeaderFacts::read(format!("Subject: {}\r\n", "é".repeat(MAX_SUBJECT)).as_bytes());
    let subject = facts.subject.unwrap();
    assert!(subject.ends_with("é…") && subject.len() <= MAX_SUBJECT + '…'.len_utf8(), "{} octets", subject.len());
}
