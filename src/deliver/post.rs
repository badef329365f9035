//! One attempt at one letter, by whatever route: a server, a domain's mail exchangers in turn, a maildir.
//!
//! Knows which connections wait. What follows for the record and for the route is decided elsewhere.

use super::connection::{Connection, Opener};
use super::letter::Letter;
use super::pool::Pool;
use super::resolver::{Resolver, Unresolved, servers_in_turn};
use super::tls::TlsClients;
use super::verdict::{Cause, Failure, Stage, Verdict};
use crate::clock::SharedClock;
use crate::config::{MxRoute, Route, SmtpRoute};
use crate::drain::Drain;
use crate::journal::ArchiveOffers;
use crate::mail::{Address, Reply, ascii_domain};
use crate::maildir::Maildir;
use crate::net::SharedNetwork;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The way out for all organizations.
pub(super) struct Post {
    resolver: Arc<dyn Resolver>,
    network: SharedNetwork,
    tls: TlsClients,
    pool: Pool,
    clock: SharedClock,
    drain: Drain,
}

impl Post {
    pub(super) fn new(resolver: Arc<dyn Resolver>, network: SharedNetwork, clock: SharedClock, drain: Drain) -> Self {
        Self { resolver, network, tls: TlsClients::default(), pool: Pool::default(), clock, drain }
    }

    /// Sends `letter` by `route`, saying EHLO as `hostname`. Ends when the server has answered or a named limit has passed.
    pub(super) async fn send(&self, route: &Route, hostname: &str, letter: &Letter) -> Verdict {
        self.send_telling(route, hostname, letter, None).await
    }

    /// The same; `tell` hears of each connection that is made.
    pub(super) async fn send_telling(
        &self,
        route: &Route,
        hostname: &str,
        letter: &Letter,
        tell: Option<&(dyn Fn(String) + Sync)>,
    ) -> Verdict {
        let opener = Opener { resolver: &*self.resolver, network: &*self.network, tls: &self.tls, hostname, tell };
        match route {
            Route::Smtp(server) => Verdict::of(self.send_to(server, &opener, letter).await, &server.to_string()),
            Route::Mx(mx) => self.send_to_exchangers(mx, &opener, letter).await,
            Route::Maildir(path) => Verdict::of(self.keep(path, letter).await, &route.to_string()),
        }
    }

    /// The slots of a route: who sends over it holds one.
    pub(super) fn slots(&self, route: &Route, forward_path: &Address) -> Arc<Semaphore> {
        self.pool.slots(&label(route, forward_path))
    }

    /// Looks after idle connections until the end has begun.
    pub(super) async fn keep_connections(&self) {
        self.pool.keep(&self.drain).await;
    }

    /// One server: over a connection that waits, or a new one when there is none or it has died meanwhile.
    async fn send_to(&self, server: &SmtpRoute, opener: &Opener<'_>, letter: &Letter) -> Result<Reply, Failure> {
        if let Some(mut connection) = self.pool.take(server) {
            match connection.send(letter).await {
                Err(failure) if failure.is_stale() => {}
                result => {
                    self.put_back(server, connection, &result).await;
                    return result;
                }
            }
        }
        let mut connection = Connection::open(server, opener).await?;
        let result = connection.send(letter).await;
        self.put_back(server, connection, &result).await;
        result
    }

    async fn put_back(&self, server: &SmtpRoute, mut connection: Connection, result: &Result<Reply, Failure>) {
        let usable = match result {
            Ok(_) => true,
            Err(failure) => failure.leaves_connection() && connection.reset().await,
        };
        if !usable {
            // Dropped as it is: behind half a message, even QUIT would be taken for a line of it.
            return;
        }
        let of_no_use = if self.drain.has_begun() { Some(connection) } else { self.pool.put(server, connection) };
        if let Some(connection) = of_no_use {
            connection.quit().await;
        }
    }

    /// The servers of the address's domain in turn (RFC 5321, section 5.1), until one can be talked to.
    async fn send_to_exchangers(&self, mx: &MxRoute, opener: &Opener<'_>, letter: &Letter) -> Verdict {
        let hosts = match self.exchangers(letter).await {
            Ok(hosts) => hosts,
            Err(failure) => return Verdict::of(Err(failure), ""),
        };
        let mut last = Verdict::of(Err(Failure::lost(Stage::Connect, "no mail exchanger")), "");
        for host in hosts {
            let server = SmtpRoute { host, ..mx.server.clone() };
            let result = self.send_to(&server, opener, letter).await;
            let is_over = !matches!(&result, Err(failure) if failure.is_about_this_server());
            last = Verdict::of(result, &server.to_string());
            if is_over {
                break;
            }
        }
        last
    }

    async fn exchangers(&self, letter: &Letter) -> Result<Vec<String>, Failure> {
        let unresolved = |error| match error {
            Unresolved::Never(what) => Failure { stage: Stage::Connect, cause: Cause::Nowhere(what) },
            Unresolved::NotNow(what) => Failure::lost(Stage::Connect, what),
        };
        let Some(domain) = letter.forward_path.domain() else {
            return Err(unresolved(Unresolved::Never(format!("{}: no domain to look up", letter.forward_path))));
        };
        if let Some(address) = literal(domain) {
            return Ok(vec![address.to_string()]);
        }
        let domain = ascii_domain(domain);
        let found = self.resolver.exchangers(&domain).await.map_err(unresolved)?;
        servers_in_turn(&domain, found, letter.id).map_err(unresolved)
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
