//! 3 *Once*: one record per message and organization, supplements for later recipients alone, repeats with a reason.

use super::super::relay::{ALSO, ALSO_OF};
use super::facts::{Facts, Named, Received, excuse};
use super::returns;
use std::collections::{BTreeMap, BTreeSet};

/// How long a verdict may not be durable yet.
const DECIDING: u64 = 3_000;

pub(super) fn once(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    repeats(facts, complaints);
    let mut groups: BTreeMap<(&str, usize), BTreeMap<&str, &Named>> = BTreeMap::new();
    for record in facts.counted() {
        groups.entry((&record.organization, record.identity)).or_default().insert(&record.id, record);
    }
    organizations_apart(facts, complaints);
    for ((organization, identity), records) in &groups {
        let records: Vec<_> = records.values().copied().collect();
        share(facts, organization, *identity, &records, complaints);
        possible(facts, organization, *identity, &records, complaints);
    }
}

/// Records of two organizations have no Message-ID in common; the copies for an organization's second archive have the first's.
fn organizations_apart(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    let mut of: BTreeMap<&str, &str> = BTreeMap::new();
    for record in &facts.records {
        let organization = if record.organization == ALSO.0 { ALSO_OF } else { &record.organization };
        if *of.entry(&record.message_id).or_insert(organization) != organization {
            complaints.push(format!("3 once: two organizations share the Message-ID {}", record.message_id));
        }
    }
}

/// Each arrival of a record behind its first has a reason, and the same octets.
fn repeats(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    let mut of_id: BTreeMap<&str, Vec<&Received<'_>>> = BTreeMap::new();
    let mut of_message_id: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for record in &facts.records {
        of_id.entry(&record.id).or_default().push(record);
        of_message_id.entry((&record.organization, &record.message_id)).or_default().insert(&record.id);
    }
    for ((organization, message_id), ids) in &mut of_message_id {
        // The name is the message's and its recipients', and one that was given up stands for no later copy.
        ids.retain(|id| !facts.is_discarded(id));
        if ids.len() < 2 {
            continue;
        }
        complaints.push(format!("3 once: records {ids:?} of {organization} share the Message-ID {message_id}"));
    }
    for (id, records) in of_id {
        for (place, record) in records.iter().enumerate().skip(1) {
            let first = records[0];
            if record.message_id != first.message_id {
                complaints.push(format!("3 once: record {id} has two Message-IDs"));
            }
            let comparable =
                records[..place].iter().find(|other| other.arrival.eight_bit_mime == record.arrival.eight_bit_mime);
            if comparable.is_some_and(|other| other.arrival.octets != record.arrival.octets) {
                complaints.push(format!("3 once: a repeat of record {id} at {} ms differs", record.arrival.when));
            }
            let last_taken = records[..place].iter().rfind(|other| other.arrival.taken);
            if let Some(last) = last_taken
                && excuse(facts.history, last.arrival, record.arrival.when).is_none()
                && !returns::came_back(facts.history, id, last.arrival.when, record.arrival.when)
            {
                complaints.push(format!(
                    "3 once: record {id}, taken by {} at {} ms with {:?}, came again at {} ms without a reason",
                    last.arrival.at, last.arrival.when, last.arrival.reply, record.arrival.when
                ));
            }
        }
    }
}

/// The records of one message and organization share its recipients out among them.
fn share(facts: &Facts<'_>, organization: &str, identity: usize, records: &[&Named], complaints: &mut Vec<String>) {
    let what = format!("message {identity} of {organization}");
    let mails = &facts.history.mails;
    if !mails[identity].has_message_id {
        let tries = facts
            .history
            .attempts
            .iter()
            .filter(|attempt| attempt.dot_sent && mails[attempt.mail].identity == identity);
        let tries = tries.count();
        if records.len() > tries {
            complaints.push(format!("3 once: {what} has {} records for {tries} transactions", records.len()));
        }
        return;
    }
    // What an operator has given up stands for no later copy of the message: that gets a record of its own.
    let (gone, there): (Vec<&Named>, Vec<&Named>) = records.iter().partition(|record| facts.is_discarded(&record.id));
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    for record in &there {
        for recipient in &record.recipients {
            if let Some(other) = named.insert(recipient, &record.id) {
                complaints.push(format!("3 once: {what}: {recipient} is named by records {other} and {}", record.id));
            }
        }
    }
    let is_first = |record: &&&Named| record.supplements.is_none();
    let firsts: Vec<_> = there.iter().filter(is_first).map(|record| &record.id).collect();
    if firsts.len() > 1 || (firsts.is_empty() && gone.is_empty()) {
        complaints.push(format!("3 once: {what} has not one first record but {firsts:?}"));
        return;
    }
    let all: BTreeSet<&str> =
        there.iter().chain(&gone).filter(is_first).map(|record| record.message_id.as_str()).collect();
    for record in &there {
        if record.supplements.as_ref().is_some_and(|named| !all.contains(named.as_str())) {
            complaints.push(format!("3 once: {what}: record {} supplements a record there isn't", record.id));
        }
    }
}

/// A record names recipients of transactions that the next hop may have taken, and of no others.
fn possible(facts: &Facts<'_>, organization: &str, identity: usize, records: &[&Named], complaints: &mut Vec<String>) {
    let mails = &facts.history.mails;
    let possible: BTreeSet<&str> = facts
        .history
        .attempts
        .iter()
        .filter(|attempt| attempt.dot_sent && mails[attempt.mail].identity == identity)
        .filter(|attempt| {
            let refused = attempt.end.as_ref().is_some_and(|reply| is_known_refusal(reply));
            !refused || facts.may_be_forgotten(attempt.began, attempt.ended + DECIDING)
        })
        .flat_map(|attempt| attempt.accepted.iter().map(String::as_str))
        .collect();
    for record in records {
        let impossible: Vec<_> =
            record.recipients.iter().filter(|recipient| !possible.contains(recipient.as_str())).collect();
        if !impossible.is_empty() {
            complaints.push(format!(
                "3 once: record {} of message {identity} of {organization} names {impossible:?}, to whom the next hop \
                 can't have taken it",
                record.id
            ));
        }
    }
}

/// Whether a reply to the dot says that nothing was relayed: the next hop's refusal, or our own before the next hop's dot.
fn is_known_refusal(reply: &str) -> bool {
    !reply.starts_with('2') && !reply.starts_with("451 4.4.1")
}
