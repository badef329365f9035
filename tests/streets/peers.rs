//! Real peers: swaks, curl and Python's smtplib as clients, Debian's Postfix in front, behind and on both sides, and its
//! `smtp-source` as load. See the head of `main.rs` for what happens where one is not installed.

use crate::common::{
    Postfix, Record, Relay, Running, Setup, Sink, free_port, installed, own_loopback_address, strip_folded_received,
    strip_received,
};
use crate::message;
use std::process::{Command, Output, Stdio};

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn pair() -> (Sink, Sink, Relay) {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let relay = Setup::new(&next_hop, &archive).start();
    (next_hop, archive, relay)
}

/// One message has come through: the relayed copy and the record hold the same, which is returned.
fn check_one(next_hop: &Sink, archive: &Sink, relay: &mut Relay) -> Vec<u8> {
    let copy = next_hop.wait_for(1).remove(0);
    let record = Record::read(&archive.wait_for(1)[0].octets);
    let relayed = strip_received(&copy.octets).1.to_vec();
    assert!(record.original == relayed, "relayed and recorded octets differ");
    relay.finish_clean(1);
    assert_eq!((next_hop.transactions().len(), archive.transactions().len()), (1, 1));
    relayed
}

#[test]
fn swaks_sends_through_the_relay() {
    if !installed(&["swaks"]) {
        return;
    }
    let (next_hop, archive, mut relay) = pair();
    let file = relay.home().join("message.eml");
    std::fs::write(&file, message("swaks")).unwrap();
    let server = relay.address();
    run(Command::new("swaks")
        .args(["--server", &server.ip().to_string(), "--port", &server.port().to_string(), "--pipeline"])
        .args(["--from", "alice@example.org", "--to", "bob@example.net,eve@example.net", "--data"])
        .arg(format!("@{}", file.display())));
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.recipients(), ["bob@example.net", "eve@example.net"]);
    let relayed = check_one(&next_hop, &archive, &mut relay);
    assert!(String::from_utf8(relayed).unwrap().contains("Message-ID: <swaks@example.org>"));
}

#[test]
fn curl_sends_through_the_relay() {
    if !installed(&["curl"]) {
        return;
    }
    let (next_hop, archive, mut relay) = pair();
    let file = relay.home().join("message.eml");
    std::fs::write(&file, message("curl")).unwrap();
    run(Command::new("curl")
        .args(["--silent", "--show-error", "--url", &format!("smtp://{}/client.example.com", relay.address())])
        .args(["--mail-from", "alice@example.org", "--mail-rcpt", "bob@example.net", "--upload-file"])
        .arg(&file));
    assert_eq!(check_one(&next_hop, &archive, &mut relay), message("curl"));
}

#[test]
fn smtplib_sends_through_the_relay_and_sees_its_refusals() {
    if !installed(&["python3"]) {
        return;
    }
    const SCRIPT: &str = r#"
import smtplib, sys
host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with smtplib.SMTP(host, port, local_hostname="client.example.com", timeout=60) as smtp:
    smtp.ehlo()
    assert smtp.has_extn("pipelining") and smtp.has_extn("size"), smtp.esmtp_features
    refused = smtp.sendmail("alice@example.org", ["bob@example.net", "amazonjournaling@acme.awsapps.com"], open(path, "rb").read())
    assert list(refused) == ["amazonjournaling@acme.awsapps.com"], refused
    assert refused["amazonjournaling@acme.awsapps.com"][0] == 550, refused
    assert smtp.noop()[0] == 250
"#;
    let (next_hop, archive, mut relay) = pair();
    let file = relay.home().join("message.eml");
    std::fs::write(&file, message("smtplib")).unwrap();
    let server = relay.address();
    run(Command::new("python3").args(["-c", SCRIPT, &server.ip().to_string(), &server.port().to_string()]).arg(&file));
    assert_eq!(check_one(&next_hop, &archive, &mut relay), message("smtplib"));
}

/// A Postfix that hands everything to `relay_host`, and its home.
fn postfix(relay_host: std::net::SocketAddr) -> (tempfile::TempDir, Running) {
    let home = tempfile::tempdir().unwrap();
    let running = Postfix::new(free_port(own_loopback_address()), relay_host).start(home.path());
    (home, running)
}

fn route(running: &Running) -> String {
    format!("smtp://{}?tls=none", running.address)
}

/// Sends `count` messages of some size over `sessions` connections with Postfix's own load generator.
fn smtp_source(server: std::net::SocketAddr, count: usize, sessions: usize) {
    run(Command::new("/usr/sbin/smtp-source")
        .args(["-m", &count.to_string(), "-s", &sessions.to_string(), "-l", "3000", "-d", "-N"])
        .args(["-f", "alice@example.org", "-t", "bob@example.net", "-S", "a load"])
        .arg(format!("inet:{}:{}", server.ip(), server.port())));
}

#[test]
fn postfix_behind_the_relay_takes_mail_and_refuses_as_it_likes() {
    if !installed(&["postfix"]) {
        return;
    }
    let (mailbox, archive) = (Sink::start(), Sink::start());
    let (_home, behind) = postfix(mailbox.address());
    let mut relay = Setup::with_routes(&route(&behind), &archive.route()).start();
    let mut client = crate::common::Client::ehlo(relay.address());
    let reply = client.mail("alice@example.org", &["bob@example.net"], &message("behind"));
    reply.starts("250 2.0.0 Ok: queued as ");
    client.command("MAIL FROM:<alice@example.org>").starts("250 2.1.0 Ok");
    client.command("RCPT TO:<nobody@unqualified>").starts("504 5.5.2");
    client.command("RSET").starts("250");
    let queue_id = reply.text().rsplit(' ').next().unwrap().to_owned();
    let accepted = relay.wait_event("message.accepted", |_| true);
    assert!(accepted.text("reply").contains(&queue_id), "{accepted:?}");
    let copy = mailbox.wait_for(1).remove(0);
    let (_, behind_postfix) = strip_folded_received(&copy.octets);
    let (received, rest) = strip_folded_received(behind_postfix);
    assert!(received.contains("by relay.example.org"), "{received}");
    assert_eq!(rest, message("behind"));
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("behind"));
    relay.finish_clean(1);
}

#[test]
fn postfix_in_front_of_the_relay_hands_everything_over() {
    if !installed(&["postfix"]) {
        return;
    }
    let (next_hop, archive, mut relay) = pair();
    let (_home, front) = postfix(relay.address());
    let mut client = crate::common::Client::ehlo(front.address);
    let to = ["bob@example.net", "eve@example.net"];
    client.mail("alice@example.org", &to, &message("front")).starts("250");
    let copy = next_hop.wait_for(1).remove(0);
    assert_eq!(copy.forward_paths(), to);
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.lines("To"), ["bob@example.net"]);
    assert_eq!(record.lines("Bcc"), ["eve@example.net"]);
    let relayed = check_one(&next_hop, &archive, &mut relay);
    assert_eq!(strip_folded_received(&relayed).1, message("front"));
}

#[test]
fn postfix_on_both_sides_carries_a_load_and_every_message_has_its_record() {
    const COUNT: usize = 200;
    if !installed(&["postfix", "smtp-source"]) {
        return;
    }
    let (mailbox, archive) = (Sink::start(), Sink::start());
    let (_behind_home, behind) = postfix(mailbox.address());
    let mut relay = Setup::with_routes(&route(&behind), &archive.route()).start();
    let (_front_home, front) = postfix(relay.address());
    smtp_source(front.address, COUNT, 10);
    let copies = mailbox.wait_for(COUNT);
    let records = archive.wait_for(COUNT);
    // Behind: Postfix's field, then the relay's, then the original as Postfix in front has sent it.
    let mut relayed: Vec<_> =
        copies.iter().map(|copy| strip_folded_received(strip_folded_received(&copy.octets).1).1.to_vec()).collect();
    let mut recorded: Vec<_> = records.iter().map(|record| Record::read(&record.octets).original).collect();
    relayed.sort();
    recorded.sort();
    assert!(relayed == recorded, "what was relayed and what was recorded differ");
    assert_eq!((copies.len(), records.len()), (COUNT, COUNT));
    relay.finish_clean(COUNT);
}

#[test]
fn smtp_source_loads_the_relay_itself() {
    const COUNT: usize = 1_000;
    if !installed(&["smtp-source"]) {
        return;
    }
    let (next_hop, archive, mut relay) = pair();
    smtp_source(relay.address(), COUNT, 20);
    next_hop.wait_for(COUNT);
    let originals: std::collections::HashSet<_> =
        archive.wait_for(COUNT).iter().map(|record| Record::read(&record.octets).original).collect();
    assert_eq!(originals.len(), COUNT, "every message is its own");
    relay.finish_clean(COUNT);
}
