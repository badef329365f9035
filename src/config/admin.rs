//! `[admin]`: where status, health and metrics are served, and the token that asks for.

use crate::mail::HmacKey;
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
        Self(HmacKey::new(KEY).tag(text.as_bytes()))
    }

    /// Whether `given` is it. Takes as long whatever they have in common.
    pub fn is(&self, given: &str) -> bool {
        HmacKey::new(KEY).is_tag(given.as_bytes(), &self.0)
    }
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
