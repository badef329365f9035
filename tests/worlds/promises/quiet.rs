//! 5 *Quiet* and 7 *bounded*.

use super::super::history::{Arrival, Peer, Wrong};
use super::super::relay::ORGANIZATIONS;
use super::facts::{Facts, excuse};
use std::collections::BTreeMap;

/// Notifications about delays to one organization from one acceptance to the next, or in one life of the relay.
const HANDFUL: usize = 6;

pub(super) fn quiet(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for (organization, archive) in ORGANIZATIONS {
        let (archive, sender) =
            (format!("archive@{archive}.example"), format!("amazonjournaling@{organization}.awsapps.com"));
        for record in facts.records.iter().filter(|record| record.organization == organization) {
            if record.arrival.recipients != [archive.as_str()] || record.arrival.from != sender {
                complaints.push(format!("5 quiet: record {} went to {:?}", record.id, record.arrival.recipients));
            }
        }
        reports(facts, organization, complaints);
    }
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
