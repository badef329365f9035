//! Tests of the redaction.

use super::*;
use proptest::prelude::*;
use tracing::Level;

fn redactor() -> Redactor {
    Redactor::new(&HashKey::from_bytes([7; 32]))
}

fn scanned(text: &str, addresses: LogAddresses) -> String {
    redactor().scan(text, addresses)
}

#[test]
fn addresses_are_found_wherever_they_stand() {
    for (text, domains, nothing) in [
        ("user@example.org", "*@example.org", "*"),
        ("550 5.1.1 <user@example.org>: unknown", "550 5.1.1 <*@example.org>: unknown", "550 5.1.1 <*>: unknown"),
        ("to a.b+c=d@example.org, e@example.net.", "to *@example.org, *@example.net.", "to *, *."),
        ("\"odd one\"@example.org", "*@example.org", "*"),
        ("\"a@b\"@example.org", "*@example.org", "*"),
        ("\"a\\\" b\"@example.org", "*@example.org", "*"),
        ("she said \"hello\" to \"o o\"@example.org", "she said \"hello\" to *@example.org", "she said \"hello\" to *"),
        ("用户@例え.example!", "*@例え.example!", "*!"),
        ("user@[192.0.2.1] or u@[IPv6:2001:db8::1]", "*@[192.0.2.1] or *@[IPv6:2001:db8::1]", "* or *"),
        ("<@hop.example:user@example.org>", "<@hop.example:*@example.org>", "<@hop.example:*>"),
        ("a@b@example.org", "*@example.org", "*"),
        ("user%other.example@example.org", "*@example.org", "*"),
        ("<orig-1@acme.example>", "<*@acme.example>", "<*>"),
        ("user@", "*@", "*"),
        ("user@ example.org", "*@ example.org", "* example.org"),
        ("@ alone, and @example.org", "@ alone, and @example.org", "@ alone, and @example.org"),
        (
            "127.0.0.1:25 smtp://[::1]:25 no mail",
            "127.0.0.1:25 smtp://[::1]:25 no mail",
            "127.0.0.1:25 smtp://[::1]:25 no mail",
        ),
    ] {
        assert_eq!(scanned(text, LogAddresses::Domain), domains);
        assert_eq!(scanned(text, LogAddresses::None), nothing);
    }
}

#[test]
fn a_hash_tells_mailboxes_apart_and_depends_on_the_key() {
    let hashed = |text| scanned(text, LogAddresses::Hash);
    let user = hashed("user@example.org");
    let (hash, domain) = user.split_once('@').unwrap();
    assert_eq!((hash.len(), domain), (16, "example.org"));
    assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(hashed("\"User\"@example.org"), user);
    assert_ne!(hashed("other@example.org"), user);
    let other_key = Redactor::new(&HashKey::from_bytes([8; 32]));
    assert_ne!(other_key.scan("user@example.org", LogAddresses::Hash), user);
}

#[test]
fn a_hash_is_the_start_of_hmac_sha_256() {
    // RFC 4231, section 4.3, test case 2: key "Jefe", whose padding with zeros changes nothing (RFC 2104, section 2).
    let mut key = [0; 32];
    key[..4].copy_from_slice(b"Jefe");
    let redactor = Redactor::new(&HashKey::from_bytes(key));
    let hashed = redactor.local_part("what do ya want for nothing?", LogAddresses::Hash);
    assert_eq!(hashed, "5bdcc146bf60754e");
}

#[test]
fn a_line_is_redacted_in_all_its_texts_and_nowhere_else() {
    let mut line = Line {
        level: Level::INFO,
        event: "message.accepted".into(),
        message: "from u@example.org".into(),
        fields: vec![
            ("sender", Value::Text("u@example.org".into())),
            ("recipients", Value::List(vec!["v@example.org".into(), "postmaster".into()])),
            ("original_message_id", Value::Text("<1@example.org>".into())),
            ("address", Value::Text("127.0.0.1:25".into())),
            ("listener", Value::Text("incoming".into())),
            ("size", Value::Number("5".into())),
        ],
    };
    let before = line.clone();
    redactor().redact(&mut line, LogAddresses::Full);
    assert_eq!(line, before);
    redactor().redact(&mut line, LogAddresses::Domain);
    assert_eq!(line.message, "from *@example.org");
    let texts: Vec<_> = line.fields.iter().map(|(_, value)| value.to_string()).collect();
    assert_eq!(texts, ["*@example.org", "*@example.org,*", "<*@example.org>", "127.0.0.1:25", "incoming", "5"]);
}

#[test]
fn a_null_sender_stays_visible() {
    for sender in ["", "<>"] {
        let mut text = sender.to_owned();
        redactor().redact_text(&mut text, true, LogAddresses::None);
        assert_eq!(text, sender);
    }
}

#[test]
fn the_key_is_never_shown() {
    assert_eq!(format!("{:?}", HashKey::from_bytes([7; 32])), "HashKey");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_without_an_at_sign_is_never_touched(text in "[^@]*") {
        prop_assert_eq!(scanned(&text, LogAddresses::None), text);
    }

    #[test]
    fn no_local_part_survives(local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}z9z", around in "[ <>,;:()]{0,3}") {
        let text = format!("550 {around}{local}@example.org{around}");
        for mode in [LogAddresses::Domain, LogAddresses::Hash, LogAddresses::None] {
            prop_assert!(!scanned(&text, mode).contains("z9z"));
        }
    }
}
