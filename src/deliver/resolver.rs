//! Which servers take a domain's mail, and where they are (RFC 5321, section 5.1; RFC 7505), and what the DNS says of how they
//! encrypt (RFC 7672, section 2; the TXT record of RFC 8461).
//!
//! The [`Resolver`] is the seam to the world of names: the system's one asks the DNS for mail exchangers and the system
//! for addresses, so that `/etc/hosts` means here what it means elsewhere on the machine. What the answers mean is
//! decided by [`servers_in_turn`], which looks nothing up.

use super::dns::{Found, Missing, NameServers, text_of};
use crate::mail::{RecordId, Sha256};
use crate::net::{Dane, SharedNetwork, Tlsa};
use hickory_resolver::proto::rr::{RData, RecordType};
use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use tokio::time::timeout;

/// Mail exchangers of one domain that are tried in one attempt (Postfix tries five addresses).
pub const MAX_EXCHANGERS: usize = 10;
/// Addresses of one host that are tried in one attempt.
pub const MAX_ADDRESSES: usize = 5;
/// How long the system may take to find a host's addresses, or the DNS a domain's mail exchangers.
const LOOKUP: Duration = Duration::from_secs(60);

/// An answer that comes later.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Unresolved>> + Send>>;

/// One MX record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanger {
    /// Lower ones are asked first.
    pub preference: u16,
    /// The host without final dot; empty for `.`, the null MX (RFC 7505).
    pub host: String,
}

/// The mail exchangers of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchangers {
    /// Its MX records, in any order; none when it has none.
    pub found: Vec<Exchanger>,
    /// DNSSEC vouches for them. Of a domain without any that is not known; its address says it.
    pub are_secure: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The domain does not exist, or takes no mail: until somebody changes that, trying again is of no use.
    #[error("{0}")]
    Never(String),
    /// No answer this time.
    #[error("{0}")]
    NotNow(String),
}

/// The world of names.
pub trait Resolver: Send + Sync + 'static {
    /// The MX records of `domain`; none when it exists without any. Fails with [`Unresolved::Never`] when it does not exist.
    fn exchangers(&self, domain: &str) -> Answer<Exchangers>;

    /// Where `host` (a name or an IP address) is found; never an empty list.
    fn addresses(&self, host: &str, port: u16) -> Answer<Vec<SocketAddr>>;

    /// The TXT records of `name`, the pieces of each joined; none when there is no such name. A world without them has none.
    fn texts(&self, _name: &str) -> Answer<Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What the TLSA records of the server at `host` and `port` say, where DNSSEC vouches for its address and for them. Fails
    /// where that can't be found out: the server must not be used then (RFC 7672, section 2.1.2). A world without DNSSEC
    /// knows nothing.
    fn dane(&self, _host: &str, _port: u16) -> Answer<Option<Dane>> {
        Box::pin(async { Ok(None) })
    }
}

/// The machine's own resolver: mail exchangers by its `/etc/resolv.conf`, addresses as its network finds them.
pub struct SystemResolver {
    network: SharedNetwork,
    /// Name servers that are asked instead of the machine's.
    name_servers: Option<NameServers>,
}

impl SystemResolver {
    /// A resolver that asks `network` for addresses.
    pub fn new(network: SharedNetwork) -> Self {
        Self { network, name_servers: None }
    }

    /// One that asks these name servers.
    #[cfg(test)]
    pub(super) fn with_name_servers(network: SharedNetwork, name_servers: NameServers) -> Self {
        Self { network, name_servers: Some(name_servers) }
    }

    /// Asks within [`LOOKUP`].
    fn asking<T: Send + 'static, F: Future<Output = Result<T, Unresolved>> + Send>(
        &self,
        what: String,
        ask: impl FnOnce(NameServers) -> F + Send + 'static,
    ) -> Answer<T> {
        // Read anew each time: attempts are rare beside the cost, and a changed resolv.conf counts at once.
        let name_servers = self.name_servers.clone().map_or_else(NameServers::of_the_machine, Ok);
        Box::pin(async move {
            let name_servers = name_servers.map_err(Unresolved::NotNow)?;
            let late = || Unresolved::NotNow(format!("{what}: no answer within {} s", LOOKUP.as_secs()));
            timeout(LOOKUP, ask(name_servers)).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

impl Resolver for SystemResolver {
    fn exchangers(&self, domain: &str) -> Answer<Exchangers> {
        let what = format!("MX of {domain}");
        let domain = domain.to_owned();
        self.asking(what.clone(), async move |name_servers| {
            let found = match name_servers.ask(&domain, RecordType::MX).await {
                Ok(found) => found,
                Err(Missing::NoSuchName) => {
                    return Err(Unresolved::Never(format!("{what}: the domain does not exist")));
                }
                // The domain is there, and what it refers to may come.
                Err(Missing::Dangling(target)) => {
                    return Err(Unresolved::NotNow(format!("{what}: an alias of {target}, which does not exist")));
                }
                Err(Missing::NoAnswer(why)) => return Err(Unresolved::NotNow(format!("{what}: {why}"))),
            };
            let exchanger = |data: &RData| match data {
                RData::MX(mx) => Some(Exchanger { preference: mx.preference, host: text_of(&mx.exchange) }),
                _ => None,
            };
            Ok(Exchangers {
                found: found.records.iter().filter_map(exchanger).collect(),
                are_secure: found.is_secure || (found.records.is_empty() && name_servers.are_trusted),
            })
        })
    }

    fn addresses(&self, host: &str, port: u16) -> Answer<Vec<SocketAddr>> {
        let host = host.to_owned();
        let looked_up = self.network.resolve(&host, port);
        Box::pin(async move {
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(vec![SocketAddr::new(address, port)]);
            }
            let not_now = |what: String| Unresolved::NotNow(format!("address of {host}: {what}"));
            let found = timeout(LOOKUP, looked_up)
                .await
                .map_err(|_| not_now(format!("no answer within {} s", LOOKUP.as_secs())))?
                .map_err(|error| not_now(error.to_string()))?;
            if found.is_empty() { Err(not_now("none".to_owned())) } else { Ok(by_turns(found)) }
        })
    }

    fn texts(&self, name: &str) -> Answer<Vec<String>> {
        let what = format!("TXT of {name}");
        let name = name.to_owned();
        self.asking(what.clone(), async move |name_servers| {
            let found = match name_servers.ask(&name, RecordType::TXT).await {
                Ok(found) => found,
                Err(Missing::NoSuchName | Missing::Dangling(_)) => return Ok(Vec::new()),
                Err(Missing::NoAnswer(why)) => return Err(Unresolved::NotNow(format!("{what}: {why}"))),
            };
            let text = |data: &RData| match data {
                RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
                _ => None,
            };
            Ok(found.records.iter().filter_map(text).collect())
        })
    }

    fn dane(&self, host: &str, port: u16) -> Answer<Option<Dane>> {
        let host = host.to_owned();
        self.asking(format!("TLSA of {host}"), async move |name_servers| {
            if !name_servers.are_trusted || host.parse::<IpAddr>().is_ok() {
                return Ok(None);
            }
            look_up_dane(&name_servers, &host, port).await
        })
    }
}

/// RFC 7672, section 2.2.2 and 2.2.3: the records below the name at the end of a secure chain of aliases first, then those
/// below the host's own.
async fn look_up_dane(name_servers: &NameServers, host: &str, port: u16) -> Result<Option<Dane>, Unresolved> {
    let not_now = |of: &str, why: String| Unresolved::NotNow(format!("{of} of {host}: {why}"));
    let mut found: Vec<Found> = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        match name_servers.ask(host, kind).await {
            Ok(answer) if !answer.records.is_empty() => found.push(answer),
            // Another source of names may know it.
            Ok(_) | Err(Missing::NoSuchName | Missing::Dangling(_)) => {}
            Err(Missing::NoAnswer(why)) => return Err(not_now("address", why)),
        }
    }
    let Some(owner) = found.first().map(|answer| answer.owner.clone()) else { return Ok(None) };
    let mut bases = Vec::new();
    if found.iter().all(|answer| answer.is_secure) {
        bases.push(owner.clone());
        if owner != host {
            bases.push(host.to_owned());
        }
    } else if owner != host {
        // The alias itself may be secure though what it leads to is not.
        match name_servers.ask(host, RecordType::CNAME).await {
            Ok(alias) if alias.is_secure => bases.push(host.to_owned()),
            Ok(_) | Err(Missing::NoSuchName | Missing::Dangling(_)) => {}
            Err(Missing::NoAnswer(why)) => return Err(not_now("CNAME", why)),
        }
    }
    for base in bases {
        let answer = match name_servers.ask(&format!("_{port}._tcp.{base}"), RecordType::TLSA).await {
            Ok(answer) if answer.is_secure && !answer.records.is_empty() => answer,
            Ok(_) | Err(Missing::NoSuchName | Missing::Dangling(_)) => continue,
            // A lookup that fails may be one that somebody makes fail.
            Err(Missing::NoAnswer(why)) => return Err(not_now("TLSA", why)),
        };
        let record = |data: RData| match data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data,
            }),
            _ => None,
        };
        let mut names = vec![base.clone()];
        names.extend((base != host).then(|| host.to_owned()));
        return Ok(Some(Dane::new(names, answer.records.into_iter().filter_map(record).collect())));
    }
    Ok(None)
}

/// Addresses in the system's order, but with the families in turn, so that one that leads nowhere leaves the other its share
/// of the [`MAX_ADDRESSES`].
fn by_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = found.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    while turns.len() < MAX_ADDRESSES {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            break;
        }
    }
    turns.truncate(MAX_ADDRESSES);
    turns
}

/// The hosts that take mail for `domain` in the order they are tried for the record `id`, given its MX records.
///
/// Hosts of equal preference are ordered by a hash of the id (RFC 5321, section 5.1: at random, to spread the load), so
/// that each attempt of one record takes the same way. Without MX records the domain itself is the host. Where this machine,
/// called `us`, is one of them, those of its preference and behind it would only give the mail back, and are left out (the same
/// section). Fails for the null MX (RFC 7505), and where no host is left.
pub(super) fn servers_in_turn(
    domain: &str,
    exchangers: Vec<Exchanger>,
    us: &str,
    id: RecordId,
) -> Result<Vec<String>, Unresolved> {
    if exchangers.is_empty() {
        return Ok(vec![domain.to_owned()]);
    }
    let mut hosts: Vec<_> = exchangers.into_iter().filter(|exchanger| !exchanger.host.is_empty()).collect();
    if hosts.is_empty() {
        return Err(Unresolved::Never(format!("MX of {domain}: the domain takes no mail (null MX)")));
    }
    let is_us = |exchanger: &&Exchanger| exchanger.host.eq_ignore_ascii_case(us);
    if let Some(ours) = hosts.iter().filter(is_us).map(|exchanger| exchanger.preference).min() {
        hosts.retain(|exchanger| exchanger.preference < ours);
        if hosts.is_empty() {
            return Err(Unresolved::Never(format!("MX of {domain}: the best host is this one, {us}")));
        }
    }
    hosts.sort_by_cached_key(|exchanger| {
        let draw = Sha256::of([id.as_str(), &exchanger.host].concat().as_bytes());
        (exchanger.preference, draw)
    });
    let mut seen = BTreeSet::new();
    let once = hosts.into_iter().map(|exchanger| exchanger.host).filter(|host| seen.insert(host.clone()));
    Ok(once.take(MAX_EXCHANGERS).collect())
}

#[cfg(test)]
mod tests;
