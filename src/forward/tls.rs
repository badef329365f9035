//! TLS towards a next hop, as the route says.

use super::error::ForwardError;
use crate::config::{SmtpRoute, Tls};
use crate::net::{Trust, server_name};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

/// Makes handshakes with one server.
#[derive(Clone)]
pub(super) struct TlsClient {
    /// The configuration, shared by all connections: it remembers sessions.
    pub(super) connector: TlsConnector,
    /// The name a certificate must have, and the one that is asked for (SNI).
    pub(super) name: ServerName<'static>,
}

impl TlsClient {
    /// What `route` asks for; none for plain text. Reads files.
    pub(super) fn for_route(route: &SmtpRoute) -> Result<Option<Self>, ForwardError> {
        if route.tls == Tls::None {
            return Ok(None);
        }
        let client = Trust::of(route).client().map_err(ForwardError::Tls)?;
        let name = server_name(&route.host).ok_or_else(|| ForwardError::Host(route.host.clone()))?;
        Ok(Some(Self { connector: TlsConnector::from(client), name }))
    }
}
