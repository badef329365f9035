//! 1 *Journaled before released* and 2 *kept*.

use super::facts::Facts;
use super::{gaps, operator, returns};
use std::collections::BTreeSet;

/// Everything that the next hop has taken, its reply lost or not, is named in a record of each organization concerned.
pub(super) fn journaled_before_released(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for arrival in facts.at_next_hop().filter(|arrival| arrival.taken) {
        // What it is when it is no mail is said elsewhere.
        let Some((number, mail)) = facts.relayed(arrival) else { continue };
        for organization in facts.concerned(mail, &arrival.recipients) {
            let named: BTreeSet<&str> = facts
                .counted()
                .filter(|record| record.organization == organization && record.identity == mail.identity)
                .flat_map(|record| record.recipients.iter().map(String::as_str))
                .collect();
            let missing: Vec<_> =
                arrival.recipients.iter().filter(|recipient| !named.contains(recipient.as_str())).collect();
            if !missing.is_empty() && !gaps::is_bypassed(facts, arrival, organization) {
                complaints.push(format!(
                    "1 journaled: mail {number}, which the next hop took at {} ms ({}), has no record of {organization} \
                     that names {missing:?}; named are {named:?}",
                    arrival.when, arrival.reply
                ));
            }
        }
    }
}

/// Every record ends with an archive's acceptance, and none is left over.
pub(super) fn kept(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    let history = facts.history;
    let taken: BTreeSet<&str> = facts.taken().map(|record| record.id.as_str()).collect();
    let (mut acked, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for entry in &history.spool {
        match entry.state.as_str() {
            "acked" => {
                acked.insert(entry.id.as_str());
                if !taken.contains(entry.id.as_str()) {
                    complaints.push(format!("2 kept: record {} is acked, and no archive took it", entry.id));
                }
            }
            "discarded" => {
                gone.insert(entry.id.as_str());
                complaints.extend(operator::unwished(history, entry));
            }
            state => complaints.push(format!("2 kept: record {} is {state} in the end", entry.id)),
        }
    }
    for line in history.log.iter().filter(|line| line.event == "record.committed") {
        if !acked.contains(line.text("record")) && !gone.contains(line.text("record")) {
            complaints.push(format!(
                "2 kept: record {} was committed at {} ms and is not in the spool's history",
                line.text("record"),
                line.when
            ));
        }
    }
    for id in taken.iter().filter(|id| !acked.contains(**id) && !gone.contains(**id)) {
        complaints
            .push(format!("2 kept: record {id} was taken by an archive, and the spool does not know it as acked"));
    }
    for line in history.log.iter().filter(|line| line.event == "record.failed") {
        if !is_refusal(facts, line.text("reply")) && !returns::explains(history, line) {
            complaints.push(format!(
                "2 kept: record {} failed at {} ms without an archive's refusal: {}",
                line.text("record"),
                line.when,
                line.text("reply")
            ));
        }
    }
    if history.recovered != (0, 0) {
        complaints.push(format!("2 kept: after the last drain the spool had {:?} records, unknown", history.recovered));
    }
}

/// Whether an archive said so, and it is 5yz.
fn is_refusal(facts: &Facts<'_>, reply: &str) -> bool {
    let said = super::honest::number_of(reply).and_then(|number| facts.history.said.get(&number));
    said.is_some_and(|said| said.at.is_archive() && said.text == reply && reply.starts_with('5'))
}
