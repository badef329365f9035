//! The name a client gives itself while it authenticates.
//!
//! Read from the first response that holds it; nothing else of a response is kept. Whatever a mechanism's rules say, a name that
//! can't be found is none: the server decides, this is evidence alone.

use super::{Mechanism, Secret};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Octets of a name; the rest is cut.
pub const MAX_LOGIN: usize = 255;

/// Clients differ in padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is known of a client that authenticates.
#[derive(Debug)]
pub struct Login {
    mechanism: Mechanism,
    /// Where the name is to be found has passed.
    heard: bool,
    name: Option<String>,
}

impl Login {
    /// A client that has said nothing yet.
    pub fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, heard: false, name: None }
    }

    /// Takes note of a response. The first one alone has the name, with every mechanism.
    pub fn hear(&mut self, response: &Secret) {
        if self.heard {
            return;
        }
        self.heard = true;
        let text = if response.as_str() == "=" { "" } else { response.as_str() };
        let Ok(octets) = BASE64.decode(text).map(Zeroizing::new) else { return };
        self.name = name(self.mechanism, &octets).filter(|name| !name.is_empty());
    }

    /// The name: one line of [`MAX_LOGIN`] octets at most. Who acts for another is named first: `secretary as chief`.
    pub fn into_name(self) -> Option<String> {
        self.name
    }
}

fn name(mechanism: Mechanism, response: &[u8]) -> Option<String> {
    match mechanism {
        Mechanism::Plain => {
            // RFC 4616, section 2: [authzid] NUL authcid NUL passwd
            let mut parts = response.split(|octet| *octet == 0);
            let (acted_for, own, _password) = (parts.next()?, parts.next()?, parts.next()?);
            Some(joined(&shown(own), &shown(acted_for)))
        }
        Mechanism::Login => Some(shown(response)),
        Mechanism::XOauth2 => {
            let user = response.split(|octet| *octet == 1).find_map(|part| part.strip_prefix(b"user="))?;
            Some(shown(user))
        }
        Mechanism::OauthBearer => {
            // RFC 7628, section 3.1: who is meant stands in the GS2 header, up to the first ^A.
            let header = response.split(|octet| *octet == 1).next()?;
            field(header, b"a=")
        }
        // RFC 2195, section 2: a name, a blank, the digest.
        Mechanism::CramMd5 => {
            let blank = response.iter().rposition(|octet| *octet == b' ')?;
            response.get(..blank).map(shown)
        }
        Mechanism::ScramSha1 | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            // RFC 5802, section 7: n,[a=authzid],n=user,r=nonce
            let own = field(response, b"n=")?;
            Some(joined(&own, &field(response, b"a=").unwrap_or_default()))
        }
    }
}

/// The value of a field between commas, with `=2C` and `=3D` for comma and equals sign (RFC 5802, section 5.1).
fn field(response: &[u8], key: &[u8]) -> Option<String> {
    let value = response.split(|octet| *octet == b',').find_map(|part| part.strip_prefix(key))?;
    let text = String::from_utf8_lossy(value).replace("=2C", ",").replace("=3D", "=");
    Some(shown(text.as_bytes()))
}

fn joined(own: &str, acted_for: &str) -> String {
    if acted_for.is_empty() || acted_for == own { own.to_owned() } else { bounded(&format!("{own} as {acted_for}")) }
}

/// One line of printable text.
fn shown(octets: &[u8]) -> String {
    let breaks = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
    let text = String::from_utf8_lossy(octets);
    bounded(&text.chars().map(|letter| if breaks(letter) { '?' } else { letter }).collect::<String>())
}

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_LOGIN)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(mechanism: Mechanism, responses: &[&[u8]]) -> Option<String> {
        let mut login = Login::new(mechanism);
        for response in responses {
            login.hear(&Secret::read(BASE64.encode(response).as_bytes()).unwrap());
        }
        login.into_name()
    }

    #[test]
    fn each_mechanism_s_name_is_found() {
        use Mechanism::*;
        for (mechanism, response, name) in [
            (Plain, &b"\0alice\0secret"[..], Some("alice")),
            (Plain, b"alice\0alice\0secret", Some("alice")),
            (Plain, b"boss\0alice\0secret", Some("alice as boss")),
            (Plain, b"alice\0secret", None),
            (Plain, b"\0\0secret", None),
            (Login, b"alice@example.org", Some("alice@example.org")),
            (XOauth2, b"user=alice@example.org\x01auth=Bearer token\x01\x01", Some("alice@example.org")),
            (XOauth2, b"auth=Bearer token\x01\x01", None),
            (
                OauthBearer,
                b"n,a=alice@example.org,\x01host=mx.example.org\x01auth=Bearer t,a=x\x01\x01",
                Some("alice@example.org"),
            ),
            (OauthBearer, b"n,,\x01auth=Bearer t,a=x\x01\x01", None),
            (CramMd5, b"alice b913a602c7eda7a495b4e6e7334d3890", Some("alice")),
            (CramMd5, b"alice", None),
            (ScramSha256, b"n,,n=alice,r=rOprNGfwEbeRWgbNEkqO", Some("alice")),
            (ScramSha1, b"n,a=boss,n=a=2Cb=3Dc,r=x", Some("a,b=c as boss")),
            (ScramSha512, b"y,,r=x", None),
        ] {
            assert_eq!(heard(mechanism, &[response]).as_deref(), name, "{mechanism:?} {}", response.escape_ascii());
        }
    }

    #[test]
    fn what_comes_behind_the_name_is_not_heard() {
        assert_eq!(heard(Mechanism::Login, &[b"alice", b"secret"]).as_deref(), Some("alice"));
        assert_eq!(heard(Mechanism::Login, &[b"", b"secret"]), None);
        let mut login = Login::new(Mechanism::Login);
        login.hear(&Secret::read(b"*").unwrap());
        login.hear(&Secret::read(b"c2VjcmV0").unwrap());
        assert_eq!(login.into_name(), None);
    }

    proptest! {
        #[test]
        fn whatever_is_said_a_name_is_one_line_within_its_bound(
            which in 0..Mechanism::ALL.len(),
            response in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..2_000),
                ".{0,400}".prop_map(String::into_bytes),
                "\0.{0,400}\0x".prop_map(String::into_bytes),
                "n,a=.{0,300},n=.{0,300},r=x".prop_map(String::into_bytes),
            ],
        ) {
            if let Some(name) = heard(Mechanism::ALL[which], &[&response]) {
                prop_assert!((1..=MAX_LOGIN).contains(&name.len()));
                let breaks = |letter: char| letter.is_control() || letter == '\u{2028}' || letter == '\u{2029}';
                prop_assert!(!name.contains(breaks));
            }
        }
    }
}
