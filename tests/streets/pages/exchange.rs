//! docs/topology-exchange.md: the relay's side alone. In Exchange's place is a server that offers and answers what Exchange
//! Server 2019 does.

use super::Place;
use crate::common::{
    Answer, Client, Record, Sink, Stage, free_port, installed, own_loopback_address, say, strip_received,
};
use crate::message;
use std::net::Ipv4Addr;

const OFFER: &str = "250-EX01.example.org Hello [10.0.0.10]\n250-SIZE 37748736\n250-PIPELINING\n250-DSN\n\
    250-ENHANCEDSTATUSCODES\n250-X-ANONYMOUSTLS\n250-AUTH NTLM\n250-X-EXPS GSSAPI NTLM\n250-8BITMIME\n250-BINARYMIME\n\
    250-CHUNKING\n250 XRDST";

fn exchange(stage: &Stage<'_>) -> Option<Answer> {
    match stage {
        Stage::Greeting => {
            say("220 EX01.example.org Microsoft ESMTP MAIL Service ready at Thu, 12 Nov 2026 10:00:00 +0000")
        }
        Stage::Ehlo(_) => say(OFFER),
        Stage::Mail(_) => say("250 2.1.0 Sender OK"),
        Stage::Rcpt(to) if to.contains("@example.org") => say("250 2.1.5 Recipient OK"),
        Stage::Rcpt(_) => say("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"),
        Stage::End(transaction) if transaction.rcpts.iter().any(|rcpt| rcpt.contains("nobody")) => say(
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient nobody@example.org not found by SMTP address lookup",
        ),
        Stage::End(_) => say(
            "250 2.6.0 <in@example.org> [InternalId=1234567890, Hostname=EX01.example.org] 1600 bytes in 0.2, 7 KB/sec Queued mail for delivery",
        ),
        _ => None,
    }
}

#[test]
fn the_relay_stands_before_and_behind_a_server_that_talks_like_exchange() {
    if !installed(&["postfix", "swaks"]) {
        return;
    }
    let place = Place::new("topology-exchange");
    let exchange = Sink::scripted(exchange);
    let outgoing = free_port(own_loopback_address());
    let (_smart_host, route) = place.smart_host(None);
    let mut relay = place
        .config_with_tls("config.toml", "mx.example.org")
        .put("0.0.0.0:25", place.listen)
        .put("10.0.0.10:10026", outgoing)
        .put("10.0.0.20:25", exchange.address())
        .put("10.0.0.20", Ipv4Addr::LOCALHOST)
        .put("smtp.provider.example:25?tls=required", route)
        .start();
    let mut client = Client::ehlo(place.listen);
    let (_, offers) = client.start_tls(&place.authority, "mx.example.org");
    let offers = offers.text();
    assert!(offers.contains("CHUNKING") && offers.contains("SIZE 37748736"), "{offers}");
    for foreign in ["AUTH", "X-", "XRDST", "BINARYMIME", "SMTPUTF8"] {
        assert!(!offers.contains(foreign), "{foreign}: {offers}");
    }
    let original = message("in");
    client.command("MAIL FROM:<bob@example.net>").starts("250 2.1.0 Sender OK");
    client.command("RCPT TO:<alice@example.org>").starts("250 2.1.5 Recipient OK");
    client.send(format!("BDAT {} LAST\r\n", original.len()).as_bytes());
    client.send(&original);
    client.reply().starts("250 2.6.0 <in@example.org> [InternalId=1234567890");
    client.mail("bob@example.net", &["nobody@example.org"], &message("lost")).starts("550 5.1.10 RESOLVER.ADR");
    client.command("QUIT").starts("221");
    let copy = exchange.wait_for(1).remove(0);
    assert!(strip_received(&copy.octets).1 == original, "{copy:?}");
    assert!(exchange.commands().iter().any(|line| line.starts_with("BDAT ")), "it went on in chunks");

    let mut server = Client::ehlo(outgoing);
    server.mail("alice@example.org", &["far@elsewhere.example"], &message("out")).starts("250 2.0.0 Ok");
    drop(server);
    let records = place.archive.wait_for(2);
    assert_eq!(Record::read(&records[0].octets).original, original);
    assert_eq!(Record::read(&records[1].octets).recipients(), ["far@elsewhere.example"]);
    let elsewhere = format!("{} --local-interface {}", place.listen, own_loopback_address());
    place.run("checks", "mx.example.org", &elsewhere, &relay);
    relay.wait_events("record.acked", 2);
    place.page.block("record").run(&relay);
    relay.finish_clean(2);
}
