//! Telling a next hop who our client is (`client_identity`): by XCLIENT or a PROXY header, with which a connection is the
//! client's and nobody else's, or by XFORWARD, which goes with each transaction.
//!
//! Promises: a connection that speaks for a client carries transactions of no other, and nobody's where the next hop does not
//! hear who it is: it would judge the client by our address, which it may trust. What a client says of itself reaches the
//! next hop encoded, one word, and cut where it is too long. The relay asks no name server about the client: its NAME
//! is never known.
//!
//! Postfix's `XCLIENT_README` and `XFORWARD_README`; haproxy's `proxy-protocol.txt`.

use super::connection::Connection;
use super::error::Unreachable;
use super::leg::Leg;
use super::{NextHop, Way};
use crate::config::ClientIdentity;
use crate::mail::Reply;
use crate::smtp::client::{Attributes, Command, UNAVAILABLE, Verb};
use crate::smtp::proxy::{write_v1, write_v2};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Octets of a name for EHLO (RFC 5321, section 4.5.3.1.2).
const MAX_NAME: usize = 255;

/// What is known of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFacts {
    /// Where it is.
    pub address: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// What it calls itself.
    pub name: String,
    /// It said EHLO, not HELO.
    pub extended: bool,
}

impl ClientFacts {
    /// For EHLO on a connection that speaks for it: what servers show of a client is what it says there.
    pub(super) fn hello_name(&self) -> String {
        let harmless = |letter: char| if letter.is_ascii_graphic() { letter } else { '?' };
        let name: String = self.name.chars().take(MAX_NAME).map(harmless).collect();
        if name.is_empty() { "unknown".to_owned() } else { name }
    }

    /// For XCLIENT: ADDR comes last, as a server that knows it may take no more.
    pub(super) fn for_xclient(&self) -> Command {
        Command::Xclient(
            self.known()
                .with("DESTADDR", literal(self.destination))
                .with("DESTPORT", self.destination.port().to_string())
                .with("NAME", UNAVAILABLE)
                .with("ADDR", literal(self.address)),
        )
    }

    /// For XFORWARD, with the id of the message. SOURCE is always REMOTE: LOCAL would have the next hop rewrite headers.
    fn for_xforward(&self, ident: &str) -> Command {
        Command::Xforward(
            self.known()
                .with("NAME", UNAVAILABLE)
                .with("ADDR", literal(self.address))
                .with("IDENT", ident)
                .with("SOURCE", "REMOTE"),
        )
    }

    fn known(&self) -> Attributes {
        Attributes::default()
            .with("HELO", self.hello_name())
            .with("PROTO", if self.extended { "ESMTP" } else { "SMTP" })
            .with("PORT", self.address.port().to_string())
    }
}

/// What a connection begins with; one that speaks for nobody is this machine's own, `own` from where to where. Postfix 3.7
/// takes no UNKNOWN.
pub(super) fn header(
    identity: ClientIdentity,
    client: Option<&ClientFacts>,
    own: Option<(SocketAddr, SocketAddr)>,
) -> Option<Vec<u8>> {
    let addresses = client.map(|client| (client.address, client.destination)).or(own);
    match identity {
        ClientIdentity::ProxyV1 => Some(write_v1(addresses)),
        ClientIdentity::ProxyV2 => Some(write_v2(addresses)),
        ClientIdentity::None | ClientIdentity::Xclient | ClientIdentity::Xforward => None,
    }
}

/// What a refusal to a connection that speaks for a client means: the next hop does not want that client.
pub(super) fn about_client(error: Unreachable) -> Unreachable {
    match error {
        Unreachable::Refused { address, verb: verb @ (Verb::Greeting | Verb::Ehlo | Verb::Helo), reply } => {
            Unreachable::RefusedClient { address, verb, reply }
        }
        other => other,
    }
}

/// Whether a next hop that should offer something did so; told when it changes.
#[derive(Debug, Default)]
pub(super) struct Lacking(AtomicBool);

impl Lacking {
    pub(super) fn note(&self, lacks: bool, keyword: &str, route: &str) {
        if self.0.swap(lacks, Ordering::Relaxed) == lacks {
            return;
        }
        if lacks {
            tracing::warn!(
                event = "route.state",
                route,
                state = "client_identity_unknown",
                keyword,
                "the next hop does not offer to hear who the client is"
            );
        } else {
            tracing::info!(
                event = "route.state",
                route,
                state = "client_identity_known",
                keyword,
                "the next hop hears again who the client is"
            );
        }
    }
}

impl NextHop {
    /// A conversation for one transaction of `client`, whose message is called `ident`; the next hop learns of it as the
    /// configuration says.
    pub async fn open_for(self: &Arc<Self>, client: ClientFacts, ident: &str) -> Result<Leg, Unreachable> {
        let Way::Smtp { pool, .. } = &self.way else { return self.open().await };
        match self.settings.identity {
            ClientIdentity::None => self.open().await,
            ClientIdentity::Xforward => {
                let leg = self.open().await?;
                Ok(self.naming(leg, &client, ident))
            }
            ClientIdentity::Xclient | ClientIdentity::ProxyV1 | ClientIdentity::ProxyV2 => {
                if let Some(idle) = self.take_idle(pool, Some(&client)) {
                    return Ok(Leg::over_smtp(self.clone(), idle, true));
                }
                let client = Arc::new(client);
                Ok(Leg::over_smtp(self.clone(), self.dial(Some(&client)).await?, false))
            }
        }
    }

    /// Whether it is to learn who clients are; else [`open`](Self::open) does as well as [`open_for`](Self::open_for).
    pub fn hears_of_clients(&self) -> bool {
        self.settings.identity != ClientIdentity::None
    }

    /// Has the transaction name its client first, where the configuration says so.
    pub(super) fn naming(&self, leg: Leg, client: &ClientFacts, ident: &str) -> Leg {
        if self.settings.identity != ClientIdentity::Xforward {
            return leg;
        }
        self.lacking.note(!leg.offers("XFORWARD"), "XFORWARD", &self.label);
        leg.on_behalf_of(client.for_xforward(ident))
    }

    /// XFORWARD was refused.
    pub(super) fn note_refusal(&self, reply: &Reply) {
        self.refusals.note(&self.label, reply);
    }

    /// Tells once where XCLIENT is not offered, and each time where it is refused.
    pub(super) fn note_xclient(&self, dialled: &Result<Connection, Unreachable>) {
        match dialled {
            Ok(_) => self.lacking.note(false, "XCLIENT", &self.label),
            Err(Unreachable::NoXclient { .. }) => self.lacking.note(true, "XCLIENT", &self.label),
            Err(refused @ Unreachable::Refused { verb: Verb::Xclient, .. }) => {
                tracing::warn!(event = "next_hop.failed", next_hop = %self.label, cause = %refused, "the next hop refuses to hear who the client is");
            }
            Err(_) => {}
        }
    }

    /// The client has gone: connections that speak for it are of no use any more.
    pub fn part_with(&self, client: SocketAddr) {
        if let Way::Smtp { pool, .. } = &self.way
            && self.settings.identity.is_exclusive()
        {
            pool.take_all_of(plain(client)).iter_mut().for_each(Connection::say_quit);
        }
    }
}

/// An IPv4 address is the same however it is written.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn literal(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("IPV6:{address}"),
    }
}
