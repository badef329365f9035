//! Writes header fields and encoded text of the relay's own making.
//!
//! Promises: a value can't end its field: controls become spaces, lines are folded to 78 octets where blanks allow it and
//! never exceed 998 (RFC 5322, section 2.1.1); what an unfolding and decoding reader gets back is the value. Carries out
//! RFC 2047 (encoded words, always UTF-8 and base64) and RFC 2045, section 6.7 (quoted-printable).
//!
//! Dates and Message-IDs are written by mail-builder. Its writer of unstructured text is not used: it writes every ASCII
//! text over 77 characters as encoded words, leaves a text that happens to look like an encoded word to be decoded by its
//! reader, and spells the encoding `B` where the record has `b`.

use super::text::one_line;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_builder::headers::Header;

/// Octets of a line, without CRLF, that no line may exceed (RFC 5322, section 2.1.1).
pub(super) const MAX_LINE: usize = 998;
/// Octets of a line that folding aims at (RFC 5322, section 2.1.1).
const FOLD_AT: usize = 78;
/// Octets of a line with an encoded word (RFC 2047, section 2), and of a line of quoted-printable (RFC 2045, section 6.7).
const MAX_ENCODED_LINE: usize = 76;
/// Octets of an encoded word (RFC 2047, section 2).
const MAX_WORD: usize = 75;
const WORD_START: &str = "=?utf-8?b?";
const WORD_END: &str = "?=";

/// Writes `name: value` on one line, however long; for values of our own making and addresses, which can't fold.
pub(super) fn write_plain(out: &mut Vec<u8>, name: &str, value: &str) {
    push(out, name);
    push(out, if value.is_empty() { ":" } else { ": " });
    push(out, &one_line(value));
    push(out, "\r\n");
}

/// Writes a field whose value mail-builder knows how to write.
pub(super) fn write_built(out: &mut Vec<u8>, name: &str, value: &impl Header) {
    push(out, name);
    push(out, ": ");
    value.write_header(out, name.len() + 2);
}

/// Writes an unstructured field: as it is where it is ASCII, else as encoded words; folded.
pub(super) fn write_text(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = one_line(value);
    push(out, name);
    push(out, ": ");
    let column = name.len() + 2;
    // What looks like an encoded word is no longer plain text to a reader (RFC 2047, section 7).
    let plain = value.is_ascii() && !value.contains("=?");
    if plain && value.split(' ').all(|word| word.len() < MAX_LINE - column) {
        write_folded(out, column, &value);
    } else {
        write_words(out, column, &value);
    }
    push(out, "\r\n");
}

/// The words of `value`, a line end before the blank that would lead beyond the fold; blanks in a row stay together.
pub(super) fn write_folded(out: &mut Vec<u8>, mut column: usize, value: &str) {
    let mut blanks = 0;
    for (number, word) in value.split(' ').enumerate() {
        blanks += usize::from(number > 0);
        if word.is_empty() {
            continue;
        }
        if blanks > 0 && column + blanks + word.len() > FOLD_AT {
            push(out, "\r\n");
            column = 0;
        }
        push(out, &" ".repeat(blanks));
        push(out, word);
        column += blanks + word.len();
        blanks = 0;
    }
}

/// `value` as encoded words, cut between characters (RFC 2047, section 5).
fn write_words(out: &mut Vec<u8>, column: usize, value: &str) {
    let payload = |room: usize| room.saturating_sub(WORD_START.len() + WORD_END.len()) / 4 * 3;
    let mut room = payload(MAX_ENCODED_LINE.saturating_sub(column)).max(4);
    let mut piece = String::new();
    let mut first = true;
    let mut write = |piece: &mut String| {
        push(out, if std::mem::take(&mut first) { "" } else { "\r\n " });
        push(out, WORD_START);
        push(out, &STANDARD.encode(&*piece));
        push(out, WORD_END);
        piece.clear();
    };
    for letter in value.chars() {
        if piece.len() + letter.len_utf8() > room {
            write(&mut piece);
            room = payload(MAX_WORD);
        }
        piece.push(letter);
    }
    write(&mut piece);
}

/// Writes a line of text quoted-printable, with its line end; soft line breaks as late as they may come.
pub(super) fn write_quoted_printable(out: &mut Vec<u8>, line: &str) {
    let mut tokens: Vec<Token> = line.bytes().map(Token::of).collect();
    // A blank at the end of a line would get lost on the way (RFC 2045, section 6.7, rule 3).
    if let Some(last @ Token::Plain(b' ' | b'\t')) = tokens.last_mut() {
        *last = Token::Quoted(if matches!(last, Token::Plain(b'\t')) { b'\t' } else { b' ' });
    }
    let mut left: usize = tokens.iter().map(Token::len).sum();
    let mut column = 0;
    for token in tokens {
        // A line's last character may stand where a soft line break's `=` would.
        let last = matches!(token, Token::Plain(_)) && left == 1;
        if column + token.len() > MAX_ENCODED_LINE - 1 && !last {
            push(out, "=\r\n");
            column = 0;
        }
        column += token.len();
        left -= token.len();
        token.write_to(out);
    }
    push(out, "\r\n");
}

#[derive(Debug, Clone, Copy)]
enum Token {
    Plain(u8),
    Quoted(u8),
}

impl Token {
    fn of(octet: u8) -> Self {
        match octet {
            b'=' => Self::Quoted(octet),
            b' '..=b'~' | b'\t' => Self::Plain(octet),
            _ => Self::Quoted(octet),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Quoted(_) => 3,
        }
    }

    fn write_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(octet) => out.push(octet),
            Self::Quoted(octet) => push(out, &format!("={octet:02X}")),
        }
    }
}

pub(super) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    fn text(value: &str) -> String {
        let mut out = Vec::new();
        write_text(&mut out, "Subject", value);
        String::from_utf8(out).unwrap()
    }

    fn quoted(line: &str) -> String {
        let mut out = Vec::new();
        write_quoted_printable(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_text_stays_plain_and_is_folded_at_blanks() {
        assert_eq!(text("Quarterly numbers"), "Subject: Quarterly numbers\r\n");
        assert_eq!(text(""), "Subject: \r\n");
        let folded = text(&"seven77 ".repeat(20));
        assert!(folded.lines().count() > 2 && folded.lines().all(|line| line.len() <= 78), "{folded}");
        assert_eq!(folded.replace("\r\n ", " "), format!("Subject: {}\r\n", "seven77 ".repeat(20).trim_end()));
        assert_eq!(text("a  b"), "Subject: a  b\r\n");
    }

    #[test]
    fn what_looks_like_an_encoded_word_is_encoded() {
        assert_eq!(text("=?utf-8?q?a?="), "Subject: =?utf-8?b?PT91dGYtOD9xP2E/PQ==?=\r\n");
    }

    #[test]
    fn a_word_too_long_for_a_line_is_encoded() {
        let written = text(&"x".repeat(2_000));
        assert!(written.lines().all(|line| line.len() <= 76), "{written}");
    }

    #[test]
    fn no_value_ends_its_field() {
        assert_eq!(text("a\r\nBcc: x@y.example"), "Subject: a  Bcc: x@y.example\r\n");
        let mut out = Vec::new();
        write_plain(&mut out, "From", "a\r\nBcc: x");
        assert_eq!(out, b"From: a  Bcc: x\r\n");
    }

    #[test]
    fn a_soft_line_break_comes_as_late_as_it_may() {
        let exact = "x".repeat(76);
        assert_eq!(quoted(&exact), format!("{exact}\r\n"));
        assert_eq!(quoted(&format!("{exact}y")), format!("{}=\r\nxy\r\n", "x".repeat(75)));
        assert_eq!(quoted("a=b é \t"), "a=3Db =C3=A9 =09\r\n");
        assert_eq!(quoted("Subject: "), "Subject:=20\r\n");
        assert_eq!(quoted(&format!("{}é", "x".repeat(70))), format!("{}=C3=\r\n=A9\r\n", "x".repeat(70)));
    }

    proptest! {
        #[test]
        fn a_reader_gets_the_value_back(value in "\\PC{0,200}") {
            let value = one_line(&value);
            let written = text(&value);
            for line in written.trim_end_matches("\r\n").split("\r\n") {
                prop_assert!(line.len() <= MAX_LINE && line.is_ascii());
            }
            prop_assert_eq!(super::super::text::decoded_line(&written.as_bytes()["Subject:".len()..]), value.clone());
            if !value.is_empty() && !value.contains("  ") {
                let message = format!("{written}\r\n");
                let parsed = MessageParser::new().parse_headers(message.as_bytes()).unwrap();
                prop_assert_eq!(parsed.subject(), Some(&*value));
            }
        }

        #[test]
        fn quoted_printable_lines_are_short_and_decode(value in "\\PC{0,200}") {
            let written = quoted(&value);
            for line in written.split("\r\n") {
                prop_assert!(line.len() <= 76 && !line.ends_with([' ', '\t']));
            }
            let joined = written.replace("=\r\n", "");
            let mut octets = Vec::new();
            let mut letters = joined.trim_end_matches("\r\n").bytes();
            while let Some(octet) = letters.next() {
                octets.push(if octet == b'=' {
                    let hex = [letters.next().unwrap(), letters.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                } else {
                    octet
                });
            }
            prop_assert_eq!(octets, value.as_bytes());
        }
    }
}
