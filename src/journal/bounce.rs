//! A delivery status notification about a record, as far as it can be understood: what it says, and which record it means.
//!
//! Promises: one pass over the octets, whatever their shape: nothing is decoded and no tree of parts is built, so a message
//! of many or deeply nested parts costs what its octets cost. Reads RFC 3464's fields (Postfix, Exchange, Gmail and today's
//! Exim write them) and the plain texts of older servers, which append the message; in both the header that is returned
//! names the record.
//!
//! Leaves to others: whether there is such a record. Its id (in `X-Journal-Record`) and the UUID of its boundary are drawn by
//! chance and known to those alone who got the record. Its Message-ID is not: whoever wrote the original could compute it.

use super::header::{field_end, fields};
use super::header_lines::field_name;
use super::mac::RECORD_FIELD;
use super::text::{decoded_line, one_line};
use crate::mail::RecordId;
use std::ops::Range;
use uuid::Uuid;

/// Octets of what a bounce says that are kept.
pub const MAX_DIAGNOSTIC: usize = 500;
/// Octets of a message/delivery-status part that are read.
const MAX_STATUS: usize = 64 * 1024;
/// What ends a record's Message-ID.
const MESSAGE_ID_END: &str = "@journal.report.generator>";

/// What a notification says of the message it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was not delivered, and will not be.
    Failed,
    /// It was not delivered yet.
    Delayed,
    /// It was delivered, relayed or expanded.
    Passed,
}

impl Action {
    /// The word in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Passed => "passed",
        }
    }
}

/// A notification about a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounce {
    /// What it says.
    pub action: Action,
    /// Why, in the words of the server, on one line of at most [`MAX_DIAGNOSTIC`] octets.
    pub diagnostic: String,
    /// The record's id.
    pub record: Option<RecordId>,
    /// The UUID in the record's Message-ID.
    pub message_uuid: Option<Uuid>,
    /// The UUID in the record's boundary.
    pub boundary: Option<Uuid>,
    /// Where the original's octets are, when the record came back with them.
    pub original: Option<Range<usize>>,
}

impl Bounce {
    /// Reads a message; none when it is no notification of a delivery, or names no record.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let end = memchr::memmem::find(octets, b"\r\n\r\n").map_or(octets.len(), |end| end + 2);
        let (header, body) = octets.split_at_checked(end)?;
        let kind = value_of(header, "Content-Type").unwrap_or_default().to_ascii_lowercase();
        if kind.contains("disposition-notification") {
            return None;
        }
        let seen = Seen::look(body);
        if seen.record.is_none() && seen.message_uuid.is_none() {
            return None;
        }
        let status = Status::read(&seen.status);
        let action = status.action.unwrap_or_else(|| action_of_text(header));
        let said = status.diagnostic.or(seen.said).or(status.status);
        let mut diagnostic = one_line(said.unwrap_or_default().trim()).into_owned();
        diagnostic.truncate(diagnostic.floor_char_boundary(MAX_DIAGNOSTIC));
        if diagnostic.is_empty() {
            diagnostic = "no reason was given".to_owned();
        }
        let original = seen.boundary.and_then(|boundary| original(octets, boundary));
        Some(Self {
            action,
            diagnostic,
            record: seen.record,
            message_uuid: seen.message_uuid,
            boundary: seen.boundary,
            original,
        })
    }
}

/// What the lines of a body tell.
#[derive(Debug, Default)]
struct Seen {
    record: Option<RecordId>,
    message_uuid: Option<Uuid>,
    boundary: Option<Uuid>,
    /// The content of the first message/delivery-status part.
    status: Vec<u8>,
    /// The first line with a reply code, before the message that is returned.
    said: Option<String>,
}

/// Where a line stands, seen from the message/delivery-status part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    ItsHeader,
    Within,
    Behind,
}

impl Seen {
    fn look(body: &[u8]) -> Self {
        let mut seen = Self::default();
        let mut place = Place::Before;
        for line in body.split(|octet| *octet == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            place = seen.follow(place, line);
            seen.take(line);
        }
        seen
    }

    fn follow(&mut self, place: Place, line: &[u8]) -> Place {
        match place {
            Place::Before => {
                let is_part = value(line, "Content-Type").is_some_and(|kind| {
                    let kind = kind.trim().to_ascii_lowercase();
                    kind.starts_with("message/delivery-status") || kind.starts_with("message/global-delivery-status")
                });
                if is_part { Place::ItsHeader } else { Place::Before }
            }
            Place::ItsHeader if line.is_empty() => Place::Within,
            Place::Within if line.starts_with(b"--") => Place::Behind,
            Place::Within => {
                if self.status.len() + line.len() < MAX_STATUS {
                    self.status.extend_from_slice(line);
                    self.status.extend_from_slice(b"\r\n");
                }
                place
            }
            Place::ItsHeader | Place::Behind => place,
        }
    }

    /// The first of each counts: the header of the message that is returned stands before its content.
    fn take(&mut self, line: &[u8]) {
        if self.record.is_none()
            && let Some(id) = value(line, RECORD_FIELD)
        {
            self.record = id.trim().parse().ok();
        }
        if self.message_uuid.is_none()
            && let Some(id) = value(line, "Message-ID")
        {
            let uuid = id.trim().strip_prefix('<').and_then(|id| id.strip_suffix(MESSAGE_ID_END));
            self.message_uuid = uuid.and_then(|uuid| uuid.parse().ok());
        }
        if self.boundary.is_none()
            && let Some(place) = memchr::memmem::find(line, b"boundary=\"_")
        {
            let uuid = line.get(place + 11..place + 47).and_then(|uuid| std::str::from_utf8(uuid).ok());
            let ends = line.get(place + 47..).is_some_and(|rest| rest.starts_with(b"_\""));
            self.boundary = uuid.filter(|_| ends).and_then(|uuid| uuid.parse().ok());
        }
        if self.said.is_none() && self.record.is_none() && has_reply_code(line) {
            let line = line.get(..line.len().min(MAX_DIAGNOSTIC)).unwrap_or_default();
            self.said = Some(String::from_utf8_lossy(line).trim().to_owned());
        }
    }
}

/// What message/delivery-status says, all recipients together: a record has one.
#[derive(Debug, Default)]
struct Status {
    action: Option<Action>,
    diagnostic: Option<String>,
    status: Option<String>,
}

impl Status {
    fn read(octets: &[u8]) -> Self {
        let mut read = Self::default();
        let mut rest = octets;
        while !rest.is_empty() {
            let (field, behind) = rest.split_at_checked(field_end(rest)).unwrap_or((rest, &[]));
            rest = behind;
            let Some(name) = field_name(field) else { continue };
            let value = field.iter().position(|octet| *octet == b':').and_then(|colon| field.get(colon + 1..));
            let value = decoded_line(value.unwrap_or_default());
            if name.eq_ignore_ascii_case(b"Action") {
                read.add(&value);
            } else if name.eq_ignore_ascii_case(b"Status") {
                read.status.get_or_insert(value);
            } else if name.eq_ignore_ascii_case(b"Diagnostic-Code") {
                // RFC 3464, section 2.3.6: the type stands before the words.
                let words = value.split_once(';').map_or(value.as_str(), |(_, words)| words).trim().to_owned();
                read.diagnostic.get_or_insert(words);
            }
        }
        if read.action.is_none() {
            let class = read.status.as_deref().and_then(|status| status.trim().chars().next());
            read.action = class.map(|class| if class == '2' { Action::Passed } else { Action::Failed });
        }
        read
    }

    /// One recipient that failed is enough.
    fn add(&mut self, word: &str) {
        let action = match word.trim().to_ascii_lowercase().as_str() {
            "failed" => Action::Failed,
            "delayed" => Action::Delayed,
            "delivered" | "relayed" | "expanded" => Action::Passed,
            _ => return,
        };
        self.action = match (self.action, action) {
            (Some(Action::Failed), _) | (_, Action::Failed) => Some(Action::Failed),
            (Some(Action::Delayed), _) | (_, Action::Delayed) => Some(Action::Delayed),
            _ => Some(Action::Passed),
        };
    }
}

/// What a text of an older server means: a failure, unless its subject warns of a delay.
fn action_of_text(header: &[u8]) -> Action {
    let subject = value_of(header, "Subject").unwrap_or_default().to_ascii_lowercase();
    let failed = value_of(header, "X-Failed-Recipients").is_some();
    if !failed && (subject.starts_with("warning") || subject.contains("delay")) {
        Action::Delayed
    } else {
        Action::Failed
    }
}

/// The original between the second delimiter's part header and the last closing delimiter.
fn original(octets: &[u8], boundary: Uuid) -> Option<Range<usize>> {
    let delimiter = format!("\r\n--_{boundary}_\r\n");
    let mut delimiters = memchr::memmem::find_iter(octets, delimiter.as_bytes());
    let second = delimiters.nth(1)? + delimiter.len();
    let start = second + memchr::memmem::find(octets.get(second..)?, b"\r\n\r\n")? + 4;
    let end = memchr::memmem::rfind(octets, format!("\r\n--_{boundary}_--").as_bytes())?;
    (start <= end).then_some(start..end)
}

/// The value of the field that this line begins, when it has that name.
fn value<'l>(line: &'l [u8], name: &str) -> Option<&'l str> {
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name.as_bytes()))?;
    std::str::from_utf8(value).ok()
}

fn value_of(header: &[u8], name: &str) -> Option<String> {
    let (_, value) = fields(header).find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(decoded_line(value))
}

/// Whether a word of the line is the code of a refusal.
fn has_reply_code(line: &[u8]) -> bool {
    let is_code = |word: &[u8]| matches!(word, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9']);
    line.split(|octet| matches!(octet, b' ' | b'\t' | b'-')).any(is_code)
}

#[cfg(test)]
#[path = "bounce_tests.rs"]
mod tests;
