//! 1 *Journaled*, where the operator has given it up (`bypass`): what has no record is named in the log and belongs to one noted
//! gap, unless the relay died before it could be.

use super::super::history::{Arrival, Logged, Trouble, Wrong};
use super::super::relay::{ALSO, ALSO_OF};
use super::facts::Facts;
use std::collections::BTreeMap;

/// Between the next hop's final dot and the line in the log, beside the time on the line.
const SAYING: u64 = 3_000;
/// How long the final dot may be on the line, while the relay dies.
const ON_ITS_WAY: u64 = 1_000;
/// For the reply to the final dot.
const LONGEST_WAIT: u64 = 600_000;
/// A drain's grace, and what the spool is given behind it.
const DRAIN: u64 = 40_000;

/// Whether a message may lack its record: the log says so, or the relay died before it could.
pub(super) fn is_bypassed(facts: &Facts<'_>, arrival: &Arrival, organization: &str) -> bool {
    let queue_id = facts.queue_id(arrival);
    // One gap is told for all archives.
    let organization = if organization == ALSO.0 { ALSO_OF } else { organization };
    facts.history.bypass
        && (lines(facts).any(|line| line.text("organization") == organization && line.text("queue_id") == queue_id)
            || facts.history.troubles.iter().any(|trouble| {
                let in_time = arrival.when.saturating_sub(ON_ITS_WAY)..=heard_at(facts, arrival).saturating_add(SAYING);
                matches!(trouble.what, Wrong::Crash | Wrong::Power) && in_time.contains(&trouble.from)
            }))
}

/// When the relay knows the reply, or that it is lost, at the latest: where the line is broken it waits, and hears neither.
fn heard_at(facts: &Facts<'_>, arrival: &Arrival) -> u64 {
    let replied_at = arrival.replied_at.min(arrival.when + LONGEST_WAIT);
    let keeps_it = |trouble: &&Trouble| {
        matches!(trouble.what, Wrong::Line(peer) if peer == arrival.at)
            && trouble.from <= replied_at.saturating_add(SAYING)
            && trouble.until >= arrival.when
    };
    let mended = facts.history.troubles.iter().filter(keeps_it).map(|trouble| trouble.until).max();
    mended.unwrap_or_default().max(replied_at)
}

fn lines<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = &'f Logged> {
    facts.history.log.iter().filter(|line| line.event == "record.bypassed")
}

/// Whether the relay could not tell which reply was the one to the message's end: QUIT had something else than its 221 behind
/// it, as when a reply too many came before.
fn is_in_doubt(facts: &Facts<'_>, queue_id: &str) -> bool {
    let too_many = |line: &&Logged| line.text("cause").starts_with("answered more often than it was asked");
    facts
        .history
        .log
        .iter()
        .filter(too_many)
        .any(|line| line.event == "next_hop.failed" && line.text("queue_id") == queue_id)
}

pub(super) fn gaps(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    let history = facts.history;
    // By organization and queue id: when it was told, and in how many gaps it is.
    let mut told: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for line in lines(facts) {
        let (organization, queue_id) = (line.text("organization"), line.text("queue_id"));
        if told.insert((organization, queue_id), (line.when, 0)).is_some() || !history.bypass {
            complaints
                .push(format!("1 journaled: {organization} was told again or wrongly of {queue_id} without a record"));
        }
        let refused = |arrival: &Arrival| !arrival.taken && arrival.replied && facts.queue_id(arrival) == queue_id;
        if !is_in_doubt(facts, queue_id) && facts.at_next_hop().any(refused) {
            complaints.push(format!("6 honest: {queue_id} was refused, and counts as relayed without a record"));
        }
    }
    for gap in &history.gaps {
        // A world has fewer messages than a gap names.
        if gap.messages != gap.queue_ids.len() as u64 {
            complaints.push(format!(
                "6 honest: a gap of {} counts {} and names {:?}",
                gap.organization, gap.messages, gap.queue_ids
            ));
        }
        for queue_id in &gap.queue_ids {
            match told.get_mut(&(gap.organization.as_str(), queue_id.as_str())) {
                Some((_, gaps)) => *gaps += 1,
                None => complaints
                    .push(format!("6 honest: a gap of {} names {queue_id}, which no log does", gap.organization)),
            }
        }
    }
    for ((organization, queue_id), (when, gaps)) in told {
        let may_be_lost = history.troubles.iter().any(|trouble| match trouble.what {
            Wrong::Crash | Wrong::Power => trouble.from >= when,
            // A drain on a spool that takes nothing, and what was told before its end.
            Wrong::Restart => trouble.from + DRAIN >= when && facts.disk_fails_at(trouble.from),
            _ => false,
        });
        if gaps > 1 || (gaps == 0 && !may_be_lost) {
            complaints.push(format!(
                "1 journaled: {queue_id} of {organization}, without a record at {when} ms, is in {gaps} gaps"
            ));
        }
    }
}
