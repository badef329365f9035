//! TLS towards a next hop: whom to trust, as the route says.
//!
//! Verified routes (`tls=required`, `smtps://`) check chain and name (RFC 6125) against the system's store or the route's
//! own file of authorities. Opportunistic ones take any certificate (RFC 7435): they only keep those out who merely listen.

use super::error::ForwardError;
use crate::config::{SmtpRoute, Tls};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

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
        let config = match route.tls {
            Tls::None => return Ok(None),
            Tls::Opportunistic => unverified()?,
            Tls::Required | Tls::Implicit => verified(route)?,
        };
        // A final dot makes a name absolute for the resolver; no certificate has it.
        let host = route.host.strip_suffix('.').unwrap_or(&route.host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ForwardError::Host(route.host.clone()))?;
        Ok(Some(Self { connector: TlsConnector::from(Arc::new(config)), name }))
    }
}

fn verified(route: &SmtpRoute) -> Result<ClientConfig, ForwardError> {
    let mut roots = RootCertStore::empty();
    let (place, certificates, why) = match &route.ca_file {
        Some(path) => {
            let fault = |why: String| ForwardError::Authorities { place: path.display().to_string(), why };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| fault(error.to_string()))?;
            (path.display().to_string(), certificates, String::new())
        }
        None => {
            // SSL_CERT_FILE and SSL_CERT_DIR come first.
            let found = rustls_native_certs::load_native_certs();
            let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
            ("the system's store".to_owned(), found.certs, why)
        }
    };
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        let why = if why.is_empty() { "no usable certificate in it".to_owned() } else { why };
        return Err(ForwardError::Authorities { place, why });
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

fn unverified() -> Result<ClientConfig, ForwardError> {
    let verifier = Arc::new(AnyCertificate { provider: Arc::new(ring::default_provider()) });
    Ok(builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

type Builder = tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier>;

fn builder() -> Result<Builder, ForwardError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ForwardError::Tls(error.to_string()))
}

/// Takes whatever certificate there is. Its signature is not checked either: one that rustls can't even read would
/// otherwise send the mail in plain text, which is worse.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
