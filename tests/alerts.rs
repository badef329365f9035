//! The alerts and the dashboard ask for metrics that there are, and promtool finds that each alert fires when it should.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test may stop at once"
)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// The contract's metrics, as they are exposed; of a histogram its base.
const METRICS: [&str; 17] = [
    "journal_relay_messages_total",
    "journal_relay_records_total",
    "journal_relay_records_waiting",
    "journal_relay_oldest_waiting_seconds",
    "journal_relay_bypassed_total",
    "journal_relay_reports_total",
    "journal_relay_spool_bytes",
    "journal_relay_spool_free_bytes",
    "journal_relay_spool_commit_seconds",
    "journal_relay_sessions",
    "journal_relay_next_hop_up",
    "journal_relay_archive_up",
    "journal_relay_ready",
    "journal_relay_certificate_expiry_timestamp_seconds",
    "journal_relay_delivery_seconds",
    "journal_relay_build_info",
    "journal_relay_config_generation",
];

/// Every name with the project's prefix, without what makes it one of a histogram's series.
fn named(text: &str) -> BTreeSet<String> {
    let word =
        |rest: &str| rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
    let name = |name: String| match name.trim_end_matches("_bucket") {
        base if METRICS.contains(&base) => base.to_owned(),
        _ => name,
    };
    text.match_indices("journal_relay_").map(|(place, _)| name(word(&text[place..]))).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are_and_the_dashboard_for_all() {
    let known: BTreeSet<_> = METRICS.iter().map(|name| (*name).to_owned()).collect();
    for file in ["config/prometheus-rules.yml", "config/prometheus-rules.test.yml", "config/grafana-dashboard.json"] {
        let found = named(&fs::read_to_string(file).unwrap());
        assert!(found.len() > 5 && found.is_subset(&known), "{file}: {:?}", found.difference(&known));
    }
    let text = fs::read_to_string("config/grafana-dashboard.json").unwrap();
    assert_eq!(named(&text), known);
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dashboard["uid"], "journal-relay");
}

#[test]
fn every_metric_of_the_contract_is_registered_by_the_program() {
    let sources =
        ["src/telemetry/metrics.rs", "src/admin/figures.rs"].map(|file| fs::read_to_string(file).unwrap()).concat();
    for metric in METRICS {
        // The prefix and a counter's ending are the library's.
        let registered = metric.trim_start_matches("journal_relay_").trim_end_matches("_total");
        assert!(sources.contains(&format!("\"{registered}\"")), "nobody registers {metric}");
    }
}

#[test]
fn promtool_finds_that_each_alert_fires_when_it_should() {
    for arguments in
        [["check", "rules", "config/prometheus-rules.yml"], ["test", "rules", "config/prometheus-rules.test.yml"]]
    {
        match Command::new("promtool").args(arguments).output() {
            Ok(said) => {
                assert!(said.status.success(), "{}", String::from_utf8_lossy(&[said.stdout, said.stderr].concat()))
            }
            Err(error) => {
                assert!(
                    std::env::var_os("JOURNAL_RELAY_PEERS").is_none(),
                    "JOURNAL_RELAY_PEERS=required, but promtool: {error}"
                );
                println!("skipped: promtool: {error}");
            }
        }
    }
    // Each alert has a test that expects it.
    let (rules, tests) = (
        fs::read_to_string("config/prometheus-rules.yml").unwrap(),
        fs::read_to_string("config/prometheus-rules.test.yml").unwrap(),
    );
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("- alertname: {alert}\n")), "{alert} is expected by no test");
    }
}
