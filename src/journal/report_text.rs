//! What a report says to people, in plain words. Subjects are content and never said.

use super::fields::RecordFields;
use super::gap::Gap;
use super::report::ReportContext;
use super::report_fields::{Cause, Named, News, Notice, Outage, ReportFields};
use super::text::one_line;
use crate::mail::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Different replies that are shown; the table has them all.
const MAX_REPLIES: usize = 5;

/// The lines of the first part.
pub(super) fn explanation(
    fields: &ReportFields,
    record: Option<&RecordFields>,
    context: &ReportContext<'_>,
) -> Vec<String> {
    let mut lines = vec![format!("This is journal-relay at {}.", context.hostname), String::new()];
    match &fields.news {
        News::Failed(named) => match named.single() {
            Some(notice) => failed_one(&mut lines, fields, notice, record, context),
            None => failed_many(&mut lines, fields, named, context),
        },
        News::Delayed { outage, late } => delayed(&mut lines, fields, outage, late, record, context),
        News::Restored { outage, delivered, until } => {
            restored(&mut lines, fields, outage, *delivered, until.unwrap_or(fields.date), context);
        }
        News::Bypassed(gap) => bypassed(&mut lines, fields, gap),
    }
    // One entry, one line: a value can't pass for words of ours.
    lines.iter().map(|line| keep_indent(line)).collect()
}

fn say(lines: &mut Vec<String>, words: &[&str]) {
    lines.extend(words.iter().map(|line| (*line).to_owned()));
}

fn failed_one(
    lines: &mut Vec<String>,
    fields: &ReportFields,
    notice: &Notice,
    record: Option<&RecordFields>,
    context: &ReportContext<'_>,
) {
    let happened = match (notice.cause, record) {
        (Cause::Bounced, Some(_)) => {
            ["A journal record BOUNCED: a server took it and gave it back.", "It is kept; nothing is lost."]
        }
        (Cause::Bounced, None) => [
            "A journal record BOUNCED: a server took it and gave it back.",
            "It was let go when the server took it and did not come back whole: look for it in the archive.",
        ],
        _ => ["A journal record was NOT delivered to its archive.", "It is kept; nothing is lost."],
    };
    say(lines, &happened);
    say(lines, &["This is about the record alone, not about the delivery of the message it records.", ""]);
    about_record(lines, fields, notice, record);
    about_archive(lines, notice, context);
    say(lines, &["", "What happens now"]);
    if notice.cause == Cause::Damaged {
        say(lines, &["  The record stays in the queue as failed. What is missing does not come back by itself:"]);
        say(lines, &["  look at the disk and at your backups.", ""]);
        commands_for_one(lines, notice);
        return;
    }
    if record.is_none() && notice.cause == Cause::Bounced {
        say(lines, &["  What is known of the record stays in the queue as failed; the message itself is gone."]);
        say(lines, &["  A later copy of the message gets a record of its own."]);
        return;
    }
    if record.is_none() {
        say(lines, &["  The record is no longer in the queue: there is nothing to do."]);
        return;
    }
    say(lines, &["  The record stays in the queue as failed. It is not tried again by itself"]);
    say(lines, &["  and never deleted by itself.", ""]);
    commands_for_one(lines, notice);
    say(lines, &["", "The record is attached, with the message it records."]);
}

fn about_record(lines: &mut Vec<String>, fields: &ReportFields, notice: &Notice, record: Option<&RecordFields>) {
    lines.push(format!("Organization:   {}", fields.organization));
    lines.push(format!("Record:         {}", notice.record));
    lines.push(format!("Its Message-ID: {}", notice.message_id));
    say(lines, &["", "The message it records"]);
    lines.push(format!("  Message-ID:   {}", notice.original_message_id.as_deref().unwrap_or("(none)")));
    if let Some(record) = record {
        lines.push(format!("  Sender:       {}", record.original.sender));
        if let Some(author) = &record.original.on_behalf_of {
            lines.push(format!("  On behalf of: {author}"));
        }
    }
    lines.push(format!("  Recipients:   {}", notice.recipients));
    lines.push(format!("  Received:     {}", notice.created.rfc5322()));
    if let Some(record) = record {
        lines.push(format!("  Size:         {} octets", record.original.size));
    }
}

fn about_archive(lines: &mut Vec<String>, notice: &Notice, context: &ReportContext<'_>) {
    say(lines, &["", "The archive"]);
    lines.push(format!("  Address:       {}", context.archive(&notice.archive)));
    lines.push(format!("  Route:         {}", notice.route));
    lines.push(said(&notice.reply, notice.reply_is_smtp));
    lines.push(format!("  Attempts:      {}, since {}", notice.attempts, notice.created.rfc5322()));
    lines.push(format!("  Last attempt:  {}", notice.at.rfc5322()));
}

fn said(reply: &str, reply_is_smtp: bool) -> String {
    let label = if reply_is_smtp { "Its reply:    " } else { "What happened:" };
    format!("  {label} {reply}")
}

fn commands_for_one(lines: &mut Vec<String>, notice: &Notice) {
    say(lines, &["To try it now, once the cause is mended:"]);
    lines.push(format!("  journal-relay queue retry {}", notice.record));
    say(lines, &["To look at it:"]);
    lines.push(format!("  journal-relay queue show {}", notice.record));
}

fn failed_many(lines: &mut Vec<String>, fields: &ReportFields, named: &Named, context: &ReportContext<'_>) {
    lines.push(format!("{} journal records were NOT delivered to their archive.", named.total()));
    say(lines, &["They are kept; nothing is lost."]);
    say(lines, &["This is about the records alone, not about the delivery of the messages they record.", ""]);
    lines.push(format!("Organization:  {}", fields.organization));
    let archives: BTreeSet<_> = named.records.iter().map(|notice| context.archive(&notice.archive)).collect();
    lines.extend(archives.iter().map(|archive| format!("Address:       {archive}")));
    for (cause, words) in [
        (Cause::Refused, "Refused:       "),
        (Cause::GivenUp, "Given up:      "),
        (Cause::Bounced, "Bounced:       "),
        (Cause::Damaged, "Damaged:       "),
    ] {
        let count = named.records.iter().filter(|notice| notice.cause == cause).count();
        if count > 0 {
            lines.push(format!("{words}{count}"));
        }
    }
    replies(lines, named);
    say(lines, &["", "What happens now"]);
    say(lines, &["  The records stay in the queue as failed. They are not tried again by themselves"]);
    say(lines, &["  and never deleted by themselves.", ""]);
    say(lines, &["To try them all now, once the cause is mended:", "  journal-relay queue retry --all"]);
    say(lines, &["To look at them:", "  journal-relay queue list --state failed", ""]);
    about_table(lines, named);
}

/// What the archive said, most often said first.
fn replies(lines: &mut Vec<String>, named: &Named) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for notice in named.records.iter().filter(|notice| !notice.reply.is_empty()) {
        *counts.entry(notice.reply.as_str()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if counts.is_empty() {
        return;
    }
    say(lines, &["", "What the archive said, or what happened on the way to it"]);
    lines.extend(counts.iter().take(MAX_REPLIES).map(|(reply, count)| format!("  {count} × {reply}")));
    if counts.len() > MAX_REPLIES {
        lines.push(format!("  and {} other replies", counts.len() - MAX_REPLIES));
    }
}

fn about_table(lines: &mut Vec<String>, named: &Named) {
    if named.more == 0 {
        say(lines, &["The table attached (records.csv) names each of them."]);
        return;
    }
    lines.push(format!("The table attached (records.csv) names {} of them.", named.records.len()));
    lines.push(format!("The other {} are in the queue's list; the log names them, too.", named.more));
}

fn delayed(
    lines: &mut Vec<String>,
    fields: &ReportFields,
    outage: &Outage,
    late: &Named,
    record: Option<&RecordFields>,
    context: &ReportContext<'_>,
) {
    if outage.shut {
        let what = if outage.reply_is_smtp {
            "The archive refuses this relay"
        } else {
            "The route to the archive does not work"
        };
        lines.push(format!("{what}: journal records can't be delivered to it."));
        say(lines, &["Waiting will not mend that. The records are kept; nothing is lost.", ""]);
    } else if late.single().is_some() && outage.waiting <= 1 {
        say(lines, &["A journal record is delayed: its archive has not taken it yet."]);
        say(lines, &["It is still being tried; nothing is lost.", ""]);
    } else {
        say(lines, &["Journal records are delayed: their archive has not taken them yet."]);
        say(lines, &["They are still being tried; nothing is lost.", ""]);
    }
    match late.single() {
        Some(notice) => about_record(lines, fields, notice, record),
        None => lines.push(format!("Organization:   {}", fields.organization)),
    }
    about_outage(lines, outage, context);
    lines.push(format!("  Records:       {} wait", outage.waiting));
    if let Some(oldest) = late.records.first() {
        lines.push(format!("  The oldest:    {}, of {}", oldest.record, oldest.created.rfc5322()));
    }
    say(lines, &["", "What happens now"]);
    let next = outage.next_probe.map_or("soon".to_owned(), |next| format!("at {}", next.rfc5322()));
    lines.push(format!("  The archive is tried again {next}, and then from time to time. Once it takes one record,"));
    say(lines, &["  all others follow at once; once it has taken records for some minutes, you are told. While it"]);
    say(lines, &["  lasts you are told once a day, and less often when it comes and goes."]);
    if let Some(oldest) = late.records.first() {
        let until = oldest.created.plus(context.give_up);
        lines.push(format!("  A record that the archive has not taken by its time (the oldest: {})", until.rfc5322()));
        say(lines, &["  is kept as failed, and you are told."]);
    }
    say(lines, &[""]);
    match late.single() {
        Some(notice) => {
            commands_for_one(lines, notice);
            if record.is_some() {
                say(lines, &["", "The record is attached, with the message it records."]);
            }
        }
        None => {
            say(lines, &["To try now, once the cause is mended:", "  journal-relay queue retry --all"]);
            say(lines, &["To look at what waits:", "  journal-relay queue list"]);
            if !late.records.is_empty() {
                say(lines, &[""]);
                about_table(lines, late);
            }
        }
    }
}

fn about_outage(lines: &mut Vec<String>, outage: &Outage, context: &ReportContext<'_>) {
    say(lines, &["", "The archive"]);
    lines.push(format!("  Address:       {}", context.archive(&outage.archive)));
    lines.push(format!("  Route:         {}", outage.route));
    if !outage.reply.is_empty() {
        lines.push(said(&outage.reply, outage.reply_is_smtp));
    }
    lines.push(format!("  Since:         {}", outage.since.rfc5322()));
}

fn restored(
    lines: &mut Vec<String>,
    fields: &ReportFields,
    outage: &Outage,
    delivered: u64,
    until: Timestamp,
    context: &ReportContext<'_>,
) {
    say(lines, &["The archive takes journal records again.", ""]);
    lines.push(format!("Organization:   {}", fields.organization));
    about_outage(lines, outage, context);
    lines.push(format!("  Until:         {}", until.rfc5322()));
    say(lines, &["", "The records"]);
    lines.push(format!("  Delivered:     {delivered} since you were told of the delay"));
    lines.push(format!("  Still waiting: {}", outage.waiting));
    say(lines, &["", "There is nothing you must do. Records that failed meanwhile were reported by themselves."]);
}

fn bypassed(lines: &mut Vec<String>, fields: &ReportFields, gap: &Gap) {
    lines.push(format!("The journal has a GAP: {} relayed WITHOUT a record.", gap.counted()));
    say(lines, &["The relay could not keep them, and its configuration says that mail goes on then"]);
    say(lines, &["(spool.on_failure = \"bypass\"). Their recipients have them; the archive will not get them.", ""]);
    lines.push(format!("Organization:  {}", fields.organization));
    lines.push(format!("Messages:      {}", gap.messages));
    lines.push(format!("First:         {}", gap.since.rfc5322()));
    lines.push(format!("Last:          {}", gap.until.rfc5322()));
    lines.push(format!("The reason:    {}", gap.reason));
    say(lines, &["", "What you can do"]);
    say(lines, &["  Mend the spool: look at its disk, at free octets and inodes, and at the log (spool.pressure)."]);
    say(lines, &["  The relay does not have the messages. Senders, recipients and Message-IDs that you need for the"]);
    say(lines, &["  archive are with your mail server; each message is in the log of the relay by its queue id"]);
    say(lines, &["  (record.bypassed, message.accepted), which is in the message's Received: line, too.", ""]);
    say(lines, &["Further messages, if there are any, are told in another report. All gaps so far:"]);
    say(lines, &["  journal-relay queue gaps", "", "The queue ids"]);
    lines.extend(gap.queue_ids.iter().map(|id| format!("  {id}")));
    if gap.more() > 0 {
        lines.push(format!("  and {} more, in the log", gap.more()));
    }
}

fn keep_indent(line: &str) -> String {
    let indent: String = line.chars().take_while(|letter| *letter == ' ').collect();
    indent + &one_line(line)
}
