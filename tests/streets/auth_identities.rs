//! Clients that authenticate at a real Postfix which also learns who they are: whatever tells it, the password counts for the
//! client's own connection and nobody else's.

use crate::common::{
    Authority, Client, Dovecot, Postfix, Record, Relay, Running, Setup, Sink, free_port, installed, open_to_others,
    own_loopback_address,
};
use crate::message;
use std::cell::RefCell;
use std::net::Ipv4Addr;

/// `\0alice\0s3cret-word`, and a wrong one.
const PLAIN: &str = "AUTH PLAIN AGFsaWNlAHMzY3JldC13b3Jk";
const WRONG: &str = "AUTH PLAIN AGFsaWNlAHdyb25n";

struct Street {
    postfix: Running,
    world: Sink,
    archive: Sink,
    authority: Authority,
    relay: Relay,
    _dovecot: Dovecot,
    _home: tempfile::TempDir,
}

/// A relay that clients reach through a load balancer on this machine; Postfix behind it takes mail for anybody from who has
/// authenticated, and none from the relay itself. The way between them is encrypted, and verified.
fn street(identity: &str, parameter: &str, value: &str) -> Street {
    let (world, archive, home, authority) =
        (Sink::start(), Sink::start(), tempfile::tempdir().unwrap(), Authority::new());
    open_to_others(home.path());
    let dovecot = Dovecot::start(&home.path().join("dovecot"), "alice", "s3cret-word");
    let ca_file = authority.write(home.path());
    let listen = free_port(own_loopback_address());
    let (certificate, key) = authority.certify(&[&listen.ip().to_string()]).write(home.path(), "postfix");
    let postfix = Postfix::new(listen, world.address())
        .with("smtpd_tls_security_level", "encrypt")
        .with("smtpd_tls_cert_file", &certificate.display().to_string())
        .with("smtpd_tls_key_file", &key.display().to_string())
        .with("smtpd_sasl_auth_enable", "yes")
        .with("smtpd_sasl_type", "dovecot")
        .with("smtpd_sasl_path", &dovecot.socket.display().to_string())
        .with("smtpd_relay_restrictions", "permit_sasl_authenticated, reject")
        .with("smtpd_peername_lookup", "no")
        .with("inet_protocols", "all")
        .with(parameter, value)
        .start(&home.path().join("postfix"));
    let next_hop = format!("smtp://{}?tls=required&ca_file={}", postfix.address, ca_file.display());
    let mut setup = Setup::with_routes(&next_hop, &archive.route()).trusting_nobody();
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(home.path(), "relay");
    setup.listener = format!(
        "proxy_protocol_from = [\"127.0.0.1\"]\nclient_identity = \"{identity}\"\n[listener.tls]\n\
         certificate = {certificate:?}\nkey = {key:?}\n"
    );
    Street { relay: setup.start(), postfix, world, archive, authority, _dovecot: dovecot, _home: home }
}

impl Street {
    /// A client as the load balancer shows it, encrypted.
    fn client(&self, host: &str) -> Client {
        let mut client = Client::from(Ipv4Addr::LOCALHOST, self.relay.address());
        client.send(format!("PROXY TCP4 {host} 198.51.100.1 56324 25\r\n").as_bytes());
        let mut client = client.greeted();
        let (_, offers) = client.start_tls(&self.authority, "relay.example.org");
        if offers.text().contains("AUTH PLAIN LOGIN") {
            return client;
        }
        // A client that comes before Postfix has said what it offers is offered less.
        let client = RefCell::new(client);
        self.relay.poll("AUTH to be offered", || {
            let offers = client.borrow_mut().command("EHLO client.example.com");
            offers.text().contains("AUTH PLAIN LOGIN").then_some(())
        });
        client.into_inner()
    }
}

#[test]
fn a_password_counts_for_the_client_whatever_tells_the_next_hop_who_that_is() {
    if !installed(&["postfix", "dovecot"]) {
        return;
    }
    for (identity, parameter, value) in [
        ("xclient", "smtpd_authorized_xclient_hosts", "127.0.0.0/8"),
        ("xforward", "smtpd_authorized_xforward_hosts", "127.0.0.0/8"),
        ("proxy-v1", "smtpd_upstream_proxy_protocol", "haproxy"),
        ("proxy-v2", "smtpd_upstream_proxy_protocol", "haproxy"),
    ] {
        let mut street = street(identity, parameter, value);
        let (mut alice, mut eve) = (street.client("192.0.2.7"), street.client("192.0.2.66"));
        alice.command(WRONG).starts("535 5.7.8");
        alice.command(PLAIN).starts("235 2.7.0");
        eve.command(WRONG).starts("535 5.7.8");
        for mark in ["one", "two"] {
            alice.mail("alice@example.org", &["far@elsewhere.example"], &message(mark)).starts("250 2.0.0 Ok");
        }
        // Her connection is there, and not for eve: neither the relay nor Postfix lets her.
        eve.mail("alice@example.org", &["far@elsewhere.example"], &message("eve")).starts("554 5.7.1");
        eve.command("RSET").starts("250");
        eve.mail("alice@example.org", &["bob@example.org"], &message("eve")).starts("554 5.7.1 <bob@example.org>");
        // What is encrypted anew begins anew; so does another session from her address.
        let mut again = street.client("192.0.2.7");
        again.mail("alice@example.org", &["bob@example.org"], &message("again")).starts("554 5.7.1 <bob@example.org>");
        drop((alice, eve, again));
        assert_eq!(street.world.wait_for(2).len(), 2);
        for record in street.archive.wait_for(2) {
            assert_eq!(Record::read(&record.octets).field("X-Journal-Auth"), Some("alice"));
        }
        let shown = |line: &str| match identity {
            "xforward" => line.contains("client=unknown[127.0.0.1]") && line.contains("orig_client=unknown[192.0.2.7]"),
            _ => line.contains("client=unknown[192.0.2.7]"),
        };
        let blamed = if identity == "xforward" { "unknown[127.0.0.1]" } else { "unknown[192.0.2.66]" };
        let blame = format!("{blamed}: SASL PLAIN authentication failed");
        // Its log daemon writes in its own time.
        street.relay.poll("Postfix to log two messages of alice's and a wrong password", || {
            let log = street.postfix.log();
            let taken =
                log.lines().filter(|line| line.contains("sasl_method=PLAIN, sasl_username=alice") && shown(line));
            (taken.count() == 2 && log.contains(&blame)).then_some(())
        });
        street.relay.finish_clean(2);
    }
}
