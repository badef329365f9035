//! MTA-STS: what a domain asks of whoever sends it mail, over the web's certificates (RFC 8461).
//!
//! A policy is kept for as long as it says, by [`PolicyMemory`] also across restarts: it protects because whoever can keep its
//! lookup from succeeding can't make it forgotten. Every five minutes at most, when mail goes there, the DNS is asked
//! whether there is another one; what can't be fetched changes nothing. Without a policy, mail goes as the route says.

mod fetch;
mod memory;
mod policy;

pub(super) use fetch::Web;
use memory::MAX_OCTETS;
pub use memory::{FileMemory, NoMemory, PolicyMemory, Saved};

use crate::clock::SharedClock;
use crate::mail::Timestamp;
use policy::{Mode, Policy, announced};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long an answer of the DNS and of the web server, good or bad, is not asked for again.
const CHECK_AFTER: Duration = Duration::from_secs(5 * 60);
/// How old a policy gets before it is fetched again though nobody announces another (RFC 8461, section 10.2).
const REFRESH_AFTER: Duration = Duration::from_secs(86_400);
/// Domains that are known at a time: those of routes `mx`, of which a configuration has two for each organization.
const MAX_DOMAINS: usize = 4_096;

/// The policies of all domains that mail goes to.
pub(super) struct Sts {
    domains: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Domain>>>>,
    kept: Mutex<BTreeMap<String, Kept>>,
    memory: Arc<dyn PolicyMemory>,
    clock: SharedClock,
}

/// A policy as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// By which it was announced.
    id: String,
    /// When it was fetched.
    fetched: Timestamp,
    policy: Policy,
}

/// What is known of a domain beside its policy.
#[derive(Debug, Default)]
struct Domain {
    /// When it was asked last.
    checked: Option<Timestamp>,
    /// Its policy could not be fetched then.
    is_failing: bool,
}

/// What a domain asks of its mail exchangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing.
    Nothing,
    /// Only these, with TLS and their names verified.
    Only(Policy),
}

impl Demand {
    /// Whether `host` may get mail.
    pub(super) fn allows(&self, host: &str) -> bool {
        match self {
            Self::Nothing => true,
            Self::Only(policy) => policy.names(host),
        }
    }
}

/// For people who try a route out.
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "MTA-STS: no policy is enforced",
            Self::Only(_) => "MTA-STS: a policy is enforced",
        })
    }
}

impl Kept {
    fn is_current(&self, now: Timestamp) -> bool {
        now.since(self.fetched) < Duration::from_secs(self.policy.max_age)
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.fetched) < REFRESH_AFTER
    }
}

impl Sts {
    /// With the policies that `memory` has kept.
    pub(super) fn new(memory: Arc<dyn PolicyMemory>, clock: SharedClock) -> Self {
        let kept = match memory.recall().map(|octets| serde_json::from_slice(&octets.unwrap_or(b"{}".to_vec()))) {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => forgotten(&error),
            Err(error) => forgotten(&error),
        };
        Self { domains: Mutex::default(), kept: Mutex::new(kept), memory, clock }
    }

    /// What `domain` asks for now. Ends within the limits of a DNS lookup and a fetch; one of both is under way for a domain.
    pub(super) async fn demand(&self, domain: &str, web: &Web<'_>) -> Demand {
        let known = self.domain(domain);
        let mut known = known.lock().await;
        let now = self.clock.now();
        if known.checked.is_none_or(|checked| now < checked || now.since(checked) >= CHECK_AFTER) {
            self.check(domain, web, &mut known).await;
            known.checked = Some(self.clock.now());
        }
        let now = self.clock.now();
        match self.kept().get(domain).filter(|kept| kept.is_current(now)) {
            Some(Kept { policy, .. }) if policy.mode == Mode::Enforce => Demand::Only(policy.clone()),
            _ => Demand::Nothing,
        }
    }

    /// Sees whether there is another policy, and fetches it.
    async fn check(&self, domain: &str, web: &Web<'_>, known: &mut Domain) {
        let texts = web.resolver.texts(&format!("_mta-sts.{domain}")).await;
        // RFC 8461, section 3.3 and 5.1: without an announcement what is kept stays in force.
        let Some(id) = texts.ok().as_deref().and_then(announced) else { return };
        let now = self.clock.now();
        if self.kept().get(domain).is_some_and(|kept| kept.id == id && kept.is_current(now) && kept.is_fresh(now)) {
            return;
        }
        match fetch::fetch(domain, web).await {
            Ok(policy) => {
                known.is_failing = false;
                tracing::debug!(event = "sts.policy", domain, id, mode = ?policy.mode, "the MTA-STS policy was fetched");
                self.keep(domain, Kept { id, fetched: self.clock.now(), policy }).await;
            }
            Err(error) => {
                if !known.is_failing {
                    let route = format!("mx:{domain}");
                    tracing::warn!(
                        event = "route.state",
                        route,
                        state = "mta_sts_unavailable",
                        error,
                        "the domain announces an MTA-STS policy that can't be fetched; one that is kept stays in force"
                    );
                }
                known.is_failing = true;
            }
        }
    }

    async fn keep(&self, domain: &str, policy: Kept) {
        let now = self.clock.now();
        let octets = {
            let mut kept = self.kept();
            kept.insert(domain.to_owned(), policy);
            kept.retain(|_, kept| kept.is_current(now));
            bound(&mut kept, domain, MAX_OCTETS);
            serde_json::to_vec(&*kept)
        };
        let saved = match octets {
            Ok(octets) => self.memory.keep(octets).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = saved {
            tracing::warn!(event = "sts.policy", %error, "MTA-STS policies can't be kept across a restart");
        }
    }

    fn domain(&self, domain: &str) -> Arc<tokio::sync::Mutex<Domain>> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.len() >= MAX_DOMAINS && !domains.contains_key(domain) {
            // Those of former configurations; who is asked for again is only checked again.
            domains.retain(|_, known| Arc::strong_count(known) > 1);
        }
        Arc::clone(domains.entry(domain.to_owned()).or_default())
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops those that were fetched first until there are no more than [`MAX_DOMAINS`] and they are written in `most` octets; never
/// that of `newest`.
fn bound(kept: &mut BTreeMap<String, Kept>, newest: &str, most: usize) {
    // Each takes an octet more as a pair than in the object, which pays for the object's braces.
    let size = |entry: (&String, &Kept)| serde_json::to_vec(&entry).map_or(0, |octets| octets.len());
    let mut by_age: Vec<_> = kept.iter().map(|entry| (entry.1.fetched, entry.0.clone(), size(entry))).collect();
    by_age.sort();
    let mut octets: usize = by_age.iter().map(|(_, _, size)| size).sum();
    for (_, domain, size) in by_age {
        if octets <= most && kept.len() <= MAX_DOMAINS {
            break;
        }
        if domain != newest {
            kept.remove(&domain);
            octets -= size;
        }
    }
}

fn forgotten(error: &dyn std::fmt::Display) -> BTreeMap<String, Kept> {
    tracing::warn!(event = "sts.policy", %error, "MTA-STS policies that were kept can't be read; they are fetched again");
    BTreeMap::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn kept(fetched: Timestamp) -> Kept {
        let policy = Policy::parse("version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 604800\n").unwrap();
        Kept { id: "1".to_owned(), fetched, policy }
    }

    #[tokio::test]
    async fn where_there_are_too_many_policies_the_oldest_goes_and_never_the_new_one() {
        let now = clock::system().now();
        let sts = Sts::new(Arc::new(NoMemory), clock::system());
        let of = |before: u64| kept(now.minus(Duration::from_millis(before)));
        *sts.kept() = (0..MAX_DOMAINS as u64).map(|domain| (format!("d{domain:04}.example"), of(domain))).collect();
        sts.keep("a.example", of(100_000)).await;
        let kept = sts.kept();
        assert_eq!(kept.len(), MAX_DOMAINS);
        assert!(kept.contains_key("a.example") && kept.contains_key("d0000.example"));
        assert!(!kept.contains_key("d4095.example"), "the oldest of the others");
    }

    #[test]
    fn what_is_kept_is_no_more_than_what_is_read_back() {
        let of = |age: i64| (format!("d{age}.example"), kept(Timestamp::from_millis(10 - age)));
        let mut all: BTreeMap<_, _> = (0..10).map(of).collect();
        let whole = serde_json::to_vec(&all).unwrap().len();
        bound(&mut all, "d9.example", whole / 2);
        assert!(serde_json::to_vec(&all).unwrap().len() <= whole / 2);
        let left: Vec<_> = all.keys().map(String::as_str).collect();
        assert_eq!(left, ["d0.example", "d1.example", "d2.example", "d9.example"], "the new one, and the youngest");
    }
}
