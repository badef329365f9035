//! Debian's OpenSMTPD behind the relay: a server without pipelining, chunks and SMTPUTF8, which learns of clients from PROXY
//! headers.

use crate::common::{
    Client, OpenSmtpd, Record, Relay, Sample, SampleWire, Setup, Sink, can_stand_apart, corpus, free_port, installed,
    own_loopback_address, strip_folded_received, strip_received,
};
use crate::message;
use crate::messages::distinct;
use std::net::Ipv4Addr;

struct Street {
    smtpd: OpenSmtpd,
    world: Sink,
    archive: Sink,
    relay: Relay,
    _home: tempfile::TempDir,
}

/// `smtpd` and `listener` are more of each side's listener.
fn street(smtpd: &str, listener: &str) -> Street {
    let (world, archive, home) = (Sink::start(), Sink::start(), tempfile::tempdir().unwrap());
    let smtpd = OpenSmtpd::start(&home.path().join("smtpd"), free_port(own_loopback_address()), smtpd, &world);
    let route = format!("smtp://{}", smtpd.address);
    let mut setup = Setup::with_routes(&route, &archive.route()).trusting_nobody();
    setup.listener = listener.to_owned();
    Street { relay: setup.start(), smtpd, world, archive, _home: home }
}

impl Street {
    /// Nothing is left anywhere.
    fn finish(mut self, records: usize) {
        self.relay.finish_clean(records);
        self.relay.poll("OpenSMTPD's queue to be empty", || self.smtpd.queue().is_empty().then_some(()));
    }
}

#[test]
fn messages_come_to_opensmtpd_as_if_there_were_no_relay() {
    if !installed(&["smtpd"]) || !can_stand_apart() {
        return;
    }
    let street = street("", "");
    // OpenSMTPD takes a hundred messages in a session; the relay's own business is to know that.
    let mut direct: Vec<_> = (0..4).map(|_| Client::ehlo(street.smtpd.address)).collect();
    let mut through = Client::ehlo(street.relay.address());
    // It looks at each line of a header, so what is none by RFC 5322 it may refuse; it does so either way. A line that is too
    // long it answers by closing the connection.
    let samples = corpus().into_iter().filter(|sample| sample.wire == SampleWire::Sendable && plain(sample));
    let mut taken = Vec::new();
    for (number, sample) in samples.enumerate() {
        let replies = [&mut direct[number % 4], &mut through].map(|client| {
            let body = if sample.octets.is_ascii() { "" } else { " BODY=8BITMIME" };
            client.command(&format!("MAIL FROM:<alice@example.net>{body}")).starts("250");
            client.command("RCPT TO:<bob@example.org>").starts("250");
            client.command("DATA").starts("354");
            client.data(&sample.octets)
        });
        let [direct, through] = replies;
        assert_eq!(direct.code(), through.code(), "{}: {direct:?}, {through:?}", sample.file);
        if through.is_taken() {
            taken.push((sample, queued(&direct.text()), queued(&through.text())));
        }
    }
    assert!(taken.len() > 100, "{}", taken.len());
    let copies = street.world.wait_for(2 * taken.len());
    let copy = |id: &str| {
        let mut split = copies.iter().map(|copy| strip_folded_received(&copy.octets));
        split.find(|(received, _)| received.contains(id)).unwrap_or_else(|| panic!("nothing with {id}")).1
    };
    for (sample, direct, through) in &taken {
        let (received, relayed) = strip_received(copy(through));
        assert!(received.contains("by relay.example.org"), "{received}");
        assert!(relayed == copy(direct), "{}: OpenSMTPD got something else through the relay", sample.file);
    }
    drop((direct, through));
    street.finish(distinct(taken.iter().map(|(sample, ..)| &sample.octets[..])));
}

/// Whether a message begins with a field, else one in front of it makes it another message; and has no long lines.
fn plain(sample: &Sample) -> bool {
    let name = sample.octets.split(|octet| *octet == b':').next().unwrap_or_default();
    let short = sample.octets.split(|octet| *octet == b'\n').all(|line| line.len() < 1000);
    short && name.len() < sample.octets.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// OpenSMTPD's id of a message: `250 2.0.0 1234abcd Message accepted for delivery`.
fn queued(reply: &str) -> String {
    format!("id {}", reply.split(' ').nth(2).unwrap())
}

#[test]
fn opensmtpd_s_replies_pass_and_a_proxy_header_tells_it_the_client() {
    if !installed(&["smtpd"]) || !can_stand_apart() {
        return;
    }
    let street = street("proxy-v2", "proxy_protocol_from = [\"127.0.0.1\"]\nclient_identity = \"proxy-v2\"");
    for (header, shown) in
        [("TCP4 192.0.2.7 198.51.100.1 56324 25", "192.0.2.7"), ("TCP6 2001:db8::8 2001:db8::1 5 25", "[2001:db8::8]")]
    {
        let mut client = Client::from(Ipv4Addr::LOCALHOST, street.relay.address());
        client.send(format!("PROXY {header}\r\n").as_bytes());
        let mut client = client.greeted();
        let offers = client.command("EHLO client.example.com").text();
        assert!(["8BITMIME", "DSN", "SIZE 36700160"].iter().all(|offer| offers.contains(offer)), "{offers}");
        assert!(!offers.contains("CHUNKING") && !offers.contains("SMTPUTF8"), "{offers}");
        client.mail("eve@example.net", &["nobody@example.org"], &message("x")).starts("550 Invalid recipient");
        client.command("RSET").starts("250");
        // What a client says in a row OpenSMTPD gets one by one.
        client.send(
            b"MAIL FROM:<eve@example.net> RET=HDRS ENVID=QQ314159\r\nRCPT TO:<bob@example.org> NOTIFY=FAILURE\r\nDATA\r\n",
        );
        client.reply().starts("250 2.0.0");
        client.reply().starts("250 2.1.5");
        client.reply().starts("354");
        client.data(&message(&shown.replace(':', ".").replace(['[', ']'], ""))).starts("250 2.0.0");
        client.command("QUIT").starts("221");
        let log = street.smtpd.log();
        assert!(log.contains(&format!("smtp connected address={shown}")), "{log}");
        assert!(!log.contains("Pipelining"), "{log}");
    }
    for copy in street.world.wait_for(2) {
        assert!(copy.mail.contains("RET=HDRS ENVID=QQ314159") && copy.rcpts[0].contains("NOTIFY=FAILURE"), "{copy:?}");
    }
    for record in street.archive.wait_for(2) {
        assert_eq!(Record::read(&record.octets).recipients(), ["bob@example.org"]);
    }
    street.finish(2);
}
