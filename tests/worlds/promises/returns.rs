//! 2 *Kept*, where a record comes back from the server that had taken it; and that nobody else's mail is taken for that.

use super::super::history::{Arrival, History, Logged, Peer, Returned, Stage};
use super::super::returns::Kind;
use super::facts::Facts;
use super::honest::number_of;

/// What the relay says when a record's fate changes by a notification.
const KEPT_AS_FAILED: &str = "250 2.0.0 the record is kept as failed";

pub(super) fn returns(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for returned in &facts.history.returned {
        let Some(reply) = returned.reply.as_ref().filter(|_| returned.kind != Kind::Loop) else { continue };
        let (kind, about) = (returned.kind, &returned.about);
        let is_right = match kind {
            Kind::Whole | Kind::Header | Kind::Cut | Kind::Delay => reply.starts_with("250 2.0.0 "),
            Kind::Loop => true,
            Kind::Nothing | Kind::Foreign | Kind::Stranger | Kind::Letter => reply.starts_with("550 5.1.1 "),
        };
        // Whose mail it is shows behind MAIL, which is the next hop's to answer.
        let is_next_hops = number_of(reply)
            .and_then(|number| facts.history.said.get(&number))
            .is_some_and(|said| said.at == Peer::NextHop && said.stage == Stage::Mail && said.text == *reply);
        if !is_right && !is_next_hops {
            complaints.push(format!("6 honest: a mail about record {about} ({kind:?}) was answered {reply:?}"));
        }
        if reply == KEPT_AS_FAILED {
            failed(facts, returned, complaints);
        }
    }
}

/// What was said to be kept as failed is, and whole it goes to its archive once more.
fn failed(facts: &Facts<'_>, returned: &Returned, complaints: &mut Vec<String>) {
    let (history, about) = (facts.history, &returned.about);
    let is_told = history.log.iter().any(|line| {
        line.text("record") == about && is_bounce(line) && (returned.began..=returned.ended).contains(&line.when)
    });
    if !is_told && !facts.may_be_forgotten(returned.began, returned.ended) {
        complaints.push(format!("6 honest: record {about} came back at {} ms, and no log says so", returned.began));
    }
    let again = facts.taken().any(|record| record.id == *about && record.arrival.when > returned.began);
    // An operator who gave it up had its octets before him.
    let given_up = facts.is_discarded(about) && history.originals.contains_key(about);
    if returned.kind == Kind::Whole && !again && !given_up {
        complaints
            .push(format!("2 kept: record {about} came back whole at {} ms and was not sent again", returned.began));
    }
}

/// Whether what the next hop got is our own mail that went in a circle: relayed as it came, and told.
pub(super) fn is_known_loop(facts: &Facts<'_>, arrival: &Arrival, complaints: &mut Vec<String>) -> bool {
    let octets = arrival.octets.as_slice();
    let Some(end) = memchr::memmem::find(octets, b"\r\n") else { return false };
    let is_it = |returned: &&Returned| returned.kind == Kind::Loop && *returned.octets == octets[end + 2..];
    let Some(returned) = facts.history.returned.iter().find(is_it) else { return false };
    let queue_id = facts.queue_id(arrival);
    let kind = if returned.at == Peer::Reports { "report" } else { "record" };
    let told = facts.history.log.iter().find(|line| line.event == "loop.detected" && line.text("queue_id") == queue_id);
    if told.is_none_or(|line| line.text("kind") != kind) {
        let when = arrival.when;
        complaints.push(format!("5 quiet: a {kind} that came back went on at {when} ms, and no log says what it is"));
    }
    true
}

/// Whether a line of the log tells of a record that came back.
pub(super) fn is_bounce(line: &Logged) -> bool {
    line.event == "record.failed" && line.text("reason") == "bounced"
}

/// Whether a record may be failed for what this line says: it came back, or it came back without its original and can't be
/// sent any more.
pub(super) fn explains(history: &History, line: &Logged) -> bool {
    history.returned.iter().any(|returned| {
        let is_in_time = returned.about == line.text("record") && returned.began <= line.when;
        let is_said = line.text("reply") == format!("bounced: {}", returned.diagnostic);
        let is_lost = line.text("reply").starts_with(journal_relay::queue::OCTETS_LOST);
        match returned.kind {
            Kind::Whole => is_in_time && is_said,
            Kind::Header | Kind::Cut => is_in_time && (is_said || is_lost),
            _ => false,
        }
    })
}

/// Whether a record came back between two moments, so that it may be sent again.
pub fn came_back(history: &History, id: &str, from: u64, until: u64) -> bool {
    let is_failure = |kind| matches!(kind, Kind::Whole | Kind::Header | Kind::Cut);
    let is_between = |returned: &Returned| returned.ended >= from && returned.began <= until;
    history.returned.iter().any(|returned| is_failure(returned.kind) && returned.about == id && is_between(returned))
}
