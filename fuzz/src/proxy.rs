//! What a peer sends that should begin with a PROXY header. The first octet says how many of the following cut the rest.
//!
//! * Cut anywhere it means the same, and no octet behind the header is taken or asked for: TLS or SMTP begins there.
//! * It means what a reader makes of it that has the whole input at hand and takes it apart with the standard library.
//! * A client that it names can be named again, in both versions, and is read as the same.
//! * What is kept has a bound, whatever length a header claims.

use crate::pieces;
use journal_relay::smtp::proxy::{HeaderError, HeaderReader, MAX_LINE, Origin, write_v1, write_v2};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Stops where it doesn't hold.
pub fn check(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (seed, octets) = rest.split_at(rest.len().min(usize::from(count % 8)));
    let whole = read(&[octets]);
    check_same(&whole, &read(&pieces(seed, octets)));
    check_same(&whole, &read(&octets.chunks(1).collect::<Vec<_>>()));
    let expected = if octets.starts_with(SIGNATURE) { read_v2(octets) } else { read_v1(octets) };
    match (&whole.meaning, expected) {
        (Some(Ok(origin)), Naive::Header(length, expected)) => {
            assert_eq!((whole.used, *origin), (length, expected));
            check_again(expected);
        }
        (Some(Err(_)), Naive::Never) | (None, Naive::Unfinished) => {}
        (found, expected) => panic!("{found:?} where there is {expected:?}"),
    }
    if let Some(Err(HeaderError::Missing)) = whole.meaning {
        let common = |start: &[u8]| octets.iter().zip(start).take_while(|(one, other)| one == other).count();
        assert!(common(SIGNATURE) < SIGNATURE.len().min(octets.len()), "it has the signature");
        assert!(common(b"PROXY ") < 6.min(octets.len()), "it begins as a header does");
    }
}

/// What came of an input.
#[derive(Debug)]
struct Read {
    /// Octets that were taken.
    used: usize,
    /// None while it is not whole.
    meaning: Option<Result<Origin, HeaderError>>,
}

/// Which of several mistakes is seen first depends on what has come; all else does not.
fn check_same(one: &Read, other: &Read) {
    match (&one.meaning, &other.meaning) {
        (Some(Err(_)), Some(Err(_))) => {}
        _ => assert_eq!((one.used, &one.meaning), (other.used, &other.meaning)),
    }
}

fn read(pieces: &[&[u8]]) -> Read {
    let (mut reader, mut used) = (HeaderReader::default(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let wanted = reader.wanted();
            assert!(wanted > 0, "a header that is not whole wants nothing");
            let (taken, origin) = match reader.feed(rest) {
                Ok(taken) => taken,
                Err(error) => return Read { used, meaning: Some(Err(error)) },
            };
            assert_eq!(taken, wanted.min(rest.len()), "what is wanted and there is taken");
            (rest, used) = (&rest[taken..], used + taken);
            if let Some(origin) = origin {
                assert_eq!(reader.wanted(), 0);
                return Read { used, meaning: Some(Ok(origin)) };
            }
            assert!(used + reader.wanted() <= 16 + usize::from(u16::MAX), "no header is so long");
        }
    }
    Read { used, meaning: None }
}

fn check_again(origin: Origin) {
    let client = match origin {
        Origin::Own => None,
        Origin::Client { source, destination } => {
            assert!(!is_mapped(source) && !is_mapped(destination));
            Some((source, destination))
        }
    };
    for mut header in [write_v1(client), write_v2(client)] {
        assert!(header.len() <= MAX_LINE);
        let length = header.len();
        header.extend_from_slice(b"\r\nEHLO a.example\r\n");
        let again = read(&[&header]);
        assert_eq!((again.used, again.meaning), (length, Some(Ok(origin))));
    }
}

/// An IPv4 address that is written as an IPv6 one.
fn is_mapped(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// What the specification makes of an input.
#[derive(Debug)]
enum Naive {
    /// A header of so many octets.
    Header(usize, Origin),
    /// It may still become one.
    Unfinished,
    /// No octet behind it makes it one.
    Never,
}

/// Section 2.1 of `proxy-protocol.txt`.
fn read_v1(octets: &[u8]) -> Naive {
    let end = octets.windows(2).take(MAX_LINE - 1).position(|pair| pair == b"\r\n");
    let line = &octets[..end.unwrap_or(octets.len().min(MAX_LINE))];
    let start = |start: &[u8]| line.iter().zip(start).all(|(one, other)| one == other);
    if end.is_none() {
        let open = line.strip_suffix(b"\r").unwrap_or(line);
        let sound = start(b"PROXY ") && !open.iter().any(|octet| b"\r\n".contains(octet)) && line.len() < MAX_LINE;
        return if sound || SIGNATURE.starts_with(octets) { Naive::Unfinished } else { Naive::Never };
    }
    if !line.starts_with(b"PROXY ") || line.iter().any(|octet| b"\r\n".contains(octet)) {
        return if SIGNATURE.starts_with(octets) { Naive::Unfinished } else { Naive::Never };
    }
    let Ok(text) = std::str::from_utf8(line) else { return Naive::Never };
    let words: Vec<&str> = text.split(' ').collect();
    let origin = match words[1..] {
        ["UNKNOWN", ..] => Some(Origin::Own),
        ["TCP4", source, destination, from, to] => {
            named(source.parse::<Ipv4Addr>().ok(), destination.parse::<Ipv4Addr>().ok(), from, to)
        }
        ["TCP6", source, destination, from, to] => {
            named(source.parse::<Ipv6Addr>().ok(), destination.parse::<Ipv6Addr>().ok(), from, to)
        }
        _ => None,
    };
    origin.map_or(Naive::Never, |origin| Naive::Header(line.len() + 2, origin))
}

fn named<A: Into<IpAddr>>(source: Option<A>, destination: Option<A>, from: &str, to: &str) -> Option<Origin> {
    let port = |word: &str| word.parse::<u16>().ok().filter(|port| port.to_string() == word);
    Some(client((source?.into(), port(from)?), (destination?.into(), port(to)?)))
}

fn client(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Origin {
    let plain = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    Origin::Client { source: plain(source), destination: plain(destination) }
}

/// Section 2.2.
fn read_v2(octets: &[u8]) -> Naive {
    let rest = &octets[SIGNATURE.len()..];
    if rest.first().is_some_and(|octet| !matches!(octet, 0x20 | 0x21))
        || rest.get(1).is_some_and(|octet| octet >> 4 > 3 || octet & 15 > 2)
    {
        return Naive::Never;
    }
    let &[command, family, high, low, ref rest @ ..] = rest else { return Naive::Unfinished };
    let length = usize::from(high) << 8 | usize::from(low);
    let shortest = match (command, family) {
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        _ => 0,
    };
    if length < shortest {
        return Naive::Never;
    }
    let Some(rest) = rest.get(..length) else { return Naive::Unfinished };
    let port = |at: usize| u16::from(rest[at]) << 8 | u16::from(rest[at + 1]);
    let origin = match shortest {
        12 => {
            let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&rest[at..at + 4]).expect("four octets"));
            client((ip(0), port(8)), (ip(4), port(10)))
        }
        36 => {
            let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).expect("sixteen octets"));
            client((ip(0), port(32)), (ip(16), port(34)))
        }
        _ => Origin::Own,
    };
    Naive::Header(SIGNATURE.len() + 4 + length, origin)
}
