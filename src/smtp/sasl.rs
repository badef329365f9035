//! Authentication as far as whoever passes it on must know it (AUTH: RFC 4954; SASL: RFC 4422): mechanisms, the command, the
//! client's lines, and who it was in the end.
//!
//! Promises: what may hold a password is never shown and overwritten when it is dropped; a client's line is base64 and
//! nothing else, so no octet of it means anything to a server; of what a client answers only the name it gives itself is
//! kept, as evidence and no more.
//!
//! Left to others: whether the name is true, which the server that is asked decides.

mod login;

pub use login::{Login, MAX_LOGIN};

use std::fmt;
use zeroize::Zeroizing;

/// Mechanisms whose messages can be passed on line by line. Not among them are those that are bound to one connection
/// (EXTERNAL, and `…-PLUS`: RFC 5802, section 6), to a server's name (GSSAPI, DIGEST-MD5), or that may put a layer of their own
/// around what follows (RFC 4422, section 3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The user's name, then the password, each when asked.
    Login,
    /// A token of OAuth 2.0, as Google and Microsoft take it.
    XOauth2,
    /// The same, RFC 7628.
    OauthBearer,
    /// RFC 2195.
    CramMd5,
    /// RFC 5802.
    ScramSha1,
    /// RFC 7677.
    ScramSha256,
    /// The same with a longer hash.
    ScramSha512,
}

impl Mechanism {
    const ALL: [Self; 8] = [
        Self::Plain,
        Self::Login,
        Self::XOauth2,
        Self::OauthBearer,
        Self::CramMd5,
        Self::ScramSha1,
        Self::ScramSha256,
        Self::ScramSha512,
    ];

    /// The mechanism of this name, in small letters or capitals.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.as_str().eq_ignore_ascii_case(name))
    }

    /// Its registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::XOauth2 => "XOAUTH2",
            Self::OauthBearer => "OAUTHBEARER",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A response of a client: base64, or `*`, or nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Reads a line without its CRLF; none when it can't be a response (RFC 4954, section 4).
    pub fn read(line: &[u8]) -> Option<Self> {
        let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=".contains(octet);
        let sound = line == b"*" || line.iter().all(is_base64);
        let text = std::str::from_utf8(line).ok().filter(|_| sound)?;
        Some(Self(Zeroizing::new(text.to_owned())))
    }

    /// The line, to be sent and never to be shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `AUTH mechanism [initial-response]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// How.
    pub mechanism: Mechanism,
    /// The first response, where it came along; `=` stands for one that is empty.
    pub initial: Option<Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_known_by_their_names_and_those_bound_to_a_connection_are_not() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(&mechanism.as_str().to_ascii_lowercase()), Some(mechanism));
        }
        for name in ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "EXTERNAL", "GSSAPI", "DIGEST-MD5", "NTLM", ""] {
            assert_eq!(Mechanism::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_response_is_base64_and_is_never_shown() {
        for line in ["", "*", "=", "c2VjcmV0", "ab+/=="] {
            assert_eq!(Secret::read(line.as_bytes()).map(|secret| secret.as_str().to_owned()), Some(line.to_owned()));
        }
        for line in [&b"**"[..], b"a b", b" ", b"QUIT\r", b"a\0", b"\xc3\xbc", b"a\tb", b"-"] {
            assert_eq!(Secret::read(line), None, "{line:?}");
        }
        let auth = Auth { mechanism: Mechanism::Plain, initial: Secret::read(b"c2VjcmV0") };
        assert!(!format!("{auth:?}").contains("c2VjcmV0"));
    }
}
