//! MTA-STS policies as values: the TXT record that announces one, and the policy itself (RFC 8461, section 3).

use serde::{Deserialize, Serialize};

/// The longest that a policy may be kept, in seconds: a year (RFC 8461, section 3.2).
const MAX_AGE: u64 = 31_557_600;
/// The only version there is.
const VERSION: &str = "STSv1";

/// What is done where a mail exchanger does not meet the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Mode {
    /// It gets no mail.
    Enforce,
    /// The domain wants to hear of it, which is left to others (RFC 8460); it gets the mail.
    Testing,
    /// The domain has no policy any more.
    None,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Policy {
    pub(super) mode: Mode,
    /// Names of mail exchangers, some with `*.` in place of their first label.
    mx: Vec<String>,
    /// Seconds.
    pub(super) max_age: u64,
}

impl Policy {
    /// Reads a policy. The error is for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        // RFC 8461, section 3.2: of other keys that come twice the first counts, and unknown ones don't.
        for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim_matches([' ', '\t']);
            match key.trim_matches([' ', '\t']) {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" => mx.push(value.trim_end_matches('.').to_ascii_lowercase()),
                _ => {}
            }
        }
        if version != Some(VERSION) {
            return Err("it has no version STSv1".to_owned());
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err("it has none of the modes enforce, testing, none".to_owned()),
        };
        let seconds = max_age.filter(|text| text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit()));
        let max_age = seconds.and_then(|text| text.parse::<u64>().ok()).ok_or("it has no max_age in seconds")?;
        if mx.is_empty() && mode != Mode::None {
            return Err("it names no mx".to_owned());
        }
        Ok(Self { mode, mx, max_age: max_age.min(MAX_AGE) })
    }

    /// Whether the mail exchanger `host` is one that the policy names (RFC 8461, section 4.1): `*.` stands for one label.
    pub(super) fn names(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(rest) => host
                .split_once('.')
                .is_some_and(|(first, behind)| !first.is_empty() && behind.eq_ignore_ascii_case(rest)),
            None => pattern.eq_ignore_ascii_case(host),
        })
    }
}

/// The id of the policy that TXT records announce (RFC 8461, section 3.1); none unless exactly one of them does.
pub(super) fn announced(texts: &[String]) -> Option<String> {
    let mut records = texts.iter().filter_map(|text| {
        let rest = text.strip_prefix("v=STSv1")?.trim_start_matches([' ', '\t']);
        rest.strip_prefix(';')
    });
    let (record, None) = (records.next()?, records.next()) else { return None };
    let id = record.split(';').find_map(|field| {
        let (key, value) = field.split_once('=')?;
        (key.trim_matches([' ', '\t']) == "id").then(|| value.trim_matches([' ', '\t']))
    })?;
    let is_id = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n\
                         mx: backupmx.example.com.\r\nmax_age: 604800\r\n";

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let policy = Policy::parse(SOUND).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, 604_800));
        assert_eq!(policy.mx, ["mail.example.com", "*.example.net", "backupmx.example.com"]);
        assert_eq!(Policy::parse(&SOUND.replace('\r', "")), Ok(policy), "lines may end with LF alone");
        let odd =
            "version:STSv1\nmode:  testing \nunknown: x\nno colon\nmode: enforce\nmx:A.example\nmax_age:9999999999";
        let odd = Policy::parse(odd).unwrap();
        assert_eq!((odd.mode, odd.max_age, odd.names("a.example")), (Mode::Testing, MAX_AGE, true));
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for (old, new) in [
            ("version: STSv1", "version: STSv2"),
            ("version: STSv1\r\n", ""),
            ("mode: enforce", "mode: strict"),
            ("max_age: 604800", "max_age: -1"),
            ("max_age: 604800", "max_age: 1 week"),
            ("max_age: 604800", "max_age: 00000604800"),
            ("max_age: 604800", ""),
            ("mx: ", "m: "),
        ] {
            assert!(Policy::parse(&SOUND.replace(old, new)).is_err(), "{new}");
        }
        assert!(Policy::parse("<html>not found</html>").is_err());
        assert!(Policy::parse("version: STSv1\nmode: none\nmax_age: 0").is_ok(), "mode none names nobody");
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let policy = Policy::parse(SOUND).unwrap();
        for host in ["mail.example.com", "MAIL.Example.com", "mail.example.com.", "a.example.net", "b.example.net"] {
            assert!(policy.names(host), "{host}");
        }
        for host in ["example.com", "x.mail.example.com", "example.net", ".example.net", "a.b.example.net", ""] {
            assert!(!policy.names(host), "{host}");
        }
    }

    #[test]
    fn one_record_alone_announces_a_policy() {
        let id = |texts: &[&str]| announced(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;"]).as_deref(), Some("20160831085700Z"));
        assert_eq!(id(&["v=spf1 -all", "v=STSv1 ;id=1"]).as_deref(), Some("1"));
        assert_eq!(id(&["v=STSv1; x=y; id = 7 "]).as_deref(), Some("7"));
        for none in [
            &["v=STSv1; id=1", "v=STSv1; id=2"][..],
            &["v=STSv1"],
            &["v=STSv10; id=1"],
            &["v=STSv1; id="],
            &["v=STSv1; id=a-b"],
            &["v=STSv1; id=123456789012345678901234567890123"],
            &["id=1; v=STSv1"],
            &[],
        ] {
            assert_eq!(id(none), None, "{none:?}");
        }
    }
}
