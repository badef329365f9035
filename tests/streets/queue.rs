//! What operators do to the queue, beside a daemon that is sending, starting or stopping, and without one.

use crate::common::{Answer, Client, Gate, Record, Relay, Setup, Sink, Stage, say};
use crate::message;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn status(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn unwilling() -> Sink {
    Sink::scripted(|stage| matches!(stage, Stage::Mail(_)).then(|| say("451 4.3.2 not now")).flatten())
}

/// A setup in which nothing is tried again by itself.
fn patient(next_hop: &Sink, archive: &Sink) -> Setup {
    let mut setup = Setup::new(next_hop, archive);
    (setup.retry_first, setup.retry_longest) = ("1h".into(), "2h".into());
    setup
}

fn send(relay: &Relay, mark: &str) {
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message(mark)).starts("250");
}

/// Sends them and waits until their records are deferred; their ids.
fn deferred(relay: &Relay, marks: &[&str]) -> Vec<String> {
    let before = relay.count("record.deferred");
    marks.iter().for_each(|mark| send(relay, mark));
    relay.wait_events("record.deferred", before + marks.len());
    relay.poll("their rows", || {
        let queue = relay.queue();
        queue.iter().all(|line| line["state"] == "deferred").then_some(queue)
    });
    relay.queue().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

fn state_of(relay: &Relay, id: &str) -> String {
    let line = status(&relay.command(&["queue", "show", id, "--json"]), 0);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_line_has_exactly_the_documented_keys() {
    let (next_hop, archive) = (Sink::start(), unwilling());
    let mut relay = patient(&next_hop, &archive).start();
    deferred(&relay, &["keys"]);
    let mut expected = [
        "id",
        "organization",
        "state",
        "message_id",
        "original_message_id",
        "created",
        "size",
        "recipients",
        "attempts",
        "next_attempt",
        "last_reply",
        "route",
    ];
    expected.sort_unstable();
    let line = relay.queue().remove(0);
    let mut keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(line["route"], format!("smtp://{}", archive.address()));
    assert_eq!(relay.finish().len(), 1);
}

#[test]
fn of_several_ids_those_that_can_be_moved_are_and_the_others_are_named() {
    let (next_hop, archive) = (Sink::start(), unwilling());
    let mut relay = patient(&next_hop, &archive).start();
    let ids = deferred(&relay, &["one", "two"]);
    let nobody = "0000000000000000";
    let output = relay.command(&["queue", "hold", &ids[0], nobody, &ids[1]]);
    let held = status(&output, 1);
    assert!(held.contains(&ids[0]) && held.contains(&ids[1]), "{held}");
    assert!(stderr(&output).contains(nobody) && stderr(&output).contains("1 of 3"), "{output:?}");
    assert!(relay.queue().iter().all(|line| line["state"] == "held"));
    for wrong in
        [&["queue", "hold"][..], &["queue", "hold", "no-id"], &["queue", "retry"], &["queue", "discard", &ids[0]]]
    {
        status(&relay.command(wrong), 2);
    }
    for empty in ["", "  "] {
        status(&relay.command(&["queue", "discard", &ids[0], "--reason", empty]), 2);
    }
    status(&relay.command(&["queue", "hold", &ids[0], "--organization", "acme"]), 2);
    assert_eq!(relay.finish().len(), 2, "nothing was discarded");
}

#[test]
fn all_means_deferred_and_failed_ones_and_an_organization_means_its_own() {
    let next_hop = Sink::start();
    let (archive, other) = (unwilling(), unwilling());
    let mut relay = patient(&next_hop, &archive).and("beta", &["example.net"], &other).start();
    send(&relay, "for-both");
    relay.wait_events("record.deferred", 2);
    let of = |state: &str| -> Vec<String> {
        let lines = relay.command(&["queue", "list", "--state", state, "--json"]);
        let lines = status(&lines, 0);
        let mut names: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["organization"].to_string())
            .collect();
        names.sort();
        names
    };
    relay.poll("two deferred ones", || (of("deferred").len() == 2).then_some(()));
    status(&relay.command(&["queue", "hold", "--organization", "beta"]), 0);
    assert_eq!((of("held"), of("deferred")), (vec!["\"beta\"".to_owned()], vec!["\"acme\"".to_owned()]));
    [&archive, &other].into_iter().for_each(|sink| sink.script(|_| None));
    status(&relay.command(&["queue", "retry", "--all"]), 0);
    archive.wait_for(1);
    relay.wait_events("record.acked", 1);
    assert_eq!((of("held").len(), other.count()), (1, 0), "held ones are not tried");
    // Nothing is left to release, but the organization is known.
    status(&relay.command(&["queue", "release", "--organization", "acme"]), 0);
    status(&relay.command(&["queue", "release", "--organization", "nobody"]), 1);
    status(&relay.command(&["queue", "release", "--organization", "beta"]), 0);
    status(&relay.command(&["queue", "retry", "--all"]), 0);
    other.wait_for(1);
    relay.finish_clean(2);
}

#[test]
fn a_hold_while_an_entry_is_sent_takes_effect_when_the_attempt_has_ended() {
    let (next_hop, gate) = (Sink::start(), Gate::default());
    let held = gate.clone();
    let archive = Sink::scripted(move |stage| match stage {
        Stage::End(_) => Some(Answer::Hold(held.clone(), Box::new(Answer::Say("451 4.3.0 later".into())))),
        _ => None,
    });
    let mut relay = Setup::new(&next_hop, &archive).start();
    send(&relay, "held");
    gate.wait_for_arrivals(1);
    let id = relay.queue()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(state_of(&relay, &id), "sending");
    for refused in [&["queue", "retry", &id][..], &["queue", "discard", &id, "--reason", "now"]] {
        let output = relay.command(refused);
        status(&output, 1);
        assert!(stderr(&output).contains("being sent"), "{output:?}");
    }
    status(&relay.command(&["queue", "hold", &id]), 0);
    assert_eq!(state_of(&relay, &id), "sending");
    gate.open();
    relay.poll("the hold to take effect", || (state_of(&relay, &id) == "held").then_some(()));
    archive.script(|_| None);
    status(&relay.command(&["queue", "release", &id]), 0);
    archive.wait_for(1);
    relay.finish_clean(1);
}

#[test]
fn what_the_next_hop_has_not_answered_for_is_nobody_s_to_move() {
    let (archive, gate) = (Sink::start(), Gate::default());
    let held = gate.clone();
    let next_hop = Sink::scripted(move |stage| match stage {
        Stage::End(_) => Some(Answer::Hold(held.clone(), Box::new(Answer::Say("250 2.0.0 taken".into())))),
        _ => None,
    });
    let mut relay = Setup::new(&next_hop, &archive).start();
    let address = relay.address();
    let client = std::thread::spawn(move || {
        Client::ehlo(address).mail("alice@example.org", &["bob@example.net"], &message("prepared"))
    });
    gate.wait_for_arrivals(1);
    let line = relay.queue().remove(0);
    let id = line["id"].as_str().unwrap();
    assert_eq!(line["state"], "prepared");
    for verb in [&["discard", id, "--reason", "no"][..], &["retry", id], &["hold", id], &["release", id]] {
        let output = relay.command(&[&["queue"], verb].concat());
        status(&output, 1);
        assert!(stderr(&output).contains("prepared"), "{output:?}");
    }
    // Who means all does not mean it.
    status(&relay.command(&["queue", "hold", "--organization", "acme"]), 0);
    gate.open();
    client.join().unwrap().starts("250");
    relay.finish_clean(1);
}

#[test]
fn commands_work_while_the_daemon_starts_and_stops() {
    let (next_hop, archive) = (Sink::start(), unwilling());
    let mut relay = patient(&next_hop, &archive).start();
    let ids = deferred(&relay, &["steady"]);
    let (config, over) = (relay.config(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                let output = crate::common::run(&["queue", "list", "--json", "--config", config.to_str().unwrap()]);
                let listed = status(&output, 0);
                assert!(listed.contains(&ids[0]) && listed.lines().count() == 1, "{listed}");
                looks += 1;
            }
            looks
        });
        for round in 0..6 {
            if round % 2 == 0 {
                relay.kill9();
            } else {
                assert_eq!(relay.terminate().code(), Some(0));
            }
            relay.launch();
        }
        over.store(true, Ordering::Relaxed);
        assert!(looks.join().unwrap() > 0);
    });
    archive.script(|_| None);
    status(&relay.command(&["queue", "retry", &ids[0]]), 0);
    archive.wait_for(1);
    relay.finish_clean(1);
}

#[test]
fn a_spool_of_a_newer_program_is_left_alone() {
    let (next_hop, archive) = (Sink::start(), unwilling());
    let mut relay = patient(&next_hop, &archive).start();
    let ids = deferred(&relay, &["newer"]);
    assert_eq!(relay.terminate().code(), Some(0));
    let database = rusqlite::Connection::open(relay.spool().join("spool.sqlite")).unwrap();
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    database.pragma_update(None, "user_version", version + 1).unwrap();
    for command in [&["queue", "list"][..], &["queue", "retry", &ids[0]], &["run"]] {
        let output = relay.command(command);
        status(&output, 1);
        assert!(stderr(&output).contains("newer version"), "{output:?}");
    }
    database.pragma_update(None, "user_version", version).unwrap();
    drop(database);
    assert_eq!(relay.queue().len(), 1);
}

#[test]
fn without_a_spool_a_command_says_so_and_makes_none() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let relay = Relay::prepare(Setup::new(&next_hop, &archive), tempfile::tempdir().unwrap());
    let output = relay.command(&["queue", "list"]);
    status(&output, 1);
    assert!(stderr(&output).contains("no spool") && !relay.spool().exists(), "{output:?}");
}

fn exported(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn exported_files_are_their_owner_s_alone_and_a_second_run_replaces_them() {
    let (next_hop, archive) = (Sink::start(), unwilling());
    let mut relay = patient(&next_hop, &archive).start();
    let ids = deferred(&relay, &["again-1", "again-2"]);
    let directory = relay.home().join("made/exported");
    let export = || status(&relay.command(&["queue", "export", directory.to_str().unwrap()]), 0);
    export();
    let files = exported(&directory);
    assert_eq!(files, ids.iter().map(|id| directory.join(format!("{id}.eml"))).collect::<Vec<_>>());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&files[0]), mode(&files[1]), mode(&directory)), (0o600, 0o600, 0o700));
    // A run that was interrupted, a file that is not whole, and a link that leads elsewhere.
    let (elsewhere, first) = (relay.home().join("elsewhere"), std::fs::read(&files[0]).unwrap());
    std::fs::write(&files[0], "half").unwrap();
    std::fs::write(directory.join(format!(".{}.part", ids[0])), "half").unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.join(format!(".{}.part", ids[1]))).unwrap();
    export();
    assert_eq!((exported(&directory), std::fs::read(&files[0]).unwrap()), (files, first));
    assert!(!elsewhere.exists(), "nothing was written through the link");
    assert_eq!(relay.finish().len(), 2);
}

#[test]
fn a_record_of_an_organization_that_is_no_more_is_exported_too() {
    let (next_hop, archive) = (Sink::start(), unwilling());
    let mut setup = patient(&next_hop, &archive).and("beta", &["example.net"], &archive);
    let mut relay = setup.clone().start();
    send(&relay, "for-both");
    relay.wait_events("record.deferred", 2);
    assert_eq!(relay.terminate().code(), Some(0));
    setup.organizations.pop();
    relay.configure(&setup.toml(&relay.spool()));
    let directory = relay.home().join("exported");
    let output = relay.command(&["queue", "export", directory.to_str().unwrap()]);
    status(&output, 0);
    assert!(stderr(&output).contains("\"beta\""), "{output:?}");
    let records: Vec<_> = exported(&directory).iter().map(|file| Record::read(&std::fs::read(file).unwrap())).collect();
    assert!(records.len() == 2 && records.iter().all(|record| record.original == message("for-both")));
    let mut from: Vec<_> =
        records.iter().map(|record| (record.field("From").unwrap(), record.field("To").unwrap())).collect();
    from.sort_unstable();
    assert_eq!(
        from,
        [
            ("amazonjournaling@acme.awsapps.com", "archive@vault.example"),
            ("amazonjournaling@beta.awsapps.com", "unknown@archive.invalid")
        ]
    );
    let listed = relay.queue();
    let lost = listed.iter().find(|line| line["organization"] == "beta").unwrap();
    assert_eq!(lost["route"], "-");
    assert_eq!(
        relay.command(&["queue", "discard", lost["id"].as_str().unwrap(), "--reason", "sold"]).status.code(),
        Some(0)
    );
}
