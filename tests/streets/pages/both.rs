//! docs/topology-both.md

use super::{Place, literal};
use crate::common::{Client, Record, free_port, installed, own_loopback_address, strip_folded_received};
use crate::message;
use std::net::Ipv4Addr;

#[test]
fn a_message_in_each_direction_makes_one_record_and_one_that_is_forwarded_makes_one_too() {
    if !installed(&["postfix"]) {
        return;
    }
    let place = Place::new("topology-both");
    let outgoing = free_port(own_loopback_address());
    let main_cf =
        place.page.block("main.cf").put("[10.0.0.10]:10026", literal(outgoing)).put("10.0.0.10", Ipv4Addr::LOCALHOST);
    let postfix = place
        .postfix(&main_cf.text)
        .with("virtual_alias_maps", "inline:{ carol@example.org=carol@elsewhere.example }")
        .start(&place.home.path().join("postfix"));
    let (_smart_host, route) = place.smart_host(None);
    let mut relay = place
        .config_with_tls("config.toml", "mx.example.org")
        .put("0.0.0.0:25", place.listen)
        .put("10.0.0.10:10026", outgoing)
        .put("10.0.0.20:25", postfix.address)
        .put("10.0.0.20", Ipv4Addr::LOCALHOST)
        .put("smtp.provider.example:25?tls=required", route)
        .start();
    place.comes_in("mx.example.org");
    let mut user = Client::ehlo(postfix.address);
    let to = ["bob@example.org", "far@elsewhere.example"];
    user.mail("alice@example.org", &to, &message("out")).starts("250");
    let record = Record::read(&place.archive.wait_for(2)[1].octets);
    assert_eq!(record.recipients(), ["far@elsewhere.example"], "who is inside got it from the mail server itself");
    assert_eq!(strip_folded_received(&record.original).1, message("out"));
    relay.wait_events("record.acked", 2);
    place.page.block("record").run(&relay);

    user.mail("alice@example.org", &["bob@example.org"], &message("internal")).starts("250");
    let mut stranger = Client::ehlo(place.listen);
    stranger.mail("bob@example.net", &["carol@example.org"], &message("forwarded")).starts("250");
    let forwarded = place.world.wait_for(2).remove(1);
    assert_eq!(forwarded.forward_paths(), ["carol@elsewhere.example"]);
    let record = Record::read(&place.archive.wait_for(3)[2].octets);
    assert_eq!(record.recipients(), ["carol@example.org"]);
    assert_eq!(record.original, message("forwarded"));
    place.mailboxes.wait_for(3);
    drop((user, stranger));
    relay.finish_clean(3);
    assert_eq!(place.archive.count(), 3);
}
