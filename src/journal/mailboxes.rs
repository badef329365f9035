//! The addresses in an address field (RFC 5322, section 3.4), without the names around them.
//!
//! Promises: never fails, whatever the text; its cost is linear in the text. Reads what senders really write: groups,
//! comments, obsolete source routes and blanks, quoted local parts, semicolons between addresses, a forgotten comma or bracket.
//!
//! mail-parser's own address parser is not used: it loses quoted local parts and comments within an address
//! (`"odd one"@example.org` becomes a name and `@example.org`), and a crafted field costs it the square of its length.

use super::text::EncodedWord;
use crate::mail::{Address, MAX_PATH};

/// Octets that an address seldom has more of.
const USUAL: usize = 64;

/// What an address field holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mailboxes {
    /// Addresses in their order, members of groups among them; not all of them are addresses to RFC 5321.
    pub(super) addresses: Vec<String>,
    /// Whether there is a group without members (`undisclosed-recipients:;`).
    pub(super) empty_group: bool,
    /// Whether there is nothing but blanks and comments.
    pub(super) blank: bool,
}

impl Mailboxes {
    /// Reads the field's value, unfolded and free of control characters.
    pub(super) fn read(text: &str) -> Self {
        let mut reader = Reader { rest: text, found: Self { blank: true, ..Self::default() }, ..Reader::default() };
        while let Some(letter) = reader.next() {
            reader.take(letter);
        }
        reader.end_mailbox();
        reader.end_group();
        reader.found
    }
}

/// The mailbox at hand and where in it the reader is.
#[derive(Debug, Default)]
struct Reader<'a> {
    rest: &'a str,
    /// What stands outside angle brackets, comments gone, quoted strings as they are.
    bare: String,
    /// What stands within them, once they have been opened.
    angle: Option<String>,
    in_angle: bool,
    /// Within `[` and `]` (a domain literal), where colons are no sign of a group.
    in_literal: bool,
    /// How many addresses had been found when the group began.
    group: Option<usize>,
    no_quotes: bool,
    no_comments: bool,
    found: Mailboxes,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        // An encoded word is part of a name, whatever characters are in it.
        if letter == '='
            && !self.in_angle
            && let Some(word) = EncodedWord::read(self.rest)
        {
            self.rest = word.rest;
            self.found.blank = false;
            return Some(' ');
        }
        self.rest = letters.as_str();
        Some(letter)
    }

    fn take(&mut self, letter: char) {
        if !letter.is_whitespace() && letter != '(' {
            self.found.blank = false;
        }
        match letter {
            '"' => self.take_quoted(),
            '(' => self.skip_comment(),
            '[' => self.in_literal = true,
            ']' => self.in_literal = false,
            _ => {}
        }
        match letter {
            '"' | '(' => {}
            '<' => self.open_angle(),
            '>' => {
                self.in_angle = false;
                self.in_literal = false;
            }
            // A source route has commas of its own (RFC 5322, section 4.4).
            ',' if self.in_angle && self.angle.as_ref().is_some_and(|angle| angle.trim_start().starts_with('@')) => {
                self.push(',');
            }
            ',' => self.end_mailbox(),
            ';' if !self.in_literal => {
                self.end_mailbox();
                self.end_group();
            }
            ':' if !self.in_angle && !self.in_literal => self.begin_group(),
            letter => self.push(letter),
        }
    }

    fn push(&mut self, letter: char) {
        match &mut self.angle {
            Some(angle) if self.in_angle => angle.push(letter),
            _ => self.bare.push(letter),
        }
    }

    /// A quoted string with its quotes (RFC 5322, section 3.2.4). One that is never closed is no quoted string; it has been
    /// looked for through all that is left then, so it is the last one looked for.
    fn take_quoted(&mut self) {
        let end = if self.no_quotes { None } else { quoted_end(self.rest) };
        let Some((quoted, rest)) = end.and_then(|end| self.rest.split_at_checked(end)) else {
            self.no_quotes = true;
            return self.push(' ');
        };
        self.push('"');
        quoted.chars().for_each(|letter| self.push(letter));
        self.rest = rest;
    }

    /// A comment (RFC 5322, section 3.2.2) counts as a blank. One that is never closed: as with quoted strings.
    fn skip_comment(&mut self) {
        let end = if self.no_comments { None } else { comment_end(self.rest) };
        match end.and_then(|end| self.rest.get(end..)) {
            Some(rest) => self.rest = rest,
            None => self.no_comments = true,
        }
        self.push(' ');
    }

    fn open_angle(&mut self) {
        if !self.in_angle && self.angle.is_some() {
            // `<a@example.org> <b@example.org>`: the comma was forgotten.
            self.end_mailbox();
        }
        self.angle = Some(String::with_capacity(USUAL));
        self.in_angle = true;
    }

    fn begin_group(&mut self) {
        self.end_group();
        self.bare.clear();
        self.angle = None;
        self.group = Some(self.found.addresses.len());
    }

    fn end_group(&mut self) {
        if let Some(before) = self.group.take() {
            self.found.empty_group |= self.found.addresses.len() == before;
        }
    }

    fn end_mailbox(&mut self) {
        let bare = std::mem::take(&mut self.bare);
        let angle = self.angle.take();
        self.in_angle = false;
        self.in_literal = false;
        let address =
            angle.and_then(|angle| address_in(without_route(angle.trim()))).or_else(|| address_in(bare.trim()));
        self.found.addresses.extend(address);
    }
}

/// `@a,@b:user@c` without its route (RFC 5322, section 4.4).
fn without_route(text: &str) -> &str {
    match text.split_once(':') {
        Some((route, address)) if route.starts_with('@') => address.trim_start(),
        _ => text,
    }
}

/// Where a quoted string ends, the place behind its second quote; `text` begins behind its first.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(place + 1),
            _ => {}
        }
    }
    None
}

/// Where a comment ends, the place behind its last bracket; `text` begins behind its first.
fn comment_end(text: &str) -> Option<usize> {
    let mut depth = 1_u32;
    let mut escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth = depth.saturating_add(1),
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place + 1);
        }
    }
    None
}

/// The address that `text` is or ends with: the last word that looks like one, blanks around dots and the at sign
/// (RFC 5322, section 4.4) taken away where no word does.
fn address_in(text: &str) -> Option<String> {
    let spoken = words(text);
    if let Some(word) = spoken.iter().rev().find(|word| is_address(word)) {
        return Some((*word).to_owned());
    }
    let mut closed: Vec<String> = Vec::new();
    for word in spoken {
        match closed.last_mut() {
            Some(before) if before.ends_with(['.', '@']) || word.starts_with(['.', '@']) => before.push_str(word),
            _ => closed.push(word.to_owned()),
        }
    }
    closed.into_iter().rev().find(|word| is_address(word))
}

/// The words of `text`, quoted strings not taken apart.
fn words(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let mut parts = Vec::new();
    for word in text.split(|letter: char| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        !quoted && letter.is_whitespace()
    }) {
        if !word.is_empty() {
            parts.push(word);
        }
    }
    parts
}

/// An address of RFC 5321, or something near it: headers hold longer and odder ones than envelopes do.
fn is_address(word: &str) -> bool {
    if Address::parse(word).is_ok() {
        return true;
    }
    let plain = !word
        .contains(|letter: char| letter.is_whitespace() || letter.is_control() || "\"(),:;<>[]\\".contains(letter));
    plain
        && word.len() <= MAX_PATH
        && word
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

#[cfg(test)]
#[path = "mailboxes_tests.rs"]
mod tests;
