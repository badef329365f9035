//! Steps of a message's second half: records are claimed, attempts end, operators step in.

use super::decide::forget_message;
use super::rows;
use super::steps::{Step, StepError};
use super::{reports, rows::RecordRow};
use crate::mail::{RecordId, Timestamp};
use crate::queue::{OCTETS_LOST, State};
use crate::spool::files::OctetStore;
use crate::spool::life::{self, Event, Kept, MessageUuid};
use crate::spool::{Claim, Listing, Operation, Outcome, SpoolError};
use rusqlite::params;

/// Gives out up to `limit` due records, longest due first.
pub(super) fn claim(
    step: &mut Step<'_>,
    store: &OctetStore,
    organization: &str,
    now: Timestamp,
    limit: usize,
    message_uuid: MessageUuid,
) -> Result<Vec<Claim>, StepError> {
    let wanted = params![organization, now.as_millis(), i64::try_from(limit).unwrap_or(i64::MAX)];
    let due = rows::select(step.db, "WHERE organization = ? AND due <= ? ORDER BY due, id LIMIT ?", wanted)?;
    let mut claims = Vec::with_capacity(due.len());
    for row in due {
        claims.extend(claim_one(step, store, row, now, message_uuid)?);
    }
    Ok(claims)
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
            rows::fail_damaged(step, id, standing, &error.to_string())?;
            return Ok(None);
        }
    };
    let Some(octets) = rows::octets(step.db, store, kept.fields.original.queue_id)? else {
        rows::fail_damaged(step, id, standing, &format!("{OCTETS_LOST}they are missing"))?;
        return Ok(None);
    };
    life::claim(&mut kept, now, message_uuid);
    if standing.sealed {
        rows::save_standing(step.db, id, &kept.standing)?;
    } else {
        rows::save(step.db, &kept)?;
    }
    Ok(Some(Claim { status: kept.standing.status(), fields: kept.fields, octets }))
}

/// Takes the result of an attempt.
pub(super) fn settle(step: &mut Step<'_>, id: RecordId, outcome: Outcome, now: Timestamp) -> Result<(), StepError> {
    let (mut standing, queue_id) = rows::find_standing(step.db, id)?;
    let report = life::settle(id, &mut standing, outcome, now)?;
    rows::save_standing(step.db, id, &standing)?;
    if let Some(report) = report {
        reports::insert(step.db, &report)?;
        step.effects.something_is_due();
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
        Ok((mut standing, _)) => {
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
