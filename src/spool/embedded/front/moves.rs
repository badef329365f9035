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
        Body::Inline(octets) => Some(octets.clone()),
        Body::File(file) => {
            step.effects.keep_file(Arc::clone(file));
            None
        }
    };
    step.front.add_message(queue_id, received, prepared.size, octets)?;
    prepared.records.iter().try_for_each(|kept| step.front.save(kept.clone()))?;
    Ok(Place::Taken(()))
}

/// Takes the verdict. Earlier records of the same message that the database has, verdicts that are lost, and messages that only
/// their octets tell from others are the database's.
pub(in super::super) fn decide(
    step: &mut FrontStep<'_>,
    queue_id: QueueId,
    verdict: Verdict,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<Place<()>, SpoolError> {
    let Some(message) = step.front.table.messages.get(&queue_id) else { return Ok(Place::Behind) };
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
                if new.fields.original.message_id.is_none() || is_known(step, new)? {
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

/// Whether the database has a record of the same message and organization.
fn is_known(step: &FrontStep<'_>, new: &Kept) -> Result<bool, SpoolError> {
    const KNOWN: &str = "SELECT 1 FROM record WHERE organization = ? AND identity = ? LIMIT 1";
    let wanted = params![new.fields.organization, new.fields.original.identity.as_slice()];
    let known = step.db.prepare_cached(KNOWN).and_then(|mut known| known.query_row(wanted, |_| Ok(())).optional());
    known.map(|found| found.is_some()).map_err(|error| super::super::steps::answer_for(&error))
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

/// Gives out what is due. Where the database has as much that has been due for longer it is asked alone, and where it has some,
/// behind all that is here.
pub(in super::super) fn claim(
    step: &mut FrontStep<'_>,
    archive: &Archive,
    now: Timestamp,
    limit: usize,
    message_uuid: MessageUuid,
) -> Result<Place<Vec<Claim>>, SpoolError> {
    let here =
        step.front.table.due.get(archive).and_then(|due| due.first()).map(|(due, _)| *due).filter(|due| *due <= now);
    let Some(first) = here else { return Ok(Place::Apart) };
    if let Some(place) = elsewhere(step, archive, now.min(first), now, limit)? {
        return Ok(place);
    }
    let due = step.front.table.due.get(archive).into_iter().flatten();
    let ids: Vec<RecordId> = due.take_while(|(due, _)| *due <= now).take(limit).map(|(_, id)| *id).collect();
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

/// Whether a claim is the database's; `first` is when the first record here fell due.
fn elsewhere<T>(
    step: &FrontStep<'_>,
    archive: &Archive,
    first: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<Option<Place<T>>, SpoolError> {
    const DUE: &str = "SELECT count(*), coalesce(sum(due <= ?4), 0) FROM \
         (SELECT due FROM record WHERE organization = ?1 AND archive = ?2 AND due <= ?3 ORDER BY due, id LIMIT ?5)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let wanted = params![archive.organization, archive.key, now.as_millis(), first.as_millis(), limit];
    let counts = step
        .db
        .prepare_cached(DUE)
        .and_then(|mut due| due.query_row(wanted, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))));
    let (all, before) = counts.map_err(|error| super::super::steps::answer_for(&error))?;
    Ok(if all == 0 {
        None
    } else if before >= limit {
        Some(Place::Apart)
    } else {
        Some(Place::Behind)
    })
}

/// Takes the archive's acknowledgement; every other end of an attempt is the database's.
pub(in super::super) fn settle(
    step: &mut FrontStep<'_>,
    id: RecordId,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<Place<()>, SpoolError> {
    let Some(kept) = step.front.table.records.get(&id) else { return Ok(Place::Apart) };
    if !matches!(outcome, Outcome::Acked { retain: false, .. }) {
        return Ok(Place::Behind);
    }
    let mut kept = kept.clone();
    life::settle(id, &mut kept.standing, outcome.clone(), now)?;
    let queue_id = kept.fields.original.queue_id;
    step.front.save_move(kept)?;
    forget(step, queue_id)?;
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
    if Front::forget_message(step.front, queue_id)? {
        step.effects.remove_file(queue_id);
    }
    Ok(())
}
