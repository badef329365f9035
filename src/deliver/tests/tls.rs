//! What each demand on TLS takes and refuses, and when a password is sent.

use super::archive::{Act, Archive, Script};
use super::*;
use crate::config::{Identity, Protocol};
use crate::deliver::Fault;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A server's half of TLS for `name`, and the PEM of its certificate, which is its own authority.
pub(super) fn certified(name: &str) -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// An archive with a certificate for `name`, a route to it that trusts that certificate, and the file's directory.
async fn archive_for(name: &str, tls: Tls, offers: &[&'static str]) -> (Archive, SmtpRoute, tempfile::TempDir) {
    let (acceptor, pem) = certified(name);
    let script = Script::offering(offers).with_tls(acceptor, tls == Tls::Implicit);
    let archive = Archive::start(script).await;
    let directory = tempfile::tempdir().unwrap();
    let ca_file: PathBuf = directory.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let route = SmtpRoute { ca_file: Some(ca_file), ..server(&archive, tls) };
    (archive, route, directory)
}

async fn verdict(route: SmtpRoute) -> Verdict {
    send(&post(), &Route::Smtp(route), &letter("x")).await
}

fn is_accepted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted { .. })
}

#[tokio::test]
async fn an_opportunistic_route_takes_any_certificate() {
    let (archive, mut route, _directory) = archive_for("elsewhere.example", Tls::Opportunistic, &["STARTTLS"]).await;
    route.ca_file = None;
    assert!(is_accepted(&verdict(route).await));
    let heard = archive.heard();
    assert_eq!((heard.tls, heard.of("EHLO").len()), (1, 2), "what was offered in plain text counts no more");
}

#[tokio::test]
async fn an_opportunistic_route_goes_on_in_plain_text_where_tls_fails() {
    // The archive says 220 and hangs up in the handshake; or it does not even let TLS begin.
    let broken = Script::offering(&["STARTTLS"]);
    let refusing = Script::offering(&["STARTTLS"]).on("STARTTLS", Act::Say("454 4.7.0 not now\r\n"));
    for script in [broken, refusing] {
        let archive = Archive::start(script).await;
        assert!(is_accepted(&verdict(server(&archive, Tls::Opportunistic)).await));
        let heard = archive.heard();
        assert_eq!((heard.tls, heard.connections, heard.letters.len()), (0, 2, 1));
    }
    let archive = Archive::start(Script::default()).await;
    assert!(is_accepted(&verdict(server(&archive, Tls::Opportunistic)).await));
}

#[tokio::test]
async fn required_tls_takes_the_right_certificate_and_no_other() {
    for tls in [Tls::Required, Tls::Implicit] {
        let (archive, route, _directory) = archive_for("127.0.0.1", tls, &["STARTTLS"]).await;
        let verdict = verdict(route.clone()).await;
        assert!(is_accepted(&verdict), "{verdict:?}");
        assert_eq!(archive.heard().tls, 1);
        let untrusted = SmtpRoute { ca_file: None, ..route };
        let verdict = super::tls::verdict(untrusted).await;
        assert!(
            matches!(&verdict, Verdict::Deferred { fault: Fault::Route { shut: true }, reply } if reply.text.contains("TLS")),
            "{verdict:?}"
        );
        assert_eq!(archive.heard().letters.len(), 1);

        let (archive, route, _directory) = archive_for("elsewhere.example", tls, &["STARTTLS"]).await;
        let verdict = super::tls::verdict(route).await;
        assert!(matches!(verdict, Verdict::Deferred { fault: Fault::Route { shut: true }, .. }), "{verdict:?}");
        assert!(archive.heard().of("MAIL").is_empty());
    }
}

#[tokio::test]
async fn required_tls_sends_nothing_where_starttls_is_not_offered() {
    let archive = Archive::start(Script::default()).await;
    let verdict = verdict(server(&archive, Tls::Required)).await;
    assert!(matches!(&verdict, Verdict::Deferred { fault: Fault::Route { shut: true }, .. }), "{verdict:?}");
    assert!(archive.heard().of("MAIL").is_empty());
}

#[tokio::test]
async fn replies_injected_behind_starttls_are_not_read_as_if_tls_had_protected_them() {
    let (acceptor, pem) = certified("127.0.0.1");
    let injected = "220 go\r\n250 archive.example\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 kept\r\n";
    let script = Script::offering(&["STARTTLS"]).with_tls(acceptor, false).on("STARTTLS", Act::Say(injected));
    let archive = Archive::start(script).await;
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let verdict = verdict(SmtpRoute { ca_file: Some(ca_file), ..server(&archive, Tls::Required) }).await;
    assert!(matches!(&verdict, Verdict::Deferred { reply, .. } if reply.text.contains("out of turn")), "{verdict:?}");
    assert!(archive.heard().letters.is_empty());
}

#[tokio::test]
async fn an_lmtp_server_is_greeted_with_lhlo_under_tls_again_and_takes_a_record_whatever_its_lines() {
    let (acceptor, _) = certified("127.0.0.1");
    let archive = Archive::start(Script::offering(&["STARTTLS"]).with_tls(acceptor, false).speaking_lmtp()).await;
    let route = SmtpRoute { protocol: Protocol::Lmtp, ..server(&archive, Tls::Opportunistic) };
    let sent = send(&post(), &Route::Smtp(route.clone()), &letter("EHLO first line\r\n\r\nEHLO second\r\n")).await;
    assert!(is_accepted(&sent), "{sent:?}");
    let heard = archive.heard();
    assert_eq!((heard.of("LHLO").len(), heard.of("EHLO").len(), heard.tls), (2, 0, 1));
    assert_eq!(heard.letters.len(), 1);
    assert!(
        heard.letters[0].windows(11).any(|octets| octets == b"EHLO second"),
        "a line of the message stays as it is"
    );
    let smtp = SmtpRoute { protocol: Protocol::Smtp, ..route };
    assert!(matches!(verdict(smtp).await, Verdict::Deferred { .. }), "a server of LMTP takes no EHLO");
}

fn with_password(route: SmtpRoute) -> SmtpRoute {
    SmtpRoute { credentials: Some(("relay".to_owned(), "secret".to_owned())), ..route }
}

#[tokio::test]
async fn auth_plain_says_user_and_password_in_one_line() {
    let archive = Archive::start(Script::offering(&["AUTH LOGIN PLAIN"])).await;
    assert!(is_accepted(&verdict(with_password(server(&archive, Tls::None))).await));
    assert_eq!(archive.heard().of("AUTH"), ["AUTH PLAIN AHJlbGF5AHNlY3JldA=="]);
}

#[tokio::test]
async fn auth_login_says_them_when_asked() {
    let script = Script::offering(&["AUTH LOGIN"])
        .on("AUTH", Act::Say("334 VXNlcm5hbWU6\r\n"))
        .on("", Act::Say("334 UGFzc3dvcmQ6\r\n"))
        .on("", Act::Say("235 2.7.0 welcome\r\n"));
    let archive = Archive::start(script).await;
    let verdict = verdict(with_password(server(&archive, Tls::None))).await;
    assert!(is_accepted(&verdict), "{verdict:?}");
    let heard = archive.heard();
    let lines: Vec<_> = heard.lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines[1..4], ["AUTH LOGIN", "cmVsYXk=", "c2VjcmV0"]);
}

#[tokio::test]
async fn a_refused_password_is_the_route_s_fault_and_is_never_shown() {
    let script = Script::offering(&["AUTH PLAIN"]).on("AUTH", Act::Say("535 5.7.8 bad credentials\r\n"));
    let archive = Archive::start(script).await;
    let verdict = verdict(with_password(server(&archive, Tls::None))).await;
    assert!(matches!(&verdict, Verdict::Deferred { fault: Fault::Route { shut: true }, .. }), "{verdict:?}");
    assert_eq!(verdict.reply().text, "535 5.7.8 bad credentials");
}

#[tokio::test]
async fn a_server_that_asks_who_its_client_is_gets_the_route_s_certificate() {
    let [server_made, client_made] = ["127.0.0.1", "relay.example.org"]
        .map(|name| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(client_made.cert.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server_made.cert.der().clone()], key)
        .unwrap();
    let script = Script::offering(&["STARTTLS"]).with_tls(TlsAcceptor::from(Arc::new(config)), false);
    let archive = Archive::start(script).await;
    let fingerprints = vec![Sha256::digest(server_made.cert.der()).into()];
    let nobody = SmtpRoute { fingerprints, ..server(&archive, Tls::Required) };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(client_made.signing_key.serialize_der()));
    let identity = Identity {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        chain: vec![client_made.cert.der().clone()],
        private_key: Arc::new(key),
    };
    assert!(matches!(verdict(nobody.clone()).await, Verdict::Deferred { .. }));
    let known = SmtpRoute { identity: Some(identity), ..nobody };
    let verdict = verdict(known).await;
    assert!(is_accepted(&verdict), "{verdict:?}");
}
