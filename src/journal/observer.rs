//! Watches a message stream through and keeps what the record needs of it, in bounded memory.
//!
//! Promises: the same octets in whatever pieces give the same [`Observation`]; nothing is kept but the header block, up to
//! [`MAX_HEADER`]; no allocation per line. One SHA-256 pass is the cost, since logs and records show that hash; what nobody
//! outside sees, the identity, is a BLAKE3, which costs a tenth of it. A second SHA-256 follows only where a header has an
//! `X-Journal-Mac` that names our key.
//!
//! Leaves to others: what the header fields say ([`HeaderFacts`](super::HeaderFacts)), and keeping the octets.
//!
//! A line ends with CRLF and with nothing else. The header ends at the first empty line (RFC 5322, section 2.1): a message
//! that starts with CRLF has none, a message without an empty line is all header.

use super::fields::OctetsKind;
use super::header_lines::{HeaderLines, Verdict};
use super::mac::{MacKey, OwnMail, Recognition};
use crate::mail::Sha256;

/// Octets of the header block that are kept: 1 MiB. A longer one is hashed whole, and its record is labelled from what
/// was kept.
pub const MAX_HEADER: usize = 1024 * 1024;

/// Octets of a line without its CRLF (RFC 5322, section 2.1.1); with more it takes a binary transport.
const MAX_LINE: u64 = 998;

/// Keeps identities apart from every other use of BLAKE3; a new number means another way to compute them.
const IDENTITY_DOMAIN: &str = "journal-relay 2026-11-26 identity 2";

/// What is known of a message once its last octet has been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Octets.
    pub size: u64,
    /// SHA-256 of all octets.
    pub sha256: [u8; 32],
    /// BLAKE3 of the header without its trace fields and of the body: equal for all copies of one message, whatever way
    /// they came. The order and the octets of all other fields count.
    pub identity: [u8; 32],
    /// The header block without the empty line, at most [`MAX_HEADER`] octets of it.
    pub header: Vec<u8>,
    /// Whether the header block was longer than what was kept.
    pub header_cut: bool,
    /// What the octets ask of a transport.
    pub kind: OctetsKind,
    /// Whether the last two octets are CRLF.
    pub ends_with_crlf: bool,
    /// `Received:` fields: how often the message has been relayed (RFC 5321, section 6.3).
    pub hops: u32,
    /// The relay's own record or report, come back with nothing changed.
    pub own: Option<OwnMail>,
}

/// Takes a message in pieces.
#[derive(Debug, Clone)]
pub struct Observer {
    size: u64,
    all: Sha256,
    lines: HeaderLines,
    header: Vec<u8>,
    header_size: u64,
    body: Option<blake3::Hasher>,
    shape: Shape,
    key: Option<MacKey>,
    /// Apart, since hardly any mail has one.
    recognition: Option<Box<Recognition>>,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer {
    /// Before the first octet.
    pub fn new() -> Self {
        Self {
            size: 0,
            all: Sha256::new(),
            lines: HeaderLines::new(),
            header: Vec::new(),
            header_size: 0,
            body: None,
            shape: Shape::default(),
            key: None,
            recognition: None,
        }
    }

    /// The same, and it knows what was sealed with `key`.
    pub fn knowing(key: MacKey) -> Self {
        Self { key: Some(key), ..Self::new() }
    }

    /// Takes the next octets of the message, any number of them.
    pub fn observe(&mut self, octets: &[u8]) {
        self.size += octets.len() as u64;
        self.all.update(octets);
        self.shape.scan(octets);
        if let Some(body) = &mut self.body {
            body.update(octets);
            if let Some(recognition) = &mut self.recognition {
                recognition.observe(octets);
            }
            return;
        }
        let (of_header, rest) = match self.lines.feed(octets) {
            Verdict::Within => (octets, None),
            Verdict::EndsAfter(end) => octets.split_at_checked(end).map_or((octets, None), |(a, b)| (a, Some(b))),
        };
        self.header_size += of_header.len() as u64;
        let room = MAX_HEADER.saturating_sub(self.header.len()).min(of_header.len());
        self.header.extend_from_slice(of_header.get(..room).unwrap_or_default());
        if let Some(rest) = rest {
            self.body.insert(blake3::Hasher::new()).update(rest);
            self.recognition = self.recognize();
            if let Some(recognition) = &mut self.recognition {
                recognition.observe(rest);
            }
        }
    }

    /// Whether the header, now whole, says that the mail may be our own.
    fn recognize(&self) -> Option<Box<Recognition>> {
        let whole = self.header_size <= MAX_HEADER as u64;
        let key = self.key.filter(|_| whole && self.lines.macs() == 1)?;
        Recognition::begin(key, &self.header).map(Box::new)
    }

    /// What was seen, after the last octet.
    pub fn finish(mut self) -> Observation {
        self.lines.end();
        // The empty line has been counted with the header; only there may two line ends follow each other.
        let separator = if self.body.is_some() { 2 } else { 0 };
        let header_size = self.header_size.saturating_sub(separator);
        self.header.truncate(usize::try_from(header_size).unwrap_or(usize::MAX));
        let (kind, ends_with_crlf) = self.shape.end();
        let hops = self.lines.received();
        let own = self.recognition.and_then(|recognition| recognition.end(&self.header));
        Observation {
            size: self.size,
            sha256: self.all.finish(),
            identity: identity(self.lines.hash(), self.body.as_ref()),
            header_cut: header_size > self.header.len() as u64,
            header: self.header,
            kind,
            ends_with_crlf,
            hops,
            own,
        }
    }
}

/// Header and body are hashed apart and the two hashes of fixed length together, with a word on whether an empty line
/// stood between them: no octet can move from one to the other and leave the identity as it was.
fn identity(header: blake3::Hash, body: Option<&blake3::Hasher>) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key(IDENTITY_DOMAIN);
    hash.update(header.as_bytes()).update(&[u8::from(body.is_some())]);
    if let Some(body) = body {
        hash.update(body.finalize().as_bytes());
    }
    hash.finalize().into()
}

/// What the octets ask of a transport, found as they pass.
#[derive(Debug, Clone, Default)]
struct Shape {
    eight_bit: bool,
    binary: bool,
    /// Octets since the last line end.
    line: u64,
    /// The last octet was a CR.
    after_cr: bool,
    /// The last two octets were CRLF.
    after_crlf: bool,
}

impl Shape {
    fn scan(&mut self, octets: &[u8]) {
        let (Some(first), Some(last)) = (octets.first(), octets.last()) else { return };
        self.eight_bit = self.eight_bit || !octets.is_ascii();
        let before_last = match octets {
            [.., before, _] => *before == b'\r',
            _ => self.after_cr,
        };
        if !self.binary {
            self.scan_lines(octets, *first);
        }
        self.after_cr = *last == b'\r';
        self.after_crlf = *last == b'\n' && before_last;
    }

    /// Looks for NUL, bare CR, bare LF and long lines (RFC 2045, section 2.8).
    fn scan_lines(&mut self, octets: &[u8], first: u8) {
        let mut flaw = self.after_cr != (first == b'\n') || first == 0;
        // No early way out and no branch, so that the compiler makes vector instructions of it.
        for (one, next) in octets.iter().zip(octets.get(1..).unwrap_or_default()) {
            flaw |= ((*one == b'\r') != (*next == b'\n')) | (*next == 0);
        }
        self.binary = flaw || self.is_long(octets);
    }

    /// Looks for a line that is too long. Each look is for the last line end that the line under way may have: the short lines
    /// before that need none of their own.
    fn is_long(&mut self, octets: &[u8]) -> bool {
        let mut rest = octets;
        while !rest.is_empty() {
            let allowed = usize::try_from(MAX_LINE.saturating_add(2).saturating_sub(self.line)).unwrap_or(usize::MAX);
            let window = rest.get(..allowed).unwrap_or(rest);
            match memchr::memrchr(b'\n', window) {
                Some(end) => {
                    self.line = 0;
                    rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
                }
                None if window.len() == allowed => return true,
                None => {
                    self.line = self.line.saturating_add(window.len() as u64);
                    return false;
                }
            }
        }
        false
    }

    fn end(&self) -> (OctetsKind, bool) {
        let kind = if self.binary || self.after_cr || self.line > MAX_LINE {
            OctetsKind::Binary
        } else if self.eight_bit {
            OctetsKind::EightBit
        } else {
            OctetsKind::SevenBit
        };
        (kind, self.after_crlf)
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
