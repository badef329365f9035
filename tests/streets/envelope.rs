//! Whose mail it is, who got it, and who may send it.

use crate::common::{
    Authority, Client, HaProxy, Record, Setup, Sink, Stage, free_port, installed, own_loopback_address, say,
};
use crate::message;

fn from_to(from: &str, to: &str, mark: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: {to}\r\nSubject: {mark}\r\nMessage-ID: <{mark}@example.com>\r\n\r\n{mark}\r\n")
        .into_bytes()
}

#[test]
fn incoming_outgoing_and_internal_mail_and_bounces_have_one_record_each() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    let (alice, albert, remote) = ("alice@example.org", "albert@example.org", "rita@remote.example");
    for (from, header_from, to, mark) in [
        (remote, remote, alice, "incoming"),
        (alice, alice, remote, "outgoing"),
        (alice, alice, albert, "internal"),
        ("", "mailer-daemon@remote.example", alice, "bounce-to-us"),
        ("", alice, remote, "bounce-from-us"),
        (remote, remote, "rob@remote.example", "nobodys"),
        ("", remote, "rob@remote.example", "nobodys-bounce"),
    ] {
        client.mail(from, &[to], &from_to(header_from, to, mark)).starts("250");
    }
    let records = archive.wait_for(5);
    relay.finish_clean(5);
    let mut marks: Vec<_> =
        records.iter().map(|transaction| Record::read(&transaction.octets).lines("Subject")[0].to_owned()).collect();
    marks.sort();
    assert_eq!(marks, ["bounce-from-us", "bounce-to-us", "incoming", "internal", "outgoing"]);
    assert_eq!(next_hop.wait_for(7).len(), 7, "mail that is nobody's passes too");
    let bounce = records.iter().map(|transaction| Record::read(&transaction.octets));
    let bounce = bounce.into_iter().find(|record| record.lines("Subject") == ["bounce-to-us"]).unwrap();
    assert_eq!(bounce.field("X-Journal-Mail-From"), Some("<>"));
    assert_eq!(bounce.lines("Sender"), ["mailer-daemon@remote.example"]);
}

#[test]
fn two_organizations_have_one_record_each_at_their_own_archives() {
    let (next_hop, acme, globex) = (Sink::start(), Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &acme).and("globex", &["example.net"], &globex).start();
    let original = message("between");
    let to = ["bob@example.net", "carol@example.net", "dora@example.org"];
    Client::ehlo(relay.address()).mail("alice@example.org", &to, &original).starts("250");
    let (one, other) = (acme.wait_for(1).remove(0), globex.wait_for(1).remove(0));
    relay.finish_clean(2);
    assert_eq!(one.reverse_path(), "amazonjournaling@acme.awsapps.com");
    assert_eq!(other.reverse_path(), "amazonjournaling@globex.awsapps.com");
    let (one, other) = (Record::read(&one.octets), Record::read(&other.octets));
    assert_ne!(one.message_id(), other.message_id());
    for record in [one, other] {
        assert_eq!(record.original, original);
        assert_eq!(record.recipients(), to, "every recipient, whoever's");
    }
    assert_eq!((acme.count(), globex.count(), next_hop.count()), (1, 1, 1));
}

#[test]
fn recipients_that_the_next_hop_refuses_are_not_in_the_record() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Rcpt(to) if to.contains("carol") => say("550 5.1.1 no carol"),
        Stage::Rcpt(to) if to.contains("dan") => say("450 4.2.1 dan is busy"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    client.command("RCPT TO:<carol@example.net>").starts("550 5.1.1 no carol");
    client.command("RCPT TO:<dan@example.net>").starts("450 4.2.1 dan is busy");
    client.command("RCPT TO:<eve@example.net>").starts("250");
    client.command("DATA").starts("354");
    client.data(&message("some")).starts("250");
    // All refused: there is nothing to send, and nothing to journal.
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<carol@example.net>").starts("550");
    let code = client.command("DATA").code();
    assert!(matches!(code, 503 | 554), "DATA without a recipient: {code}");
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.recipients(), ["bob@example.net", "eve@example.net"]);
    relay.finish_clean(1);
    assert_eq!(next_hop.transactions().len(), 1);
}

#[test]
fn a_message_refused_at_the_end_of_data_has_no_record() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::End(transaction) if transaction.mail.contains("spam") => say("550-5.7.1 this is\n550 5.7.1 spam"),
        Stage::End(transaction) if transaction.mail.contains("later") => say("452 4.3.1 no room"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    let reply = client.mail("spam@example.org", &["bob@example.net"], &message("spam"));
    assert_eq!(reply.text(), "550-5.7.1 this is\n550 5.7.1 spam");
    let reply = client.mail("later@example.org", &["bob@example.net"], &message("later"));
    assert_eq!(reply.text(), "452 4.3.1 no room");
    client.mail("alice@example.org", &["bob@example.net"], &message("good")).starts("250");
    relay.finish_clean(1);
    assert_eq!(archive.transactions().len(), 1);
    assert_eq!(Record::read(&archive.taken()[0].octets).original, message("good"));
    let refused = relay.events("message.refused");
    assert_eq!(refused.len(), 2, "{refused:?}");
}

#[test]
fn a_client_from_elsewhere_sends_to_the_organizations_alone_whatever_the_address_pretends() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).trusting_nobody().start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    for to in [
        "<victim@remote.example>",
        "<victim%remote.example@example.org>",
        "<remote.example!victim@example.org>",
        "<@example.org:victim@remote.example>",
        "<@example.org,@relay.example.org:victim@remote.example>",
        "<\"victim@remote.example\"@example.org>",
        "<\"victim%remote.example\"@example.org>",
        "<\"remote.example!victim\"@example.org>",
        "<victim@remote.example@example.org>",
        "<victim@[127.0.0.1]>",
        "<victim@sub.example.org>",
        "<victim@example.org.remote.example>",
        "<victim@notexample.org>",
    ] {
        let reply = client.command(&format!("RCPT TO:{to}"));
        // An address that isn't one may be refused as such.
        let refused = reply.text().starts_with("554 5.7.1") || matches!(reply.code(), 501 | 553);
        assert!(refused, "{to}: {reply:?}");
    }
    for to in
        ["<victim@remote.example>", "<victim%remote.example@example.org>", "<\"victim@remote.example\"@example.org>"]
    {
        client.command(&format!("RCPT TO:{to}")).starts("554 5.7.1");
    }
    client.command("RCPT TO:<dora@EXAMPLE.org>").starts("250");
    client.command("RCPT TO:<\"dora dee\"@example.org>").starts("250");
    client.command("DATA").starts("354");
    client.data(&message("honest")).starts("250");
    let asked = next_hop.commands();
    assert!(!asked.iter().any(|line| line.contains("victim")), "the next hop was never asked: {asked:?}");
    relay.finish_clean(1);
}

#[test]
fn the_journaling_sender_has_no_mailbox() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<amazonjournaling@acme.awsapps.com>").starts("550 5.1.1");
    client.command("RCPT TO:<AmazonJournaling@ACME.awsapps.com>").starts("550 5.1.1");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    client.command("RSET").starts("250");
    let asked = next_hop.commands();
    assert!(!asked.iter().any(|line| line.to_ascii_lowercase().contains("amazonjournaling")), "{asked:?}");
    relay.finish_clean(0);
}

#[test]
fn a_next_hop_s_limits_are_told_and_kept_so_that_it_never_has_to_refuse() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Ehlo(_) => say("250-sink.example\n250-PIPELINING\n250 LIMITS MAILMAX=2 RCPTMAX=3 RCPTDOMAINMAX=2"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::connect(relay.address());
    let offers = client.command("EHLO client.example.com");
    assert!(offers.text().contains("LIMITS RCPTMAX=3 RCPTDOMAINMAX=2"), "{offers:?}");
    for mark in ["one", "two", "three"] {
        client.command("MAIL FROM:<alice@example.org>").starts("250");
        client.command("RCPT TO:<a@example.net>").starts("250");
        client.command("RCPT TO:<a@remote.example>").starts("250");
        client.command("RCPT TO:<a@third.example>").starts("452 4.5.3");
        client.command("RCPT TO:<b@EXAMPLE.net>").starts("250");
        client.command("RCPT TO:<c@example.net>").starts("452 4.5.3");
        client.command("DATA").starts("354");
        client.data(&message(mark)).starts("250");
    }
    let copies = next_hop.wait_for(3);
    let connections: Vec<_> = copies.iter().map(|copy| copy.connection).collect();
    assert_eq!(connections[0], connections[1]);
    assert_ne!(connections[1], connections[2], "two transactions are as many as a connection may have");
    assert!(copies.iter().all(|copy| copy.rcpts.len() == 3));
    assert!(next_hop.commands().iter().any(|line| line == "QUIT"), "a connection that is used up is left politely");
    assert!(!next_hop.commands().iter().any(|line| line.contains("third")));
    relay.finish_clean(3);
}

#[test]
fn our_own_limit_of_recipients_is_told_where_it_is_the_smaller_one() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Ehlo(_) => say("250-sink.example\n250-SIZE 5000\n250 LIMITS RCPTMAX=3000"),
        _ => None,
    });
    let archive = Sink::start();
    let mut setup = Setup::new(&next_hop, &archive);
    setup.listener = "max_message_size = \"4KiB\"\n[listener.limits]\nrecipients = 100\n".to_owned();
    let mut relay = setup.start();
    let offers = Client::connect(relay.address()).command("EHLO client.example.com");
    let told: Vec<_> =
        offers.lines.iter().map(|line| &line[4..]).filter(|line| line.contains('X') || line.contains("SIZE")).collect();
    assert_eq!(told, ["SIZE 4096", "LIMITS RCPTMAX=100"]);
    relay.finish_clean(0);
}

#[test]
fn requiretls_is_not_offered_in_plain_text_nor_for_a_next_hop_without_verified_tls() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Ehlo(_) => say("250-sink.example\n250 REQUIRETLS"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::connect(relay.address());
    let offers = client.command("EHLO client.example.com");
    assert!(!offers.text().contains("REQUIRETLS"), "{offers:?}");
    client.command("MAIL FROM:<alice@example.org> REQUIRETLS").starts("555 5.5.4");
    relay.finish_clean(0);
}

#[test]
fn requiretls_is_offered_to_an_encrypted_client_and_reaches_a_next_hop_whose_certificate_is_verified() {
    if !installed(&["haproxy"]) {
        return;
    }
    let offering = |more: &'static str| {
        move |stage: &Stage<'_>| match stage {
            Stage::Ehlo(_) => say(&format!("250-sink.example\n{more}250-PIPELINING\n250 SIZE 1000000")),
            _ => None,
        }
    };
    let (mut next_hop, archive) = (Sink::scripted(offering("250-REQUIRETLS\n")), Sink::start());
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    // In front of the sink HAProxy does nothing but TLS.
    let address = free_port(own_loopback_address());
    let shown = authority.certify(&[&address.ip().to_string()]);
    let pem = format!("{}{}", shown.pem, shown.key);
    let _tls = HaProxy::start_encrypted(place.path(), address, &pem, next_hop.address());
    let route = format!("smtps://{address}?ca_file={}", authority.write(place.path()).display());
    let mut setup = Setup::with_routes(&route, &archive.route());
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(place.path(), "relay");
    setup.listener = format!("[listener.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let mut relay = setup.start();

    let mut client = Client::connect(relay.address());
    assert!(!client.command("EHLO client.example.com").text().contains("REQUIRETLS"), "nothing is encrypted yet");
    client.command("MAIL FROM:<alice@example.org> REQUIRETLS").starts("555 5.5.4");
    let (_, offers) = client.start_tls(&authority, "relay.example.org");
    assert!(offers.lines.iter().any(|line| line.get(4..) == Some("REQUIRETLS")), "{offers:?}");
    client.command("MAIL FROM:<alice@example.org> REQUIRETLS").starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    client.command("DATA").starts("354");
    client.data(&message("secret")).starts("250");
    assert_eq!(next_hop.wait_for(1)[0].mail, "<alice@example.org> REQUIRETLS");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("secret"));
    // A next hop that doesn't offer it any more gets no such message, whatever the client was told.
    next_hop.script(offering(""));
    client.command("QUIT").starts("221");
    let mut late = Client::ehlo(relay.address());
    late.start_tls(&authority, "relay.example.org");
    next_hop.down();
    next_hop.up();
    late.command("MAIL FROM:<alice@example.org> REQUIRETLS").starts("451 4.");
    drop(late);
    relay.finish_clean(1);
    assert_eq!(next_hop.count(), 1);
}
