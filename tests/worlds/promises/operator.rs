//! 2 *Kept*, where an operator has a hand in it: what is held stays, what he has given up is gone, with his reason, and
//! nothing else is.

use super::super::history::{Entry, History, Operated, Wrong};
use super::super::operator::Wish;
use super::facts::{Facts, Received, excuse};
use super::returns;

/// How long octets that the relay has sent may be on their way, when nothing is wrong with the line.
const ON_THE_WAY: u64 = 1_000;
/// How long before its octets arrive an attempt may have been given up, when something is.
const STALE: u64 = 20 * 60 * 1_000;

/// What an operator was told has been done is so.
pub(super) fn obeyed(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for operated in &facts.history.operated {
        let Some(answered) = operated.answered else { continue };
        match operated.wish {
            Wish::Hold if operated.state == "held" => {
                let until = released(facts.history, operated);
                if let Some(record) = sent(facts, operated, answered, until) {
                    complaints.push(format!(
                        "2 kept: record {} was held at {answered} ms until {until} ms, and reached its archive at {} ms",
                        operated.id, record.arrival.when
                    ));
                }
            }
            Wish::Discard => gone(facts, operated, answered, complaints),
            _ => {}
        }
    }
}

/// When somebody asked for it to go on.
fn released(history: &History, held: &Operated) -> u64 {
    let later = history.operated.iter().find(|other| {
        let goes_on = matches!(other.wish, Wish::Release | Wish::Discard) && other.state != "refused";
        other.id == held.id && other.asked >= held.asked && goes_on
    });
    later.map_or(u64::MAX, |other| other.asked)
}

/// Whether it was sent in that time.
fn sent<'f>(facts: &'f Facts<'_>, operated: &Operated, from: u64, until: u64) -> Option<&'f Received<'f>> {
    facts.records.iter().find(|record| {
        let when = record.arrival.when;
        // Octets of an attempt that was over already may still have been on a line where something was wrong.
        let is_stale = facts.history.troubles.iter().any(|trouble| {
            let overlaps = trouble.from <= when && trouble.until.saturating_add(STALE) >= when;
            matches!(trouble.what, Wrong::Line(peer) if peer == record.arrival.at) && overlaps
        });
        record.id == operated.id && when > from + ON_THE_WAY && when < until && !is_stale
    })
}

fn gone(facts: &Facts<'_>, operated: &Operated, answered: u64, complaints: &mut Vec<String>) {
    let id = &operated.id;
    let state = facts.history.spool.iter().find(|entry| entry.id == *id).map_or("away", |entry| entry.state.as_str());
    if state != "discarded" {
        complaints.push(format!("2 kept: record {id} was discarded at {answered} ms, and is {state} in the end"));
    }
    if let Some(record) = sent(facts, operated, answered, u64::MAX) {
        let when = record.arrival.when;
        complaints.push(format!("2 kept: record {id} was discarded at {answered} ms, and sent at {when} ms"));
    }
    // What an archive has taken, and said so, nobody gives up.
    let known = facts.taken().find(|record| {
        let is_before = record.arrival.when < operated.asked;
        let is_there = excuse(facts.history, record.arrival, operated.asked).is_none();
        record.id == *id
            && is_before
            && is_there
            && !returns::came_back(facts.history, id, record.arrival.when, answered)
    });
    if let Some(record) = known {
        let when = record.arrival.when;
        complaints.push(format!("2 kept: record {id}, taken at {when} ms, was discarded at {answered} ms"));
    }
}

/// A discarded record nobody asked to discard, or for another reason.
pub(super) fn unwished(history: &History, entry: &Entry) -> Option<String> {
    let reasons: Vec<&str> = history
        .operated
        .iter()
        .filter(|operated| operated.wish == Wish::Discard && operated.id == entry.id && operated.state != "refused")
        .map(|operated| operated.reason.as_str())
        .collect();
    let (id, reason) = (&entry.id, &entry.shown.reason);
    (!reasons.contains(&reason.as_str()))
        .then(|| format!("2 kept: record {id} is discarded for {reason:?}; asked for was {reasons:?}"))
}
