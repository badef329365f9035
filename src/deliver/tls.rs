//! TLS towards archives: clients made when first needed, and the handshake.
//!
//! Stores of authorities are read again after [`KEPT`], so that a renewed authority needs no restart.

use crate::net::{Stream, Trust, server_name};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

/// How long a store of authorities is kept in memory.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Stores kept at a time.
const MAX_STORES: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// The client's side of TLS, made when first needed.
#[derive(Debug, Default)]
pub(super) struct TlsClients {
    /// A PEM file of authorities that takes the place of the system's store.
    system_store: Option<PathBuf>,
    clients: Mutex<HashMap<Trust, (Instant, Arc<ClientConfig>)>>,
}

impl TlsClients {
    /// Clients that take the authorities in this PEM file for the system's.
    #[cfg(test)]
    pub(super) fn with_system_store(file: PathBuf) -> Self {
        Self { system_store: Some(file), ..Self::default() }
    }

    /// Shakes hands with the server called `host` over `stream`. The error is for people.
    pub(super) async fn handshake(
        &self,
        trust: &Trust,
        host: &str,
        stream: Stream,
    ) -> Result<TlsStream<Stream>, String> {
        let client = self.client(trust).map_err(|why| format!("TLS: {why}"))?;
        let name = server_name(host).ok_or_else(|| format!("TLS: {host:?} is no name for a server"))?;
        match timeout(HANDSHAKE, TlsConnector::from(client).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("TLS: {error}")),
            Err(_) => Err(format!("TLS: no handshake within {} s", HANDSHAKE.as_secs())),
        }
    }

    fn client(&self, trust: &Trust) -> Result<Arc<ClientConfig>, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        clients.retain(|_, (made, _)| now.duration_since(*made) < KEPT);
        if let Some((_, client)) = clients.get(trust) {
            return Ok(Arc::clone(client));
        }
        let client = match &self.system_store {
            Some(file) => trust.clone().with_system_store(file).client()?,
            None => trust.client()?,
        };
        if clients.len() < MAX_STORES {
            clients.insert(trust.clone(), (now, Arc::clone(&client)));
        }
        Ok(client)
    }
}
