//! Replies out of the octets of a line (RFC 5321, section 4.2), read as generously as can be.
//!
//! A reply that could not be read would count as lost, and a record whose acceptance is lost is sent again: so a reply
//! without text, with a bare LF, in another character set or with several codes is still a reply. What has no three
//! digits in front is none. Memory is bounded by [`MAX_LINE`] and [`MAX_LINES`].

use crate::mail::Reply;

/// Octets of one line with its end; eight times what RFC 5321, section 4.5.3.1.5 allows.
const MAX_LINE: usize = 4_096;
/// Lines of one reply.
const MAX_LINES: usize = 128;

/// Gathers octets until they are a reply.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    octets: Vec<u8>,
    lines: Vec<String>,
}

/// Why the octets are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoReply {
    /// A line is longer than [`MAX_LINE`], or there are more than [`MAX_LINES`].
    #[error("the server's reply is too long")]
    TooLong,
    /// No three digits in front.
    #[error("the server said {0:?}, which is no reply")]
    Malformed(String),
}

impl ReplyReader {
    /// Takes what came.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Whether every octet that came was part of a reply already taken.
    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.lines.is_empty()
    }

    /// The next reply, once it is whole.
    pub(super) fn take(&mut self) -> Result<Option<Reply>, NoReply> {
        while let Some(end) = memchr::memchr(b'\n', &self.octets) {
            if end >= MAX_LINE || self.lines.len() >= MAX_LINES {
                return Err(NoReply::TooLong);
            }
            let line: Vec<u8> = self.octets.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let (code, is_last, text) = split(line.trim_end_matches(['\r', '\n']))?;
            self.lines.push(text);
            if is_last {
                return Ok(Some(Reply::multiline(code, std::mem::take(&mut self.lines))));
            }
        }
        if self.octets.len() >= MAX_LINE { Err(NoReply::TooLong) } else { Ok(None) }
    }
}

/// Code, whether it is the reply's last line, and text without controls.
fn split(line: &str) -> Result<(u16, bool, String), NoReply> {
    let malformed = || NoReply::Malformed(line.chars().take(80).collect());
    let digits =
        line.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(malformed)?;
    let code: u16 = digits.parse().map_err(|_| malformed())?;
    if !(200..600).contains(&code) {
        return Err(malformed());
    }
    let rest = line.get(3..).unwrap_or_default();
    let (is_last, text) = match rest.chars().next() {
        None => (true, ""),
        Some('-') => (false, rest.get(1..).unwrap_or_default()),
        Some(' ' | '\t') => (true, rest.get(1..).unwrap_or_default()),
        Some(_) => return Err(malformed()),
    };
    Ok((code, is_last, text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Option<Reply>, NoReply> {
        let mut reader = ReplyReader::default();
        reader.push(octets);
        reader.take()
    }

    #[test]
    fn a_reply_is_the_same_however_its_octets_are_cut() {
        let octets = b"250-one\r\n250-2.0.0 two\r\n250 three\r\n";
        for cut in 0..octets.len() {
            let mut reader = ReplyReader::default();
            reader.push(&octets[..cut]);
            assert_eq!(reader.take(), Ok(None), "cut at {cut}");
            reader.push(&octets[cut..]);
            let reply = reader.take().unwrap().unwrap();
            assert_eq!((reply.code(), reply.lines()), (250, &["one".into(), "2.0.0 two".into(), "three".into()][..]));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn careless_servers_are_understood() {
        assert_eq!(read(b"250\r\n"), Ok(Some(Reply::new(250, ""))));
        assert_eq!(read(b"250 ok\n"), Ok(Some(Reply::new(250, "ok"))));
        assert_eq!(read(b"250 gesch\xe4fft\r\n"), Ok(Some(Reply::new(250, "gesch\u{fffd}fft"))));
        assert_eq!(read(b"250-a\r\n251 b\r\n").unwrap().unwrap().code(), 251);
        assert_eq!(read(b"250 a\x1b[2Jb\r\n"), Ok(Some(Reply::new(250, "a [2Jb"))));
    }

    #[test]
    fn what_is_no_reply_is_named() {
        for octets in
            [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\r\n", b"25\r\n", b"2500 x\r\n", b"150 x\r\n", b"\xff\xfe\xfd\r\n"]
        {
            assert!(matches!(read(octets), Err(NoReply::Malformed(_))), "{octets:?}");
        }
    }

    #[test]
    fn a_reply_without_end_is_given_up() {
        assert_eq!(read(&[b'2'; MAX_LINE]), Err(NoReply::TooLong));
        assert_eq!(read(&b"250-x\r\n".repeat(MAX_LINES + 1)), Err(NoReply::TooLong));
        assert!(matches!(read(&[&b"250-x\r\n".repeat(MAX_LINES - 1)[..], b"250 x\r\n"].concat()), Ok(Some(_))));
    }

    #[test]
    fn a_second_reply_waits_for_its_turn() {
        let mut reader = ReplyReader::default();
        reader.push(b"250 one\r\n421 two\r\n");
        assert_eq!(reader.take(), Ok(Some(Reply::new(250, "one"))));
        assert!(!reader.is_empty());
        assert_eq!(reader.take(), Ok(Some(Reply::new(421, "two"))));
    }
}
