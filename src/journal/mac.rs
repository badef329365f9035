//! `X-Journal-Mac`: how the relay knows its own records and reports again when they come back through a listener.
//!
//! `v1; KEYID; MAC`, where MAC is an HMAC-SHA-256 over the whole mail: every header field but this one itself and those that
//! servers have put on top of ours ([`ADDED`]), and all of the body. Whoever has seen a record can copy its fields; on other
//! content they prove nothing. What a gateway has encoded anew, or a filter has added another field to, is not known again
//! and is journaled like any other mail: one record too many.
//!
//! The body is hashed in three pieces: what stands before the attached original, the original, what stands behind it. So a
//! record is sealed from the original's SHA-256, which is known since it arrived, and no octet is read again to send it.
//! Where the pieces meet follows from the octets alone ([`Body`]), and together they are all of the body: the three hashes
//! bind it as one would.
//!
//! Leaves to others: where the key is kept. Nothing here shows it.

use super::header::{field_end, fields};
use super::header_lines::field_name;
use super::writer::push;
use crate::mail::{Entropy, HmacKey, RecordId, Sha256, hex, read_hex};

/// The field's name.
pub const MAC_FIELD: &str = "X-Journal-Mac";
/// The field that names the record, in records and reports about one.
pub(super) const RECORD_FIELD: &str = "X-Journal-Record";
/// The field that records have and reports have not.
pub(super) const ORIGINAL_FIELD: &str = "X-Journal-Original-SHA256";
/// Keeps these MACs apart from every other use of the key; a new number means another way to compute them.
const DOMAIN: &[u8] = b"journal-relay mac 1\0";
/// The same for the key's name.
const KEY_ID_DOMAIN: &[u8] = b"journal-relay mac key 1\0";
/// What the field's value starts with.
const VERSION: &str = "v1";
/// Fields that servers on the way put on top of a mail they pass on, and that so may stand above the first of ours:
/// Received and Return-Path (RFC 5321, section 4.4), Delivered-To (Postfix and Exim, where a mailbox forwards), signatures
/// and findings (RFC 6376, section 5.6; RFC 8617, section 5.1; RFC 8601, section 5; RFC 7208, section 9.1). Our own mail has
/// none of them, so that one anywhere else has been put there by hand. Not among them: what is added at the final delivery
/// alone (X-Original-To), and what filters call as they like (`X-…`).
const ADDED: [&str; 9] = [
    "Received",
    "Return-Path",
    "Delivered-To",
    "DKIM-Signature",
    "Authentication-Results",
    "Received-SPF",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
];
/// Octets of all fields that servers have added on the way: they are no part of the MAC, and whoever has seen a record must not
/// send what he likes in them unjournaled. Dozens of servers add less.
const MAX_ADDED: usize = 64 * 1024;
/// Octets of the key's name, written as two hex digits each.
const KEY_ID: usize = 8;
/// Octets that a value takes, and a few.
const USUAL_VALUE: usize = 96;
/// What stands before an attached message.
const MARK: &[u8] = b"Content-Type: message/rfc822\r\n\r\n";
/// Octets of a closing delimiter with the line end before it: `--_UUID_--` between CRLFs.
const CLOSING: usize = 46;

type Hash = [u8; 32];

/// The key. HMAC-SHA-256 takes one of any length; this is the longest that adds strength.
#[derive(Clone, Copy)]
pub struct MacKey {
    key: [u8; 32],
    id: [u8; KEY_ID],
}

/// Never shows the key.
impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey")
    }
}

impl MacKey {
    /// Octets of a key.
    pub const SIZE: usize = 32;

    /// A key that was kept.
    pub fn from_bytes(key: [u8; Self::SIZE]) -> Self {
        let hash = Sha256::of(&[KEY_ID_DOMAIN, &key].concat());
        let mut id = [0; KEY_ID];
        id.iter_mut().zip(hash).for_each(|(id, hash)| *id = hash);
        Self { key, id }
    }

    /// Octets for a new key.
    pub fn draw(entropy: &dyn Entropy) -> [u8; Self::SIZE] {
        let mut key = [0; Self::SIZE];
        entropy.fill(&mut key);
        key
    }

    /// The field's value on a mail of this header (without the field) and body.
    pub(super) fn value(&self, header: &[u8], body: &BodyHashes) -> String {
        let mut value = String::with_capacity(USUAL_VALUE);
        value.push_str(VERSION);
        value.push_str("; ");
        value.push_str(&hex(&self.id));
        value.push_str("; ");
        value.push_str(&hex(&HmacKey::new(&self.key).tag(&sealed(header, body))));
        value
    }

    /// The MAC in a field's value, when it names this key.
    fn read(&self, value: &[u8]) -> Option<Hash> {
        let value = std::str::from_utf8(value).ok()?;
        // Servers may fold a field anew.
        let mut parts = value.split(';').map(|part| part.trim_matches([' ', '\t', '\r', '\n']));
        let (version, id, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let named = version == VERSION && read_hex(id)? == self.id && parts.next().is_none();
        if named { read_hex(mac) } else { None }
    }
}

/// The SHA-256 of each piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BodyHashes {
    before: Hash,
    original: Hash,
    behind: Hash,
}

impl BodyHashes {
    /// Of a body that is `before`, an original of this hash, `behind`.
    pub(super) fn around(before: &[u8], original: Hash, behind: &[u8]) -> Self {
        Self { before: Sha256::of(before), original, behind: Sha256::of(behind) }
    }

    /// Of a body without an original.
    pub(super) fn of(body: &[u8]) -> Self {
        Self::around(body, Sha256::of(b""), b"")
    }
}

/// A mail of our own that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnMail {
    /// A record, and not a report.
    pub is_record: bool,
    /// The record it is, or tells of; none in a report about many.
    pub record: Option<RecordId>,
    /// Octets of the fields that were added on the way: what somebody who has seen the mail could write into it.
    pub added_octets: usize,
}

/// Looks at a mail that may be our own, while its body passes.
#[derive(Debug, Clone)]
pub(super) struct Recognition {
    key: MacKey,
    claimed: Hash,
    own: OwnMail,
    body: Body,
}

impl Recognition {
    /// Begins, when the header has one field, and it names our key; everybody else's mail costs nothing.
    pub(super) fn begin(key: MacKey, header: &[u8]) -> Option<Self> {
        let values = |name: &'static str| {
            fields(header).filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
        };
        let mut macs = values(MAC_FIELD);
        let claimed = key.read(macs.next()?)?;
        let added_octets = split_added(header).0.len();
        if macs.next().is_some() || added_octets > MAX_ADDED {
            return None;
        }
        let is_record = values(ORIGINAL_FIELD).next().is_some();
        let record = values(RECORD_FIELD).next();
        let record = record.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
        // A report has the record around the original, and one more closing delimiter behind it.
        let levels = if is_record { 1 } else { 2 };
        Some(Self { key, claimed, own: OwnMail { is_record, record, added_octets }, body: Body::new(levels) })
    }

    /// Takes octets of the body.
    pub(super) fn observe(&mut self, octets: &[u8]) {
        self.body.observe(octets);
    }

    /// What it is, when all of it is as it was sent.
    pub(super) fn end(self, header: &[u8]) -> Option<OwnMail> {
        let sealed = sealed(header, &self.body.end());
        HmacKey::new(&self.key.key).is_tag(&sealed, &self.claimed).then_some(self.own)
    }
}

/// A body's three pieces as they pass, in memory of a few octets: the original begins behind the first (in a report the
/// second) [`MARK`] and ends before the closing delimiters. A body without that mark is one piece.
#[derive(Debug, Clone)]
struct Body {
    before: Sha256,
    original: Sha256,
    /// Marks still to come.
    marks: usize,
    /// Octets kept back: the beginning of a mark perhaps, then the closing delimiters perhaps.
    tail: Vec<u8>,
    closing: usize,
}

impl Body {
    fn new(levels: usize) -> Self {
        let (before, original) = (Sha256::new(), Sha256::new());
        Self { before, original, marks: levels, tail: Vec::new(), closing: levels * CLOSING }
    }

    fn observe(&mut self, octets: &[u8]) {
        self.tail.extend_from_slice(octets);
        while self.marks > 0 {
            let found = memchr::memmem::find(&self.tail, MARK).map(|place| place + MARK.len());
            let passed = found.unwrap_or_else(|| (self.tail.len() + 1).saturating_sub(MARK.len()));
            self.before.update(self.tail.get(..passed).unwrap_or_default());
            self.tail.drain(..passed);
            if found.is_none() {
                return;
            }
            self.marks -= 1;
        }
        let passed = self.tail.len().saturating_sub(self.closing);
        self.original.update(self.tail.get(..passed).unwrap_or_default());
        self.tail.drain(..passed);
    }

    fn end(mut self) -> BodyHashes {
        if self.marks > 0 {
            self.before.update(&std::mem::take(&mut self.tail));
        }
        let (before, original) = (self.before.finish(), self.original.finish());
        BodyHashes { before, original, behind: Sha256::of(&self.tail) }
    }
}

/// What is authenticated: the hashes of the header and of a body's pieces.
fn sealed(header: &[u8], body: &BodyHashes) -> Vec<u8> {
    let header = header_hash(header);
    [DOMAIN, &header, &body.before, &body.original, &body.behind].concat()
}

/// The SHA-256 of all fields, as they stand, but those that servers have put on top and the MAC's own.
fn header_hash(header: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    for (field, name) in whole_fields(split_added(header).1) {
        if !name.is_some_and(|name| name.eq_ignore_ascii_case(MAC_FIELD.as_bytes())) {
            hash.update(field);
        }
    }
    hash.finish()
}

/// A header's fields that servers have put on top, and those from the first other one on.
fn split_added(header: &[u8]) -> (&[u8], &[u8]) {
    let is_added = |name: &[u8]| ADDED.iter().any(|added| name.eq_ignore_ascii_case(added.as_bytes()));
    let added = whole_fields(header).take_while(|(_, name)| name.is_some_and(is_added));
    let octets = added.map(|(field, _)| field.len()).sum();
    header.split_at_checked(octets).unwrap_or((header, &[]))
}

/// Each field as it stands, and its name where it is one.
fn whole_fields(header: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let (field, behind) = rest.split_at_checked(field_end(rest)).unwrap_or((rest, &[]));
        rest = behind;
        (!field.is_empty()).then(|| (field, field_name(field)))
    })
}

/// Puts the field into a mail that is written but for it, at `place` in its header. `original` is the SHA-256 of the
/// original between `prefix` and `suffix`, when there is one.
pub(super) fn seal(prefix: &mut Vec<u8>, place: usize, original: Option<Hash>, suffix: &[u8], key: &MacKey) {
    let end = memchr::memmem::find(prefix, b"\r\n\r\n").map_or(prefix.len(), |end| end + 2);
    let (header, body) = prefix.split_at_checked(end).unwrap_or((prefix, &[]));
    let body = body.strip_prefix(b"\r\n").unwrap_or(body);
    let hashes = match original {
        Some(original) => BodyHashes::around(body, original, suffix),
        None => BodyHashes::of(&[body, suffix].concat()),
    };
    let mut field = Vec::with_capacity(2 * USUAL_VALUE);
    [MAC_FIELD, ": ", &key.value(header, &hashes), "\r\n"].iter().for_each(|part| push(&mut field, part));
    prefix.splice(place..place, field);
}

#[cfg(test)]
#[path = "mac_tests.rs"]
mod tests;
