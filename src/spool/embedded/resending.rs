//! Records that were delivered and are sent again: new entries of the same octets, Message-ID and Date, which say that they are
//! a replay.

use super::rows::{self, RecordRow};
use super::steps::{Step, StepError};
use crate::mail::{QueueId, RecordId};
use crate::queue::State;
use crate::spool::life;
use crate::spool::{Resend, Resent};
use rusqlite::{Connection, params};

/// Looks at as many records as there are ids, oldest first.
pub(super) fn resend(step: &mut Step<'_>, resend: &Resend) -> Result<Resent, StepError> {
    let mut resent = Resent::default();
    for (row, id) in rows_of(step.db, resend)?.into_iter().zip(&resend.ids) {
        resent.last = Some(row.id);
        match row.standing.state {
            State::Discarded => resent.discarded += 1,
            State::Acked => one(step, resend, row, *id, &mut resent)?,
            _ => resent.undelivered += 1,
        }
    }
    if resent.resent > 0 {
        step.effects.something_is_due();
    }
    Ok(resent)
}

fn one(
    step: &mut Step<'_>,
    resend: &Resend,
    row: RecordRow,
    id: RecordId,
    resent: &mut Resent,
) -> Result<(), StepError> {
    let others = rows::others(step.db, row.id)?;
    // For one archive the first delivered copy stands for all, unless that archive is still to get its own; else each goes where it went, and one that did not go nowhere.
    let is_another_s = match &resend.to {
        Some(to) => others.iter().any(|other| {
            let is_on_its_way = other.archive == *to && other.standing.ended.is_none();
            is_on_its_way || (other.id < row.id && other.standing.state == State::Acked)
        }),
        None => row.standing.reason.is_some(),
    };
    if is_another_s {
        resent.copies += 1;
        return Ok(());
    }
    let archive = resend.to.clone().unwrap_or_else(|| row.archive.clone());
    if is_under_way(step.db, row.id, &archive)? {
        resent.under_way += 1;
        return Ok(());
    }
    let kept = row.kept()?;
    if !has_octets(step.db, kept.fields.original.queue_id)? {
        resent.gone += 1;
        return Ok(());
    }
    let received = kept.fields.original.received;
    let replay = life::replay(kept, id, archive, resend.at);
    rows::insert(step.db, &replay)?;
    rows::save(step.db, &replay)?;
    resent.resent += 1;
    resent.oldest = Some(resent.oldest.map_or(received, |oldest| oldest.min(received)));
    Ok(())
}

/// The decided records of the time; those that are sent again themselves not.
fn rows_of(db: &Connection, resend: &Resend) -> rusqlite::Result<Vec<RecordRow>> {
    // Ids sort by age, and lead through the index of all.
    let first = RecordId::first_of(resend.since.minus(rows::ID_MARGIN));
    let first = resend.after.map_or(first, |after| first.max(after));
    let beyond = RecordId::first_of(resend.until.plus(rows::ID_MARGIN));
    const OF_THE_TIME: &str = "WHERE id > ? AND id < ? AND organization = ? AND created >= ? AND created < ? \
         AND state <> 'prepared' AND replay_of IS NULL ORDER BY id LIMIT ?";
    let limit = i64::try_from(resend.ids.len()).unwrap_or(i64::MAX);
    let (since, until) = (resend.since.as_millis(), resend.until.as_millis());
    let wanted = params![first.as_str(), beyond.as_str(), resend.organization, since, until, limit];
    rows::select(db, OF_THE_TIME, wanted)
}

fn is_under_way(db: &Connection, id: RecordId, archive: &str) -> rusqlite::Result<bool> {
    const UNDER_WAY: &str =
        "SELECT EXISTS (SELECT 1 FROM record WHERE replay_of = ? AND archive = ? AND ended IS NULL)";
    db.prepare_cached(UNDER_WAY)?.query_row([id.as_str(), archive], |row| row.get(0))
}

fn has_octets(db: &Connection, queue_id: QueueId) -> rusqlite::Result<bool> {
    let mut statement = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM message WHERE queue_id = ?)")?;
    statement.query_row([queue_id.as_str()], |row| row.get(0))
}
