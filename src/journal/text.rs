//! Text of header fields made readable and harmless: unfolded, decoded, on one line.
//!
//! Promises: whatever the octets, the result holds no control character and no line or paragraph separator, so it can't
//! end a line of the envelope part or of a header; the cost is linear in the octets, hostile ones included. Carries out
//! RFC 5322, section 2.2.3 (unfolding) and RFC 2047, section 6 (decoding).
//!
//! Leaves to mail-parser what an encoded word says: its two encodings and all the charsets. Finding the words is done
//! here, for mail-parser looks for the end of each through the rest of the field, which a crafted megabyte turns into
//! minutes, and decodes word by word, which loses a character that was cut in two.

use mail_parser::parsers::MessageStream;
use std::borrow::Cow;

/// Octets of a charset's name with its language tag (RFC 2231, section 5). What is longer is no encoded word.
const MAX_CHARSET: usize = 60;

/// The text of an unstructured field, decoded, on one line, without blanks at its ends.
pub(super) fn decoded_line(value: &[u8]) -> String {
    one_line(&decode_words(&unfold(&characters(without_line_end(value))))).into_owned()
}

/// `text` with every control character and every line or paragraph separator made a space, without blanks at its ends.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    // Nearly every text is one that needs no look at its letters.
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) || !text.contains(breaks_line) {
        return Cow::Borrowed(text.trim_matches(' '));
    }
    let spaced: String = text.chars().map(|letter| if breaks_line(letter) { ' ' } else { letter }).collect();
    Cow::Owned(spaced.trim_matches(' ').to_owned())
}

/// A field's value without the line end behind it, which would be a blank at its end.
pub(super) fn without_line_end(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\n").map_or(value, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// C0 and C1 controls and DEL, U+2028 and U+2029.
fn breaks_line(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Raw octets as text: UTF-8 where they are UTF-8 (RFC 6532), else Latin-1, in which every octet is a character.
pub(super) fn characters(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.iter().map(|octet| char::from(*octet)).collect()),
    }
}

/// Takes away every line end that a blank follows.
pub(super) fn unfold(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let mut unfolded = String::with_capacity(text.len());
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        match lines.peek() {
            Some(next) if next.starts_with([' ', '\t']) => unfolded.push_str(line.strip_suffix('\r').unwrap_or(line)),
            Some(_) => {
                unfolded.push_str(line);
                unfolded.push('\n');
            }
            None => unfolded.push_str(line),
        }
    }
    Cow::Owned(unfolded)
}

/// An encoded word (RFC 2047, section 2) at the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncodedWord<'a> {
    charset: &'a str,
    encoding: char,
    data: &'a str,
    /// What comes behind it.
    pub(super) rest: &'a str,
}

impl<'a> EncodedWord<'a> {
    /// Reads the word that `text` starts with. Spaces in it, and more than 75 characters, are against the RFC and common.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
        if charset.is_empty() || charset.len() > MAX_CHARSET || !charset.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut letters = rest.chars();
        let encoding = letters.next().filter(|letter| matches!(letter, 'b' | 'B' | 'q' | 'Q'))?;
        let content = letters.as_str().strip_prefix('?')?;
        let mut before = '?';
        for (place, letter) in content.char_indices() {
            if letter == '?' {
                let (data, end) = content.split_at_checked(place)?;
                if let Some(rest) = end.strip_prefix("?=") {
                    return Some(Self { charset, encoding: encoding.to_ascii_lowercase(), data, rest });
                }
                // Another word begins before this one has ended. To look further would cost the square of the length.
                if before == '=' {
                    return None;
                }
            }
            before = letter;
        }
        None
    }

    /// What `data` says in this word's encoding and charset; none when it isn't in it.
    fn decode(&self, data: &str) -> Option<String> {
        let word = format!("?{}?{}?{data}?=", self.charset, self.encoding);
        MessageStream::new(word.as_bytes()).decode_rfc2047()
    }

    fn continues(&self, other: &Self) -> bool {
        self.encoding == other.encoding && self.charset.eq_ignore_ascii_case(other.charset)
    }
}

/// Words of one charset and encoding with nothing but blanks between them. Each should be a text of its own (RFC 2047,
/// section 5); a careless sender may have cut one text within a character.
struct Run<'a> {
    word: EncodedWord<'a>,
    /// The data of all the words.
    data: String,
    /// What each says by itself; none when one of them says nothing.
    apart: Option<String>,
    /// The text that the first word starts.
    source: &'a str,
}

impl<'a> Run<'a> {
    fn start(word: EncodedWord<'a>, source: &'a str) -> Self {
        Self { word, data: word.data.to_owned(), apart: word.decode(word.data), source }
    }

    fn add(mut self, word: EncodedWord<'a>) -> Self {
        self.data.push_str(word.data);
        self.apart = self.apart.zip(word.decode(word.data)).map(|(before, text)| before + &text);
        self.word.rest = word.rest;
        self
    }

    fn write_to(self, decoded: &mut String) {
        match self.apart {
            // Together where that heals a character: ISO-2022-JP, for one, is broken by it.
            Some(apart) if broken(&apart) > 0 => {
                let together = self.word.decode(&self.data).filter(|text| broken(text) < broken(&apart));
                decoded.push_str(&together.unwrap_or(apart));
            }
            Some(apart) => decoded.push_str(&apart),
            // Not what it seemed to be: it stands for itself (RFC 2047, section 6.3).
            None => {
                let length = self.source.len().saturating_sub(self.word.rest.len());
                decoded.push_str(self.source.get(..length).unwrap_or_default());
            }
        }
    }
}

/// How many characters could not be decoded.
fn broken(text: &str) -> usize {
    text.matches(char::REPLACEMENT_CHARACTER).count()
}

/// The text with its encoded words decoded. Blanks between two of them are no part of the text (RFC 2047, section 6.2).
fn decode_words(text: &str) -> Cow<'_, str> {
    if !text.contains("=?") {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    let mut run: Option<Run<'_>> = None;
    while let Some(place) = rest.find("=?") {
        let Some((before, from)) = rest.split_at_checked(place) else { break };
        let word = EncodedWord::read(from);
        let blank = before.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        run = match (run.take(), word) {
            (Some(run), Some(word)) if blank && run.word.continues(&word) => Some(run.add(word)),
            (earlier, word) => {
                let follows_word = earlier.is_some();
                if let Some(earlier) = earlier {
                    earlier.write_to(&mut decoded);
                }
                if !(blank && follows_word && word.is_some()) {
                    decoded.push_str(before);
                }
                word.map(|word| Run::start(word, from))
            }
        };
        rest = match word {
            Some(word) => word.rest,
            None => {
                decoded.push_str("=?");
                from.strip_prefix("=?").unwrap_or_default()
            }
        };
    }
    if let Some(run) = run {
        run.write_to(&mut decoded);
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoded_words_are_decoded_and_joined() {
        let cases = [
            ("=?utf-8?B?R3LDvMOfZSBhdXMgS8O2bG4g4oCTIOaXpeacrOiqng==?=", "Grüße aus Köln – 日本語"),
            ("Re: =?iso-8859-1?q?caf=E9_noir?= please", "Re: café noir please"),
            ("=?utf-8?q?a?= =?utf-8?q?b?=\r\n =?utf-8?b?Yw==?=", "abc"),
            ("=?utf-8?q?a?= and =?utf-8?q?b?=", "a and b"),
            ("=?utf-8?q?=E6=97?= =?UTF-8?Q?=A5?=", "日"),
            ("=?utf-8?b?5pc=?= =?utf-8?b?pQ==?=", "日"),
            ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
            ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=\r\n =?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本日本"),
            ("=?gb2312?B?xOO6ww==?=", "你好"),
            ("=?shift_jis*ja?B?k/qWew==?=", "日本"),
            ("=?utf-8?q?with space inside?=", "with space inside"),
            ("=?x-unknown?q?a=E9?=", "a\u{FFFD}"),
        ];
        for (raw, text) in cases {
            assert_eq!(decoded_line(raw.as_bytes()), text, "{raw}");
        }
    }

    #[test]
    fn what_only_looks_like_an_encoded_word_stands_for_itself() {
        for text in
            ["=?utf-8?x?a?=", "=?utf-8?b?!!!?=", "a =? b ?= c", "=??q?a?=", "=?utf-8?q?a", "=?utf-8?q?a=?", "=?="]
        {
            assert_eq!(decoded_line(text.as_bytes()), text);
        }
        assert_eq!(decoded_line(b"=?utf-8?q?open =?utf-8?q?closed?="), "=?utf-8?q?open closed");
    }

    #[test]
    fn no_line_break_survives_decoding() {
        let raw = b"=?utf-8?q?Hi=0D=0ABcc:_x=E2=80=A8y=C2=85z=00?= =?utf-16?b?/v8gKQBB?=";
        assert_eq!(decoded_line(raw), "Hi  Bcc: x y z  A");
    }

    #[test]
    fn a_folded_text_is_unfolded_and_loses_its_outer_blanks() {
        assert_eq!(decoded_line(b" Quarterly\r\n numbers\r\n\tand more \r\n"), "Quarterly numbers and more");
        assert_eq!(decoded_line(b"  two  spaces"), "two  spaces");
    }

    #[test]
    fn raw_octets_are_utf_8_or_else_latin_1() {
        assert_eq!(decoded_line("Grüße".as_bytes()), "Grüße");
        assert_eq!(decoded_line(b"Gr\xfc\xdfe"), "Grüße");
        assert_eq!(decoded_line(b"a\x85b"), "a b");
    }

    #[test]
    fn a_megabyte_of_words_that_never_end_is_read_in_one_pass() {
        // Each of these would be searched for its end through the whole rest, were the search not bounded; the test
        // would then take minutes.
        for piece in ["=?ab?q?z", " =?ab?q?z", "=?a?b?!", "=?", "?=", "=?u?q?=ZZ?="] {
            let raw = piece.repeat(1024 * 1024 / piece.len());
            assert!(decoded_line(raw.as_bytes()).len() <= raw.len());
        }
    }

    proptest! {
        #[test]
        fn any_octets_give_one_line(value in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!decoded_line(&value).contains(breaks_line));
        }

        #[test]
        fn any_encoded_word_gives_one_line(
            charset in prop::sample::select(vec![
                "utf-8", "utf-7", "utf-16", "utf-16le", "iso-2022-jp", "gb18030", "shift_jis", "big5", "euc-kr", "latin1", "x",
            ]),
            data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let q: String = data.iter().map(|octet| format!("={octet:02X}")).collect();
            let raw = format!("=?{charset}?q?{q}?= =?{charset}?q?{q}?=");
            prop_assert!(!decoded_line(raw.as_bytes()).contains(breaks_line));
        }
    }
}
