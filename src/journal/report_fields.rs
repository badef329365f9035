//! All that a notification's rendering needs besides the record it is about; stored as JSON with the report.

use crate::mail::{RecordId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a report tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportKind {
    /// A record was refused for good, or its time was over; it is kept.
    Failed,
    /// A server had taken a record and gave it back; it is kept.
    Bounced,
    /// A record has been waiting for long; it is still tried.
    Delayed,
}

/// One notification about one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFields {
    /// The report's own id.
    pub id: RecordId,
    /// The organization's name.
    pub organization: String,
    /// What it tells.
    pub kind: ReportKind,
    /// The record it is about.
    pub record: RecordId,
    /// When it was made: the Date.
    pub date: Timestamp,
    /// The UUID in its Message-ID.
    pub message_uuid: Uuid,
    /// The UUID in its boundary.
    pub boundary: Uuid,
    /// The route tried, without password.
    pub route: String,
    /// The archive's reply as it was, or what went wrong on our side of the line.
    pub reply: String,
    /// Whether `reply` is the archive's own (an SMTP reply) or our description.
    pub reply_is_smtp: bool,
    /// Attempts begun so far.
    pub attempts: u32,
    /// When the next attempt is planned; none for a failed record.
    pub next_attempt: Option<Timestamp>,
}
