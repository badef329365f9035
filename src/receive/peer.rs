//! Who is at the other end of a session, as far as it has told or shown.

use super::received::Protocol;
use crate::net::Agreed;
use std::net::SocketAddr;

/// The client of a session.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it connects from.
    pub(super) address: SocketAddr,
    /// What it calls itself in HELO or EHLO.
    pub(super) name: String,
    /// It said EHLO.
    pub(super) extended: bool,
    /// What its handshake agreed on.
    pub(super) tls: Option<Agreed>,
}

impl Peer {
    /// A client that has said nothing yet.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, name: String::new(), extended: false, tls: None }
    }

    /// A handshake forgets what was said before it (RFC 3207, section 4.2).
    pub(super) fn encrypted(&mut self, tls: Option<Agreed>) {
        *self = Self { tls, ..Self::new(self.address) };
    }

    /// For logs: the version of TLS, or `none`.
    pub(super) fn tls_label(&self) -> &'static str {
        self.tls.map_or("none", |agreed| agreed.version)
    }

    /// How a message of it comes.
    pub(super) fn protocol(&self, utf8: bool) -> Protocol {
        Protocol { extended: self.extended, utf8, tls: self.tls }
    }
}
