//! What a start does before anything else: after a crash, every entry is somewhere again.
//!
//! | found                              | becomes                                                         |
//! |------------------------------------|-----------------------------------------------------------------|
//! | records `prepared`, no verdict     | decided as [`Verdict::Unknown`]; the merge rules apply          |
//! | records and reports `sending`      | what they were before, due again                                |
//! | an octet file that no message has  | removed; left while a damaged log is kept, which may have had one |
//! | a message whose file is missing    | its records are failed and say so; never lost, never a crash    |

use super::Options;
use super::decide;
use super::rows::{self, word};
use super::steps::{Effects, Step, StepError};
use crate::mail::{QueueId, Timestamp};
use crate::queue::OCTETS_LOST;
use crate::spool::files::OctetStore;
use crate::spool::life::MessageUuid;
use crate::spool::{Recovered, SpoolError, Verdict};
use rusqlite::{Connection, TransactionBehavior};
use std::collections::HashSet;

/// Puts everything in order, in one transaction; octet files that no message has are removed afterwards,
/// unless they are to be kept.
pub(super) fn put_in_order(
    db: &mut Connection,
    store: &OctetStore,
    options: &Options,
    keeps_strangers: bool,
) -> Result<Recovered, SpoolError> {
    let unusable = |error: rusqlite::Error| SpoolError::Unusable(error.to_string());
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unusable)?;
    let mut step = Step { db: &transaction, effects: Effects::default() };
    let recovered = sweep(&mut step, store, options, keeps_strangers)
        .map_err(|error| SpoolError::Unusable(SpoolError::from(error).to_string()))?;
    let effects = step.effects;
    transaction.commit().map_err(unusable)?;
    effects.carry_out(store);
    Ok(recovered)
}

fn sweep(
    step: &mut Step<'_>,
    store: &OctetStore,
    options: &Options,
    keeps_strangers: bool,
) -> Result<Recovered, StepError> {
    let now = options.clock.now();
    step.db.execute_batch(
        "UPDATE record SET state = before, due = CASE WHEN held THEN NULL ELSE next_attempt END
             WHERE ended IS NULL AND state = 'sending';
         UPDATE report SET state = 'waiting', due = 0 WHERE ended IS NULL AND state = 'sending';",
    )?;
    let unknown = decide_prepared(step, now, options.message_uuid)?;
    let named = check_files(step, store, now)?;
    if !keeps_strangers {
        remove_strangers(step, store, &named)?;
    }
    let records: i64 = step.db.query_row(
        "SELECT count(*) FROM record WHERE ended IS NULL AND state IN ('waiting', 'deferred', 'failed')",
        [],
        |row| row.get(0),
    )?;
    Ok(Recovered { records: records.unsigned_abs(), unknown })
}

fn decide_prepared(step: &mut Step<'_>, now: Timestamp, message_uuid: MessageUuid) -> Result<u64, StepError> {
    let prepared: Vec<QueueId> = step
        .db
        .prepare("SELECT DISTINCT queue_id FROM record WHERE ended IS NULL AND state = 'prepared' ORDER BY queue_id")?
        .query_map([], |row| word(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut unknown = 0;
    for queue_id in prepared {
        unknown += decide::decide(step, queue_id, Verdict::Unknown, now, message_uuid)?;
    }
    Ok(unknown)
}

/// The messages whose octets are in files; where a file is not what it was, the records are failed.
fn check_files(step: &mut Step<'_>, store: &OctetStore, now: Timestamp) -> Result<HashSet<String>, StepError> {
    let named: Vec<(QueueId, i64)> = step
        .db
        .prepare("SELECT queue_id, size FROM message WHERE octets IS NULL")?
        .query_map([], |row| Ok((word(row, 0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (queue_id, size) in &named {
        let path = store.path(*queue_id);
        let wrong = match store.disk().length(&path) {
            Ok(length) if length == size.unsigned_abs() => continue,
            Ok(length) => format!("has {length} octets instead of {size}"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is missing".to_owned(),
            Err(error) => format!("can't be read: {error}"),
        };
        let why = format!("{OCTETS_LOST}file {} {wrong}", path.display());
        let live = rows::select(step.db, "WHERE queue_id = ? AND ended IS NULL", [queue_id.as_str()])?;
        // Told once, not at each start.
        for row in live.into_iter().filter(|row| !row.standing.is_damaged()) {
            rows::fail_damaged(step, row.id, row.standing, &why, now)?;
        }
    }
    Ok(named.into_iter().map(|(queue_id, _)| queue_id.to_string()).collect())
}

fn remove_strangers(step: &mut Step<'_>, store: &OctetStore, named: &HashSet<String>) -> Result<(), StepError> {
    let each = store.each(|name, path| {
        if !named.contains(name) {
            match name.parse() {
                Ok(queue_id) => step.effects.forget(queue_id, true),
                Err(_) => tracing::warn!(event = "spool.leftover", path = %path.display(), "a file that is not the spool's was left alone"),
            }
        }
    });
    each.map_err(|error| SpoolError::Unusable(format!("its octet files can't be listed: {error}")).into())
}
