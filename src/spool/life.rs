//! What a verdict makes of a message's records: the part of a spool's work that no storage is needed for.
//!
//! The embedded spool and the one in memory load records, let them change here, and store what came out.

pub(super) mod copies;
mod debts;

use super::{
    Archive, Copies, Listing, Operation, Outcome, Receipt, RecordDraft, Returned, Setback, SpoolError, Verdict,
};
use crate::journal::{Cause, Notice, RecordFields, Replay};
use crate::mail::{QueueId, RecordId, Sha256, Timestamp};
use crate::queue::{Earlier, Merge, OCTETS_LOST, Standing, State, merge};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Derives the UUID of a record's Message-ID from its fields.
pub type MessageUuid = fn(&RecordFields) -> Uuid;

/// A record as a spool keeps it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) fields: Arc<RecordFields>,
    pub(super) standing: Standing,
    /// How long it may be joined after the verdict.
    pub(super) window: Duration,
    /// The key of the archive that it goes to.
    pub(super) archive: String,
    /// Whether other archives get copies of it.
    pub(super) copies: Copies,
}

impl Kept {
    /// Whether a client was told that the verdict was lost and has to come again with a message that nothing but its octets
    /// tells from another.
    pub(super) fn owes_retry(&self) -> bool {
        debts::is_owed(&self.fields)
    }

    /// A draft as it is stored first.
    pub(super) fn prepared(draft: RecordDraft, message_uuid: MessageUuid) -> Self {
        let RecordDraft { mut fields, coalesce, archive, copies } = draft;
        // What lists show until sealing fixes it.
        fields.message_uuid = message_uuid(&fields);
        Self { fields: Arc::new(fields), standing: Standing::prepared(), window: coalesce, archive, copies }
    }
}

/// What became of a record when its message's verdict came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decided {
    /// It waits to be sent; this earlier record was sealed for it.
    Stays {
        /// Which one has to be stored again.
        sealed: Option<usize>,
    },
    /// It goes: this earlier record stands for it, and names these recipients more.
    Merged {
        /// Which one has to be stored again.
        earlier: usize,
        /// The addresses that joined it.
        added: Vec<String>,
    },
}

/// Takes the verdict on a prepared record, given the earlier records of its message and organization, oldest first.
pub(super) fn decide(
    new: &mut Kept,
    unknown: bool,
    earlier: &mut [Kept],
    now: Timestamp,
    message_uuid: MessageUuid,
) -> Decided {
    if new.fields.outcome_unknown != unknown {
        Arc::make_mut(&mut new.fields).outcome_unknown = unknown;
    }
    if let Some(place) = retried(new, unknown, earlier, now) {
        if let Some(kept) = earlier.get_mut(place).filter(|_| !unknown) {
            // What is sealed stays as it is, to the octet; only the debt is paid.
            Arc::make_mut(&mut kept.fields).outcome_unknown &= kept.standing.sealed;
        }
        return Decided::Merged { earlier: place, added: Vec::new() };
    }
    let owed = if unknown { debts::of(&new.fields) } else { None };
    let decision = {
        let known: Vec<_> = earlier
            .iter()
            .map(|kept| Earlier {
                recipients: kept.fields.recipients.iter().map(|recipient| &recipient.address).collect(),
                open: kept.standing.is_open(now),
            })
            .collect();
        let recipients: Vec<_> = new.fields.recipients.iter().map(|recipient| &recipient.address).collect();
        merge(&recipients, &known, new.fields.original.message_id.is_some())
    };
    let pick = |places: &[usize]| -> Vec<_> {
        places.iter().filter_map(|place| new.fields.recipients.get(*place).cloned()).collect()
    };
    let mut sealed = None;
    match decision {
        Merge::Own => {}
        Merge::Known { earlier: place } => {
            if let Some(kept) = earlier.get_mut(place).filter(|kept| !kept.standing.sealed) {
                Arc::make_mut(&mut kept.fields).outcome_unknown &= unknown;
            }
            return Decided::Merged { earlier: place, added: Vec::new() };
        }
        Merge::Join { earlier: place, added } => {
            let added = pick(&added);
            let names = added.iter().map(|recipient| recipient.address.to_string()).collect();
            if let Some(kept) = earlier.get_mut(place) {
                let fields = Arc::make_mut(&mut kept.fields);
                fields.recipients.extend(added);
                // One transaction's verdict is known: the message did pass.
                fields.outcome_unknown &= unknown;
                fields.message_uuid = message_uuid(fields);
                debts::owe(fields, owed);
            }
            return Decided::Merged { earlier: place, added: names };
        }
        Merge::Supplement { earlier: place, added } => {
            let added = pick(&added);
            let fields = Arc::make_mut(&mut new.fields);
            fields.recipients = added;
            if let Some(first) = earlier.get_mut(place) {
                if !first.standing.sealed {
                    // Its Message-ID is about to be named, and must not change any more.
                    seal(first, now, message_uuid);
                    sealed = Some(place);
                }
                let named = first.fields.supplements.clone();
                fields.supplements = Some(named.unwrap_or_else(|| message_id(first.fields.message_uuid)));
            }
            fields.message_uuid = message_uuid(fields);
        }
    }
    // Most records say what they said before, and are shared with what was.
    if owed.is_some() {
        debts::owe(Arc::make_mut(&mut new.fields), owed);
    }
    new.standing.commit(now.plus(new.window));
    Decided::Stays { sealed }
}

/// The record that is owed this retry, and no Message-ID to tell by. With a Message-ID the message itself is known for as long
/// as it is remembered. A retry that is lost again leaves the debt.
fn retried(new: &Kept, unknown: bool, earlier: &mut [Kept], now: Timestamp) -> Option<usize> {
    new.fields.original.message_id.is_none().then_some(())?;
    earlier.iter_mut().position(|kept| debts::take(Arc::make_mut(&mut kept.fields), &new.fields, now, !unknown))
}

/// An attempt begins: what is not fixed yet is fixed now.
pub(super) fn claim(kept: &mut Kept, now: Timestamp, message_uuid: MessageUuid) {
    if !kept.standing.sealed {
        seal(kept, now, message_uuid);
    }
    kept.standing.claim();
}

/// An attempt ended; gives the notice that is to be kept with it.
pub(super) fn settle(
    id: RecordId,
    standing: &mut Standing,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Option<Notice>, SpoolError> {
    let (moved, notice) = match outcome {
        Outcome::Acked { reply, .. } => (standing.acked(reply, now), None),
        Outcome::Deferred { reply, next_attempt } => (standing.deferred(reply, next_attempt), None),
        Outcome::Failed { reply, notice } => (standing.failed(reply), notice),
    };
    moved.map_err(|unmoved| not_now(id, &unmoved.0))?;
    Ok(notice)
}

/// Keeps a record as failed whose time was over while it waited for its route.
pub(super) fn give_up(kept: &mut Kept, setback: &Setback, now: Timestamp) -> Result<Notice, SpoolError> {
    let id = kept.fields.id;
    kept.standing.give_up(setback.reply.clone()).map_err(|unmoved| not_now(id, &unmoved.0))?;
    let notice = Notice { attempts: kept.standing.attempts, ..Notice::about(&kept.fields, Cause::GivenUp, now) };
    Ok(notice.at_archive(&kept.archive).with_reply(&setback.route, &setback.reply, setback.reply_is_smtp))
}

/// Says that a record has failed, which was not told when it did.
pub(super) fn failed(kept: &Kept, now: Timestamp) -> Notice {
    Notice { cause: Cause::Refused, next_attempt: None, ..waits(kept, now) }
}

/// Says that a record waits.
pub(super) fn waits(kept: &Kept, now: Timestamp) -> Notice {
    let standing = &kept.standing;
    let reply = standing.last_reply.as_deref().unwrap_or_default();
    let notice = Notice {
        attempts: standing.attempts,
        next_attempt: standing.next_attempt,
        ..Notice::about(&kept.fields, Cause::Waits, now)
    };
    // What we say of a line ourselves never begins with a code of three digits.
    let code = reply.split([' ', '-']).next().unwrap_or_default();
    notice.at_archive(&kept.archive).with_reply(
        "",
        reply,
        code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit()),
    )
}

/// Whether a notification means this record.
pub(super) fn is_meant(kept: &Kept, returned: &Returned) -> bool {
    let fields = &kept.fields;
    let named = match returned.record {
        Some(record) => record == fields.id,
        None => returned.message_uuid == Some(fields.message_uuid) && returned.boundary == Some(fields.boundary),
    };
    named && returned.organizations.contains(&fields.organization)
}

/// Whether these are the octets of a record's original.
pub(super) fn is_original(kept: &Kept, octets: &[u8]) -> bool {
    Sha256::of(octets) == kept.fields.original.sha256
}

/// A record came back; `whole` says whether its octets are there. Gives what became of it, and the notice to be kept.
pub(super) fn returned(
    kept: &mut Kept,
    returned: &Returned,
    whole: bool,
) -> Result<(Receipt, Option<Notice>), SpoolError> {
    let (id, organization) = (kept.fields.id, kept.fields.organization.clone());
    let Some(reply) = &returned.reply else { return Ok((Receipt::Unchanged(id), None)) };
    let lost = || format!("{OCTETS_LOST}they went when the archive took the record; {reply}");
    if whole && kept.standing.is_damaged() {
        // What was lost came back with a repeat; it has been reported.
        kept.standing.damaged(reply.clone());
        return Ok((Receipt::Unchanged(id), None));
    }
    let never_sent = kept.standing.attempts == 0 && kept.standing.ended.is_none();
    if never_sent || kept.standing.state == State::Prepared {
        return Ok((Receipt::Unknown, None));
    }
    let moved = kept.standing.bounced(if whole { reply.clone() } else { lost() });
    if !moved.map_err(|unmoved| not_now(id, &unmoved.0))? {
        return Ok((Receipt::Unchanged(id), None));
    }
    let attempts = kept.standing.attempts;
    let notice = Notice { attempts, ..Notice::about(&kept.fields, Cause::Bounced, returned.at) };
    let archive = Archive { organization, key: kept.archive.clone() };
    let route = returned.routes.get(&archive).map_or("", String::as_str);
    let notice = notice.at_archive(&kept.archive).with_reply(route, reply, false);
    let organization = archive.organization;
    Ok((Receipt::Failed { record: id, organization, attempts, whole }, Some(notice)))
}

/// Moves a record as an operator asks.
pub(super) fn operate(kept: &mut Kept, operation: &Operation, now: Timestamp) -> Result<(), SpoolError> {
    let standing = &mut kept.standing;
    let moved = match operation {
        Operation::Retry => standing.retry(now),
        Operation::Hold => standing.hold(),
        Operation::Release => standing.release(),
        Operation::Discard { reason } => standing.discard(reason.clone(), now),
    };
    moved.map_err(|unmoved| not_now(kept.fields.id, &unmoved.0))
}

/// A delivered record as it is sent once more: as it was sealed, with an id of its own, to `archive`.
pub(super) fn replay(delivered: Kept, id: RecordId, archive: String, at: Timestamp) -> Kept {
    let replay = Some(Replay { of: delivered.fields.id, at });
    let mut standing = Standing::prepared();
    standing.commit(at);
    standing.sealed = true;
    let fields = RecordFields { id, replay, ..Arc::unwrap_or_clone(delivered.fields) };
    Kept { fields: Arc::new(fields), standing, window: Duration::ZERO, archive, copies: Copies::Alone }
}

/// The answer for a record that could not be moved; `why` continues "record … is".
pub(super) fn not_now(id: RecordId, why: &str) -> SpoolError {
    SpoolError::NotNow(format!("record {id} is {why}"))
}

/// The line of `queue list`.
pub(super) fn listing(kept: &Kept) -> Listing {
    let (fields, status) = (&kept.fields, kept.standing.status());
    Listing {
        id: fields.id,
        organization: fields.organization.clone(),
        archive: kept.archive.clone(),
        state: status.state,
        message_id: message_id(fields.message_uuid),
        original_message_id: fields.original.message_id.clone(),
        created: fields.since(),
        size: fields.original.size,
        recipients: fields.recipients.iter().map(|recipient| recipient.address.to_string()).collect(),
        attempts: status.attempts,
        next_attempt: status.next_attempt,
        last_reply: status.last_reply,
        reason: kept.standing.reason.clone(),
    }
}

/// A record's Message-ID, with its brackets.
pub(super) fn message_id(uuid: Uuid) -> String {
    format!("<{uuid}@journal.report.generator>")
}

/// Whether a verdict makes records due, and whether it was lost; none when nothing is kept.
pub(super) fn is_unknown(verdict: Verdict) -> Option<bool> {
    match verdict {
        Verdict::Accepted => Some(false),
        Verdict::Unknown => Some(true),
        Verdict::Refused => None,
    }
}

/// A line of the log that is true once what it tells is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// `record.committed`; the archive where there are several.
    Committed { record: RecordId, organization: String, queue_id: QueueId, archive: Option<String> },
    /// `record.merged`
    Merged { record: RecordId, organization: String, queue_id: QueueId, added: Vec<String> },
    /// `record.discarded`
    Discarded { record: RecordId, organization: String, reason: String },
    /// `record.superseded`
    Superseded { record: RecordId, organization: String, archive: String, reason: String },
    /// `record.failed`, for a reason on our side.
    Damaged { record: RecordId, organization: String, attempts: u32, why: String },
}

impl Event {
    /// `record.committed` for this record.
    pub(super) fn committed(kept: &Kept) -> Self {
        Self::Committed {
            record: kept.fields.id,
            organization: kept.fields.organization.clone(),
            queue_id: kept.fields.original.queue_id,
            archive: (kept.copies != Copies::Alone).then(|| kept.archive.clone()),
        }
    }

    /// `record.merged`: `earlier` stands for a record of `queue_id`.
    pub(super) fn merged(earlier: &Kept, queue_id: QueueId, added: Vec<String>) -> Self {
        Self::Merged { record: earlier.fields.id, organization: earlier.fields.organization.clone(), queue_id, added }
    }

    /// `record.discarded`, when the record was.
    pub(super) fn discarded(kept: &Kept) -> Option<Self> {
        let reason = kept.standing.reason.clone().filter(|_| kept.standing.state == State::Discarded)?;
        Some(Self::Discarded { record: kept.fields.id, organization: kept.fields.organization.clone(), reason })
    }

    /// Writes the line.
    pub(super) fn write(&self) {
        match self {
            Self::Committed { record, organization, queue_id, archive } => tracing::info!(
                event = "record.committed", %record, organization, %queue_id, archive, "the record waits to be sent"
            ),
            Self::Merged { record, organization, queue_id, added } => tracing::info!(
                event = "record.merged", %record, organization, %queue_id, added = added.len(), recipients = ?added,
                "an earlier record of the same message stands for this one"
            ),
            Self::Discarded { record, organization, reason } => tracing::warn!(
                event = "record.discarded", %record, organization, reason, "an operator gave the record up"
            ),
            Self::Superseded { record, organization, archive, reason } => tracing::info!(
                event = "record.superseded", %record, organization, archive, reason,
                "the record counts as delivered, though this archive did not take it"
            ),
            Self::Damaged { record, organization, attempts, why } => tracing::error!(
                event = "record.failed", %record, organization, reply = why, attempts, reason = "damaged",
                "the record can't be sent; it is kept as failed"
            ),
        }
    }
}

fn seal(kept: &mut Kept, now: Timestamp, message_uuid: MessageUuid) {
    let fields = Arc::make_mut(&mut kept.fields);
    fields.date = now;
    fields.message_uuid = message_uuid(fields);
    kept.standing.sealed = true;
}
