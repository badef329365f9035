//! Which certificates TLSA records name, and which they don't.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use sha2::{Digest as _, Sha256, Sha512};
use tokio_rustls::rustls::crypto::ring;

struct Chain {
    leaf: CertificateDer<'static>,
    key: KeyPair,
    authority: CertificateDer<'static>,
    authority_key: Vec<u8>,
}

/// A server's certificate for `name`, signed by an authority of its own, in or out of date.
fn chain(name: &str, is_current: bool) -> Chain {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if !is_current {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
    let authority: CertificateDer<'static> = issuer.der().clone();
    let authority_key = webpki::EndEntityCert::try_from(&authority).unwrap().subject_public_key_info().to_vec();
    Chain { leaf, key, authority, authority_key }
}

fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
    let data = match matching {
        1 => Sha256::digest(data).to_vec(),
        2 => Sha512::digest(data).to_vec(),
        _ => data.to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

fn dane(names: &[&str], records: Vec<Tlsa>) -> Dane {
    Dane::new(names.iter().map(|name| (*name).to_owned()).collect(), records)
}

fn takes_with(dane: Dane, chain: &Chain, besides: Option<Arc<dyn ServerCertVerifier>>) -> Result<(), Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = DaneVerifier { dane, besides, provider };
    let name = ServerName::try_from("mx.example").unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_790_000_000));
    let authority = std::slice::from_ref(&chain.authority);
    verifier.judge(&chain.leaf, authority, &name, &[], now)
}

fn takes(dane: Dane, chain: &Chain) -> bool {
    takes_with(dane, chain, None).is_ok()
}

#[test]
fn a_server_is_known_by_its_certificate_or_key_whatever_its_name_and_dates() {
    let (ours, other) = (chain("elsewhere.example", false), chain("elsewhere.example", false));
    let spki = webpki::EndEntityCert::try_from(&ours.leaf).unwrap().subject_public_key_info().to_vec();
    assert!(spki.ends_with(ours.key.public_key_raw()));
    for matching in 0..=2 {
        for (selector, data) in [(0, ours.leaf.as_ref()), (1, spki.as_slice())] {
            let named = || dane(&["mx.example"], vec![record(3, selector, matching, data)]);
            assert!(takes(named(), &ours), "3 {selector} {matching}");
            assert!(!takes(named(), &other), "3 {selector} {matching}");
        }
    }
}

#[test]
fn an_authority_vouches_for_one_of_the_names_and_for_current_certificates_alone() {
    let ours = chain("mx.example", true);
    for matching in 0..=2 {
        for (selector, data) in [(0, ours.authority.as_ref()), (1, ours.authority_key.as_slice())] {
            let by = |names: &[&str]| dane(names, vec![record(2, selector, matching, data)]);
            assert!(takes(by(&["mx.example"]), &ours), "2 {selector} {matching}");
            assert!(takes(by(&["alias.example", "mx.example"]), &ours), "any of the names");
            assert!(!takes(by(&["elsewhere.example"]), &ours), "another's name");
            assert!(!takes(by(&["mx.example"]), &chain("mx.example", true)), "another authority");
        }
    }
    let past = chain("mx.example", false);
    assert!(!takes(dane(&["mx.example"], vec![record(2, 0, 1, &past.authority)]), &past), "out of date");
}

#[test]
fn the_server_s_own_certificate_is_no_authority_and_the_authority_s_is_not_the_server() {
    let ours = chain("mx.example", true);
    assert!(!takes(dane(&["mx.example"], vec![record(2, 0, 1, &ours.leaf)]), &ours));
    assert!(!takes(dane(&["mx.example"], vec![record(3, 0, 1, &ours.authority)]), &ours));
}

#[test]
fn records_that_mail_servers_have_no_use_for_count_as_none() {
    let unusable = [
        record(0, 0, 1, b"x"),
        record(1, 0, 1, b"x"),
        record(4, 0, 1, b"x"),
        record(3, 2, 1, b"x"),
        record(3, 1, 3, b"x"),
        record(3, 1, 0, b""),
        Tlsa { data: vec![0; 31], ..record(3, 1, 1, b"x") },
        Tlsa { data: vec![0; 32], ..record(3, 1, 2, b"x") },
    ];
    assert_eq!(dane(&[], unusable.to_vec()).records, []);
    assert_eq!(dane(&[], vec![record(3, 1, 1, b"x"); 10 * MAX_RECORDS]).records.len(), MAX_RECORDS);
}

#[test]
fn the_strongest_digest_of_a_kind_is_the_one_that_counts() {
    let ours = chain("mx.example", true);
    let (right, wrong) = (record(3, 0, 1, &ours.leaf), record(3, 0, 2, b"another"));
    assert!(!takes(dane(&[], vec![right.clone(), wrong.clone()]), &ours), "SHA-512 says no");
    let of_the_key = record(3, 1, 2, b"another");
    assert!(takes(dane(&[], vec![right.clone(), of_the_key]), &ours), "another kind");
    let whole = record(3, 0, 0, b"another");
    assert!(takes(dane(&[], vec![right, whole]), &ours), "no digest");
}

#[test]
fn what_the_route_asks_for_besides_must_be_met_too() {
    let ours = chain("mx.example", true);
    let store = |authority: &CertificateDer<'static>| {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        Some(verifier as Arc<dyn ServerCertVerifier>)
    };
    let named = || dane(&["mx.example"], vec![record(3, 0, 1, &ours.leaf)]);
    assert!(takes_with(named(), &ours, store(&ours.authority)).is_ok());
    assert!(takes_with(named(), &ours, store(&chain("mx.example", true).authority)).is_err());
    let other = dane(&["mx.example"], vec![record(3, 0, 1, b"another")]);
    let refused = takes_with(other, &ours, store(&ours.authority)).unwrap_err();
    assert!(refused.to_string().contains("no TLSA record"), "{refused}");
}
