//! Addresses as the envelope knows them (RFC 5321, section 4.1.2; with UTF-8, RFC 6531, section 3.3).
//!
//! An [`Address`] keeps the exact text of the envelope, without angle brackets and source route, and knows where its
//! domain begins. Two ways to compare are offered: equal text, and the same mailbox. Nothing here looks anything up.

use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Octets of a local part. RFC 5321, section 4.5.3.1.1 asks for 64 and, in 4.5.3.1, for no limit where none is needed: VERP
/// and SRS make longer ones. What is longer is refused.
pub const MAX_LOCAL_PART: usize = 256;
/// Octets of a domain (RFC 5321, section 4.5.3.1.2). What is longer is refused.
pub const MAX_DOMAIN: usize = 255;
/// Octets of a path with its brackets (RFC 5321, section 4.5.3.1.3), twice, since UTF-8 and long VERP senders need more.
pub const MAX_PATH: usize = 512;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing stands where the address should.
    #[error("an empty address")]
    Empty,
    /// A part is longer than the RFC allows.
    #[error("an address or a part of it is too long")]
    TooLong,
    /// The part before the `@` is neither a dot-string nor a quoted string.
    #[error("bad local part")]
    LocalPart,
    /// The part after the `@` is missing, or neither a domain nor an address literal.
    #[error("bad domain")]
    Domain,
}

/// A mailbox of the envelope: `user@example.org`, `"odd one"@example.org`, `user@[192.0.2.1]`, or `postmaster` alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// Shared with the records and commands that name it.
    text: Arc<str>,
    /// Where the `@` stands; the text's length for `postmaster` without a domain.
    at: usize,
}

impl Address {
    /// Reads `text`, which has neither brackets nor source route.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        place_of_at(text).map(|at| Self { text: text.into(), at })
    }

    /// The text as it stood in the envelope.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`, as written.
    pub fn local_part(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The part after the `@`; none for `postmaster` alone.
    pub fn domain(&self) -> Option<&str> {
        self.text.get(self.at + 1..)
    }

    /// The local part without quotes and backslashes that it could do without.
    pub fn unquoted_local_part(&self) -> Cow<'_, str> {
        unquote(self.local_part())
    }

    /// Whether the address needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// Whether both name the same mailbox: domains compared without case and in ASCII form, local parts exactly once
    /// needless quotes are gone.
    pub fn same_mailbox(&self, other: &Self) -> bool {
        self.unquoted_local_part() == other.unquoted_local_part() && self.same_domain(other)
    }

    /// Like [`same_mailbox`](Self::same_mailbox), without regard to case in the local part.
    pub fn same_mailbox_ignoring_case(&self, other: &Self) -> bool {
        let (one, two) = (self.unquoted_local_part(), other.unquoted_local_part());
        let same = if one.is_ascii() && two.is_ascii() {
            one.eq_ignore_ascii_case(&two)
        } else {
            one.to_lowercase() == two.to_lowercase()
        };
        same && self.same_domain(other)
    }

    /// What is equal for two addresses just when they [name the same mailbox](Self::same_mailbox): for tables.
    pub fn mailbox(&self) -> Mailbox<'_> {
        Mailbox { local: self.unquoted_local_part(), domain: self.domain().map(ascii_domain) }
    }

    /// A text that is equal for two addresses just when they name the same mailbox without regard to case: for keys of
    /// storage.
    pub fn mailbox_key(&self) -> String {
        let local = self.unquoted_local_part().to_lowercase();
        self.domain().map_or_else(|| local.clone(), |domain| format!("{local}@{}", ascii_domain(domain)))
    }

    fn same_domain(&self, other: &Self) -> bool {
        match (self.domain(), other.domain()) {
            (Some(one), Some(two)) => one.eq_ignore_ascii_case(two) || ascii_domain(one) == ascii_domain(two),
            (one, two) => one == two,
        }
    }

    /// Whether the local part could make another server relay further: a percent hack, a bang path, or an `@` in quotes.
    pub fn routes_onward(&self) -> bool {
        self.local_part().contains(['%', '!', '@', ':'])
    }
}

/// A mailbox, however it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox<'a> {
    local: Cow<'a, str>,
    domain: Option<Cow<'a, str>>,
}

impl Mailbox<'_> {
    /// Equal where [`Address::same_mailbox_ignoring_case`] says so.
    #[must_use]
    pub fn without_case(mut self) -> Self {
        if !self.local.bytes().all(|octet| octet.is_ascii() && !octet.is_ascii_uppercase()) {
            self.local = Cow::Owned(self.local.to_lowercase());
        }
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        place_of_at(&text).map(|at| Self { text: text.into(), at })
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Who sent: nobody (`<>`, a bounce or a report) or a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum ReversePath {
    /// `<>` (RFC 5321, section 4.5.5).
    Null,
    /// A mailbox.
    Address(Address),
}

impl ReversePath {
    /// The mailbox, when there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Without brackets; empty for `<>`.
    pub fn as_str(&self) -> &str {
        self.address().map_or("", Address::as_str)
    }
}

impl TryFrom<String> for ReversePath {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { Address::try_from(text).map(Self::Address) }
    }
}

impl Serialize for ReversePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Domains meant by a configuration: `example.org`, or `*.example.org` for every domain below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainPattern {
    ascii: String,
    below: bool,
}

impl DomainPattern {
    /// Reads a pattern; `*` stands only first, before a dot.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (below, domain) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        if domain.len() > MAX_DOMAIN {
            return Err(AddressError::TooLong);
        }
        if !is_domain(domain) {
            return Err(AddressError::Domain);
        }
        Ok(Self { ascii: ascii_domain(domain).into_owned(), below })
    }

    /// Whether `domain` is meant.
    pub fn matches(&self, domain: &str) -> bool {
        let domain = ascii_domain(domain);
        if self.below {
            domain.strip_suffix(self.ascii.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            domain == self.ascii.as_str()
        }
    }

    /// The pattern in ASCII form.
    pub fn as_text(&self) -> String {
        if self.below { format!("*.{}", self.ascii) } else { self.ascii.clone() }
    }
}

/// A domain in small ASCII letters, `xn--` labels for others (UTS 46) and no final dot; as it is where that can't be done.
pub fn ascii_domain(domain: &str) -> Cow<'_, str> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_ascii() && !domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(domain);
    }
    Cow::Owned(idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_ascii_lowercase()))
}

/// Where the `@` of a whole address stands; behind the text for `postmaster` without a domain.
fn place_of_at(text: &str) -> Result<usize, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > MAX_PATH {
        return Err(AddressError::TooLong);
    }
    // RFC 5321, section 4.5.1: the one address that needs no domain.
    if text.eq_ignore_ascii_case("postmaster") {
        return Ok(text.len());
    }
    let at = local_part_end(text)?;
    let (local, domain) = text.split_at_checked(at).ok_or(AddressError::LocalPart)?;
    let domain = domain.strip_prefix('@').ok_or(AddressError::Domain)?;
    if local.len() > MAX_LOCAL_PART || domain.len() > MAX_DOMAIN {
        return Err(AddressError::TooLong);
    }
    if is_domain(domain) || is_literal(domain) { Ok(at) } else { Err(AddressError::Domain) }
}

/// Where the local part ends: the place of the `@` behind a dot-string or a quoted string.
fn local_part_end(text: &str) -> Result<usize, AddressError> {
    if text.starts_with('"') {
        return quoted_end(text).ok_or(AddressError::LocalPart);
    }
    let at = text.find('@').ok_or(AddressError::Domain)?;
    let local = text.get(..at).ok_or(AddressError::LocalPart)?;
    // Dots at an end or in a row are wrong by the RFC and yet in use (docomo); they can't be misread, so they pass.
    let sound = !local.is_empty() && local.chars().all(|letter| letter == '.' || is_atom_letter(letter));
    if sound { Ok(at) } else { Err(AddressError::LocalPart) }
}

/// Where a quoted string that starts the text ends, the place behind its second quote.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (place, letter) in text.char_indices().skip(1) {
        if letter.is_control() {
            return None;
        }
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(place + 1),
            _ => {}
        }
    }
    None
}

/// atext (RFC 5322, section 3.2.3) and all that is not ASCII (RFC 6531, section 3.3) but controls.
fn is_atom_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(letter)
        || (!letter.is_ascii() && !letter.is_control())
}

/// Labels of letters, digits, hyphens and underscores (in use, if not in the RFC) between single dots.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|letter| {
                letter.is_ascii_alphanumeric()
                    || letter == '-'
                    || letter == '_'
                    || (!letter.is_ascii() && !letter.is_control())
            })
    };
    domain.strip_suffix('.').unwrap_or(domain).split('.').all(label)
}

/// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321, section 4.1.3).
fn is_literal(domain: &str) -> bool {
    let Some(inner) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            inner.get(5..).is_some_and(|rest| rest.parse::<std::net::Ipv6Addr>().is_ok())
        }
        _ => inner.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

fn unquote(local: &str) -> Cow<'_, str> {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(local);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_keeps_the_text_of_the_envelope() {
        for text in [
            "user@example.org",
            "\"odd one\"@Example.ORG",
            "u@[192.0.2.1]",
            "u@[IPv6:2001:db8::1]",
            "用户@例え.example",
            "Postmaster",
            "a..b.@docomo.example",
        ] {
            assert_eq!(address(text).as_str(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_wrong_part() {
        use AddressError::*;
        let cases = [
            ("", Empty),
            ("user", Domain),
            ("@example.org", LocalPart),
            ("us er@example.org", LocalPart),
            ("\"open@example.org", LocalPart),
            ("\"a\r\nb\"@example.org", LocalPart),
            ("\"a\"b@example.org", Domain),
            ("user@", Domain),
            ("user@-a.example", Domain),
            ("user@a..example", Domain),
            ("user@[300.1.1.1]", Domain),
            ("user@[IPv6:zz]", Domain),
            ("a@b@c", Domain),
            ("user@exa mple", Domain),
        ];
        for (text, error) in cases {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@example.org", "x".repeat(MAX_LOCAL_PART + 1))), Err(TooLong));
        assert!(Address::parse(&format!("{}@example.org", "x".repeat(MAX_LOCAL_PART))).is_ok());
    }

    #[test]
    fn needless_quotes_and_a_domain_s_case_do_not_make_another_mailbox() {
        assert!(address("\"user\"@EXAMPLE.org").same_mailbox(&address("user@example.org")));
        assert!(address("\"us\\er\"@example.org").same_mailbox(&address("user@example.org")));
        assert!(address("u@例え.example").same_mailbox(&address("u@xn--r8jz45g.example")));
        assert!(!address("User@example.org").same_mailbox(&address("user@example.org")));
        assert!(address("User@example.org").same_mailbox_ignoring_case(&address("user@example.org")));
        assert!(!address("user@example.org").same_mailbox_ignoring_case(&address("user@example.net")));
    }

    #[test]
    fn local_parts_that_route_onward_are_known() {
        for text in ["a%b@example.org", "b!a@example.org", "\"a@b\"@example.org"] {
            assert!(address(text).routes_onward(), "{text}");
        }
        assert!(!address("a.b+c@example.org").routes_onward());
    }

    #[test]
    fn a_star_means_domains_below_and_not_the_domain_itself() {
        let below = DomainPattern::parse("*.Example.org").unwrap();
        assert!(below.matches("a.example.ORG") && below.matches("b.a.example.org."));
        assert!(!below.matches("example.org") && !below.matches("badexample.org") && !below.matches(".example.org"));
        let exact = DomainPattern::parse("例え.example").unwrap();
        assert!(exact.matches("XN--R8JZ45G.example") && !exact.matches("a.xn--r8jz45g.example"));
        assert!(DomainPattern::parse("a.*.org").is_err() && DomainPattern::parse("*").is_err());
    }

    #[test]
    fn a_null_reverse_path_is_written_as_nothing() {
        assert_eq!(ReversePath::try_from(String::new()), Ok(ReversePath::Null));
        assert_eq!(ReversePath::Address(address("a@b.example")).as_str(), "a@b.example");
    }
}
