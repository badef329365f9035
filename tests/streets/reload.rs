//! A new configuration without a restart: all of it or nothing of it; and the second SIGTERM.

use crate::common::{Client, Record, Relay, Setup, Sink, free_port, own_loopback_address, stuff};
use crate::message;
use std::net::SocketAddr;
use std::time::Duration;

fn send(relay: &Relay, mark: &str) {
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message(mark)).starts("250");
}

#[test]
fn journaling_is_switched_without_a_restart_and_open_sessions_stay() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive);
    let mut relay = setup.start();
    let mut session = Client::ehlo(relay.address());
    let mut switched = setup.clone();
    switched.organizations[0].more = "journaling = false".into();
    relay.configure(&switched.toml(&relay.spool()));
    relay.ask_to_reload();
    relay.wait_events("config.reloaded", 1);
    relay.wait_events("organization.switched", 1);
    session.mail("alice@example.org", &["bob@example.net"], &message("unjournaled")).starts("250");
    relay.configure(&setup.toml(&relay.spool()));
    relay.ask_to_reload();
    relay.wait_events("config.reloaded", 2);
    session.mail("alice@example.org", &["bob@example.net"], &message("journaled")).starts("250");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("journaled"));
    relay.finish_clean(1);
    assert_eq!((next_hop.count(), archive.transactions().len()), (2, 1));
}

#[test]
fn a_wrong_file_is_rejected_whole_and_the_daemon_goes_on() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive);
    let mut relay = setup.start();
    let wrong = setup
        .toml(&relay.spool())
        .replace("[[organization]]", "[[organisation]]")
        .replace("next_hop = ", "next_hop = \"\" #");
    relay.configure(&wrong);
    relay.ask_to_reload();
    let rejected = relay.wait_event("config.rejected", |_| true);
    assert!(rejected.text("error").contains("config.toml:"), "{rejected:?}");
    send(&relay, "after-rejection");
    archive.wait_for(1);
    relay.configure(&setup.toml(&relay.spool()));
    relay.finish_clean(1);
}

#[test]
fn waiting_records_follow_the_changed_route() {
    let (next_hop, mut old, new) = (Sink::start(), Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &old);
    let mut relay = setup.start();
    old.down();
    send(&relay, "moved");
    relay.wait_event("record.deferred", |_| true);
    relay.configure(&Setup::new(&next_hop, &new).toml(&relay.spool()));
    relay.ask_to_reload();
    assert_eq!(Record::read(&new.wait_for(1)[0].octets).original, message("moved"));
    relay.finish_clean(1);
}

/// The configuration with one more listener.
fn and_listener(toml: &str, name: &str, address: SocketAddr, next_hop: &Sink) -> String {
    format!(
        "{toml}\n[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nnext_hop = \"{}\"\n\
         trusted_networks = [\"127.0.0.0/8\"]\n",
        next_hop.route()
    )
}

#[test]
fn listeners_come_and_go_with_a_reload_and_the_sessions_of_one_that_is_gone_go_on() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive).at_a_fixed_address();
    let mut relay = setup.start();
    let reload = |relay: &Relay, toml: &str| {
        let before = relay.count("config.reloaded");
        relay.configure(toml);
        relay.ask_to_reload();
        relay.wait_events("config.reloaded", before + 1);
    };
    let first = relay.address();
    let mut old = Client::ehlo(first);
    let one = setup.toml(&relay.spool());
    let second = free_port(own_loopback_address());
    reload(&relay, &and_listener(&one, "second", second, &next_hop));
    relay.wait_event("listener.started", |event| event.text("listener") == "second");
    let mut new = Client::ehlo(second);
    old.mail("alice@example.org", &["bob@example.net"], &message("by the first")).starts("250");
    new.mail("alice@example.org", &["bob@example.net"], &message("by the second")).starts("250");

    // The first goes, the second gets another name and stays; whoever is connected to either stays connected.
    let end = one.find("[[listener]]").unwrap();
    let organizations = one.find("\n[[organization]]").unwrap();
    let without_first = format!("{}{}", &one[..end], &one[organizations..]);
    reload(&relay, &and_listener(&without_first, "renamed", second, &next_hop));
    let stopped = relay.wait_event("listener.stopped", |_| true);
    assert_eq!((stopped.text("listener"), stopped.text("address")), ("incoming", first.to_string().as_str()));
    relay.poll("that nobody listens there", || Client::try_connect(first, Duration::from_secs(5)).err().map(drop));
    old.mail("alice@example.org", &["bob@example.net"], &message("by the first, when it is gone")).starts("250");
    new.mail("alice@example.org", &["bob@example.net"], &message("by the renamed one")).starts("250");
    let by = relay.wait_events("message.accepted", 4);
    assert_eq!(relay.count("session.closed"), 0);
    assert!(by.iter().any(|event| event.text("listener") == "second"), "{by:?}");
    archive.wait_for(4);

    // Also who comes by a listener that is gone is journaled by the configuration of now.
    let off = without_first.replacen("coalesce = \"0s\"", "coalesce = \"0s\"\njournaling = false", 1);
    assert_ne!(off, without_first);
    reload(&relay, &and_listener(&off, "renamed", second, &next_hop));
    old.mail("alice@example.org", &["bob@example.net"], &message("when it is off")).starts("250");
    relay.wait_event("record.exempt", |_| true);
    drop((old, new));
    relay.finish_clean(4);
    assert_eq!(next_hop.count(), 5);
}

#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive);
    let mut relay = setup.start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut switched = setup.clone();
    switched.organizations[0].more = "journaling = false".into();
    let toml = switched.toml(&relay.spool());
    relay.configure(&and_listener(&toml, "second", taken.local_addr().unwrap(), &next_hop));
    relay.ask_to_reload();
    let rejected = relay.wait_event("config.rejected", |_| true);
    assert!(rejected.text("error").contains("second"), "{rejected:?}");
    send(&relay, "still journaled");
    archive.wait_for(1);
    assert_eq!((relay.count("organization.switched"), relay.count("listener.stopped")), (0, 0));
    relay.configure(&setup.toml(&relay.spool()));
    relay.finish_clean(1);
}

#[test]
fn a_second_sigterm_ends_the_daemon_in_the_middle_of_a_transaction() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    for (line, expected) in
        [("MAIL FROM:<alice@example.org>", "250"), ("RCPT TO:<bob@example.net>", "250"), ("DATA", "354")]
    {
        client.command(line).starts(expected);
    }
    client.send(&stuff(&message("cut"))[..50]);
    relay.ask_to_end();
    relay.wait_event("daemon.draining", |_| true);
    relay.ask_to_end();
    assert_eq!(relay.ended().code(), Some(0));
    assert!(client.try_reply().is_err(), "the client was not promised anything");
    assert_eq!((next_hop.transactions().len(), relay.queue().len()), (0, 0));
}

#[test]
fn a_configuration_that_sends_records_to_our_own_listener_is_refused() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive).at_a_fixed_address();
    setup.organizations[0].route = format!("smtp://{}?tls=none", setup.listen);
    let relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    for command in ["check", "run"] {
        let output = relay.command(&[command]);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
    }
}
