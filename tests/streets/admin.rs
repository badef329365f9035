//! What load balancers and Prometheus see: /livez, /readyz and /metrics of the real program.

use crate::certificates::lasting;
use crate::common::{Client, Relay, Setup, Sink, free_port};
use crate::message;
use std::collections::{BTreeMap, BTreeSet};
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
    let (status, text) = get(admin, "/nowhere");
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

/// Name, type and labels of every metric in docs/STATUS.md, and in the contract of the relay.
fn promised() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/STATUS.md")).unwrap();
    let words = |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = page.lines().filter(|line| line.starts_with("| `journal_relay_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (words(cells[1]).pop_first().unwrap(), (cells[2].to_owned(), words(cells[3])))
    })
    .collect()
}

/// The same of an exposition.
fn exposed(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            family = (name.to_owned(), kind.to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        let names = labels.split(',').filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name.to_owned());
        let names: BTreeSet<String> = names.filter(|name| name != "le").collect();
        let total = if family.1 == "counter" { "_total" } else { "" };
        let entry = found.entry(format!("{}{total}", family.0)).or_insert_with(|| (family.1.clone(), names.clone()));
        assert_eq!(entry.1, names, "every series of a metric has the same labels: {line}");
    }
    found
}

#[test]
fn every_promised_metric_is_there_with_its_labels_and_no_other() {
    let names = "messages_total{listener,direction,outcome} records_total{organization,outcome} \
                 records_waiting{organization,state} oldest_waiting_seconds{organization} bypassed_total{organization} \
                 reports_total{organization,kind} spool_bytes spool_free_bytes spool_commit_seconds sessions{listener} \
                 next_hop_up{next_hop} archive_up{route} ready certificate_expiry_timestamp_seconds{listener} \
                 delivery_seconds build_info{version} config_generation";
    let contract: BTreeMap<String, BTreeSet<String>> = names
        .split_whitespace()
        .map(|series| {
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let labels = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned);
            (format!("journal_relay_{name}"), labels.collect())
        })
        .collect();
    let page: BTreeMap<_, _> = promised().into_iter().map(|(name, (_, labels))| (name, labels)).collect();
    assert_eq!(page, contract);
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let place = tempfile::tempdir().unwrap();
    let (mut relay, admin) = start(lasting(90, place.path(), &next_hop, &archive));
    let (_, before) = get(admin, "/metrics");
    for series in [
        "journal_relay_bypassed_total{organization=\"acme\"}",
        "journal_relay_records_total{organization=\"acme\",outcome=\"failed\"}",
        "journal_relay_records_waiting{organization=\"acme\",state=\"failed\"}",
        "journal_relay_oldest_waiting_seconds{organization=\"acme\"}",
        "journal_relay_reports_total{organization=\"acme\",kind=\"delayed\"}",
        "journal_relay_messages_total{listener=\"incoming\",direction=\"incoming\",outcome=\"deferred\"}",
        "journal_relay_sessions{listener=\"incoming\"}",
    ] {
        assert_eq!(value(&before, series), Some(0.0), "{series} is there from the start, in\n{before}");
    }
    Client::ehlo(relay.address()).mail("alice@example.org", &["bob@example.net"], &message("one")).starts("250");
    relay.wait_events("record.acked", 1);
    let (_, metrics) = get(admin, "/metrics");
    check_exposition(&metrics);
    assert_eq!(exposed(&metrics), promised());
    relay.finish_clean(1);
}

#[test]
fn a_message_that_gets_no_record_by_rule_is_counted_as_exempt() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive).and("globex", &["globex.example"], &archive);
    setup.organizations[0].more = "scope = { exclude = [\"alice@example.org\"] }".into();
    setup.organizations[1].more = "journaling = false".into();
    let (mut relay, admin) = start(setup);
    let mut client = Client::ehlo(relay.address());
    client.mail("alice@example.org", &["bob@example.net"], &message("excluded")).starts("250");
    client.mail("carol@example.net", &["hank@globex.example"], &message("switched off")).starts("250");
    client.mail("bea@example.org", &["bob@example.net"], &message("journaled")).starts("250");
    drop(client);
    relay.wait_events("record.acked", 1);
    let (_, metrics) = get(admin, "/metrics");
    let count = |organization: &str, outcome: &str| {
        let series = format!("journal_relay_records_total{{organization=\"{organization}\",outcome=\"{outcome}\"}}");
        value(&metrics, &series)
    };
    assert_eq!((count("acme", "exempt"), count("globex", "exempt")), (Some(1.0), Some(1.0)), "{metrics}");
    assert_eq!((count("acme", "committed"), count("globex", "committed")), (Some(1.0), Some(0.0)), "{metrics}");
    assert_eq!(relay.events("record.exempt").len(), 2);
    relay.finish_clean(1);
    assert_eq!(next_hop.count(), 3);
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
