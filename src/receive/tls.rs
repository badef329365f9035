//! TLS towards clients: the handshake of a listener, and which certificate a client is shown.
//!
//! TLS 1.2 and 1.3 with what rustls takes for safe (RFC 8996, RFC 9325). No client certificate is asked for. A name that no
//! certificate has gets the first one: mail servers ask for all sorts of names and seldom mind (RFC 7435).

use crate::config::{Identity, ListenerTls, TlsMode};
use crate::net::Transport;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// For a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes handshakes with clients. Cheap to clone.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    mode: TlsMode,
}

impl TlsServer {
    /// What `[listener.tls]` asks for.
    ///
    /// # Errors
    /// For people: a certificate or key that rustls can't use, though the configuration was read.
    pub fn new(settings: &ListenerTls) -> Result<Self, String> {
        let certificates = Certificates::new(&settings.identities)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), mode: settings.mode })
    }

    /// When the handshake is.
    pub(super) fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Does the handshake on a connection in plain text; it is gone when that fails.
    ///
    /// # Errors
    /// The handshake's, or that it took too long.
    pub(super) async fn accept(&self, transport: &mut Transport) -> io::Result<()> {
        match std::mem::replace(transport, Transport::Gone) {
            Transport::Plain(stream) => {
                let accepted = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await;
                let stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                *transport = Transport::Tls(Box::new(stream.into()));
                Ok(())
            }
            other => {
                *transport = other;
                Err(io::Error::other("no handshake is due"))
            }
        }
    }
}

/// The certificates of one listener, the usual one first.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    fn new(identities: &[Identity]) -> Result<Self, String> {
        let provider = ring::default_provider();
        let certified = |identity: &Identity| {
            CertifiedKey::from_der(identity.chain.clone(), identity.private_key.clone_key(), &provider)
                .map(Arc::new)
                .map_err(|error| format!("{identity:?} can't be used: {error}"))
        };
        identities.iter().map(certified).collect::<Result<_, _>>().map(Self)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().find(|certified| usable(certified) && has(certified, &name)));
        named.or_else(|| self.0.iter().find(usable)).or_else(|| self.0.first()).map(Arc::clone)
    }
}

/// Whether a certificate has this name (RFC 6125).
fn has(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    certified
        .cert
        .first()
        .and_then(|der| webpki::EndEntityCert::try_from(der).ok())
        .is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
}
