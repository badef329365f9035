//! An SMTP reply (RFC 5321, section 4.2) as a value: a code and its lines of text.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Write;

/// What a reply's first digit says (RFC 5321, section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz: done.
    Completion,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: never so.
    Permanent,
}

/// A reply: three digits and one line of text or more. An enhanced status code (RFC 3463) is the start of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line. A line break in `text` becomes a space, so that no text can end the line early.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self::multiline(code, vec![text.into()])
    }

    /// A reply of several lines; none at all counts as one empty line.
    pub fn multiline(code: u16, mut lines: Vec<String>) -> Self {
        if lines.is_empty() {
            lines.push(String::new());
        }
        for line in &mut lines {
            if line.contains(['\r', '\n']) {
                *line = line.replace(['\r', '\n'], " ");
            }
        }
        Self { code, lines }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The texts of the lines, without code and line ends.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What the first digit says; codes outside 200 to 499 count as permanent refusals.
    pub fn class(&self) -> ReplyClass {
        match self.code / 100 {
            2 => ReplyClass::Completion,
            3 => ReplyClass::Intermediate,
            4 => ReplyClass::Transient,
            _ => ReplyClass::Permanent,
        }
    }

    /// 2yz.
    pub fn is_completion(&self) -> bool {
        self.class() == ReplyClass::Completion
    }

    /// 5yz and what can't be understood.
    pub fn is_permanent(&self) -> bool {
        self.class() == ReplyClass::Permanent
    }

    /// The enhanced status code (RFC 3463: class, subject, detail) that the first line starts with.
    pub fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut parts = word.split('.');
        let class = parts.next()?;
        let digits = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        let sound = matches!(class, "2" | "4" | "5") && digits(parts.next()?) && digits(parts.next()?);
        (sound && parts.next().is_none()).then_some(word)
    }

    /// The octets on the wire, each line with its CRLF.
    pub fn write_to(&self, output: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (number, line) in self.lines.iter().enumerate() {
            // Writing into memory does not fail.
            let _ = write!(output, "{:03}", self.code);
            output.push(if number == last { b' ' } else { b'-' });
            output.extend_from_slice(line.as_bytes());
            output.extend_from_slice(b"\r\n");
        }
    }
}

/// On one line, as logs and reports show it: `250 2.0.0 Ok: queued as 3F2A`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        self.lines.iter().try_for_each(|line| write!(f, " {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_but_the_last_has_a_hyphen() {
        let mut wire = Vec::new();
        Reply::multiline(250, vec!["relay.example.org".into(), "PIPELINING".into(), "8BITMIME".into()])
            .write_to(&mut wire);
        assert_eq!(wire, b"250-relay.example.org\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
    }

    #[test]
    fn a_text_cannot_end_its_line_early() {
        let mut wire = Vec::new();
        Reply::new(550, "no\r\n250 yes").write_to(&mut wire);
        assert_eq!(wire, b"550 no  250 yes\r\n");
    }

    #[test]
    fn the_enhanced_code_is_found_only_where_it_is_one() {
        assert_eq!(Reply::new(550, "5.1.1 no such user").enhanced(), Some("5.1.1"));
        assert_eq!(Reply::new(250, "2.0.0").enhanced(), Some("2.0.0"));
        for text in ["no such user", "5.1 no", "5.1.1.1 no", "3.1.1 no", "5.1234.1 no", ""] {
            assert_eq!(Reply::new(550, text).enhanced(), None, "{text:?}");
        }
    }

    #[test]
    fn a_code_that_means_nothing_is_a_refusal() {
        assert!(Reply::new(0, "").is_permanent());
        assert!(Reply::new(999, "").is_permanent());
        assert_eq!(Reply::new(354, "go").class(), ReplyClass::Intermediate);
    }
}
