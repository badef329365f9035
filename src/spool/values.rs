//! What goes into a spool and what comes out of it, as values.
//!
//! Leaves to others: what a spool promises ([`Spool`](super::Spool)), and how it keeps it.

use super::{Octets, Warned};
use crate::journal::{Gap, Notice, RecordFields, ReportFields};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::{State, Status};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Whose records are meant, and at which of its archives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Archive {
    /// The organization's name.
    pub organization: String,
    /// The archive's key ([`Address::mailbox_key`](crate::mail::Address::mailbox_key) of its journaling address); empty for
    /// records that earlier versions kept, until [`Spool::follow`](super::Spool::follow) has given them one.
    pub key: String,
}

impl From<&str> for Archive {
    /// The one without a key.
    fn from(organization: &str) -> Self {
        Self { organization: organization.to_owned(), key: String::new() }
    }
}

/// A message whose octets have arrived, with the records it is to have.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The relayed message.
    pub queue_id: QueueId,
    /// One for each organization concerned and archive of it; `message_uuid` is set by the spool when it seals.
    pub records: Vec<RecordDraft>,
}

/// One record to be, and how it may be merged.
#[derive(Debug, Clone)]
pub struct RecordDraft {
    /// What rendering needs.
    pub fields: RecordFields,
    /// How long the record waits for the same message's other transactions.
    pub coalesce: Duration,
    /// The key of the archive that it goes to.
    pub archive: String,
    /// Whether other archives of the organization get copies of it.
    pub copies: Copies,
}

/// The records that one transaction makes for one organization, one for each of its archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Copies {
    /// There is one archive.
    #[default]
    Alone,
    /// Each archive is to have its own.
    EachIsNeeded,
    /// Once one is taken, the others count as delivered.
    OneIsEnough,
}

/// What the next hop said to the end of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 2yz: the message is relayed, its records are due.
    Accepted,
    /// 4yz or 5yz, or the dot was never sent: nothing is kept.
    Refused,
    /// The connection was lost after the dot: the records are due and say so.
    Unknown,
}

/// A record or report that its holder alone may send now.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The key of the archive that it goes to.
    pub archive: String,
    /// What rendering needs.
    pub fields: Arc<RecordFields>,
    /// How far its delivery has come; this attempt is counted.
    pub status: Status,
    /// The original's octets.
    pub octets: Octets,
}

/// A report that its holder alone may send now.
#[derive(Debug, Clone)]
pub struct ReportClaim {
    /// What rendering needs.
    pub fields: ReportFields,
    /// Attempts begun, this one counted.
    pub attempts: u32,
    /// The record that is attached, where it is about one alone, and the original's octets; none when that is over, or the
    /// octets are lost.
    pub record: Option<(RecordFields, Octets)>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The archive's final 250: the entry is history, the octets go with their last record.
    Acked {
        /// The archive's reply.
        reply: String,
        /// Its octets are kept all the same, to be sent again ([`Spool::resend`](super::Spool::resend)).
        retain: bool,
    },
    /// Not now.
    Deferred {
        /// The archive's reply, or what went wrong on the way.
        reply: String,
        /// When to try again.
        next_attempt: Timestamp,
    },
    /// Never: kept as failed.
    Failed {
        /// The archive's reply, or what went wrong.
        reply: String,
        /// What the organization is told of it, kept in the same transaction.
        notice: Option<Notice>,
    },
}

/// When something of an organization is due next; none where nothing of its kind waits for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agenda {
    /// Its records.
    pub records: Option<Timestamp>,
    /// Of them, those that an operator wants tried whatever is known of the route.
    pub urged: Option<Timestamp>,
    /// Its reports.
    pub reports: Option<Timestamp>,
    /// Notices that have gathered and become a report.
    pub notices: Option<Timestamp>,
}

impl Agenda {
    /// The first of all.
    pub fn earliest(&self) -> Option<Timestamp> {
        [self.records, self.urged, self.reports, self.notices].into_iter().flatten().min()
    }
}

/// What of an organization's records waits for an attempt, held ones not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many wait.
    pub waiting: u64,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
    /// What the organization has been told of a delay, over or not.
    pub warned: Option<Warned>,
}

/// Why records are given up that wait for their route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// The route, without password.
    pub route: String,
    /// What was said on it last.
    pub reply: String,
    /// Whether that is the archive's own reply.
    pub reply_is_smtp: bool,
}

/// One line of `queue list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listing {
    /// The record.
    pub id: RecordId,
    /// Whose it is.
    pub organization: String,
    /// The key of the archive that it goes to.
    pub archive: String,
    /// Where it is.
    pub state: State,
    /// The record's own Message-ID.
    pub message_id: String,
    /// The original's, when it has one.
    pub original_message_id: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Octets of the original.
    pub size: u64,
    /// The recipients' addresses.
    pub recipients: Vec<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// When it is tried next.
    pub next_attempt: Option<Timestamp>,
    /// What was said last.
    pub last_reply: Option<String>,
    /// Why it was discarded, or why it counts as delivered though this archive did not take it.
    pub reason: Option<String>,
}

/// Which entries a queue command means.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state; without it all but history.
    pub state: Option<State>,
    /// Of this organization.
    pub organization: Option<String>,
    /// Made after the one with this id (ids sort by age): how a long list is paged through.
    pub after: Option<RecordId>,
}

/// What an operator does to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Try it now, failed ones included; held ones stay held.
    Retry,
    /// Keep it from being sent.
    Hold,
    /// Let it go on.
    Release,
    /// Give it up, for this reason.
    Discard {
        /// In the history and in the log.
        reason: String,
    },
}

/// What a delivery status notification says of a record.
#[derive(Debug, Clone)]
pub struct Returned {
    /// Its id; without it Message-ID and boundary must both be its.
    pub record: Option<RecordId>,
    /// The UUID in its Message-ID.
    pub message_uuid: Option<Uuid>,
    /// The UUID in its boundary.
    pub boundary: Option<Uuid>,
    /// The organizations whose records may be meant.
    pub organizations: Vec<String>,
    /// What is to be remembered as its last reply; none for a notification that changes nothing.
    pub reply: Option<String>,
    /// The original's octets, as they came back.
    pub original: Option<Bytes>,
    /// How records of those organizations get to their archives, for the notice that is kept in the same transaction.
    pub routes: BTreeMap<Archive, String>,
    /// When it came.
    pub at: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// There is no such record.
    Unknown,
    /// Nothing changes: it was known already, or does not say that the record failed.
    Unchanged(RecordId),
    /// The record is failed, and its notification is kept.
    Failed {
        /// Which one.
        record: RecordId,
        /// Whose.
        organization: String,
        /// Attempts begun.
        attempts: u32,
        /// Whether the original is there, to be sent again.
        whole: bool,
    },
}

/// A gap in an organization's journal that has been noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedGap {
    /// Whose.
    pub organization: String,
    /// What is known of it.
    pub gap: Gap,
}

/// What became of records whose archive the configuration lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followers {
    /// They go to another one.
    pub redirected: u64,
    /// Every other archive has a copy: they count as delivered.
    pub superseded: u64,
}

impl Followers {
    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which delivered records are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// Whose.
    pub organization: String,
    /// Those whose original arrived then or later, …
    pub since: Timestamp,
    /// … and before this.
    pub until: Timestamp,
    /// The key of the archive that gets all of them, each once; none: each goes where it went.
    pub to: Option<String>,
    /// The keys of the organization's archives: what went to another one goes to the first of them.
    pub archives: Vec<String>,
    /// Those made after this one: how many are paged through.
    pub after: Option<RecordId>,
    /// When that is asked for.
    pub at: Timestamp,
    /// The ids of the new entries: as many records are looked at.
    pub ids: Vec<RecordId>,
}

/// What became of the records of a time that were to be sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resent {
    /// They wait to be sent again.
    pub resent: u64,
    /// Their octets are not kept (any more).
    pub gone: u64,
    /// They have not been delivered yet, or an earlier replay of them: that waits, is held or has failed.
    pub undelivered: u64,
    /// An operator has given them up.
    pub discarded: u64,
    /// They wait to be sent again already.
    pub under_way: u64,
    /// Another copy of the same record stands for them.
    pub copies: u64,
    /// The oldest of those that are sent again, by its original's arrival.
    pub oldest: Option<Timestamp>,
    /// The last one looked at; none when there are no more.
    pub last: Option<RecordId>,
}

impl Resent {
    /// Both together.
    pub fn plus(self, more: Self) -> Self {
        Self {
            resent: self.resent + more.resent,
            gone: self.gone + more.gone,
            undelivered: self.undelivered + more.undelivered,
            discarded: self.discarded + more.discarded,
            under_way: self.under_way + more.under_way,
            copies: self.copies + more.copies,
            oldest: [self.oldest, more.oldest].into_iter().flatten().min(),
            last: more.last,
        }
    }
}

/// What start-up found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that wait, are deferred, held or failed.
    pub records: u64,
    /// Of them, those whose verdict was lost in the crash.
    pub unknown: u64,
}

/// What a spool holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Live records, by organization and state.
    pub waiting: Vec<Waiting>,
    /// Octets of the database, its write-ahead log and the files.
    pub octets: u64,
}

/// The records of one organization in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub organization: String,
    /// Where they are.
    pub state: State,
    /// How many.
    pub count: u64,
    /// When the oldest was made.
    pub oldest: Timestamp,
}
