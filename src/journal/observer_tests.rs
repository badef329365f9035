//! What an observer sees, and that it sees the same however the octets come.

use super::*;
use proptest::prelude::*;

fn observed(octets: &[u8]) -> Observation {
    let mut observer = Observer::new();
    observer.observe(octets);
    observer.finish()
}

fn identity_of(message: &str) -> [u8; 32] {
    observed(message.as_bytes()).identity
}

const BASE: &str = "From: a@x.example\r\nSubject: s\r\n folded\r\n\r\nbody\r\n";

#[test]
fn size_and_hash_are_those_of_all_octets() {
    let observation = observed(BASE.as_bytes());
    assert_eq!(observation.size, BASE.len() as u64);
    assert_eq!(observation.sha256, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(BASE)));
}

#[test]
fn the_header_ends_at_the_first_empty_line() {
    let cases = [
        (BASE, "From: a@x.example\r\nSubject: s\r\n folded\r\n"),
        ("\r\nA: not a header\r\n", ""),
        ("A: b\r\nC: d\r\n", "A: b\r\nC: d\r\n"),
        ("A: b\r\n \r\nC: d\r\n\r\n", "A: b\r\n \r\nC: d\r\n"),
        ("A: b\n\nC: d\r\n\r\n", "A: b\n\nC: d\r\n"),
        ("A: b\r\n\r", "A: b\r\n\r"),
        ("", ""),
        ("no header at all", "no header at all"),
    ];
    for (message, header) in cases {
        let observation = observed(message.as_bytes());
        assert_eq!(String::from_utf8_lossy(&observation.header), header, "{message:?}");
        assert!(!observation.header_cut);
    }
}

#[test]
fn trace_fields_do_not_make_another_message() {
    let identity = identity_of(BASE);
    for trace in [
        "Received: from a by b;\r\n\tdate\r\n",
        "RECEIVED : from a\r\n",
        "Return-Path: <a@x.example>\r\n",
        "delivered-to: b@x.example\r\n",
        "X-Original-To: b@x.example\r\n",
        "DKIM-Signature: v=1;\r\n  b=abc\r\n  def\r\n",
        "ARC-Seal: i=1\r\n",
        "ARC-Authentication-Results: i=1\r\n",
        "arc-anything: i=1\r\n",
        "Authentication-Results: x\r\n",
        "Received-SPF: pass\r\n",
    ] {
        assert_eq!(identity_of(&format!("{trace}{BASE}")), identity, "{trace:?} before");
        let within = BASE.replace("Subject:", &format!("{trace}Subject:"));
        assert_eq!(identity_of(&within), identity, "{trace:?} within");
    }
}

#[test]
fn everything_else_makes_another_message() {
    let others = [
        format!("Resent-To: b@x.example\r\n{BASE}"),
        format!("Received-By: b\r\n{BASE}"),
        format!("From someone on a day\r\n{BASE}"),
        BASE.replace("folded", "Folded"),
        BASE.replace("From:", "from:"),
        BASE.replace("body", "Body"),
        BASE.replace(
            "From: a@x.example\r\nSubject: s\r\n folded\r\n",
            "Subject: s\r\n folded\r\nFrom: a@x.example\r\n",
        ),
        // Octets that change sides.
        BASE.replace("\r\n\r\nbody", "\r\nbody"),
        BASE.replace("Subject", "\r\nSubject"),
        format!("\r\n{BASE}"),
        // A trace field in the body is body.
        BASE.replace("body", "Received: x\r\nbody"),
    ];
    let mut seen = vec![identity_of(BASE)];
    for other in others {
        let identity = identity_of(&other);
        assert!(!seen.contains(&identity), "{other:?}");
        seen.push(identity);
    }
    assert_ne!(identity_of("A: b\r\n"), identity_of("A: b\r\n\r\n"));
    assert_ne!(identity_of(""), identity_of("\r\n"));
    assert_ne!(identity_of("A: b\r\n\r\n"), identity_of("\r\nA: b\r\n"));
}

#[test]
fn a_field_after_a_trace_field_s_folds_counts_again() {
    assert_ne!(identity_of("Received: x\r\n y\r\nA: b\r\n\r\n"), identity_of("Received: x\r\n y\r\nA: c\r\n\r\n"));
    assert_ne!(identity_of("Received: x\r\njunk\r\n\r\n"), identity_of("Received: x\r\n\r\n"));
}

#[test]
fn received_fields_are_counted_in_the_header_alone() {
    let message =
        "Received: 1\r\n x\r\nreceived: 2\r\nReceived-SPF: no\r\nX: Received: no\r\nRECEIVED:3\r\n\r\nReceived: no\r\n";
    assert_eq!(observed(message.as_bytes()).hops, 3);
    assert_eq!(observed(b"Received:").hops, 1);
    assert_eq!(observed(b"Received").hops, 0);
}

#[test]
fn what_the_octets_ask_of_a_transport_is_found() {
    use OctetsKind::*;
    let line = |length: usize| [vec![b'x'; length], b"\r\n".to_vec()].concat();
    let cases = [
        (b"".to_vec(), SevenBit),
        (BASE.into(), SevenBit),
        (b"no line end".to_vec(), SevenBit),
        ("ä\r\n".into(), EightBit),
        (line(998), SevenBit),
        (line(999), Binary),
        (vec![b'x'; 998], SevenBit),
        (vec![b'x'; 999], Binary),
        ([line(3), line(999), line(3)].concat(), Binary),
        (b"a\0b\r\n".to_vec(), Binary),
        (b"a\rb\r\n".to_vec(), Binary),
        (b"a\nb\r\n".to_vec(), Binary),
        (b"a\r\r\n".to_vec(), Binary),
        (b"\n".to_vec(), Binary),
        (b"a\r\n\r".to_vec(), Binary),
        ("ä\n".into(), Binary),
    ];
    for (octets, kind) in cases {
        let shown = String::from_utf8_lossy(&octets[..octets.len().min(20)]).into_owned();
        assert_eq!(observed(&octets).kind, kind, "{shown:?} of {}", octets.len());
        let mut observer = Observer::new();
        octets.iter().for_each(|octet| observer.observe(&[*octet]));
        assert_eq!(observer.finish().kind, kind, "{shown:?} octet by octet");
    }
}

#[test]
fn the_final_line_end_is_seen() {
    for (octets, ends) in [(&b"a\r\n"[..], true), (b"a\n", false), (b"a\r", false), (b"\r\n", true), (b"", false)] {
        assert_eq!(observed(octets).ends_with_crlf, ends, "{octets:?}");
    }
}

#[test]
fn a_header_too_large_to_keep_is_cut_and_hashed_whole() {
    let field = format!("X-Pad: {}\r\n", "x".repeat(900));
    let large = field.repeat(MAX_HEADER / field.len() + 2);
    let message = |last: &str| format!("{large}{last}\r\nbody\r\n");
    let observation = observed(message("Last: 1\r\n").as_bytes());
    assert!(observation.header_cut && observation.header.len() == MAX_HEADER);
    assert_ne!(observation.identity, identity_of(&message("Last: 2\r\n")));
    assert_eq!(observation.identity, identity_of(&message("Last: 1\r\nReceived: y\r\n")));
}

#[test]
fn a_header_that_just_fits_is_not_cut() {
    let header = format!("X: {}\r\n", "x".repeat(MAX_HEADER - 5));
    let observation = observed(format!("{header}\r\nbody\r\n").as_bytes());
    assert!(!observation.header_cut && observation.header == header.as_bytes());
    let observation = observed(format!("X{header}\r\nbody\r\n").as_bytes());
    assert!(observation.header_cut && observation.header.len() == MAX_HEADER);
}

/// Messages made of the pieces that matter, so that chance finds the odd places.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"\r\n"[..], b"\r", b"\n", b"\0", b" ", b"\t", b":", b"Received", b"received: x\r\n", b"ARC-Seal: y\r\n", b"From: a\r\n",
        b" folded\r\n", b"\r\n\r\n", b"\xe4", b"DKIM-Signature", b"a-name-that-is-longer-than-what-is-looked-at-of-a-line: v",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Whole fields that say nothing of a message's way, and a body.
fn fields_and_body() -> impl Strategy<Value = (Vec<String>, String)> {
    let name = prop::sample::select(vec!["From", "To", "Subject", "Date", "Message-ID", "X-Mark", "Comments"]);
    let field = (name, "[a-z0-9 ]{0,20}", prop::option::of("[a-z0-9]{1,20}"));
    let field = field.prop_map(|(name, value, fold)| {
        let fold = fold.map_or_else(String::new, |fold| format!("\r\n\t{fold}"));
        format!("{name}: {value}{fold}\r\n")
    });
    (prop::collection::vec(field, 1..8), "([A-Za-z0-9: ]{0,30}\r\n){0,5}")
}

fn trace_field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Received",
        "RETURN-PATH",
        "Delivered-To",
        "X-Original-To",
        "DKIM-Signature",
        "ARC-Seal",
        "arc-message-signature",
        "Authentication-Results",
        "Received-SPF",
    ]);
    (name, "[a-z0-9=; ]{0,30}", prop::bool::ANY).prop_map(|(name, value, folds)| {
        let fold = if folds { "\r\n more" } else { "" };
        format!("{name}: {value}{fold}\r\n")
    })
}

proptest! {
    #[test]
    fn trace_fields_anywhere_in_the_header_leave_a_message_what_it_is(
        (fields, body) in fields_and_body(),
        traces in prop::collection::vec((any::<prop::sample::Index>(), trace_field()), 1..6),
    ) {
        let mut traced = fields.clone();
        for (place, trace) in traces {
            traced.insert(place.index(traced.len() + 1), trace);
        }
        let message = |fields: &[String]| format!("{}\r\n{body}", fields.concat());
        prop_assert_eq!(identity_of(&message(&traced)), identity_of(&message(&fields)));
    }

    #[test]
    fn any_other_octet_anywhere_else_makes_another_message(
        (fields, body) in fields_and_body(),
        place in any::<prop::sample::Index>(),
        other in any::<u8>(),
    ) {
        let message = format!("{}\r\n{body}", fields.concat()).into_bytes();
        let mut changed = message.clone();
        let place = place.index(message.len());
        prop_assume!(changed[place] != other);
        changed[place] = other;
        prop_assert_ne!(observed(&changed).identity, observed(&message).identity);
        let mut longer = message.clone();
        longer.insert(place, other);
        prop_assert_ne!(observed(&longer).identity, observed(&message).identity);
        let mut shorter = message.clone();
        shorter.remove(place);
        prop_assert_ne!(observed(&shorter).identity, observed(&message).identity);
    }

    #[test]
    fn the_same_octets_in_any_pieces_give_the_same_observation(
        message in message(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
        places.extend([0, message.len()]);
        places.sort_unstable();
        let mut observer = Observer::new();
        places.windows(2).for_each(|place| observer.observe(&message[place[0]..place[1]]));
        prop_assert_eq!(observer.finish(), observed(&message));

        let mut observer = Observer::new();
        message.iter().for_each(|octet| observer.observe(&[*octet]));
        prop_assert_eq!(observer.finish(), observed(&message));
    }

    #[test]
    fn the_header_is_what_stands_before_the_first_empty_line(message in message()) {
        let observation = observed(&message);
        let start = if message.starts_with(b"\r\n") {
            0
        } else {
            memchr::memmem::find(&message, b"\r\n\r\n").map_or(message.len(), |place| place + 2)
        };
        prop_assert_eq!(&observation.header, &message[..start]);
    }
}
