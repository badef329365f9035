//! One record a message though mail servers split, expand and send it twice past the relay: with a real Postfix that does so.

use crate::common::{Client, Postfix, Record, Running, Setup, Sink, free_port, installed, own_loopback_address};
use crate::message;
use std::net::SocketAddr;

/// Long enough for all parts of a message on a busy machine.
const WINDOW: &str = "coalesce = \"10s\"";

fn route(server: SocketAddr) -> String {
    format!("smtp://{server}?tls=none")
}

/// A Postfix that hands everything to `relay_host`, with more lines of main.cf.
fn postfix(relay_host: SocketAddr, more: &[(&str, &str)]) -> (tempfile::TempDir, Running) {
    let home = tempfile::tempdir().unwrap();
    let mut postfix = Postfix::new(free_port(own_loopback_address()), relay_host);
    for (key, value) in more {
        postfix = postfix.with(key, value);
    }
    let running = postfix.start(home.path());
    (home, running)
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user{number:02}@elsewhere.example")).collect()
}

#[test]
fn a_message_that_postfix_splits_into_ten_transactions_has_one_record_with_all_95_recipients() {
    if !installed(&["postfix"]) {
        return;
    }
    let (mailbox, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&mailbox, &archive);
    setup.organizations[0].more = WINDOW.into();
    let mut relay = setup.start();
    let (_home, before) = postfix(relay.address(), &[("smtp_destination_recipient_limit", "10")]);
    let users = users(95);
    let named: Vec<&str> = users.iter().map(String::as_str).collect();
    Client::ehlo(before.address).mail("alice@example.org", &named, &message("split")).starts("250");

    assert_eq!(mailbox.wait_for(10).len(), 10, "ten transactions");
    let record = Record::read(&archive.wait_for(1)[0].octets);
    let mut found = record.recipients();
    let merged = relay.wait_events("record.merged", 9);
    let joined: Vec<String> = merged.iter().flat_map(|event| strings(&event.0["recipients"])).collect();
    assert!(joined.len() >= 85, "all but those of one transaction joined: {joined:?}");
    assert!(found.ends_with(&joined.iter().map(String::as_str).collect::<Vec<_>>()), "in the order in which they came");
    found.sort_unstable();
    assert_eq!(found, named);
    relay.finish_clean(1);
    assert_eq!(archive.transactions().len(), 1);
}

fn strings(list: &serde_json::Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

#[test]
fn an_alias_that_is_expanded_before_the_relay_is_one_record_with_its_members_and_behind_it_one_with_its_name() {
    if !installed(&["postfix"]) {
        return;
    }
    let expands =
        ("virtual_alias_maps", "inline:{ {team@example.org = bob@example.org, carol@example.org, dave@else.example} }");
    let domains = ("virtual_alias_domains", "");
    // Before it.
    let (mailbox, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&mailbox, &archive);
    setup.organizations[0].more = WINDOW.into();
    let mut relay = setup.start();
    let (_home, before) = postfix(relay.address(), &[expands, domains]);
    Client::ehlo(before.address).mail("alice@example.org", &["team@example.org"], &message("alias")).starts("250");
    let mut found: Vec<String> =
        Record::read(&archive.wait_for(1)[0].octets).recipients().iter().map(ToString::to_string).collect();
    found.sort_unstable();
    assert_eq!(found, ["bob@example.org", "carol@example.org", "dave@else.example"]);
    drop(before);
    relay.finish_clean(1);

    // Behind it.
    let (mailbox, archive) = (Sink::start(), Sink::start());
    let (_home, behind) = postfix(mailbox.address(), &[expands, domains]);
    let mut relay = Setup::with_routes(&route(behind.address), &archive.route()).start();
    Client::ehlo(relay.address()).mail("alice@example.org", &["team@example.org"], &message("alias")).starts("250");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).recipients(), ["team@example.org"]);
    mailbox.wait_for(1);
    relay.finish_clean(1);
}

#[test]
fn a_message_that_goes_out_through_one_listener_and_comes_in_through_the_other_has_one_record() {
    if !installed(&["postfix"]) {
        return;
    }
    let (mailbox, archive) = (Sink::start(), Sink::start());
    // The outgoing listener's next hop is a Postfix whose relay host is the incoming listener: as where the organization's MX
    // is the relay itself.
    let incoming = free_port(own_loopback_address());
    let (_home, middle) = postfix(incoming, &[]);
    let mut setup = Setup::with_routes(&route(middle.address), &archive.route());
    setup.listener = format!(
        "[[listener]]\nname = \"back\"\naddress = \"{incoming}\"\nnext_hop = {:?}\ntrusted_networks = [\"127.0.0.0/8\"]\n",
        mailbox.route()
    );
    let mut relay = setup.start();
    let recipients = ["bob@example.org", "carol@example.org"];
    Client::ehlo(relay.address()).mail("alice@example.org", &recipients, &message("round")).starts("250");
    mailbox.wait_for(1);
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.recipients(), recipients);
    assert_eq!(relay.wait_events("record.merged", 1)[0].text("record"), record.id());
    relay.finish_clean(1);
    assert_eq!(archive.transactions().len(), 1);
}
