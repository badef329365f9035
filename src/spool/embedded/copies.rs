//! Steps of records that go to several archives: sealed together, enough once one is taken, and what becomes of them when an
//! archive leaves the configuration. What follows from what is [`life::copies`](crate::spool::life::copies)'s.

use super::decide::forget_message;
use super::news;
use super::rows::{self, RecordRow};
use super::steps::{Step, StepError};
use crate::mail::{RecordId, Timestamp};
use crate::queue::{Standing, State};
use crate::spool::life::copies::{self, ARCHIVE_GONE, Followed, TAKEN_ELSEWHERE};
use crate::spool::life::{self, Event, Kept, MessageUuid};
use crate::spool::{Copies, Followers};
use rusqlite::{Connection, params};

/// Seals the copies of a record that has just been sealed.
pub(super) fn seal(step: &mut Step<'_>, first: &Kept, message_uuid: MessageUuid) -> Result<(), StepError> {
    if first.copies == Copies::Alone {
        return Ok(());
    }
    let others = rows::others(step.db, first.fields.id)?;
    // One that can't be read is failed when its turn comes.
    let mut others: Vec<Kept> = others.into_iter().filter_map(|row| row.kept().ok()).collect();
    for place in copies::seal_with(first, &mut others, message_uuid) {
        if let Some(other) = others.get(place) {
            rows::save(step.db, other)?;
        }
    }
    Ok(())
}

/// Whether another copy has been taken and was enough: then there is nothing to send any more.
pub(super) fn is_over(step: &mut Step<'_>, kept: &mut Kept, now: Timestamp) -> Result<bool, StepError> {
    let id = kept.fields.id;
    if kept.copies != Copies::OneIsEnough || !copies::is_taken(rows::others(step.db, id)?.iter().map(standing)) {
        return Ok(false);
    }
    supersede(step, id, &mut kept.standing, TAKEN_ELSEWHERE, now)?;
    rows::save_standing(step.db, id, &kept.standing)?;
    forget_message(step, kept.fields.original.queue_id)?;
    Ok(true)
}

/// Draws what follows for the copies of a record whose attempt has ended, and for itself; whether its end is to be told.
pub(super) fn settled(
    step: &mut Step<'_>,
    (id, copies): (RecordId, Copies),
    standing_now: &mut Standing,
    now: Timestamp,
) -> Result<bool, StepError> {
    if copies != Copies::OneIsEnough {
        return Ok(true);
    }
    let mut others = rows::others(step.db, id)?;
    if standing_now.state == State::Acked {
        for other in others.iter_mut().filter(|other| copies::is_dispensable(&other.standing)) {
            supersede(step, other.id, &mut other.standing, TAKEN_ELSEWHERE, now)?;
            rows::save_standing(step.db, other.id, &other.standing)?;
        }
    } else if copies::is_taken(others.iter().map(standing)) && !standing_now.held {
        supersede(step, id, standing_now, TAKEN_ELSEWHERE, now)?;
        return Ok(false);
    }
    Ok(!copies::is_hope(others.iter().map(standing)))
}

/// Whether another copy of a record that has failed may still be taken, and would be enough.
pub(super) fn may_still_be_taken(step: &mut Step<'_>, id: RecordId, copies: Copies) -> Result<bool, StepError> {
    Ok(copies == Copies::OneIsEnough && copies::is_hope(rows::others(step.db, id)?.iter().map(standing)))
}

/// A record ended, and no archive has taken it. Where it was the last of its copies that might have been taken and one was
/// enough, those that have failed before are told now: until then they were no failure.
pub(super) fn hope_ended(step: &mut Step<'_>, id: RecordId, copies: Copies, now: Timestamp) -> Result<(), StepError> {
    if copies != Copies::OneIsEnough {
        return Ok(());
    }
    let others = rows::others(step.db, id)?;
    if copies::is_taken(others.iter().map(standing)) || copies::is_hope(others.iter().map(standing)) {
        return Ok(());
    }
    for other in others.into_iter().filter(|other| other.standing.state == State::Failed) {
        if let Ok(kept) = other.kept() {
            news::keep(step, &kept.fields.organization, &life::failed(&kept, now), now)?;
        }
    }
    Ok(())
}

/// A record that was held may go on; whether it is over instead, since another copy was taken meanwhile.
pub(super) fn released(step: &mut Step<'_>, kept: &mut Kept, now: Timestamp) -> Result<(), StepError> {
    if copies::is_dispensable(&kept.standing) {
        is_over(step, kept, now)?;
    }
    Ok(())
}

/// Sends up to `limit` records of `organization` on whose archive is not among `archives`.
pub(super) fn follow(
    step: &mut Step<'_>,
    organization: &str,
    archives: &[String],
    now: Timestamp,
    limit: usize,
) -> Result<Followers, StepError> {
    let mut followers = Followers::default();
    for row in strays(step.db, organization, archives, limit)? {
        let RecordRow { id, mut standing, copies: row_copies, .. } = row;
        let others = rows::others(step.db, id)?;
        match copies::follow(others.iter().map(|other| (other.archive.as_str(), &other.standing)), archives) {
            Followed::To(archive) => {
                rows::redirect(step.db, id, &archive)?;
                // What was said at the other one counts no more.
                standing.hurry(now);
                rows::save_standing(step.db, id, &standing)?;
                followers.redirected += 1;
                step.effects.something_is_due();
            }
            Followed::Superseded => {
                supersede(step, id, &mut standing, ARCHIVE_GONE, now)?;
                rows::save_standing(step.db, id, &standing)?;
                let (_, queue_id, _) = rows::find_standing(step.db, id)?;
                hope_ended(step, id, row_copies, now)?;
                forget_message(step, queue_id)?;
                followers.superseded += 1;
            }
        }
    }
    move_warned(step.db, organization, archives)?;
    Ok(followers)
}

/// Records that [may follow](copies::may_follow).
fn strays(db: &Connection, organization: &str, archives: &[String], limit: usize) -> rusqlite::Result<Vec<RecordRow>> {
    const STRAYS: &str = "WHERE ended IS NULL AND organization = ? AND state IN ('waiting', 'deferred', 'failed') \
         AND NOT held AND archive NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?";
    rows::select(db, STRAYS, params![organization, keys(archives), i64::try_from(limit).unwrap_or(i64::MAX)])
}

/// Whether there are records of `organization` whose archive is not among `archives`, or what earlier versions knew of its
/// delays.
pub(super) fn has_strays(db: &Connection, organization: &str, archives: &[String]) -> Result<bool, StepError> {
    const SOME: &str = "SELECT EXISTS (SELECT 1 FROM record WHERE ended IS NULL AND organization = ?1 \
         AND state IN ('waiting', 'deferred', 'failed') AND NOT held \
         AND archive NOT IN (SELECT value FROM json_each(?2))) \
         OR EXISTS (SELECT 1 FROM warned WHERE organization = ?1 AND archive = '')";
    Ok(db.prepare_cached(SOME)?.query_row(params![organization, keys(archives)], |row| row.get(0))?)
}

/// What an earlier version has told of delays was about the first archive.
fn move_warned(db: &Connection, organization: &str, archives: &[String]) -> rusqlite::Result<()> {
    let first = archives.first().map_or("", String::as_str);
    db.prepare_cached("UPDATE OR REPLACE warned SET archive = ? WHERE organization = ? AND archive = ''")?
        .execute([first, organization])?;
    Ok(())
}

fn keys(archives: &[String]) -> String {
    serde_json::Value::from(archives).to_string()
}

fn standing(row: &RecordRow) -> &Standing {
    &row.standing
}

fn supersede(
    step: &mut Step<'_>,
    id: RecordId,
    standing: &mut Standing,
    why: &str,
    now: Timestamp,
) -> Result<(), StepError> {
    standing.superseded(why.to_owned(), now).map_err(|unmoved| life::not_now(id, &unmoved.0))?;
    let (organization, archive) = rows::whose(step.db, id)?;
    step.effects.log(Event::Superseded { record: id, organization, archive, reason: why.to_owned() });
    Ok(())
}
