//! `[admin]`: the address, and the token from its file.

use super::files;
use super::report::Files;
use super::section::{Kind, Section};
use super::values;
use crate::config::{Admin, Token};
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const ADMIN: Kind = Kind { path: "admin", title: "[admin]", keys: &["address", "hosts", "token_file"] };
/// Letters of a token: fewer can be guessed, more fit no header.
const TOKEN_LETTERS: std::ops::RangeInclusive<usize> = 16..=1_024;
/// Octets that are read of its file, a line end counted.
const MAX_TOKEN_FILE: u64 = 1_026;

/// The table, where there is one.
pub(super) fn read(root: Section<'_>) -> Option<Admin> {
    let section = root.table("admin", ADMIN)?;
    section.require(&["address"]);
    let address = section.text("address", values::socket_address).map(|placed| placed.value);
    let token = section.text("token_file", |text| {
        let path = values::path(text)?;
        let token = match section.report().files() {
            Files::Open => Some(read_token(&path)?),
            Files::Leave => None,
        };
        Ok((token, path))
    });
    let (token, token_file): (Option<Option<Token>>, Option<PathBuf>) = token.map(|placed| placed.value).unzip();
    let token = token.flatten();
    let hosts = section.list("hosts", values::hostname).map(|list| list.value).unwrap_or_default();
    let hosts = hosts.into_iter().map(|host| host.value).collect();
    Some(Admin { address: address?, hosts, token, token_file })
}

/// The file's one line.
fn read_token(path: &Path) -> Result<Token, String> {
    let mut text = String::new();
    files::open(path)
        .and_then(|file| file.take(MAX_TOKEN_FILE + 1).read_to_string(&mut text))
        .map_err(|error| format!("can't be read: {error}"))?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    // RFC 6750, section 2.1.
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"-._~+/=".contains(&letter);
    if TOKEN_LETTERS.contains(&line.len()) && line.bytes().all(is_letter) {
        Ok(Token::new(line))
    } else {
        let (least, most) = (TOKEN_LETTERS.start(), TOKEN_LETTERS.end());
        Err(format!("holds no token; allowed is one line of {least} to {most} letters, digits and -._~+/="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_can_stand_in_a_header() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_token(&path)
        };
        for text in ["0123456789abcdef", "0123456789abcdef\n", "0123456789abcdef\r\n"] {
            assert_eq!(read(text), Ok(Token::new("0123456789abcdef")));
        }
        let long = "x".repeat(2_000);
        for text in ["", "short\n", "0123456789 abcdef", "0123456789abcdef\n\n", "0123456789abcdéf", &long] {
            assert!(read(text).unwrap_err().starts_with("holds no token"), "{text:?}");
        }
        assert!(read_token(&directory.path().join("none")).unwrap_err().starts_with("can't be read"));
    }
}
