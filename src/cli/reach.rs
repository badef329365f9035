//! How a listener of the configuration is reached from this host, by commands that ask it something.

use crate::config::{ClientIdentity, Listener, SmtpRoute, Tls, TlsMode};
use crate::mail::Sha256;
use crate::receive::is_load_balancer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// A way to a listener.
pub(super) struct Way {
    pub(super) route: SmtpRoute,
    /// Where the connection comes from.
    pub(super) source: IpAddr,
    /// A PROXY header, where the listener takes this host for a load balancer.
    pub(super) identity: ClientIdentity,
}

/// The nearest way to it.
pub(super) fn way_to(listener: &Listener) -> Way {
    let place = places(listener.address).pop().unwrap_or_else(|| listener.address.ip());
    let source = source(place).unwrap_or(place);
    Way { route: route(listener, place), source, identity: identity(listener, source) }
}

/// How a connection from `source` has to begin.
pub(super) fn identity(listener: &Listener, source: IpAddr) -> ClientIdentity {
    if is_load_balancer(listener, source) { ClientIdentity::ProxyV2 } else { ClientIdentity::None }
}

/// Addresses of this host where the listener is reached.
pub(super) fn places(address: SocketAddr) -> Vec<IpAddr> {
    if !address.ip().is_unspecified() {
        return vec![address.ip()];
    }
    let (far, near): (IpAddr, IpAddr) = if address.is_ipv4() {
        (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into())
    } else {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into())
    };
    source(far).into_iter().chain([near]).collect()
}

/// The address that a connection to `place` would come from. Nothing is sent.
pub(super) fn source(place: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((place, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The way to it, with its own certificates for the only good ones.
pub(super) fn route(listener: &Listener, place: IpAddr) -> SmtpRoute {
    let port = listener.address.port();
    let Some(tls) = &listener.tls else { return SmtpRoute::to(place.to_string(), port, Tls::None) };
    let mode = if tls.mode == TlsMode::Implicit { Tls::Implicit } else { Tls::Required };
    let leaves = tls.identities.iter().filter_map(|identity| identity.chain.first());
    let fingerprints = leaves.map(|certificate| Sha256::of(certificate)).collect();
    SmtpRoute { fingerprints, ..SmtpRoute::to(place.to_string(), port, mode) }
}
