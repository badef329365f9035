//! The PROXY header: whose connection a load balancer passes on (haproxy's `proxy-protocol.txt`, versions 1 and 2).
//!
//! [`HeaderReader`] is a value: octets go in, the header's meaning comes out, and it tells how many octets may be read
//! without reading beyond the header, where TLS or SMTP begins. Input cut anywhere means the same; what can't become a header
//! is refused with its first wrong octet. It keeps [`MAX_LINE`] octets at most; what version 2 carries behind the
//! addresses is skipped by its length and not kept. A header never says more than whose connection it is: whether it is
//! believed is decided by whoever knows the peer.

mod text;
mod write;

pub use write::{write_v1, write_v2};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of a version 1 header with its CRLF (section 2.1).
pub const MAX_LINE: usize = 107;
/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of version 2 before the addresses.
const V2_FIXED: usize = 16;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The peer's own (LOCAL, UNKNOWN, UNSPEC; also families that are no TCP over IP, as section 2.2 asks): a health
    /// check of the load balancer, most likely.
    Own,
    /// A client's. IPv4 addresses are never written as IPv6 ones.
    Client {
        /// Where the client is.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

/// Why this is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It begins with something else.
    #[error("there is no PROXY header")]
    Missing,
    /// A line of version 1 without an end.
    #[error("the PROXY header is longer than {MAX_LINE} octets")]
    TooLong,
    /// The rest of it can't be read.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads one header.
#[derive(Debug, Default)]
pub struct HeaderReader {
    kept: Vec<u8>,
    /// Octets of version 2 still to be skipped, and what it meant.
    skip: Option<(usize, Origin)>,
}

impl HeaderReader {
    /// How many octets the header has at least beyond those that came; 0 once it is whole.
    pub fn wanted(&self) -> usize {
        if let Some((left, _)) = self.skip {
            return left;
        }
        if self.kept.starts_with(SIGNATURE) {
            let whole = v2_kept(&self.kept).unwrap_or(V2_FIXED);
            return whole.saturating_sub(self.kept.len());
        }
        if SIGNATURE.starts_with(&self.kept) {
            return text::SHORTEST - self.kept.len();
        }
        text::wanted(&self.kept)
    }

    /// Takes octets as far as they belong to the header; tells how many that were, and what it means once it is whole.
    /// A call takes [`wanted`](Self::wanted) octets at most, so that with more at hand it is to be called again.
    ///
    /// # Errors
    /// What is wrong with it. The reader is of no use then.
    pub fn feed(&mut self, octets: &[u8]) -> Result<(usize, Option<Origin>), HeaderError> {
        let used = self.wanted().min(octets.len());
        if let Some((left, origin)) = &mut self.skip {
            *left -= used;
            return Ok((used, (*left == 0).then_some(*origin)));
        }
        self.kept.extend_from_slice(octets.get(..used).unwrap_or_default());
        let origin = self.judge()?;
        Ok((used, origin))
    }

    /// What the octets so far mean.
    fn judge(&mut self) -> Result<Option<Origin>, HeaderError> {
        if self.kept.starts_with(SIGNATURE) {
            return self.judge_v2();
        }
        if SIGNATURE.starts_with(&self.kept) {
            return Ok(None);
        }
        text::read(&self.kept)
    }

    fn judge_v2(&mut self) -> Result<Option<Origin>, HeaderError> {
        let Some(command) = self.kept.get(12) else { return Ok(None) };
        match command {
            0x20 | 0x21 => {}
            0x22..=0x2f => return Err(HeaderError::Malformed("unknown command")),
            _ => return Err(HeaderError::Malformed("unknown version")),
        }
        if self.kept.get(13).is_some_and(|family| !is_family(*family)) {
            return Err(HeaderError::Malformed("unknown address family or protocol"));
        }
        let (Some(whole), Some(length)) = (v2_kept(&self.kept), v2_length(&self.kept)) else { return Ok(None) };
        if V2_FIXED + length < whole {
            return Err(HeaderError::Malformed("too short for its addresses"));
        }
        if self.kept.len() < whole {
            return Ok(None);
        }
        let origin = v2_addresses(&self.kept);
        let left = V2_FIXED + length - whole;
        self.skip = Some((left, origin));
        Ok((left == 0).then_some(origin))
    }
}

/// Whether a line of a client is, or ends, the beginning of a header of either version: a load balancer speaks to a listener
/// that does not expect it to. Version 2 has two line ends and a NUL before anything else.
pub fn is_header_line(line: &[u8]) -> bool {
    line == b"\0" || line.starts_with(b"PROXY ")
}

fn v2_length(kept: &[u8]) -> Option<usize> {
    let (high, low) = (kept.get(14)?, kept.get(15)?);
    Some(usize::from(u16::from_be_bytes([*high, *low])))
}

/// Octets up to the end of the addresses, once the fixed part is there. LOCAL has none that count.
fn v2_kept(kept: &[u8]) -> Option<usize> {
    v2_length(kept)?;
    let addresses = match (kept.get(12)?, kept.get(13)?) {
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        _ => 0,
    };
    Some(V2_FIXED + addresses)
}

/// AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX with UNSPEC, STREAM, DGRAM: all others "must be rejected as invalid".
fn is_family(octet: u8) -> bool {
    octet >> 4 <= 3 && octet & 0x0f <= 2
}

fn v2_addresses(kept: &[u8]) -> Origin {
    let rest = kept.get(V2_FIXED..).unwrap_or_default();
    let four = |at: usize| rest.get(at..at + 4).and_then(|octets| <[u8; 4]>::try_from(octets).ok()).map(Ipv4Addr::from);
    let six =
        |at: usize| rest.get(at..at + 16).and_then(|octets| <[u8; 16]>::try_from(octets).ok()).map(Ipv6Addr::from);
    let port =
        |at: usize| rest.get(at..at + 2).and_then(|octets| <[u8; 2]>::try_from(octets).ok()).map(u16::from_be_bytes);
    let pair = |source: Option<IpAddr>, destination: Option<IpAddr>, ports: usize| {
        Some(client((source?, port(ports)?), (destination?, port(ports + 2)?)))
    };
    let found = match rest.len() {
        12 => pair(four(0).map(IpAddr::V4), four(4).map(IpAddr::V4), 8),
        36 => pair(six(0).map(IpAddr::V6), six(16).map(IpAddr::V6), 32),
        _ => None,
    };
    found.unwrap_or(Origin::Own)
}

fn client(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Origin {
    let plain = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    Origin::Client { source: plain(source), destination: plain(destination) }
}

#[cfg(test)]
mod tests;
