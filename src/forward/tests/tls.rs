//! The four ways a route can ask for TLS, against servers that can, can't, or pretend.

use super::*;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// A server's certificate, and the file that says it can be trusted.
struct Identity {
    acceptor: TlsAcceptor,
    ca_file: tempfile::NamedTempFile,
}

fn identity(name: &str) -> Identity {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(certified.cert.pem().as_bytes()).unwrap();
    Identity { acceptor: TlsAcceptor::from(Arc::new(config)), ca_file }
}

impl Fake {
    fn tls_hop(&self, tls: Tls, trusted: Option<&Identity>) -> Arc<NextHop> {
        let ca_file = trusted.map(|identity| identity.ca_file.path().to_owned());
        NextHop::with_settings(Route::Smtp(SmtpRoute { ca_file, ..self.route(tls) }), settings()).unwrap()
    }
}

impl Peer {
    /// The same connection, encrypted; none when the client broke off the handshake.
    async fn encrypt(self, identity: &Identity) -> Option<Peer> {
        Some(Self::over(identity.acceptor.accept(self.stream.into_inner()).await.ok()?))
    }

    async fn start_tls(mut self, identity: &Identity) -> Option<Peer> {
        self.answer("STARTTLS", "220 go on").await;
        self.encrypt(identity).await
    }
}

/// Relays a message; tells what is offered under TLS.
async fn relay(next_hop: &Arc<NextHop>) -> Extensions {
    let mut leg = next_hop.open().await.unwrap();
    send_message(&mut leg, b".x\r\n").await.unwrap();
    leg.extensions().clone()
}

/// A server that does STARTTLS and takes a message under it.
async fn serve(fake: &Fake, identity: &Identity) {
    let peer = fake.accept_greeted("STARTTLS DSN").await;
    let mut peer = peer.start_tls(identity).await.unwrap();
    peer.hello("PIPELINING").await;
    peer.take_message("..x\r\n.\r\n").await;
}

#[tokio::test]
async fn opportunistic_takes_any_certificate() {
    let (fake, other) = (Fake::new().await, identity("other.example"));
    let offered = both(relay(&fake.tls_hop(Tls::Opportunistic, None)), serve(&fake, &other)).await;
    assert!(offered.pipelining && !offered.dsn, "what was offered in plain text is forgotten");
}

#[tokio::test]
async fn opportunistic_goes_on_in_plain_text_where_tls_is_not_offered() {
    let fake = Fake::new().await;
    let server = async { fake.accept_greeted("").await.take_message("..x\r\n.\r\n").await };
    both(relay(&fake.tls_hop(Tls::Opportunistic, None)), server).await;
}

#[tokio::test]
async fn opportunistic_goes_on_in_plain_text_where_tls_is_refused() {
    let fake = Fake::new().await;
    let server = async {
        let mut peer = fake.accept_greeted("STARTTLS").await;
        peer.answer("STARTTLS", "454 4.7.0 not now").await;
        peer.take_message("..x\r\n.\r\n").await;
    };
    both(relay(&fake.tls_hop(Tls::Opportunistic, None)), server).await;
}

#[tokio::test]
async fn opportunistic_comes_back_in_plain_text_when_the_handshake_fails() {
    let fake = Fake::new().await;
    let server = async {
        let mut peer = fake.accept_greeted("STARTTLS").await;
        peer.answer("STARTTLS", "220 go on").await;
        // The start of the client's hello, so that the answer comes behind it.
        peer.stream.read_u8().await.unwrap();
        peer.send("this is no handshake\r\n").await;
        let mut peer = fake.accept_greeted("STARTTLS").await;
        peer.take_message("..x\r\n.\r\n").await;
    };
    both(relay(&fake.tls_hop(Tls::Opportunistic, None)), server).await;
}

#[tokio::test]
async fn octets_behind_the_reply_to_starttls_end_the_conversation() {
    for mode in [Tls::Opportunistic, Tls::Required] {
        let (fake, trusted) = (Fake::new().await, identity("127.0.0.1"));
        let next_hop = fake.tls_hop(mode, Some(&trusted));
        let server = async {
            let mut peer = fake.accept_greeted("STARTTLS").await;
            peer.answer("STARTTLS", "220 go on\r\n250 injected").await;
        };
        let error = both(next_hop.open(), server).await.unwrap_err();
        assert!(error.to_string().ends_with("octets in plain text behind the reply to STARTTLS"), "{error}");
    }
}

#[tokio::test]
async fn required_takes_a_certificate_of_its_authorities() {
    let (fake, trusted) = (Fake::new().await, identity("127.0.0.1"));
    both(relay(&fake.tls_hop(Tls::Required, Some(&trusted))), serve(&fake, &trusted)).await;
}

/// Why a handshake on a verified route fails.
async fn refused(mode: Tls, presented: &Identity, trusted: &Identity) -> String {
    let fake = Fake::new().await;
    let next_hop = fake.tls_hop(mode, Some(trusted));
    let server = async {
        let encrypted = if mode == Tls::Implicit {
            fake.accept().await.encrypt(presented).await
        } else {
            fake.accept_greeted("STARTTLS").await.start_tls(presented).await
        };
        if let Some(mut peer) = encrypted {
            assert_eq!(peer.rest().await, "", "nothing is said to a server that is not trusted");
        }
    };
    let error = both(next_hop.open(), server).await.unwrap_err();
    assert!(matches!(error, Unreachable::Tls { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_verified_route_refuses_a_wrong_name() {
    for mode in [Tls::Required, Tls::Implicit] {
        let other = identity("other.example");
        let error = refused(mode, &other, &other).await;
        assert!(error.contains("not valid for name"), "{error}");
    }
}

#[tokio::test]
async fn a_verified_route_refuses_an_unknown_authority() {
    for mode in [Tls::Required, Tls::Implicit] {
        let error = refused(mode, &identity("127.0.0.1"), &identity("127.0.0.1")).await;
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
}

#[tokio::test]
async fn required_refuses_a_server_without_tls() {
    let (fake, trusted) = (Fake::new().await, identity("127.0.0.1"));
    let next_hop = fake.tls_hop(Tls::Required, Some(&trusted));
    let server = async { assert_eq!(fake.accept_greeted("PIPELINING").await.rest().await, "") };
    let error = both(next_hop.open(), server).await.unwrap_err();
    assert!(matches!(error, Unreachable::NoTls { .. }), "{error}");
    let server = async { fake.accept_greeted("STARTTLS").await.answer("STARTTLS", "454 4.7.0 not now").await };
    let error = both(next_hop.open(), server).await.unwrap_err();
    assert!(error.to_string().ends_with("answered STARTTLS with `454 4.7.0 not now`"), "{error}");
}

#[tokio::test]
async fn implicit_speaks_tls_from_the_first_octet() {
    let (fake, trusted) = (Fake::new().await, identity("127.0.0.1"));
    let server = async {
        let mut peer = fake.accept().await.encrypt(&trusted).await.unwrap();
        peer.greet("STARTTLS").await;
        peer.take_message("..x\r\n.\r\n").await;
    };
    both(relay(&fake.tls_hop(Tls::Implicit, Some(&trusted))), server).await;
}

#[tokio::test]
async fn an_encrypted_connection_is_reused_and_replaced_like_another() {
    let (fake, trusted) = (Fake::new().await, identity("127.0.0.1"));
    let next_hop = fake.tls_hop(Tls::Implicit, Some(&trusted));
    let client = async {
        for _ in 0..3 {
            let mut leg = next_hop.open().await.unwrap();
            send_message(&mut leg, b"x\r\n").await.unwrap();
            leg.release();
        }
    };
    let server = async {
        let mut peer = fake.accept().await.encrypt(&trusted).await.unwrap();
        peer.greet("").await;
        peer.take_message("x\r\n.\r\n").await;
        peer.take_message("x\r\n.\r\n").await;
        // Without the farewell of TLS, when the third message comes.
        assert_eq!(peer.line().await, MAIL);
        drop(peer);
        let mut peer = fake.accept().await.encrypt(&trusted).await.unwrap();
        peer.greet("").await;
        peer.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_large_message_arrives_whole_under_tls() {
    const LINE: &str = "a line of a message that is larger than any buffer on its way\r\n";
    let octets = LINE.repeat(64 * GATHER / LINE.len());
    let (fake, trusted) = (Fake::new().await, identity("127.0.0.1"));
    let next_hop = fake.tls_hop(Tls::Implicit, Some(&trusted));
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        send_message(&mut leg, octets.as_bytes()).await.unwrap()
    };
    let server = async {
        let mut peer = fake.accept().await.encrypt(&trusted).await.unwrap();
        peer.greet("").await;
        peer.take_message(&format!("{octets}.\r\n")).await;
    };
    assert_eq!(both(client, server).await.code(), 250);
}

#[tokio::test]
async fn a_host_with_several_addresses_is_tried_at_each() {
    let (fake, trusted) = (Fake::new().await, identity("localhost"));
    // The server listens on 127.0.0.1 alone; localhost has ::1 too on most machines.
    let ca_file = Some(trusted.ca_file.path().to_owned());
    let route = SmtpRoute { host: "localhost".into(), ca_file, ..fake.route(Tls::Required) };
    let next_hop = NextHop::with_settings(Route::Smtp(route), settings()).unwrap();
    both(relay(&next_hop), serve(&fake, &trusted)).await;
}

#[test]
fn authorities_that_cannot_be_read_are_told_before_any_connection() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for path in [std::path::Path::new("/nonexistent/ca.pem"), empty.path()] {
        let ca_file = Some(path.to_owned());
        let route = SmtpRoute { ca_file, ..SmtpRoute::to("mx.example", 25, Tls::Required) };
        let error = NextHop::with_settings(Route::Smtp(route), settings()).unwrap_err();
        assert!(matches!(&error, ForwardError::Tls(why) if why.contains(path.to_str().unwrap())), "{error}");
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_taken_whatever_its_name_and_no_other_is() {
    let (fake, pinned) = (Fake::new().await, identity("elsewhere.example"));
    let der = CertificateDer::from_pem_file(pinned.ca_file.path()).unwrap();
    let route = |fingerprint| SmtpRoute { fingerprints: vec![[0; 32], fingerprint], ..fake.route(Tls::Required) };
    let hop = |fingerprint| NextHop::with_settings(Route::Smtp(route(fingerprint)), settings()).unwrap();
    both(relay(&hop(Sha256::digest(&der).into())), serve(&fake, &pinned)).await;
    let server = async { assert!(fake.accept_greeted("STARTTLS").await.start_tls(&pinned).await.is_none()) };
    let client = async { assert!(matches!(hop([1; 32]).open().await, Err(Unreachable::Tls { .. }))) };
    both(client, server).await;
}

#[tokio::test]
async fn requiretls_is_offered_where_the_server_is_verified_and_nowhere_else() {
    for (tls, verified) in [(Tls::Required, true), (Tls::Opportunistic, false), (Tls::None, false)] {
        let (fake, own) = (Fake::new().await, identity("127.0.0.1"));
        let next_hop = fake.tls_hop(tls, Some(&own));
        let server = async {
            let mut peer = fake.accept_greeted("STARTTLS REQUIRETLS").await;
            if tls != Tls::None {
                peer = peer.start_tls(&own).await.unwrap();
                peer.hello("REQUIRETLS").await;
            }
        };
        let leg = both(next_hop.open(), server).await.unwrap();
        assert_eq!(leg.extensions().require_tls, verified, "{tls:?}");
        let lacks = leg.lacks(&mail_with(&[("REQUIRETLS", None)]));
        assert_eq!(lacks, (!verified).then_some("REQUIRETLS"));
    }
}
