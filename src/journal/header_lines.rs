//! The lines of a header block as they pass: where the block ends, which fields are trace, and the hash of the others.
//!
//! Promises: bounded memory, no allocation, the same result however the octets are cut.

use super::mac::MAC_FIELD;

/// Fields that servers add on the way and that do not make another message. RFC 5321, section 4.4; RFC 6376; RFC 8617;
/// RFC 8601; RFC 7208, section 9.1.
const TRACE: [&[u8]; 7] = [
    RECEIVED,
    b"return-path",
    b"delivered-to",
    b"x-original-to",
    b"dkim-signature",
    b"authentication-results",
    b"received-spf",
];
const RECEIVED: &[u8] = b"received";
const TRACE_PREFIX: &[u8] = b"arc-";

/// Octets of a line's start that are looked at: the longest trace field's name, blanks behind it, and the colon. A name
/// that has not ended by then is none of ours.
const MAX_START: usize = 40;

/// Where a piece of the message leaves the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it belongs to the header.
    Within,
    /// The header ends with this many octets of it, the empty line included.
    EndsAfter(usize),
}

/// The header's lines, as far as they have passed.
#[derive(Debug, Clone)]
pub(super) struct HeaderLines {
    hash: blake3::Hasher,
    received: u32,
    /// `X-Journal-Mac:` fields.
    macs: u32,
    /// Whether the field that the last line belongs to is hashed.
    keep: bool,
    /// The start of the line at hand, while it is not yet clear what line it is.
    start: [u8; MAX_START],
    start_size: usize,
    at_start: bool,
    after_cr: bool,
}

impl HeaderLines {
    pub(super) fn new() -> Self {
        Self {
            hash: blake3::Hasher::new(),
            received: 0,
            macs: 0,
            keep: true,
            start: [0; MAX_START],
            start_size: 0,
            at_start: true,
            after_cr: false,
        }
    }

    /// Takes the next octets, up to the end of the header. After that, nothing more may be fed.
    pub(super) fn feed(&mut self, octets: &[u8]) -> Verdict {
        let mut rest = octets;
        while !rest.is_empty() {
            if self.at_start {
                if self.take_start(&mut rest) {
                    return Verdict::EndsAfter(octets.len() - rest.len());
                }
            } else {
                self.take_line(&mut rest);
            }
        }
        Verdict::Within
    }

    /// The message ended within its header.
    pub(super) fn end(&mut self) {
        if self.at_start && self.start_size > 0 {
            self.judge();
        }
    }

    /// `Received:` fields so far.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// `X-Journal-Mac:` fields so far.
    pub(super) fn macs(&self) -> u32 {
        self.macs
    }

    /// The hash of all lines but the trace fields'.
    pub(super) fn hash(&self) -> blake3::Hash {
        self.hash.finalize()
    }

    /// Takes octets until it is clear what line this is; true when it is the empty one.
    fn take_start(&mut self, rest: &mut &[u8]) -> bool {
        while let Some((octet, behind)) = rest.split_first() {
            *rest = behind;
            if let Some(place) = self.start.get_mut(self.start_size) {
                *place = *octet;
                self.start_size += 1;
            }
            match (self.started(), *octet) {
                ([b'\r', b'\n'], _) => return true,
                ([b'\r'], _) => {}
                // A LF is taken here only behind a CR that started the line, or bare; either way the line's kind is clear.
                ([b' ' | b'\t'], _) | (_, b':' | b'\r' | b'\n') => return self.judged(),
                (started, _) if started.len() == MAX_START => return self.judged(),
                _ => {}
            }
        }
        false
    }

    fn judged(&mut self) -> bool {
        self.judge();
        false
    }

    fn started(&self) -> &[u8] {
        self.start.get(..self.start_size).unwrap_or_default()
    }

    /// Decides on the line by its start and goes on to the rest of it.
    fn judge(&mut self) {
        let start = self.start;
        let start = start.get(..self.start_size).unwrap_or_default();
        // RFC 5322, section 2.2.3: a line that starts with a blank belongs to the field before.
        if !matches!(start.first(), Some(b' ' | b'\t')) {
            let name = field_name(start);
            self.keep = !name.is_some_and(is_trace);
            if name.is_some_and(|name| name.eq_ignore_ascii_case(RECEIVED)) {
                self.received = self.received.saturating_add(1);
            }
            if name.is_some_and(|name| name.eq_ignore_ascii_case(MAC_FIELD.as_bytes())) {
                self.macs = self.macs.saturating_add(1);
            }
        }
        if self.keep {
            self.hash.update(start);
        }
        self.after_cr = start.last() == Some(&b'\r');
        self.at_start = false;
        self.start_size = 0;
    }

    /// Takes what is there of the rest of a line.
    fn take_line(&mut self, rest: &mut &[u8]) {
        let found = line_end(rest, self.after_cr);
        let (line, behind) = rest.split_at_checked(found.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        if self.keep {
            self.hash.update(line);
        }
        if let Some(last) = line.last() {
            self.after_cr = *last == b'\r';
        }
        self.at_start = found.is_some();
        *rest = behind;
    }
}

/// How many octets there are up to the end of the line and with it; none when it doesn't end here.
fn line_end(octets: &[u8], after_cr: bool) -> Option<usize> {
    memchr::memchr_iter(b'\n', octets)
        .find(|place| match place.checked_sub(1) {
            Some(before) => octets.get(before) == Some(&b'\r'),
            None => after_cr,
        })
        .map(|place| place + 1)
}

/// The name of the field that starts so; none when it is no field. Blanks before the colon are obsolete syntax (RFC 5322,
/// section 4.5) and pass.
pub(super) fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    let name = line.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

fn is_trace(name: &[u8]) -> bool {
    TRACE.iter().any(|trace| name.eq_ignore_ascii_case(trace))
        || name.get(..TRACE_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(TRACE_PREFIX))
}
