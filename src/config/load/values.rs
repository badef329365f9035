//! Strings as values: each function takes the whole string, or says why not and what is allowed, to stand behind
//! `key = "found": `.

use crate::config::AddressPattern;
use crate::mail::{Address, DomainPattern};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The least wait before a second attempt.
pub(super) const SHORTEST_RETRY: Duration = Duration::from_millis(10);
/// The largest number of anything that is counted.
const MOST: u32 = 1_000_000;
/// The longest duration there may be: ten years.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);
/// The largest size there may be: a tebibyte.
const LARGEST: u64 = 1 << 40;

/// `"90s"`, `"15m"`, `"4h"`, `"8d"`, `"500ms"`.
///
/// Errors: anything else, or more than ten years; what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let form = || {
        r#"not a duration; allowed is a whole number with ms, s, m, h or d, such as "90s", "15m" or "8d""#.to_owned()
    };
    let (number, unit) = number_and_unit(text).ok_or_else(form)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(form()),
    };
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis);
    duration.filter(|duration| *duration <= LONGEST).ok_or_else(|| r#"too long; at most "3650d" is allowed"#.to_owned())
}

/// A whole number, 1 to 1,000,000.
pub(super) fn count(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().and_then(NonZeroU32::new).filter(|number| number.get() <= MOST);
    number.ok_or_else(|| format!("not a number of things; allowed is a whole number from 1 to {MOST}"))
}

/// `"64MiB"`, `"10MB"`, `"1GiB"`, `"512KiB"`, or octets alone; more than none.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let form = || {
        r#"not a size; allowed is a whole number of octets or one with KiB, MiB, GiB, KB, MB or GB, such as "64MiB""#
            .to_owned()
    };
    let (number, unit) = number_and_unit(text).ok_or_else(form)?;
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(form()),
    };
    match number.checked_mul(factor) {
        Some(0) => Err("too small; at least 1 is allowed".to_owned()),
        Some(size) if size <= LARGEST => Ok(size),
        _ => Err(r#"too large; at most "1024GiB" is allowed"#.to_owned()),
    }
}

/// An IP address and a port: `"0.0.0.0:25"`, `"[::]:25"`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        r#"not a socket address; allowed is an IP address with a port, such as "0.0.0.0:25" or "[::]:25""#.to_owned()
    })
}

/// An IP network, or an IP address alone.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        r#"not a network; allowed is an IP address or one with a prefix length, such as "192.0.2.0/24" or "::1""#
            .to_owned()
    })?;
    // Whoever writes 10.1.2.3/8 means one host or a whole network; trust is not given on a guess.
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!(
            "the address has bits behind the prefix; allowed is \"{}\" or \"{}\"",
            network.trunc(),
            network.addr()
        ))
    }
}

/// Networks that somebody can answer for: not the internet, nor a large part of it. The largest that an organization is given
/// are an IPv4 /8 and an IPv6 /20; what is not routed on the internet (RFC 4193, section 3.1; RFC 4291, section 2.5.6) may be
/// taken whole.
pub(super) fn own_network(text: &str) -> Result<IpNet, String> {
    let network = network(text)?;
    let is_too_large = match network {
        IpNet::V4(network) => network.prefix_len() < 8,
        IpNet::V6(network) => {
            let first = network.network().segments()[0];
            let is_local = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80;
            network.prefix_len() < if is_local { 7 } else { 20 }
        }
    };
    if is_too_large {
        return Err(
            "a large part of the internet, which would make this an open relay; allowed are your own networks, an \
             IPv4 /8 or an IPv6 /20 at the largest, and \"fc00::/7\" and \"fe80::/10\""
                .to_owned(),
        );
    }
    Ok(network)
}

/// The relay's own name.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    match DomainPattern::parse(text) {
        Ok(_) if !text.starts_with('*') => Ok(text.to_owned()),
        _ => Err(r#"not a host name; allowed is a domain such as "relay.example.org""#.to_owned()),
    }
}

/// A domain, or the domains below one.
pub(super) fn domain(text: &str) -> Result<DomainPattern, String> {
    DomainPattern::parse(text)
        .map_err(|error| format!("{error}; allowed is a domain such as \"example.org\" or \"*.example.org\""))
}

/// A mailbox with a domain.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let allowed = r#"allowed is an address such as "user@example.org""#;
    let address = Address::parse(text).map_err(|error| format!("{error}; {allowed}"))?;
    if address.domain().is_some() { Ok(address) } else { Err(format!("an address without a domain; {allowed}")) }
}

/// `*`, `*@domain` or a mailbox.
pub(super) fn address_pattern(text: &str) -> Result<AddressPattern, String> {
    if text == "*" {
        return Ok(AddressPattern::Any);
    }
    let pattern = match text.strip_prefix("*@") {
        Some(domain) => DomainPattern::parse(domain).map(AddressPattern::Domain).map_err(|error| error.to_string()),
        None => address(text).map(AddressPattern::Address).map_err(|_| "not an address".to_owned()),
    };
    pattern
        .map_err(|why| format!("{why}; allowed is \"*\", \"*@example.org\" or an address such as \"user@example.org\""))
}

/// A path of the file system, absolute or from the working directory.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        Err(r#"not a path; allowed is a path such as "/var/lib/journal-relay""#.to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// A name for logs: letters, digits, `-`, `_` and `.`, 64 of them at most.
pub(super) fn name(text: &str) -> Result<String, String> {
    let sound = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
    if (1..=64).contains(&text.len()) && text.bytes().all(sound) {
        Ok(text.to_owned())
    } else {
        Err("not a name; allowed are 1 to 64 letters, digits, \"-\", \"_\" and \".\"".to_owned())
    }
}

/// One of a few words, each with its meaning.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let known = words.iter().find(|(word, _)| *word == text);
        known.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let verb = if words.len() == 1 { "is" } else { "are" };
            format!("unknown; allowed {verb} {}", words.join(", "))
        })
    }
}

/// A whole number and what stands behind it, nothing between.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, ms) in
            [("90s", 90_000), ("15m", 900_000), ("4h", 14_400_000), ("8d", 691_200_000), ("500ms", 500), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "15", "1.5h", "-1s", "1 s", "1S", "1w", "1h30m", "+1s", "99999999999999999999d"] {
            assert!(duration(text).unwrap_err().starts_with("not a duration"), "{text}");
        }
        assert!(duration("3650d").is_ok());
        for text in ["3651d", "18446744073709551615d"] {
            assert!(duration(text).unwrap_err().starts_with("too long"), "{text}");
        }
    }

    #[test]
    fn sizes_are_octets_binary_or_decimal() {
        let cases = [
            ("64MiB", 67_108_864),
            ("10MB", 10_000_000),
            ("1GiB", 1 << 30),
            ("512KiB", 524_288),
            ("1", 1),
            ("2KB", 2_000),
            ("1GB", 1_000_000_000),
        ];
        for (text, octets) in cases {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
        for text in ["", "MiB", "64 MiB", "64mib", "1.5GiB", "-1", "10M"] {
            assert!(size(text).unwrap_err().starts_with("not a size"), "{text}");
        }
        assert!(size("0MiB").unwrap_err().starts_with("too small"));
        assert!(size("1025GiB").unwrap_err().starts_with("too large"));
    }

    #[test]
    fn an_address_alone_is_the_network_of_one_host() {
        assert_eq!(network("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert_eq!(network("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
    }

    #[test]
    fn a_network_with_bits_behind_its_prefix_is_not_guessed_at() {
        let why = network("10.1.2.3/8").unwrap_err();
        assert!(why.contains("\"10.0.0.0/8\"") && why.contains("\"10.1.2.3\""), "{why}");
    }

    #[test]
    fn patterns_mean_everybody_a_domain_or_a_mailbox() {
        assert_eq!(address_pattern("*"), Ok(AddressPattern::Any));
        let below = DomainPattern::parse("*.example.org").unwrap();
        assert_eq!(address_pattern("*@*.example.org"), Ok(AddressPattern::Domain(below)));
        let user = Address::parse("user@example.org").unwrap();
        assert_eq!(address_pattern("user@example.org"), Ok(AddressPattern::Address(user)));
        for text in ["", "example.org", "*example.org", "*@", "u*@", "@example.org"] {
            assert!(address_pattern(text).is_err(), "{text}");
        }
    }
}
