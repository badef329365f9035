//! TLS towards servers, for next hops and archives alike: whom to trust, and as whom to come.
//!
//! A route that requires TLS verifies chain and name (RFC 6125) against the system's store (`SSL_CERT_FILE` honoured) or its
//! own `ca_file`, or takes the pinned certificates alone. An opportunistic one takes any certificate (RFC 7435): it only
//! keeps those out who merely listen.

use super::dane::{Dane, DaneVerifier};
use super::judged::{Judge, Judged};
use crate::config::{Identity, SmtpRoute, Tls};
use crate::mail::Sha256;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` shows it.
pub type Fingerprint = [u8; 32];

/// Whose certificate is good, and which one is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Trust {
    authority: Authority,
    dane: Option<Dane>,
    identity: Option<Identity>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Authority {
    /// Anybody's.
    Anybody,
    /// One with the server's name, signed by an authority of the system.
    System,
    /// One with the server's name, signed by an authority in this PEM file.
    File(PathBuf),
    /// One of these, whatever its name, signer and dates.
    Pinned(Vec<Fingerprint>),
}

impl Trust {
    /// What a route asks for.
    pub fn of(route: &SmtpRoute) -> Self {
        let authority = match (route.tls, &route.ca_file) {
            (Tls::None | Tls::Opportunistic, _) => Authority::Anybody,
            _ if !route.fingerprints.is_empty() => Authority::Pinned(route.fingerprints.clone()),
            (_, Some(path)) => Authority::File(path.clone()),
            (_, None) => Authority::System,
        };
        Self { authority, dane: None, identity: route.identity.clone() }
    }

    /// A server with its name and a certificate that an authority of the system has signed, as for the web.
    pub fn system() -> Self {
        Self { authority: Authority::System, dane: None, identity: None }
    }

    /// The same, and what its TLSA records ask for.
    pub fn with_dane(self, dane: Option<Dane>) -> Self {
        Self { dane, ..self }
    }

    /// The same with the authorities in a PEM file in place of the system's.
    pub fn with_system_store(self, file: &Path) -> Self {
        let authority = match self.authority {
            Authority::System => Authority::File(file.to_owned()),
            other => other,
        };
        Self { authority, ..self }
    }

    /// The client's side of handshakes; shared, it remembers sessions. Reads the stores.
    ///
    /// # Errors
    /// For people: a store without a usable authority, or a certificate of ours that can't be used.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(self.verifier(provider)?);
        let client = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.private_key.clone_key())
                .map_err(|error| format!("{identity:?} can't be used: {error}"))?,
        };
        Ok(Arc::new(client))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let signed = |store: RootCertStore| -> Result<Arc<dyn ServerCertVerifier>, String> {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
            Ok(builder.build().map_err(|error| error.to_string())?)
        };
        let configured = match &self.authority {
            Authority::Anybody => None,
            Authority::System => Some(signed(system_store()?)?),
            Authority::File(path) => Some(signed(file_store(path)?)?),
            Authority::Pinned(fingerprints) => {
                let rule = Pinned { fingerprints: fingerprints.clone() };
                Some(Arc::new(Judged { rule, provider: Arc::clone(&provider) }) as Arc<dyn ServerCertVerifier>)
            }
        };
        Ok(match (&self.dane, configured) {
            (Some(dane), besides) if !dane.records.is_empty() => {
                let rule = DaneVerifier { dane: dane.clone(), besides, provider: Arc::clone(&provider) };
                Arc::new(Judged { rule, provider })
            }
            (_, Some(configured)) => configured,
            (_, None) => Arc::new(Anybody(provider)),
        })
    }
}

/// The name that a server's certificate must have, and that it is asked for (SNI); none when it can't be one.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    // A final dot makes a name absolute for the resolver; no certificate has it.
    let host = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(crate::mail::ascii_domain(host).into_owned()).ok()
}

fn system_store() -> Result<RootCertStore, String> {
    // SSL_CERT_FILE and SSL_CERT_DIR come first.
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(store);
    }
    let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    Err(format!("the system's store has no authority: {}", reasons.join(", ")))
}

fn file_store(path: &Path) -> Result<RootCertStore, String> {
    let bad = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates.map_err(|error| bad(&error))?);
    if added > 0 { Ok(store) } else { Err(bad(&"no usable certificate in it")) }
}

/// Takes whatever certificate there is. Its signature is not checked either: one that rustls can't even read would
/// otherwise send the mail in plain text, which is worse.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes the certificates that it knows.
#[derive(Debug)]
struct Pinned {
    fingerprints: Vec<Fingerprint>,
}

impl Judge for Pinned {
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<(), Error> {
        let shown: Fingerprint = Sha256::of(certificate);
        if self.fingerprints.contains(&shown) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }
}
