//! What load balancers and Prometheus see: /livez, /readyz and /metrics of the real program.

use crate::common::{Client, Relay, Setup, Sink, free_port};
use crate::message;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Status and body.
fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, "GET", path)
}

/// A daemon with `[admin]`, and where that is.
pub fn start(mut setup: Setup) -> (Relay, SocketAddr) {
    setup.more = "\n[admin]\naddress = \"127.0.0.1:0\"\n".into();
    let relay = setup.start();
    let started = relay.wait_event("listener.started", |event| event.text("listener") == "admin");
    (relay, started.text("address").parse().unwrap())
}

/// The value of a series, written as in the exposition.
pub fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// The rules of OpenMetrics 1.0 that a careless exposition breaks: every family once and whole, samples under its name with
/// the suffixes of its type, every series once, # EOF last.
fn check_exposition(text: &str) {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, more) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            if name != family {
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                name.clone_into(&mut family);
            }
            match what {
                "TYPE" => more.clone_into(&mut kind),
                "HELP" | "UNIT" => {}
                other => panic!("{other} in {line}"),
            }
            continue;
        }
        let (name_and_labels, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        number.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(series.insert(name_and_labels.to_owned()), "{name_and_labels} comes twice");
        let name = name_and_labels.split('{').next().unwrap();
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let allowed: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line} is no sample of a {kind}");
    }
}

#[test]
fn health_and_metrics_are_told_over_http() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let (mut relay, admin) = start(Setup::new(&next_hop, &archive));
    assert_eq!(get(admin, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/readyz"), (200, "{\"ready\":true,\"reasons\":[]}\n".to_owned()));
    assert_eq!(request(admin, "POST", "/livez").0, 405);
    assert_eq!(request(admin, "HEAD", "/livez"), (200, String::new()));
    let (status, text) = get(admin, "/");
    assert_eq!(status, 404);
    assert!(["/livez", "/readyz", "/metrics"].iter().all(|path| text.contains(path)), "{text}");
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("one")).starts("250");
    relay.wait_events("record.acked", 1);
    let (status, metrics) = get(admin, "/metrics");
    assert_eq!(status, 200);
    check_exposition(&metrics);
    for (series, expected) in [
        ("journal_relay_messages_total{listener=\"incoming\",direction=\"outgoing\",outcome=\"accepted\"}", 1.0),
        ("journal_relay_records_total{organization=\"acme\",outcome=\"committed\"}", 1.0),
        ("journal_relay_records_total{organization=\"acme\",outcome=\"acked\"}", 1.0),
        ("journal_relay_sessions{listener=\"incoming\"}", 1.0),
        ("journal_relay_delivery_seconds_count", 1.0),
        ("journal_relay_config_generation", 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series} in\n{metrics}");
    }
    for name in ["spool_bytes", "spool_free_bytes", "spool_commit_seconds_count", "build_info{version="] {
        assert!(metrics.lines().any(|line| line.starts_with(&format!("journal_relay_{name}"))), "{name} in\n{metrics}");
    }
    let up = |line: &&str| line.starts_with("journal_relay_next_hop_up{next_hop=\"smtp://") && line.ends_with(" 1");
    assert!(metrics.lines().any(|line| up(&line)), "{metrics}");
    assert!(metrics.contains("journal_relay_archive_up{route="), "{metrics}");
    drop(client);
    relay.finish_clean(1);
}

#[test]
fn records_that_wait_are_counted_and_a_silent_next_hop_is_no_readiness() {
    let (mut next_hop, mut archive) = (Sink::start(), Sink::start());
    archive.down();
    let (mut relay, admin) = start(Setup::new(&next_hop, &archive));
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("waits")).starts("250");
    drop(client);
    relay.wait_events("record.deferred", 1);
    let (_, metrics) = get(admin, "/metrics");
    check_exposition(&metrics);
    assert!(metrics.contains("journal_relay_records_waiting{organization=\"acme\",state="), "{metrics}");
    assert!(value(&metrics, "journal_relay_oldest_waiting_seconds{organization=\"acme\"}").is_some(), "{metrics}");
    next_hop.down();
    relay.poll("a readiness that names the next hop", || {
        let (status, text) = get(admin, "/readyz");
        (status == 503 && text.contains("no next hop answers")).then_some(())
    });
    next_hop.up();
    archive.up();
    relay.poll("readiness", || (get(admin, "/readyz").0 == 200).then_some(()));
    relay.finish_clean(1);
}

#[test]
fn a_changed_admin_address_needs_a_restart_and_a_taken_one_is_an_error() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    setup.more = format!("\n[admin]\naddress = \"{address}\"\n");
    let mut relay = Relay::prepare(setup.clone(), tempfile::tempdir().unwrap());
    let refused = relay.command(&["run"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains(&address.to_string()), "{said}");
    drop(taken);
    relay.launch();
    setup.more = format!("\n[admin]\naddress = \"{}\"\n", free_port(Ipv4Addr::LOCALHOST));
    relay.configure(&setup.toml(&relay.spool()));
    relay.ask_to_reload();
    let rejected = relay.wait_event("config.rejected", |_| true);
    assert!(rejected.text("error").contains("[admin]"), "{rejected:?}");
    relay.finish_clean(0);
}
