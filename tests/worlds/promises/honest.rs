//! 6 *Honest*: a reply to the client is the next hop's, or our own and says so; a record's outcome is what is known.

use super::super::history::{Arrival, Attempt, Peer, Said, Stage, Wrong};
use super::facts::Facts;

pub(super) fn honest(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for attempt in &facts.history.attempts {
        for (stage, reply) in &attempt.replies {
            if matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Chunk | Stage::Dot)
                && let Err(why) = is_true(facts, attempt, *stage, reply)
            {
                complaints.push(format!(
                    "6 honest: client {} heard {reply:?} at {stage:?} of mail {} ({} to {} ms): {why}",
                    attempt.client, attempt.mail, attempt.began, attempt.ended
                ));
            }
        }
        if let Some(reply) = &attempt.end
            && let Err(why) = ends_true(facts, attempt, reply)
        {
            complaints.push(format!(
                "6 honest: client {} heard {reply:?} to the dot of mail {} ({} to {} ms): {why}",
                attempt.client, attempt.mail, attempt.began, attempt.ended
            ));
        }
    }
    outcomes(facts, complaints);
}

/// The number of a server's reply.
pub(super) fn number_of(reply: &str) -> Option<u64> {
    reply.rsplit_once(" #").and_then(|(_, number)| number.parse().ok())
}

/// The next hop's words at that stage, or our own failure.
fn is_true(facts: &Facts<'_>, attempt: &Attempt, stage: Stage, reply: &str) -> Result<(), String> {
    if let Some(number) = number_of(reply) {
        return match facts.history.said.get(&number) {
            Some(said) if said.at == Peer::NextHop && said.stage == stage && said.text == reply => Ok(()),
            // What it said to an earlier chunk, when that was no: the client is told at its next one, or at its last.
            Some(said) if is_of_chunk(said, stage, attempt) && said.text == reply => Ok(()),
            // A next hop that repeats itself is misunderstood until DATA, and there at the latest the relay breaks off.
            Some(said)
                if said.at == Peer::NextHop
                    && (stage != Stage::Dot || attempt.is_in_chunks())
                    && has_stuttered(facts, number) =>
            {
                Ok(())
            }
            Some(said) => Err(format!("{} said {:?} at {:?}", said.at, said.text, said.stage)),
            None => Err("nobody said it".to_owned()),
        };
    }
    // Chunks that the next hop has not answered yet are taken on its behalf; their end is its verdict.
    if stage == Stage::Chunk && reply.starts_with("250 2.") {
        return Ok(());
    }
    let is_passing = reply.starts_with("4") && reply.get(3..6).is_some_and(|code| code == " 4.");
    // There was nobody to send to, or no transaction to go on with: of the next hop's refusals before.
    let follows = stage != Stage::Dot && (reply.starts_with("503 5.5.1") || reply.starts_with("554 5.5.1 no valid"));
    if is_passing || follows { Ok(()) } else { Err("it is neither the next hop's nor a passing failure".to_owned()) }
}

/// Whether it is a refusal of a chunk, or of the DATA by which a client's chunks may go on.
fn is_of_chunk(said: &Said, heard_at: Stage, attempt: &Attempt) -> bool {
    let is_negative = said.text.starts_with(['4', '5']);
    said.at == Peer::NextHop
        && (said.stage == Stage::Chunk || said.stage == Stage::Data && attempt.is_in_chunks())
        && is_negative
        && matches!(heard_at, Stage::Chunk | Stage::Dot)
}

/// Whether the next hop said something twice shortly before its reply of that number, or with it.
fn has_stuttered(facts: &Facts<'_>, number: u64) -> bool {
    let before = facts.history.said.range(number.saturating_sub(40)..=number);
    before.into_iter().any(|(_, said)| said.at == Peer::NextHop && said.twice)
}

fn ends_true(facts: &Facts<'_>, attempt: &Attempt, reply: &str) -> Result<(), String> {
    let is_positive = reply.starts_with('2');
    if let Some(number) = number_of(reply) {
        if facts.history.said.get(&number).is_some_and(|said| is_of_chunk(said, Stage::Dot, attempt)) {
            return if is_positive { Err("a chunk was refused".to_owned()) } else { Ok(()) };
        }
        // Every reply to a chunk is a 250: nothing tells one that was said too often from the verdict.
        if attempt.is_in_chunks() && has_stuttered(facts, number) {
            return Ok(());
        }
        let arrival = facts.at_next_hop().find(|arrival| arrival.number == number);
        let arrival = arrival.ok_or("no message reached the next hop's end of data there")?;
        if arrival.taken != is_positive {
            return Err(format!("the next hop {} it", if arrival.taken { "took" } else { "did not take" }));
        }
        return if is_of(facts, arrival, attempt) { Ok(()) } else { Err("it was said to another message".to_owned()) };
    }
    if is_positive {
        return Err("nobody took it".to_owned());
    }
    let heard = facts.at_next_hop().find(|arrival| {
        let during = arrival.when >= attempt.began && arrival.replied_at < attempt.ended;
        // A second 354 comes in place of the reply to the dot: what that was can't be known then.
        let is_clear = is_undisturbed(facts, arrival) && !has_stuttered(facts, arrival.number);
        arrival.taken && arrival.replied && during && is_of(facts, arrival, attempt) && is_clear
    });
    match heard {
        Some(arrival) => Err(format!("the next hop took it with {:?}", arrival.reply)),
        None => Ok(()),
    }
}

fn is_of(facts: &Facts<'_>, arrival: &Arrival, attempt: &Attempt) -> bool {
    facts.relayed(arrival).is_some_and(|(number, _)| number == attempt.mail) && arrival.recipients == attempt.accepted
}

/// Whether nothing kept the next hop's reply from the relay.
fn is_undisturbed(facts: &Facts<'_>, arrival: &Arrival) -> bool {
    !facts.history.troubles.iter().any(|trouble| {
        let overlaps = trouble.from <= arrival.replied_at.saturating_add(3_000) && trouble.until >= arrival.when;
        let matters = match trouble.what {
            Wrong::Line(peer) | Wrong::Down(peer) => peer == Peer::NextHop,
            _ => true,
        };
        overlaps && matters
    })
}

/// A record says that the outcome is unknown when it is, and only then.
fn outcomes(facts: &Facts<'_>, complaints: &mut Vec<String>) {
    for record in facts.taken() {
        let concerns = |arrival: &Arrival| {
            facts.relayed(arrival).is_some_and(|(_, mail)| mail.identity == record.identity)
                && arrival.recipients.iter().any(|recipient| record.recipients.contains(recipient))
        };
        let mails = &facts.history.mails;
        let known = |attempt: &Attempt| attempt.end.as_ref().is_some_and(|reply| reply.starts_with('2'));
        if record.is_unknown {
            let mut tries = facts
                .history
                .attempts
                .iter()
                .filter(|attempt| attempt.dot_sent && mails[attempt.mail].identity == record.identity);
            if tries.all(|attempt| known(attempt) && !facts.may_be_forgotten(attempt.began, attempt.ended + 3_000)) {
                complaints.push(format!("6 honest: record {} says unknown, and every outcome is known", record.id));
            }
        } else if !facts.at_next_hop().any(|arrival| arrival.taken && concerns(arrival)) {
            complaints.push(format!("6 honest: record {} says that the next hop took its message", record.id));
        }
    }
}
