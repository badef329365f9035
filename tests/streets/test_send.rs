//! `test-send`: a marked message goes in, and the archive's answer comes back.

use crate::common::{Authority, Record, Relay, Setup, Sink, Stage, fields, json_lines, run, say};
use serde_json::Value;

fn street(archive: &Sink, change: impl FnOnce(&mut Setup)) -> (Relay, Sink) {
    let next_hop = Sink::start();
    let mut setup = Setup::new(&next_hop, archive).at_a_fixed_address();
    change(&mut setup);
    (setup.start(), next_hop)
}

/// The exit status, standard output and standard error.
fn test_send(relay: &Relay, more: &[&str]) -> (Option<i32>, String, String) {
    let output = relay.command(&[&["test-send", "--organization", "acme"], more].concat());
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn each_step_is_told_until_the_archive_has_taken_the_record() {
    let archive = Sink::start();
    let (mut relay, next_hop) = street(&archive, |_| {});
    let (status, said, complaint) = test_send(&relay, &[]);
    assert_eq!((status, complaint.as_str()), (Some(0), ""), "{said}");
    let steps: Vec<_> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(steps, ["accepted", "record", "acked"], "{said}");
    let (status, said, _) = test_send(&relay, &["--json", "--listener", "incoming", "--timeout", "30s"]);
    assert_eq!(status, Some(0));
    let steps = json_lines(said.as_bytes());
    let keys: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(keys, ["accepted", "record", "acked"], "{said}");
    assert_eq!(
        (&steps[0]["reply"], &steps[2]["reply"]),
        (&Value::from("250 2.0.0 taken"), &Value::from("250 2.0.0 taken"))
    );
    let message = next_hop.wait_for(2).remove(1);
    let header: Vec<_> = fields(&message.octets).into_iter().collect();
    let value = |name: &str| {
        header.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    assert_eq!(value("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(value("Message-ID").as_deref(), steps[0]["message_id"].as_str());
    assert!(value("X-Journal-Test").is_some_and(|mark| value("Message-ID").unwrap().contains(&mark)));
    let record = archive.wait_for(2).remove(1);
    assert_eq!(Record::read(&record.octets).field("X-Journal-Record"), steps[1]["record"].as_str());
    relay.finish_clean(2);
}

#[test]
fn an_archive_that_defers_is_quoted_and_the_end_of_the_patience_is_a_failure() {
    let archive = Sink::scripted(|stage| match stage {
        Stage::Rcpt(_) => say("451 4.3.2 the vault is being cleaned"),
        _ => None,
    });
    let (mut relay, _next_hop) = street(&archive, |_| {});
    let (status, said, complaint) = test_send(&relay, &["--timeout", "3s"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("\ndeferred") && said.contains("451 4.3.2 the vault is being cleaned"), "{said}");
    assert!(
        complaint.contains("within 3 s; last: ") && complaint.contains("the vault is being cleaned"),
        "{complaint}"
    );
    let (status, said, _) = test_send(&relay, &["--timeout", "2s", "--json"]);
    let steps = json_lines(said.as_bytes());
    assert_eq!((status, &steps.last().unwrap()["step"]), (Some(1), &Value::from("failed")), "{said}");
    relay.terminate();
}

#[test]
fn a_daemon_that_ends_meanwhile_is_not_waited_for() {
    let archive = Sink::scripted(|stage| matches!(stage, Stage::Rcpt(_)).then(|| say("451 4.3.2 later")).flatten());
    let (mut relay, _next_hop) = street(&archive, |_| {});
    let config = relay.config();
    let asking = std::thread::spawn(move || {
        run(&["test-send", "--organization", "acme", "--timeout", "10m", "--config", config.to_str().unwrap()])
    });
    relay.wait_event("record.deferred", |_| true);
    relay.terminate();
    let output = asking.join().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("the daemon has ended meanwhile"), "{complaint}");
}

#[test]
fn a_record_that_the_archive_refuses_is_a_failure_at_once() {
    let archive = Sink::scripted(|stage| match stage {
        Stage::Rcpt(path) if path.contains("archive@") => say("550 5.1.1 no such vault"),
        _ => None,
    });
    let (mut relay, _next_hop) = street(&archive, |_| {});
    let (status, said, complaint) = test_send(&relay, &[]);
    assert_eq!(status, Some(1));
    assert!(said.contains("\nfailed") && said.contains("550 5.1.1 no such vault"), "{said}");
    assert!(complaint.contains("the record is failed"), "{complaint}");
    relay.terminate();
}

#[test]
fn a_refusal_of_the_message_is_told_with_its_stage_and_leaves_no_record() {
    let archive = Sink::start();
    let (mut relay, next_hop) = street(&archive, |_| {});
    for (stage, reply) in
        [("MAIL", "530 5.7.0 authenticate first"), ("RCPT", "550 5.1.1 who"), ("the end of data", "554 5.7.1 no")]
    {
        next_hop.script(move |at| match (stage, at) {
            ("MAIL", Stage::Mail(_)) | ("RCPT", Stage::Rcpt(_)) | ("the end of data", Stage::End(_)) => say(reply),
            _ => None,
        });
        let (status, said, complaint) = test_send(&relay, &[]);
        assert_eq!((status, said.as_str()), (Some(1), ""), "{complaint}");
        assert!(complaint.contains(&format!("refused at {stage}: {reply}")), "{complaint}");
        assert_eq!(complaint.contains("--listener names another"), stage == "MAIL", "{complaint}");
    }
    assert!(relay.finish().is_empty());
}

#[test]
fn what_would_make_no_record_is_said_and_nothing_is_sent() {
    let archive = Sink::start();
    let (mut relay, next_hop) = street(&archive, |setup| {
        setup.organizations[0].more = "scope = { exclude = [\"postmaster@example.org\"] }".into();
    });
    let refused = |relay: &Relay, more: &[&str], says: &str| {
        let (status, said, complaint) = test_send(relay, more);
        assert_eq!((status, said.as_str()), (Some(1), ""), "{complaint}");
        assert!(complaint.contains(says), "{says:?} is not in {complaint:?}");
    };
    refused(&relay, &[], "scope.include, scope.exclude");
    refused(&relay, &["--address", "somebody@elsewhere.example"], "is no address of acme");
    refused(
        &relay,
        &["--listener", "outgoing", "--address", "a@example.org"],
        "there is no listener \"outgoing\"; there are incoming",
    );
    assert_eq!(test_send(&relay, &["--address", "a@example.org"]).0, Some(0));
    let other = relay.command(&["test-send", "--organization", "globex"]);
    let complaint = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        other.status.code() == Some(1) && complaint.contains("there is no organization \"globex\"; there are acme")
    );
    let toml = std::fs::read_to_string(relay.config()).unwrap();
    relay.configure(&toml.replace("[[organization]]", "[[organization]]\njournaling = false"));
    refused(&relay, &[], "journaling = false");
    assert_eq!(next_hop.wait_for(1).len(), 1);
    relay.terminate();
    relay.configure(&toml);
    refused(&relay, &["--address", "a@example.org"], "no daemon runs");
    assert_eq!(run(&["test-send"]).status.code(), Some(2));
}

#[test]
fn a_daemon_that_works_by_another_configuration_is_found_out() {
    let archive = Sink::start();
    let (mut relay, _next_hop) = street(&archive, |setup| setup.organizations[0].more = "journaling = false".into());
    // The file that the command reads says otherwise, and leads to the same spool and listener.
    let other = relay.home().join("other.toml");
    let toml = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(&other, toml.replace("journaling = false", "journaling = true")).unwrap();
    let output = run(&["test-send", "--organization", "acme", "--config", other.to_str().unwrap()]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("was accepted and has no record"), "{complaint}");
    relay.terminate();
}

#[test]
fn listeners_with_tls_and_for_load_balancers_are_reached() {
    let archive = Sink::start();
    for (number, mode) in ["starttls", "required", "implicit"].iter().enumerate() {
        let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
        let (certificate, key) = authority.certify(&["relay.example.org"]).write(place.path(), "relay");
        let (mut relay, _next_hop) = street(&archive, |setup| {
            let proxy = if number == 1 { "proxy_protocol_from = [\"127.0.0.0/8\"]\n" } else { "" };
            setup.listener =
                format!("{proxy}[listener.tls]\nmode = {mode:?}\ncertificate = {certificate:?}\nkey = {key:?}\n");
        });
        let (status, said, complaint) = test_send(&relay, &[]);
        assert_eq!(status, Some(0), "{mode}: {said}{complaint}");
        let accepted = relay.wait_event("message.accepted", |_| true);
        let closed = relay.wait_event("session.closed", |event| event.text("session") == accepted.text("session"));
        assert_eq!(closed.text("tls"), "TLSv1.3", "{mode}");
        relay.finish_clean(1);
    }
}
