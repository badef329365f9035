//! One attempt at one letter, by whatever route: a server, a domain's mail exchangers in turn, a maildir.
//!
//! Knows which connections wait. What follows for the record and for the route is decided elsewhere.

use super::connection::Connection;
use super::letter::Letter;
use super::opening::Opener;
use super::pool::Pool;
use super::resolver::{Exchangers, Resolver, Unresolved, servers_in_turn};
use super::sts::{Demand, PolicyMemory, Sts, Web};
use super::target::Target;
use super::tls::TlsClients;
use super::verdict::{Cause, Failure, Stage, Verdict};
use crate::clock::SharedClock;
use crate::config::{MxRoute, Route, SmtpRoute, Tls};
use crate::drain::Drain;
use crate::journal::ArchiveOffers;
use crate::mail::{Address, Reply, ReplyClass, ascii_domain};
use crate::maildir::Maildir;
use crate::net::SharedNetwork;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// After this time an attempt tries no further address, nor host: what waits behind it has to have its turn.
const SEARCH: Duration = Duration::from_secs(10 * 60);

/// The way out for all organizations.
pub(super) struct Post {
    resolver: Arc<dyn Resolver>,
    network: SharedNetwork,
    tls: TlsClients,
    sts: Sts,
    pool: Pool,
    clock: SharedClock,
    drain: Drain,
}

/// What a courier sends one letter after the other with.
#[derive(Default)]
pub(super) struct Van {
    /// The route's server, as it was last.
    server: Option<SmtpRoute>,
    target: Option<Target>,
    connection: Option<Connection>,
}

impl Van {
    fn label(&self) -> String {
        self.target.as_ref().map(|target| target.server.to_string()).unwrap_or_default()
    }
}

/// The hosts that take mail for an address.
struct Hosts {
    /// In the order they are tried.
    hosts: Vec<String>,
    /// The domain whose mail exchangers they are; none for an address literal, which has no policies.
    domain: Option<String>,
    /// DNSSEC vouches for them.
    are_secure: bool,
}

impl Post {
    pub(super) fn new(
        resolver: Arc<dyn Resolver>,
        network: SharedNetwork,
        policies: Arc<dyn PolicyMemory>,
        clock: SharedClock,
        drain: Drain,
    ) -> Self {
        let sts = Sts::new(policies, Arc::clone(&clock));
        Self { resolver, network, tls: TlsClients::default(), sts, pool: Pool::default(), clock, drain }
    }

    /// The same, for whom another file has the system's authorities.
    #[cfg(test)]
    pub(super) fn with_tls(self, tls: TlsClients) -> Self {
        Self { tls, ..self }
    }

    /// Sends `letter` by `route`, saying EHLO as `hostname`. Ends when the server has answered or a named limit has passed.
    pub(super) async fn send(&self, route: &Route, hostname: &str, letter: &Letter) -> Verdict {
        self.send_telling(route, hostname, letter, None).await
    }

    /// The same; `tell` hears of what is found out about the domain and of each connection that is made.
    pub(super) async fn send_telling(
        &self,
        route: &Route,
        hostname: &str,
        letter: &Letter,
        tell: Option<&(dyn Fn(String) + Sync)>,
    ) -> Verdict {
        let opener = self.opener(hostname, tell);
        match route {
            Route::Smtp(server) => {
                let target = Target::from(server.clone());
                Verdict::of(self.send_to(&target, &opener, letter, None, None).await, &server.to_string())
            }
            Route::Mx(mx) => Box::pin(self.send_to_exchangers(mx, &opener, letter)).await,
            Route::Maildir(path) => Verdict::of(Box::pin(self.keep(path, letter)).await, &route.to_string()),
        }
    }

    fn opener<'a>(&'a self, hostname: &'a str, tell: Option<&'a (dyn Fn(String) + Sync)>) -> Opener<'a> {
        let until = Instant::now() + SEARCH;
        Opener { resolver: &*self.resolver, network: &*self.network, tls: &self.tls, hostname, until, tell }
    }

    /// Sends `letter` as [`send`](Self::send) does, and keeps the connection for the next one in `van`; the envelope of `next`
    /// goes out with its end, where one server is the way and takes that. Who is through [unloads](Self::unload).
    pub(super) async fn send_on(
        &self,
        route: &Route,
        hostname: &str,
        letter: &Letter,
        next: Option<&Letter>,
        van: &mut Van,
    ) -> Verdict {
        let Route::Smtp(server) = route else { return Box::pin(self.send(route, hostname, letter)).await };
        if van.server.as_ref() != Some(server) {
            self.unload(van).await;
            (van.server, van.target) = (Some(server.clone()), Some(Target::from(server.clone())));
        }
        let Van { target: Some(target), connection, .. } = van else { return self.send(route, hostname, letter).await };
        let next = next.filter(|_| self.pool.takes_ahead(target));
        let result = self.send_to(target, &self.opener(hostname, None), letter, next, Some(connection)).await;
        Verdict::of(result, &van.label())
    }

    /// Sees to it that the server of `van` is sent no envelope ahead for some time.
    pub(super) fn send_nothing_ahead(&self, van: &Van) {
        if let Some(target) = &van.target {
            self.pool.send_nothing_ahead(target);
        }
    }

    /// Takes the connection out of `van`: another may use it, unless an envelope was begun on it.
    pub(super) async fn unload(&self, van: &mut Van) {
        if let (Some(target), Some(connection)) = (&van.target, van.connection.take()) {
            self.put_by(target, connection).await;
        }
    }

    /// The slots of a route: who sends over it holds one.
    pub(super) fn slots(&self, route: &Route, forward_path: &Address) -> Arc<Semaphore> {
        self.pool.slots(&label(route, forward_path), route.connections())
    }

    /// Looks after idle connections until the end has begun.
    pub(super) async fn keep_connections(&self) {
        self.pool.keep(&self.drain).await;
    }

    /// One server: over the connection in the van or one that waits, or a new one when there is none or it has died meanwhile.
    ///
    /// What was said to an envelope sent ahead counts only when it is said again without: a server may throw such an envelope
    /// away, or refuse its kind. One that takes the same letter otherwise gets no more of them for some time.
    async fn send_to(
        &self,
        server: &Target,
        opener: &Opener<'_>,
        letter: &Letter,
        next: Option<&Letter>,
        mut van: Option<&mut Option<Connection>>,
    ) -> Result<Reply, Failure> {
        let mut was_ahead = false;
        let held = van.as_mut().and_then(|van| van.take());
        if let Some(mut connection) = held.or_else(|| self.pool.take(server)) {
            was_ahead = connection.is_ahead_of(letter);
            let result = connection.send(letter, next).await;
            let is_asked_again = result.as_ref().is_err_and(|failure| {
                failure.is_stale()
                    || was_ahead && failure.is_about_the_envelope()
                    || self.minds_what_is_behind(server, &connection, failure)
            });
            if !is_asked_again {
                self.put_back(server, connection, &result, van).await;
                return result;
            }
        }
        // What is rare stands beside: a record's task is moved several times before it begins.
        let mut connection = Box::pin(Connection::open(server, opener)).await?;
        let next = next.filter(|_| !was_ahead && self.pool.takes_ahead(server));
        let mut result = Box::pin(connection.send(letter, next)).await;
        if result.as_ref().is_err_and(|failure| self.minds_what_is_behind(server, &connection, failure)) {
            connection = Box::pin(Connection::open(server, opener)).await?;
            result = Box::pin(connection.send(letter, None)).await;
        }
        if was_ahead && result.is_ok() {
            self.pool.send_nothing_ahead(server);
        }
        self.put_back(server, connection, &result, van).await;
        result
    }

    /// Takes note of a server that fails at a final dot with an envelope behind it: it gets none ahead for some time. Whether it
    /// has refused the letter, perhaps for that alone.
    fn minds_what_is_behind(&self, server: &Target, connection: &Connection, failure: &Failure) -> bool {
        let is_it = connection.is_ahead() && failure.stage == Stage::EndOfData;
        if is_it {
            self.pool.send_nothing_ahead(server);
        }
        is_it && matches!(&failure.cause, Cause::Reply(reply) if reply.class() == ReplyClass::Permanent)
    }

    async fn put_back(
        &self,
        server: &Target,
        mut connection: Connection,
        result: &Result<Reply, Failure>,
        van: Option<&mut Option<Connection>>,
    ) {
        match (result, van) {
            (Ok(_), Some(van)) if connection.is_ahead() || !self.drain.has_begun() && connection.is_usable() => {
                *van = Some(connection);
                return;
            }
            (Ok(_), _) => {}
            (Err(failure), _) => {
                let usable =
                    !connection.is_ahead() && failure.leaves_connection() && Box::pin(connection.reset()).await;
                if !usable {
                    // Dropped as it is: behind half a message, even QUIT would be taken for a line of it.
                    return;
                }
            }
        }
        self.put_by(server, connection).await;
    }

    /// Lets others use a connection, or takes leave of one that is of no use any more.
    async fn put_by(&self, server: &Target, connection: Connection) {
        if connection.is_ahead() {
            // Its server waits for a message. Without one it forgets the envelope (RFC 5321, section 4.1.1.4).
            return;
        }
        let of_no_use = if self.drain.has_begun() { Some(connection) } else { self.pool.put(server, connection) };
        if let Some(connection) = of_no_use {
            Box::pin(connection.quit()).await;
        }
    }

    /// The servers of the address's domain in turn (RFC 5321, section 5.1), until one can be talked to.
    async fn send_to_exchangers(&self, mx: &MxRoute, opener: &Opener<'_>, letter: &Letter) -> Verdict {
        let found = match self.exchangers(letter, opener.hostname).await {
            Ok(found) => found,
            Err(failure) => return Verdict::of(Err(failure), ""),
        };
        opener.tell(|| format!("mail exchangers in turn: {}", found.hosts.join(", ")));
        let web = Web { resolver: opener.resolver, network: opener.network, tls: opener.tls };
        let demand = match &found.domain {
            Some(domain) if mx.sts && mx.server.tls != Tls::None => {
                let demand = self.sts.demand(domain, &web).await;
                opener.tell(|| demand.to_string());
                demand
            }
            _ => Demand::Nothing,
        };
        let mut last = None;
        for host in &found.hosts {
            if last.is_some() && Instant::now() >= opener.until {
                break;
            }
            let server = SmtpRoute { host: host.clone(), ..mx.server.clone() };
            let label = server.to_string();
            let result = match self.under_policies(Target::from(server), mx, &found, &demand).await {
                Ok(target) => self.send_to(&target, opener, letter, None, None).await,
                Err(failure) => Err(failure),
            };
            let is_over = !matches!(&result, Err(failure) if failure.is_about_this_server());
            last = Some(Verdict::of(result, &label));
            if is_over {
                break;
            }
        }
        last.unwrap_or_else(|| Verdict::of(Err(Failure::lost(Stage::Connect, "no mail exchanger")), ""))
    }

    /// What is asked of a mail exchanger beside what the route asks for: by its TLSA records, else by the domain's MTA-STS
    /// policy (RFC 8461, section 2: in this order). TLSA records that can't be used vouch for nobody (RFC 7672, section 2.2):
    /// they ask for TLS, and the policy asks for its part. A failure when the server may not be used.
    async fn under_policies(
        &self,
        mut target: Target,
        mx: &MxRoute,
        found: &Hosts,
        demand: &Demand,
    ) -> Result<Target, Failure> {
        let Some(domain) = found.domain.as_ref().filter(|_| mx.server.tls != Tls::None) else { return Ok(target) };
        let host = target.server.host.clone();
        if mx.dane && found.are_secure {
            let known = self.resolver.dane(&host, target.server.port).await.map_err(|error| match error {
                Unresolved::Never(what) | Unresolved::NotNow(what) => Failure::lost(Stage::Connect, what),
            })?;
            if let Some(mut dane) = known {
                let names_a_certificate = !dane.records.is_empty();
                // RFC 7672, section 3.2.2: an authority may have signed for the domain as well.
                dane.names.push(domain.clone());
                target = target.under_dane(dane);
                if names_a_certificate {
                    return Ok(target);
                }
            }
        }
        if !demand.allows(&host) {
            let what = format!("the MTA-STS policy of {domain} does not name its mail exchanger {host}");
            return Err(Failure::lost(Stage::Tls, what));
        }
        Ok(if *demand == Demand::Nothing { target } else { target.under_sts() })
    }

    async fn exchangers(&self, letter: &Letter, us: &str) -> Result<Hosts, Failure> {
        let unresolved = |error| match error {
            Unresolved::Never(what) => Failure { stage: Stage::Connect, cause: Cause::Nowhere(what) },
            Unresolved::NotNow(what) => Failure::lost(Stage::Connect, what),
        };
        let Some(domain) = letter.forward_path.domain() else {
            return Err(unresolved(Unresolved::Never(format!("{}: no domain to look up", letter.forward_path))));
        };
        if let Some(address) = literal(domain) {
            return Ok(Hosts { hosts: vec![address.to_string()], domain: None, are_secure: false });
        }
        let domain = ascii_domain(domain).into_owned();
        let Exchangers { found, are_secure } = self.resolver.exchangers(&domain).await.map_err(unresolved)?;
        let hosts = servers_in_turn(&domain, found, us, letter.id).map_err(unresolved)?;
        Ok(Hosts { hosts, domain: Some(domain), are_secure })
    }

    /// A maildir takes octets of any kind; a message that is durable in it is taken.
    async fn keep(&self, path: &Path, letter: &Letter) -> Result<Reply, Failure> {
        if letter.is_trial {
            let is_there = Maildir::new(path).is_writable().await;
            let is_there = is_there.map_err(|error| Failure::lost(Stage::Data, error.to_string()))?;
            return Ok(Reply::new(250, if is_there { "it can be written" } else { "it is made at the first record" }));
        }
        let ours = |error: io::Error| Failure {
            stage: Stage::Data,
            cause: Cause::Ours(format!("the original can't be read: {error}")),
        };
        let failed = |error: io::Error| Failure::lost(Stage::Data, error.to_string());
        let rendering = (letter.render)(ArchiveOffers::ALL);
        let pieces = (letter.original.open)().map_err(ours)?;
        let mut delivery = Maildir::new(path).with_clock(Arc::clone(&self.clock)).begin().await.map_err(failed)?;
        delivery.write(&rendering.prefix).await.map_err(failed)?;
        let mut length = 0;
        for piece in pieces {
            let piece = piece.map_err(ours)?;
            length += piece.len() as u64;
            delivery.write(&piece).await.map_err(failed)?;
        }
        if length != letter.original.length {
            return Err(ours(io::Error::new(io::ErrorKind::UnexpectedEof, "not all of it is there")));
        }
        delivery.write(&rendering.suffix).await.map_err(failed)?;
        let name = delivery.finish().await.map_err(failed)?;
        Ok(Reply::new(250, format!("2.0.0 kept as {name}")))
    }
}

/// What a route is called in logs, and where it shares slots: its URL, with `mx` its domain.
pub(super) fn label(route: &Route, forward_path: &Address) -> String {
    match (route, forward_path.domain()) {
        (Route::Mx(_), Some(domain)) => format!("mx:{}", ascii_domain(domain)),
        _ => route.to_string(),
    }
}

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, section 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    let ipv6 = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).and_then(|_| inner.get(5..));
    ipv6.unwrap_or(inner).parse().ok()
}
