//! The journal record as data: what is read from an original's octets, and the octets around the original.
//!
//! Floor 2: pure. The original is never held as something that could be changed.
//!
//! The way of a message: an [`Observer`] watches its octets pass, [`HeaderFacts`] reads the header it has kept,
//! [`original`] and [`label_recipients`] make the fields of its records, [`render`] writes what goes before and after the
//! original when a record is sent, [`render_report`] the notification when it can't be. A [`MacKey`] seals both, so that an
//! observer knows them again.

mod bounce;
mod fields;
mod gap;
mod header;
mod header_lines;
mod identity;
mod mac;
mod mailboxes;
mod observer;
mod original;
mod recipients;
mod record;
mod report;
mod report_fields;
mod report_status;
mod report_table;
mod report_text;
mod text;
mod writer;

pub use bounce::{Action, Bounce, MAX_DIAGNOSTIC};
pub use fields::{Label, OctetsKind, Original, OwedRetry, Recipient, RecordFields, Replay};
pub use gap::{Gap, MAX_QUEUE_IDS};
pub use header::{HeaderFacts, MAX_SUBJECT};
pub use identity::{message_id, message_uuid};
pub use mac::{MAC_FIELD, MacKey, OwnMail};
pub use observer::{MAX_HEADER, Observation, Observer};
pub use original::{Relayed, UNKNOWN_SENDER, original};
pub use recipients::label_recipients;
pub use record::{ArchiveOffers, BodyKind, Rendering, render};
pub use report::{ReportContext, ReportRendering, render_report};
pub use report_fields::{Cause, MAX_NAMED, Named, News, Notice, Outage, ReportFields, ReportSeed};

#[cfg(test)]
mod samples_tests;
