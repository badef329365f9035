//! Records that came back: which one is meant, and what becomes of it and of its octets.

use super::decide::Body;
use super::steps::{Step, StepError};
use super::{news, rows};
use crate::mail::QueueId;
use crate::queue::State;
use crate::spool::files::OctetStore;
use crate::spool::life::{self, Kept};
use crate::spool::{Receipt, Returned};
use rusqlite::Connection;

/// The record that a notification means.
pub(super) fn meant(db: &Connection, returned: &Returned) -> Result<Option<Kept>, StepError> {
    let found = match (&returned.record, &returned.message_uuid) {
        (Some(record), _) => rows::select(db, "WHERE id = ?", [record.as_str()])?,
        (None, Some(uuid)) => rows::select(db, "WHERE message_uuid = ? ORDER BY id", [uuid.to_string()])?,
        (None, None) => Vec::new(),
    };
    Ok(found.into_iter().filter_map(|row| row.kept().ok()).find(|kept| life::is_meant(kept, returned)))
}

/// Whose octets came back and are not there.
pub(super) fn lacking(db: &Connection, store: &OctetStore, returned: &Returned) -> Result<Option<QueueId>, StepError> {
    let (Some(kept), Some(octets)) = (meant(db, returned)?, &returned.original) else { return Ok(None) };
    let queue_id = kept.fields.original.queue_id;
    let there = rows::octets(db, store, queue_id)?.is_some();
    Ok((!there && life::is_original(&kept, octets)).then_some(queue_id))
}

/// Marks the record; with its octets when `body` has them.
pub(super) fn take(
    step: &mut Step<'_>,
    store: &OctetStore,
    returned: &Returned,
    body: Option<&Body>,
) -> Result<Receipt, StepError> {
    let Some(mut kept) = meant(step.db, returned)? else { return Ok(Receipt::Unknown) };
    let (queue_id, received) = (kept.fields.original.queue_id, kept.fields.original.received);
    let there = rows::octets(step.db, store, queue_id)?.is_some();
    let body = body.filter(|_| !there);
    let (receipt, notice) = life::returned(&mut kept, returned, there || body.is_some())?;
    if kept.standing.state != State::Failed {
        return Ok(receipt);
    }
    rows::save_standing(step.db, kept.fields.id, &kept.standing)?;
    if let Some(body) = body {
        let octets = match body {
            Body::Inline(octets, grant) => {
                step.effects.hold(queue_id, grant.as_ref());
                Some(octets.as_ref())
            }
            Body::File(file) => {
                step.effects.keep_file(file.clone());
                None
            }
        };
        rows::insert_message(step.db, queue_id, received, kept.fields.original.size, octets)?;
    }
    if let Some(notice) = notice {
        news::keep(step, &kept.fields.organization, &notice, returned.at)?;
    }
    Ok(receipt)
}
