//! That the relay is no open relay, whatever its next hop trusts it with: what strangers try, held against relay control.
//!
//! The next hop takes what comes from this host for what this host answers for, so that relay control is all there is
//! between a stranger and the world. A few mistakes in a configuration would undo it. At start, and before a new
//! configuration takes effect, [`prove_closed`] goes through the same door as clients do: command lines that strangers
//! send (RFC 5321, appendix C, for source routes; the rest are habits of old mail servers), read by the parser of sessions
//! and decided by [`may_relay`](super::may_relay).
//!
//! It proves this for domains that can't be anybody's (`.invalid`, RFC 2606, section 2) and for near misses of the
//! organizations' own.

use super::policy::{has_domain, is_trusted, may_relay};
use crate::config::{Config, Listener};
use crate::mail::Address;
use crate::smtp::command::Command;
use std::net::{IpAddr, Ipv4Addr};

/// A domain that nobody has.
pub const NOWHERE: &str = "open-relay-test.invalid";
/// Domains of organizations that near misses are made of; the first ones of the configuration.
const MAX_DOMAINS: usize = 64;

/// How the configuration lets strangers send anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRelay {
    /// No stranger could be found.
    #[error("listener {listener:?} trusts every network, so that anybody may send anywhere through it")]
    NobodyIsAStranger {
        /// The listener's name.
        listener: String,
    },
    /// A stranger's recipient elsewhere was not refused.
    #[error("listener {listener:?} would pass on {line:?} for a client that is not trusted")]
    Passes {
        /// The listener's name.
        listener: String,
        /// What the stranger said.
        line: String,
    },
}

/// Tries every listener as a stranger; how many recipients were refused.
///
/// # Errors
/// The first one that was not.
pub fn prove_closed(config: &Config) -> Result<usize, OpenRelay> {
    let lines: Vec<String> = abuses(config).iter().map(|path| format!("RCPT TO:<{path}>")).collect();
    let mut refused = 0;
    for listener in &config.listeners {
        let name = || listener.name.clone();
        let client = stranger(listener).ok_or_else(|| OpenRelay::NobodyIsAStranger { listener: name() })?;
        let trusted = is_trusted(listener, client);
        for line in &lines {
            let read = Command::parse(line.as_bytes());
            if let Ok(Command::Rcpt(rcpt)) = read
                && may_relay(config, trusted, &rcpt.forward_path).is_ok()
            {
                return Err(OpenRelay::Passes { listener: name(), line: line.clone() });
            }
            refused += 1;
        }
    }
    Ok(refused)
}

/// An address of the internet whose owner the listener does not trust: the first of one in every IPv4 /8.
pub fn stranger(listener: &Listener) -> Option<IpAddr> {
    // Networks of this machine, of private use and of multicast are nobody's on the internet.
    let of_internet = (1..=223).filter(|first| !matches!(first, 10 | 100 | 127 | 169 | 172 | 192 | 198 | 203));
    of_internet.map(|first| IpAddr::V4(Ipv4Addr::new(first, 1, 1, 1))).find(|address| !is_trusted(listener, *address))
}

/// Forward-paths through which strangers send mail elsewhere, each without its brackets; all kinds stand first.
pub(super) fn abuses(config: &Config) -> Vec<String> {
    let is_own = |domain: &str| config.organizations.iter().any(|organization| has_domain(organization, domain));
    let patterns = config.organizations.iter().flat_map(|organization| &organization.domains);
    let at_nowhere = [NOWHERE, "[192.0.2.1]", "[IPv6:2001:db8::1]"].map(|place| format!("user@{place}"));
    let mut paths = Vec::from(at_nowhere);
    paths.push(format!("user%{NOWHERE}"));
    for pattern in patterns.take(MAX_DOMAINS) {
        let own = example_of(&pattern.as_text());
        paths.extend([
            format!("user%{NOWHERE}@{own}"),
            format!("{NOWHERE}!user@{own}"),
            format!("\"user@{NOWHERE}\"@{own}"),
            format!("\"user%{NOWHERE}\"@{own}"),
            format!("user@{NOWHERE}@{own}"),
            format!("user@{own}@{NOWHERE}"),
            format!("@{own}:user@{NOWHERE}"),
            format!("@{own},@{NOWHERE}:user@{NOWHERE}"),
            format!("@{NOWHERE}:user%{NOWHERE}@{own}"),
        ]);
        let above = own.split_once('.').map(|(_, above)| above.to_owned());
        let misses = [Some(format!("x{own}")), Some(format!("{own}.{NOWHERE}")), above];
        paths.extend(
            misses.into_iter().flatten().filter(|domain| !is_own(domain)).map(|domain| format!("user@{domain}")),
        );
    }
    paths
}

/// The same as addresses, as far as they are ones: what a client of ours can say.
pub fn abusive_addresses(config: &Config) -> Vec<Address> {
    abuses(config).iter().filter_map(|path| Address::parse(path).ok()).collect()
}

/// A domain that a pattern means.
fn example_of(pattern: &str) -> String {
    pattern.strip_prefix('*').map_or_else(|| pattern.to_owned(), |below| format!("www{below}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(listener: &str, domains: &str) -> Config {
        let text = format!(
            "[[listener]]\nname = \"in\"\naddress = \"192.0.2.9:25\"\nnext_hop = \"smtp://127.0.0.1:10025\"\n{listener}\n\
             [[organization]]\nname = \"acme\"\ndomains = {domains}\njournaling_address = \"a@vault.example\"\n\
             report_address = \"p@acme.example\"\n"
        );
        let machine = crate::config::Machine { hostname: "relay.example".to_owned(), stderr_is_terminal: false };
        Config::parse(&text, Path::new("c.toml"), &machine).unwrap()
    }

    #[test]
    fn a_stranger_reaches_nobody_elsewhere() {
        let config =
            config("trusted_networks = [\"10.0.0.0/8\"]", "[\"acme.example\", \"*.acme.example\", \"bücher.example\"]");
        let refused = prove_closed(&config).unwrap();
        assert_eq!(refused, abuses(&config).len());
        assert!(refused > 30, "{refused}");
        assert!(abusive_addresses(&config).len() > 15);
        let line = Command::parse(b"RCPT TO:<user@acme.example>");
        let Ok(Command::Rcpt(rcpt)) = line else { panic!("{line:?}") };
        assert_eq!(may_relay(&config, false, &rcpt.forward_path), Ok(()), "the same door lets mail in");
    }

    #[test]
    fn a_domain_above_an_organization_s_own_is_elsewhere_unless_it_is_one_too() {
        let paths = abuses(&config("", "[\"a.acme.example\", \"b.example\", \"example\"]"));
        assert!(paths.contains(&"user@acme.example".to_owned()));
        assert!(!paths.contains(&"user@example".to_owned()));
    }

    #[test]
    fn a_listener_that_trusts_everybody_is_found() {
        let mut open = config("", "[\"acme.example\"]");
        open.listeners[0].trusted_networks = vec!["0.0.0.0/1".parse().unwrap(), "128.0.0.0/1".parse().unwrap()];
        let found = prove_closed(&open).unwrap_err();
        assert_eq!(found, OpenRelay::NobodyIsAStranger { listener: "in".to_owned() });
    }

    #[test]
    fn the_stranger_is_one_who_is_not_trusted() {
        let config = config("trusted_networks = [\"1.0.0.0/8\", \"2.1.1.1\"]", "[\"acme.example\"]");
        assert_eq!(stranger(&config.listeners[0]), Some("3.1.1.1".parse().unwrap()));
    }
}
