//! `journal-relay status`: what the daemon says over its control socket, also without `[admin]`; and what can be said without
//! a daemon.

use crate::admin::start;
use crate::common::{Client, Relay, Setup, Sink, json_lines};
use crate::message;
use serde_json::Value;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

fn lines(relay: &Relay) -> (Option<i32>, Vec<Value>) {
    let output = relay.command(&["status", "--json"]);
    (output.status.code(), json_lines(&output.stdout))
}

fn of<'a>(lines: &'a [Value], what: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["what"] == what).collect()
}

#[test]
fn the_daemon_tells_its_state_over_a_socket_of_its_owners_without_admin() {
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive).and("globex", &["globex.example"], &archive);
    setup.organizations[1].more = "journaling = false\nswitch_reason = \"a move\"".into();
    let mut relay = setup.start();
    let socket = relay.poll("the control socket", || std::fs::metadata(relay.spool().join("control.sock")).ok());
    assert!(socket.file_type().is_socket() && socket.permissions().mode() & 0o777 == 0o600, "{socket:?}");
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("one")).starts("250");
    relay.wait_events("record.acked", 1);
    archive.down();
    client.mail("alice@example.org", &["bob@example.net"], &message("two")).starts("250");
    relay.wait_event("route.state", |event| event.text("state") == "down");
    // The switch that was off at the start is noted behind the start.
    let found = relay.poll("the gap of the switch", || {
        let (status, found) = lines(&relay);
        assert_eq!(status, Some(0));
        (!of(&found, "gap").is_empty()).then_some(found)
    });
    let daemon = of(&found, "daemon")[0];
    assert_eq!((&daemon["running"], &daemon["ready"]), (&true.into(), &true.into()), "{daemon}");
    assert_eq!(daemon["process"], relay.pid());
    let listener = of(&found, "listener")[0];
    assert_eq!((&listener["name"], &listener["accepts"]), (&"incoming".into(), &true.into()), "{listener}");
    assert_eq!((&listener["sessions"], &listener["next_hop_state"]), (&1.into(), &"up".into()), "{listener}");
    let [route] = of(&found, "archive").try_into().unwrap();
    assert_eq!(route["state"], "down", "{route}");
    assert!(route["next_probe"].is_string() && route["last_reply"].is_string(), "{route}");
    assert_eq!(route["used_for"][0], "records of acme");
    let switches: Vec<_> = of(&found, "organization").iter().map(|of| of["journaling"] == true).collect();
    assert_eq!(switches, [true, false]);
    let [queue] = of(&found, "queue").try_into().unwrap();
    assert_eq!((&queue["organization"], &queue["count"]), (&"acme".into(), &1.into()), "{queue}");
    let [gap] = of(&found, "gap").try_into().unwrap();
    assert_eq!((&gap["kind"], &gap["organization"], &gap["until"]), (&"switch".into(), &"globex".into(), &Value::Null));
    assert!(of(&found, "failure").iter().any(|failure| failure["event"] == "route.state"), "{found:#?}");
    let table = String::from_utf8(relay.command(&["status"]).stdout).unwrap();
    for expected in
        ["state          ready", "LISTENER", "ORGANIZATION", "ROUTE", "GAP SINCE", "still off", "LAST FAILURES"]
    {
        assert!(table.contains(expected), "{expected:?} in\n{table}");
    }
    assert!(!table.contains('\u{1b}'), "no colour where there is no terminal");
    drop(client);
    archive.up();
    relay.finish_clean(2);
}

#[test]
fn without_a_daemon_status_says_so_and_what_the_spool_has() {
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    archive.down();
    let mut relay = Setup::new(&next_hop, &archive).start();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("waits")).starts("250");
    relay.wait_events("record.deferred", 1);
    // Its socket is left behind, and so is what it had not finished.
    relay.kill9();
    let (status, found) = lines(&relay);
    assert_eq!(status, Some(1));
    assert_eq!((&of(&found, "daemon")[0]["running"], &of(&found, "queue")[0]["count"]), (&false.into(), &1.into()));
    assert_eq!(of(&found, "archive")[0]["state"], "unknown");
    let output = relay.command(&["status"]);
    let (told, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("not running") && complaint.contains("no daemon runs"), "{told}{complaint}");
    // Damaged, it says no more, and the configuration what it can.
    let _ = std::fs::remove_file(relay.spool().join("spool.sqlite-wal"));
    std::fs::write(relay.spool().join("spool.sqlite"), [b'x'; 8_192]).unwrap();
    let output = relay.command(&["status"]);
    let (told, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("not running") && complaint.contains("not a database"), "{told}{complaint}");
    relay.configure("nonsense");
    assert_eq!(relay.command(&["status"]).status.code(), Some(78));
}

#[test]
fn a_reader_that_goes_away_is_no_failure_of_what_shows_a_large_message() {
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    let (next_hop, mut archive) = (Sink::start(), Sink::start());
    archive.down();
    let setup = Setup::new(&next_hop, &archive);
    let program = setup.program.clone();
    let mut relay = setup.start();
    let large = [message("large"), "a line of text\r\n".repeat(100_000).into_bytes()].concat();
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &large).starts("250");
    relay.wait_events("record.deferred", 1);
    let id = relay.queue()[0]["id"].as_str().unwrap().to_owned();
    for part in ["--original", "--record"] {
        let mut command = Command::new(&program);
        command.args(["queue", "show", &id, part, "--config"]).arg(relay.config());
        let mut shown = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        shown.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = shown.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{part}");
    }
    archive.up();
    relay.finish_clean(1);
}

#[test]
fn a_spool_that_is_not_there_yet_is_no_error_of_its_own() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let relay = Relay::prepare(Setup::new(&next_hop, &archive), tempfile::tempdir().unwrap());
    let (status, found) = lines(&relay);
    assert_eq!((status, of(&found, "listener").len(), of(&found, "queue").len()), (Some(1), 1, 0));
    assert!(!relay.spool().exists(), "who asks makes nothing");
}

#[test]
fn a_token_is_asked_for_at_admin_and_not_on_the_control_socket() {
    use std::io::{Read as _, Write as _};
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let mut setup = Setup::new(&next_hop, &archive);
    setup.more = format!("\n[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = {file:?}\n");
    let mut relay = setup.start();
    let address = relay.wait_event("listener.started", |event| event.text("listener") == "admin");
    let ask = |token: &str| {
        let mut stream = std::net::TcpStream::connect(address.text("address")).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((ask("0123456789abcdef"), ask("0123456789abcdeX")), ("200".into(), "401".into()));
    assert_eq!(lines(&relay).0, Some(0));
    // A new one holds from the reload on.
    std::fs::write(&file, "fedcba9876543210\n").unwrap();
    relay.ask_to_reload();
    relay.wait_events("config.reloaded", 1);
    assert_eq!((ask("0123456789abcdef"), ask("fedcba9876543210")), ("401".into(), "200".into()));
    relay.finish_clean(0);
}

#[test]
fn the_status_page_is_served_by_the_real_program() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let (mut relay, admin) = start(Setup::new(&next_hop, &archive));
    let (status, html) = crate::admin::get(admin, "/");
    assert_eq!(status, 200);
    for expected in ["<!doctype html>", "Organizations and what waits", "<svg", "records of acme", "incoming"] {
        assert!(html.contains(expected), "{expected:?} in\n{html}");
    }
    assert!(!html.contains("<script"), "{html}");
    let (_, lines) = crate::admin::get(admin, "/status");
    assert!(json_lines(lines.as_bytes()).iter().any(|line| line["what"] == "daemon"), "{lines}");
    relay.finish_clean(0);
}
