//! `--json` of the commands that do something: one object a line, the entries' keys those of `queue list`, and the exit status as
//! without it.

use crate::common::{Client, Relay, Setup, Sink, Stage, json_lines, say};
use crate::message;
use serde_json::{Value, json};

/// What a command prints, and its exit status.
#[track_caller]
fn said(relay: &Relay, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = relay.command(&[arguments, &["--json"]].concat());
    (output.status.code(), json_lines(&output.stdout))
}

/// A daemon whose archive takes nothing, with records that stay.
fn with_waiting_records(count: usize) -> (Sink, Sink, Relay, Vec<String>) {
    let next_hop = Sink::start();
    let archive = Sink::scripted(|stage| matches!(stage, Stage::Mail(_)).then(|| say("451 4.3.2 not now")).flatten());
    let mut setup = Setup::new(&next_hop, &archive);
    (setup.retry_first, setup.retry_longest) = ("1h".into(), "2h".into());
    setup.organizations[0].more = "retention = \"1d\"".into();
    let relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    for number in 0..count {
        let octets = message(&format!("json-{number}"));
        client.mail("alice@example.org", &["bob@example.net"], &octets).starts("250");
    }
    relay.wait_event("record.deferred", |_| true);
    let ids = relay.queue().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    (next_hop, archive, relay, ids)
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn commands_that_move_entries_print_each_as_list_does_and_those_that_cannot_be_moved_with_the_error() {
    let (_next_hop, archive, mut relay, ids) = with_waiting_records(3);
    let listed = keys(&relay.queue()[0]);
    let (code, lines) = said(&relay, &["queue", "hold", &ids[0], "0000000000000000"]);
    assert_eq!((code, lines.len()), (Some(1), 2), "{lines:?}");
    assert_eq!((&lines[0]["id"], &lines[0]["state"]), (&json!(ids[0]), &json!("held")));
    assert_eq!(keys(&lines[0]), listed);
    assert_eq!(lines[1]["id"], "0000000000000000");
    assert!(!lines[1]["error"].as_str().unwrap().is_empty(), "{lines:?}");
    let (code, lines) = said(&relay, &["queue", "release", "--organization", "acme"]);
    assert_eq!((code, lines.len(), &lines[0]["id"]), (Some(0), 1, &json!(ids[0])));
    let (code, lines) = said(&relay, &["queue", "hold", "--organization", "acme"]);
    assert_eq!((code, lines.len()), (Some(0), 3), "{lines:?}");
    assert!(lines.iter().all(|line| line["state"] == "held" && keys(line) == listed), "{lines:?}");
    let (code, lines) = said(&relay, &["queue", "release", &ids[0], &ids[1], &ids[2]]);
    assert_eq!((code, lines.len()), (Some(0), 3), "{lines:?}");
    let (code, lines) = said(&relay, &["queue", "discard", &ids[2], "--reason", "a test"]);
    assert_eq!((code, &lines[0]["state"], &lines[0]["reason"]), (Some(0), &json!("discarded"), &json!("a test")));
    let directory = relay.home().join("exported");
    let (code, lines) = said(&relay, &["queue", "export", directory.to_str().unwrap()]);
    assert_eq!((code, lines.len()), (Some(0), 2), "{lines:?}");
    for line in &lines {
        let file = line["file"].as_str().unwrap();
        assert!(file.contains(line["id"].as_str().unwrap()) && std::fs::metadata(file).is_ok(), "{line}");
    }
    archive.script(|_| None);
    let (code, lines) = said(&relay, &["queue", "retry", &ids[0], &ids[1]]);
    assert_eq!((code, lines.len()), (Some(0), 2), "{lines:?}");
    relay.wait_events("record.acked", 2);
    assert_eq!(said(&relay, &["queue", "retry", "--all"]), (Some(0), vec![]));
    let (code, lines) = said(&relay, &["queue", "resend", "--organization", "acme", "--since", "2020-01-01"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (lines.len(), &lines[0]["resent"], &lines[0]["discarded"], &lines[0]["gone"]),
        (1, &json!(2), &json!(1), &json!(0))
    );
    assert_eq!((&lines[0]["organization"], &lines[0]["to"]), (&json!("acme"), &Value::Null));
    relay.finish_clean(4);
}

#[test]
fn a_turned_switch_is_told_as_list_tells_it_with_what_became_of_it() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let listed = said(&relay, &["organization", "list"]).1.remove(0);
    let (code, lines) = said(&relay, &["organization", "disable", "acme", "--reason", "a move"]);
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
    let mut expected = keys(&listed);
    expected.extend(["changed".to_owned(), "noted".to_owned()]);
    expected.sort();
    assert_eq!(keys(&lines[0]), expected);
    assert_eq!((&lines[0]["organization"], &lines[0]["journaling"]), (&json!("acme"), &json!(false)));
    assert!(
        lines[0]["off_since"].is_string() && lines[0]["reason"].as_str().unwrap().ends_with(": a move"),
        "{lines:?}"
    );
    assert_eq!((&lines[0]["changed"], &lines[0]["noted"]), (&json!(true), &json!(true)));
    let (code, lines) = said(&relay, &["organization", "disable", "acme", "--reason", "again"]);
    assert_eq!((code, &lines[0]["changed"], &lines[0]["noted"]), (Some(0), &json!(false), &json!(false)));
    assert_eq!(relay.terminate().code(), Some(0));
    let (code, lines) = said(&relay, &["organization", "enable", "acme", "--reason", "back"]);
    assert_eq!((code, &lines[0]["journaling"]), (Some(0), &json!(true)));
    assert_eq!((&lines[0]["changed"], &lines[0]["noted"]), (&json!(true), &json!(false)));
    assert_eq!(said(&relay, &["organization", "enable", "nobody", "--reason", "x"]), (Some(1), vec![]));
}

#[test]
fn check_tells_what_the_configuration_says_what_is_wrong_with_it_and_what_its_servers_say() {
    let next_hop = Sink::start();
    let archive = Sink::scripted(|stage| matches!(stage, Stage::Rcpt(_)).then(|| say("550 5.1.1 nobody")).flatten());
    let setup = Setup::new(&next_hop, &archive).reporting_to(&next_hop);
    let relay = Relay::prepare(setup.clone(), tempfile::tempdir().unwrap());
    let (code, lines) = said(&relay, &["check"]);
    assert_eq!(code, Some(0), "{lines:?}");
    let what: Vec<_> = lines.iter().map(|line| line["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["configuration", "listener", "organization"]);
    assert_eq!(&lines[0]["hostname"], &json!("relay.example.org"));
    let listener = &lines[1];
    assert_eq!(
        (&listener["name"], &listener["tls"], &listener["auth"]),
        (&json!("incoming"), &Value::Null, &json!("tls"))
    );
    assert_eq!(listener["trusted_networks"], json!(["127.0.0.0/8", "::1/128"]));
    assert_eq!(lines[2]["archives"][0]["journaling_address"], "archive@vault.example");
    let (code, lines) = said(&relay, &["check", "--connect"]);
    assert_eq!(code, Some(1), "{lines:?}");
    let places: Vec<_> = lines.iter().filter(|line| line["what"] == "place").collect();
    let told: Vec<_> =
        places.iter().map(|line| (line["kind"].as_str().unwrap(), line["ok"].as_bool().unwrap())).collect();
    assert_eq!(told, [("next_hop", true), ("listener", true), ("records", false), ("reports", true)]);
    assert!(places[2]["lines"].to_string().contains("550 5.1.1 nobody"), "{places:?}");
    // Two mistakes, each with its place.
    let good = setup.toml(&relay.spool());
    relay.configure(&good.replace("next_hop = ", "nxt_hop = "));
    let (code, lines) = said(&relay, &["check"]);
    assert_eq!((code, lines.len()), (Some(78), 2), "{lines:?}");
    for line in &lines {
        assert!(line["what"] == "mistake" && line["line"].is_u64() && line["column"].is_u64(), "{line}");
        assert!(line["file"].as_str().unwrap().ends_with("config.toml"), "{line}");
    }
    assert!(lines.iter().any(|line| line["message"].as_str().unwrap().contains("nxt_hop")), "{lines:?}");
    std::fs::remove_file(relay.config()).unwrap();
    let (code, lines) = said(&relay, &["check"]);
    assert_eq!((code, lines.len(), &lines[0]["line"]), (Some(78), 1, &Value::Null));
}

#[test]
fn record_tells_of_every_record_that_a_message_would_get_one_for_all_archives() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive).and("globex", &["globex.example"], &archive);
    setup.organizations[0].more = format!(
        "also = [{{ journaling_address = \"second@vault.example\", journaling_route = {:?} }}]",
        archive.route()
    );
    let relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    let file = relay.home().join("message.eml");
    std::fs::write(&file, message("told")).unwrap();
    let record = |to: &'static str| ["record", file.to_str().unwrap(), "--from", "alice@example.org", "--to", to];
    let (code, lines) = said(&relay, &record("hank@globex.example"));
    assert_eq!((code, lines.len()), (Some(0), 2), "{lines:?}");
    let of = |name: &str| lines.iter().find(|line| line["organization"] == name).unwrap();
    assert_eq!(of("acme")["archives"], json!(["archive@vault.example", "second@vault.example"]));
    for name in ["acme", "globex"] {
        assert_eq!(of(name)["recipients"], json!(["hank@globex.example"]));
        assert_eq!(
            (&of(name)["original_message_id"], &of(name)["size"]),
            (&json!("<told@example.org>"), &json!(message("told").len()))
        );
    }
    // An organization's several archives make no choice necessary.
    let printed = relay.command(&record("bob@example.net"));
    assert!(printed.status.success() && printed.stdout.windows(7).any(|part| part == b"is told"), "{printed:?}");
    let nobodys = ["record", file.to_str().unwrap(), "--from", "a@remote.example", "--to", "b@remote.example"];
    assert_eq!(said(&relay, &nobodys), (Some(1), vec![]));
}
