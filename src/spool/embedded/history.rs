//! What is over is remembered for a while, so that a late repeat of a message needs no second record, and then removed.
//!
//! Live entries are never touched: only rows that say when they ended. Where octets of delivered records are kept to be sent
//! again, the record is remembered for as long.

use super::decide::forget_message;
use super::rows::{self, json, word};
use super::steps::{Step, StepError};
use crate::mail::{QueueId, RecordId, Timestamp};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long it is remembered that an operator gave a record up, and that messages have none.
pub(super) const KEEP_DISCARDED: Duration = Duration::from_secs(365 * 86_400);
/// Rows of each kind that are removed in one transaction.
pub(super) const PRUNE_ROWS: usize = 500;

/// What [`let_go`] would find: the records kept too long.
const KEPT_TOO_LONG: &str = "FROM record WHERE retained \
     AND ended < coalesce(CAST(?1 ->> organization AS INTEGER), ?2)";

/// Whether there is anything to let go.
pub(super) fn is_kept_too_long(
    db: &Connection,
    before: &BTreeMap<String, Timestamp>,
    rest: Timestamp,
) -> Result<bool, StepError> {
    let text = format!("SELECT EXISTS (SELECT 1 {KEPT_TOO_LONG})");
    Ok(db.prepare_cached(&text)?.query_row(params![times(before)?, rest.as_millis()], |row| row.get(0))?)
}

fn times(before: &BTreeMap<String, Timestamp>) -> Result<String, StepError> {
    let times: BTreeMap<_, _> = before.iter().map(|(organization, time)| (organization, time.as_millis())).collect();
    Ok(json(&times)?)
}

/// Lets some of the octets go that were kept to be sent again: of records that were delivered before the time that `before`
/// has for their organization, or before `rest` where it lacks that; tells of how many records.
pub(super) fn let_go(
    step: &mut Step<'_>,
    before: &BTreeMap<String, Timestamp>,
    rest: Timestamp,
) -> Result<usize, StepError> {
    let text = format!("SELECT id, queue_id {KEPT_TOO_LONG} ORDER BY organization, ended LIMIT ?3");
    let limit = i64::try_from(PRUNE_ROWS).unwrap_or(i64::MAX);
    let over: Vec<(RecordId, QueueId)> = step
        .db
        .prepare_cached(&text)?
        .query_map(params![times(before)?, rest.as_millis(), limit], |row| Ok((word(row, 0)?, word(row, 1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, queue_id) in &over {
        rows::retain(step.db, *id, false)?;
        forget_message(step, *queue_id)?;
    }
    Ok(over.len())
}

/// Removes some of what ended longer than `keep` ago (a year for discarded records and gaps); true when there may be more.
pub(super) fn prune(db: &Connection, now: Timestamp, keep: Duration) -> rusqlite::Result<bool> {
    let before = |keep: Duration| now.as_millis().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
    let mut most = 0;
    for (table, condition, state, keep) in [
        ("record", "state = ? AND NOT retained", "acked", keep),
        ("record", "state = ? AND NOT retained", "discarded", keep.max(KEEP_DISCARDED)),
        ("report", "state = ?", "failed", keep),
    ] {
        let text = format!(
            "DELETE FROM {table} WHERE rowid IN \
             (SELECT rowid FROM {table} WHERE {condition} AND ended IS NOT NULL AND ended < ? LIMIT ?)"
        );
        let limit = i64::try_from(PRUNE_ROWS).unwrap_or(i64::MAX);
        let removed = db.prepare_cached(&text)?.execute(params![state, before(keep), limit])?;
        most = most.max(removed);
    }
    let limit = i64::try_from(PRUNE_ROWS).unwrap_or(i64::MAX);
    let gaps = "DELETE FROM gap WHERE id IN (SELECT id FROM gap WHERE until < ? LIMIT ?)";
    most = most.max(db.prepare_cached(gaps)?.execute(params![before(KEEP_DISCARDED), limit])?);
    Ok(most >= PRUNE_ROWS)
}
