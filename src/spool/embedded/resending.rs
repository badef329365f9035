//! Records that were delivered and are sent again: new entries of the same octets, Message-ID and Date, which say that they are
//! a replay.

use super::rows::{self, RecordRow};
use super::steps::{Step, StepError};
use crate::mail::{QueueId, RecordId};
use crate::queue::State;
use crate::spool::files::OctetStore;
use crate::spool::life;
use crate::spool::life::copies::{self, Copy};
use crate::spool::{Resend, Resent};
use rusqlite::{Connection, OptionalExtension, params};

/// Looks at as many records as there are ids, oldest first.
pub(super) fn resend(step: &mut Step<'_>, store: &OctetStore, resend: &Resend) -> Result<Resent, StepError> {
    let mut resent = Resent::default();
    for (row, id) in rows_of(step.db, resend)?.into_iter().zip(&resend.ids) {
        resent.last = Some(row.id);
        match row.standing.state {
            State::Discarded => resent.discarded += 1,
            State::Acked => one(step, store, resend, (row, *id), &mut resent)?,
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
    store: &OctetStore,
    resend: &Resend,
    (row, id): (RecordRow, RecordId),
    resent: &mut Resent,
) -> Result<(), StepError> {
    let others = rows::others(step.db, row.id)?;
    let copies = others.iter().map(|other| Copy { id: other.id, archive: &other.archive, standing: &other.standing });
    let this = Copy { id: row.id, archive: &row.archive, standing: &row.standing };
    let Some(archive) = copies::destination(&this, copies.collect(), resend.to.as_deref(), &resend.archives) else {
        resent.copies += 1;
        return Ok(());
    };
    match replay_under_way(step.db, row.id, &archive)? {
        Some(State::Failed) => {
            resent.undelivered += 1;
            return Ok(());
        }
        Some(_) => {
            resent.under_way += 1;
            return Ok(());
        }
        None => {}
    }
    let kept = row.kept()?;
    if !has_octets(step.db, store, kept.fields.original.queue_id)? {
        resent.gone += 1;
        return Ok(());
    }
    let received = kept.fields.original.received;
    let replay = life::replay(kept, id, archive, resend.at);
    rows::insert(step.db, &replay)?;
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

fn replay_under_way(db: &Connection, id: RecordId, archive: &str) -> rusqlite::Result<Option<State>> {
    const UNDER_WAY: &str =
        "SELECT state FROM record WHERE replay_of = ? AND archive = ? AND ended IS NULL ORDER BY id DESC LIMIT 1";
    db.prepare_cached(UNDER_WAY)?.query_row([id.as_str(), archive], |row| rows::word(row, 0)).optional()
}

/// Whether a message is kept, and its file there where it is in one.
fn has_octets(db: &Connection, store: &OctetStore, queue_id: QueueId) -> rusqlite::Result<bool> {
    let mut statement = db.prepare_cached("SELECT octets IS NULL, size FROM message WHERE queue_id = ?")?;
    let found = statement.query_row([queue_id.as_str()], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?)));
    Ok(found.optional()?.is_some_and(|(in_file, size)| {
        !in_file || store.disk().length(&store.path(queue_id)).is_ok_and(|length| length == size.unsigned_abs())
    }))
}
