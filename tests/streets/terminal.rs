//! Colour and progress are for those who sit at a terminal: programs get neither, and `NO_COLOR` is respected.

use crate::common::{Client, Relay, Setup, Sink, installed, on_terminal};
use crate::message;

/// A relay with something to be red about: its archive is down.
fn with_trouble() -> (Sink, Sink, Relay) {
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    archive.down();
    let relay = Setup::new(&next_hop, &archive).start();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("red")).starts("250");
    relay.wait_event("route.state", |event| event.text("state") == "down");
    (next_hop, archive, relay)
}

#[test]
fn status_is_coloured_on_a_terminal_and_neither_with_no_color_nor_through_a_pipe() {
    if !installed(&["script"]) {
        return;
    }
    let (_next_hop, _archive, relay) = with_trouble();
    let seen = on_terminal(&relay, "status", "", &[]);
    assert!(seen.contains("\u{1b}[31m") && seen.contains("\u{1b}[0m") && seen.contains("down"), "{seen:?}");
    for (more, environment) in
        [("", &[("NO_COLOR", "1")][..]), ("", &[("TERM", "dumb")]), ("| cat", &[]), ("--json", &[])]
    {
        let seen = on_terminal(&relay, "status", more, environment);
        assert!(!seen.contains('\u{1b}') && seen.contains("down"), "{more} {environment:?}: {seen:?}");
    }
    // An empty value is none (no-color.org).
    assert!(on_terminal(&relay, "status", "", &[("NO_COLOR", "")]).contains("\u{1b}[31m"));
    let piped = relay.command(&["status"]);
    assert!(!piped.stdout.contains(&0x1b) && !piped.stderr.contains(&0x1b), "{piped:?}");
}

#[test]
fn progress_is_told_on_standard_error_and_at_a_terminal_alone() {
    if !installed(&["script"]) {
        return;
    }
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let relay = Relay::prepare(Setup::new(&next_hop, &archive), tempfile::tempdir().unwrap());
    let file = relay.home().join("said");
    let seen = on_terminal(&relay, "check --connect", &format!("> '{}'", file.display()), &[]);
    let said = std::fs::read_to_string(&file).unwrap();
    assert!(seen.contains("trying 4 places"), "{seen:?}");
    assert!(!said.contains("trying") && said.contains("next hop"), "{said:?}");
    let piped = relay.command(&["check", "--connect"]);
    assert!(!String::from_utf8_lossy(&[piped.stdout, piped.stderr].concat()).contains("trying"));
}
