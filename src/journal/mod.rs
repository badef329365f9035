//! The journal record as data: what is read from an original's header, and the octets around the original.
//!
//! Floor 2: pure. The original is never held as something that could be changed.

mod fields;
mod report_fields;

pub use fields::{Label, OctetsKind, Original, Recipient, RecordFields};
pub use report_fields::{ReportFields, ReportKind};
