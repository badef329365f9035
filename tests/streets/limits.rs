//! Sizes and numbers: what is too large is refused, what is large costs no memory, and many come at once.

use crate::common::{Client, Record, Setup, Sink, Stage, say, strip_received, stuff};
use crate::message;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_message_over_the_limit_is_refused_before_and_after_it_was_sent() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    setup.listener = "max_message_size = \"64KiB\"".into();
    let mut relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org> SIZE=65537").starts("552 5.3.4");
    let mut large = message("large");
    large.extend(std::iter::repeat_n(*b"0123456789abcdef0123456789abcde\r\n", 2_000).flatten());
    client.mail("alice@example.org", &["bob@example.net"], &large).starts("552 5.3.4");
    large.truncate(65_534);
    large.extend_from_slice(b"\r\n");
    client.command("MAIL FROM:<alice@example.org> SIZE=65536").starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    client.command("DATA").starts("354");
    client.data(&large).starts("250");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, large);
    relay.finish_clean(1);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (1, 1));
}

#[test]
fn a_message_over_the_next_hops_limit_gets_the_next_hops_answer() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Ehlo(_) => say("250-small.example\n250 SIZE 1000"),
        Stage::Mail(from) if from.contains("SIZE=1001") => say("552 5.3.4 small is beautiful"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    Client::ehlo(relay.address()).command("MAIL FROM:<alice@example.org> SIZE=1001").starts("552 5.3.4");
    relay.finish_clean(0);
}

#[test]
fn a_message_may_have_fifteen_hundred_recipients() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    let to: Vec<_> = (0..1_500).map(|number| format!("user{number}@example.net")).collect();
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    let group: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
    client.send(group.as_bytes());
    for to in &to {
        let reply = client.reply();
        assert!(reply.is_taken(), "{to}: {reply:?}");
    }
    client.command("DATA").starts("354");
    client.data(&message("many")).starts("250");
    assert_eq!(next_hop.wait_for(1)[0].forward_paths(), to);
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.recipients(), to);
    relay.finish_clean(1);
}

#[test]
fn a_message_of_64_mib_passes_in_less_than_100_mib_of_memory() {
    const SIZE: usize = 64 << 20;
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut octets = message("huge");
    octets.resize(SIZE - 2, b'x');
    // Lines of 76 octets, and some that begin with dots.
    for at in (600..SIZE - 4).step_by(76) {
        octets[at..at + 2].copy_from_slice(b"\r\n");
        octets[at + 2] = if at % 7 == 0 { b'.' } else { b'y' };
    }
    octets.extend_from_slice(b"\r\n");
    let mut client = Client::ehlo(relay.address());
    client.command(&format!("MAIL FROM:<alice@example.org> SIZE={SIZE}")).starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    client.command("DATA").starts("354");
    client.data(&octets).starts("250");
    assert!(strip_received(&next_hop.wait_for(1)[0].octets).1 == octets, "the relayed copy is unchanged");
    assert!(Record::read(&archive.wait_for(1)[0].octets).original == octets, "the attached original is unchanged");
    relay.wait_events("record.acked", 1);
    let peak = relay.peak_memory_kib();
    println!("peak memory of the daemon: {} MiB", peak / 1024);
    assert!(peak < 100 * 1024, "{peak} KiB");
    relay.finish_clean(1);
}

#[test]
fn five_hundred_transactions_are_open_at_once() {
    const COUNT: usize = 500;
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    // Both ends of a thousand connections are in this process. The daemon raises its own limit.
    let this = std::process::id().to_string();
    let _ = Command::new("prlimit").args(["--pid", &this, "--nofile=8192:"]).status();
    let mut clients: Vec<_> = (0..COUNT).map(|_| Client::ehlo(relay.address())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .send(format!("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob{number}@example.net>\r\nDATA\r\n").as_bytes());
    }
    let messages: Vec<_> = (0..COUNT).map(|number| stuff(&message(&format!("crowd-{number}")))).collect();
    for (client, octets) in clients.iter_mut().zip(&messages) {
        for expected in ["250", "250", "354"] {
            client.reply().starts(expected);
        }
        client.send(&octets[..octets.len() / 2]);
    }
    for (client, octets) in clients.iter_mut().zip(&messages) {
        client.send(&octets[octets.len() / 2..]);
    }
    for client in &mut clients {
        client.reply().starts("250");
    }
    let mut to: Vec<_> = archive
        .wait_for(COUNT)
        .iter()
        .map(|transaction| Record::read(&transaction.octets).recipients().concat())
        .collect();
    to.sort();
    to.dedup();
    assert_eq!(to.len(), COUNT, "one record each");
    drop(clients);
    relay.finish_clean(COUNT);
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let place = tempfile::tempdir().unwrap();
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    let script = place.path().join("with-few-files");
    let few = format!("#!/bin/sh\nulimit -Sn 64\nexec {} \"$@\"\n", setup.program.display());
    std::fs::write(&script, few).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    setup.program = script;
    let mut relay = setup.start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", relay.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let (soft, hard) = files.trim().split_once(' ').unwrap();
    assert_eq!(soft, hard.trim().split(' ').next().unwrap(), "{files}");
    assert_eq!(relay.wait_event("files.limit", |_| true).number("before"), Some(64));
    relay.finish_clean(0);
}

/// A listener with these limits, for clients that nobody trusts.
fn limited(limits: &str) -> ([Sink; 2], crate::common::Relay) {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive).trusting_nobody();
    setup.listener = format!("[listener.limits]\n{limits}\n");
    let relay = setup.start();
    ([next_hop, archive], relay)
}

#[test]
fn a_stranger_has_its_share_of_connections_and_gets_them_back() {
    let (_sinks, mut relay) = limited("connections_per_client = 2");
    let open = [Client::ehlo(relay.address()), Client::ehlo(relay.address())];
    Client::connect(relay.address()).greeting.starts("421 4.7.0");
    relay.wait_event("session.closed", |event| event.text("reason") == "too many connections of one client");
    for client in open {
        drop(client);
    }
    relay.wait_events("session.closed", 3);
    Client::ehlo(relay.address());
    relay.finish_clean(0);
}

#[test]
fn a_stranger_that_does_more_than_it_may_in_a_minute_is_told_to_come_later() {
    let ([next_hop, _archive], mut relay) =
        limited("messages_per_minute = 2\nrecipients_per_minute = 3\nerrors_per_minute = 3");
    let mut client = Client::ehlo(relay.address());
    client.mail("bob@example.net", &["alice@example.org", "anna@example.org"], &message("one")).starts("250");
    client.command("MAIL FROM:<bob@example.net>").starts("250");
    client.command("RCPT TO:<alice@example.org>").starts("250");
    client.command("RCPT TO:<anna@example.org>").starts("450 4.7.1");
    client.command("RSET").starts("250");
    let mut other = Client::ehlo(relay.address());
    other.command("MAIL FROM:<bob@example.net>").starts("450 4.7.1");
    for _ in 0..3 {
        other.command("NONSENSE").starts("500");
    }
    other.reply().starts("421 4.7.0");
    drop((client, other));
    relay.wait_events("session.closed", 2);
    Client::connect(relay.address()).greeting.starts("421 4.7.0");
    assert_eq!(next_hop.transactions().len(), 1);
    relay.finish_clean(1);
}

#[test]
fn messages_of_all_strangers_are_limited_and_who_is_refused_hears_why() {
    let ([next_hop, _archive], mut relay) = limited("messages_per_minute_in_all = 1");
    let mut client = Client::ehlo(relay.address());
    client.mail("bob@example.net", &["alice@example.org"], &message("first")).starts("250");
    let refused = client.command("MAIL FROM:<bob@example.net>");
    assert_eq!(refused.text(), "451 4.3.2 too many messages at present, try again later");
    let event = relay.wait_event("message.refused", |event| event.text("stage") == "MAIL");
    assert_eq!(event.text("reply"), refused.text());
    assert_eq!(event.text("message"), "all clients do more than they may");
    drop(client);
    assert_eq!(next_hop.transactions().len(), 1);
    relay.finish_clean(1);
}

#[test]
fn a_client_that_talks_before_it_is_greeted_is_sent_away_and_one_that_waits_is_not() {
    let (_sinks, mut relay) = limited("greeting_delay = \"1s\"");
    let mut stream = std::net::TcpStream::connect(relay.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"EHLO hurry.example\r\nMAIL FROM:<a@b.example>\r\n").unwrap();
    let mut said = String::new();
    let _ = std::io::Read::read_to_string(&mut stream, &mut said);
    assert!(said.starts_with("421 4.7.0"), "{said}");
    relay.wait_event("session.closed", |event| event.text("reason") == "pregreet");
    let mut client = Client::ehlo(relay.address());
    client.mail("bob@example.net", &["alice@example.org"], &message("patient")).starts("250");
    drop(client);
    relay.finish_clean(1);
}
