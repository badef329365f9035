//! What a notification says: to people in plain words, to programs as message/delivery-status (RFC 3464, section 2).

use super::fields::RecordFields;
use super::identity::message_id;
use super::report::ReportContext;
use super::report_fields::{ReportFields, ReportKind};
use super::text::one_line;
use super::writer::{push, write_folded, write_plain};
use crate::mail::{Address, Reply};

/// Octets of an unbroken word in a delivery-status field; longer ones are cut, so that every line stays below 998.
const MAX_WORD: usize = 900;

/// The lines of the first part. The subject is content and not said; the record is attached anyway.
pub(super) fn explanation(
    fields: &ReportFields,
    record: Option<&RecordFields>,
    context: &ReportContext<'_>,
) -> Vec<String> {
    let mut lines = vec![format!("This is journal-relay at {}.", context.hostname), String::new()];
    lines.extend(
        match fields.kind {
            ReportKind::Failed => {
                ["A journal record was NOT delivered to its archive.", "It is kept; nothing is lost."]
            }
            ReportKind::Bounced if record.is_some() => {
                ["A journal record BOUNCED: a server took it and gave it back.", "It is kept; nothing is lost."]
            }
            ReportKind::Bounced => [
                "A journal record BOUNCED: a server took it and gave it back.",
                "It was let go when the server took it and did not come back whole: look for it in the archive.",
            ],
            ReportKind::Delayed => {
                ["A journal record is delayed: its archive has not taken it yet.", "It is still being tried."]
            }
        }
        .map(str::to_owned),
    );
    lines.push("This is about the record alone, not about the delivery of the message it records.".to_owned());
    lines.push(String::new());
    lines.push(format!("Organization:   {}", fields.organization));
    lines.push(format!("Record:         {}", fields.record));
    if let Some(record) = record {
        lines.push(format!("Its Message-ID: {}", message_id(record.message_uuid)));
        lines.extend(about_message(record));
    }
    lines.extend(about_archive(fields, record, context));
    lines.extend(what_now(fields, record.is_some(), context));
    // One entry, one line: a value can't pass for words of ours.
    lines.iter().map(|line| keep_indent(line)).collect()
}

fn about_message(record: &RecordFields) -> Vec<String> {
    let original = &record.original;
    let mut lines = vec![
        String::new(),
        "The message it records".to_owned(),
        format!("  Message-ID:   {}", original.message_id.as_deref().unwrap_or("(none)")),
        format!("  Sender:       {}", original.sender),
    ];
    if let Some(author) = &original.on_behalf_of {
        lines.push(format!("  On behalf of: {author}"));
    }
    lines.push(format!("  Recipients:   {}", record.recipients.len()));
    lines.push(format!("  Received:     {}", original.received.rfc5322()));
    lines.push(format!("  Size:         {} octets", original.size));
    lines
}

fn about_archive(fields: &ReportFields, record: Option<&RecordFields>, context: &ReportContext<'_>) -> Vec<String> {
    let said = if fields.reply_is_smtp { "Its reply:    " } else { "What happened:" };
    let since = record.map_or(String::new(), |record| format!(", since {}", record.original.received.rfc5322()));
    vec![
        String::new(),
        "The archive".to_owned(),
        format!("  Address:       {}", context.journaling_address),
        format!("  Route:         {}", fields.route),
        format!("  {said} {}", fields.reply),
        format!("  Attempts:      {}{since}", fields.attempts),
        format!("  Last attempt:  {}", fields.date.rfc5322()),
    ]
}

fn what_now(fields: &ReportFields, there: bool, context: &ReportContext<'_>) -> Vec<String> {
    let mut lines = vec![String::new(), "What happens now".to_owned()];
    if !there && fields.kind == ReportKind::Bounced {
        lines
            .push("  What is known of the record stays in the queue as failed; the message itself is gone.".to_owned());
        lines.push("  A later copy of the message gets a record of its own.".to_owned());
        return lines;
    }
    if !there {
        lines.push("  The record has been discarded by an operator since; there is nothing to do.".to_owned());
        return lines;
    }
    match fields.kind {
        ReportKind::Failed | ReportKind::Bounced => {
            lines.push("  The record stays in the queue as failed. It is not tried again by itself".to_owned());
            lines.push("  and never deleted by itself.".to_owned());
        }
        ReportKind::Delayed => {
            let next = fields.next_attempt.map_or("soon".to_owned(), |next| format!("at {}", next.rfc5322()));
            lines.push(format!("  The record is tried again {next}; there is nothing you must do."));
            if let Some(until) = context.retry_until {
                lines.push(format!("  If the archive has not taken it by {},", until.rfc5322()));
                lines.push("  it is kept as failed, and you are told.".to_owned());
            }
        }
    }
    lines.push(String::new());
    lines.push("To try it now, once the cause is mended:".to_owned());
    lines.push(format!("  journal-relay queue retry {}", fields.record));
    lines.push("To look at it:".to_owned());
    lines.push(format!("  journal-relay queue show {}", fields.record));
    lines.push(String::new());
    lines.push("The record is attached, with the message it records.".to_owned());
    lines
}

fn keep_indent(line: &str) -> String {
    let indent: String = line.chars().take_while(|letter| *letter == ' ').collect();
    indent + &one_line(line)
}

/// The second part's content: ASCII alone (RFC 3464, section 2.1).
pub(super) fn delivery_status(
    fields: &ReportFields,
    record: Option<&RecordFields>,
    context: &ReportContext<'_>,
) -> Vec<u8> {
    let mut out = Vec::new();
    // Fields about the message (section 2.2).
    write_status(&mut out, "Reporting-MTA", &format!("dns; {}", context.hostname));
    if let Some(record) = record {
        write_status(&mut out, "Arrival-Date", &record.original.received.rfc5322());
    }
    write_status(&mut out, "X-Journal-Record", fields.record.as_str());
    push(&mut out, "\r\n");
    // Fields about the recipient (section 2.3).
    let action = match fields.kind {
        ReportKind::Failed | ReportKind::Bounced => "failed",
        ReportKind::Delayed => "delayed",
    };
    write_status(&mut out, "Final-Recipient", &final_recipient(context.journaling_address));
    write_status(&mut out, "Action", action);
    write_status(&mut out, "Status", &status(fields));
    if let Some(host) = route_host(&fields.route).filter(|_| fields.reply_is_smtp) {
        write_status(&mut out, "Remote-MTA", &format!("dns; {host}"));
    }
    // RFC 3464, section 2.3.6: the type says whose words they are.
    let whose = if fields.reply_is_smtp { "smtp" } else { "x-journal-relay" };
    write_status(&mut out, "Diagnostic-Code", &format!("{whose}; {}", fields.reply));
    write_status(&mut out, "Last-Attempt-Date", &fields.date.rfc5322());
    if let Some(until) = context.retry_until.filter(|_| fields.kind == ReportKind::Delayed) {
        write_status(&mut out, "Will-Retry-Until", &until.rfc5322());
    }
    out
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

fn final_recipient(address: &Address) -> String {
    let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
    format!("{kind}; {address}")
}

/// The status (RFC 3463): the archive's own where it is of the right class; 4.4.7, the time is over, for what was given up
/// without a final refusal.
fn status(fields: &ReportFields) -> String {
    let reply = smtp_reply(fields);
    let refused = reply.as_ref().is_some_and(Reply::is_permanent);
    let (class, none) = match (fields.kind, refused) {
        (ReportKind::Bounced, _) => return bounced_status(&fields.reply).to_owned(),
        (ReportKind::Failed, true) => ("5.", "5.0.0"),
        (ReportKind::Failed, false) => return "4.4.7".to_owned(),
        (ReportKind::Delayed, _) => ("4.", "4.0.0"),
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
fn smtp_reply(fields: &ReportFields) -> Option<Reply> {
    let (code, text) = fields.reply.trim_start().split_at_checked(3).filter(|_| fields.reply_is_smtp)?;
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
