//! Reads the replies of a server (RFC 5321, section 4.2), strictly and within bounds.
//!
//! A reply is given out whole. Lines may end in CRLF or, as some servers write them, in LF alone. The texts are for
//! people: each octet that is not UTF-8, and each control character, becomes `?`, so that no text can disturb a log or
//! another conversation, and none is longer where it is passed on.

use super::ReplyError;
use crate::mail::Reply;

/// Octets of one line of a reply, its line end not counted. RFC 5321, section 4.5.3.1.5, allows 512 with it; servers exceed that.
pub const MAX_REPLY_LINE: usize = 4096;
/// Lines of one reply.
pub const MAX_REPLY_LINES: usize = 1000;
/// Characters of a line that an error shows.
const MAX_SHOWN: usize = 80;

/// Gathers octets to replies.
#[derive(Debug, Default)]
pub(super) struct ReplyParser {
    /// The line that has begun, without its LF.
    line: Vec<u8>,
    /// The code of the lines read so far, when a further one is announced.
    code: Option<u16>,
    /// Their texts.
    texts: Vec<String>,
}

impl ReplyParser {
    /// Whether no octet of a further reply has come.
    pub(super) fn is_between_replies(&self) -> bool {
        self.line.is_empty() && self.code.is_none()
    }

    /// Takes octets up to the end of a reply at most; tells how many were used, and the reply when it is whole.
    pub(super) fn push(&mut self, octets: &[u8]) -> Result<(usize, Option<Reply>), ReplyError> {
        let mut used = 0;
        while let Some(rest) = octets.get(used..).filter(|rest| !rest.is_empty()) {
            let end = memchr::memchr(b'\n', rest);
            let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            // One more for the CR. What exceeds the bound is refused before it is kept.
            if self.line.len() + part.len() > MAX_REPLY_LINE + 1 {
                return Err(ReplyError::LineTooLong);
            }
            self.line.extend_from_slice(part);
            if end.is_none() {
                return Ok((octets.len(), None));
            }
            used += part.len() + 1;
            if let Some(reply) = self.end_line()? {
                return Ok((used, Some(reply)));
            }
        }
        Ok((used, None))
    }

    /// Reads the line gathered, and leaves its memory to the next one; gives the reply that it ends.
    fn end_line(&mut self) -> Result<Option<Reply>, ReplyError> {
        let mut line = std::mem::take(&mut self.line);
        let reply = self.read_line(&line);
        line.clear();
        self.line = line;
        reply
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_REPLY_LINE {
            return Err(ReplyError::LineTooLong);
        }
        let (code, more, text) = split_line(line).ok_or_else(|| ReplyError::Malformed(shown(line)))?;
        match self.code {
            Some(first) if first != code => return Err(ReplyError::MixedCodes(first, code)),
            _ => {}
        }
        if self.texts.len() >= MAX_REPLY_LINES {
            return Err(ReplyError::TooManyLines);
        }
        self.texts.push(printable(text));
        if more {
            self.code = Some(code);
            return Ok(None);
        }
        self.code = None;
        Ok(Some(Reply::multiline(code, std::mem::take(&mut self.texts))))
    }
}

/// The code, whether a further line follows, and the text. A code alone is a whole line (RFC 5321, section 4.2).
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    // RFC 5321, section 4.2.1: 2 to 5. No command has a 1yz reply.
    if !matches!(digits.first(), Some(b'2'..=b'5')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, false, rest)),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

fn printable(text: &[u8]) -> String {
    // Nearly every text is one that needs no look at its letters.
    if text.iter().all(|octet| matches!(octet, b' '..=b'~'))
        && let Ok(plain) = std::str::from_utf8(text)
    {
        return plain.to_owned();
    }
    let clean = |letter: char| if letter.is_control() && letter != '\t' { '?' } else { letter };
    let mut printable = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        printable.extend(chunk.valid().chars().map(clean));
        printable.extend(chunk.invalid().iter().map(|_| '?'));
    }
    printable
}

fn shown(line: &[u8]) -> String {
    printable(line).chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that `octets`, given in pieces, amount to: replies, and the error they end with.
    fn read(pieces: &[&[u8]]) -> (Vec<Reply>, Option<ReplyError>) {
        let (mut parser, mut replies) = (ReplyParser::default(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                match parser.push(rest) {
                    Ok((used, reply)) => {
                        rest = &rest[used..];
                        replies.extend(reply);
                    }
                    Err(error) => return (replies, Some(error)),
                }
            }
        }
        (replies, None)
    }

    fn read_one(octets: &[u8]) -> Reply {
        let (mut replies, error) = read(&[octets]);
        assert_eq!((replies.len(), error), (1, None));
        replies.remove(0)
    }

    #[test]
    fn sound_replies_are_read_as_they_are_meant() {
        assert_eq!(read_one(b"250 2.1.0 Ok\r\n"), Reply::new(250, "2.1.0 Ok"));
        assert_eq!(read_one(b"250 Ok\n"), Reply::new(250, "Ok"));
        assert_eq!(read_one(b"354\r\n"), Reply::new(354, ""));
        assert_eq!(
            read_one(b"250-a\r\n250-\r\n250 b\r\n"),
            Reply::multiline(250, vec!["a".into(), "".into(), "b".into()])
        );
        assert_eq!(read_one(b"250-a\r\n250\r\n"), Reply::multiline(250, vec!["a".into(), "".into()]));
        assert_eq!(read_one("550 größer\r\n".as_bytes()), Reply::new(550, "größer"));
    }

    #[test]
    fn a_text_is_no_longer_where_it_is_passed_on() {
        let foreign =
            [b"250 ".to_vec(), b"\xe9\xf0\x9f\xc3".repeat((MAX_REPLY_LINE - 4) / 4), b"\r\n".to_vec()].concat();
        let mut wire = Vec::new();
        read_one(&foreign).write_to(&mut wire);
        assert_eq!(wire.len(), foreign.len());
    }

    #[test]
    fn a_text_cannot_carry_controls_or_broken_utf_8() {
        assert_eq!(read_one(b"550 a\rb\0c\x1b[1m\td\xff\r\n"), Reply::new(550, "a?b?c?[1m\td?"));
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for line in [
            &b"\r\n"[..],
            b"\n",
            b"25\r\n",
            b"25 Ok\r\n",
            b" 250 Ok\r\n",
            b"2500 Ok\r\n",
            b"250_Ok\r\n",
            b"250\tOk\r\n",
            b"150 wait\r\n",
            b"650 what\r\n",
            b"050 what\r\n",
            b"2x0 Ok\r\n",
            b"-250 Ok\r\n",
            b"+OK ready\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\xb2\xb5\xb0 Ok\r\n",
        ] {
            assert!(
                matches!(read(&[line]), (replies, Some(ReplyError::Malformed(_))) if replies.is_empty()),
                "{line:?}"
            );
        }
        assert_eq!(read(&[b"250-a\r\n550 b\r\n"]).1, Some(ReplyError::MixedCodes(250, 550)));
        assert!(matches!(read(&[b"250-a\r\nb\r\n"]).1, Some(ReplyError::Malformed(text)) if text == "b"));
    }

    #[test]
    fn a_line_may_be_as_long_as_the_bound_and_not_longer() {
        let line = |length: usize, end: &str| format!("250 {}{end}", "x".repeat(length - 4)).into_bytes();
        for end in ["\r\n", "\n"] {
            assert_eq!(read(&[&line(MAX_REPLY_LINE, end)]).1, None);
            assert_eq!(read(&[&line(MAX_REPLY_LINE + 1, end)]).1, Some(ReplyError::LineTooLong));
        }
        // Also when it never ends.
        assert_eq!(read(&[&line(MAX_REPLY_LINE + 2, "")]).1, Some(ReplyError::LineTooLong));
    }

    #[test]
    fn a_reply_may_have_as_many_lines_as_the_bound_and_not_more() {
        let whole = |lines: usize| format!("{}250 b\r\n", "250-a\r\n".repeat(lines - 1)).into_bytes();
        assert_eq!(read_one(&whole(MAX_REPLY_LINES)).lines().len(), MAX_REPLY_LINES);
        assert_eq!(read(&[&whole(MAX_REPLY_LINES + 1)]).1, Some(ReplyError::TooManyLines));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_same_octets_cut_anywhere_are_the_same_replies(
            octets in proptest::collection::vec(prop_oneof![
                4 => Just(b"250-a\r\n".to_vec()), 4 => Just(b"250 b\r\n".to_vec()), 2 => Just(b"250 c\n".to_vec()),
                1 => Just(b"550\r\n".to_vec()), 1 => Just(b"x".to_vec()), 1 => any::<Vec<u8>>(),
            ], 0..8).prop_map(|parts| parts.concat()),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
            places.extend([0, octets.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&octets]));
        }

        #[test]
        fn what_a_reply_writes_is_read_back(code in 200u16..600, lines in proptest::collection::vec("[ -~]{0,40}", 1..5)) {
            let reply = Reply::multiline(code, lines);
            let mut wire = Vec::new();
            reply.write_to(&mut wire);
            prop_assert_eq!(read_one(&wire), reply);
        }
    }
}
