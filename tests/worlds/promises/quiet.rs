//! 5 *Quiet* and 7 *bounded*.

use super::super::history::{Arrival, Logged, Peer, Wrong};
use super::super::relay::{ALSO, ALSO_OF, ORGANIZATIONS};
use super::facts::{Facts, excuse};
use journal_relay::queue::OCTETS_LOST;
use std::collections::BTreeMap;

/// Notifications about delays to one organization from one acceptance to the next, or in one life of the relay.
const HANDFUL: usize = 6;

pub(super) fn quiet(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for (organization, archive) in ORGANIZATIONS.into_iter().chain([ALSO]) {
        let name = if organization == ALSO.0 { ALSO_OF } else { organization };
        let (archive, sender) = (format!("archive@{archive}.example"), format!("amazonjournaling@{name}.awsapps.com"));
        for record in facts.records.iter().filter(|record| record.organization == organization) {
            if record.arrival.recipients != [archive.as_str()] || record.arrival.from != sender {
                complaints.push(format!("5 quiet: record {} went to {:?}", record.id, record.arrival.recipients));
            }
        }
    }
    ORGANIZATIONS.iter().for_each(|(organization, _)| reports(facts, organization, complaints));
    let of = |arrival: &&Arrival| arrival.at == Peer::Reports;
    for arrival in facts.history.arrivals.iter().filter(of) {
        let known = ORGANIZATIONS.iter().any(|(name, _)| arrival.recipients == [format!("postmaster@{name}.example")]);
        if !known || !arrival.from.is_empty() {
            complaints.push(format!("5 quiet: a report from {:?} to {:?}", arrival.from, arrival.recipients));
        }
    }
}

/// A handful for each outage, and one for each record that failed; repeats have a reason.
fn reports(facts: &Facts<'_>, organization: &str, complaints: &mut Vec<String>) {
    let history = facts.history;
    let mailbox = format!("postmaster@{organization}.example");
    let mut distinct: BTreeMap<&[u8], &Arrival> = BTreeMap::new();
    for arrival in history.arrivals.iter().filter(|arrival| arrival.at == Peer::Reports && arrival.taken) {
        if arrival.recipients != [mailbox.as_str()] {
            continue;
        }
        if let Some(first) = distinct.insert(&arrival.octets, arrival)
            && excuse(history, first, arrival.when).is_none()
        {
            complaints.push(format!("5 quiet: a report of {} ms came again at {} ms", first.when, arrival.when));
        }
    }
    failures(facts, &distinct.keys().copied().collect::<Vec<_>>(), organization, complaints);
    let about = |event: &str| {
        history.log.iter().filter(|line| line.event == event && line.text("organization") == organization).count()
    };
    let lives = 1 + history
        .troubles
        .iter()
        .filter(|trouble| matches!(trouble.what, Wrong::Crash | Wrong::Power | Wrong::Restart))
        .count();
    let gaps = history.gaps.iter().filter(|gap| gap.organization == organization).count();
    let allowed = gaps + about("record.failed") + HANDFUL * (lives + about("record.acked"));
    if distinct.len() > allowed {
        complaints.push(format!("5 quiet: {} reports to {mailbox}, {allowed} would be enough", distinct.len()));
    }
}

/// Each failure is told once: as a line of a digest, or as a report of its own. Where the relay or its disk failed on the way
/// it may have been told without a line in the log, or told again.
fn failures(facts: &Facts<'_>, told: &[&[u8]], organization: &str, complaints: &mut Vec<String>) {
    let history = facts.history;
    let mut failed: BTreeMap<&str, u64> = BTreeMap::new();
    for line in history.log.iter().filter(|line| line.event == "record.failed") {
        // What failed for its octets may have been told by the bounce that it had them from.
        if line.text("organization") == organization && !line.text("reply").starts_with(OCTETS_LOST) {
            *failed.entry(line.text("record")).or_default() += 1;
        }
    }
    let forgetful = |wrong: &Wrong| matches!(wrong, Wrong::Crash | Wrong::Power | Wrong::Disk);
    let forgotten = history.troubles.iter().filter(|trouble| forgetful(&trouble.what)).count() as u64;
    let is_suppressed = history.log.iter().any(|line| line.event == "report.suppressed");
    for (record, failures) in failed {
        let times: u64 = told.iter().map(|report| names(report, record)).sum();
        // Nor is a failure told that the spool never took: the record goes on from where it was.
        let is_unsettled = |line: &Logged| line.event == "record.unsettled" && line.text("record") == record;
        let least = match (is_suppressed, forgotten) {
            (true, _) => 0,
            (false, 1..) if history.log.iter().any(is_unsettled) => 0,
            (false, 0) => failures,
            (false, _) => 1,
        };
        // An operator may have one tried again that has no octets: that is told as another failure.
        let is_lost = |line: &&Logged| {
            line.event == "record.failed"
                && line.text("record") == record
                && line.text("reply").starts_with(OCTETS_LOST)
        };
        let lost = history.log.iter().filter(is_lost).count() as u64;
        if !(least..=failures + lost + forgotten).contains(&times) {
            complaints.push(format!("5 quiet: record {record} failed {failures} times and was told {times} times"));
        }
    }
}

/// How often a report tells that a record has failed.
fn names(report: &[u8], record: &str) -> u64 {
    if memchr::memmem::find(report, b"\r\nAction: failed").is_none() {
        return 0;
    }
    let rows = memchr::memmem::find_iter(report, &format!("\r\n{record},")).count();
    let is_named = memchr::memmem::find(report, record.as_bytes()).is_some();
    if rows > 0 { rows as u64 } else { u64::from(is_named) }
}

/// Nothing is left over when the relay has ended.
pub(super) fn bounded(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    let history = facts.history;
    for line in history.log.iter().filter(|line| line.when >= history.ends_from) {
        if line.event == "daemon.draining" && !line.text("open").is_empty() {
            complaints.push(format!("7 bounded: the drain left work open: {}", line.text("open")));
        }
        if line.event == "spool.pressure" {
            complaints.push(format!("7 bounded: {}", line.text("message")));
        }
    }
}
