//! What a report tells, as data; stored as JSON with the report.
//!
//! A [`Notice`] is one fact about one record, kept in the same transaction as the move it tells of. Notices of one
//! organization gather; a report is one mail that tells many of them, or what became of a route.

use super::fields::RecordFields;
use super::gap::Gap;
use super::identity::message_id;
use crate::mail::{RecordId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Records that one report names; of more it says how many there are.
pub const MAX_NAMED: usize = 1_000;
/// Octets of a reply and of a Message-ID that a notice keeps: it is told [`MAX_NAMED`] times in one mail.
const MAX_SAID: usize = 1_000;

/// Why a record is in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The archive refused it for good; it is kept as failed.
    Refused,
    /// Its time was over; it is kept as failed.
    GivenUp,
    /// A server had taken it and gave it back; it is kept as failed.
    Bounced,
    /// The spool has lost its octets or its entry; what is left is kept as failed.
    Damaged,
    /// The archive has not taken it yet; it still waits.
    Waits,
}

impl Cause {
    /// The word in logs and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::GivenUp => "given up",
            Self::Bounced => "bounced",
            Self::Damaged => "damaged",
            Self::Waits => "waits",
        }
    }
}

/// One fact about one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The record.
    pub record: RecordId,
    /// What happened to it.
    pub cause: Cause,
    /// When that was; of a record that waits, when it was asked.
    pub at: Timestamp,
    /// The record's Message-ID, with its brackets.
    pub message_id: String,
    /// The original's Message-ID, when it has one.
    pub original_message_id: Option<String>,
    /// When the original arrived.
    pub created: Timestamp,
    /// How many recipients it names.
    pub recipients: usize,
    /// Attempts begun so far.
    pub attempts: u32,
    /// When the next attempt is planned; none for a failed record.
    pub next_attempt: Option<Timestamp>,
    /// The archive's key: its journaling address; empty in notices of older versions.
    #[serde(default)]
    pub archive: String,
    /// The route, without password.
    pub route: String,
    /// The archive's reply as it was, or what went wrong on our side of the line.
    pub reply: String,
    /// Whether `reply` is the archive's own (an SMTP reply) or our description.
    pub reply_is_smtp: bool,
}

impl Notice {
    /// A notice about `record`; what was said and how often it was tried is for the caller to add.
    pub fn about(record: &RecordFields, cause: Cause, at: Timestamp) -> Self {
        Self {
            record: record.id,
            cause,
            at,
            message_id: message_id(record.message_uuid),
            original_message_id: record.original.message_id.as_deref().map(shortened),
            created: record.since(),
            recipients: record.recipients.len(),
            attempts: 0,
            next_attempt: None,
            archive: String::new(),
            route: String::new(),
            reply: String::new(),
            reply_is_smtp: false,
        }
    }

    /// A notice about a record of which only this is known: its entry can't be read.
    pub fn of_unreadable(record: RecordId, created: Timestamp, at: Timestamp) -> Self {
        Self {
            record,
            cause: Cause::Damaged,
            at,
            message_id: String::new(),
            original_message_id: None,
            created,
            recipients: 0,
            attempts: 0,
            next_attempt: None,
            archive: String::new(),
            route: String::new(),
            reply: String::new(),
            reply_is_smtp: false,
        }
    }

    /// The same of the copy for this archive.
    pub fn at_archive(self, archive: &str) -> Self {
        Self { archive: archive.to_owned(), ..self }
    }

    /// The same with what was said on `route` last.
    pub fn with_reply(self, route: &str, reply: &str, reply_is_smtp: bool) -> Self {
        Self { route: route.to_owned(), reply: shortened(reply), reply_is_smtp, ..self }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_SAID {
        return text.to_owned();
    }
    format!("{}…", text.get(..text.floor_char_boundary(MAX_SAID)).unwrap_or_default())
}

/// Records that a report is about: up to [`MAX_NAMED`] by name, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Named {
    /// Those named.
    pub records: Vec<Notice>,
    /// How many there are besides.
    pub more: u64,
}

impl Named {
    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.more.saturating_add(u64::try_from(self.records.len()).unwrap_or(u64::MAX))
    }

    /// The one record there is, when it is one alone: its report has it attached.
    pub fn single(&self) -> Option<&Notice> {
        match self.records.as_slice() {
            [one] if self.more == 0 => Some(one),
            _ => None,
        }
    }
}

/// A time in which a route did not take an organization's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The archive's key: its journaling address; empty in reports of older versions.
    #[serde(default)]
    pub archive: String,
    /// The route, without password.
    pub route: String,
    /// Since when it has been so: the first failure known, or the arrival of the oldest record that waits.
    pub since: Timestamp,
    /// What was said last.
    pub reply: String,
    /// Whether that is the archive's own reply.
    pub reply_is_smtp: bool,
    /// The route refuses us for good: waiting will not mend it.
    pub shut: bool,
    /// Records that wait, late or not.
    pub waiting: u64,
    /// When the route is tried next, where that is planned.
    pub next_probe: Option<Timestamp>,
}

/// What a report tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum News {
    /// Records are kept as failed.
    Failed(Named),
    /// A route has not taken records for long, or refuses us for good: these wait.
    Delayed {
        /// What is known of the route.
        outage: Outage,
        /// The records that are late.
        late: Named,
    },
    /// A route of which [`Delayed`](Self::Delayed) was told takes records again.
    Restored {
        /// What was told of it last; `waiting` is how many wait now.
        outage: Outage,
        /// Records that the archive has taken since it was told.
        delivered: u64,
        /// Since when it has taken records without a failure; reports of older versions are made when it takes the first.
        #[serde(default)]
        until: Option<Timestamp>,
    },
    /// Messages were relayed that have no record.
    Bypassed(Gap),
}

impl News {
    /// The word in logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Restored { .. } => "restored",
            Self::Bypassed(_) => "bypassed",
        }
    }

    /// The records it names.
    pub fn named(&self) -> Option<&Named> {
        match self {
            Self::Failed(named) | Self::Delayed { late: named, .. } => Some(named),
            Self::Restored { .. } | Self::Bypassed(_) => None,
        }
    }

    /// The record that is attached: the one it is about.
    pub fn attached(&self) -> Option<RecordId> {
        Some(self.named()?.single()?.record)
    }
}

/// What chance and the clock give to a new report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportSeed {
    /// The report's own id.
    pub id: RecordId,
    /// When it is made: its Date.
    pub date: Timestamp,
    /// The UUID in its Message-ID.
    pub message_uuid: Uuid,
    /// The UUID in its boundary.
    pub boundary: Uuid,
}

impl ReportSeed {
    /// The report to `organization` that tells `news`.
    pub fn tell(self, organization: &str, news: News) -> ReportFields {
        let Self { id, date, message_uuid, boundary } = self;
        ReportFields { id, organization: organization.to_owned(), date, message_uuid, boundary, news }
    }
}

/// One mail to an organization's report address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFields {
    /// The report's own id.
    pub id: RecordId,
    /// The organization's name.
    pub organization: String,
    /// When it was made: the Date.
    pub date: Timestamp,
    /// The UUID in its Message-ID.
    pub message_uuid: Uuid,
    /// The UUID in its boundary.
    pub boundary: Uuid,
    /// What it tells.
    pub news: News,
}
