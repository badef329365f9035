//! Questions: what is there, and when the next is due. Asked on connections that only read.

use super::attempts::as_seen;
use super::rows::{self, RecordRow};
use super::steps::StepError;
use crate::journal::RecordFields;
use crate::mail::{RecordId, Timestamp};
use crate::queue::State;
use crate::spool::files::OctetStore;
use crate::spool::life;
use crate::spool::{Filter, Listing, Octets, SpoolError};
use rusqlite::{Connection, named_params};

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
    let octets =
        if kept.standing.ended.is_some() { None } else { rows::octets(&whole, store, kept.fields.original.queue_id)? };
    let listing = life::listing(&kept);
    Ok((kept.fields, listing, octets))
}

/// When the next record or report is due.
pub(super) fn next_due(db: &Connection, organization: &str) -> Result<Option<Timestamp>, StepError> {
    let mut statement = db.prepare_cached(
        "SELECT min(due) FROM (SELECT min(due) AS due FROM record WHERE organization = ?1 AND due IS NOT NULL \
         UNION ALL SELECT min(due) FROM report WHERE organization = ?1 AND due IS NOT NULL)",
    )?;
    let due: Option<i64> = statement.query_row([organization], |row| row.get(0))?;
    Ok(due.map(Timestamp::from_millis))
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
    let mut statement = db.prepare_cached("SELECT organization, created FROM record WHERE id = ?")?;
    statement.query_row([id.as_str()], |row| {
        Ok(Listing {
            id,
            organization: row.get(0)?,
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
