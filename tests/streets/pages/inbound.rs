//! docs/topology-inbound-mx.md

use super::Place;
use crate::common::{Client, Exim, Relay, free_port, installed, own_loopback_address};
use crate::message;
use std::net::{Ipv4Addr, SocketAddr};

const PAGE: &str = "topology-inbound-mx";
const MX: &str = "mx.example.org";

fn relay(place: &Place, mail_server: SocketAddr, from: &str, to: &str) -> Relay {
    let config = place.config_with_tls("config.toml", MX).put("0.0.0.0:25", place.listen);
    config.put("10.0.0.20:25", mail_server).put(from, to).start()
}

#[test]
fn postfix_behind_an_mx_judges_the_client_and_every_message_is_journaled() {
    if !installed(&["postfix", "swaks"]) {
        return;
    }
    let place = Place::new(PAGE);
    let main_cf = place.page.block("main.cf").put("10.0.0.10", Ipv4Addr::LOCALHOST);
    let postfix = place.postfix(&main_cf.text).start(&place.home.path().join("postfix"));
    let mut relay = relay(&place, postfix.address, "xclient", "xclient");
    place.comes_in(MX);
    assert!(postfix.log().contains(" starttls=1 "), "{}", postfix.log());
    let listen = place.listen.to_string();
    place.run("checks", MX, &listen, &relay);
    place.run("message", MX, &listen, &relay);
    relay.wait_events("record.acked", 2);
    place.page.block("record").run(&relay);
    relay.finish_clean(2);
    assert_eq!((place.mailboxes.wait_for(2).len(), place.archive.count()), (2, 2));
}

#[test]
fn exim_behind_an_mx_judges_the_client_and_every_message_is_journaled() {
    if !installed(&["exim4"]) {
        return;
    }
    let place = Place::new(PAGE);
    let (listen, reports) = (free_port(own_loopback_address()), free_port(own_loopback_address()));
    let conf = place
        .page
        .block("exim4.conf")
        .put("25 : 10025", format!("{} : {}", listen.port(), reports.port()))
        .put("{25}", format!("{{{}}}", listen.port()))
        .put("10.0.0.10", Ipv4Addr::LOCALHOST);
    let exim = Exim::new(listen, &place.mailboxes).with(&conf.text).start(&place.home.path().join("exim"));
    let mut relay = relay(&place, exim.address, "\"xclient\"", "\"proxy-v2\"");
    place.comes_in(MX);
    let mut client = Client::ehlo(place.listen);
    client.mail("eve@example.net", &["nobody@example.org"], &message("nobody")).starts("550 no such user");
    drop(client);
    let mut reporter = Client::ehlo(SocketAddr::new(listen.ip(), reports.port()));
    reporter.mail("", &["postmaster@example.org"], &message("report")).starts("250 OK id=");
    relay.finish_clean(1);
}
