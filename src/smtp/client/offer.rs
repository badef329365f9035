//! What a server offered in its reply to EHLO (RFC 5321, section 4.1.1.1), and which parameters of MAIL and RCPT that covers.

use crate::mail::Reply;
use crate::smtp::{Extensions, Limits, Mail, Mechanism, Parameter, Rcpt};

/// The offer of one server; empty before EHLO and after HELO. As many keywords as a reply has lines at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    extensions: Extensions,
    /// Every keyword in capitals, with what stands behind it.
    keywords: Vec<(String, String)>,
}

impl Offer {
    /// Reads the reply to EHLO; keywords are the same in small letters and capitals.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut offer = Self::default();
        // The first line is the server's name and greeting.
        for line in reply.lines().iter().skip(1) {
            let (keyword, rest) = line.trim().split_once([' ', '\t']).unwrap_or((line.trim(), ""));
            offer.add(keyword.to_ascii_uppercase(), rest.trim());
        }
        offer
    }

    /// The extensions known here.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether `keyword`, in capitals, was offered.
    pub fn has(&self, keyword: &str) -> bool {
        self.keywords.iter().any(|(offered, _)| offered == keyword)
    }

    /// Takes REQUIRETLS for not offered.
    pub(super) fn forget_require_tls(&mut self) {
        self.extensions.require_tls = false;
        self.keywords.retain(|(keyword, _)| keyword != "REQUIRETLS");
    }

    /// The words behind `keyword`, in capitals, as they were offered.
    pub fn attributes(&self, keyword: &str) -> impl Iterator<Item = &str> {
        let lines = self.keywords.iter().filter(move |(offered, _)| offered == keyword);
        lines.flat_map(|(_, rest)| rest.split_ascii_whitespace())
    }

    /// Whether AUTH with the mechanism PLAIN was offered (RFC 4954, RFC 4616).
    pub fn has_auth_plain(&self) -> bool {
        self.extensions.auth.contains(&Mechanism::Plain)
    }

    /// The extension that a parameter of `mail` needs and the server does not offer. `SIZE` and `BODY=7BIT` mean nothing
    /// without theirs and are left out instead ([`passes`](Self::passes)).
    pub fn lacks_for_mail(&self, mail: &Mail) -> Option<&'static str> {
        mail.parameters.iter().filter(|parameter| self.passes(parameter)).find_map(|parameter| self.lacks(parameter))
    }

    /// The extension that a parameter of `rcpt` needs and the server does not offer.
    pub fn lacks_for_rcpt(&self, rcpt: &Rcpt) -> Option<&'static str> {
        rcpt.parameters.iter().find_map(|parameter| self.lacks(parameter))
    }

    /// Whether a parameter is to be sent: all but those that can be left out without a loss.
    pub fn passes(&self, parameter: &Parameter) -> bool {
        let is = |keyword: &str| parameter.keyword.eq_ignore_ascii_case(keyword);
        // RFC 1870, section 5: the size is a hint. RFC 6152, section 2: 7BIT is what holds without the extension.
        let needless_size = is("SIZE") && self.extensions.size.is_none();
        let needless_body = is("BODY") && !self.extensions.eight_bit_mime && has_value(parameter, "7BIT");
        !(needless_size || needless_body)
    }

    fn lacks(&self, parameter: &Parameter) -> Option<&'static str> {
        let keyword = parameter.keyword.to_ascii_uppercase();
        let needed = match keyword.as_str() {
            "SIZE" => "SIZE",
            "BODY" if has_value(parameter, "BINARYMIME") => "BINARYMIME",
            "BODY" => "8BITMIME",
            "SMTPUTF8" => "SMTPUTF8",
            "RET" | "ENVID" | "NOTIFY" | "ORCPT" => "DSN",
            "AUTH" => "AUTH",
            "BY" => "DELIVERBY",
            "HOLDFOR" | "HOLDUNTIL" => "FUTURERELEASE",
            "MT-PRIORITY" => "MT-PRIORITY",
            "MTRK" => "MTRK",
            "REQUIRETLS" => "REQUIRETLS",
            "SOLICIT" => "NO-SOLICITING",
            "RRVS" => "RRVS",
            "CONPERM" => "CONPERM",
            "CONNEG" => "CONNEG",
            "TRANSID" => "CHECKPOINT",
            _ if self.has(&keyword) => return None,
            _ => "an extension with this parameter",
        };
        (!self.has(needed)).then_some(needed)
    }

    fn add(&mut self, keyword: String, rest: &str) {
        let extensions = &mut self.extensions;
        match keyword.as_str() {
            "" => return,
            "PIPELINING" => extensions.pipelining = true,
            // RFC 1870, section 4: no number, or zero, is no limit; what is no number tells none either.
            "SIZE" => extensions.size = Some(rest.parse().unwrap_or(0)),
            "8BITMIME" => extensions.eight_bit_mime = true,
            "SMTPUTF8" => extensions.smtp_utf8 = true,
            "ENHANCEDSTATUSCODES" => extensions.enhanced_status_codes = true,
            "STARTTLS" => extensions.starttls = true,
            "CHUNKING" => extensions.chunking = true,
            "BINARYMIME" => extensions.binary_mime = true,
            "DSN" => extensions.dsn = true,
            "REQUIRETLS" => extensions.require_tls = true,
            "LIMITS" => extensions.limits = Limits::read(rest),
            "AUTH" => add_mechanisms(&mut extensions.auth, rest),
            // As servers wrote it before the RFC: `AUTH=LOGIN PLAIN`.
            _ if keyword.starts_with("AUTH=") => {
                add_mechanisms(&mut extensions.auth, keyword.trim_start_matches("AUTH="));
                add_mechanisms(&mut extensions.auth, rest);
            }
            _ => {}
        }
        self.keywords.push((keyword, rest.to_owned()));
    }
}

/// Each once, however often a server names it.
fn add_mechanisms(mechanisms: &mut Vec<Mechanism>, names: &str) {
    for mechanism in names.split_ascii_whitespace().filter_map(Mechanism::parse) {
        if !mechanisms.contains(&mechanism) {
            mechanisms.push(mechanism);
        }
    }
}

fn has_value(parameter: &Parameter, value: &str) -> bool {
    parameter.value.as_deref().is_some_and(|given| given.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ReversePath;
    use crate::smtp::Body;

    fn offer(lines: &[&str]) -> Offer {
        let lines = std::iter::once("mx.example.org hello").chain(lines.iter().copied());
        Offer::from_ehlo(&Reply::multiline(250, lines.map(str::to_owned).collect()))
    }

    fn parameters(text: &str) -> Vec<Parameter> {
        let parameter = |word: &str| match word.split_once('=') {
            Some((keyword, value)) => Parameter { keyword: keyword.to_owned(), value: Some(value.to_owned()) },
            None => Parameter { keyword: word.to_owned(), value: None },
        };
        text.split_ascii_whitespace().map(parameter).collect()
    }

    fn mail(text: &str) -> Mail {
        let parameters = parameters(text);
        Mail { reverse_path: ReversePath::Null, size: None, body: Body::SevenBit, smtp_utf8: false, parameters }
    }

    #[test]
    fn keywords_are_known_in_any_case_and_order() {
        let offer = offer(&[
            "pipelining",
            "Size 1000",
            "8bitmime",
            "SmtpUtf8",
            "EnhancedStatusCodes",
            "starttls",
            "Chunking",
            "BinaryMime",
            "dsn",
            "RequireTls",
            "limits RcptMax=50 MAILMAX=7 rcptdomainmax=1 OTHER=1 x",
            "XFOO bar",
            "auth login Scram-SHA-256-PLUS scram-sha-256 EXTERNAL",
            "AUTH=PLAIN LOGIN",
        ]);
        let all = Extensions {
            pipelining: true,
            size: Some(1000),
            eight_bit_mime: true,
            smtp_utf8: true,
            enhanced_status_codes: true,
            starttls: true,
            chunking: true,
            binary_mime: true,
            dsn: true,
            require_tls: true,
            limits: Limits { mail_max: Some(7), rcpt_max: Some(50), rcpt_domain_max: Some(1) },
            auth: vec![Mechanism::Login, Mechanism::ScramSha256, Mechanism::Plain],
        };
        assert_eq!(offer.extensions(), &all);
        assert!(offer.has("XFOO") && !offer.has("BAR"));
    }

    #[test]
    fn the_server_s_name_is_no_keyword() {
        let offer = Offer::from_ehlo(&Reply::multiline(250, vec!["PIPELINING".into(), "DSN".into()]));
        assert!(!offer.extensions().pipelining && offer.extensions().dsn);
    }

    #[test]
    fn a_size_without_a_sound_number_is_no_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE many", "SIZE 99999999999999999999999"] {
            assert_eq!(offer(&[line]).extensions().size, Some(0), "{line}");
        }
    }

    #[test]
    fn a_limit_that_is_no_number_or_zero_is_none() {
        let offer = offer(&["LIMITS MAILMAX=0 RCPTMAX=many RCPTDOMAINMAX= MAILMAX"]);
        assert_eq!(offer.extensions().limits, Limits::default());
    }

    #[test]
    fn plain_is_found_in_the_new_and_the_old_way_to_write_it() {
        for line in ["AUTH PLAIN", "auth login plain", "AUTH=PLAIN LOGIN", "AUTH=LOGIN PLAIN"] {
            assert!(offer(&[line]).has_auth_plain(), "{line}");
        }
        for line in ["AUTH", "AUTH LOGIN", "AUTHX PLAIN", "XAUTH PLAIN", "AUTH=CRAM-MD5"] {
            assert!(!offer(&[line]).has_auth_plain(), "{line}");
        }
    }

    #[test]
    fn a_parameter_without_its_extension_is_named_by_it() {
        let nothing = Offer::default();
        for (parameter, extension) in [
            ("BODY=8BITMIME", "8BITMIME"),
            ("body=binarymime", "BINARYMIME"),
            ("SMTPUTF8", "SMTPUTF8"),
            ("RET=HDRS", "DSN"),
            ("ENVID=x", "DSN"),
            ("AUTH=<>", "AUTH"),
            ("XFOO=1", "an extension with this parameter"),
        ] {
            assert_eq!(nothing.lacks_for_mail(&mail(parameter)), Some(extension), "{parameter}");
        }
        assert_eq!(nothing.lacks_for_mail(&mail("SIZE=1 BODY=7BIT")), None);
        let much = offer(&["8BITMIME", "SMTPUTF8", "DSN", "AUTH LOGIN", "XFOO"]);
        assert_eq!(much.lacks_for_mail(&mail("SMTPUTF8 BODY=8BITMIME RET=FULL ENVID=x AUTH=<> XFOO=1 SIZE=1")), None);
    }

    #[test]
    fn a_recipient_s_dsn_parameters_need_dsn() {
        let forward_path = crate::mail::Address::parse("a@b.example").unwrap();
        let rcpt = Rcpt { forward_path, parameters: parameters("NOTIFY=NEVER ORCPT=rfc822;a@b.example") };
        assert_eq!(Offer::default().lacks_for_rcpt(&rcpt), Some("DSN"));
        assert_eq!(offer(&["DSN"]).lacks_for_rcpt(&rcpt), None);
    }
}
