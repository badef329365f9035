//! The log of a process: what stands on its stderr once the log is started.
//!
//! The process is this test program itself, asked for the one test that speaks.

use journal_relay::config::{Log, LogAddresses, LogFormat};
use journal_relay::mail::OsEntropy;
use journal_relay::telemetry::{self, HashKey};
use std::process::Command;
use tracing::Level;

/// Set for the process that speaks.
const SPEAK: &str = "TELEMETRY_TEST_SPEAK";

#[test]
fn stderr_holds_one_json_object_a_line_and_a_second_start_changes_the_first() {
    if std::env::var_os(SPEAK).is_some() {
        return speak();
    }
    let name = "stderr_holds_one_json_object_a_line_and_a_second_start_changes_the_first";
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", "--nocapture", name]).env(SPEAK, "1").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let objects: Vec<serde_json::Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<_> = objects.iter().map(|object| (&object["event"], &object["sender"])).collect();
    assert_eq!(
        serde_json::json!(said),
        serde_json::json!([["first", "u@example.org"], ["second", "*@example.org"], ["third", "*@example.org"]])
    );
}

/// Events of this program count as a library's, so they give themselves the target of ours.
fn speak() {
    let log = Log { format: LogFormat::Json, level: Level::INFO, addresses: LogAddresses::Full };
    let key = HashKey::draw(&OsEntropy);
    telemetry::start(&log, &key);
    tracing::info!(target: "journal_relay", event = "first", sender = %"u@example.org");
    tracing::debug!(target: "journal_relay", event = "unheard");
    let again = telemetry::start(&Log { level: Level::DEBUG, addresses: LogAddresses::Domain, ..log }, &key);
    tracing::debug!(target: "journal_relay", event = "second", sender = %"u@example.org");
    again.reconfigure(&Log { level: Level::WARN, addresses: LogAddresses::Domain, ..log });
    tracing::info!(target: "journal_relay", event = "unheard");
    tracing::warn!(target: "journal_relay", event = "third", sender = %"u@example.org");
}
