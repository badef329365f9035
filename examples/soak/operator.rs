//! What an operator does beside the running daemon: looks at entries, holds and releases an organization's, tries all
//! again.

use crate::common::Record;
use crate::common::trial::{Daemon, Kind, Ledger};
use std::process::Output;

/// `queue retry --all`.
pub fn retry_all(daemon: &Daemon, ledger: &Ledger) {
    done(&daemon.command(&["queue", "retry", "--all"]), "queue retry --all", ledger);
}

/// `queue hold` or `release` of an organization.
pub fn steer(daemon: &Daemon, verb: &str, organization: &str, ledger: &Ledger) {
    done(&daemon.command(&["queue", verb, "--organization", organization]), verb, ledger);
}

/// The newest entry's record is one, and its original is what a client sent.
pub fn look(daemon: &Daemon, ledger: &Ledger) {
    let Some(entry) = daemon.queue().pop() else { return };
    let id = entry["id"].as_str().unwrap_or_default();
    let output = daemon.command(&["queue", "show", id, "--record"]);
    if !output.status.success() {
        // The archive may have taken it meanwhile.
        return;
    }
    let known = Record::try_read(&output.stdout).map(|record| ledger.knows(&record.original));
    if known != Ok(true) {
        ledger.violation(Kind::Altered, format!("queue show {id} --record: {known:?}"));
    }
}

/// A command that an entry's own life may overtake, but that must not break.
fn done(output: &Output, what: &str, ledger: &Ledger) {
    if !matches!(output.status.code(), Some(0 | 1)) {
        ledger.violation(Kind::Wrong, format!("{what}: {output:?}"));
    }
}
