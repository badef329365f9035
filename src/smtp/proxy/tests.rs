//! Headers of both versions, as they come and as they must not, and the reader's properties.

use super::*;
use proptest::prelude::*;

/// What a whole input means, fed in pieces of these sizes; and how many octets of it were the header.
fn read(input: &[u8], cuts: &[usize]) -> (usize, Option<Result<Origin, HeaderError>>) {
    let (mut reader, mut at, mut cuts) = (HeaderReader::default(), 0, cuts.iter().copied().cycle());
    while at < input.len() {
        let piece = &input[at..input.len().min(at + cuts.next().unwrap_or(usize::MAX).max(1))];
        let mut taken = 0;
        while taken < piece.len() {
            match reader.feed(&piece[taken..]) {
                Ok((used, None)) => {
                    assert!(used > 0, "a header that is not whole takes more");
                    taken += used;
                }
                Ok((used, Some(origin))) => {
                    assert_eq!(reader.wanted(), 0);
                    return (at + taken + used, Some(Ok(origin)));
                }
                Err(error) => return (at + taken, Some(Err(error))),
            }
            assert!(reader.kept.len() <= MAX_LINE);
        }
        at += taken;
    }
    (at, None)
}

fn whole(input: &[u8]) -> Result<Origin, HeaderError> {
    read(input, &[]).1.expect("it is whole")
}

fn from(source: &str, destination: &str) -> Origin {
    Origin::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

#[test]
fn the_text_names_client_and_destination() {
    assert_eq!(
        whole(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"),
        Ok(from("192.0.2.7:56324", "198.51.100.1:25"))
    );
    assert_eq!(whole(b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"), Ok(from("1.1.1.1:1", "1.1.1.1:1")));
    assert_eq!(whole(b"PROXY TCP6 :: :: 1 0\r\n"), Ok(from("[::]:1", "[::]:0")));
    assert_eq!(
        whole(b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 25\r\n"),
        Ok(from("[2001:db8::7]:65535", "[2001:db8::1]:25"))
    );
    assert_eq!(
        whole(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5 25\r\n"),
        Ok(from("192.0.2.7:5", "[::1]:25")),
        "an IPv4 address is the same however it is written"
    );
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"] {
        assert_eq!(whole(line.as_bytes()), Ok(Origin::Own), "{line}");
    }
}

#[test]
fn the_binary_form_names_them_too_and_what_follows_the_addresses_is_skipped() {
    let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 0, 25];
    let expected = Ok(from("192.0.2.7:56324", "198.51.100.1:25"));
    assert_eq!(whole(&v2(0x21, 0x11, &four)), expected);
    for more in [3, 500, 65_000] {
        let header = v2(0x21, 0x11, &[&four[..], &vec![0xea; more]].concat());
        assert_eq!(read(&[&header[..], b"EHLO"].concat(), &[]), (header.len(), Some(expected)), "{more}");
    }
    let mut six = [0; 36];
    (six[15], six[31], six[33], six[35]) = (1, 2, 9, 25);
    assert_eq!(whole(&v2(0x21, 0x21, &six)), Ok(from("[::1]:9", "[::2]:25")));
}

#[test]
fn a_connection_of_the_load_balancer_itself_is_its_own() {
    for header in [
        v2(0x20, 0, b""),
        v2(0x20, 0x11, b"twelve octets"),
        v2(0x20, 0x11, b""),
        v2(0x21, 0, b""),
        v2(0x21, 0x12, &[1; 12]),
        v2(0x21, 0x22, &[1; 36]),
        v2(0x21, 0x31, &[1; 216]),
    ] {
        assert_eq!(read(&header, &[]), (header.len(), Some(Ok(Origin::Own))), "{header:?}");
    }
}

#[test]
fn what_is_no_header_is_told_from_one_that_is_broken() {
    for text in ["EHLO client.example\r\n", "PROXX", "\r\n\r\n\r\n", "\u{16}\u{3}\u{1}", "proxy TCP4 "] {
        assert_eq!(whole(text.as_bytes()), Err(HeaderError::Missing), "{text:?}");
    }
    for (line, why) in [
        ("PROXY TCP4\r\n", "an address"),
        ("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "unknown protocol"),
        ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "unknown protocol"),
        ("PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "an address"),
        ("PROXY TCP4 ::1 ::1 1000 1000 1000 1\r\n", "an address"),
        ("PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "an address"),
        ("PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", "an address"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 +1 01\r\n", "a port"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "a port"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "a port"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "too many words"),
        ("PROXY TCP4 1.1.1.1\n1.1.1.1 1 1\r\n", "a CR or LF alone"),
        ("PROXY UNKNOWN \rx\r\n", "a CR or LF alone"),
    ] {
        assert_eq!(whole(line.as_bytes()), Err(HeaderError::Malformed(why)), "{line:?}");
    }
    for header in
        [v2(0x31, 0x11, &[1; 12]), v2(0x22, 0x11, &[1; 12]), v2(0x21, 0x41, &[1; 12]), v2(0x21, 0x13, &[1; 12])]
    {
        assert!(matches!(whole(&header), Err(HeaderError::Malformed(_))), "{header:?}");
    }
    assert_eq!(whole(&v2(0x21, 0x21, &[1; 35])), Err(HeaderError::Malformed("too short for its addresses")));
}

#[test]
fn a_line_is_as_long_as_may_be_and_no_longer() {
    let line = |length: usize| format!("{:x<1$}\r\n", "PROXY UNKNOWN ", length - 2);
    assert_eq!(whole(line(MAX_LINE).as_bytes()), Ok(Origin::Own));
    assert_eq!(whole(line(MAX_LINE + 1).as_bytes()), Err(HeaderError::TooLong));
}

#[test]
fn a_line_of_a_client_shows_that_a_load_balancer_speaks() {
    assert!(is_header_line(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25") && is_header_line(b"\0"));
    assert!(!is_header_line(b"") && !is_header_line(b"NOOP") && !is_header_line(b"PROXYX") && !is_header_line(b"\0\0"));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

/// Octets that come near a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        b"PROXY TCP4 ".to_vec(),
        b"PROXY TCP6 ".to_vec(),
        b"PROXY UNKNOWN".to_vec(),
        SIGNATURE.to_vec(),
        v2(0x21, 0x11, b""),
        [&SIGNATURE[..], b"\x21\x21\0\x40"].concat(),
        Vec::new(),
    ]);
    let rest = prop_oneof![
        "[0-9a-f:. ]{0,100}(\r\n)?".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200)
    ];
    (start, rest).prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read_and_nothing_behind_it(
        source in address(), destination in address(), behind in any::<Vec<u8>>(), cuts in prop::collection::vec(1usize..30, 1..5),
    ) {
        let expected = Origin::Client { source, destination };
        for header in [write_v1(Some((source, destination))), write_v2(Some((source, destination)))] {
            prop_assert!(header.len() <= MAX_LINE);
            let input = [&header[..], &behind].concat();
            prop_assert_eq!(read(&input, &cuts), (header.len(), Some(Ok(expected))));
        }
        for header in [write_v1(None), write_v2(None)] {
            let input = [&header[..], &behind].concat();
            prop_assert_eq!(read(&input, &cuts), (header.len(), Some(Ok(Origin::Own))));
        }
    }

    #[test]
    fn pieces_change_nothing(input in nearly(), cuts in prop::collection::vec(1usize..30, 1..5)) {
        let (in_pieces, at_once) = (read(&input, &cuts), read(&input, &[]));
        match (in_pieces.1, at_once.1) {
            // Which of several mistakes is seen first depends on what has come.
            (Some(Err(_)), Some(Err(_))) => {}
            _ => prop_assert_eq!(in_pieces, at_once),
        }
    }

    #[test]
    fn what_is_wanted_is_never_more_than_the_header_has(source in address(), destination in address(), second in any::<bool>()) {
        let header = if second { write_v2(Some((source, destination))) } else { write_v1(Some((source, destination))) };
        let (mut reader, mut at) = (HeaderReader::default(), 0);
        while reader.wanted() > 0 {
            let wanted = reader.wanted();
            prop_assert!(at + wanted <= header.len());
            let (used, _) = reader.feed(&header[at..at + wanted]).unwrap();
            prop_assert_eq!(used, wanted);
            at += used;
        }
        prop_assert_eq!(at, header.len());
    }
}
