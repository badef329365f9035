//! The switch of an organization: turned by hand in the file or by command, it acts with the next transaction, and the time
//! without a journal has a start and an end that can be seen.

use crate::common::{Client, Record, Relay, Setup, Sink, json_lines};
use crate::message;

fn street() -> (Sink, Sink, Setup) {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive).and("globex", &["globex.example"], &archive);
    (next_hop, archive, setup)
}

fn send(relay: &Relay, mark: &str) {
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message(mark)).starts("250");
}

fn gaps(relay: &Relay) -> Vec<serde_json::Value> {
    let output = relay.command(&["queue", "gaps", "--json"]);
    assert!(output.status.success(), "{output:?}");
    json_lines(&output.stdout)
}

fn said(relay: &Relay, arguments: &[&str]) -> String {
    let output = relay.command(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_command_turns_the_switch_of_a_running_daemon_and_leaves_the_rest_of_the_file_as_it_is() {
    let (_next_hop, archive, setup) = street();
    let mut relay = setup.start();
    let before = std::fs::read_to_string(relay.config()).unwrap();
    relay.configure(&before.replace("name = \"acme\"", "# ours\nname = \"acme\" # the first"));
    send(&relay, "before");
    archive.wait_for(1);

    let told = said(&relay, &["organization", "disable", "acme", "--reason", "a move to another archive"]);
    assert!(told.contains("journaling of acme is off; the daemon has noted it"), "{told}");
    let switched = relay.wait_event("organization.switched", |event| event.0["journaling"] == false);
    assert_eq!(switched.text("organization"), "acme");
    assert!(switched.text("reason").ends_with(": a move to another archive"), "{switched:?}");
    assert!(switched.number("generation").is_some_and(|generation| generation > 1), "{switched:?}");
    send(&relay, "while it is off");
    relay.wait_event("record.exempt", |event| event.text("rule") == "journaling = false");
    let table = said(&relay, &["queue", "gaps"]);
    assert!(table.contains("still off") && table.contains("a move to another archive"), "{table}");
    let list = said(&relay, &["organization", "list"]);
    assert!(list.lines().any(|line| line.starts_with("acme") && line.contains(" off ")), "{list}");
    assert!(list.lines().any(|line| line.starts_with("globex") && line.contains(" on ")), "{list}");

    let told = said(&relay, &["organization", "enable", "acme", "--reason", "moved"]);
    assert!(told.contains("journaling of acme is on; the daemon has noted it"), "{told}");
    send(&relay, "after");
    let records = archive.wait_for(2);
    assert_eq!(Record::read(&records[1].octets).original, message("after"));
    let [gap] = gaps(&relay).try_into().unwrap();
    assert_eq!((&gap["kind"], &gap["organization"]), (&"switch".into(), &"acme".into()));
    assert!(gap["until"].is_string() && gap["end_reason"].as_str().unwrap().ends_with(": moved"), "{gap}");
    let again = said(&relay, &["organization", "enable", "acme", "--reason", "once more"]);
    assert!(again.contains("is on already"), "{again}");

    let after = std::fs::read_to_string(relay.config()).unwrap();
    assert!(after.contains("# ours\nname = \"acme\" # the first"), "{after}");
    let without = |text: &str| -> Vec<String> {
        let ours = |line: &&str| {
            !line.starts_with("journaling =") && !line.starts_with("switch_reason") && !line.contains("ours")
        };
        text.lines().filter(ours).map(|line| line.replace(" # the first", "")).collect()
    };
    assert_eq!(without(&after), without(&before));
    relay.finish_clean(2);
}

#[test]
fn a_switch_that_is_turned_while_no_daemon_runs_is_noted_at_the_next_start() {
    let (_next_hop, _archive, setup) = street();
    let mut relay = setup.start();
    relay.terminate();
    let told = said(&relay, &["organization", "disable", "globex", "--reason", "closed"]);
    assert!(told.contains("from the next start on: no daemon runs"), "{told}");
    assert_eq!(gaps(&relay).len(), 0);
    relay.launch();
    relay.wait_event("organization.switched", |event| event.text("organization") == "globex");
    let gap = relay.poll("the gap", || gaps(&relay).pop());
    assert_eq!((&gap["organization"], &gap["until"]), (&"globex".into(), &serde_json::Value::Null));
    // Nothing changes with a start alone.
    relay.terminate();
    relay.launch();
    relay.terminate();
    assert_eq!(gaps(&relay), [gap]);
    assert_eq!(relay.count("organization.switched"), 0);
}

#[test]
fn a_message_that_ends_when_the_switch_is_on_again_has_its_record() {
    let (_next_hop, archive, setup) = street();
    let mut relay = setup.start();
    said(&relay, &["organization", "disable", "acme", "--reason", "a pause"]);
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<bob@example.net>").starts("250");
    said(&relay, &["organization", "enable", "acme", "--reason", "over"]);
    client.command("DATA").starts("354");
    client.send(&crate::common::stuff(&message("late")));
    client.reply().starts("250");
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).original, message("late"));
    drop(client);
    relay.finish_clean(1);
}

#[test]
fn a_reason_that_was_there_before_is_not_told_as_the_reason_of_a_turn_by_hand() {
    let (_next_hop, _archive, setup) = street();
    let mut relay = setup.start();
    said(&relay, &["organization", "disable", "acme", "--reason", "a move"]);
    said(&relay, &["organization", "enable", "acme", "--reason", "legal withdrew"]);
    let by_hand = |relay: &Relay, from: &str, to: &str| {
        let toml = std::fs::read_to_string(relay.config()).unwrap();
        assert!(toml.contains(from), "{toml}");
        relay.configure(&toml.replacen(from, to, 1));
    };
    by_hand(&relay, "journaling = true", "journaling = false");
    relay.ask_to_reload();
    relay.wait_events("organization.switched", 3);
    let off = relay.poll("the second gap", || gaps(&relay).pop().filter(|gap| gap["until"].is_null()));
    let reason = off["reason"].as_str().unwrap();
    assert!(reason.ends_with(": legal withdrew (switch_reason is that of the turn before)"), "{reason}");
    // Nor where no daemon saw it.
    relay.terminate();
    by_hand(&relay, "journaling = false", "journaling = true");
    relay.launch();
    let on = relay.poll("its end", || gaps(&relay).pop().filter(|gap| gap["until"].is_string()));
    assert!(!on["end_reason"].as_str().unwrap().ends_with("legal withdrew"), "{on}");
}

#[test]
fn a_pause_ends_also_for_an_organization_that_was_gone_meanwhile() {
    let (_next_hop, _archive, setup) = street();
    let relay = setup.start();
    said(&relay, &["organization", "disable", "globex", "--reason", "closed"]);
    let with = std::fs::read_to_string(relay.config()).unwrap();
    let alone = Relay::prepare(
        Setup { organizations: setup.organizations[..1].to_vec(), ..setup.clone() },
        tempfile::tempdir().unwrap(),
    );
    let reload = |toml: &str| {
        let before = relay.count("config.reloaded");
        relay.configure(toml);
        relay.ask_to_reload();
        relay.wait_events("config.reloaded", before + 1);
    };
    let without = std::fs::read_to_string(alone.config()).unwrap();
    let spool =
        |toml: &str, of: &Relay| toml.replace(&of.spool().display().to_string(), &relay.spool().display().to_string());
    reload(&spool(&without, &alone));
    reload(&with.replace("journaling = false", "journaling = true"));
    let gap = relay.poll("the end of the gap", || gaps(&relay).pop().filter(|gap| gap["until"].is_string()));
    assert_eq!(gap["organization"], "globex");
}

#[test]
fn a_name_that_is_not_there_and_a_file_that_is_not_sound_change_nothing() {
    let (_next_hop, _archive, setup) = street();
    let relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    let before = std::fs::read_to_string(relay.config()).unwrap();
    let output = relay.command(&["organization", "disable", "initech", "--reason", "x"]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("acme, globex"), "{complaint}");
    assert_eq!(std::fs::read_to_string(relay.config()).unwrap(), before);
    let broken = before.replace("coalesce = \"0s\"", "coalesce = 5");
    relay.configure(&broken);
    let output = relay.command(&["organization", "disable", "acme", "--reason", "x"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert_eq!(std::fs::read_to_string(relay.config()).unwrap(), broken);
    assert_eq!(relay.command(&["organization", "disable", "acme"]).status.code(), Some(2), "a reason is asked for");
}

#[test]
fn two_switches_that_are_turned_at_once_are_both_turned() {
    let (_next_hop, _archive, setup) = street();
    let relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    for round in 0..12 {
        let word = if round % 2 == 0 { "disable" } else { "enable" };
        let turn = |name: &str| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_journal-relay"));
            command.args(["organization", word, name, "--reason", "x", "--config"]).arg(relay.config());
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        };
        for turning in [turn("acme"), turn("globex")] {
            let output = turning.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        }
        let list = said(&relay, &["organization", "list", "--json"]);
        let are_on: Vec<_> = json_lines(list.as_bytes()).iter().map(|of| of["journaling"].clone()).collect();
        assert_eq!(are_on, [word == "enable"; 2], "round {round}");
    }
    assert!(!relay.spool().exists(), "nothing is made but what the daemon makes");
}

#[test]
fn a_switch_that_is_turned_before_the_first_start_leaves_the_spool_s_directory_to_the_daemon() {
    let (_next_hop, _archive, setup) = street();
    let mut relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    std::fs::create_dir(relay.spool()).unwrap();
    let told = said(&relay, &["organization", "disable", "acme", "--reason", "not yet"]);
    assert!(told.contains("no daemon runs"), "{told}");
    relay.command(&["organization", "list"]);
    assert_eq!(std::fs::read_dir(relay.spool()).unwrap().count(), 0);
    relay.launch();
    relay.wait_event("organization.switched", |event| event.text("organization") == "acme");
    relay.terminate();
}
