//! `[listener.tls]` and `[[listener.tls.sni]]`: certificates and keys are read here, so that a missing or foreign one is an
//! error of the configuration and not of the first handshake.

use super::files;
use super::report::Files;
use super::section::{Kind, Section};
use super::values;
use crate::config::{Identity, ListenerTls, TlsMode};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::CertifiedKey;

const TLS: Kind = Kind { path: "listener.tls", title: "[listener.tls]", keys: &["mode", "certificate", "key", "sni"] };
const SNI: Kind = Kind { path: "listener.tls.sni", title: "[[listener.tls.sni]]", keys: &["certificate", "key"] };

/// The table of a listener, when it has one.
pub(super) fn read(listener: Section<'_>) -> Option<ListenerTls> {
    let section = listener.table("tls", TLS)?;
    let mode = section.text(
        "mode",
        values::one_of(&[
            ("starttls", TlsMode::StartTls),
            ("implicit", TlsMode::Implicit),
            ("required", TlsMode::Required),
        ]),
    );
    let others = section.tables("sni", SNI);
    // All are read, whatever the first one lacks: mistakes are told at once.
    let identities: Vec<_> = std::iter::once(section).chain(others).filter_map(identity).collect();
    let identities = identities.into_iter().collect::<Option<Vec<_>>>()?;
    Some(ListenerTls { mode: mode.map_or_else(TlsMode::default, |mode| mode.value), identities })
}

/// None inside: a mistake was noted; none at all: it was not to be read.
fn identity(section: Section<'_>) -> Option<Option<Identity>> {
    section.require(&["certificate", "key"]);
    match section.report().files() {
        Files::Open => Some(read_both(section)),
        Files::Leave => {
            ["certificate", "key"].into_iter().for_each(|key| drop(section.text(key, values::path)));
            None
        }
    }
}

fn read_both(section: Section<'_>) -> Option<Identity> {
    let chain = section.text("certificate", |path| values::path(path).and_then(read_chain));
    let key = section.text("key", |path| values::path(path).and_then(read_key));
    let ((certificate, chain), (key, private_key)) = (chain?.value, key?.value);
    if let Err(why) = together(&certificate, &chain, &private_key) {
        section.refuse("key", &why);
        return None;
    }
    Some(Identity { certificate, key, chain, private_key: Arc::new(private_key) })
}

/// A certificate and its key, for a route.
pub(super) fn read_identity(certificate: PathBuf, key: PathBuf) -> Result<Identity, String> {
    let (certificate, chain) = read_chain(certificate).map_err(|why| format!("certificate=: {why}"))?;
    let (key, private_key) = read_key(key).map_err(|why| format!("key=: {why}"))?;
    together(&certificate, &chain, &private_key).map_err(|why| format!("key= is {why}"))?;
    Ok(Identity { certificate, key, chain, private_key: Arc::new(private_key) })
}

fn together(certificate: &Path, chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Result<(), String> {
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &ring::default_provider())
        .map(drop)
        .map_err(|error| format!("not the key of {}: {error}", certificate.display()))
}

fn read_chain(path: PathBuf) -> Result<(PathBuf, Vec<CertificateDer<'static>>), String> {
    files::require(&path).map_err(|error| unreadable(&path, &error.to_string()))?;
    let chain = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!("no certificate in PEM form in {}", path.display())),
        Ok(chain) => Ok((path, chain)),
        Err(error) => Err(unreadable(&path, &error.to_string())),
    }
}

fn read_key(path: PathBuf) -> Result<(PathBuf, PrivateKeyDer<'static>), String> {
    files::require(&path).map_err(|error| unreadable(&path, &error.to_string()))?;
    match PrivateKeyDer::from_pem_file(&path) {
        Ok(key) => Ok((path, key)),
        Err(error) => Err(unreadable(&path, &error.to_string())),
    }
}

fn unreadable(path: &Path, why: &str) -> String {
    format!("{} can't be read: {why}", path.display())
}
