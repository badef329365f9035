//! What an archive offers in its reply to EHLO (RFC 5321, section 4.1.1.1): lettre knows three extensions, and only in
//! capital letters.

use crate::mail::Reply;
use crate::smtp::Extensions;

/// The extensions, and the mechanisms of AUTH that we can speak.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Offers {
    pub(super) extensions: Extensions,
    /// AUTH PLAIN (RFC 4616).
    pub(super) plain: bool,
    /// AUTH LOGIN.
    pub(super) login: bool,
}

impl Offers {
    /// Reads the reply to EHLO; its first line is the server's name.
    pub(super) fn of(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines().iter().skip(1) {
            // `AUTH=PLAIN`: the form before RFC 2554, still sent beside the other.
            let mut words =
                line.split(|letter: char| letter.is_whitespace() || letter == '=').filter(|word| !word.is_empty());
            if let Some(keyword) = words.next() {
                offers.add(&keyword.to_ascii_uppercase(), words);
            }
        }
        offers
    }

    fn add<'a>(&mut self, keyword: &str, mut parameters: impl Iterator<Item = &'a str>) {
        let extensions = &mut self.extensions;
        match keyword {
            "PIPELINING" => extensions.pipelining = true,
            // RFC 1870, section 4: without a number, or with zero, no limit is known.
            "SIZE" => extensions.size = Some(parameters.next().and_then(|limit| limit.parse().ok()).unwrap_or(0)),
            "8BITMIME" => extensions.eight_bit_mime = true,
            "SMTPUTF8" => extensions.smtp_utf8 = true,
            "ENHANCEDSTATUSCODES" => extensions.enhanced_status_codes = true,
            "STARTTLS" => extensions.starttls = true,
            "CHUNKING" => extensions.chunking = true,
            "BINARYMIME" => extensions.binary_mime = true,
            "DSN" => extensions.dsn = true,
            "AUTH" => {
                for mechanism in parameters {
                    self.plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                    self.login |= mechanism.eq_ignore_ascii_case("LOGIN");
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(lines: &[&str]) -> Offers {
        Offers::of(&Reply::multiline(250, lines.iter().map(|line| (*line).to_owned()).collect()))
    }

    #[test]
    fn keywords_are_read_in_any_case() {
        let found = offers(&["archive.example", "8bitmime", "Size 1000", "SMTPUTF8", "auth LOGIN plain", "STARTTLS"]);
        assert!(found.extensions.eight_bit_mime && found.extensions.smtp_utf8 && found.extensions.starttls);
        assert_eq!((found.extensions.size, found.plain, found.login), (Some(1_000), true, true));
    }

    #[test]
    fn the_servers_name_is_no_offer() {
        assert_eq!(offers(&["STARTTLS"]), Offers::default());
    }

    #[test]
    fn the_old_form_of_auth_and_a_size_without_limit_are_read() {
        let found = offers(&["a.example", "AUTH=LOGIN", "SIZE", "", "   "]);
        assert_eq!((found.extensions.size, found.plain, found.login), (Some(0), false, true));
    }
}
