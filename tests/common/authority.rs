//! A certificate authority of one test: certificates for names, and clients that trust it alone.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate in PEM form with its key.
pub struct Certificate {
    pub pem: String,
    pub key: String,
    /// The certificate itself.
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Its own name, or what it signs would look as if it had signed itself.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate for these names.
    pub fn certify(&self, names: &[&str]) -> Certificate {
        self.sign(parameters(names))
    }

    /// One that is good from the first of these days to the second.
    pub fn certify_between(&self, names: &[&str], from: (i32, u8, u8), until: (i32, u8, u8)) -> Certificate {
        let mut params = parameters(names);
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        self.sign(params)
    }

    /// One that expires so many days from now.
    pub fn certify_for_days(&self, names: &[&str], days: u64) -> Certificate {
        let mut params = parameters(names);
        let expires = SystemTime::now() + Duration::from_secs(days * 86_400);
        params.not_after = expires.into();
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.0).expect("a certificate");
        Certificate { pem: made.pem(), key: key.serialize_pem(), der: made.der().to_vec() }
    }

    /// The authority's own certificate, in a file.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join("authority.pem");
        std::fs::write(&path, self.0.pem()).expect("a writable directory");
        path
    }

    /// How a client is set that trusts this authority alone.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

fn parameters(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names")
}

impl Certificate {
    /// Writes both files, `NAME.pem` and `NAME.key`, each whole and at once.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let put = |name: String, text: &str| {
            let (path, new) = (directory.join(&name), directory.join(format!("{name}.new")));
            std::fs::write(&new, text).expect("a writable directory");
            std::fs::rename(&new, &path).expect("a writable directory");
            path
        };
        (put(format!("{name}.pem"), &self.pem), put(format!("{name}.key"), &self.key))
    }
}
