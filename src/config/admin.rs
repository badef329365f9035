//! `[admin]`: where status, health and metrics are served, and the token that asks for.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What tokens are compared under; no secret: it makes them equally long.
const KEY: &[u8] = b"journal-relay [admin] token";

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// Names by which it may be asked without a token, besides addresses and its own.
    pub hosts: Vec<String>,
    /// What whoever asks must know; none: nothing. `/livez` and `/readyz` are told without.
    pub token: Option<Token>,
    /// The file that it was read from.
    pub token_file: Option<PathBuf>,
}

/// A bearer token. What is kept tells whether another one is the same, and not what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token `text`.
    pub fn new(text: &str) -> Self {
        Self(tag(text).map_or([0; 32], |mac| mac.finalize().into_bytes().into()))
    }

    /// Whether `given` is it. Takes as long whatever they have in common.
    pub fn is(&self, given: &str) -> bool {
        tag(given).is_some_and(|mac| mac.verify_slice(&self.0).is_ok())
    }
}

/// HMAC-SHA-256 takes a key of any length; were it refused, no token would be right.
fn tag(text: &str) -> Option<Hmac<Sha256>> {
    Some(Hmac::<Sha256>::new_from_slice(KEY).ok()?.chain_update(text.as_bytes()))
}

/// Never shows it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_no_other_and_is_not_shown() {
        let token = Token::new("correct-horse-battery");
        assert!(token.is("correct-horse-battery") && token == Token::new("correct-horse-battery"));
        for other in ["", "correct-horse-batter", "correct-horse-battery ", "Correct-horse-battery"] {
            assert!(!token.is(other), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }
}
