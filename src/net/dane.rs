//! DANE: a server is known by the certificate or key that its TLSA records name (RFC 6698, RFC 7671, for SMTP RFC 7672).
//!
//! Who calls has seen to it that the records can be trusted (DNSSEC). Usages 2 (an authority of the server's own) and 3 (the
//! server itself) count; 0 and 1 have no meaning between mail servers (RFC 7672, section 3.1.3).

use super::judged::Judge;
use crate::mail::Sha256;
use ring::digest::{SHA512, digest};
use std::fmt;
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, OtherError, RootCertStore};

/// Usage DANE-TA: the data is an authority's.
const AUTHORITY: u8 = 2;
/// Usage DANE-EE: the data is the server's own.
const SERVER: u8 = 3;
/// TLSA records of one server that are looked at.
const MAX_RECORDS: usize = 64;

/// A TLSA record (RFC 6698, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    /// 0 to 3.
    pub usage: u8,
    /// 0: the certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// What has to be found there.
    pub data: Vec<u8>,
}

/// What is known of a server by DANE.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dane {
    /// What it may be called in a certificate that an authority signed; the first is asked for (SNI, RFC 7672, section 8.1).
    pub names: Vec<String>,
    /// The records that can be used. None: TLS is a must all the same, with any certificate (RFC 7672, section 2.2).
    pub records: Vec<Tlsa>,
}

impl Dane {
    /// A server with these names and records; those that can't be used are left out.
    pub fn new(names: Vec<String>, records: Vec<Tlsa>) -> Self {
        let usable: Vec<_> = records.into_iter().take(MAX_RECORDS).filter(Tlsa::is_usable).collect();
        // RFC 7671, section 9: of several digests of the same kind the strongest one alone counts.
        let has_stronger = |weaker: &Tlsa| {
            weaker.matching == 1
                && usable
                    .iter()
                    .any(|other| (other.usage, other.selector, other.matching) == (weaker.usage, weaker.selector, 2))
        };
        let records = usable.iter().filter(|record| !has_stronger(record)).cloned().collect();
        Self { names, records }
    }
}

impl Tlsa {
    fn is_usable(&self) -> bool {
        let is_data_possible = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, AUTHORITY | SERVER) && self.selector <= 1 && is_data_possible
    }

    fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        let key;
        let selected: &[u8] = if self.selector == 0 {
            certificate
        } else {
            let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return false };
            key = parsed.subject_public_key_info();
            &key
        };
        match self.matching {
            0 => selected == self.data,
            1 => Sha256::of(selected).as_slice() == self.data,
            2 => digest(&SHA512, selected).as_ref() == self.data,
            _ => false,
        }
    }
}

/// Takes the server that the records name, when whatever else is asked for is met, too.
#[derive(Debug)]
pub(super) struct DaneVerifier {
    pub(super) dane: Dane,
    /// What the route's own settings ask for.
    pub(super) besides: Option<Arc<dyn ServerCertVerifier>>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl DaneVerifier {
    /// Whether `end_entity` was signed, perhaps by way of `intermediates`, by the authority that `record` names, for one of the
    /// names (RFC 7672, section 3.1.2 and 3.2.2).
    fn is_signed(
        &self,
        record: &Tlsa,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        // A whole certificate in the DNS need not be sent again.
        let own = (record.selector == 0 && record.matching == 0).then(|| CertificateDer::from(record.data.as_slice()));
        let authorities = intermediates.iter().chain(&own).filter(|certificate| record.matches(certificate));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.map(|certificate| certificate.clone().into_owned()));
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let Ok(verifier) = verifier else { return false };
        self.dane
            .names
            .iter()
            .filter_map(|name| super::server_name(name))
            .any(|name| verifier.verify_server_cert(end_entity, intermediates, &name, &[], now).is_ok())
    }
}

impl Judge for DaneVerifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(besides) = &self.besides {
            besides.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        }
        let is_named = self.dane.records.iter().any(|record| match record.usage {
            // RFC 7672, section 3.1.1: neither its name nor its dates count.
            SERVER => record.matches(end_entity),
            AUTHORITY => self.is_signed(record, end_entity, intermediates, now),
            _ => false,
        });
        if is_named {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Unnamed)))))
    }
}

/// No record matches.
struct Unnamed;

/// The same: rustls shows it so.
impl fmt::Debug for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no TLSA record of the server names this certificate")
    }
}

impl std::error::Error for Unnamed {}

#[cfg(test)]
mod tests;
