//! What is over is remembered for a while, so that a late repeat of a message needs no second record, and then removed.
//!
//! Live entries are never touched: only rows that say when they ended.

use crate::mail::Timestamp;
use rusqlite::{Connection, params};
use std::time::Duration;

/// How long it is remembered that an operator gave a record up, and that messages have none.
pub(super) const KEEP_DISCARDED: Duration = Duration::from_secs(365 * 86_400);
/// Rows of each kind that are removed in one transaction.
pub(super) const PRUNE_ROWS: usize = 500;

/// Removes some of what ended longer than `keep` ago (a year for discarded records and gaps); true when there may be more.
pub(super) fn prune(db: &Connection, now: Timestamp, keep: Duration) -> rusqlite::Result<bool> {
    let before = |keep: Duration| now.as_millis().saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
    let mut most = 0;
    for (table, state, keep) in
        [("record", "acked", keep), ("record", "discarded", keep.max(KEEP_DISCARDED)), ("report", "failed", keep)]
    {
        let text = format!(
            "DELETE FROM {table} WHERE rowid IN \
             (SELECT rowid FROM {table} WHERE state = ? AND ended IS NOT NULL AND ended < ? LIMIT ?)"
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
