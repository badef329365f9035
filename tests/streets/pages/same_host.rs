//! docs/topology-same-host.md

use super::{Place, literal};
use crate::common::{
    Client, Exim, Record, free_port, installed, own_loopback_address, strip_folded_received, strip_received,
};
use crate::message;
use std::net::SocketAddr;

const PAGE: &str = "topology-same-host";
const MX: &str = "mx.example.org";

#[test]
fn the_relay_takes_port_25_and_postfix_stands_behind_it() {
    if !installed(&["postfix", "swaks"]) {
        return;
    }
    let place = Place::new(PAGE);
    let behind = free_port(own_loopback_address());
    let master_cf = place.page.block("master.cf").put("127.0.0.1:10025", behind);
    let mut postfix = place.postfix("").with_services(&master_cf.text);
    postfix.listen = behind;
    let _postfix = postfix.start(&place.home.path().join("postfix"));
    let config = place.config_with_tls("config.toml", MX);
    let mut relay = config.put("0.0.0.0:25", place.listen).put("127.0.0.1:10025", behind).start();
    place.comes_in(MX);
    let elsewhere = format!("{} --local-interface {}", place.listen, own_loopback_address());
    place.run("checks", MX, &elsewhere, &relay);
    // A program on this host may send anywhere, and Postfix knows where it is.
    let mut program = Client::ehlo(place.listen);
    program.command("MAIL FROM:<alice@example.org>").starts("250");
    program.command("RCPT TO:<far@elsewhere.example>").starts("250 2.1.5");
    drop(program);
    relay.finish_clean(1);
}

#[test]
fn the_relay_takes_port_25_and_exim_stands_behind_it() {
    if !installed(&["exim4"]) {
        return;
    }
    let place = Place::new(PAGE);
    let (behind, reports) = (free_port(own_loopback_address()), free_port(own_loopback_address()).port());
    let conf = place
        .page
        .block("exim4.conf")
        .put("local_interfaces = 127.0.0.1", format!("local_interfaces = {}", behind.ip()))
        .put("10025 : 10027", format!("{} : {reports}", behind.port()))
        .put("{10025}", format!("{{{}}}", behind.port()));
    let _exim = Exim::new(behind, &place.mailboxes).with(&conf.text).start(&place.home.path().join("exim"));
    let config = place.config_with_tls("config.toml", MX);
    let config =
        config.put("0.0.0.0:25", place.listen).put("127.0.0.1:10025", behind).put("\"xclient\"", "\"proxy-v2\"");
    let mut relay = config.start();
    place.comes_in(MX);
    let mut reporter = Client::ehlo(SocketAddr::new(behind.ip(), reports));
    reporter.mail("", &["postmaster@example.org"], &message("report")).starts("250 OK id=");
    relay.finish_clean(1);
}

#[test]
fn postfix_hands_every_message_over_and_users_mail_among_themselves_is_journaled_too() {
    if !installed(&["postfix", "swaks"]) {
        return;
    }
    let place = Place::new(PAGE);
    let back = free_port(own_loopback_address());
    let main_cf = place.page.block("filter-main.cf").put("[127.0.0.1]:10026", literal(place.listen));
    let master_cf = place.page.block("filter-master.cf").put("127.0.0.1:10027", back);
    let postfix =
        place.postfix(&main_cf.text).with("virtual_alias_maps", "inline:{ carol@example.org=bob@example.org }");
    let postfix =
        postfix.clone().with_services(&format!("{} inet n - n - - smtpd\n{}", postfix.listen, master_cf.text));
    let postfix = postfix.start(&place.home.path().join("postfix"));
    let config = place.config("filter.toml").put("127.0.0.1:10026", place.listen).put("127.0.0.1:10027", back);
    let mut relay = config.start();
    let server = postfix.address.to_string();
    place.run("filter-checks", "mail.example.org", &server, &relay);
    relay.wait_events("record.acked", 2);
    place.page.block("filter-record").run(&relay);
    place.mailboxes.wait_for(2);
    let mut user = Client::ehlo(postfix.address);
    user.mail("alice@example.org", &["carol@example.org"], &message("alias")).starts("250");
    drop(user);
    let record = Record::read(&place.archive.wait_for(3)[2].octets);
    assert_eq!(record.recipients(), ["carol@example.org"]);
    let copy = place.mailboxes.wait_for(3).remove(2);
    assert_eq!(copy.forward_paths(), ["bob@example.org"]);
    let original = strip_received(strip_folded_received(&copy.octets).1).1;
    assert!(original == record.original, "what came back is what was recorded");
    assert_eq!(strip_folded_received(original).1, message("alias"));
    relay.finish_clean(3);
}
