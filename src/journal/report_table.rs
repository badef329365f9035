//! The table of a report about several records: comma-separated values (RFC 4180), one line for each.
//!
//! Promises: one record, one line, whatever a reply or a Message-ID says; no field that a spreadsheet takes for a formula.

use super::report_fields::{Cause, Named, Notice};
use super::text::one_line;

/// The columns.
const HEAD: &str = "record,message_id,original_message_id,created,recipients,reason,attempts,at,route,reply";

/// The lines, the head first, without line ends.
pub(super) fn table(named: &Named) -> Vec<String> {
    std::iter::once(HEAD.to_owned()).chain(named.records.iter().map(row)).collect()
}

fn row(notice: &Notice) -> String {
    let at = if notice.cause == Cause::Waits { String::new() } else { notice.at.rfc3339_in_records() };
    [
        notice.record.to_string(),
        notice.message_id.clone(),
        notice.original_message_id.clone().unwrap_or_default(),
        notice.created.rfc3339_in_records(),
        notice.recipients.to_string(),
        notice.cause.as_str().to_owned(),
        notice.attempts.to_string(),
        at,
        notice.route.clone(),
        notice.reply.clone(),
    ]
    .map(|value| field(&value))
    .join(",")
}

/// A value as a field: quoted where it has to be, and text where a spreadsheet would calculate.
fn field(value: &str) -> String {
    let value = one_line(value);
    let harmless = if value.starts_with(['=', '+', '-', '@']) { format!("'{value}") } else { value.into_owned() };
    if harmless.contains([',', '"']) { format!("\"{}\"", harmless.replace('"', "\"\"")) } else { harmless }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_one_field_and_never_becomes_a_formula() {
        for (value, written) in [
            ("plain", "plain"),
            ("a, b", "\"a, b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("one\r\ntwo", "one  two"),
            ("=cmd()", "'=cmd()"),
            ("@x, y", "\"'@x, y\""),
            ("", ""),
        ] {
            assert_eq!(field(value), written);
        }
    }
}
