//! A report to an organization's report address: about records that an archive refused, about a route that does not take
//! them, or about one that does again (RFC 3461, section 6; RFC 3464; RFC 6522).
//!
//! Promises: a pure function of its arguments; understandable from the first part alone; a report about one record has it
//! attached as it would be sent, its original streamed between prefix and suffix like in a record; one about several names
//! each in a table, up to [`MAX_NAMED`](super::MAX_NAMED). The caller sends it with a null reverse-path, so that it never
//! causes another one.
//!
//! What is said in words is in `report_text`, what in fields in `report_status`, the table in `report_table`.

use super::fields::RecordFields;
use super::mac::{self, MacKey, RECORD_FIELD};
use super::record::{ArchiveOffers, BodyKind, Encoding, Rendering, TextForm, render_record};
use super::report_fields::{Cause, News, ReportFields};
use super::report_status::delivery_status;
use super::report_table::table;
use super::report_text::explanation;
use super::writer::{push, write_built, write_plain, write_text};
use crate::mail::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use std::time::Duration;

/// What a report needs from the configuration as it is now.
#[derive(Debug, Clone, Copy)]
pub struct ReportContext<'a> {
    /// The relay's name.
    pub hostname: &'a str,
    /// The journaling sender: whom the report is from.
    pub sender: &'a Address,
    /// Where the report goes.
    pub report_address: &'a Address,
    /// Where the records should have gone.
    pub journaling_address: &'a Address,
    /// How long a record is tried.
    pub give_up: Duration,
    /// Seals the report and the record in it.
    pub key: &'a MacKey,
}

impl ReportContext<'_> {
    /// The journaling address of the archive with this key, as the configuration writes the first one; that one, too, where
    /// a report of an older version does not say which archive it is about.
    pub(super) fn archive(&self, key: &str) -> String {
        let is_first = key.is_empty() || self.journaling_address.mailbox_key() == key;
        if is_first { self.journaling_address.to_string() } else { key.to_owned() }
    }
}

/// A report is prefix, the original of its record, suffix; without a record the two follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRendering {
    /// What goes before the original.
    pub prefix: Vec<u8>,
    /// What goes after it.
    pub suffix: Vec<u8>,
    /// What MAIL must say.
    pub body: BodyKind,
    /// Whether MAIL must say SMTPUTF8.
    pub needs_smtp_utf8: bool,
}

/// Renders a report for a server that offers `server`. `record` is the one it is about, where there is one; without it (it
/// has been discarded meanwhile) nothing is attached.
pub fn render_report(
    fields: &ReportFields,
    record: Option<&RecordFields>,
    context: &ReportContext<'_>,
    server: ArchiveOffers,
) -> ReportRendering {
    let lines = explanation(fields, record, context);
    let text = TextForm::of(&lines, server);
    let rows = fields.news.named().filter(|named| named.total() > 1).map(table);
    let rows = rows.map(|rows| (TextForm::of(&rows, server), rows));
    let attached = record.map(|record| {
        let archive = fields.news.named().and_then(|named| named.single()).map(|one| context.archive(&one.archive));
        let archive = archive.and_then(|text| Address::parse(&text).ok());
        let archive = archive.as_ref().unwrap_or(context.journaling_address);
        render_record(record, context.sender, archive, server, Some(Some(context.key)))
    });
    let widest = attached.as_ref().map_or(Encoding::SevenBit, |(_, encoding)| *encoding).max(text.encoding());
    let widest = rows.as_ref().map_or(Encoding::SevenBit, |(form, _)| form.encoding()).max(widest);
    let boundary = format!("_{}_", fields.boundary);

    let mut prefix = Vec::new();
    write_headers(&mut prefix, fields, context);
    let mac_at = prefix.len();
    widest.write_field(&mut prefix);
    push(&mut prefix, "Content-Type: multipart/report; report-type=delivery-status;\r\n");
    push(&mut prefix, &format!(" boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n"));
    text.write_part(&mut prefix, "plain", &lines);
    // RFC 3464, section 2.1: always 7bit.
    push(&mut prefix, &format!("\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n"));
    prefix.extend_from_slice(&delivery_status(fields, context));
    if let Some((form, rows)) = rows {
        push(
            &mut prefix,
            &format!("\r\n--{boundary}\r\nContent-Disposition: attachment; filename=\"records.csv\"\r\n"),
        );
        form.write_part(&mut prefix, "csv", &rows);
    }
    let addresses = [context.sender, context.report_address];
    let mut rendering = ReportRendering {
        prefix,
        suffix: Vec::new(),
        body: widest.body(server),
        needs_smtp_utf8: addresses.iter().any(|address| !address.is_ascii()),
    };
    if let Some((record, encoding)) = attached {
        attach(&mut rendering, record, encoding, &boundary);
    }
    push(&mut rendering.suffix, &format!("\r\n--{boundary}--\r\n"));
    let original = record.map(|record| record.original.sha256);
    mac::seal(&mut rendering.prefix, mac_at, original, &rendering.suffix, context.key);
    rendering
}

/// The third part of a report about one record: that record (RFC 6522, section 3).
fn attach(report: &mut ReportRendering, record: Rendering, encoding: Encoding, boundary: &str) {
    push(&mut report.prefix, &format!("\r\n--{boundary}\r\n"));
    encoding.write_field(&mut report.prefix);
    push(&mut report.prefix, "Content-Type: message/rfc822\r\n\r\n");
    report.prefix.extend_from_slice(&record.prefix);
    report.suffix.extend_from_slice(&record.suffix);
    report.needs_smtp_utf8 |= record.needs_smtp_utf8;
}

fn write_headers(out: &mut Vec<u8>, fields: &ReportFields, context: &ReportContext<'_>) {
    write_plain(out, "From", context.sender.as_str());
    write_plain(out, "To", context.report_address.as_str());
    write_text(out, "Subject", &subject(fields));
    write_built(out, "Date", &Date::new(fields.date.as_millis().div_euclid(1_000)));
    // Not the records' domain: an archive that gets a report must not take it for a record.
    write_built(out, "Message-ID", &MessageId::new(format!("{}@{}", fields.message_uuid, context.hostname)));
    write_plain(out, "MIME-Version", "1.0");
    write_plain(out, "Auto-Submitted", "auto-generated");
    if let Some(record) = fields.news.attached() {
        write_plain(out, RECORD_FIELD, record.as_str());
    }
    // X-Journal-Mac belongs here, last; it covers everything else and is put in when that is written.
}

fn subject(fields: &ReportFields) -> String {
    let organization = &fields.organization;
    let single = fields.news.named().and_then(|named| named.single());
    match (&fields.news, single) {
        (News::Failed(_), Some(one)) if one.cause == Cause::Bounced => {
            format!("Journal record bounced: {organization}, record {}", one.record)
        }
        (News::Failed(_), Some(one)) => format!("Journal record not delivered: {organization}, record {}", one.record),
        (News::Failed(named), None) => format!("{} journal records not delivered: {organization}", named.total()),
        (News::Delayed { outage, .. }, _) if outage.shut => {
            let what =
                if outage.reply_is_smtp { "Journal archive refuses the relay" } else { "Journal route does not work" };
            format!("{what}: {organization}, {} records wait", outage.waiting)
        }
        (News::Delayed { .. }, Some(one)) => format!("Journal record delayed: {organization}, record {}", one.record),
        (News::Delayed { outage, .. }, None) => {
            format!("Journal records delayed: {organization}, {} records wait", outage.waiting)
        }
        (News::Restored { .. }, _) => format!("Journal records are delivered again: {organization}"),
        (News::Bypassed(gap), _) => format!("Gap in the journal: {organization}, {} without a record", gap.counted()),
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
