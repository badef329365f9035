//! `check --connect`: what the servers of a configuration say of it, and whether its listeners are closed to strangers.

use crate::common::{Authority, Relay, Setup, Sink, Stage, say};
use std::process::Output;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of the table from the one that begins with these words to the next that is a place.
fn about(table: &str, words: &[&str]) -> String {
    let begins =
        |line: &&str| line.split_whitespace().zip(words).filter(|(found, word)| found == *word).count() == words.len();
    let mut lines = table.lines().skip_while(|line| !begins(line));
    let first = lines.next().unwrap_or_else(|| panic!("no {words:?} in\n{table}"));
    let more = lines.take_while(|line| line.starts_with(' '));
    std::iter::once(first).chain(more).collect::<Vec<_>>().join("\n")
}

/// A setup whose clients on this machine are strangers.
fn strangers(next_hop: &Sink, archive: &Sink) -> Setup {
    Setup::new(next_hop, archive).trusting_nobody().at_a_fixed_address()
}

#[test]
fn every_place_is_tried_as_far_as_rcpt_and_no_mail_is_sent() {
    let (next_hop, archive, reports) = (Sink::start(), Sink::start(), Sink::start());
    let mut relay = strangers(&next_hop, &archive).reporting_to(&reports).start();
    let output = relay.command(&["check", "--connect"]);
    let table = said(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let there = about(&table, &["next", "hop", "incoming"]);
    assert!(there.contains("ok") && there.contains(&format!("{}, plain text", next_hop.address())), "{there}");
    assert!(there.contains("RCPT TO:<postmaster@example.org>: 250"), "{there}");
    assert!(there.contains("relay control is this relay's alone"), "this next hop takes everything: {there}");
    let there = about(&table, &["records", "acme"]);
    assert!(there.contains("RCPT TO:<archive@vault.example>: 250"), "{there}");
    assert!(about(&table, &["reports", "acme"]).contains("RCPT TO:<postmaster@example.org>: 250"));

    assert!(archive.commands().iter().any(|line| line.starts_with("MAIL FROM:<amazonjournaling@acme.awsapps.com>")));
    for sink in [&next_hop, &archive, &reports] {
        let commands = sink.commands();
        assert!(commands.iter().any(|line| line.starts_with("RCPT ")), "{commands:?}");
        assert!(commands.iter().all(|line| !line.starts_with("DATA") && !line.starts_with("BDAT")), "{commands:?}");
        assert!(sink.transactions().is_empty());
    }
    relay.finish_clean(0);
}

#[test]
fn a_listener_that_runs_refuses_a_stranger_all_that_leads_elsewhere() {
    // As the load balancer that it takes this host for, and without that.
    for listener in ["", "proxy_protocol_from = [\"127.0.0.0/8\"]"] {
        let (next_hop, archive) = (Sink::start(), Sink::start());
        let mut setup = strangers(&next_hop, &archive);
        setup.listener = listener.into();
        let mut relay = setup.start();
        let output = relay.command(&["check", "--connect"]);
        let there = about(&said(&output), &["listener", "incoming", &relay.address().to_string()]);
        assert!(there.contains("closed: 10 recipients elsewhere refused to a stranger"), "{listener}: {there}");
        let refused = relay.wait_events("message.refused", 10);
        assert!(refused.iter().all(|event| event.text("reply").starts_with("554 5.7.1")), "{refused:?}");
        relay.finish_clean(0);
    }
}

#[test]
fn a_listener_is_asked_under_its_own_certificate() {
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.certify(&["mx.example.org"]).write(place.path(), "mx");
    for mode in ["starttls", "required", "implicit"] {
        let (next_hop, archive) = (Sink::start(), Sink::start());
        let mut setup = strangers(&next_hop, &archive);
        let file = |suffix: &str| place.path().join(format!("mx.{suffix}")).display().to_string();
        setup.listener =
            format!("[listener.tls]\nmode = {mode:?}\ncertificate = {:?}\nkey = {:?}\n", file("pem"), file("key"));
        let mut relay = setup.start();
        let output = relay.command(&["check", "--connect"]);
        assert!(said(&output).contains("closed: 10 recipients"), "{mode}: {output:?}");
        relay.finish_clean(0);
    }
}

#[test]
fn a_host_that_is_trusted_and_a_daemon_that_does_not_run_are_said_to_be_no_test() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let trusted = Relay::prepare(Setup::new(&next_hop, &archive).at_a_fixed_address(), tempfile::tempdir().unwrap());
    assert!(said(&trusted.command(&["check", "--connect"])).contains("this host is trusted"));
    let stopped = Relay::prepare(strangers(&next_hop, &archive), tempfile::tempdir().unwrap());
    let output = stopped.command(&["check", "--connect"]);
    assert!(said(&output).contains("nobody listens there now"), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_open_relay_at_the_listener_s_address_is_found() {
    let (next_hop, archive, open) = (Sink::start(), Sink::start(), Sink::start());
    let mut setup = strangers(&next_hop, &archive);
    setup.listen = open.address();
    let relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    let output = relay.command(&["check", "--connect"]);
    assert!(said(&output).contains("an OPEN RELAY at"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn places_that_cannot_be_used_are_named_with_status_1() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("550 5.1.1 nobody here"),
        _ => None,
    });
    let archive = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("550 5.1.1 no such archive"),
        _ => None,
    });
    let mut setup = strangers(&next_hop, &archive);
    let gone = crate::common::free_port(crate::common::own_loopback_address());
    setup.organizations[0].report_route = format!("smtp://{gone}?tls=none");
    let relay = Relay::prepare(setup.clone(), tempfile::tempdir().unwrap());
    let output = relay.command(&["check", "--connect"]);
    let table = said(&output);
    assert_eq!(output.status.code(), Some(1), "{table}");
    for (words, says) in [
        (["next", "hop", "incoming"], "550 5.1.1 nobody here"),
        (["records", "acme", &setup.organizations[0].route.replace("?tls=none", "")], "550 5.1.1 no such archive"),
        (["reports", "acme", &format!("smtp://{gone}")], "refused"),
    ] {
        let there = about(&table, &words);
        assert!(there.contains("FAILED") && there.contains(says), "{there}");
    }
    // Without --connect nobody is asked.
    assert_eq!(relay.command(&["check"]).status.code(), Some(0));
}

#[test]
fn a_configuration_that_would_make_an_open_relay_starts_nothing() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = strangers(&next_hop, &archive);
    let everywhere: Vec<String> = (0..=255).map(|first| format!("\"{first}.0.0.0/8\"")).collect();
    setup.trusted_networks = Some(format!("[{}]", everywhere.join(", ")));
    let relay = Relay::prepare(setup.clone(), tempfile::tempdir().unwrap());
    for command in ["check", "run"] {
        let output = relay.command(&[command]);
        assert_eq!(output.status.code(), Some(78), "{command}: {output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains("open relay") && complaint.contains("\"incoming\""), "{complaint}");
    }
    // A running daemon goes on as it was.
    setup.trusted_networks = None;
    let mut relay = setup.start();
    setup.trusted_networks = Some(format!("[{}]", everywhere.join(", ")));
    relay.configure(&setup.toml(&relay.spool()));
    relay.ask_to_reload();
    let rejected = relay.wait_event("config.rejected", |_| true);
    assert!(rejected.text("error").contains("open relay"), "{rejected:?}");
    relay.finish_clean(0);
}
