//! Parameters of MAIL and RCPT (RFC 5321, section 4.1.2): their syntax, the values of those known, and whether the
//! server announced what they need.

use super::{BLANKS, Body, Mail, Parameter, Rcpt};
use crate::mail::{Address, Reply, ReversePath};
use crate::smtp::Extensions;

/// Octets of `ENVID=` (RFC 3461, section 4.4).
const MAX_ENVID: usize = 100;
/// Octets of `ORCPT=` (RFC 3461, section 4.2).
const MAX_ORCPT: usize = 500;
/// Octets of `AUTH=` (RFC 4954, section 3).
const MAX_AUTH: usize = 500;
/// Digits of `SIZE=` (RFC 1870, section 3) and of a chunk's size.
const MAX_DIGITS: usize = 20;

impl Mail {
    /// Makes `AUTH=` say that nobody knows who submitted the message: what somebody says who has neither authenticated nor is
    /// trusted must not go on (RFC 4954, section 5).
    pub fn distrust_submitter(&mut self) {
        let said = self.parameters.iter_mut().find(|parameter| parameter.keyword.eq_ignore_ascii_case("AUTH"));
        if let Some(auth) = said {
            auth.value = Some("<>".to_owned());
        }
    }

    /// Whether a server that announced `offers` takes these parameters and this address; the error is the refusal.
    pub fn check(&self, offers: &Extensions) -> Result<(), Reply> {
        let needs_utf8 = self.reverse_path.address().is_some_and(|address| !address.is_ascii());
        if needs_utf8 && !(self.smtp_utf8 && offers.smtp_utf8) {
            return Err(utf8_refused());
        }
        for parameter in &self.parameters {
            let announced = match parameter.keyword.to_ascii_uppercase().as_str() {
                "SIZE" => offers.size.is_some(),
                "BODY" => offers.eight_bit_mime,
                "SMTPUTF8" => offers.smtp_utf8,
                "RET" | "ENVID" => offers.dsn,
                "REQUIRETLS" => offers.require_tls,
                "AUTH" => !offers.auth.is_empty(),
                _ => false,
            };
            if !announced {
                return Err(not_recognized(parameter));
            }
        }
        match (self.size, offers.size) {
            // RFC 1870, section 6.1; a limit of zero is none.
            (Some(size), Some(limit)) if limit > 0 && size > limit => {
                Err(Reply::new(552, "5.3.4 Message size exceeds fixed limit"))
            }
            _ => Ok(()),
        }
    }
}

impl Rcpt {
    /// Whether a server that announced `offers` takes these parameters and this address in a transaction that was
    /// begun with SMTPUTF8 or not; the error is the refusal.
    pub fn check(&self, offers: &Extensions, smtp_utf8: bool) -> Result<(), Reply> {
        // RFC 6533, section 3: ORCPT may hold UTF-8 where the transaction does.
        let mut values = self.parameters.iter().filter_map(|parameter| parameter.value.as_deref());
        let is_ascii = self.forward_path.is_ascii() && values.all(str::is_ascii);
        if !is_ascii && !smtp_utf8 {
            return Err(utf8_refused());
        }
        let known = |keyword: &str| matches!(keyword.to_ascii_uppercase().as_str(), "NOTIFY" | "ORCPT");
        match self.parameters.iter().find(|parameter| !(offers.dsn && known(&parameter.keyword))) {
            Some(parameter) => Err(not_recognized(parameter)),
            None => Ok(()),
        }
    }
}

/// RFC 6531, section 3.5.
fn utf8_refused() -> Reply {
    Reply::new(553, "5.6.7 Address is not ASCII and SMTPUTF8 was not asked for")
}

/// RFC 5321, section 4.1.1.11.
fn not_recognized(parameter: &Parameter) -> Reply {
    Reply::new(555, format!("5.5.4 Parameter {} not recognized", parameter.keyword))
}

fn malformed(parameter: &Parameter) -> Reply {
    Reply::new(501, format!("5.5.4 Bad value of parameter {}", parameter.keyword))
}

/// Splits what follows a path into parameters, none of them given twice.
pub(super) fn split(text: &str) -> Result<Vec<Parameter>, Reply> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for word in text.split(BLANKS).filter(|word| !word.is_empty()) {
        let (keyword, value) = word.split_once('=').map_or((word, None), |(keyword, value)| (keyword, Some(value)));
        if !is_keyword(keyword) || !value.is_none_or(is_value) {
            return Err(Reply::new(501, "5.5.4 Syntax error in parameters"));
        }
        if parameters.iter().any(|earlier| earlier.keyword.eq_ignore_ascii_case(keyword)) {
            return Err(Reply::new(501, format!("5.5.4 Parameter {keyword} given twice")));
        }
        parameters.push(Parameter { keyword: keyword.to_owned(), value: value.map(str::to_owned) });
    }
    Ok(parameters)
}

/// Reads the values of MAIL's parameters.
pub(super) fn read_mail(reverse_path: ReversePath, parameters: Vec<Parameter>) -> Result<Mail, Reply> {
    let (mut size, mut body, mut smtp_utf8) = (None, Body::default(), false);
    for parameter in &parameters {
        let value = parameter.value.as_deref();
        let sound = match (parameter.keyword.to_ascii_uppercase().as_str(), value) {
            ("SIZE", value) => {
                size = value.and_then(number);
                size.is_some()
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => true,
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                body = Body::EightBitMime;
                true
            }
            ("BODY", _) => false,
            ("SMTPUTF8", value) => {
                smtp_utf8 = true;
                value.is_none()
            }
            // RFC 8689, section 2.
            ("REQUIRETLS", value) => value.is_none(),
            ("RET", value) => value.is_some_and(|ret| matches!(ret.to_ascii_uppercase().as_str(), "FULL" | "HDRS")),
            ("AUTH", value) => value.is_some_and(|auth| auth.len() <= MAX_AUTH && is_xtext(auth)),
            ("ENVID", value) => value.is_some_and(|envid| envid.len() <= MAX_ENVID && is_xtext(envid)),
            // Of a parameter that isn't known the value can't be wrong.
            _ => value.is_none_or(str::is_ascii),
        };
        if !sound {
            return Err(malformed(parameter));
        }
    }
    Ok(Mail { reverse_path, size, body, smtp_utf8, parameters })
}

/// Reads the values of RCPT's parameters.
pub(super) fn read_rcpt(forward_path: Address, parameters: Vec<Parameter>) -> Result<Rcpt, Reply> {
    for parameter in &parameters {
        let value = parameter.value.as_deref();
        let sound = match parameter.keyword.to_ascii_uppercase().as_str() {
            "NOTIFY" => value.is_some_and(is_notify),
            "ORCPT" => value.is_some_and(is_orcpt),
            _ => value.is_none_or(str::is_ascii),
        };
        if !sound {
            return Err(malformed(parameter));
        }
    }
    Ok(Rcpt { forward_path, parameters })
}

/// A number of octets: digits only, so no sign.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = text.len() <= MAX_DIGITS && text.bytes().all(|octet| octet.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// esmtp-keyword (RFC 5321, section 4.1.2).
fn is_keyword(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && word.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
}

/// esmtp-value (RFC 5321, section 4.1.2; with UTF-8, RFC 6531, section 3.3).
fn is_value(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|letter| letter != '=' && !letter.is_control() && letter != ' ')
}

/// `NEVER`, or other words between commas (RFC 3461, section 4.1).
fn is_notify(value: &str) -> bool {
    let word = |word: &str| ["SUCCESS", "FAILURE", "DELAY"].iter().any(|known| word.eq_ignore_ascii_case(known));
    value.eq_ignore_ascii_case("NEVER") || value.split(',').all(word)
}

/// `type;address` (RFC 3461, section 4.2; with UTF-8, RFC 6533, section 3).
fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = value.split_once(';') else { return false };
    let atom = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(&octet);
    let address_sound = if kind.eq_ignore_ascii_case("utf-8") {
        address.chars().all(|letter| letter != '+' && letter != '=')
    } else {
        is_xtext(address)
    };
    value.len() <= MAX_ORCPT && !kind.is_empty() && kind.bytes().all(atom) && !address.is_empty() && address_sound
}

/// xtext (RFC 3461, section 4): printable ASCII, `+` before two hexadecimal digits in capitals.
fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    let hex = |octets: &mut std::str::Bytes<'_>| {
        octets.next().is_some_and(|octet| octet.is_ascii_digit() || (b'A'..=b'F').contains(&octet))
    };
    while let Some(octet) = octets.next() {
        let sound = match octet {
            b'+' => hex(&mut octets) && hex(&mut octets),
            b'=' => false,
            _ => octet.is_ascii_graphic(),
        };
        if !sound {
            return false;
        }
    }
    true
}
