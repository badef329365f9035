//! Steps of reports: claimed and settled like records, but simpler.

use super::rows::{self, json, word};
use super::steps::{Step, StepError};
use crate::journal::{RecordFields, ReportFields};
use crate::mail::{RecordId, Timestamp};
use crate::spool::files::OctetStore;
use crate::spool::{Octets, Outcome, ReportClaim, SpoolError};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;

/// Keeps a report; it is due at once.
pub(super) fn insert(db: &Connection, report: &ReportFields) -> Result<(), StepError> {
    let mut statement = db.prepare_cached(
        "INSERT INTO report (id, organization, state, attempts, due, fields) VALUES (?, ?, 'waiting', 0, ?, ?)",
    )?;
    let due = report.date.as_millis();
    statement.execute(params![report.id.as_str(), report.organization, due, json(report)?])?;
    Ok(())
}

/// Gives out up to `limit` due reports, longest due first.
pub(super) fn claim(
    step: &mut Step<'_>,
    store: &OctetStore,
    organization: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<ReportClaim>, StepError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let due: Vec<(RecordId, u32, String)> = step
        .db
        .prepare_cached(
            "SELECT id, attempts, fields FROM report WHERE organization = ? AND due <= ? ORDER BY due, id LIMIT ?",
        )?
        .query_map(params![organization, now.as_millis(), limit], |row| Ok((word(row, 0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut claims = Vec::with_capacity(due.len());
    for (id, attempts, fields) in due {
        let fields: ReportFields = match serde_json::from_str(&fields) {
            Ok(fields) => fields,
            Err(error) => {
                end(step.db, id, &format!("the spool's entry can't be read: {error}"), now)?;
                continue;
            }
        };
        let attached = fields.news.attached().map(|id| record_of(step.db, store, id)).transpose()?;
        step.db
            .prepare_cached("UPDATE report SET state = 'sending', attempts = attempts + 1, due = NULL WHERE id = ?")?
            .execute([id.as_str()])?;
        claims.push(ReportClaim { fields, attempts: attempts.saturating_add(1), record: attached.flatten() });
    }
    Ok(claims)
}

/// Takes the result of sending a report. A notice in the outcome is ignored: a report never causes one.
pub(super) fn settle(db: &Connection, id: RecordId, outcome: &Outcome, now: Timestamp) -> Result<(), StepError> {
    must_be_sending(db, id)?;
    match outcome {
        Outcome::Acked { .. } => {
            db.prepare_cached("DELETE FROM report WHERE id = ?")?.execute([id.as_str()])?;
        }
        Outcome::Deferred { reply, next_attempt, .. } => {
            db.prepare_cached("UPDATE report SET state = 'waiting', due = ?, last_reply = ? WHERE id = ?")?
                .execute(params![next_attempt.as_millis(), reply, id.as_str()])?;
        }
        Outcome::Failed { reply, .. } => end(db, id, reply, now)?,
    }
    Ok(())
}

/// Puts a claimed report back: due as long as it has been.
pub(super) fn unclaim(db: &Connection, id: RecordId) -> Result<(), StepError> {
    must_be_sending(db, id)?;
    db.prepare_cached("UPDATE report SET state = 'waiting', attempts = attempts - 1, due = 0 WHERE id = ?")?
        .execute([id.as_str()])?;
    Ok(())
}

/// Makes deferred reports due at once, up to `limit` of those due last; tells how many.
pub(super) fn hurry(db: &Connection, organization: &str, now: Timestamp, limit: usize) -> Result<usize, StepError> {
    let mut statement = db.prepare_cached(
        "UPDATE report SET due = ?2 WHERE rowid IN \
         (SELECT rowid FROM report WHERE organization = ?1 AND due > ?2 ORDER BY due DESC LIMIT ?3)",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(statement.execute(params![organization, now.as_millis(), limit])?)
}

fn end(db: &Connection, id: RecordId, reply: &str, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE report SET state = 'failed', due = NULL, last_reply = ?, ended = ? WHERE id = ?")?
        .execute(params![reply, now.as_millis(), id.as_str()])
        .map(drop)
}

fn must_be_sending(db: &Connection, id: RecordId) -> Result<(), StepError> {
    let mut statement = db.prepare_cached("SELECT state FROM report WHERE id = ?")?;
    let state: Option<String> = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
    match state.as_deref() {
        Some("sending") => Ok(()),
        Some(state) => Err(SpoolError::NotNow(format!("report {id} is {state}, not being sent")).into()),
        None => Err(SpoolError::NotFound(id).into()),
    }
}

/// The record a report is about, while it is live and its octets are there.
fn record_of(db: &Connection, store: &OctetStore, id: RecordId) -> Result<Option<(RecordFields, Octets)>, StepError> {
    let live = rows::select(db, "WHERE id = ? AND ended IS NULL", [id.as_str()])?.pop();
    let Some(kept) = live.and_then(|row| row.kept().ok()) else { return Ok(None) };
    let octets = rows::octets(db, store, kept.fields.original.queue_id)?;
    Ok(octets.map(|octets| (Arc::unwrap_or_clone(kept.fields), octets)))
}
