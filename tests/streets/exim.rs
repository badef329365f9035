//! Debian's Exim behind the relay: TLS, chunks, passwords, what it announces, and what it learns of clients.

use crate::common::{
    Authority, Client, Exim, Record, Relay, RunningExim, Sample, SampleWire, Setup, Sink, corpus, free_port, installed,
    own_loopback_address, strip_folded_received, strip_received,
};
use crate::message;
use crate::messages::distinct;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

struct Street {
    exim: RunningExim,
    world: Sink,
    archive: Sink,
    authority: Authority,
    relay: Relay,
    _home: tempfile::TempDir,
}

/// `exim` gets more of its main section, `listener` the relay's. Every connection to Exim is encrypted and its certificate
/// verified.
fn street(exim: impl FnOnce(Exim) -> Exim, listener: &str) -> Street {
    let (world, archive, home, authority) =
        (Sink::start(), Sink::start(), tempfile::tempdir().unwrap(), Authority::new());
    let listen = free_port(own_loopback_address());
    let ca_file = authority.write(home.path());
    let (certificate, key) = authority.certify(&[&listen.ip().to_string()]).write(home.path(), "exim");
    let tls = format!("tls_certificate = {}\ntls_privatekey = {}", certificate.display(), key.display());
    let setup = Exim::new(listen, &world).with(&tls);
    let exim = exim(setup).start(&home.path().join("exim"));
    let next_hop = format!("smtp://{listen}?tls=required&ca_file={}", ca_file.display());
    let mut setup = Setup::with_routes(&next_hop, &archive.route()).trusting_nobody();
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(home.path(), "relay");
    setup.listener = format!("{listener}\n[listener.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    Street { relay: setup.start(), _home: home, exim, world, archive, authority }
}

impl Street {
    /// Nothing is left anywhere.
    fn finish(mut self, records: usize) {
        self.relay.finish_clean(records);
        self.relay.poll("Exim's queue to be empty", || (self.exim.waiting() == 0).then_some(()));
        let log = self.exim.log();
        assert!(!log.contains("P=esmtp ") && !log.contains("P=smtp "), "some of it was not encrypted: {log}");
    }
}

/// `alice` and the password, as AUTH PLAIN says them.
const PLAIN: &str = "AUTH PLAIN AGFsaWNlAHMzY3JldC13b3Jk";

#[test]
fn every_message_of_the_corpus_comes_to_exim_as_if_there_were_no_relay() {
    if !installed(&["exim4"]) {
        return;
    }
    let street = street(|exim| exim.with("smtp_accept_queue_per_connection = 0"), "");
    let mut direct = Client::ehlo(street.exim.address);
    direct.start_tls(&street.authority, &street.exim.address.ip().to_string());
    let mut through = Client::ehlo(street.relay.address());
    let offers = through.command("EHLO client.example.com").text();
    assert!(["CHUNKING", "8BITMIME", "PIPELINING", "SIZE"].iter().all(|offer| offers.contains(offer)), "{offers}");
    let sendable = |sample: &Sample| sample.wire == SampleWire::Sendable && begins_with_a_field(&sample.octets);
    let samples: Vec<_> = corpus().into_iter().filter(sendable).collect();
    let mut ids = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        let [direct, through] = [&mut direct, &mut through].map(|client| send(client, &sample.octets, number % 2 == 0));
        ids.push((sample.file.as_str(), direct, through));
    }
    assert!(ids.len() > 100, "the corpus is there");
    let copies = street.world.wait_for(2 * ids.len());
    let copies: BTreeMap<_, _> = copies
        .iter()
        .map(|copy| strip_folded_received(&copy.octets))
        .map(|(received, rest)| (word_behind(&received, "\tid "), rest))
        .collect();
    for (file, direct, through) in &ids {
        let (received, relayed) = strip_received(copies[through]);
        assert!(received.contains("by relay.example.org"), "{received}");
        assert!(relayed == copies[direct], "{file}: Exim got something else through the relay");
    }
    drop((direct, through));
    street.finish(distinct(samples.iter().map(|sample| &sample.octets[..])));
}
/// In one chunk or by DATA; gives Exim's id of the message.
fn send(client: &mut Client, octets: &[u8], in_a_chunk: bool) -> String {
    let body = if octets.is_ascii() { "" } else { " BODY=8BITMIME" };
    client.command(&format!("MAIL FROM:<alice@example.org>{body}")).starts("250");
    client.command("RCPT TO:<bob@example.org>").starts("250");
    let reply = if in_a_chunk {
        client.send(format!("BDAT {} LAST\r\n", octets.len()).as_bytes());
        client.send(octets);
        client.reply()
    } else {
        client.command("DATA").starts("354");
        client.data(octets)
    };
    assert!(reply.is_taken(), "{reply:?}");
    word_behind(&reply.text(), "OK id=")
}

fn word_behind(text: &str, mark: &str) -> String {
    text.split_once(mark).unwrap().1.split_whitespace().next().unwrap().to_owned()
}

/// Where a message does not, Exim takes it for a message without a header, and with one when a field stands before it.
fn begins_with_a_field(octets: &[u8]) -> bool {
    let name = octets.split(|octet| *octet == b':').next().unwrap_or_default();
    name.len() < octets.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

#[test]
fn exim_s_replies_parameters_and_passwords_pass() {
    if !installed(&["exim4"]) {
        return;
    }
    let more =
        "smtputf8_advertise_hosts = *\ndsn_advertise_hosts = *\nauth_advertise_hosts = ${if def:tls_in_cipher{*}}";
    let street = street(|exim| exim.with(more).with_passwords(), "");
    let mut client = Client::ehlo(street.relay.address());
    let (_, offers) = client.start_tls(&street.authority, "relay.example.org");
    let offers = offers.text();
    for offer in ["PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "AUTH PLAIN LOGIN CRAM-MD5", "SIZE 67108864"]
    {
        assert!(offers.lines().any(|line| line.get(4..) == Some(offer)), "{offer}: {offers}");
    }
    for foreign in ["PIPECONNECT", "PRDR", "BINARYMIME"] {
        assert!(!offers.contains(foreign), "{offers}");
    }
    // Exim's own words, and the relay's to whom it doesn't know.
    client.mail("eve@example.net", &["nobody@example.org"], &message("x")).starts("550 no such user");
    client.command("RSET").starts("250");
    client.mail("eve@example.net", &["far@elsewhere.example"], &message("x")).starts("554 5.7.1");
    client.command("RSET").starts("250");
    client.command("AUTH PLAIN AGFsaWNlAHdyb25n").starts("535 Incorrect authentication data");
    client.command(PLAIN).starts("235 Authentication succeeded");
    client.command("MAIL FROM:<alice@example.org> RET=HDRS ENVID=QQ314159 SMTPUTF8 BODY=8BITMIME").starts("250 OK");
    client
        .command("RCPT TO:<f\u{fc}r@elsewhere.example> NOTIFY=FAILURE ORCPT=utf-8;f\\x{FC}r@elsewhere.example")
        .starts("250");
    client.command("DATA").starts("354");
    client.data(&message("one")).starts("250 OK id=");
    client.command("QUIT").starts("221");
    let copy = street.world.wait_for(1).remove(0);
    assert!(copy.mail.contains("SMTPUTF8") && copy.mail.contains("RET=HDRS ENVID=QQ314159"), "{copy:?}");
    assert!(copy.rcpts[0].contains("NOTIFY=FAILURE ORCPT=utf-8;"), "{copy:?}");
    let (received, rest) = strip_folded_received(&copy.octets);
    assert!(received.contains("esmtpsa"), "{received}");
    assert_eq!(strip_received(rest).1, message("one"));
    let record = Record::read(&street.archive.wait_for(1)[0].octets);
    assert_eq!(record.field("X-Journal-Auth"), Some("alice"));
    assert_eq!(record.original, message("one"));
    street.finish(1);
}

#[test]
fn exim_learns_from_a_proxy_header_who_the_client_is_and_whose_password_counts() {
    if !installed(&["exim4"]) {
        return;
    }
    for version in ["proxy-v1", "proxy-v2"] {
        let listener = format!("proxy_protocol_from = [\"127.0.0.1\"]\nclient_identity = \"{version}\"");
        let street = street(|exim| exim.with("hosts_proxy = 127.0.0.1").with_passwords(), &listener);
        for (header, shown) in [
            ("TCP4 192.0.2.7 198.51.100.1 56324 25", "[192.0.2.7]"),
            ("TCP6 2001:db8::8 2001:db8::1 5 25", "[2001:db8::8]"),
        ] {
            let mut client = Client::from(Ipv4Addr::LOCALHOST, street.relay.address());
            client.send(format!("PROXY {header}\r\n").as_bytes());
            let mut client = client.greeted();
            client.start_tls(&street.authority, "relay.example.org");
            client.mail("bob@example.net", &["alice@example.org"], &message(shown)).starts("250 OK id=");
            client.command(PLAIN).starts("235");
            client
                .mail("alice@example.org", &["far@elsewhere.example"], &message(&format!("{shown}-out")))
                .starts("250 OK id=");
            client.command("QUIT").starts("221");
            let log = street.exim.log();
            assert!(log.lines().filter(|line| line.contains(" <= ") && line.contains(shown)).count() == 2, "{log}");
            assert!(log.contains("A=plain:alice"), "{log}");
        }
        assert_eq!(street.world.wait_for(4).len(), 4);
        street.finish(4);
    }
}
