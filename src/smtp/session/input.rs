//! What the client has sent and nobody has read: lines of commands, found and measured.

use memchr::memmem;
use zeroize::Zeroize as _;

/// What comes next in the input, read as a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The line's end has not come yet.
    Partial,
    /// A line of so many octets without its CRLF.
    Whole(usize),
    /// The line is already too long and its end has not come yet; [`Input::swallow`] drops it.
    TooLong,
    /// The end of a line that was too long, which has passed.
    Swallowed,
}

/// Octets of the client, in order. Holds what was fed and no more than one line from before.
#[derive(Debug, Default)]
pub(super) struct Input {
    octets: Vec<u8>,
    start: usize,
    swallowing: bool,
}

impl Input {
    /// Takes what the client sent. What was read before makes room.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.start.min(self.octets.len()));
        self.start = 0;
        self.octets.extend_from_slice(octets);
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    /// Drops the next `count` octets as read.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.octets.len());
    }

    /// Drops the next `count` octets as read, and overwrites them.
    pub(super) fn wipe(&mut self, count: usize) {
        let end = self.start.saturating_add(count).min(self.octets.len());
        if let Some(octets) = self.octets.get_mut(self.start..end) {
            octets.zeroize();
        }
        self.start = end;
    }

    /// What is not read yet, and what marks octets of it as read while they are still looked at.
    pub(super) fn rest_and_start(&mut self) -> (&[u8], &mut usize) {
        (self.octets.get(self.start..).unwrap_or_default(), &mut self.start)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks for the end of the next line, CRLF and nothing else (RFC 5321, section 2.3.8), among its first `longest` octets.
    pub(super) fn next_line(&mut self, longest: usize) -> Line {
        let rest = self.rest();
        if self.swallowing {
            return self.swallow_to_line_end();
        }
        let within = rest.get(..longest).unwrap_or(rest);
        match memmem::find(within, b"\r\n") {
            Some(length) => Line::Whole(length),
            None if within.len() < longest => Line::Partial,
            None => Line::TooLong,
        }
    }

    /// Begins to drop a line that is too long.
    pub(super) fn swallow(&mut self) {
        self.swallowing = true;
    }

    fn swallow_to_line_end(&mut self) -> Line {
        let rest = self.rest();
        if let Some(end) = memmem::find(rest, b"\r\n") {
            self.consume(end + 2);
            self.swallowing = false;
            return Line::Swallowed;
        }
        // A CR at the end may be half of the line's end.
        self.consume(rest.len() - usize::from(rest.ends_with(b"\r")));
        Line::Partial
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_COMMAND_LINE;
    use super::*;

    #[test]
    fn a_line_as_long_as_may_be_is_taken_and_one_octet_more_is_too_long() {
        let mut input = Input::default();
        input.push(&[b"x".repeat(MAX_COMMAND_LINE - 2), b"\r\n".to_vec()].concat());
        assert_eq!(input.next_line(MAX_COMMAND_LINE), Line::Whole(MAX_COMMAND_LINE - 2));
        input.clear();
        input.push(&[b"x".repeat(MAX_COMMAND_LINE - 1), b"\r\n".to_vec()].concat());
        assert_eq!(input.next_line(MAX_COMMAND_LINE), Line::TooLong);
    }

    #[test]
    fn of_a_line_that_is_too_long_nothing_is_kept() {
        let mut input = Input::default();
        input.push(&b"x".repeat(MAX_COMMAND_LINE));
        assert_eq!(input.next_line(MAX_COMMAND_LINE), Line::TooLong);
        input.swallow();
        for _ in 0..100 {
            assert_eq!(input.next_line(MAX_COMMAND_LINE), Line::Partial);
            assert!(input.rest().is_empty());
            input.push(&b"x".repeat(1000));
        }
        input.push(b"\r");
        assert_eq!(input.next_line(MAX_COMMAND_LINE), Line::Partial);
        input.push(b"\nNOOP\r\n");
        assert_eq!(input.next_line(MAX_COMMAND_LINE), Line::Swallowed);
        assert_eq!((input.next_line(MAX_COMMAND_LINE), input.rest()), (Line::Whole(4), &b"NOOP\r\n"[..]));
    }

    #[test]
    fn what_is_wiped_is_gone_from_memory() {
        let mut input = Input::default();
        input.push(b"secret\r\nNOOP\r\n");
        input.wipe(8);
        assert_eq!((input.rest(), &input.octets[..8]), (&b"NOOP\r\n"[..], &[0; 8][..]));
        input.wipe(100);
        assert_eq!(input.rest(), b"");
    }
}
