//! A listener's certificate that expires soon: told before it does, by `check`, in the log and as a metric; and what is done without
//! the files that the configuration names.

use crate::admin::{get, start, value};
use crate::common::{Authority, Client, Relay, Setup, Sink, Stage, json_lines, say};
use crate::message;
use std::path::Path;

const DAY_S: f64 = 86_400.0;

/// A listener whose certificate lasts so many days.
pub fn lasting(days: u64, place: &Path, next_hop: &Sink, archive: &Sink) -> Setup {
    Authority::new().certify_for_days(&["relay.example.org"], days).write(place, "relay");
    let file = |suffix: &str| place.join(format!("relay.{suffix}")).display().to_string();
    let mut setup = Setup::new(next_hop, archive);
    setup.listener = format!("[listener.tls]\ncertificate = {:?}\nkey = {:?}\n", file("pem"), file("key"));
    setup
}

#[test]
fn check_warns_of_a_certificate_that_expires_within_three_weeks_and_the_configuration_is_sound_all_the_same() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    for (days, expected) in [(90, None), (22, None), (20, Some("expires in 19 days")), (0, Some("has expired"))] {
        let place = tempfile::tempdir().unwrap();
        let relay = Relay::prepare(lasting(days, place.path(), &next_hop, &archive), tempfile::tempdir().unwrap());
        let output = relay.command(&["check"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        match expected {
            None => assert_eq!(said, ""),
            Some(words) => assert!(
                said.starts_with("journal-relay: warning: listener incoming: ") && said.contains(words),
                "{days}: {said}"
            ),
        }
        let lines = json_lines(&relay.command(&["check", "--json"]).stdout);
        let warnings: Vec<_> = lines.iter().filter(|line| line["what"] == "warning").collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{lines:?}");
        let listener = lines.iter().find(|line| line["what"] == "listener").unwrap();
        assert!(listener["certificate_expires"].as_str().unwrap().starts_with("20"), "{listener}");
    }
}

#[test]
fn the_daemon_warns_of_it_at_the_start_and_of_a_new_one_after_a_reload_and_tells_the_time_as_a_metric() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let place = tempfile::tempdir().unwrap();
    let (mut relay, admin) = start(lasting(10, place.path(), &next_hop, &archive));
    let warned = relay.wait_event("certificate.expires", |_| true);
    assert_eq!((warned.text("level"), warned.text("listener"), warned.number("days")), ("warn", "incoming", Some(9)));
    assert!(warned.text("certificate").ends_with("relay.pem"), "{warned:?}");
    let left = || {
        let (_, metrics) = get(admin, "/metrics");
        let expires = value(&metrics, "journal_relay_certificate_expiry_timestamp_seconds{listener=\"incoming\"}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        (expires.unwrap_or_else(|| panic!("{metrics}")) - now) / DAY_S
    };
    assert!((9.0..=10.0).contains(&left()), "{}", left());
    // One that lasts is told of by the metric alone, one that does not by the log, too.
    for (days, warnings) in [(90, 1), (5, 2)] {
        Authority::new().certify_for_days(&["relay.example.org"], days).write(place.path(), "relay");
        let generation = relay.count("config.reloaded");
        relay.ask_to_reload();
        relay.wait_events("config.reloaded", generation + 1);
        relay.poll("the new time", || (left().ceil() as u64 == days).then_some(()));
        relay.wait_events("certificate.expires", warnings);
    }
    relay.finish_clean(0);
    let days: Vec<_> = relay.events("certificate.expires").iter().map(|event| event.number("days").unwrap()).collect();
    assert_eq!(days, [9, 4]);
}

#[test]
fn commands_that_need_the_spool_alone_do_their_work_without_the_files_that_the_configuration_names() {
    let next_hop = Sink::start();
    let archive = Sink::scripted(|stage| matches!(stage, Stage::Mail(_)).then(|| say("451 4.3.2 not now")).flatten());
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).display().to_string();
    let mut setup = lasting(90, place.path(), &next_hop, &archive);
    std::fs::write(file("password"), "secret\n").unwrap();
    std::fs::write(file("token"), "0123456789abcdef\n").unwrap();
    let own = setup.organizations[0].route.clone();
    setup.organizations[0].report_route =
        format!("{}?tls=none&password_file={}", "smtp://user@127.0.0.1:9", file("password"));
    setup.organizations[0].route = own;
    (setup.retry_first, setup.retry_longest) = ("1h".into(), "2h".into());
    setup.more = format!("\n[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = {:?}\n", file("token"));
    let mut relay = Relay::prepare(setup, tempfile::tempdir().unwrap());
    relay.launch();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("waits")).starts("250");
    relay.wait_event("record.deferred", |_| true);
    assert_eq!(relay.terminate().code(), Some(0));
    for name in ["relay.pem", "relay.key", "password", "token"] {
        std::fs::remove_file(file(name)).unwrap();
    }
    let check = relay.command(&["check"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(check.status.code(), Some(78));
    assert!(["relay.pem", "relay.key", "password", "token"].iter().all(|name| said.contains(name)), "{said}");
    let id = relay.queue()[0]["id"].as_str().unwrap().to_owned();
    let (exported, eml) = (file("exported"), file("message.eml"));
    std::fs::write(&eml, message("printed")).unwrap();
    for arguments in [
        &["queue", "show", &id][..],
        &["queue", "show", &id, "--record"],
        &["queue", "hold", &id],
        &["queue", "release", &id],
        &["queue", "retry", "--all"],
        &["queue", "export", &exported],
        &["queue", "gaps"],
        &["organization", "list"],
        &["record", &eml, "--from", "alice@example.org", "--to", "bob@example.net"],
        &["queue", "discard", &id, "--reason", "a test"],
    ] {
        let output = relay.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let status = relay.command(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("not running"), "{status:?}");
    // What is wrong in the file itself is an error as before.
    let text = std::fs::read_to_string(relay.config()).unwrap();
    relay.configure(&text.replace("next_hop = ", "nxt_hop = "));
    assert_eq!(relay.command(&["queue", "list"]).status.code(), Some(78));
}
