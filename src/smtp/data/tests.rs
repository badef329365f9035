//! The codec against a slow reference that is right at a glance, and its properties.

use super::*;
use proptest::prelude::*;

/// Everything a decoder gives for input in these pieces: the octets, whether the end came, octets left over.
fn decode(pieces: &[&[u8]]) -> (Vec<u8>, bool, Vec<u8>, Flaws) {
    let mut decoder = Decoder::new();
    let (mut octets, mut ended, mut left) = (Vec::new(), false, Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let (used, chunk) = decoder.decode(rest);
            rest = &rest[used..];
            match chunk {
                Chunk::Content(content) => {
                    assert!(!content.is_empty());
                    octets.extend_from_slice(content);
                }
                Chunk::NeedInput => break assert!(rest.is_empty()),
                Chunk::End => {
                    ended = true;
                    break left.extend_from_slice(rest);
                }
            }
        }
    }
    (octets, ended, left, decoder.flaws())
}

/// The rule as it is written: cut at the first CRLF.CRLF (with the CRLF before the data thought in), split the rest at
/// CRLF, take one dot from each line that starts with one, and put it together again.
fn reference(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut wire = b"\r\n".to_vec();
    wire.extend_from_slice(input);
    let end = (0..wire.len()).find(|at| wire[*at..].starts_with(b"\r\n.\r\n"))?;
    let text = &wire[..end + 2];
    let mut message = Vec::new();
    for at in 0..text.len() {
        let stuffed = text[at] == b'.' && text[..at].ends_with(b"\r\n");
        if at >= 2 && !stuffed {
            message.push(text[at]);
        }
    }
    Some((message, wire[end + 5..].to_vec()))
}

fn reference_flaws(message: &[u8]) -> Flaws {
    let pair = |at: usize| (message.get(at).copied(), message.get(at + 1).copied());
    let before = |at: usize| at.checked_sub(1).and_then(|at| message.get(at).copied());
    Flaws {
        bare_cr: (0..message.len()).any(|at| matches!(pair(at), (Some(b'\r'), next) if next != Some(b'\n'))),
        bare_lf: (0..message.len()).any(|at| message[at] == b'\n' && before(at) != Some(b'\r')),
        nul: message.contains(&0),
        // A message that DATA brings ends with CRLF or is empty.
        unended: false,
    }
}

/// All strings of up to six of the octets that matter.
fn short_strings() -> impl Iterator<Item = Vec<u8>> {
    const OCTETS: [u8; 5] = *b"\r\n.\0a";
    (0..=6_u32).flat_map(|length| {
        (0..5_usize.pow(length)).map(move |mut number| {
            (0..length)
                .map(|_| {
                    let octet = OCTETS[number % 5];
                    number /= 5;
                    octet
                })
                .collect()
        })
    })
}

#[test]
fn every_short_message_decodes_as_the_rule_says() {
    for string in short_strings() {
        for end in [&b""[..], b"\r\n.\r\nQUIT\r\n", b".\r\n", b"\n.\r\n", b".\n"] {
            let wire = [&string, end].concat();
            let (octets, ended, left, flaws) = decode(&[&wire]);
            match reference(&wire) {
                Some((message, behind)) => {
                    assert_eq!((&octets, ended, left), (&message, true, behind), "{:?}", wire.escape_ascii());
                    assert_eq!(flaws, reference_flaws(&message), "{:?}", wire.escape_ascii());
                }
                None => assert!(!ended && left.is_empty(), "{:?}", wire.escape_ascii()),
            }
        }
    }
}

#[test]
fn every_short_message_decodes_the_same_when_each_octet_comes_alone() {
    for string in short_strings() {
        let wire = [&string, &b"\r\n.\r\n"[..]].concat();
        let singly: Vec<&[u8]> = wire.chunks(1).collect();
        let (octets, ended, _, flaws) = decode(&singly);
        let whole = decode(&[&wire]);
        assert_eq!((octets, ended, flaws), (whole.0, whole.1, whole.3), "{:?}", wire.escape_ascii());
    }
}

#[test]
fn every_short_message_survives_encoding_and_decoding() {
    for message in short_strings() {
        for cut in 0..=message.len() {
            let mut wire = Vec::new();
            let mut encoder = Encoder::new();
            encoder.encode(&message[..cut], &mut wire);
            encoder.encode(&message[cut..], &mut wire);
            encoder.finish(&mut wire);
            let mut expected = message.clone();
            if !message.is_empty() && !message.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            let (octets, ended, left, _) = decode(&[&wire]);
            assert_eq!((octets, ended, left), (expected, true, Vec::new()), "{:?}", message.escape_ascii());
        }
    }
}

#[test]
fn the_empty_message_is_a_dot_at_once() {
    assert_eq!(decode(&[b".\r\n"]), (Vec::new(), true, Vec::new(), Flaws::default()));
    let mut wire = Vec::new();
    Encoder::new().finish(&mut wire);
    assert_eq!(wire, b".\r\n");
}

#[test]
fn final_crlf_belongs_to_the_message() {
    assert_eq!(decode(&[b"a\r\n.\r\n"]).0, b"a\r\n");
    let mut wire = Vec::new();
    let mut encoder = Encoder::new();
    encoder.encode(b"a\r\n", &mut wire);
    encoder.finish(&mut wire);
    assert_eq!(wire, b"a\r\n.\r\n");
}

#[test]
fn a_first_line_that_starts_with_a_dot_is_a_line_like_any_other() {
    assert_eq!(decode(&[b"..a\r\n.\r\n"]).0, b".a\r\n");
    let mut wire = Vec::new();
    Encoder::new().encode(b".a\r\n", &mut wire);
    assert_eq!(wire, b"..a\r\n");
}

#[test]
fn no_bare_line_end_makes_an_end_of_data() {
    for smuggled in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n\0.\r\n", "\n.\r\r\n"] {
        let wire = format!("a{smuggled}MAIL FROM:<b@example.org>\r\n.\r\n");
        let (octets, ended, left, flaws) = decode(&[wire.as_bytes()]);
        assert!(ended && left.is_empty(), "{smuggled:?}");
        assert!(octets.ends_with(b"MAIL FROM:<b@example.org>\r\n"), "{smuggled:?}");
        assert_ne!(flaws, Flaws::default(), "{smuggled:?}");
    }
}

#[test]
fn a_cr_at_the_very_end_of_a_chunk_is_a_bare_one_only_when_nothing_follows() {
    let mut scanner = FlawScanner::default();
    scanner.scan(b"a\r");
    assert!(scanner.finish().bare_cr);
    scanner.scan(b"\n");
    assert_eq!(scanner.finish(), Flaws::default());
}

#[test]
fn an_encoder_is_as_new_when_it_has_finished() {
    let (mut encoder, mut wire) = (Encoder::new(), Vec::new());
    encoder.encode(b"a", &mut wire);
    encoder.finish(&mut wire);
    encoder.encode(b".b\r\n", &mut wire);
    encoder.finish(&mut wire);
    assert_eq!(wire, b"a\r\n.\r\n..b\r\n.\r\n");
}

/// Text in which what matters is frequent, beside lines long enough to leave the short ways.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b".".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n.".to_vec()),
        prop::collection::vec(any::<u8>(), 0..80),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_message_cut_anywhere_decodes_to_the_same_octets(
        wire in messages(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let wire = [wire, b"\r\n.\r\nQUIT\r\n".to_vec()].concat();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        places.extend([0, wire.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
        let whole = decode(&[&wire]);
        let cut = decode(&pieces);
        prop_assert_eq!((&whole.0, whole.1, whole.3), (&cut.0, cut.1, cut.3));
        let (message, _) = reference(&wire).unwrap();
        prop_assert_eq!(whole.0, message);
    }

    #[test]
    fn a_message_that_ends_its_last_line_comes_back_as_it_was(
        message in messages(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let message = [message, b"\r\n".to_vec()].concat();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len())).collect();
        places.extend([0, message.len()]);
        places.sort_unstable();
        let (mut encoder, mut wire) = (Encoder::new(), Vec::new());
        for pair in places.windows(2) {
            encoder.encode(&message[pair[0]..pair[1]], &mut wire);
        }
        encoder.finish(&mut wire);
        let (octets, ended, left, flaws) = decode(&[&wire]);
        prop_assert_eq!(flaws, reference_flaws(&message));
        prop_assert_eq!((octets, ended, left), (message, true, Vec::new()));
    }
}
