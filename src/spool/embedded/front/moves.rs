//! The moves that are taken in front of the database: those that nearly every message makes.
//!
//! What a step has moved when it fails, or finds that it has to be taken elsewhere, is undone by who called it.

use super::super::decide::{Body, Prepared};
use super::{Front, FrontStep, Place};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::State;
use crate::spool::life::{self, Decided, Event, Kept, MessageUuid};
use crate::spool::{Archive, Claim, Copies, Outcome, SpoolError, Verdict};
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;
use tokio::time::Instant;

/// Takes a message and its records. Those for several archives move together, which the database sees to.
pub(in super::super) fn prepare(step: &mut FrontStep<'_>, prepared: &Prepared) -> Result<Place<()>, SpoolError> {
    if prepared.records.iter().any(|kept| kept.copies != Copies::Alone) {
        return Ok(Place::Apart);
    }
    let queue_id = prepared.queue_id;
    if step.front.table.messages.contains_key(&queue_id) {
        return Err(SpoolError::Failing(format!("there is a message {queue_id} already")));
    }
    step.store.reserve().admit()?;
    let received = prepared.records.first().map_or(Timestamp::from_millis(0), |kept| kept.fields.original.received);
    let octets = match &prepared.body {
        Body::Inline(octets, grant) => {
            step.effects.hold(queue_id, grant.as_ref());
            Some((octets.clone(), grant.is_some()))
        }
        Body::File(file) => {
            step.effects.keep_file(Arc::clone(file));
            None
        }
    };
    step.front.add_message(queue_id, received, prepared.size, octets)?;
    prepared.records.iter().try_for_each(|kept| step.front.save(kept.clone()))?;
    Ok(Place::Taken(()))
}

/// Takes the verdict. Earlier records of the same message that the database has, verdicts that are lost, and equal messages
/// without a Message-ID are the database's.
pub(in super::super) fn decide(
    step: &mut FrontStep<'_>,
    queue_id: QueueId,
    verdict: Verdict,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<Place<()>, SpoolError> {
    let Some(message) = step.front.table.messages.get(&queue_id) else {
        return Ok(decided_there(step, queue_id));
    };
    let prepared: Vec<Kept> = message
        .records
        .iter()
        .filter_map(|id| step.front.table.records.get(id))
        .filter(|kept| kept.standing.state == State::Prepared)
        .cloned()
        .collect();
    match verdict {
        Verdict::Unknown => return Ok(Place::Behind),
        Verdict::Refused => {}
        Verdict::Accepted => {
            for new in &prepared {
                if has_equals(step, new) || is_known(step, new).unwrap_or(true) {
                    return Ok(Place::Behind);
                }
            }
        }
    }
    for new in prepared {
        match verdict {
            Verdict::Refused => step.front.delete(new.fields.id)?,
            _ => accept(step, new, now, message_uuid)?,
        }
    }
    forget(step, queue_id)?;
    Ok(Place::Taken(()))
}

/// A message that is not here is decided in the database: alone, where nothing here is of the same message.
fn decided_there<T>(step: &FrontStep<'_>, queue_id: QueueId) -> Place<T> {
    const OF_IT: &str = "SELECT identity FROM record WHERE queue_id = ? AND state = 'prepared'";
    let ask = || -> rusqlite::Result<bool> {
        let mut of_it = step.db.prepare_cached(OF_IT)?;
        let mut found = of_it.query([queue_id.as_str()])?;
        while let Some(row) = found.next()? {
            if !step.front.table.of_identity(&row.get(0)?).is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    // Where the database can't be asked it says why, and what follows from that, when the step comes to it.
    if ask().unwrap_or(true) { Place::Behind } else { Place::Apart }
}

/// Whether there are other messages here that nothing tells from this one: what they are to each other the database sorts out.
fn has_equals(step: &FrontStep<'_>, new: &Kept) -> bool {
    let is_other =
        |kept: &&Kept| kept.fields.id != new.fields.id && kept.fields.organization == new.fields.organization;
    new.fields.original.message_id.is_none()
        && step.front.table.of_identity(&new.fields.original.identity).iter().any(is_other)
}

/// Whether the database has a record of the same message and organization.
fn is_known(step: &FrontStep<'_>, new: &Kept) -> rusqlite::Result<bool> {
    const KNOWN: &str = "SELECT 1 FROM record WHERE organization = ? AND identity = ? LIMIT 1";
    let wanted = params![new.fields.organization, new.fields.original.identity.as_slice()];
    let known = step.db.prepare_cached(KNOWN).and_then(|mut known| known.query_row(wanted, |_| Ok(())).optional());
    known.map(|found| found.is_some())
}

fn accept(
    step: &mut FrontStep<'_>,
    mut new: Kept,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<(), SpoolError> {
    let queue_id = new.fields.original.queue_id;
    let mut earlier: Vec<Kept> = step
        .front
        .table
        .of_identity(&new.fields.original.identity)
        .into_iter()
        .filter(|kept| stands_for(kept, &new))
        .cloned()
        .collect();
    let said = (new.fields.recipients.len(), new.fields.supplements.is_some());
    match life::decide(&mut new, false, &mut earlier, now, message_uuid) {
        Decided::Stays { sealed } => {
            if let Some(place) = sealed
                && place < earlier.len()
            {
                step.front.save(earlier.swap_remove(place))?;
            }
            step.effects.log(Event::committed(&new));
            step.effects.something_is_due();
            if said == (new.fields.recipients.len(), new.fields.supplements.is_some()) {
                step.front.save_move(new)
            } else {
                step.front.save(new)
            }
        }
        Decided::Merged { earlier: place, added } => {
            step.front.delete(new.fields.id)?;
            if place < earlier.len() {
                let kept = earlier.swap_remove(place);
                step.effects.log(Event::merged(&kept, queue_id, added));
                step.front.save(kept)?;
            }
            Ok(())
        }
    }
}

/// Whether a record stands for later ones of its message; what the database asks in `decide`.
fn stands_for(kept: &Kept, new: &Kept) -> bool {
    !matches!(kept.standing.state, State::Prepared | State::Discarded)
        && kept.fields.organization == new.fields.organization
        && kept.archive == new.archive
        && life::copies::stands_for_later(&kept.standing)
}

/// Gives out what is due: here what has been due for longer than everything in the database, which is asked alone for what
/// has been due before the first record here. So a claim may give less than there is; who wants more asks again.
pub(in super::super) fn claim(
    step: &mut FrontStep<'_>,
    archive: &Archive,
    now: Timestamp,
    limit: usize,
    message_uuid: MessageUuid,
) -> Result<Place<Vec<Claim>>, SpoolError> {
    match step.front.claimed.get_mut(archive) {
        Some(at) => *at = Instant::now(),
        None => drop(step.front.claimed.insert(archive.clone(), Instant::now())),
    }
    let here = step.front.table.due.get(archive).and_then(|due| due.first()).map(|(due, _)| *due);
    let Ok(there) = first_there(step, archive) else { return Ok(Place::Behind) };
    let (here, there) = (here.filter(|due| *due <= now), there.filter(|due| *due <= now));
    match (here, there) {
        (None, None) => return Ok(Place::Taken(Vec::new())),
        (None, Some(_)) => return Ok(Place::Apart),
        (Some(here), Some(there)) if there <= here => return Ok(Place::Apart),
        (Some(_), _) => {}
    }
    let until = there.map_or(now, |there| now.min(there));
    let due = step.front.table.due.get(archive).into_iter().flatten();
    let ids: Vec<RecordId> = due.take_while(|(due, _)| *due <= until).take(limit).map(|(_, id)| *id).collect();
    let mut claims = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(mut kept) = step.front.table.records.get(&id).cloned() else { continue };
        // Where there are none the database fails the record, and tells.
        let Some(octets) = step.front.table.octets_of(step.store, kept.fields.original.queue_id) else {
            return Ok(Place::Behind);
        };
        life::claim(&mut kept, now, message_uuid);
        let (archive, status, fields) = (kept.archive.clone(), kept.standing.status(), kept.fields.clone());
        claims.push(Claim { archive, status, fields, octets });
        step.front.save_move(kept)?;
    }
    Ok(Place::Taken(claims))
}

/// When the first record for `archive` in the database is due. It is asked when something has been written to it since.
fn first_there(step: &mut FrontStep<'_>, archive: &Archive) -> rusqlite::Result<Option<Timestamp>> {
    const FIRST: &str = "SELECT min(due) FROM record WHERE organization = ? AND archive = ? AND due IS NOT NULL";
    if let Some(known) = step.front.first_there.get(archive) {
        return Ok(*known);
    }
    let wanted = params![archive.organization, archive.key];
    let first =
        step.db.prepare_cached(FIRST).and_then(|mut first| first.query_row(wanted, |row| row.get::<_, Option<i64>>(0)));
    let first = first?.map(Timestamp::from_millis);
    step.front.first_there.insert(archive.clone(), first);
    Ok(first)
}

/// Takes the archive's acknowledgement, or that it defers; every other end of an attempt is the database's.
pub(in super::super) fn settle(
    step: &mut FrontStep<'_>,
    id: RecordId,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<Place<()>, SpoolError> {
    if matches!(outcome, Outcome::Acked { .. }) {
        step.front.taken = Some(Instant::now());
    }
    let Some(kept) = step.front.table.records.get(&id) else { return Ok(Place::Apart) };
    if !matches!(outcome, Outcome::Acked { retain: false, .. } | Outcome::Deferred { .. }) {
        return Ok(Place::Behind);
    }
    let mut kept = kept.clone();
    life::settle(id, &mut kept.standing, outcome.clone(), now)?;
    let (queue_id, is_due) = (kept.fields.original.queue_id, kept.standing.due().is_some());
    step.front.save_move(kept)?;
    if is_due {
        step.effects.something_is_due();
    } else {
        forget(step, queue_id)?;
    }
    Ok(Place::Taken(()))
}

/// Puts a claimed record back as it was.
pub(in super::super) fn unclaim(step: &mut FrontStep<'_>, id: RecordId) -> Result<Place<()>, SpoolError> {
    let Some(mut kept) = step.front.table.records.get(&id).cloned() else { return Ok(Place::Apart) };
    kept.standing.unclaim().map_err(|unmoved| life::not_now(id, &unmoved.0))?;
    step.front.save_move(kept)?;
    Ok(Place::Taken(()))
}

fn forget(step: &mut FrontStep<'_>, queue_id: QueueId) -> Result<(), SpoolError> {
    if let Some(in_file) = Front::forget_message(step.front, queue_id)? {
        step.effects.forget(queue_id, in_file);
    }
    Ok(())
}
