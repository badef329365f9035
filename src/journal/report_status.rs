//! What a report says to programs: message/delivery-status (RFC 3464, section 2), a group for the report and one for each
//! record it names.

use super::gap::Gap;
use super::report::ReportContext;
use super::report_fields::{Cause, News, Notice, Outage, ReportFields};
use super::text::one_line;
use super::writer::{push, write_folded, write_plain};
use crate::mail::Reply;

/// Octets of an unbroken word in a delivery-status field; longer ones are cut, so that every line stays below 998.
const MAX_WORD: usize = 900;

/// The part's content: ASCII alone (RFC 3464, section 2.1).
pub(super) fn delivery_status(fields: &ReportFields, context: &ReportContext<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let single = fields.news.named().and_then(|named| named.single());
    // Fields about the message (section 2.2).
    write_status(&mut out, "Reporting-MTA", &format!("dns; {}", context.hostname));
    if let Some(one) = single {
        write_status(&mut out, "Arrival-Date", &one.created.rfc5322());
    }
    // Fields about each recipient (section 2.3): the archive, once for each record.
    match &fields.news {
        News::Failed(named) => named.records.iter().for_each(|notice| write_group(&mut out, notice, context)),
        News::Delayed { outage, late } if late.records.is_empty() => write_outage(&mut out, outage, fields, context),
        News::Delayed { late, .. } => late.records.iter().for_each(|notice| write_group(&mut out, notice, context)),
        News::Restored { outage, .. } => write_outage(&mut out, outage, fields, context),
        News::Bypassed(gap) => write_gap(&mut out, gap, context),
    }
    out
}

fn write_group(out: &mut Vec<u8>, notice: &Notice, context: &ReportContext<'_>) {
    let waits = notice.cause == Cause::Waits;
    push(out, "\r\n");
    write_status(out, "Final-Recipient", &final_recipient(&context.archive(&notice.archive)));
    write_status(out, "Action", if waits { "delayed" } else { "failed" });
    write_status(out, "Status", &status(notice.cause, &notice.reply, notice.reply_is_smtp));
    write_said(out, &notice.route, &notice.reply, notice.reply_is_smtp);
    if waits {
        write_status(out, "Will-Retry-Until", &notice.created.plus(context.give_up).rfc5322());
    } else {
        write_status(out, "Last-Attempt-Date", &notice.at.rfc5322());
    }
    write_status(out, "X-Journal-Record", notice.record.as_str());
}

/// The group of a report about a route, not about records.
fn write_outage(out: &mut Vec<u8>, outage: &Outage, fields: &ReportFields, context: &ReportContext<'_>) {
    push(out, "\r\n");
    write_status(out, "Final-Recipient", &final_recipient(&context.archive(&outage.archive)));
    if matches!(fields.news, News::Restored { .. }) {
        write_status(out, "Action", "delivered");
        write_status(out, "Status", "2.0.0");
        return;
    }
    write_status(out, "Action", "delayed");
    write_status(out, "Status", &status(Cause::Waits, &outage.reply, outage.reply_is_smtp));
    write_said(out, &outage.route, &outage.reply, outage.reply_is_smtp);
}

/// The group of a report about messages without a record: what the archive was to get was never made.
fn write_gap(out: &mut Vec<u8>, gap: &Gap, context: &ReportContext<'_>) {
    push(out, "\r\n");
    write_status(out, "Final-Recipient", &final_recipient(&context.archive("")));
    write_status(out, "Action", "failed");
    // RFC 3463, section 3.4: other or undefined mail system status.
    write_status(out, "Status", "5.3.0");
    write_said(out, "", &gap.reason, false);
    write_status(out, "Last-Attempt-Date", &gap.until.rfc5322());
}

fn write_said(out: &mut Vec<u8>, route: &str, reply: &str, reply_is_smtp: bool) {
    if reply.is_empty() {
        return;
    }
    if let Some(host) = route_host(route).filter(|_| reply_is_smtp) {
        write_status(out, "Remote-MTA", &format!("dns; {host}"));
    }
    // RFC 3464, section 2.3.6: the type says whose words they are.
    let whose = if reply_is_smtp { "smtp" } else { "x-journal-relay" };
    write_status(out, "Diagnostic-Code", &format!("{whose}; {reply}"));
}

fn write_status(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = escape(&one_line(value));
    if value.is_empty() {
        return write_plain(out, name, "");
    }
    let words: Vec<String> = value.split(' ').map(cut).collect();
    push(out, name);
    push(out, ": ");
    write_folded(out, name.len() + 2, &words.join(" "));
    push(out, "\r\n");
}

/// A blank after every [`MAX_WORD`] octets of an ASCII word.
fn cut(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    for (place, letter) in word.chars().enumerate() {
        if place > 0 && place % MAX_WORD == 0 {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

/// Characters that are not ASCII as `\x{…}` (RFC 6533, section 3: utf-8-addr-xtext).
fn escape(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_ascii() { letter.to_string() } else { format!("\\x{{{:X}}}", u32::from(letter)) })
        .collect()
}

fn final_recipient(address: &str) -> String {
    let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
    format!("{kind}; {address}")
}

/// The status (RFC 3463): the archive's own where it is of the right class; 4.4.7, the time is over, for what was given up
/// without a final refusal.
fn status(cause: Cause, said: &str, reply_is_smtp: bool) -> String {
    let reply = if reply_is_smtp { smtp_reply(said) } else { None };
    let refused = reply.as_ref().is_some_and(Reply::is_permanent);
    let (class, none) = match (cause, refused) {
        (Cause::Bounced, _) => return bounced_status(said).to_owned(),
        (Cause::Waits, _) => ("4.", "4.0.0"),
        (_, true) => ("5.", "5.0.0"),
        (_, false) => return "4.4.7".to_owned(),
    };
    let enhanced = reply.as_ref().and_then(Reply::enhanced).filter(|code| code.starts_with(class));
    enhanced.unwrap_or(none).to_owned()
}

/// The enhanced code among the words of who gave it back.
fn bounced_status(reply: &str) -> &str {
    let is_code = |word: &&str| {
        let mut parts = word.split('.');
        let digits = |part: Option<&str>| {
            part.is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit()))
        };
        parts.next() == Some("5") && digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
    };
    reply.split(' ').find(is_code).unwrap_or("5.0.0")
}

/// The archive's reply as a value again: `550 5.7.1 no`.
fn smtp_reply(text: &str) -> Option<Reply> {
    let (code, text) = text.trim_start().split_at_checked(3)?;
    let code = code.parse().ok()?;
    Some(Reply::new(code, text.strip_prefix([' ', '-']).unwrap_or(text)))
}

/// The host in `smtp://host:port`; none in `mx` and `maildir:/path`.
fn route_host(route: &str) -> Option<&str> {
    let (scheme, rest) = route.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next()?,
        None => host.split(':').next()?,
    };
    (matches!(scheme, "smtp" | "smtps" | "lmtp") && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_host_is_found_in_a_route() {
        let cases = [
            ("smtp://archive.example:25", Some("archive.example")),
            ("smtps://[2001:db8::1]:465", Some("2001:db8::1")),
            ("smtp://archive.example:25?tls=required", Some("archive.example")),
            ("mx", None),
            ("maildir:/var/records", None),
        ];
        for (route, host) in cases {
            assert_eq!(route_host(route), host, "{route}");
        }
    }

    #[test]
    fn no_word_makes_a_line_too_long() {
        let mut out = Vec::new();
        write_status(&mut out, "Diagnostic-Code", &format!("smtp; 550 {}", "x".repeat(5_000)));
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().count() > 5 && text.lines().all(|line| line.len() <= 998));
        assert!(text.lines().skip(1).all(|line| line.starts_with(' ')));
    }
}
