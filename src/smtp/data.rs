//! Data transparency (RFC 5321, section 4.5.2): the octets of a message between DATA and the final dot.
//!
//! Promises: the end of data is CRLF.CRLF and nothing else (section 4.1.1.4), whatever bare CR and LF are about; the
//! CRLF before the final dot belongs to the message and none is added; input cut anywhere gives the same octets; and
//! nothing is copied while decoding. Octets that no message may contain are let through and named in [`Flaws`]:
//! whoever holds the session refuses such a message, since another server could see a line end or an end of data
//! where this one saw none ("SMTP smuggling"; RFC 5321, section 2.3.8).
//!
//! Left to others: the limit of a message's size.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// The one place in a message that needs care: a line that starts with a dot.
static LINE_WITH_DOT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n."));

/// What a message held that it may not hold (RFC 5321, section 2.3.8; NUL: RFC 5322, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaws {
    /// A CR that no LF follows.
    pub bare_cr: bool,
    /// A LF that no CR precedes.
    pub bare_lf: bool,
    /// An octet of value zero.
    pub nul: bool,
    /// The last octets are not CRLF, so that DATA can't say them (section 4.1.1.4). Known at the end alone, and possible in
    /// chunks alone; the empty message has no last octets.
    pub unended: bool,
}

/// What [`Decoder::decode`] found next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Octets of the message, never none.
    Content(&'a [u8]),
    /// All of the input is used up and the message goes on.
    NeedInput,
    /// The final dot has passed; what is left of the input are commands.
    End,
}

/// What stands before the next octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Before {
    /// CRLF, or nothing yet.
    #[default]
    LineEnd,
    /// A CR that is already given out.
    Cr,
    /// Anything else.
    Text,
    /// A line end and a dot, which is not given out.
    Dot,
    /// A line end, a dot and a CR; neither is given out.
    DotCr,
    /// CRLF.CRLF
    End,
}

impl Before {
    /// What stands behind `octets`, when `self` stood before them.
    fn after(self, octets: &[u8]) -> Self {
        match octets {
            [] => self,
            [.., b'\r', b'\n'] => Self::LineEnd,
            [b'\n'] if self == Self::Cr => Self::LineEnd,
            [.., b'\r'] => Self::Cr,
            _ => Self::Text,
        }
    }
}

/// How many of `octets` can pass before a dot that starts a line; all of them when there is none. A dot that stands
/// first is not looked at.
fn octets_before_dot(before: Before, octets: &[u8]) -> usize {
    match octets {
        [b'\n', b'.', ..] if before == Before::Cr => 1,
        _ => LINE_WITH_DOT.find(octets).map_or(octets.len(), |place| place + 2),
    }
}

/// Takes the dots out again on the way in.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    before: Before,
    scanner: FlawScanner,
}

impl Decoder {
    /// A decoder for one message; it starts as if a CRLF had just passed, so a first line may be the final dot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads from `input` and returns how many octets were used, with what they mean. Call it again with the rest
    /// until it wants input or is at the end; a [`Chunk::Content`] may use no octet of this input, when it is a CR
    /// that had to be held back from the input before.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> (usize, Chunk<'a>) {
        let mut used = 0;
        let mut rest = input;
        loop {
            let Some((first, behind)) = rest.split_first() else { return (used, Chunk::NeedInput) };
            match (self.before, first) {
                (Before::LineEnd, b'.') => self.before = Before::Dot,
                (Before::Dot, b'\r') => self.before = Before::DotCr,
                (Before::DotCr, b'\n') => {
                    self.before = Before::End;
                    return (used + 1, Chunk::End);
                }
                (Before::DotCr, _) => {
                    self.before = Before::Cr;
                    self.scanner.scan(b"\r");
                    return (used, Chunk::Content(b"\r"));
                }
                (Before::End, _) => return (used, Chunk::End),
                _ => {
                    let content = rest.get(..octets_before_dot(self.before, rest)).unwrap_or(rest);
                    self.before = self.before.after(content);
                    self.scanner.scan(content);
                    return (used + content.len(), Chunk::Content(content));
                }
            }
            used += 1;
            rest = behind;
        }
    }

    /// What was wrong with the octets so far.
    pub fn flaws(&self) -> Flaws {
        self.scanner.flaws
    }
}

/// Puts the dots in on the way out.
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    before: Before,
    begun: bool,
}

impl Encoder {
    /// An encoder for one message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `octets`, the next of the message, to `out`, with another dot before each that starts a line.
    pub fn encode(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.begun |= !octets.is_empty();
        let mut rest = octets;
        while let Some(first) = rest.first() {
            if self.before == Before::LineEnd && *first == b'.' {
                out.push(b'.');
            }
            let (content, behind) = rest.split_at_checked(octets_before_dot(self.before, rest)).unwrap_or((rest, &[]));
            out.extend_from_slice(content);
            self.before = self.before.after(content);
            rest = behind;
        }
    }

    /// Appends the end of data, `.CRLF`, and is then ready for another message. A message whose octets don't end in
    /// CRLF gets one, as the dot must stand on a line of its own (RFC 5321, section 4.1.1.4); an empty one doesn't.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.begun && self.before != Before::LineEnd {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        *self = Self::new();
    }
}

/// Looks for flaws in octets that come in pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct FlawScanner {
    flaws: Flaws,
    last: Option<u8>,
    /// The last two are CRLF.
    ended: bool,
}

impl FlawScanner {
    /// Looks at the next octets.
    pub(crate) fn scan(&mut self, octets: &[u8]) {
        let (Some(first), Some(last)) = (octets.first(), octets.last()) else { return };
        self.flaws.bare_cr |= self.last == Some(b'\r') && *first != b'\n';
        self.flaws.bare_lf |= self.last != Some(b'\r') && *first == b'\n';
        // No early way out and no branch, so that the compiler makes vector instructions of it.
        let (mut bare_cr, mut bare_lf, mut nul) = (false, false, *first == 0);
        for (one, next) in octets.iter().zip(octets.get(1..).unwrap_or_default()) {
            bare_cr |= (*one == b'\r') & (*next != b'\n');
            bare_lf |= (*one != b'\r') & (*next == b'\n');
            nul |= *next == 0;
        }
        self.flaws.bare_cr |= bare_cr;
        self.flaws.bare_lf |= bare_lf;
        self.flaws.nul |= nul;
        self.ended = match octets {
            [b'\n'] => self.last == Some(b'\r'),
            octets => octets.ends_with(b"\r\n"),
        };
        self.last = Some(*last);
    }

    /// The flaws of the octets so far.
    pub(crate) fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// All flaws, now that nothing more comes: a CR at the very end is a bare one.
    pub(crate) fn finish(&self) -> Flaws {
        Flaws {
            bare_cr: self.flaws.bare_cr || self.last == Some(b'\r'),
            unended: self.last.is_some() && !self.ended,
            ..self.flaws
        }
    }
}

#[cfg(test)]
mod tests;
