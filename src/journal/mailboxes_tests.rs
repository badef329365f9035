//! The address fields senders really write, and that no text is too odd to be read.

use super::*;
use crate::journal::header::fields;
use crate::journal::text::{characters, one_line, unfold};
use mail_parser::parsers::MessageStream;
use proptest::prelude::*;

fn read(text: &str) -> Vec<String> {
    Mailboxes::read(text).addresses
}

#[test]
fn addresses_are_found_in_whatever_stands_around_them() {
    let cases: [(&str, &[&str]); 31] = [
        ("a@x.example", &["a@x.example"]),
        ("a@x.example, B <b@x.example>,c@x.example", &["a@x.example", "b@x.example", "c@x.example"]),
        ("\"Last, First\" <a@x.example>", &["a@x.example"]),
        ("\"a@no.example\" <a@x.example>", &["a@x.example"]),
        ("'a@no.example' <a@x.example>", &["a@x.example"]),
        ("\"odd one\"@x.example", &["\"odd one\"@x.example"]),
        ("<\"a\\\"b\"@x.example>", &["\"a\\\"b\"@x.example"]),
        ("Name <\"odd, one\"@x.example>, b@x.example", &["\"odd, one\"@x.example", "b@x.example"]),
        ("a@x.example (Alice, (the) one \\) )", &["a@x.example"]),
        ("a(comment)@x.example", &["a@x.example"]),
        ("a . b @ x . example", &["a.b@x.example"]),
        ("< a@x.example >", &["a@x.example"]),
        ("<@r.example,@s.example:a@x.example>, b@x.example", &["a@x.example", "b@x.example"]),
        ("Team: a@x.example, B <b@x.example>; c@x.example", &["a@x.example", "b@x.example", "c@x.example"]),
        ("Team: a@x.example", &["a@x.example"]),
        ("a@x.example; b@x.example;", &["a@x.example", "b@x.example"]),
        ("<a@x.example> <b@x.example>", &["a@x.example", "b@x.example"]),
        ("Dr. Alice a@x.example", &["a@x.example"]),
        ("<<a@x.example>>", &["a@x.example"]),
        ("Alice <a@x.example", &["a@x.example"]),
        ("a@x.example <>", &["a@x.example"]),
        ("=?utf-8?q?Last,_First?= <a@x.example>", &["a@x.example"]),
        ("=?utf-8?q?Last, (First <b@no.example>?= <a@x.example>", &["a@x.example"]),
        ("smile :( <a@x.example>, b@x.example", &["a@x.example", "b@x.example"]),
        ("5\" pipes <a@x.example>, b@x.example", &["a@x.example", "b@x.example"]),
        ("用户@例え.example, Ü <ü@x.example>", &["用户@例え.example", "ü@x.example"]),
        ("u@[IPv6:2001:db8::1], b@[192.0.2.1]", &["u@[IPv6:2001:db8::1]", "b@[192.0.2.1]"]),
        ("postmaster, root", &["postmaster"]),
        ("undisclosed recipients", &[]),
        ("", &[]),
        (",,;:<>@", &[]),
    ];
    for (text, addresses) in cases {
        assert_eq!(read(text), addresses, "{text}");
    }
}

#[test]
fn an_empty_group_is_remembered_and_one_with_members_is_none() {
    for text in ["undisclosed-recipients:;", "a@x.example, none: ;", "none: (nobody)", "A:;, B: b@x.example;"] {
        assert!(Mailboxes::read(text).empty_group, "{text}");
    }
    for text in ["B: b@x.example;", "b@x.example", ";", "", "u@[IPv6:2001:db8::1]"] {
        assert!(!Mailboxes::read(text).empty_group, "{text}");
    }
}

#[test]
fn blanks_and_comments_alone_are_blank() {
    for (text, blank) in [("", true), ("  ", true), (" (nobody) ", true), ("x", false), ("\"\"", false), ("<>", false)]
    {
        assert_eq!(Mailboxes::read(text).blank, blank, "{text:?}");
    }
}

#[test]
fn a_crafted_megabyte_is_read_in_one_pass() {
    // Each would cost the square of its length, did something look to the end of it more than once.
    for piece in ["\"\\", "\"\\,", "(", "(\\)", "=?ab?q?z ", "<", "a@b<", ":", "a . ", "\" \\\"", "@"] {
        let text = piece.repeat(1024 * 1024 / piece.len());
        assert!(read(&text).len() <= text.len());
    }
}

/// Where another parser finds nothing but whole addresses, they are the same.
#[test]
fn the_corpus_s_address_fields_read_as_mail_parser_reads_them() {
    let mut compared = 0;
    for folder in ["gh", "syn"] {
        let folder = format!("{}/tests/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(folder).unwrap() {
            let octets = std::fs::read(file.unwrap().path()).unwrap();
            for (name, value) in fields(&octets) {
                if [&b"to"[..], b"cc", b"from", b"sender"].contains(&name.to_ascii_lowercase().as_slice()) {
                    compared += usize::from(agree(value));
                }
            }
        }
    }
    assert!(compared > 300, "{compared}");
}

fn agree(value: &[u8]) -> bool {
    let text = one_line(&unfold(&characters(value))).into_owned();
    let line = format!("{text}\n");
    let parsed = MessageStream::new(line.as_bytes()).parse_address().into_address();
    let theirs: Vec<_> = parsed
        .map(|parsed| parsed.into_list())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|address| address.address)
        .filter(|address| address.contains('@'))
        .map(|address| address.trim().to_owned())
        .collect();
    let whole = theirs.iter().all(|address| Address::parse(address).is_ok());
    if whole {
        assert_eq!(read(&text), theirs, "{text}");
    }
    whole
}

proptest! {
    #[test]
    fn any_text_is_read(text in "[ a-c@<>:;,.()\"\\\\=?\\[\\]q]{0,60}") {
        for address in read(&text) {
            prop_assert!(is_address(&address), "{}", address);
        }
    }

    #[test]
    fn an_address_is_found_behind_any_quoted_name(name in "[^\"\\\\\\pC]{0,30}", local in "[a-z.]{1,10}") {
        let address = format!("{local}@x.example");
        prop_assert_eq!(read(&format!("\"{name}\" <{address}>")), vec![address]);
    }
}
