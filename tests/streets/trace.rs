//! One client's dialogue in the log: all of it but what nobody may read there.

use crate::common::{Client, Relay, Setup, Sink, Stage, say as said};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const SECRETS: [&str; 4] = ["AGFsaWNlAHMzY3JldA==", "s3cret", "Quarterly", "the figures"];

/// Everything at once, as a client does that waits for nothing.
const DIALOGUE: &[u8] = b"EHLO client.example\r\nAUTH PLAIN AGFsaWNlAHMzY3JldA==\r\nMAIL FROM:<alice@example.org>\r\n\
    RCPT TO:<bob@example.net> ORCPT=rfc822;bob+40example.net NOTIFY=FAILURE\r\nDATA\r\nSubject: Quarterly s3cret\r\n\r\n\
    the figures\r\n.\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 41\r\n\
    Subject: Quarterly\r\n\r\nRSET\r\nthe figures\r\nBDAT 8 LAST\r\ns3cret\r\nNOOP s3cret\r\nthe figures\r\nQUIT\r\n";

const OFFERS: &str =
    "250-sink.example\n250-PIPELINING\n250-8BITMIME\n250-ENHANCEDSTATUSCODES\n250-DSN\n250-AUTH PLAIN\n250 CHUNKING";

struct Street {
    relay: Relay,
    archive: Sink,
    _next_hop: Sink,
}

/// A relay with more lines in its `[log]`, and one that takes every password for a wrong one behind it.
fn traced(log: &str) -> Street {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Ehlo(_) => said(OFFERS),
        Stage::Other(line) if line.starts_with("AUTH ") => said("535 5.7.8 it is not you"),
        _ => None,
    });
    let archive = Sink::start();
    let mut setup = Setup::new(&next_hop, &archive);
    setup.listener = "auth = \"always\"".into();
    setup.more = log.to_owned();
    let relay = setup.start();
    Street { relay, archive, _next_hop: next_hop }
}

fn say(relay: &Relay) -> String {
    let mut stream = TcpStream::connect(relay.address()).unwrap();
    stream.write_all(DIALOGUE).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// What the log has of the one session, as `who: what`.
fn dialogue(relay: &Relay) -> Vec<String> {
    let lines = relay.events("session.trace");
    assert!(lines.iter().all(|line| line.text("level") == "info" && !line.text("session").is_empty()));
    lines.iter().map(|line| format!("{}: {}", line.text("by"), line.text("line"))).collect()
}

fn check(relay: &Relay, expected: &[&str]) {
    let said = dialogue(relay);
    for line in expected {
        assert!(said.iter().any(|heard| heard == line), "{line:?} is not in {said:#?}");
    }
    let log = relay.everything().concat();
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Another text of the `[log]` table takes effect; true once a client that only looks in is heard.
fn reload(relay: &Relay, from: &str, to: &str) {
    let text = std::fs::read_to_string(relay.config()).unwrap();
    assert!(text.contains(from), "{text}");
    relay.configure(&text.replace(from, to));
    relay.ask_to_reload();
    relay.poll("a session that is heard", || {
        Client::ehlo(relay.address()).command("QUIT").starts("221");
        (relay.count("session.trace") > 0).then_some(())
    });
}

#[test]
fn a_traced_client_is_heard_at_any_level_without_message_and_password() {
    let mut street = traced("");
    let relay = &street.relay;
    reload(relay, "level = \"info\"", "level = \"error\"\ntrace_sessions = [\"127.0.0.0/8\"]");
    let others = relay.everything().len() - relay.count("session.trace");
    let said = say(relay);
    assert_eq!(said.matches("\n250 2.0.0 taken").count(), 2, "{said}");
    street.archive.wait_for(2);
    street.relay.terminate();
    check(
        &street.relay,
        &[
            "relay: 220 relay.example.org ESMTP journal-relay",
            "client: EHLO client.example",
            "client: AUTH PLAIN ***",
            "relay: 535 5.7.8 it is not you",
            "client: MAIL FROM:<alice@example.org>",
            "client: RCPT TO:<bob@example.net> ORCPT=*** NOTIFY=FAILURE",
            "client: (the message, and its final dot)",
            "client: BDAT 41",
            "client: BDAT 8 LAST",
            "client: NOOP",
            "client: (11 octets that are no command)",
            "relay: 500 5.5.2 Error: command not recognized",
            "client: QUIT",
            "relay: 221 2.0.0 Bye",
        ],
    );
    assert_eq!(
        street.relay.everything().len() - street.relay.count("session.trace"),
        others,
        "nothing else is at this level"
    );
}

#[test]
fn no_address_is_heard_where_the_log_may_have_none() {
    let mut street = traced("trace_sessions = [\"127.0.0.0/8\"]\naddresses = \"none\"\n");
    say(&street.relay);
    street.archive.wait_for(2);
    street.relay.terminate();
    check(&street.relay, &["client: MAIL FROM:<*>", "client: RCPT TO:<*> ORCPT=*** NOTIFY=FAILURE"]);
    let log = street.relay.everything().concat();
    for part in ["alice", "bob", "example.net"] {
        assert!(!log.contains(part), "{part} is in the log: {log}");
    }
}

#[test]
fn other_clients_are_not_heard_and_the_command_line_names_clients_too() {
    let mut street = traced("trace_sessions = [\"192.0.2.1\"]\n");
    Client::ehlo(street.relay.address()).command("QUIT").starts("221");
    street.relay.wait_event("session.closed", |_| true);
    assert_eq!(street.relay.count("session.trace"), 0);
    street.relay.terminate();
    street.relay.launch_with(&["--trace-session", "192.0.2.7", "--trace-session", "127.0.0.0/8"]);
    Client::ehlo(street.relay.address()).command("QUIT").starts("221");
    street.relay.wait_event("session.trace", |line| line.text("line") == "QUIT");
    street.relay.terminate();
    let refused = crate::common::run(&["run", "--trace-session", "example.org"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
