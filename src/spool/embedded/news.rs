//! Steps of what organizations are told: notices are kept with the move they tell of and gather; reports are made of them;
//! a delay that was told is remembered, and so is its end.

use super::reports;
use super::rows::json;
use super::steps::{Step, StepError};
use crate::journal::{MAX_NAMED, Named, News, Notice, ReportFields, ReportSeed};
use crate::mail::Timestamp;
use crate::queue::Pace;
use crate::spool::{SpoolError, Warned};
use rusqlite::{Connection, OptionalExtension, params};

/// Keeps a notice until it is told; the organization's pace says when that is.
pub(super) fn keep(step: &mut Step<'_>, organization: &str, notice: &Notice, now: Timestamp) -> Result<(), StepError> {
    let mut pace = pace(step.db, organization)?;
    if pace.notice(now, MAX_NAMED) {
        let mut statement = step.db.prepare_cached("INSERT INTO notice (organization, fields) VALUES (?, ?)")?;
        statement.execute(params![organization, json(notice)?])?;
    }
    save_pace(step.db, organization, &pace)?;
    step.effects.something_is_due();
    Ok(())
}

/// Makes a report of what has gathered, when its time has come.
pub(super) fn gather(step: &mut Step<'_>, organization: &str, seed: ReportSeed) -> Result<bool, StepError> {
    let mut pace = pace(step.db, organization)?;
    if pace.due().is_none_or(|due| due > seed.date) {
        return Ok(false);
    }
    let kept: Vec<String> = step
        .db
        .prepare_cached("SELECT fields FROM notice WHERE organization = ? ORDER BY number")?
        .query_map([organization], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    step.db.prepare_cached("DELETE FROM notice WHERE organization = ?")?.execute([organization])?;
    let more = pace.tell(seed.date);
    save_pace(step.db, organization, &pace)?;
    // A notice that can't be read is still a failure that is told.
    let records: Vec<Notice> = kept.iter().filter_map(|fields| serde_json::from_str(fields).ok()).collect();
    let unreadable = u64::try_from(kept.len().saturating_sub(records.len())).unwrap_or(u64::MAX);
    let report = seed.tell(organization, News::Failed(Named { records, more: more.saturating_add(unreadable) }));
    reports::insert(step.db, &report)?;
    step.effects.something_is_due();
    Ok(true)
}

/// Keeps a report that somebody else has made.
pub(super) fn tell(step: &mut Step<'_>, report: &ReportFields) -> Result<(), StepError> {
    reports::insert(step.db, report)?;
    match &report.news {
        News::Failed(_) | News::Bypassed(_) => {}
        News::Delayed { outage, .. } => {
            let before = warned(step.db, &report.organization, &outage.archive)?;
            save_warned(
                step.db,
                (&report.organization, &outage.archive),
                &Warned::of(outage.clone(), before, report.date),
            )?;
        }
        News::Restored { outage, .. } => {
            if let Some(before) = warned(step.db, &report.organization, &outage.archive)? {
                save_warned(step.db, (&report.organization, &outage.archive), &before.ended(report.date))?;
            }
        }
    }
    step.effects.something_is_due();
    Ok(())
}

/// The delay of which the organization has been told at one of its archives.
pub(super) fn warned(db: &Connection, organization: &str, archive: &str) -> Result<Option<Warned>, StepError> {
    let mut statement = db.prepare_cached("SELECT fields FROM warned WHERE organization = ? AND archive = ?")?;
    let fields: Option<String> = statement.query_row([organization, archive], |row| row.get(0)).optional()?;
    // What can't be read is told again.
    Ok(fields.and_then(|fields| serde_json::from_str(&fields).ok()))
}

fn save_warned(db: &Connection, (organization, archive): (&str, &str), warned: &Warned) -> Result<(), StepError> {
    db.prepare_cached("INSERT OR REPLACE INTO warned (organization, archive, fields) VALUES (?, ?, ?)")?
        .execute(params![organization, archive, json(warned)?])?;
    Ok(())
}

fn pace(db: &Connection, organization: &str) -> Result<Pace, StepError> {
    let mut statement = db.prepare_cached("SELECT fields FROM pace WHERE organization = ?")?;
    let fields: Option<String> = statement.query_row([organization], |row| row.get(0)).optional()?;
    Ok(fields.and_then(|fields| serde_json::from_str(&fields).ok()).unwrap_or_default())
}

fn save_pace(db: &Connection, organization: &str, pace: &Pace) -> Result<(), StepError> {
    let fields = serde_json::to_string(pace).map_err(|error| SpoolError::Failing(error.to_string()))?;
    db.prepare_cached("INSERT OR REPLACE INTO pace (organization, due, fields) VALUES (?, ?, ?)")?.execute(params![
        organization,
        pace.due().map(Timestamp::as_millis),
        fields
    ])?;
    Ok(())
}
