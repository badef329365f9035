//! Gaps in the journal: messages that were relayed without a record, noted together with the report that tells of them.

use super::reports;
use super::rows::json;
use super::steps::{Step, StepError};
use crate::journal::{Gap, News, ReportSeed};
use crate::mail::Timestamp;
use crate::spool::NotedGap;
use rusqlite::{Connection, params};

/// Notes a gap and keeps its report, once for each seed.
pub(super) fn note(step: &mut Step<'_>, organization: &str, gap: &Gap, seed: ReportSeed) -> Result<(), StepError> {
    let mut statement = step.db.prepare_cached(
        "INSERT OR IGNORE INTO gap (report, organization, since, until, messages, reason, queue_ids) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    let noted = statement.execute(params![
        seed.id.as_str(),
        organization,
        gap.since.as_millis(),
        gap.until.as_millis(),
        i64::try_from(gap.messages).unwrap_or(i64::MAX),
        gap.reason,
        json(&gap.queue_ids)?
    ])?;
    if noted > 0 {
        reports::insert(step.db, &seed.tell(organization, News::Bypassed(gap.clone())))?;
        step.effects.something_is_due();
    }
    Ok(())
}

/// The last gaps, oldest first.
pub(super) fn last(db: &Connection, limit: usize) -> Result<Vec<NotedGap>, StepError> {
    let mut statement = db.prepare_cached(
        "SELECT organization, since, until, messages, reason, queue_ids FROM gap ORDER BY id DESC LIMIT ?",
    )?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let ids: String = row.get(5)?;
        let gap = Gap {
            since: Timestamp::from_millis(row.get(1)?),
            until: Timestamp::from_millis(row.get(2)?),
            messages: row.get::<_, i64>(3)?.unsigned_abs(),
            reason: row.get(4)?,
            // A gap is told, whatever has become of its ids.
            queue_ids: serde_json::from_str(&ids).unwrap_or_default(),
        };
        Ok(NotedGap { organization: row.get(0)?, gap })
    })?;
    let mut gaps = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    gaps.reverse();
    Ok(gaps)
}
