//! Steps of a message's second half: records are claimed, attempts end, operators step in.

use super::decide::forget_message;
use super::rows;
use super::rows::RecordRow;
use super::steps::{Step, StepError};
use super::{copies, news, reports};
use crate::mail::{RecordId, Timestamp};
use crate::queue::{OCTETS_LOST, State};
use crate::spool::files::OctetStore;
use crate::spool::life::{self, Event, Kept, MessageUuid};
use crate::spool::{Archive, Claim, Listing, Operation, Outcome, Setback, SpoolError};
use rusqlite::params;

/// Gives out up to `limit` due records, longest due first.
pub(super) fn claim(
    step: &mut Step<'_>,
    store: &OctetStore,
    archive: &Archive,
    now: Timestamp,
    limit: usize,
    message_uuid: MessageUuid,
) -> Result<Vec<Claim>, StepError> {
    const DUE: &str = "WHERE organization = ? AND archive = ? AND due <= ? ORDER BY due, id LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let due = rows::select(step.db, DUE, params![archive.organization, archive.key, now.as_millis(), limit])?;
    let mut claims = Vec::with_capacity(due.len());
    for row in due {
        claims.extend(claim_one(step, store, row, now, message_uuid)?);
    }
    Ok(claims)
}

/// Gives out the longest due record that an operator wants tried; the others he asked for wait behind it.
pub(super) fn claim_urged(
    step: &mut Step<'_>,
    store: &OctetStore,
    archive: &Archive,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<Option<Claim>, StepError> {
    const URGED: &str = "WHERE organization = ? AND archive = ? AND urged AND due <= ? ORDER BY due, id LIMIT 1";
    let Archive { organization, key } = archive;
    let claim = loop {
        let wanted = params![organization, key, now.as_millis()];
        let Some(row) = rows::select(step.db, URGED, wanted)?.pop() else { break None };
        // One that is damaged is no longer due, and the next has its turn.
        if let Some(claim) = claim_one(step, store, row, now, message_uuid)? {
            break Some(claim);
        }
    };
    step.db
        .prepare_cached(
            "UPDATE record SET urged = 0 WHERE organization = ? AND archive = ? AND urged AND due IS NOT NULL",
        )?
        .execute([organization, key])?;
    Ok(claim)
}

/// Makes deferred records due at once, up to `limit` of those due last; tells how many.
pub(super) fn hurry(step: &mut Step<'_>, archive: &Archive, now: Timestamp, limit: usize) -> Result<usize, StepError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let wanted = params![archive.organization, archive.key, now.as_millis(), limit];
    const LATER: &str =
        "WHERE organization = ? AND archive = ? AND due > ? AND state = 'deferred' ORDER BY due DESC LIMIT ?";
    let later = rows::select(step.db, LATER, wanted)?;
    for row in &later {
        let mut standing = row.standing.clone();
        standing.hurry(now);
        rows::save_standing(step.db, row.id, &standing)?;
    }
    if !later.is_empty() {
        step.effects.something_is_due();
    }
    Ok(later.len())
}

/// Keeps as failed up to `limit` records that wait and were made at `until` or before; tells which.
pub(super) fn give_up(
    step: &mut Step<'_>,
    archive: &Archive,
    until: Timestamp,
    setback: &Setback,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<RecordId>, StepError> {
    let mut given_up = Vec::new();
    for row in rows::waiting(step.db, archive, until, limit)? {
        let (id, standing) = (row.id, row.standing.clone());
        let mut kept = match row.kept() {
            Ok(kept) => kept,
            Err(error) => {
                rows::fail_damaged(step, id, standing, &error.to_string(), now)?;
                continue;
            }
        };
        let notice = life::give_up(&mut kept, setback, now)?;
        rows::save_standing(step.db, id, &kept.standing)?;
        if !copies::may_still_be_taken(step, id, kept.copies)? {
            news::keep(step, &archive.organization, &notice, now)?;
        }
        given_up.push(id);
    }
    Ok(given_up)
}

/// None when the record can't be sent at all; it is failed then and doesn't stand in the others' way.
fn claim_one(
    step: &mut Step<'_>,
    store: &OctetStore,
    row: RecordRow,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<Option<Claim>, StepError> {
    let (id, standing) = (row.id, row.standing.clone());
    let mut kept = match row.kept() {
        Ok(kept) => kept,
        Err(error) => {
            rows::fail_damaged(step, id, standing, &error.to_string(), now)?;
            return Ok(None);
        }
    };
    let Some(octets) = rows::octets(step.db, store, kept.fields.original.queue_id)? else {
        rows::fail_damaged(step, id, standing, &format!("{OCTETS_LOST}they are missing"), now)?;
        return Ok(None);
    };
    if copies::is_over(step, &mut kept, now)? {
        return Ok(None);
    }
    life::claim(&mut kept, now, message_uuid);
    if standing.sealed {
        rows::save_standing(step.db, id, &kept.standing)?;
    } else {
        rows::save(step.db, &kept)?;
        copies::seal(step, &kept, message_uuid)?;
    }
    Ok(Some(Claim { archive: kept.archive, status: kept.standing.status(), fields: kept.fields, octets }))
}

/// Takes the result of an attempt.
pub(super) fn settle(step: &mut Step<'_>, id: RecordId, outcome: Outcome, now: Timestamp) -> Result<(), StepError> {
    let (mut standing, queue_id, copies) = rows::find_standing(step.db, id)?;
    let retain = matches!(outcome, Outcome::Acked { retain: true, .. });
    let notice = life::settle(id, &mut standing, outcome, now)?;
    let notice = copies::settled(step, (id, copies), &mut standing, now)?.then_some(notice).flatten();
    rows::save_standing(step.db, id, &standing)?;
    if retain {
        rows::retain(step.db, id, true)?;
    }
    if let Some(notice) = notice {
        let organization = rows::organization(step.db, id)?;
        news::keep(step, &organization, &notice, now)?;
    }
    if standing.state == State::Acked {
        forget_message(step, queue_id)?;
    } else if standing.due().is_some() {
        step.effects.something_is_due();
    }
    Ok(())
}

/// Puts a claimed record or report back as it was.
pub(super) fn unclaim(step: &mut Step<'_>, id: RecordId) -> Result<(), StepError> {
    match rows::find_standing(step.db, id) {
        Ok((mut standing, ..)) => {
            standing.unclaim().map_err(|unmoved| life::not_now(id, &unmoved.0))?;
            Ok(rows::save_standing(step.db, id, &standing)?)
        }
        Err(StepError::Answer(SpoolError::NotFound(_))) => reports::unclaim(step.db, id),
        Err(error) => Err(error),
    }
}

/// Moves a record as an operator asks. `stale` says that no daemon runs: what is being sent then waits in truth.
pub(super) fn operate(
    step: &mut Step<'_>,
    id: RecordId,
    operation: &Operation,
    now: Timestamp,
    stale: bool,
) -> Result<Listing, StepError> {
    let mut kept = rows::find(step.db, id)?;
    if stale {
        kept.standing.forget_attempt();
    }
    life::operate(&mut kept, operation, now)?;
    rows::save_standing(step.db, id, &kept.standing)?;
    match operation {
        Operation::Release => copies::released(step, &mut kept, now)?,
        Operation::Discard { .. } => copies::hope_ended(step, id, kept.copies, now)?,
        Operation::Hold | Operation::Retry => {}
    }
    if kept.standing.due().is_some() {
        step.effects.something_is_due();
    }
    if let Some(event) = Event::discarded(&kept) {
        step.effects.log(event);
        forget_message(step, kept.fields.original.queue_id)?;
    }
    Ok(life::listing(&kept))
}

/// What a record would be without the daemon that was sending it.
pub(super) fn as_seen(kept: &mut Kept, stale: bool) {
    if stale {
        kept.standing.forget_attempt();
    }
}
