//! Paths of MAIL and RCPT (RFC 5321, section 4.1.2): the text between angle brackets, and a source route in it.

use crate::mail::{Address, AddressError};

/// What stands behind `FROM:` or `TO:`, blanks skipped; none when the label is not there.
pub(super) fn behind_label<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(label.len())?;
    start.eq_ignore_ascii_case(label).then(|| rest.trim_start_matches(super::BLANKS))
}

/// Splits `<path> parameters` into what the brackets hold and what follows them. A bracket in a quoted string is a
/// letter. None when a bracket is missing or something sticks to the second.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = text.bytes().position(|octet| {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'>' => return !quoted,
            _ => {}
        }
        false
    })?;
    let rest = text.get(end + 1..)?;
    (rest.is_empty() || rest.starts_with(super::BLANKS)).then_some((text.get(..end)?, rest))
}

/// Reads an address, its source route checked and dropped (RFC 5321, sections 4.1.1.3 and C).
pub(super) fn read(path: &str) -> Result<Address, AddressError> {
    if !path.starts_with('@') {
        return Address::parse(path);
    }
    // No colon stands in a domain, but in an address literal: the route ends at the first outside of brackets.
    let mut literal = false;
    let colon = path.find(|letter| {
        literal = letter == '[' || (literal && letter != ']');
        letter == ':' && !literal
    });
    let (route, address) = path.split_at_checked(colon.ok_or(AddressError::Domain)?).ok_or(AddressError::Domain)?;
    for hop in route.split(',') {
        // A hop is `@` and a domain, just what follows a local part.
        let hop = hop.strip_prefix('@').ok_or(AddressError::Domain)?;
        Address::parse(&format!("hop@{hop}"))?;
    }
    Address::parse(address.strip_prefix(':').unwrap_or(address))
}
