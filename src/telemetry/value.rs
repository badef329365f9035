//! An event as data: its fields taken out of `tracing`, and what a line may hold of them.

use super::{LIBRARY, is_ours};
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Octets of a string; the rest is cut and marked. journald splits lines of 48 KiB.
const MAX_STRING: usize = 8 * 1024;
/// Octets of all strings of a list; further ones are counted.
const MAX_LIST: usize = 32 * 1024;

/// Octets that a new text has room for, so that hardly any grows.
const MIN_TEXT: usize = 64;
/// Octets of a text that is kept for the next line, and how many such texts a thread keeps.
const MAX_SPARE_TEXT: usize = 1024;
const MAX_SPARE_TEXTS: usize = 32;

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Flag(bool),
    /// A number in its decimal form, as JSON has it.
    Number(String),
}

/// One line to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) event: String,
    pub(super) message: String,
    /// Names differ from each other and from the names of what stands above.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// Memory of lines that are written, for the next ones.
#[derive(Debug, Default)]
pub(super) struct Spare {
    texts: Vec<String>,
    fields: Vec<(&'static str, Value)>,
}

impl Spare {
    /// An empty text.
    fn text(&mut self) -> String {
        self.texts.pop().unwrap_or_else(|| String::with_capacity(MIN_TEXT))
    }

    fn keep(&mut self, mut text: String) {
        if text.capacity() <= MAX_SPARE_TEXT && self.texts.len() < MAX_SPARE_TEXTS {
            text.clear();
            self.texts.push(text);
        }
    }

    /// Takes the memory of a line that nobody needs any more.
    pub(super) fn take_back(&mut self, line: Line) {
        let Line { level: _, event, message, mut fields } = line;
        self.keep(event);
        self.keep(message);
        for (_, value) in fields.drain(..) {
            match value {
                Value::Text(text) | Value::Number(text) => self.keep(text),
                Value::List(_) | Value::Flag(_) => {}
            }
        }
        self.fields = fields;
    }
}

impl Line {
    /// What `event` says.
    pub(super) fn of(event: &Event<'_>) -> Self {
        Self::within(event, &mut Spare::default())
    }

    /// The same, in memory of earlier lines.
    pub(super) fn within(event: &Event<'_>, spare: &mut Spare) -> Self {
        let metadata = event.metadata();
        let fields = std::mem::take(&mut spare.fields);
        let line = Self { level: *metadata.level(), event: String::new(), message: String::new(), fields };
        let mut reader = Reader { line, spare };
        event.record(&mut reader);
        let mut line = reader.line;
        if line.event.is_empty() || !is_ours(metadata.target()) {
            LIBRARY.clone_into(&mut line.event);
            line.put("target", Value::Text(metadata.target().to_owned()));
        }
        line
    }

    /// Cuts what is too long; comes after the redaction, which would not know half an address.
    pub(super) fn bound(&mut self) {
        cut(&mut self.message);
        for (_, value) in &mut self.fields {
            match value {
                Value::Text(text) => cut(text),
                Value::List(items) => cut_list(items),
                Value::Flag(_) | Value::Number(_) => {}
            }
        }
    }

    fn put(&mut self, name: &'static str, value: Value) {
        match (name.strip_prefix("r#").unwrap_or(name), value) {
            ("message", Value::Text(text)) => self.message = text,
            ("event", Value::Text(text)) => self.event = text,
            // No field of ours is called so; a library's must not stand for what the line itself says.
            ("timestamp" | "level" | "message" | "event", _) => {}
            (name, value) => match self.fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.fields.push((name, value)),
            },
        }
    }
}

/// Reads an event's fields.
struct Reader<'a> {
    line: Line,
    spare: &'a mut Spare,
}

impl Reader<'_> {
    /// `value` as it shows itself.
    fn text_of(&mut self, value: fmt::Arguments<'_>) -> String {
        let mut text = self.spare.text();
        // Writing into memory does not fail.
        let _ = text.write_fmt(value);
        text
    }

    fn put_number(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let number = self.text_of(value);
        self.line.put(field.name(), Value::Number(number));
    }
}

impl Visit for Reader<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers.
        let value = if value.is_finite() { Value::Number(value.to_string()) } else { Value::Text(value.to_string()) };
        self.line.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put_number(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put_number(field, format_args!("{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put_number(field, format_args!("{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put_number(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.line.put(field.name(), Value::Flag(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = self.spare.text();
        text.push_str(value);
        self.line.put(field.name(), Value::Text(text));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let (Some(error), true) = (source, text.len() < MAX_STRING) {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        self.line.put(field.name(), Value::Text(text));
    }

    /// What was recorded with `?` or `%`: the two can't be told apart but by how they take a format's flags.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let plain = self.text_of(format_args!("{value:?}"));
        if is_none(&plain, value) {
            return self.spare.keep(plain);
        }
        match list(&plain, value) {
            Some(list) => {
                self.spare.keep(plain);
                self.line.put(field.name(), list);
            }
            None => self.line.put(field.name(), Value::Text(plain)),
        }
    }
}

/// Whether `value` is `Option::None`, and not a string of that name, which would be padded.
fn is_none(plain: &str, value: &dyn Debug) -> bool {
    plain == "None" && format!("{value:8?}") == "None"
}

/// The strings of a Debug list, and not of a string that looks like one, which has no long form.
fn list(plain: &str, value: &dyn Debug) -> Option<Value> {
    if plain == "[]" && format!("{value:8?}") == "[]" {
        return Some(Value::List(Vec::new()));
    }
    if !plain.starts_with("[\"") || has_no_long_form(plain, value) {
        return None;
    }
    let mut rest = plain.strip_prefix('[')?;
    let mut items = Vec::new();
    loop {
        let (item, behind) = quoted(rest)?;
        items.push(item);
        match behind.strip_prefix(", ") {
            Some(next) => rest = next,
            None if behind == "]" => return Some(Value::List(items)),
            None => return None,
        }
    }
}

/// Whether the long form of `value` is `plain`, too; it is written no further than to where they differ.
fn has_no_long_form(plain: &str, value: &dyn Debug) -> bool {
    struct Rest<'a>(&'a str);
    impl Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(plain);
    write!(rest, "{value:#?}").is_ok() && rest.0.is_empty()
}

/// A string as `str`'s Debug writes it, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let end = memchr::memchr2(b'"', b'\\', text.as_bytes())?;
    let (plain, rest) = text.split_at_checked(end)?;
    if let Some(behind) = rest.strip_prefix('"') {
        return Some((plain.to_owned(), behind));
    }
    let (mut plain, mut letters) = (plain.to_owned(), rest.chars());
    loop {
        match letters.next()? {
            '"' => return Some((plain, letters.as_str())),
            '\\' => plain.push(match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (code, rest) = letters.as_str().strip_prefix('{')?.split_once('}')?;
                    letters = rest.chars();
                    char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                }
                other => other,
            }),
            letter => plain.push(letter),
        }
    }
}

fn cut(text: &mut String) {
    if text.len() > MAX_STRING {
        text.truncate(text.floor_char_boundary(MAX_STRING));
        text.push('…');
    }
}

fn cut_list(items: &mut Vec<String>) {
    items.iter_mut().for_each(cut);
    let mut octets = 0_usize;
    let fits = |item: &&String| {
        octets = octets.saturating_add(item.len());
        octets <= MAX_LIST
    };
    let kept = items.iter().take_while(fits).count();
    let more = items.len() - kept;
    if more > 0 {
        items.truncate(kept);
        items.push(format!("… {more} more"));
    }
}

impl fmt::Display for Value {
    /// Without quotes and escapes; a list's items stand behind commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Number(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
            Self::Flag(flag) => fmt::Display::fmt(flag, f),
        }
    }
}
