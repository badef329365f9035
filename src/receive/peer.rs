//! Who is at the other end of a session, as far as it has told or shown.

use super::received::Protocol;
use crate::forward::ClientFacts;
use crate::net::Agreed;
use crate::smtp::proxy::Origin;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The client of a session.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it connects from; behind a load balancer, where it connected to the load balancer from.
    pub(super) address: SocketAddr,
    /// Where it connected to.
    pub(super) destination: SocketAddr,
    /// The load balancer that passes the connection on.
    pub(super) proxy: Option<SocketAddr>,
    /// What it calls itself in HELO or EHLO.
    pub(super) name: String,
    /// It said EHLO.
    pub(super) extended: bool,
    /// What its handshake agreed on.
    pub(super) tls: Option<Agreed>,
    /// The next hop said that it is who it says.
    pub(super) authenticated: bool,
    /// Who that is, as far as it could be read.
    pub(super) login: Option<Arc<str>>,
}

impl Peer {
    /// A client that has said nothing yet.
    pub(super) fn new(address: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            address,
            destination,
            proxy: None,
            name: String::new(),
            extended: false,
            tls: None,
            authenticated: false,
            login: None,
        }
    }

    /// The peer is a load balancer, and this is what its header says.
    pub(super) fn is_passed_on(&mut self, origin: Origin) {
        self.proxy = Some(self.address);
        if let Origin::Client { source, destination } = origin {
            self.address = source;
            self.destination = destination;
        }
    }

    /// Whether a load balancer speaks for itself, a health check most likely.
    pub(super) fn is_load_balancer(&self) -> bool {
        self.proxy == Some(self.address)
    }

    /// A handshake forgets what was said before it (RFC 3207, section 4.2).
    pub(super) fn encrypted(&mut self, tls: Option<Agreed>) {
        *self = Self { tls, proxy: self.proxy, ..Self::new(self.address, self.destination) };
    }

    /// What a next hop may be told of it.
    pub(super) fn facts(&self) -> ClientFacts {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        ClientFacts {
            address: plain(self.address),
            destination: plain(self.destination),
            name: self.name.clone(),
            extended: self.extended,
        }
    }

    /// For logs: the version of TLS, or `none`.
    pub(super) fn tls_label(&self) -> &'static str {
        self.tls.map_or("none", |agreed| agreed.version)
    }

    /// How a message of it comes.
    pub(super) fn protocol(&self, utf8: bool) -> Protocol {
        Protocol { extended: self.extended, utf8, tls: self.tls, authenticated: self.authenticated }
    }
}

/// Whom an address is counted for: an IPv4 address for itself, an IPv6 address for its /64, the network that one customer
/// gets (RFC 6177).
pub(super) fn network_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}
