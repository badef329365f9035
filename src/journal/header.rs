//! What an original's header says that its record needs: subject, Message-ID, who wrote, who is named as a recipient.
//!
//! Promises: never fails, whatever the octets; looks at the header alone, each field once; every text is on one line.
//! A line that is no field (an mbox `From `, a body without a header) is passed over with its continuation. Of fields that
//! may stand once (RFC 5322, section 3.6) the first that says something counts, of recipients all.

use super::header_lines::field_name;
use super::mailboxes::Mailboxes;
use super::text::{characters, decoded_line, one_line, unfold, without_line_end};
use crate::mail::Address;

/// The facts; all of them empty for a message without a header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderFacts {
    /// The decoded subject on one line; none without the field.
    pub subject: Option<String>,
    /// The Message-ID on one line, with its brackets as they were; none without the field or when it is empty.
    pub message_id: Option<String>,
    /// The first mailbox of From.
    pub from: Option<String>,
    /// The mailbox of Sender.
    pub sender: Option<String>,
    /// The addresses in To and Resent-To, members of groups among them.
    pub to: Vec<Address>,
    /// The addresses in Cc and Resent-Cc.
    pub cc: Vec<Address>,
    /// Whether the header tells of recipients at all: an address in To, Cc or Bcc, an empty group, or an empty Bcc.
    pub names_recipients: bool,
    /// Whether there is a Bcc or Resent-Bcc.
    pub has_bcc: bool,
    /// List mail: a List-Id, or `Precedence: list`.
    pub list_mail: bool,
}

/// Octets of the subject that a record repeats; the whole of it is in the original. Without an end a sender could make a
/// record that archives refuse for its size.
pub const MAX_SUBJECT: usize = 256 * 1024;

/// The first [`MAX_SUBJECT`] octets, whole characters alone, and `…` where something is left out.
fn cut(mut subject: String) -> String {
    if subject.len() > MAX_SUBJECT {
        subject.truncate(subject.floor_char_boundary(MAX_SUBJECT));
        subject.push('…');
    }
    subject
}

impl HeaderFacts {
    /// Reads a header block, as [`Observation::header`](super::Observation::header) is one.
    pub fn read(header: &[u8]) -> Self {
        let mut facts = Self::default();
        for (name, value) in fields(header) {
            facts.take(name, value);
        }
        facts
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("Subject") {
            self.subject.get_or_insert_with(|| cut(decoded_line(value)));
        } else if is("Message-ID") {
            keep_first(&mut self.message_id, || Some(decoded_line(value)).filter(|id| !id.is_empty()));
        } else if is("From") {
            keep_first(&mut self.from, || author(value));
        } else if is("Sender") {
            keep_first(&mut self.sender, || author(value));
        } else if is("To") || is("Resent-To") {
            let named = self.recipients(value);
            self.to.extend(addresses(named));
        } else if is("Cc") || is("Resent-Cc") {
            let named = self.recipients(value);
            self.cc.extend(addresses(named));
        } else if is("Bcc") || is("Resent-Bcc") {
            self.has_bcc = true;
            // RFC 5322, section 3.6.3: alone of the three, Bcc may be empty, and then says that there are some.
            self.names_recipients |= self.recipients(value).blank;
        } else if is("List-Id") {
            self.list_mail = true;
        } else if is("Precedence") {
            self.list_mail |= decoded_line(value).eq_ignore_ascii_case("list");
        }
    }

    fn recipients(&mut self, value: &[u8]) -> Mailboxes {
        let mailboxes = mailboxes(value);
        self.names_recipients |= mailboxes.empty_group || !mailboxes.addresses.is_empty();
        mailboxes
    }
}

/// The fields of a header block, name and value, in their order. A line end is CRLF, or a bare LF where a transport has let
/// one pass; an empty line ends the header.
pub(super) fn fields(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = header;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (field, behind) = rest.split_at_checked(field_end(rest)).unwrap_or((rest, &[]));
            rest = behind;
            if matches!(field, b"\r\n" | b"\n") {
                rest = &[];
            } else if let Some(name) = field_name(field) {
                let value = memchr::memchr(b':', field).and_then(|colon| field.get(colon + 1..)).unwrap_or_default();
                return Some((name, value));
            }
        }
        None
    })
}

/// How many octets the first field takes with the lines that continue it (RFC 5322, section 2.2.3).
pub(super) fn field_end(octets: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', octets)
        .map(|place| place + 1)
        .find(|next| !matches!(octets.get(*next), Some(b' ' | b'\t')))
        .unwrap_or(octets.len())
}

fn mailboxes(value: &[u8]) -> Mailboxes {
    Mailboxes::read(&one_line(&unfold(&characters(without_line_end(value)))))
}

fn author(value: &[u8]) -> Option<String> {
    mailboxes(value).addresses.into_iter().find(|address| address.contains('@'))
}

/// Those that an envelope could hold; no other can be a recipient's.
fn addresses(mailboxes: Mailboxes) -> impl Iterator<Item = Address> {
    mailboxes.addresses.into_iter().filter_map(|address| Address::parse(&address).ok())
}

fn keep_first(place: &mut Option<String>, read: impl FnOnce() -> Option<String>) {
    if place.is_none() {
        *place = read();
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
