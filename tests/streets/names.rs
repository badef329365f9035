//! A route `mx` with the machine's own resolver: names from a name server of the test's, mail exchangers on port 25, the
//! domain's policy from a web server on port 443. The program alone sees that name server, in a mount namespace of its own.

use crate::common::{Authority, Client, Postfix, Relay, Setup, Sink, free_port, installed, own_loopback_address};
use crate::message;
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, MX, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};
use sha2::{Digest as _, Sha256};
use std::io::{Read, Write, copy};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Whether this machine lets a program have names of its own, and the test the ports that belong to servers.
fn can_have_own_names() -> bool {
    let is_allowed = || Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    let has_ports = || UdpSocket::bind((own_loopback_address(), 53)).is_ok();
    if !installed(&["unshare"]) {
        return false;
    }
    let can = is_allowed() && has_ports();
    if !can {
        println!("skipped: mount namespaces and low ports need root");
    }
    can
}

/// Answers for `vault.example`: its mail exchanger and web server are at `address`. It announces a policy; or it vouches for all
/// that it says, and the mail exchanger has a TLSA record with the SHA-256 of its certificate.
fn serve_names(address: Ipv4Addr, tlsa: Option<[u8; 32]>) {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut octets = [0; 4_096];
        while let Ok((length, client)) = socket.recv_from(&mut octets) {
            let asked = Message::from_vec(&octets[..length]).unwrap();
            let query = asked.queries[0].clone();
            let mut answer = Message::response(asked.metadata.id, OpCode::Query);
            answer.add_query(query.clone());
            let mx = RData::MX(MX::new(10, Name::from_ascii("mx.vault.example.").unwrap()));
            let records = match query.name().to_ascii().as_str() {
                "vault.example." => vec![mx],
                "mx.vault.example." | "mta-sts.vault.example." => vec![RData::A(A(address))],
                "_25._tcp.mx.vault.example." => tlsa.iter().map(tlsa_record).collect(),
                "_mta-sts.vault.example." if tlsa.is_none() => {
                    vec![RData::TXT(TXT::new(vec!["v=STSv1; id=1;".to_owned()]))]
                }
                _ => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    Vec::new()
                }
            };
            let of_kind = records.into_iter().filter(|data| data.record_type() == query.query_type());
            let wants_it = asked.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
            answer.metadata.authentic_data = wants_it && tlsa.is_some();
            answer.add_answers(of_kind.map(|data| Record::from_rdata(query.name().clone(), 1, data)));
            socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
        }
    });
}

/// Usage DANE-EE.
fn tlsa_record(digest: &[u8; 32]) -> RData {
    RData::TLSA(TLSA::new(CertUsage::DaneEe, Selector::Full, Matching::Sha256, digest.to_vec()))
}

/// Passes connections to `address` on to `server`.
fn pass_on(address: SocketAddr, server: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(server).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                std::thread::spawn(move || {
                    let _ = copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

/// Serves an enforced policy for `mx.vault.example`, and notes that it was asked for.
fn serve_policy(address: SocketAddr, authority: &Authority) -> Arc<AtomicBool> {
    let made = authority.certify(&["mta-sts.vault.example"]);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let (config, was_asked) = (Arc::new(config), Arc::new(AtomicBool::new(false)));
    let (listener, asked) = (TcpListener::bind(address).unwrap(), Arc::clone(&was_asked));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let mut octets = [0; 4_096];
            if stream
                .read(&mut octets)
                .is_ok_and(|length| octets[..length].starts_with(b"GET /.well-known/mta-sts.txt "))
            {
                asked.store(true, Ordering::Relaxed);
                let policy = "version: STSv1\r\nmode: enforce\r\nmx: mx.vault.example\r\nmax_age: 86400\r\n";
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{policy}",
                    policy.len()
                );
            }
        }
    });
    was_asked
}

/// The program in a place where names come from the name server at `address` alone, and this authority is the system's.
fn with_own_names(setup: &mut Setup, address: Ipv4Addr, authority: &Authority, home: &std::path::Path) {
    std::fs::write(home.join("resolv.conf"), format!("nameserver {address}\noptions trust-ad\n")).unwrap();
    let wrapper = home.join("journal-relay-with-own-names");
    let script = format!(
        "#!/bin/sh\nexport SSL_CERT_FILE={}\nexec unshare --mount sh -ec \
         'mount --bind {}/resolv.conf /etc/resolv.conf; exec {} \"$@\"' sh \"$@\"\n",
        authority.write(home).display(),
        home.display(),
        setup.program.display(),
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    setup.program = wrapper;
}

#[test]
fn an_archive_is_found_by_the_machine_s_names_and_its_domain_s_policy_outlives_a_restart() {
    if !can_have_own_names() {
        return;
    }
    let (mailbox, archive, address) = (Sink::start(), Sink::start(), own_loopback_address());
    let (home, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let at = |port| SocketAddr::new(IpAddr::V4(address), port);
    serve_names(address, None);
    pass_on(at(25), archive.address());
    let was_asked = serve_policy(at(443), &authority);
    let mut setup = Setup::with_routes(&mailbox.route(), "mx").reporting_to(&mailbox);
    with_own_names(&mut setup, address, &authority, home.path());
    let mut relay: Relay = setup.start_in(home);
    let send = |relay: &Relay, mark: &str| {
        let mut client = Client::ehlo(relay.address());
        client.mail("alice@example.org", &["bob@elsewhere.example"], &message(mark)).starts("250");
    };
    send(&relay, "one");
    let why = "the server offers no STARTTLS, which the domain's MTA-STS policy requires";
    let is_told = |relay: &Relay| relay.wait_event("record.deferred", |event| event.text("reply").contains(why));
    is_told(&relay);
    assert!(was_asked.load(Ordering::Relaxed) && archive.taken().is_empty());

    relay.terminate();
    let kept = std::fs::read_to_string(relay.spool().join("mta-sts.json")).unwrap();
    assert!(kept.contains("mx.vault.example"), "{kept}");
    relay.launch();
    send(&relay, "two");
    is_told(&relay);
    assert!(archive.taken().is_empty());

    let toml = std::fs::read_to_string(relay.config()).unwrap();
    relay.configure(&toml.replace("journaling_route = \"mx\"", "journaling_route = \"mx?sts=off&source=127.0.0.9\""));
    relay.ask_to_reload();
    let acked = relay.wait_events("record.acked", 2);
    assert!(acked.iter().all(|event| event.text("archive") == "smtp://mx.vault.example:25"), "{acked:?}");
    assert_eq!(archive.wait_for(2).len(), 2);
    relay.finish();
}

#[test]
fn a_postfix_is_known_by_its_tlsa_record_alone() {
    if !can_have_own_names() || !installed(&["postfix"]) {
        return;
    }
    let (mailbox, archive, home) = (Sink::start(), Sink::start(), tempfile::tempdir().unwrap());
    // Neither the name nor the authority is one that anybody knows.
    let made = Authority::new().certify(&["elsewhere.example"]);
    let (certificate, key) = made.write(home.path(), "postfix");
    let postfix = Postfix::new(free_port(own_loopback_address()), archive.address())
        .with("smtpd_tls_security_level", "may")
        .with("smtpd_tls_received_header", "yes")
        .with("smtpd_tls_cert_file", &certificate.display().to_string())
        .with("smtpd_tls_key_file", &key.display().to_string())
        .start(home.path());
    for is_right in [true, false] {
        let (address, home, authority) = (own_loopback_address(), tempfile::tempdir().unwrap(), Authority::new());
        serve_names(address, Some(if is_right { Sha256::digest(&made.der).into() } else { [7; 32] }));
        pass_on(SocketAddr::new(IpAddr::V4(address), 25), postfix.address);
        let mut setup = Setup::with_routes(&mailbox.route(), "mx").reporting_to(&mailbox);
        with_own_names(&mut setup, address, &authority, home.path());
        let mut relay = setup.start_in(home);
        let mut client = Client::ehlo(relay.address());
        client.mail("alice@example.org", &["bob@elsewhere.example"], &message("dane")).starts("250");
        if is_right {
            relay.wait_event("record.acked", |event| event.text("archive") == "smtp://mx.vault.example:25");
            let record = archive.wait_for(1).remove(0);
            let received = String::from_utf8_lossy(&record.octets).into_owned();
            assert!(received.contains("(using TLSv1.3 with cipher"), "{received}");
        } else {
            let why = "no TLSA record of the server names this certificate";
            relay.wait_event("record.deferred", |event| event.text("reply").contains(why));
            assert_eq!(archive.taken().len(), 1);
        }
        relay.finish();
    }
}
