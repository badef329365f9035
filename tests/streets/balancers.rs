//! Load balancers in front: whose connection they pass on is believed where they are listed, and nowhere else. With the real
//! HAProxy, and with headers as it and others write them.

use crate::common::{Authority, Client, HaProxy, Record, Relay, Setup, Sink, installed, own_loopback_address};
use crate::message;
use std::net::Ipv4Addr;

/// A relay behind load balancers at 127.0.0.1 that trusts the client at `trusted` alone.
fn behind(trusted: Ipv4Addr, more: &str) -> ([Sink; 2], Relay) {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    setup.listener = format!("proxy_protocol_from = [\"127.0.0.1\"]\n{more}");
    setup.trusted_networks = Some(format!("[\"{trusted}\"]"));
    let relay = setup.start();
    ([next_hop, archive], relay)
}

#[test]
fn haproxy_says_whose_connection_it_is_and_trust_limits_and_trace_are_that_client_s() {
    if !installed(&["haproxy"]) {
        return;
    }
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"] {
        let (friend, stranger) = (own_loopback_address(), own_loopback_address());
        let ([next_hop, archive], mut relay) = behind(friend, "[listener.limits]\nconnections_per_client = 2\n");
        let haproxy = HaProxy::start(relay.home(), relay.address(), options);

        let mut client = Client::from(friend, haproxy.address).greeted();
        client.mail("alice@example.org", &["bob@elsewhere.example"], &message("friend")).starts("250");
        let copy = next_hop.wait_for(1).remove(0);
        let received = String::from_utf8_lossy(&copy.octets).lines().next().unwrap().to_owned();
        assert!(received.contains(&format!("from client.example.com ([{friend}])")), "{options}: {received}");
        assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("friend"));
        let opened =
            relay.wait_event("session.opened", |event| event.text("client").starts_with(&format!("{friend}:")));
        assert!(opened.text("proxy").starts_with("127.0.0.1:"), "{opened:?}");
        assert_eq!(relay.wait_event("message.accepted", |_| true).text("client"), friend.to_string());

        let mut clients: Vec<_> = (0..2).map(|_| Client::from(stranger, haproxy.address).greeted()).collect();
        clients[0].command("MAIL FROM:<eve@elsewhere.example>").starts("250");
        clients[0].command("RCPT TO:<bob@elsewhere.example>").starts("554 5.7.1");
        Client::from(stranger, haproxy.address).reply().starts("421 4.7.0");
        drop((client, clients));
        Client::from(friend, haproxy.address).greeted();
        relay.finish_clean(1);
    }
}

#[test]
fn a_header_comes_before_tls() {
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(place.path(), "relay");
    let tls = format!("[listener.tls]\nmode = \"implicit\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let (_sinks, mut relay) = behind(own_loopback_address(), &tls);
    let mut client = Client::from(Ipv4Addr::LOCALHOST, relay.address());
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 465\r\n");
    client.encrypt(&authority, "relay.example.org").unwrap();
    let mut client = client.greeted();
    client.mail("bob@example.net", &["alice@example.org"], &message("implicit")).starts("250");
    let opened = relay.wait_event("session.opened", |_| true);
    assert_eq!((opened.text("client"), opened.text("tls")), ("192.0.2.7:56324", "TLSv1.3"));
    drop(client);
    relay.finish_clean(1);
}

#[test]
fn a_header_of_somebody_who_is_not_listed_is_refused_and_named_in_the_log() {
    let trusted = own_loopback_address();
    let ([next_hop, _archive], mut relay) = behind(trusted, "");
    let octets = trusted.octets();
    let v1 = format!("PROXY TCP4 {trusted} 198.51.100.1 56324 25\r\n").into_bytes();
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &octets, &[198, 51, 100, 1, 9, 9, 0, 25]].concat();
    for (count, header) in [v1, v2].into_iter().enumerate() {
        let forger = own_loopback_address();
        let mut client = Client::from(forger, relay.address());
        client.send(&header);
        client.send(b"EHLO x\r\nMAIL FROM:<eve@example.net>\r\nRCPT TO:<bob@elsewhere.example>\r\n");
        let said = String::from_utf8(client.rest()).unwrap();
        assert!(said.starts_with("220 ") && said.contains("\r\n421 4.7.0 "), "{said}");
        assert!(!said.contains("\r\n250"), "{said}");
        let closed = relay.wait_events("session.closed", count + 1).remove(count);
        assert_eq!(closed.text("reason"), "proxy_header");
        assert!(closed.text("client").starts_with(&format!("{forger}:")), "{closed:?}");
    }
    assert!(next_hop.transactions().is_empty());
    relay.finish_clean(0);
}

#[test]
fn a_load_balancer_without_a_header_is_not_served_and_its_health_checks_are() {
    let (_sinks, mut relay) = behind(Ipv4Addr::LOCALHOST, "[listener.limits]\nconnections_per_client = 1\n");
    let peer = || Client::from(Ipv4Addr::LOCALHOST, relay.address());
    for said in [&b"EHLO client.example.com\r\n"[..], b"PROXY TCP4 192.0.2.7\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31"] {
        let mut client = peer();
        client.send(said);
        assert_eq!(client.rest(), b"", "nothing is said to it");
    }
    let why: Vec<_> =
        relay.wait_events("session.closed", 3).iter().map(|closed| closed.text("error").to_owned()).collect();
    assert_eq!(
        why,
        [
            "there is no PROXY header",
            "the PROXY header is malformed: an address",
            "the PROXY header is malformed: unknown version"
        ]
    );
    assert_eq!(relay.count("session.opened"), 0);
    // A check that only connects is no news.
    drop(peer());
    let checks = [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"];
    let open = checks.map(|header| {
        let mut check = peer();
        check.send(header);
        check.greeted()
    });
    let opened = relay.wait_events("session.opened", 2).remove(0);
    assert_eq!(opened.text("client"), opened.text("proxy"));
    drop(open);
    relay.wait_events("session.closed", 5);
    assert_eq!(relay.count("session.closed"), 5);
    relay.finish_clean(0);
}

#[test]
fn a_load_balancer_that_speaks_before_the_greeting_is_not_taken_for_a_hasty_client() {
    let (_sinks, mut relay) = behind(Ipv4Addr::LOCALHOST, "[listener.limits]\ngreeting_delay = \"30s\"\n");
    let mut client = Client::from(own_loopback_address(), relay.address());
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n");
    client.reply().starts("421 4.7.0 relay.example.org Error: no PROXY header");
    relay.wait_event("session.closed", |event| event.text("reason") == "proxy_header");
    relay.finish_clean(0);
}
