//! Times in which an organization's journaling was switched off.

use super::steps::{Step, StepError};
use crate::mail::Timestamp;
use crate::spool::{Pause, Switched, Turn};
use rusqlite::{Connection, params};

/// Opens or closes an entry, unless the switch is known to stand so already.
pub(super) fn note(step: &mut Step<'_>, switched: &Switched) -> Result<(), StepError> {
    let Switched { organization, turn, journaling } = switched;
    let generation = i64::try_from(turn.generation).unwrap_or(i64::MAX);
    if *journaling {
        let mut statement = step.db.prepare_cached(
            "UPDATE pause SET until = ?, on_generation = ?, on_reason = ? WHERE organization = ? AND until IS NULL",
        )?;
        statement.execute(params![turn.at.as_millis(), generation, turn.reason, organization])?;
    } else {
        let mut statement = step.db.prepare_cached(
            "INSERT OR IGNORE INTO pause (organization, since, off_generation, off_reason) VALUES (?, ?, ?, ?)",
        )?;
        statement.execute(params![organization, turn.at.as_millis(), generation, turn.reason])?;
    }
    Ok(())
}

/// The last entries, oldest first.
pub(super) fn last(db: &Connection, limit: usize) -> Result<Vec<Pause>, StepError> {
    let mut statement = db.prepare_cached(
        "SELECT organization, since, off_generation, off_reason, until, on_generation, on_reason \
         FROM pause ORDER BY id DESC LIMIT ?",
    )?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let turn = |at: i64, generation: Option<i64>, reason| Turn {
            at: Timestamp::from_millis(at),
            generation: generation.unwrap_or(0).unsigned_abs(),
            reason,
        };
        let until: Option<i64> = row.get(4)?;
        let (generation, reason) = (row.get(5)?, row.get(6)?);
        Ok(Pause {
            organization: row.get(0)?,
            off: turn(row.get(1)?, row.get(2)?, row.get(3)?),
            on: until.map(|at| turn(at, generation, reason)),
        })
    })?;
    let mut pauses = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    pauses.reverse();
    Ok(pauses)
}
