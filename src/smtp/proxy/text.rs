//! Version 1 of the PROXY header: one line of text (section 2.1 of `proxy-protocol.txt`).

use super::{HeaderError, MAX_LINE, Origin, client};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the line begins with.
const START: &[u8] = b"PROXY ";
/// The shortest header of this version, `PROXY UNKNOWN`, and no longer than one of version 2.
pub(super) const SHORTEST: usize = 15;
/// `PROXY TCP4 1.1.1.1 1.1.1.1 1 1`
const SHORTEST_TCP4: usize = 32;
/// `PROXY TCP6 :: :: 1 1`
const SHORTEST_TCP6: usize = 22;

/// How many octets the line has at least beyond these.
pub(super) fn wanted(kept: &[u8]) -> usize {
    if kept.ends_with(b"\r\n") {
        return 0;
    }
    let shortest = match kept.get(START.len()..START.len() + 4) {
        Some(b"TCP4") => SHORTEST_TCP4,
        Some(b"TCP6") => SHORTEST_TCP6,
        _ => SHORTEST,
    };
    let line_end = if kept.ends_with(b"\r") { 1 } else { 2 };
    shortest.saturating_sub(kept.len()).max(line_end).min(MAX_LINE.saturating_sub(kept.len()))
}

/// What the line means; none before its end.
pub(super) fn read(kept: &[u8]) -> Result<Option<Origin>, HeaderError> {
    if !kept.iter().zip(START).all(|(one, other)| one == other) {
        return Err(HeaderError::Missing);
    }
    let whole = kept.strip_suffix(b"\r\n");
    // A CR at the end may be half of the line's end.
    let within = whole.unwrap_or_else(|| kept.strip_suffix(b"\r").unwrap_or(kept));
    if within.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return Err(HeaderError::Malformed("a CR or LF alone"));
    }
    let Some(line) = whole else {
        return if kept.len() < MAX_LINE { Ok(None) } else { Err(HeaderError::TooLong) };
    };
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::Malformed("not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let protocol = words.next().unwrap_or_default();
    let (source, destination, source_port, destination_port) = match protocol {
        // "The receiver must ignore anything presented before the CRLF is found."
        "UNKNOWN" => return Ok(Some(Origin::Own)),
        "TCP4" | "TCP6" => (words.next(), words.next(), words.next(), words.next()),
        _ => return Err(HeaderError::Malformed("unknown protocol")),
    };
    let address = |word: Option<&str>| match protocol {
        "TCP4" => word?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        _ => word?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    };
    let (Some(source), Some(destination)) = (address(source), address(destination)) else {
        return Err(HeaderError::Malformed("an address"));
    };
    let (Some(source_port), Some(destination_port)) = (port(source_port), port(destination_port)) else {
        return Err(HeaderError::Malformed("a port"));
    };
    if words.next().is_some() {
        return Err(HeaderError::Malformed("too many words"));
    }
    Ok(Some(client((source, source_port), (destination, destination_port))))
}

/// Digits alone, and no zero in front.
fn port(word: Option<&str>) -> Option<u16> {
    let word = word.filter(|word| word.bytes().all(|octet| octet.is_ascii_digit()))?;
    word.parse().ok().filter(|_| word == "0" || !word.starts_with('0'))
}
