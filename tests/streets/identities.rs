//! What a real Postfix behind the relay knows of the client: told by XCLIENT, XFORWARD and PROXY headers.

use crate::common::{
    Client, Postfix, Relay, Running, Setup, Sink, free_port, installed, own_loopback_address, strip_folded_received,
};
use crate::message;
use std::net::Ipv4Addr;

struct Street {
    _home: tempfile::TempDir,
    postfix: Running,
    mailbox: Sink,
    _archive: Sink,
    relay: Relay,
}

/// A relay that clients reach through a load balancer on this machine and that trusts all of them, in front of a Postfix
/// that takes mail to example.org from anybody and other mail from this machine.
fn street(identity: &str, parameter: &str, value: &str) -> Street {
    let (mailbox, archive, home) = (Sink::start(), Sink::start(), tempfile::tempdir().unwrap());
    let postfix = Postfix::new(free_port(own_loopback_address()), mailbox.address())
        .with("smtpd_relay_restrictions", "permit_mynetworks, reject_unauth_destination")
        .with("relay_domains", "example.org")
        .with("smtpd_peername_lookup", "no")
        // With IPv4 alone it takes no IPv6 address from XCLIENT.
        .with("inet_protocols", "all")
        .with(parameter, value)
        .start(home.path());
    let mut setup = Setup::with_routes(&format!("smtp://{}?tls=none", postfix.address), &archive.route());
    setup.listener = format!("proxy_protocol_from = [\"127.0.0.1\"]\nclient_identity = \"{identity}\"\n");
    setup.trusted_networks = Some("[\"192.0.2.0/24\", \"2001:db8::/32\"]".to_owned());
    let relay = setup.start();
    Street { _home: home, postfix, mailbox, _archive: archive, relay }
}

impl Street {
    /// A client as the load balancer shows it.
    fn client(&self, header: &str) -> Client {
        let mut client = Client::from(Ipv4Addr::LOCALHOST, self.relay.address());
        client.send(format!("PROXY {header}\r\n").as_bytes());
        client.greeted()
    }
}

const CLIENT: &str = "TCP4 192.0.2.7 198.51.100.1 56324 25";

#[test]
fn postfix_takes_a_connection_for_the_client_s_own() {
    if !installed(&["postfix"]) {
        return;
    }
    for (identity, parameter, value) in [
        ("xclient", "smtpd_authorized_xclient_hosts", "127.0.0.0/8"),
        ("proxy-v1", "smtpd_upstream_proxy_protocol", "haproxy"),
        ("proxy-v2", "smtpd_upstream_proxy_protocol", "haproxy"),
    ] {
        let mut street = street(identity, parameter, value);
        let mut clients = [street.client(CLIENT), street.client("TCP6 2001:db8::8 2001:db8::1 5 25")];
        for (number, mark) in [(0, "one"), (1, "two"), (0, "three")] {
            clients[number].mail("bob@example.net", &["alice@example.org"], &message(mark)).starts("250 2.0.0 Ok");
        }
        let copies = street.mailbox.wait_for(3);
        for (mark, literal) in [("one", "192.0.2.7"), ("two", "IPv6:2001:db8::8"), ("three", "192.0.2.7")] {
            let copy = copies.iter().find(|copy| strip_two(&copy.octets) == message(mark)).unwrap();
            let received = strip_folded_received(&copy.octets).0;
            let shown = format!("from client.example.com (unknown [{literal}])");
            assert!(received.contains(&shown), "{identity}: {received}");
        }
        // The relay trusts the client; Postfix trusts the relay's address, and does not take it for the client's.
        let [client, _] = &mut clients;
        client.command("MAIL FROM:<bob@example.net>").starts("250");
        client
            .command("RCPT TO:<eve@elsewhere.example>")
            .starts("554 5.7.1 <eve@elsewhere.example>: Relay access denied");
        drop(clients);
        let log = street.postfix.log();
        assert!(log.contains("client=unknown[192.0.2.7]") && log.contains("client=unknown[2001:db8::8]"), "{log}");
        street.relay.finish_clean(3);
    }
}

fn strip_two(octets: &[u8]) -> Vec<u8> {
    strip_folded_received(strip_folded_received(octets).1).1.to_vec()
}

#[test]
fn postfix_logs_the_client_of_each_message_that_xforward_names() {
    if !installed(&["postfix"]) {
        return;
    }
    let mut street = street("xforward", "smtpd_authorized_xforward_hosts", "127.0.0.0/8");
    for (number, host) in ["192.0.2.7", "192.0.2.8"].into_iter().enumerate() {
        let mut client = street.client(&format!("TCP4 {host} 198.51.100.1 56324 25"));
        client.mail("bob@example.net", &["eve@elsewhere.example"], &message(host)).starts("250 2.0.0 Ok");
        let accepted = street.relay.wait_events("message.accepted", number + 1).remove(number);
        let log = street.postfix.log();
        let origin = format!("orig_queue_id={}, orig_client=unknown[{host}]", accepted.text("queue_id"));
        assert!(log.contains(&origin), "{origin}: {log}");
    }
    assert_eq!(street.mailbox.wait_for(2).len(), 2);
    street.relay.finish();
}

#[test]
fn a_postfix_that_takes_no_xclient_from_us_gets_no_mail_as_ours() {
    if !installed(&["postfix"]) {
        return;
    }
    let mut street = street("xclient", "smtpd_authorized_xclient_hosts", "192.0.2.99");
    let mut client = street.client(CLIENT);
    for _ in 0..2 {
        client.command("MAIL FROM:<bob@example.net>").starts("451 4.3.5");
    }
    drop(client);
    let told = street.relay.wait_event("route.state", |event| event.text("state") == "client_identity_unknown");
    assert_eq!(told.text("keyword"), "XCLIENT");
    street.relay.finish();
    assert_eq!(street.relay.count("route.state"), 1, "it is told once");
    assert!(street.mailbox.transactions().is_empty());
}
