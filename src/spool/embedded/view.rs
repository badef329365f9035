//! Questions: what is there, and when the next is due. Asked on connections that only read.

use super::attempts::as_seen;
use super::news;
use super::rows::{self, RecordRow};
use super::steps::StepError;
use crate::journal::{Named, RecordFields};
use crate::mail::{RecordId, Timestamp};
use crate::queue::State;
use crate::spool::files::OctetStore;
use crate::spool::life;
use crate::spool::{Agenda, Archive, Backlog, Figures, Filter, Listing, Octets, SpoolError, Waiting};
use rusqlite::{Connection, OptionalExtension, named_params, params};
use std::sync::Arc;

/// Up to `limit` entries, oldest first. `stale` says that no daemon runs: what is being sent then waits in truth.
pub(super) fn list(db: &Connection, filter: &Filter, limit: usize, stale: bool) -> Result<Vec<Listing>, StepError> {
    let state = state_condition(filter.state, stale);
    let condition = format!(
        "WHERE {state} AND id > :after AND (:organization IS NULL OR organization = :organization) \
         ORDER BY id LIMIT :limit"
    );
    let found = rows::select(
        db,
        &condition,
        named_params! {
            ":after": filter.after.as_ref().map_or("", RecordId::as_str),
            ":organization": filter.organization,
            ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
        },
    )?;
    found.into_iter().map(|row| Ok(line(db, row, stale)?)).collect()
}

/// One entry whole.
pub(super) fn show(
    db: &Connection,
    store: &OctetStore,
    id: RecordId,
    stale: bool,
) -> Result<(RecordFields, Listing, Option<Octets>), StepError> {
    let whole = db.unchecked_transaction()?;
    let mut kept = rows::find(&whole, id)?;
    as_seen(&mut kept, stale);
    // Of what is history they are there where they are kept to be sent again.
    let octets = rows::octets(&whole, store, kept.fields.original.queue_id)?;
    let listing = life::listing(&kept);
    Ok((Arc::unwrap_or_clone(kept.fields), listing, octets))
}

/// When something is due next.
pub(super) fn agenda(db: &Connection, archive: &Archive) -> Result<Agenda, StepError> {
    let mut statement = db.prepare_cached(
        "SELECT (SELECT min(due) FROM record WHERE organization = ?1 AND archive = ?2 AND due IS NOT NULL), \
         (SELECT min(due) FROM record WHERE organization = ?1 AND archive = ?2 AND urged AND due IS NOT NULL), \
         (SELECT min(due) FROM report WHERE organization = ?1 AND due IS NOT NULL), \
         (SELECT due FROM pace WHERE organization = ?1)",
    )?;
    let agenda = statement.query_row([&archive.organization, &archive.key], |row| {
        let moment = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
        Ok(Agenda { records: moment(0)?, urged: moment(1)?, reports: moment(2)?, notices: moment(3)? })
    });
    Ok(agenda?)
}

/// What waits for an attempt.
pub(super) fn backlog(db: &Connection, archive: &Archive) -> Result<Backlog, StepError> {
    let mut statement = db.prepare_cached(
        "SELECT count(*), min(id) FROM record WHERE organization = ? AND archive = ? AND due IS NOT NULL",
    )?;
    let (waiting, oldest): (i64, Option<String>) =
        statement.query_row([&archive.organization, &archive.key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut statement = db.prepare_cached("SELECT created FROM record WHERE id = ?")?;
    let oldest: Option<i64> = statement.query_row([oldest], |row| row.get(0)).optional()?;
    let warned = news::warned(db, &archive.organization, &archive.key)?;
    Ok(Backlog { waiting: waiting.unsigned_abs(), oldest: oldest.map(Timestamp::from_millis), warned })
}

/// The records that wait and were made at `until` or before: up to `most` by name.
pub(super) fn waiting(
    db: &Connection,
    archive: &Archive,
    until: Timestamp,
    most: usize,
    now: Timestamp,
) -> Result<Named, StepError> {
    // One more, or none are left to count.
    let mut rows = rows::waiting(db, archive, until, most.saturating_add(1))?;
    let is_all = rows.len() <= most;
    rows.truncate(most);
    let found = rows.len();
    let records: Vec<_> =
        rows.into_iter().filter_map(|row| row.kept().ok()).map(|kept| life::waits(&kept, now)).collect();
    let mut total = found;
    if !is_all {
        const COUNT: &str = "SELECT count(*) FROM record WHERE organization = ? AND archive = ? AND due IS NOT NULL \
             AND created <= ?";
        let wanted = params![archive.organization, archive.key, until.as_millis()];
        let count: i64 = db.prepare_cached(COUNT)?.query_row(wanted, |row| row.get(0))?;
        total = usize::try_from(count).unwrap_or(usize::MAX);
    }
    let more = u64::try_from(total.saturating_sub(records.len())).unwrap_or(u64::MAX);
    Ok(Named { records, more })
}

/// Records that the archive has taken since then.
pub(super) fn acked_since(db: &Connection, archive: &Archive, since: Timestamp) -> Result<u64, StepError> {
    let mut statement = db.prepare_cached(
        "SELECT count(*) FROM record WHERE state = 'acked' AND ended IS NOT NULL AND ended >= ?3 AND organization = ?1 \
         AND archive = ?2 AND reason IS NULL",
    )?;
    let wanted = params![archive.organization, archive.key, since.as_millis()];
    let count: i64 = statement.query_row(wanted, |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// What waits by organization and state, and what the spool takes with a write-ahead log of so many octets: partial indexes
/// alone are read.
pub(super) fn figures(db: &Connection, log_octets: u64) -> Result<Figures, StepError> {
    const WAITING: &str = "SELECT organization, CASE WHEN held AND state IN ('waiting', 'deferred', 'failed') THEN 'held' \
         ELSE state END, count(*), min(created) FROM record WHERE ended IS NULL GROUP BY organization, state, held";
    let mut statement = db.prepare_cached(WAITING)?;
    let waiting = statement.query_map([], |row| {
        Ok(Waiting {
            organization: row.get(0)?,
            state: rows::word(row, 1)?,
            count: row.get::<_, i64>(2)?.unsigned_abs(),
            oldest: Timestamp::from_millis(row.get(3)?),
        })
    })?;
    let waiting: Vec<Waiting> = waiting.collect::<rusqlite::Result<_>>()?;
    let number = |text: &str| -> rusqlite::Result<i64> { db.prepare_cached(text)?.query_row([], |row| row.get(0)) };
    let pages = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
    let files = number("SELECT coalesce(sum(size), 0) FROM message WHERE octets IS NULL")?;
    Ok(Figures { waiting, octets: pages.saturating_add(files).unsigned_abs().saturating_add(log_octets) })
}

/// The rows whose visible state is wanted; the words of states are our own.
fn state_condition(state: Option<State>, stale: bool) -> String {
    const LIVE: &str = "ended IS NULL";
    let Some(state) = state else { return LIVE.to_owned() };
    match state {
        State::Acked | State::Discarded => format!("ended IS NOT NULL AND state = '{state}'"),
        State::Prepared => format!("{LIVE} AND state = 'prepared'"),
        State::Sending if stale => "FALSE".to_owned(),
        State::Sending => format!("{LIVE} AND state = 'sending'"),
        State::Held if stale => format!("{LIVE} AND held AND state <> 'prepared'"),
        State::Held => format!("{LIVE} AND held AND state IN ('waiting', 'deferred', 'failed')"),
        State::Waiting | State::Deferred | State::Failed if stale => {
            format!("{LIVE} AND NOT held AND iif(state = 'sending', before, state) = '{state}'")
        }
        State::Waiting | State::Deferred | State::Failed => format!("{LIVE} AND NOT held AND state = '{state}'"),
    }
}

/// A line; of an entry that can't be read, what its columns say.
fn line(db: &Connection, row: RecordRow, stale: bool) -> rusqlite::Result<Listing> {
    let (id, standing) = (row.id, row.standing.clone());
    match row.kept() {
        Ok(mut kept) => {
            as_seen(&mut kept, stale);
            Ok(life::listing(&kept))
        }
        Err(error) => unreadable(db, id, standing.status(), &error),
    }
}

fn unreadable(
    db: &Connection,
    id: RecordId,
    status: crate::queue::Status,
    error: &SpoolError,
) -> rusqlite::Result<Listing> {
    let mut statement = db.prepare_cached("SELECT organization, created, archive FROM record WHERE id = ?")?;
    statement.query_row([id.as_str()], |row| {
        Ok(Listing {
            id,
            organization: row.get(0)?,
            archive: row.get(2)?,
            state: status.state,
            message_id: String::new(),
            original_message_id: None,
            created: Timestamp::from_millis(row.get(1)?),
            size: 0,
            recipients: Vec::new(),
            attempts: status.attempts,
            next_attempt: status.next_attempt,
            last_reply: Some(error.to_string()),
            reason: None,
        })
    })
}
