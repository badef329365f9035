//! Which servers take a domain's mail, and where they are (RFC 5321, section 5.1; RFC 7505).
//!
//! The [`Resolver`] is the seam to the world of names: the system's one asks the DNS for mail exchangers and the system
//! for addresses, so that `/etc/hosts` means here what it means elsewhere on the machine. What the answers mean is
//! decided by [`servers_in_turn`], which looks nothing up.

use crate::mail::RecordId;
use crate::net::SharedNetwork;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use sha2::{Digest, Sha256};
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
    fn exchangers(&self, domain: &str) -> Answer<Vec<Exchanger>>;

    /// Where `host` (a name or an IP address) is found; never an empty list.
    fn addresses(&self, host: &str, port: u16) -> Answer<Vec<SocketAddr>>;
}

/// The machine's own resolver: mail exchangers by its `/etc/resolv.conf`, addresses as its network finds them.
pub struct SystemResolver {
    network: SharedNetwork,
}

impl SystemResolver {
    /// A resolver that asks `network` for addresses.
    pub fn new(network: SharedNetwork) -> Self {
        Self { network }
    }
}

impl Resolver for SystemResolver {
    fn exchangers(&self, domain: &str) -> Answer<Vec<Exchanger>> {
        let domain = domain.to_owned();
        Box::pin(async move {
            match timeout(LOOKUP, ask_dns(&domain)).await {
                Ok(answer) => answer,
                Err(_) => Err(Unresolved::NotNow(format!("MX of {domain}: no answer within {} s", LOOKUP.as_secs()))),
            }
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
            let found: Vec<_> = timeout(LOOKUP, looked_up)
                .await
                .map_err(|_| not_now(format!("no answer within {} s", LOOKUP.as_secs())))?
                .map_err(|error| not_now(error.to_string()))?
                .into_iter()
                .take(MAX_ADDRESSES)
                .collect();
            if found.is_empty() { Err(not_now("none".to_owned())) } else { Ok(found) }
        })
    }
}

async fn ask_dns(domain: &str) -> Result<Vec<Exchanger>, Unresolved> {
    let not_now = |error: NetError| Unresolved::NotNow(format!("MX of {domain}: {error}"));
    // Made anew each time: attempts are rare beside the cost, and a changed resolv.conf counts at once.
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(not_now)?;
    // The final dot: no search list.
    let lookup = match resolver.mx_lookup(format!("{domain}.")).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_nx_domain() => {
            return Err(Unresolved::Never(format!("MX of {domain}: the domain does not exist")));
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.response_code == ResponseCode::NoError => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(not_now(error)),
    };
    let exchanger = |data: &RData| match data {
        RData::MX(mx) => Some(Exchanger {
            preference: mx.preference,
            host: mx.exchange.to_utf8().trim_end_matches('.').to_ascii_lowercase(),
        }),
        _ => None,
    };
    Ok(lookup.answers().iter().filter_map(|record| exchanger(&record.data)).collect())
}

/// The hosts that take mail for `domain` in the order they are tried for the record `id`, given its MX records.
///
/// Hosts of equal preference are ordered by a hash of the id (RFC 5321, section 5.1: at random, to spread the load), so
/// that each attempt of one record takes the same way. Without MX records the domain itself is the host. Fails for the
/// null MX (RFC 7505).
pub(super) fn servers_in_turn(
    domain: &str,
    exchangers: Vec<Exchanger>,
    id: RecordId,
) -> Result<Vec<String>, Unresolved> {
    if exchangers.is_empty() {
        return Ok(vec![domain.to_owned()]);
    }
    let mut hosts: Vec<_> = exchangers.into_iter().filter(|exchanger| !exchanger.host.is_empty()).collect();
    if hosts.is_empty() {
        return Err(Unresolved::Never(format!("MX of {domain}: the domain takes no mail (null MX)")));
    }
    hosts.sort_by_cached_key(|exchanger| {
        let draw = Sha256::new().chain_update(id.as_str()).chain_update(&exchanger.host).finalize();
        (exchanger.preference, <[u8; 32]>::from(draw))
    });
    let mut hosts: Vec<_> = hosts.into_iter().map(|exchanger| exchanger.host).collect();
    hosts.dedup();
    hosts.truncate(MAX_EXCHANGERS);
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{OsEntropy, Timestamp};
    use std::collections::HashSet;

    fn id() -> RecordId {
        RecordId::new(Timestamp::from_millis(1_794_304_800_000), &OsEntropy)
    }

    fn exchanger(preference: u16, host: &str) -> Exchanger {
        Exchanger { preference, host: host.to_owned() }
    }

    #[test]
    fn the_lowest_preference_is_tried_first() {
        let found = vec![exchanger(20, "c"), exchanger(5, "a"), exchanger(10, "b")];
        assert_eq!(servers_in_turn("example.org", found, id()).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn hosts_of_equal_preference_are_spread_over_records_but_not_over_attempts() {
        let found = || ["a", "b", "c"].map(|host| exchanger(10, host)).to_vec();
        let one = id();
        let order = |id| servers_in_turn("example.org", found(), id).unwrap();
        assert_eq!(order(one), order(one));
        let firsts: HashSet<_> = (0..60).map(|_| order(id()).remove(0)).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn a_domain_without_mx_is_its_own_host() {
        assert_eq!(servers_in_turn("example.org", Vec::new(), id()).unwrap(), ["example.org"]);
    }

    #[test]
    fn the_null_mx_takes_no_mail() {
        let refused = servers_in_turn("example.org", vec![exchanger(0, "")], id());
        assert!(matches!(refused, Err(Unresolved::Never(what)) if what.contains("null MX")));
    }

    #[test]
    fn no_more_than_the_maximum_is_tried() {
        let many = (0..50).map(|number| exchanger(number, &format!("mx{number}"))).collect();
        assert_eq!(servers_in_turn("example.org", many, id()).unwrap().len(), MAX_EXCHANGERS);
    }

    #[tokio::test]
    async fn an_ip_address_is_its_own_answer() {
        let found = SystemResolver::new(crate::net::system()).addresses("::1", 2525).await.unwrap();
        assert_eq!(found, ["[::1]:2525".parse().unwrap()]);
    }
}
