//! What a server is told of a client with XCLIENT and XFORWARD (Postfix's `XCLIENT_README` and `XFORWARD_README`).

use super::Offer;

/// Octets of an encoded value: with all attributes there are, a line stays below the 512 octets of RFC 5321, section
/// 4.5.3.1.4.
const MAX_VALUE: usize = 255;
/// A value that is not known.
pub const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// Names and values, in the order in which they are said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes(Vec<(&'static str, String)>);

impl Attributes {
    /// One more, as it is: encoding is done here.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// The command's line, with those attributes that the server announced behind `verb`.
    pub(super) fn line(&self, verb: &str, offer: &Offer) -> String {
        let announced = |name: &&str| offer.attributes(verb).any(|announced| announced.eq_ignore_ascii_case(name));
        let said = self.0.iter().filter(|(name, _)| announced(name));
        said.fold(verb.to_owned(), |line, (name, value)| line + " " + name + "=" + &xtext(value))
    }
}

/// RFC 3461, section 4: what is not printable ASCII, `+` and `=` are written in hexadecimal digits. A value that would be
/// longer than [`MAX_VALUE`] is cut.
fn xtext(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for octet in value.bytes() {
        let more = match octet {
            b'+' | b'=' => format!("+{octet:02X}"),
            b'!'..=b'~' => char::from(octet).to_string(),
            _ => format!("+{octet:02X}"),
        };
        if text.len() + more.len() > MAX_VALUE {
            break;
        }
        text.push_str(&more);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Reply;
    use proptest::prelude::*;

    fn offer(line: &str) -> Offer {
        Offer::from_ehlo(&Reply::multiline(250, vec!["mx.example".into(), line.into()]))
    }

    #[test]
    fn what_was_announced_is_said_and_nothing_else() {
        let all = Attributes::default().with("HELO", "a").with("PORT", "7").with("ADDR", "192.0.2.7");
        assert_eq!(all.line("XCLIENT", &offer("XCLIENT NAME ADDR HELO")), "XCLIENT HELO=a ADDR=192.0.2.7");
        assert_eq!(all.line("XFORWARD", &offer("xforward port")), "XFORWARD PORT=7");
        assert_eq!(all.line("XFORWARD", &offer("XCLIENT ADDR")), "XFORWARD");
    }

    proptest! {
        #[test]
        fn a_value_stays_one_word_and_short(value in any::<String>()) {
            let line = Attributes::default().with("HELO", value.clone()).line("XCLIENT", &offer("XCLIENT HELO"));
            let text = line.strip_prefix("XCLIENT HELO=").unwrap();
            prop_assert!(text.len() <= MAX_VALUE && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'='));
            let (mut octets, mut rest) = (Vec::new(), text.bytes());
            while let Some(octet) = rest.next() {
                let digits: String = rest.by_ref().take(if octet == b'+' { 2 } else { 0 }).map(char::from).collect();
                octets.push(if octet == b'+' { u8::from_str_radix(&digits, 16).unwrap() } else { octet });
            }
            prop_assert!(value.as_bytes().starts_with(&octets));
            prop_assert!(octets.len() == value.len() || text.len() > MAX_VALUE - 3);
        }
    }
}
