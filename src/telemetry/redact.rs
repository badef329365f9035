//! What of mail addresses is written (`log.addresses`), wherever in a line they stand.
//!
//! An address is found by its `@`: the letters of a dot-string or a quoted string before it (RFC 5321, section 4.1.2), and
//! a domain or an address literal behind it. Message-IDs look the same and are treated the same. Rather too much is taken
//! for an address than too little.

use super::value::{Line, Value};
use crate::config::LogAddresses;
use crate::mail::{Entropy, HmacKey};
use std::borrow::Cow;
use std::fmt::Write;

/// Fields that hold addresses and nothing else: there a text without `@` is a local part.
const ADDRESS_FIELDS: [&str; 4] = ["sender", "recipients", "mailbox", "login"];
/// Octets of a quoted string that is taken for a local part.
const MAX_QUOTED: usize = 1024;
/// Octets of the hash that are written, two hex digits each.
const HASH_OCTETS: usize = 8;
/// What stands for something left out.
const STAR: &str = "*";

/// The key of `addresses = "hash"`. Hashes under one key can be compared, and not undone by trying names without it.
#[derive(Clone)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// A new key: hashes of this run can't be compared with another's.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self(key)
    }

    /// A key that was kept.
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }
}

/// Never shows the key.
impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

/// Takes out of lines what must not be written.
pub(super) struct Redactor {
    hmac: HmacKey,
}

impl Redactor {
    pub(super) fn new(key: &HashKey) -> Self {
        Self { hmac: HmacKey::new(&key.0) }
    }

    /// Changes every address in `line` to what `addresses` allows.
    pub(super) fn redact(&self, line: &mut Line, addresses: LogAddresses) {
        if addresses == LogAddresses::Full {
            return;
        }
        self.redact_text(&mut line.message, false, addresses);
        for (name, value) in &mut line.fields {
            let addresses_only = ADDRESS_FIELDS.contains(name);
            match value {
                Value::Text(text) => self.redact_text(text, addresses_only, addresses),
                Value::List(items) => {
                    items.iter_mut().for_each(|item| self.redact_text(item, addresses_only, addresses));
                }
                Value::Flag(_) | Value::Number(_) => {}
            }
        }
    }

    fn redact_text(&self, text: &mut String, is_address: bool, addresses: LogAddresses) {
        if text.contains('@') {
            *text = self.scan(text, addresses);
        } else if is_address && !text.is_empty() && text != "<>" {
            *text = self.local_part(text, addresses).into_owned();
        }
    }

    /// The text with each of its addresses changed.
    fn scan(&self, text: &str, addresses: LogAddresses) -> String {
        let mut output = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = run_length(rest);
            let (run, behind) = rest.split_at_checked(length.max(first.len_utf8())).unwrap_or((rest, ""));
            match run.rsplit_once('@') {
                Some((local, domain)) if length > 0 && !local.is_empty() => {
                    let (domain, tail) = domain.split_at_checked(domain_length(domain)).unwrap_or((domain, ""));
                    if addresses == LogAddresses::None {
                        output.push_str(STAR);
                    } else {
                        let _ = write!(output, "{}@{domain}", self.local_part(local, addresses));
                    }
                    output.push_str(tail);
                }
                _ => output.push_str(run),
            }
            rest = behind;
        }
        output
    }

    fn local_part(&self, local: &str, addresses: LogAddresses) -> Cow<'static, str> {
        if addresses != LogAddresses::Hash {
            return Cow::Borrowed(STAR);
        }
        // Whoever looks for a mailbox finds it however a client wrote it.
        let plain = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(local);
        let hash = self.hmac.tag(plain.to_lowercase().as_bytes());
        let hex = hash.iter().take(HASH_OCTETS).fold(String::new(), |mut hex, octet| {
            let _ = write!(hex, "{octet:02x}");
            hex
        });
        Cow::Owned(hex)
    }
}

/// Octets of what `text` begins with and could be part of an address: none, or as far as it goes.
fn run_length(text: &str) -> usize {
    let mut rest = text;
    let mut behind_at = false;
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '@' => 1,
            '"' => quoted_length(rest),
            '[' if behind_at => rest.find(']').map_or(0, |end| end + 1),
            _ if is_address_letter(letter) => letter.len_utf8(),
            _ => 0,
        };
        if length == 0 {
            break;
        }
        behind_at = letter == '@';
        rest = rest.get(length..).unwrap_or_default();
    }
    text.len() - rest.len()
}

/// Octets of a quoted string that an `@` follows.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (place, letter) in text.char_indices().skip(1).take_while(|(place, _)| *place < MAX_QUOTED) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return if text.get(place + 1..).is_some_and(|rest| rest.starts_with('@')) { place + 1 } else { 0 },
            _ => {}
        }
    }
    0
}

/// Octets of the domain or literal that `text` begins with, without a full stop that ends a sentence.
fn domain_length(text: &str) -> usize {
    if text.starts_with('[') {
        return text.find(']').map_or(text.len(), |end| end + 1);
    }
    let is_letter = |letter: char| letter.is_alphanumeric() || "-._".contains(letter) || !letter.is_ascii();
    let end = text.find(|letter| !is_letter(letter)).unwrap_or(text.len());
    text.get(..end).map_or(0, |domain| domain.trim_end_matches('.').len())
}

/// atext (RFC 5322, section 3.2.3), the dot, and all that is not ASCII (RFC 6531, section 3.3).
fn is_address_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || ".!#$%&'*+-/=?^_`{|}~".contains(letter)
        || (!letter.is_ascii() && !letter.is_control() && !letter.is_whitespace())
}

#[cfg(test)]
mod tests;
