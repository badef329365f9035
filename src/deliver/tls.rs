//! TLS towards archives: whom to trust, and the handshake.
//!
//! A route that requires TLS verifies chain and name, against the system's store (`SSL_CERT_FILE` honoured) or the route's
//! `ca_file`. An opportunistic one takes any certificate: against somebody who only listens, that is better than plain text
//! (RFC 7435). Stores are read again after [`KEPT`], so that a renewed authority needs no restart.

use crate::net::Stream;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
};

/// How long a store of authorities is kept in memory.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Stores kept at a time.
const MAX_STORES: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Whose certificate is good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// Anybody's.
    Anybody,
    /// One with the server's name, signed by an authority of the system.
    System,
    /// One with the server's name, signed by an authority in this PEM file.
    File(PathBuf),
}

/// The client's side of TLS, made when first needed.
#[derive(Debug, Default)]
pub(super) struct TlsClients {
    clients: Mutex<HashMap<Trust, (Instant, Arc<ClientConfig>)>>,
}

impl TlsClients {
    /// Shakes hands with the server called `host` over `stream`. The error is for people.
    pub(super) async fn handshake(
        &self,
        trust: &Trust,
        host: &str,
        stream: Stream,
    ) -> Result<TlsStream<Stream>, String> {
        let client = self.client(trust)?;
        let name = crate::mail::ascii_domain(host).into_owned();
        let name = ServerName::try_from(name).map_err(|_| format!("TLS: {host:?} is no name for a server"))?;
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
        let client = Arc::new(make(trust)?);
        if clients.len() < MAX_STORES {
            clients.insert(trust.clone(), (now, Arc::clone(&client)));
        }
        Ok(client)
    }
}

fn make(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
    let builder = match trust {
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))),
        Trust::System => builder.with_root_certificates(system_store()?),
        Trust::File(path) => builder.with_root_certificates(file_store(path)?),
    };
    Ok(builder.with_no_client_auth())
}

fn system_store() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(store);
    }
    let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    Err(format!("TLS: the system's store has no authority: {}", reasons.join(", ")))
}

fn file_store(path: &Path) -> Result<RootCertStore, String> {
    let bad = |error: &dyn std::fmt::Display| format!("TLS: {}: {error}", path.display());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
        store.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
    }
    if store.is_empty() { Err(bad(&"no certificate in this file")) } else { Ok(store) }
}

/// Takes any certificate whose owner is at the other end: the handshake's signature is checked, name and chain are not.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
