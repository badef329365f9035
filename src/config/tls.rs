//! `[listener.tls]`: how a listener encrypts, and as whom.

use crate::mail::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::parse_x509_certificate;

/// A certificate that expires sooner is warned of.
pub const CERTIFICATE_WARNING: Duration = Duration::from_secs(21 * 86_400);

/// `[listener.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// When the handshake is.
    pub mode: TlsMode,
    /// `certificate` and `key`, then those of `[[listener.tls.sni]]`. A client gets the first that has the name it asks for
    /// (RFC 6066, section 3) and a kind of key it can use, else the first.
    pub identities: Vec<Identity>,
}

impl ListenerTls {
    /// The certificate that expires first, and when; none when no date can be read. Of each chain the server's own counts: others
    /// may be there for clients of long ago.
    pub fn first_to_expire(&self) -> Option<(&Identity, Timestamp)> {
        let dated = |identity| Identity::expires(identity).map(|at| (identity, at));
        self.identities.iter().filter_map(dated).min_by_key(|(_, at)| *at)
    }
}

/// `listener.tls.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// STARTTLS is offered (RFC 3207).
    #[default]
    StartTls,
    /// From the first octet (RFC 8314, section 3.3).
    Implicit,
    /// STARTTLS is offered, and nothing is taken before it.
    Required,
}

/// A certificate with its chain, and its key; they belong together.
#[derive(Clone)]
pub struct Identity {
    /// Where the chain was read, in PEM form, the server's own certificate first.
    pub certificate: PathBuf,
    /// Where the key was read, in PEM form.
    pub key: PathBuf,
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub private_key: Arc<PrivateKeyDer<'static>>,
}

/// Two are the same when the files' contents are.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Identity {}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.octets().cmp(other.octets())
    }
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.octets().for_each(|octets| octets.hash(state));
    }
}

impl Identity {
    /// notAfter of the certificate (RFC 5280, section 4.1.2.5).
    pub fn expires(&self) -> Option<Timestamp> {
        let (_, certificate) = parse_x509_certificate(self.chain.first()?).ok()?;
        let seconds = certificate.validity().not_after.timestamp();
        Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
    }

    fn octets(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.private_key.secret_der()).chain(self.chain.iter().map(AsRef::as_ref))
    }
}

/// Never shows the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.certificate.display(), self.key.display())
    }
}
