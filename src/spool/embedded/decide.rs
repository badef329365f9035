//! Steps of a message's first half: its octets and records become durable, and the next hop's verdict on it.

use super::steps::{Step, StepError};
use super::{copies, rows};
use crate::mail::{QueueId, Timestamp};
use crate::spool::allowance::Grant;
use crate::spool::files::OctetFile;
use crate::spool::intake::Gathered;
use crate::spool::life::{self, Decided, Event, Kept, MessageUuid};
use crate::spool::{Intake, SpoolError, Verdict};
use bytes::Bytes;
use rusqlite::params;
use std::sync::Arc;

/// Octets that are ready to be stored.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// With what a message of the middling sort holds.
    Inline(Bytes, Option<Arc<Grant>>),
    File(Arc<OctetFile>),
}

impl Body {
    /// What an intake has gathered, synced where it is a file; with what is to be held until it is stored.
    pub(super) async fn of(intake: Intake) -> Result<(Self, Option<Grant>), SpoolError> {
        let whole = intake.finish().await?;
        let body = match whole.octets {
            Gathered::Inline(octets) => Self::Inline(octets, whole.middling.map(Arc::new)),
            Gathered::File(file) => Self::File(Arc::new(file)),
        };
        Ok((body, whole.arriving))
    }

    /// Octets that are in memory.
    pub(super) fn in_memory(&self) -> usize {
        if let Self::Inline(octets, _) = self { octets.len() } else { 0 }
    }
}

/// A message and its records, ready to be stored.
pub(super) struct Prepared {
    pub(super) queue_id: QueueId,
    pub(super) size: u64,
    pub(super) body: Body,
    pub(super) records: Vec<Kept>,
}

/// Stores a message and its records.
pub(super) fn prepare(step: &mut Step<'_>, prepared: &Prepared) -> Result<(), StepError> {
    let received = prepared.records.first().map_or(Timestamp::from_millis(0), |kept| kept.fields.original.received);
    let octets = match &prepared.body {
        Body::Inline(octets, grant) => {
            step.effects.hold(prepared.queue_id, grant.as_ref());
            Some(octets.as_ref())
        }
        Body::File(file) => {
            step.effects.keep_file(Arc::clone(file));
            None
        }
    };
    rows::insert_message(step.db, prepared.queue_id, received, prepared.size, octets)?;
    prepared.records.iter().try_for_each(|kept| rows::insert(step.db, kept))
}

/// Takes the verdict; gives the number of records that stay. A message that has no prepared records is none of ours.
pub(super) fn decide(
    step: &mut Step<'_>,
    queue_id: QueueId,
    verdict: Verdict,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<u64, StepError> {
    let mut stay = 0;
    for row in rows::select(step.db, "WHERE queue_id = ? AND state = 'prepared' ORDER BY id", [queue_id.as_str()])? {
        let Some(unknown) = life::is_unknown(verdict) else {
            rows::delete(step.db, row.id)?;
            continue;
        };
        let (id, standing) = (row.id, row.standing.clone());
        match row.kept() {
            Ok(mut kept) => stay += u64::from(decide_one(step, &mut kept, unknown, now, message_uuid)?),
            Err(error) => rows::fail_damaged(step, id, standing, &error.to_string(), now)?,
        }
    }
    if stay == 0 {
        forget_message(step, queue_id)?;
    }
    Ok(stay)
}

/// Whether the record stays.
fn decide_one(
    step: &mut Step<'_>,
    new: &mut Kept,
    unknown: bool,
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Result<bool, StepError> {
    let queue_id = new.fields.original.queue_id;
    let mut earlier = earlier(step, new)?;
    match life::decide(new, unknown, &mut earlier, now, message_uuid) {
        Decided::Stays { sealed } => {
            if let Some(first) = sealed.and_then(|place| earlier.get(place)) {
                rows::save(step.db, first)?;
                copies::seal(step, first, message_uuid)?;
            }
            rows::save(step.db, new)?;
            step.effects.log(Event::committed(new));
            step.effects.something_is_due();
            Ok(true)
        }
        Decided::Merged { earlier: place, added } => {
            rows::delete(step.db, new.fields.id)?;
            if let Some(kept) = earlier.get(place) {
                rows::save(step.db, kept)?;
                step.effects.log(Event::merged(kept, queue_id, added));
            }
            Ok(false)
        }
    }
}

/// The decided records of the same message, organization and archive (of an earlier version's history: of whatever archive), oldest
/// first. One that an operator has discarded stands for
/// nothing: the archive never took it. Without a Message-ID only those matter that
/// may still be joined or owe a retry: equal content without one may be many messages.
fn earlier(step: &Step<'_>, new: &Kept) -> Result<Vec<Kept>, StepError> {
    const SAME: &str = "WHERE organization = ? AND identity = ? AND state NOT IN ('prepared', 'discarded') \
         AND archive IN (?, '') AND replay_of IS NULL ORDER BY id";
    const UNSEALED: &str = "WHERE organization = ? AND identity = ? AND sealed = 0 AND state = 'waiting' \
         AND archive IN (?, '') ORDER BY id";
    const OWING: &str = "WHERE organization = ? AND identity = ? AND owes = 1 AND sealed = 1 AND state <> 'discarded' \
         AND archive IN (?, '') AND replay_of IS NULL ORDER BY id";
    let (organization, identity) = (&new.fields.organization, new.fields.original.identity.as_slice());
    let ask = |condition| rows::select(step.db, condition, params![organization, identity, new.archive]);
    let found = if new.fields.original.message_id.is_some() {
        ask(SAME)?
    } else {
        let mut found = ask(OWING)?;
        found.extend(ask(UNSEALED)?);
        found
    };
    // One that can't be read, or stands for nothing, can't stand for another.
    let sound = found.into_iter().filter(|row| life::copies::stands_for_later(&row.standing));
    Ok(sound.filter_map(|row| row.kept().ok()).collect())
}

/// Lets a message's octets go, unless a live record still needs them.
pub(super) fn forget_message(step: &mut Step<'_>, queue_id: QueueId) -> Result<(), StepError> {
    if let Some(in_file) = rows::forget_message(step.db, queue_id)? {
        step.effects.forget(queue_id, in_file);
    }
    Ok(())
}
