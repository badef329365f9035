//! Questions to the name servers of this machine, and what their answers are worth.
//!
//! Whether DNSSEC vouches for an answer is not found out here: a validating name server does that and says so (the AD bit,
//! RFC 4035, section 3.2.3). Its word counts where nobody can change it on its way, as with Postfix: all name servers are on
//! this machine, and `options trust-ad` (resolv.conf(5)) says that they are to be trusted. Docker's own at 127.0.0.11 never
//! is: it passes on what others say.

use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{FirstAnswer as _, RetryDnsHandle};
use hickory_resolver::net::{DnsError, DnsHandle as _, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

/// Which name servers there are, and whether their word counts.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Docker's name server, which validates nothing.
const OF_DOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Aliases that are followed when a name server does not follow them itself.
const MAX_ALIASES: usize = 8;

/// The name servers to ask.
#[derive(Clone)]
pub(super) struct NameServers {
    servers: Vec<NameServerConfig>,
    options: ResolverOpts,
    /// Their word about DNSSEC counts.
    pub(super) are_trusted: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The records of the kind that was asked for; none when the name has none.
    pub(super) records: Vec<RData>,
    /// Whose they are: the name, or what it is an alias of.
    pub(super) owner: String,
    /// DNSSEC vouches for all of it.
    pub(super) is_secure: bool,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The name does not exist.
    NoSuchName,
    /// The name is an alias, and this, which it leads to, does not exist.
    Dangling(String),
    /// Nobody said anything of use.
    NoAnswer(String),
}

impl NameServers {
    /// Those of this machine. The error is for people.
    pub(super) fn of_the_machine() -> Result<Self, String> {
        let text = std::fs::read(Path::new(RESOLV_CONF)).map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let (config, options) = parse_resolv_conf(text).map_err(|error| format!("{RESOLV_CONF}: {error}"))?;
        let (says_so, _) = resolv_conf::Config::parse_with_errors(text);
        let servers = config.name_servers().to_vec();
        let are_here = servers.iter().all(|server| server.ip.is_loopback() && server.ip != OF_DOCKER);
        Ok(Self::new(servers, options, says_so.trust_ad && are_here))
    }

    /// These.
    pub(super) fn new(servers: Vec<NameServerConfig>, options: ResolverOpts, are_trusted: bool) -> Self {
        Self { servers, options, are_trusted }
    }

    /// The records of `kind` that `name` has, aliases followed.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Result<Found, Missing> {
        let no_answer = |why: String| Missing::NoAnswer(why);
        let tls = TlsConfig::new().map_err(|error| no_answer(error.to_string()))?;
        let context = Arc::new(PoolContext::new(self.options.clone(), tls));
        let servers = self.servers.iter().cloned();
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        let pool = RetryDnsHandle::new(pool, self.options.attempts);
        let mut options = DnsRequestOptions::default();
        options.use_edns = self.options.edns0 || self.are_trusted;
        options.edns_payload_len = self.options.edns_payload_len;
        // Without it no name server says whether it has validated.
        options.edns_set_dnssec_ok = self.are_trusted;
        options.case_randomization = self.options.case_randomization;
        let absolute = |name: &str| Name::from_utf8(name).map_err(|error| no_answer(error.to_string()));
        let mut owner = absolute(name)?;
        owner.set_fqdn(true);
        let mut is_secure = self.are_trusted;
        let mut followed: Vec<Name> = Vec::new();
        for _ in 0..MAX_ALIASES {
            let asked = owner.clone();
            let request = DnsRequest::from_query(Query::query(owner.clone(), kind), options);
            let response = match pool.send(request).first_answer().await {
                Ok(response) => response,
                Err(error) if error.is_nx_domain() && followed.is_empty() => return Err(Missing::NoSuchName),
                Err(error) if error.is_nx_domain() => return Err(Missing::Dangling(text_of(&owner))),
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) if none.response_code == ResponseCode::NoError => {
                    return Ok(Found { records: Vec::new(), owner: text_of(&owner), is_secure: false });
                }
                Err(error) => return Err(no_answer(error.to_string())),
            };
            is_secure &= response.authentic_data;
            for _ in 0..response.answers.len() {
                let alias = response.answers.iter().find_map(|record| match &record.data {
                    RData::CNAME(target) if record.name == owner && kind != RecordType::CNAME => Some(target.0.clone()),
                    _ => None,
                });
                let Some(target) = alias else { break };
                if followed.contains(&target) || target == owner {
                    return Err(no_answer(format!("a loop of aliases at {}", text_of(&target))));
                }
                followed.push(std::mem::replace(&mut owner, target));
            }
            let own = response.answers.iter().filter(|record| record.record_type() == kind && record.name == owner);
            let records: Vec<_> = own.map(|record| record.data.clone()).collect();
            if !records.is_empty() || owner == asked {
                return Ok(Found { records, owner: text_of(&owner), is_secure });
            }
        }
        Err(no_answer(format!("more than {MAX_ALIASES} aliases")))
    }
}

/// A name as it stands in certificates and policies: in ASCII, in small letters, without the final dot.
pub(super) fn text_of(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_name_servers_counts_where_all_are_here_and_the_machine_says_so() {
        for (text, are_trusted) in [
            ("nameserver 127.0.0.53\noptions edns0 trust-ad\n", true),
            ("nameserver ::1\nnameserver 127.0.0.1\noptions trust-ad\n", true),
            ("nameserver 127.0.0.1\n", false),
            ("nameserver 127.0.0.1\nnameserver 192.0.2.53\noptions trust-ad\n", false),
            ("nameserver 192.0.2.53\noptions trust-ad\n", false),
            ("nameserver 127.0.0.11\noptions trust-ad ndots:0\n", false),
        ] {
            let found = NameServers::parse(text.as_bytes()).unwrap();
            assert_eq!(found.are_trusted, are_trusted, "{text}");
        }
        assert!(NameServers::parse(b"search example.org\n").is_err());
    }
}
