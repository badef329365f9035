//! Listeners that encrypt: STARTTLS offered and required, TLS from the first octet, certificates by name and anew.

use crate::common::{Authority, Client, Record, Relay, Setup, Sink, installed};
use crate::message;
use std::path::Path;
use std::process::{Command, Stdio};

/// A listener with this mode and certificate, and what its table says more.
fn with_tls(setup: &mut Setup, mode: &str, place: &Path, name: &str, more: &str) {
    let file = |suffix: &str| place.join(format!("{name}.{suffix}")).display().to_string();
    setup.listener =
        format!("[listener.tls]\nmode = {mode:?}\ncertificate = {:?}\nkey = {:?}\n{more}", file("pem"), file("key"));
}

struct Street {
    authority: Authority,
    place: tempfile::TempDir,
    next_hop: Sink,
    archive: Sink,
    relay: Relay,
}

fn street(mode: &str) -> Street {
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.certify(&["relay.example.org"]).write(place.path(), "relay");
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    with_tls(&mut setup, mode, place.path(), "relay", "");
    let relay = setup.start();
    Street { authority, place, next_hop, archive, relay }
}

#[test]
fn a_message_over_starttls_is_relayed_with_its_protocol_named_and_journaled() {
    let mut street = street("starttls");
    let mut client = Client::ehlo(street.relay.address());
    let (_, offers) = client.start_tls(&street.authority, "relay.example.org");
    assert!(!offers.text().contains("STARTTLS"), "{offers:?}");
    client.mail("alice@example.org", &["bob@example.net"], &message("secret")).starts("250");
    let relayed = street.next_hop.wait_for(1)[0].octets.clone();
    let received = String::from_utf8_lossy(&relayed).lines().next().unwrap().to_owned();
    assert!(received.contains(" with ESMTPS (TLSv1.3 TLS_"), "{received}");
    assert_eq!(Record::read(&street.archive.wait_for(1)[0].octets).original, message("secret"));
    drop(client);
    let closed = street.relay.wait_event("session.closed", |_| true);
    assert_eq!(closed.text("tls"), "TLSv1.3");
    // In plain text it is no worse than before.
    let mut client = Client::ehlo(street.relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("open")).starts("250");
    drop(client);
    street.relay.finish_clean(2);
}

#[test]
fn where_tls_is_required_nothing_is_taken_before_it() {
    let mut street = street("required");
    let mut client = Client::ehlo(street.relay.address());
    client.command("MAIL FROM:<alice@example.org>").starts("530 5.7.0");
    client.start_tls(&street.authority, "relay.example.org");
    client.mail("alice@example.org", &["bob@example.net"], &message("secret")).starts("250");
    assert_eq!(street.next_hop.transactions().len(), 1);
    drop(client);
    street.relay.finish_clean(1);
}

#[test]
fn an_implicit_listener_greets_under_tls_and_offers_no_starttls() {
    let mut street = street("implicit");
    let mut client = Client::connect_tls(street.relay.address(), &street.authority, "relay.example.org");
    client.greeting.starts("220");
    let offers = client.command("EHLO client.example.com");
    assert!(!offers.text().contains("STARTTLS"), "{offers:?}");
    client.command("STARTTLS").starts("503");
    client.mail("alice@example.org", &["bob@example.net"], &message("secret")).starts("250");
    drop(client);
    street.relay.finish_clean(1);
}

#[test]
fn what_is_sent_along_with_starttls_in_plain_text_is_never_obeyed() {
    let mut street = street("starttls");
    let mut client = Client::ehlo(street.relay.address());
    client.send(b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@example.org>\r\n");
    client.reply().starts("220");
    // The plain text was read with the command, or stands where a handshake should: it is nothing either way.
    if client.encrypt(&street.authority, "relay.example.org").is_ok() {
        client.command("RCPT TO:<bob@example.net>").starts("503");
        client.command("EHLO client.example.com").starts("250");
        client.command("RCPT TO:<bob@example.net>").starts("503");
    }
    drop(client);
    assert!(street.next_hop.transactions().is_empty());
    street.relay.finish_clean(0);
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for_and_else_the_first() {
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    let first = authority.certify(&["relay.example.org"]);
    let second = authority.certify(&["mx.example.net", "*.example.com"]);
    first.write(place.path(), "relay");
    let (certificate, key) = second.write(place.path(), "other");
    let mut setup = Setup::new(&Sink::start(), &Sink::start());
    let more = format!("[[listener.tls.sni]]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    with_tls(&mut setup, "starttls", place.path(), "relay", &more);
    let mut relay = setup.start();
    for (name, expected) in [("relay.example.org", &first), ("mx.example.net", &second), ("a.example.com", &second)] {
        let mut client = Client::ehlo(relay.address());
        assert_eq!(client.start_tls(&authority, name).0, expected.der, "{name}");
    }
    let mut client = Client::ehlo(relay.address());
    client.command("STARTTLS").starts("220");
    let foreign = client.encrypt(&authority, "foreign.example.net").unwrap_err().to_string();
    assert!(foreign.contains("relay.example.org") || foreign.contains("NotValidForName"), "{foreign}");
    drop(client);
    relay.finish_clean(0);
}

#[test]
fn a_new_certificate_is_used_after_a_reload_and_a_broken_one_never() {
    let mut street = street("starttls");
    let shown = |street: &Street| {
        let mut client = Client::ehlo(street.relay.address());
        client.start_tls(&street.authority, "relay.example.org").0
    };
    let mut open = Client::ehlo(street.relay.address());
    open.start_tls(&street.authority, "relay.example.org");
    let renewed = street.authority.certify(&["relay.example.org"]);
    renewed.write(street.place.path(), "relay");
    street.relay.ask_to_reload();
    street.relay.wait_events("config.reloaded", 1);
    assert_eq!(shown(&street), renewed.der);
    // A key that is not the certificate's.
    let foreign = street.authority.certify(&["relay.example.org"]);
    std::fs::write(street.place.path().join("relay.key"), &foreign.key).unwrap();
    street.relay.ask_to_reload();
    let rejected = street.relay.wait_event("config.rejected", |_| true);
    assert!(rejected.text("error").contains("relay.pem"), "{rejected:?}");
    assert_eq!(shown(&street), renewed.der, "the old pair stays in use");
    open.mail("alice@example.org", &["bob@example.net"], &message("kept")).starts("250");
    drop(open);
    // A changed file is seen without a signal, too.
    let mended = street.authority.certify(&["relay.example.org"]);
    mended.write(street.place.path(), "relay");
    street.relay.wait_events("config.reloaded", 2);
    assert_eq!(shown(&street), mended.der);
    street.relay.finish_clean(1);
}

#[test]
fn real_clients_agree_on_tls() {
    let mut street = street("required");
    let authority = street.authority.write(street.place.path());
    let address = street.relay.address().to_string();
    let mut sent = 0;
    if installed(&["swaks"]) {
        let mut swaks = Command::new("swaks");
        swaks.args(["--server", &address, "--tls", "--tls-sni", "relay.example.org", "--timeout", "60"]);
        swaks.args(["--from", "alice@example.org", "--to", "bob@example.net", "--header", "Subject: tls"]);
        let output = swaks.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        sent += 1;
    }
    if installed(&["openssl"]) {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-connect", &address, "-starttls", "smtp", version, "-brief", "-CAfile"]);
            client.arg(&authority).args(["-verify_return_error", "-verify_hostname", "relay.example.org"]);
            let output = client.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("Verification: OK"), "{version}: {said}");
        }
        let old = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-starttls", "smtp", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!old.status.success(), "TLS 1.1 is over (RFC 8996)");
    }
    street.relay.finish_clean(sent);
}
