//! `list` and `show`: what is known of entries, as a table for people or as JSON for programs.

use super::{Desk, write_octets};
use crate::cli::Failure;
use crate::cli::output::{Output, print, print_line, table};
use crate::clock;
use crate::mail::{RecordId, Timestamp, span};
use crate::queue::State;
use crate::spool::{Filter, Listing, Octets, Spool};
use serde_json::{Value, json};

/// Where the archive stands in the table.
const ARCHIVE_COLUMN: usize = 2;

impl Desk<'_> {
    pub(super) async fn list(
        &self,
        state: Option<State>,
        organization: Option<String>,
        as_json: bool,
    ) -> Result<(), Failure> {
        let now = clock::system().now();
        let head = ["ID", "ORGANIZATION", "ARCHIVE", "AGE", "STATE", "ATTEMPTS", "NEXT", "LAST REPLY"];
        let mut head = Some(head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        // Where each organization has one archive, nobody asks which.
        let has_several = self.config.organizations.iter().any(|organization| !organization.also.is_empty());
        self.each_page(Filter { state, organization, after: None }, async |page| {
            if as_json {
                let lines: String = page.iter().map(|entry| format!("{}\n", self.as_json(entry))).collect();
                return Ok(print(lines.as_bytes())?);
            }
            let mut rows: Vec<_> = head.take().into_iter().chain(page.iter().map(|entry| row(entry, now))).collect();
            if !has_several {
                rows.iter_mut().for_each(|row| drop(row.remove(ARCHIVE_COLUMN)));
            }
            Ok(print(table(&rows).as_bytes())?)
        })
        .await?;
        if head.is_some() && !as_json {
            print_line("nothing waits")?;
        }
        if as_json { Ok(()) } else { self.tell_of_gaps().await }
    }

    pub(super) async fn show(&self, id: RecordId, as_json: bool) -> Result<(), Failure> {
        let (fields, entry, _) = self.spool.show(id).await?;
        if as_json {
            return Ok(print_line(&self.as_json(&entry).to_string())?);
        }
        let optional = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let mut rows = vec![
            ("id", entry.id.to_string()),
            ("organization", entry.organization.clone()),
            ("state", entry.state.to_string()),
            ("created", entry.created.rfc3339()),
            ("message-id", entry.message_id.clone()),
            ("original", optional(&entry.original_message_id)),
            ("queue id", fields.original.queue_id.to_string()),
            ("sender", format!("<{}>", fields.original.reverse_path.as_str())),
            ("size", format!("{} octets", entry.size)),
            ("attempts", entry.attempts.to_string()),
            ("next attempt", entry.next_attempt.map_or_else(|| "-".to_owned(), Timestamp::rfc3339)),
            ("last reply", optional(&entry.last_reply)),
            ("archive", if entry.archive.is_empty() { "-".to_owned() } else { entry.archive.clone() }),
            ("route", self.route(&entry)),
        ];
        let told = [
            ("reason", entry.reason.clone()),
            ("copy of", fields.copy_of.map(|first| first.to_string())),
            ("replay of", fields.replay.as_ref().map(|replay| replay.of.to_string())),
        ];
        rows.extend(told.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let recipients = fields
            .recipients
            .iter()
            .map(|recipient| ("recipient", format!("{:?}: {}", recipient.label, recipient.address)));
        rows.extend(recipients);
        let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        Ok(print(table(&rows).as_bytes())?)
    }

    pub(super) async fn show_original(&self, id: RecordId) -> Result<(), Failure> {
        let (_, _, octets) = self.spool.show(id).await?;
        write_octets(&mut Output::new(), &kept(id, octets)?)
    }

    pub(super) async fn show_record(&self, id: RecordId) -> Result<(), Failure> {
        let (fields, entry, octets) = self.spool.show(id).await?;
        let key = self.key().await?;
        self.write_record(&mut Output::new(), (fields, &entry.archive), &kept(id, octets)?, &key)
    }

    /// The keys of a record, as every command prints it.
    pub(super) fn as_json(&self, entry: &Listing) -> Value {
        let mut object = json!({
            "id": entry.id,
            "organization": entry.organization,
            "state": entry.state,
            "message_id": entry.message_id,
            "original_message_id": entry.original_message_id,
            "created": entry.created.rfc3339(),
            "size": entry.size,
            "recipients": entry.recipients,
            "attempts": entry.attempts,
            "next_attempt": entry.next_attempt.map(Timestamp::rfc3339),
            "last_reply": entry.last_reply,
            "route": self.route(entry),
        });
        let has_several = self.config.organization(&entry.organization).is_some_and(|of| !of.also.is_empty());
        let more = [("reason", entry.reason.as_ref()), ("archive", has_several.then_some(&entry.archive))];
        if let Some(map) = object.as_object_mut() {
            map.extend(more.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))));
        }
        object
    }

    /// Where the record goes by the configuration of now.
    fn route(&self, entry: &Listing) -> String {
        let organization = self.config.organization(&entry.organization);
        let archive = organization.and_then(|organization| organization.archive_or_first(&entry.archive));
        archive.map_or_else(|| "-".to_owned(), |(_, route)| route.to_string())
    }
}

fn kept(id: RecordId, octets: Option<Octets>) -> Result<Octets, Failure> {
    octets.ok_or_else(|| Failure::Failed(format!("{id}: the message is no longer kept, only what is known of it")))
}

fn row(entry: &Listing, now: Timestamp) -> Vec<String> {
    let next = match entry.next_attempt {
        None => "-".to_owned(),
        Some(then) if then <= now => "now".to_owned(),
        Some(then) => format!("in {}", span(then.since(now))),
    };
    vec![
        entry.id.to_string(),
        entry.organization.clone(),
        entry.archive.clone(),
        span(now.since(entry.created)),
        entry.state.to_string(),
        entry.attempts.to_string(),
        next,
        entry.last_reply.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
