//! Retries that are owed: where the next hop's verdict on a transaction was lost, its client was told to come again. A message
//! with a Message-ID is known again by itself. One without is known by its octets, sender and recipients, and only once for
//! each lost verdict: equal octets without a Message-ID may as well be another message, which must have its record.
//!
//! Promises: a retry makes no second record, also when the record was joined by other transactions before it came, or when
//! the lost transaction joined a record itself; a debt is over after [`RETRY_LIFETIME`].

use crate::journal::{OwedRetry, RecordFields};
use crate::mail::{Address, Timestamp};
use crate::queue::same_mailboxes;
use std::time::Duration;

/// How long a client may take to come again: the time after which clients give up, four to five days (RFC 5321, section
/// 4.5.4.1; Postfix's `maximal_queue_lifetime`). A next hop that was lost may be down for as long, and what is owed is due
/// when it is back.
pub(super) const RETRY_LIFETIME: Duration = Duration::from_secs(5 * 86_400);
/// Retries that one record is owed at most: transactions of one message within `coalesce`, all of them lost.
const MAX_OWED: usize = 100;

/// What the lost transaction of these fields will bring; none where its message is known by its Message-ID.
pub(super) fn of(fields: &RecordFields) -> Option<OwedRetry> {
    let original = &fields.original;
    original.message_id.is_none().then(|| OwedRetry {
        reverse_path: original.reverse_path.clone(),
        recipients: fields.recipients.iter().map(|recipient| recipient.address.clone()).collect(),
        received: original.received,
    })
}

/// Remembers what is owed.
pub(super) fn owe(fields: &mut RecordFields, owed: Option<OwedRetry>) {
    fields.owed.extend(owed.filter(|_| fields.owed.len() < MAX_OWED));
}

/// Whether any is owed.
pub(super) fn is_owed(fields: &RecordFields) -> bool {
    !fields.owed.is_empty() || is_implied(fields)
}

/// Whether the transaction of `new` is a retry that `fields` is owed at `now`; where it `counts`, the debt is paid.
pub(super) fn take(fields: &mut RecordFields, new: &RecordFields, now: Timestamp, counts: bool) -> bool {
    if is_implied(fields) {
        let owed = of(fields);
        owe(fields, owed);
    }
    let recipients: Vec<_> = new.recipients.iter().map(|recipient| &recipient.address).collect();
    let place = fields.owed.iter().position(|owed| {
        now.since(owed.received) < RETRY_LIFETIME
            && owed.reverse_path == new.original.reverse_path
            && same_mailboxes(&owed.recipients.iter().collect::<Vec<&Address>>(), &recipients)
    });
    if let Some(place) = place.filter(|_| counts) {
        fields.owed.remove(place);
        fields.retry_came = true;
    }
    place.is_some()
}

/// Records that earlier versions kept don't say what they are owed.
fn is_implied(fields: &RecordFields) -> bool {
    fields.owed.is_empty() && fields.outcome_unknown && !fields.retry_came && fields.original.message_id.is_none()
}
