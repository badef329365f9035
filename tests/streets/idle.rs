//! Ten thousand clients that do nothing: what each of them costs, that mail passes meanwhile, and that one too many is told
//! so. They take a minute or two, so they are asked for: `cargo test --test streets idle -- --ignored --nocapture`. Of the files that the
//! daemon may open 11 of 20 are for sessions; where the hard limit (`ulimit -Hn`) is below 18,500 there are fewer clients.

use crate::common::{Authority, Client, Relay, Setup, Sink};
use crate::message;
use std::net::Ipv4Addr;
use std::process::Command;

const IDLE: usize = 10_000;
/// Sessions beside them.
const MORE: usize = 5;
/// Where they come from: a source has 28,000 ports at most.
const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// How many clients there can be. Both ends raise their limit of open files to the hard one.
fn idle_clients() -> usize {
    let hard = Command::new("sh").args(["-c", "ulimit -Hn"]).output().unwrap();
    let hard: usize = String::from_utf8_lossy(&hard.stdout).trim().parse().unwrap_or(usize::MAX);
    let this = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &this, &format!("--nofile={hard}:{hard}")]).status();
    assert!(raised.is_ok_and(|status| status.success()), "the soft limit can be raised");
    let idle = IDLE.min(hard.saturating_sub(300) / 20 * 11 - MORE);
    println!("{idle} idle clients");
    idle
}

/// A relay with room for so many clients and some more.
fn roomy(clients: usize, sinks: [&Sink; 2], tls: &str) -> Relay {
    let mut setup = Setup::new(sinks[0], sinks[1]);
    setup.listener = format!("{tls}[listener.limits]\nconnections = {}\n", clients + MORE);
    setup.start()
}

/// Fills the relay, looks at it, and gives what one session costs, in octets.
fn fill(clients: usize, relay: &mut Relay, archive: &Sink, connect: impl Fn(Client) -> Client) -> u64 {
    let join = |number: usize| connect(Client::from(SOURCES[number % 2], relay.address()));
    // What is made once and stays.
    join(0).mail("alice@example.org", &["bob@example.net"], &message("before")).starts("250");
    let before = relay.resident_memory_kib();
    let mut idle: Vec<_> = (0..clients).map(join).collect();
    let cost = (relay.resident_memory_kib() - before) * 1024 / clients as u64;
    let mut busy: Vec<_> = (0..MORE).map(join).collect();
    for (number, client) in busy.iter_mut().enumerate() {
        let octets = message(&format!("meanwhile-{number}"));
        client.mail("alice@example.org", &["bob@example.net"], &octets).starts("250");
    }
    for _ in 0..3 {
        let mut refused = Client::from(SOURCES[0], relay.address());
        refused.reply().starts("421 4.3.2");
        assert!(refused.try_reply().is_err(), "and that is all");
    }
    idle[clients / 2].command("QUIT").starts("221");
    let mut newcomer = relay.poll("a place that is free again", || {
        let mut client = Client::from(SOURCES[1], relay.address());
        (client.reply().code() == 220).then_some(client)
    });
    newcomer.command("NOOP").starts("250");
    idle[clients - 1].command("NOOP").starts("250");
    archive.wait_for(1 + MORE);
    cost
}

#[test]
#[ignore = "takes minutes, and 20,000 open files"]
fn ten_thousand_idle_clients_in_plain_text_leave_room_for_mail() {
    let (clients, next_hop, archive) = (idle_clients(), Sink::start(), Sink::start());
    let mut relay = roomy(clients, [&next_hop, &archive], "");
    let cost = fill(clients, &mut relay, &archive, Client::greeted);
    println!("one idle session in plain text: {cost} octets");
    assert!(cost < 32 * 1024, "{cost} octets");
    relay.kill9();
}

#[test]
#[ignore = "takes minutes, and 20,000 open files"]
fn ten_thousand_idle_clients_under_tls_leave_room_for_mail() {
    let (clients, next_hop, archive) = (idle_clients(), Sink::start(), Sink::start());
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(place.path(), "relay");
    let tls = format!("[listener.tls]\nmode = \"starttls\"\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let mut relay = roomy(clients, [&next_hop, &archive], &tls);
    let cost = fill(clients, &mut relay, &archive, |client| {
        let mut client = client.greeted();
        client.start_tls(&authority, "relay.example.org");
        client
    });
    println!("one idle session under TLS: {cost} octets");
    assert!(cost < 64 * 1024, "{cost} octets");
    relay.kill9();
}
