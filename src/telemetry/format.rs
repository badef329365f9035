//! A line's octets: JSON (RFC 8259) for machines, text for people.

use super::value::{Line, Value};
use crate::mail::Timestamp;
use std::fmt::Write;
use tracing::Level;

/// Octets that hardly any line has more of.
const ROOM: usize = 1024;

/// One JSON object and a line feed.
pub(super) fn json(line: &Line, now: Timestamp) -> Vec<u8> {
    let mut text = String::with_capacity(ROOM);
    text.push_str("{\"timestamp\":");
    quote(&mut text, &now.rfc3339());
    text.push_str(",\"level\":");
    quote(&mut text, level(line.level));
    text.push_str(",\"event\":");
    quote(&mut text, &line.event);
    text.push_str(",\"message\":");
    quote(&mut text, &line.message);
    for (name, value) in &line.fields {
        text.push(',');
        quote(&mut text, name);
        text.push(':');
        put_json(&mut text, value);
    }
    text.push_str("}\n");
    text.into_bytes()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// `2026-11-10T10:00:00.123Z INFO record.acked reply="250 2.0.0 Ok" attempts=1 message="the archive took the record"`
pub(super) fn text(line: &Line, now: Timestamp) -> Vec<u8> {
    let mut text = format!("{} {} {}", now.rfc3339(), line.level.as_str(), words(line));
    text.push('\n');
    text.into_bytes()
}

/// The same without time and level.
pub(super) fn words(line: &Line) -> String {
    let mut text = String::new();
    put_word(&mut text, &line.event);
    for (name, value) in &line.fields {
        let _ = write!(text, " {name}=");
        put_word(&mut text, &value.to_string());
    }
    if !line.message.is_empty() {
        text.push_str(" message=");
        put_word(&mut text, &line.message);
    }
    text
}

fn put_json(text: &mut String, value: &Value) {
    match value {
        Value::Text(plain) => quote(text, plain),
        Value::Number(number) => text.push_str(number),
        Value::Flag(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::List(items) => {
            text.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                quote(text, item);
            }
            text.push(']');
        }
    }
}

/// The text as it is where it can't be mistaken for anything else, else quoted.
fn put_word(text: &mut String, word: &str) {
    let ambiguous = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\\' | '=') || must_escape(letter);
    if word.is_empty() || word.contains(ambiguous) { quote(text, word) } else { text.push_str(word) }
}

/// A JSON string. More is escaped than RFC 8259, section 7, asks for: whatever ends a line somewhere, moves a terminal's
/// cursor or turns the direction of reading.
fn quote(text: &mut String, plain: &str) {
    text.push('"');
    // Nearly every text is one that needs no look at its letters. No early way out of the look at its octets, so that the
    // compiler makes vector instructions of it.
    let is_plain = |octet: u8| matches!(octet, b' '..=b'~') & (octet != b'"') & (octet != b'\\');
    if plain.bytes().fold(true, |all, octet| all & is_plain(octet)) {
        text.push_str(plain);
        text.push('"');
        return;
    }
    for letter in plain.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            _ if must_escape(letter) => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text.push('"');
}

/// All of these are in the basic plane: four hex digits do.
fn must_escape(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Timestamp = Timestamp::from_millis(1_794_304_800_120);

    fn line(fields: Vec<(&'static str, Value)>) -> Line {
        Line { level: Level::INFO, event: "message.accepted".into(), message: "the next hop took it".into(), fields }
    }

    fn written(octets: Vec<u8>) -> String {
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn a_json_line_has_the_contract_s_keys_first_and_types_of_their_own() {
        let fields = vec![
            ("sender", Value::Text("a@example.org".into())),
            ("recipients", Value::List(vec!["b@example.org".into(), "\"c d\"@example.org".into()])),
            ("size", Value::Number("1234".into())),
            ("tls", Value::Flag(false)),
        ];
        assert_eq!(
            written(json(&line(fields), NOON)),
            "{\"timestamp\":\"2026-11-10T10:00:00.120Z\",\"level\":\"info\",\"event\":\"message.accepted\",\
             \"message\":\"the next hop took it\",\"sender\":\"a@example.org\",\
             \"recipients\":[\"b@example.org\",\"\\\"c d\\\"@example.org\"],\"size\":1234,\"tls\":false}\n"
        );
    }

    #[test]
    fn a_text_line_quotes_what_could_be_mistaken() {
        let fields = vec![
            ("sender", Value::Text(String::new())),
            ("recipients", Value::List(vec!["b@example.org".into(), "c@example.org".into()])),
            ("reply", Value::Text("250 ok\nsender=x \u{1b}[2J".into())),
            ("next_hop", Value::Text("smtp://127.0.0.1:25".into())),
            ("size", Value::Number("1234".into())),
        ];
        assert_eq!(
            written(text(&line(fields), NOON)),
            "2026-11-10T10:00:00.120Z INFO message.accepted sender=\"\" recipients=b@example.org,c@example.org \
             reply=\"250 ok\\nsender=x \\u001b[2J\" next_hop=smtp://127.0.0.1:25 size=1234 \
             message=\"the next hop took it\"\n"
        );
    }

    #[test]
    fn a_moment_has_three_digits_behind_the_second() {
        for (millis, end) in [(0, "00.000Z"), (7, "00.007Z"), (120, "00.120Z"), (123, "00.123Z")] {
            let text = Timestamp::from_millis(1_794_304_800_000 + millis).rfc3339();
            assert!(text.ends_with(end), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_text_comes_back_from_its_json_line(value in any::<String>(), message in any::<String>()) {
            let line = Line { message: message.clone(), ..line(vec![("reply", Value::Text(value.clone()))]) };
            let octets = json(&line, NOON);
            let read: serde_json::Value = serde_json::from_slice(&octets).unwrap();
            prop_assert_eq!(read.as_object().unwrap().len(), 5);
            prop_assert_eq!(read["reply"].as_str().unwrap(), value);
            prop_assert_eq!(read["message"].as_str().unwrap(), message);
        }

        #[test]
        fn no_text_breaks_its_line_or_makes_a_field(value in any::<String>(), event in any::<String>()) {
            let line = Line { event, ..line(vec![("reply", Value::Text(value)), ("size", Value::Number("1".into()))]) };
            for octets in [json(&line, NOON), text(&line, NOON)] {
                let written = written(octets);
                let body = written.strip_suffix('\n').unwrap();
                prop_assert!(!body.contains(must_escape), "{}", body);
            }
            let text = written(text(&line, NOON));
            // Outside quotes there are as many equals signs as there are fields.
            let mut inside = false;
            let mut letters = text.chars();
            let mut equals = 0;
            while let Some(letter) = letters.next() {
                match letter {
                    '"' => inside = !inside,
                    '\\' if inside => { letters.next(); }
                    '=' if !inside => equals += 1,
                    _ => {}
                }
            }
            prop_assert_eq!((equals, inside), (3, false));
        }
    }
}
