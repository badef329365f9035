//! The record's octets before and after the original ([MS-XJRNL]; the order and spelling of everything here is what readers
//! of records depend on).
//!
//! Promises: a pure function of its arguments; the original's octets stand between prefix and suffix untouched; nothing an
//! original or its envelope says can make a header field, a line of the envelope part or a boundary of its own. The envelope
//! part is never base64: two common readers don't decode it.
//!
//! Leaves to others: which boundary (one drawn by chance, after the original has arrived, can't occur in it), and sending.

use super::fields::{Label, OctetsKind, Original, RecordFields};
use super::identity::message_id_text;
use super::mac::{self, MacKey, ORIGINAL_FIELD, RECORD_FIELD};
use super::text::one_line;
use super::writer::{MAX_LINE, push, write_built, write_plain, write_quoted_printable, write_text};
use crate::mail::{Address, ascii_domain, hex};
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;

/// Octets that a prefix seldom has more of.
const PREFIX: usize = 2 * 1024;

/// What the archive's reply to EHLO offers, as far as a record's form depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveOffers {
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
}

impl ArchiveOffers {
    /// Offers everything: for a record that goes to a file.
    pub const ALL: Self = Self { eight_bit_mime: true, binary_mime: true, chunking: true, smtp_utf8: true };
}

/// What MAIL must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyKind {
    /// No BODY parameter.
    SevenBit,
    /// `BODY=8BITMIME`
    EightBitMime,
    /// `BODY=BINARYMIME`; BDAT carries it.
    BinaryMime,
}

/// A record is prefix, original, suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendering {
    /// What goes before the original.
    pub prefix: Vec<u8>,
    /// What goes after it: CRLF and the closing delimiter. The original's own last CRLF belongs to the original.
    pub suffix: Vec<u8>,
    /// What MAIL must say.
    pub body: BodyKind,
    /// Whether MAIL must say SMTPUTF8 (RFC 6531, section 3.4): an address of the record's own header is not ASCII.
    pub needs_smtp_utf8: bool,
    /// Whether the octets ask for more than the archive offers; they are sent all the same, unchanged.
    pub exceeds_offers: bool,
}

/// Renders a record for an archive. `sender` is the journaling sender, `journaling_address` where the record goes; `key`
/// seals it: a record that was never kept has none.
pub fn render(
    fields: &RecordFields,
    sender: &Address,
    journaling_address: &Address,
    archive: ArchiveOffers,
    key: Option<&MacKey>,
) -> Rendering {
    render_record(fields, sender, journaling_address, archive, Some(key)).0
}

/// As [`render`], without the relay's own `X-Journal-…` fields where `own` is none; with what the record, as a part of
/// another message, is encoded in.
pub(super) fn render_record(
    fields: &RecordFields,
    sender: &Address,
    journaling_address: &Address,
    archive: ArchiveOffers,
    own: Option<Option<&MacKey>>,
) -> (Rendering, Encoding) {
    let envelope = envelope_text(fields, sender);
    let lines: Vec<&str> = envelope.lines().collect();
    let text = TextForm::of(&lines, archive);
    let attached = Encoding::of_original(fields.original.kind, archive);
    let widest = attached.max(text.encoding());
    let boundary = format!("_{}_", fields.boundary);

    let mut prefix = Vec::with_capacity(PREFIX);
    write_headers(&mut prefix, fields, sender, journaling_address);
    if own.is_some() {
        write_own_headers(&mut prefix, fields);
    }
    let mac_at = prefix.len();
    // RFC 2045, section 6.4: a multipart says the widest of what is in it.
    widest.write_field(&mut prefix);
    for part in ["Content-Type: multipart/mixed; boundary=\"", &boundary, "\"\r\n\r\n--", &boundary, "\r\n"] {
        push(&mut prefix, part);
    }
    text.write_part(&mut prefix, "plain", &lines);
    ["\r\n--", &boundary, "\r\n"].iter().for_each(|part| push(&mut prefix, part));
    attached.write_field(&mut prefix);
    push(&mut prefix, "Content-Type: message/rfc822\r\n\r\n");

    let suffix = ["\r\n--", &boundary, "--\r\n"].concat().into_bytes();
    if let Some(key) = own.flatten() {
        mac::seal(&mut prefix, mac_at, Some(fields.original.sha256), &suffix, key);
    }
    let rendering = Rendering {
        prefix,
        suffix,
        body: widest.body(archive),
        needs_smtp_utf8: !sender.is_ascii() || !journaling_address.is_ascii(),
        exceeds_offers: widest == Encoding::EightBit
            && (!archive.eight_bit_mime || fields.original.kind == OctetsKind::Binary),
    };
    (rendering, widest)
}

fn write_headers(out: &mut Vec<u8>, fields: &RecordFields, sender: &Address, journaling_address: &Address) {
    write_plain(out, "From", sender.as_str());
    // Before the marker, or piler counts it among the recipients.
    write_plain(out, "To", journaling_address.as_str());
    write_text(out, "Subject", fields.original.subject.as_deref().unwrap_or_default());
    write_built(out, "Message-ID", &MessageId::new(message_id_text(fields.message_uuid)));
    write_built(out, "Date", &Date::new(fields.date.as_millis().div_euclid(1_000)));
    write_plain(out, "MIME-Version", "1.0");
    write_plain(out, "X-MS-Journal-Report", "");
    write_plain(out, "X-WM-Journal-Report", "journal");
    const PARENT: &str = "X-MS-Exchange-Parent-Message-Id";
    // Read unfolded: where it can't stand on one line, it stands in the envelope part alone.
    let parent = fields.original.message_id.as_deref();
    if let Some(parent) = parent.filter(|id| id.is_ascii() && PARENT.len() + 2 + id.len() <= MAX_LINE) {
        write_plain(out, PARENT, parent);
    }
    write_plain(out, "Auto-Submitted", "auto-generated");
}

/// The relay's evidence. All values that come from outside are encoded where they are not ASCII, so that none of them asks
/// for SMTPUTF8.
fn write_own_headers(out: &mut Vec<u8>, fields: &RecordFields) {
    let original = &fields.original;
    write_plain(out, RECORD_FIELD, fields.id.as_str());
    write_plain(out, "X-Journal-Received", &original.received.rfc3339_in_records());
    write_plain(out, ORIGINAL_FIELD, &hex(&original.sha256));
    match original.reverse_path.as_str() {
        "" => write_plain(out, "X-Journal-Mail-From", "<>"),
        path if path != original.sender => write_text(out, "X-Journal-Mail-From", path),
        _ => {}
    }
    if let Some(login) = &original.login {
        write_text(out, "X-Journal-Auth", login);
    }
    if fields.outcome_unknown {
        write_plain(out, "X-Journal-Outcome", "unknown");
    }
    if let Some(first) = &fields.supplements {
        write_text(out, "X-Journal-Supplement", first);
    }
    if let Some(replay) = &fields.replay {
        write_plain(out, "X-Journal-Replay", &replay.at.rfc3339_in_records());
    }
    // X-Journal-Mac belongs here, last; it covers everything else and is put in when that is written.
}

/// The envelope part's lines, in the order readers expect, each with an LF.
fn envelope_text(fields: &RecordFields, sender: &Address) -> String {
    /// Octets of a line, about.
    const LINE: usize = 48;
    let original = &fields.original;
    let mut text = String::with_capacity((fields.recipients.len() + 4) * LINE);
    let mut line = |name: &str, value: &str| {
        for part in [name, ": ", &one_line(value), "\n"] {
            text.push_str(part);
        }
    };
    line("Sender", &original.sender);
    if let Some(author) = &original.on_behalf_of {
        line("On-Behalf-Of", author);
    }
    line("Subject", original.subject.as_deref().unwrap_or_default());
    match &original.message_id {
        Some(id) => line("Message-Id", id),
        None => line("Message-Id", &missing_message_id(original, sender)),
    }
    for (label, name) in [(Label::To, "To"), (Label::Cc, "Cc"), (Label::Bcc, "Bcc"), (Label::Recipient, "Recipient")] {
        for recipient in fields.recipients.iter().filter(|recipient| recipient.label == label) {
            line(name, recipient.address.as_str());
        }
    }
    text
}

/// Stands for the Message-ID an original lacks; the same for the same octets.
fn missing_message_id(original: &Original, sender: &Address) -> String {
    let domain = sender.domain().unwrap_or("localhost");
    let domain = if domain.is_ascii() { domain.into() } else { ascii_domain(domain) };
    let hash = hex(original.sha256.first_chunk::<16>().unwrap_or(&[0; 16]));
    format!("<{hash}.no-message-id@{domain}>")
}

/// A Content-Transfer-Encoding, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Encoding {
    SevenBit,
    EightBit,
    Binary,
}

impl Encoding {
    /// `binary` where the archive can take it; else `8bit`, which is the nearest that is not a lie about the transport.
    fn of_original(kind: OctetsKind, archive: ArchiveOffers) -> Self {
        match kind {
            OctetsKind::SevenBit => Self::SevenBit,
            OctetsKind::Binary if archive.binary_mime && archive.chunking => Self::Binary,
            OctetsKind::EightBit | OctetsKind::Binary => Self::EightBit,
        }
    }

    /// The field, where one is needed: `7bit` goes without saying (RFC 2045, section 6.1).
    pub(super) fn write_field(self, out: &mut Vec<u8>) {
        match self {
            Self::SevenBit => {}
            Self::EightBit => write_plain(out, "Content-Transfer-Encoding", "8bit"),
            Self::Binary => write_plain(out, "Content-Transfer-Encoding", "binary"),
        }
    }

    /// A parameter that the archive doesn't offer is not sent (RFC 5321, section 4.1.1.11).
    pub(super) fn body(self, archive: ArchiveOffers) -> BodyKind {
        match self {
            Self::Binary => BodyKind::BinaryMime,
            Self::EightBit if archive.eight_bit_mime => BodyKind::EightBitMime,
            Self::EightBit | Self::SevenBit => BodyKind::SevenBit,
        }
    }
}

/// How a part of text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextForm {
    ascii: bool,
    quoted_printable: bool,
}

impl TextForm {
    /// As plain as the lines and the archive allow.
    pub(super) fn of(lines: &[impl AsRef<str>], archive: ArchiveOffers) -> Self {
        let ascii = lines.iter().all(|line| line.as_ref().is_ascii());
        let long = lines.iter().any(|line| line.as_ref().len() > MAX_LINE);
        Self { ascii, quoted_printable: long || !(ascii || archive.eight_bit_mime) }
    }

    pub(super) fn encoding(self) -> Encoding {
        if self.ascii || self.quoted_printable { Encoding::SevenBit } else { Encoding::EightBit }
    }

    /// Writes the fields of a part of type `text/kind`, the empty line and the lines.
    pub(super) fn write_part(self, out: &mut Vec<u8>, kind: &str, lines: &[impl AsRef<str>]) {
        let charset = if self.ascii { "us-ascii" } else { "utf-8" };
        let encoding = match (self.quoted_printable, self.ascii) {
            (true, _) => "quoted-printable",
            (false, true) => "7bit",
            (false, false) => "8bit",
        };
        for part in ["Content-Type: text/", kind, "; charset=\"", charset, "\"\r\nContent-Transfer-Encoding: "] {
            push(out, part);
        }
        push(out, encoding);
        push(out, "\r\n\r\n");
        for line in lines.iter().map(AsRef::as_ref) {
            if self.quoted_printable {
                write_quoted_printable(out, line);
            } else {
                push(out, line);
                push(out, "\r\n");
            }
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
