//! Moves that are handed to the writer, and not waited for.

use super::front::{self, FrontStep, Place};
use super::writer::Writer;
use super::{Options, attempts, decide};
use crate::mail::{QueueId, RecordId};
use crate::spool::{Archive, Draft, Pending, RecordDraft, SpoolError, Verdict};
use std::sync::Arc;

/// The verdict on a message, which nobody needs to wait for.
pub(super) fn post_decide(writer: &Writer, queue_id: QueueId, verdict: Verdict, options: &Options) -> Pending<()> {
    let options = options.clone();
    let (clock, message_uuid) = (Arc::clone(&options.clock), options.message_uuid);
    writer.post(
        move |step| front::decide(step, queue_id, verdict, clock.now(), message_uuid),
        move |step| {
            let now = options.clock.now();
            decide::decide(step, queue_id, verdict, now, options.message_uuid).map(drop)
        },
    )
}

/// A claim that nobody took.
pub(super) fn put_back(writer: &Writer, id: RecordId) {
    let first = move |step: &mut FrontStep<'_>| {
        step.effects.something_is_due();
        front::unclaim(step, id)
    };
    drop(writer.post(first, move |step| {
        attempts::unclaim(step, id)?;
        step.effects.something_is_due();
        Ok(())
    }));
}

/// Of a step that touches nothing of messages and records.
pub(super) fn apart<T>(_: &mut FrontStep<'_>) -> Result<Place<T>, SpoolError> {
    Ok(Place::Apart)
}

/// Ends when a message may be taken: at once, but where its archives lag behind.
pub(super) fn pace(writer: &Writer, draft: &Draft) -> impl Future<Output = ()> + Send + use<> {
    let archive =
        |draft: &RecordDraft| Archive { organization: draft.fields.organization.clone(), key: draft.archive.clone() };
    let archives: Vec<_> = draft.records.iter().map(archive).collect();
    let pace = writer.pace(archives.iter());
    async move {
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
    }
}

/// The answer of what can't be begun.
pub(super) fn failed<T: Send + 'static>(error: SpoolError) -> Pending<T> {
    Box::pin(std::future::ready(Err(error)))
}
