//! docs/topology-outbound-smarthost.md

use super::{Place, literal};
use crate::common::{
    Client, Dovecot, Exim, Record, Relay, Running, free_port, installed, own_loopback_address, strip_folded_received,
    strip_received,
};
use crate::message;
use std::net::{Ipv4Addr, SocketAddr};

const PAGE: &str = "topology-outbound-smarthost";

/// The relay, in front of a smart host that knows its user and password.
fn relay(place: &Place, mail_server: SocketAddr) -> (Relay, Running, Dovecot) {
    let dovecot = Dovecot::start(&place.home.path().join("dovecot"), "yourorganization", "s3cret-word");
    let (smart_host, route) = place.smart_host(Some(&dovecot));
    let password = place.home.path().join("smarthost.password");
    std::fs::write(&password, "s3cret-word\n").unwrap();
    let config = place
        .config("config.toml")
        .put("10.0.0.10:25", place.listen)
        .put("10.0.0.20:25", mail_server)
        .put("10.0.0.20", Ipv4Addr::LOCALHOST)
        .put("smtp.provider.example:587?tls=required", route)
        .put("/etc/journal-relay/smarthost.password", password.display());
    (config.start(), smart_host, dovecot)
}

/// A user's message goes out, and one to somebody whom the smart host refuses comes back.
fn goes_out(place: &Place, mail_server: SocketAddr) {
    let mut user = Client::ehlo(mail_server);
    let to = ["one@example.com", "two@example.net"];
    user.mail("alice@example.org", &to, &message("out")).starts("250");
    user.mail("alice@example.org", &["nobody@unqualified"], &message("back")).starts("250");
    drop(user);
    let record = Record::read(&place.archive.wait_for(1)[0].octets);
    assert_eq!(record.recipients(), ["one@example.com", "two@example.net"]);
    assert_eq!(strip_folded_received(&record.original).1, message("out"));
    let copy = place.world.wait_for(1).remove(0);
    let behind_smart_host = strip_folded_received(&copy.octets).1;
    assert!(strip_received(behind_smart_host).1 == record.original, "what went out is what was recorded");
    let bounce = place.mailboxes.wait_for(1).remove(0);
    let text = String::from_utf8_lossy(&bounce.octets).into_owned();
    assert!(bounce.reverse_path().is_empty() && text.contains("504 5.5.2 <nobody@unqualified>"), "{text}");
}

#[test]
fn postfix_sends_through_the_relay_and_a_smart_host_and_every_message_is_journaled() {
    if !installed(&["postfix", "dovecot", "swaks"]) {
        return;
    }
    let place = Place::new(PAGE);
    let main_cf = place.page.block("main.cf").put("[10.0.0.10]:25", literal(place.listen));
    let postfix = place.postfix(&main_cf.text).start(&place.home.path().join("postfix"));
    let (mut relay, _smart_host, _dovecot) = relay(&place, postfix.address);
    goes_out(&place, postfix.address);
    let listen = place.listen.to_string();
    place.run("checks", "10.0.0.10", &listen, &relay);
    let elsewhere = format!("{listen} --local-interface {}", own_loopback_address());
    place.run("elsewhere", "10.0.0.10", &elsewhere, &relay);
    relay.wait_events("record.acked", 1);
    place.page.block("record").run(&relay);
    relay.finish_clean(1);
}

#[test]
fn exim_sends_through_the_relay_and_a_smart_host_and_every_message_is_journaled() {
    if !installed(&["postfix", "dovecot", "exim4"]) {
        return;
    }
    let place = Place::new(PAGE);
    let here = format!("{}::{} byname", place.listen.ip(), place.listen.port());
    let routers = place.page.block("routers").put("10.0.0.10", here);
    let exim = Exim::new(free_port(own_loopback_address()), &place.mailboxes)
        .with_routers(&routers.text)
        .with_recipients("  accept hosts = 127.0.0.1")
        .start(&place.home.path().join("exim"));
    let (mut relay, _smart_host, _dovecot) = relay(&place, exim.address);
    goes_out(&place, exim.address);
    relay.finish_clean(1);
}
