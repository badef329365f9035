//! `queue`: what waits, and what an operator does about it. Works beside a running daemon and without one.

use super::Failure;
use super::output::{complain, print, print_line, table};
use super::record::organization;
use crate::clock;
use crate::config::Config;
use crate::journal::{ArchiveOffers, MacKey, RecordFields, message_uuid, render};
use crate::mail::{OsEntropy, RecordId, Timestamp};
use crate::queue::State;
use crate::spool::{EmbeddedSpool, Filter, Listing, Octets, Operation, Spool, disk};
use crate::telemetry::{self, HashKey};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Entries read at a time, so that a long queue needs little memory.
const PAGE: usize = 500;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// What waits, oldest first.
    List {
        /// Only entries in this state; also acked and discarded, which are history.
        #[arg(long)]
        state: Option<State>,
        /// Only entries of this organization.
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// One entry: what is known of it, its record, or the original message.
    Show {
        id: RecordId,
        /// The journal record as it is sent.
        #[arg(long, conflicts_with_all = ["original", "json"])]
        record: bool,
        /// The original message, octet for octet.
        #[arg(long, conflicts_with = "json")]
        original: bool,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Try now, failed entries included, held ones not.
    Retry {
        #[arg(required_unless_present = "all")]
        ids: Vec<RecordId>,
        /// Every entry that is deferred or failed.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Keep entries from being sent.
    Hold(Chosen),
    /// Let held entries go on.
    Release(Chosen),
    /// Give entries up: the only way a record leaves without the archive's 250. The reason is kept and logged.
    Discard {
        #[arg(required = true)]
        ids: Vec<RecordId>,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Write every waiting record as ID.eml.
    Export {
        /// The directory; made when it is missing.
        directory: PathBuf,
    },
}

/// Entries by id, or all of an organization.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    #[arg(required_unless_present = "organization")]
    ids: Vec<RecordId>,
    /// Every entry of this organization.
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    organization: Option<String>,
}

/// Does what a queue command says.
///
/// # Errors
/// [`Failure::Failed`]: the spool can't be opened, or at least one entry could not be treated; the others were.
pub(super) fn execute(command: &Command, config: &Config) -> Result<(), Failure> {
    // What a command does to a record is an event like the daemon's.
    telemetry::start(&config.log, &HashKey::draw(&OsEntropy));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let desk = Desk { spool: EmbeddedSpool::open_beside(&config.spool.path, disk::system())?, config };
        let done = desk.serve(command).await;
        desk.spool.close().await?;
        done
    })
}

/// The spool and the configuration behind one command.
struct Desk<'c> {
    spool: EmbeddedSpool,
    config: &'c Config,
}

impl Desk<'_> {
    async fn serve(&self, command: &Command) -> Result<(), Failure> {
        match command {
            Command::List { state, organization, json } => self.list(*state, organization.clone(), *json).await,
            Command::Show { id, record: true, .. } => self.show_record(*id).await,
            Command::Show { id, original: true, .. } => self.show_original(*id).await,
            Command::Show { id, json, .. } => self.show(*id, *json).await,
            Command::Retry { ids, all: false } => self.operate(ids, &Operation::Retry).await,
            Command::Retry { .. } => {
                let mut ids = self.ids_in(Some(State::Deferred), None).await?;
                ids.extend(self.ids_in(Some(State::Failed), None).await?);
                self.operate(&ids, &Operation::Retry).await
            }
            Command::Hold(chosen) => self.operate(&self.chosen(chosen, None).await?, &Operation::Hold).await,
            Command::Release(chosen) => {
                self.operate(&self.chosen(chosen, Some(State::Held)).await?, &Operation::Release).await
            }
            Command::Discard { ids, reason } => self.operate(ids, &Operation::Discard { reason: reason.clone() }).await,
            Command::Export { directory } => self.export(directory).await,
        }
    }

    async fn list(&self, state: Option<State>, organization: Option<String>, as_json: bool) -> Result<(), Failure> {
        let now = clock::system().now();
        let head = ["ID", "ORGANIZATION", "AGE", "STATE", "ATTEMPTS", "NEXT", "LAST REPLY"];
        let mut head = Some(head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        self.each_page(Filter { state, organization, after: None }, async |page| {
            if as_json {
                let lines: String = page.iter().map(|entry| format!("{}\n", self.as_json(entry))).collect();
                return Ok(print(lines.as_bytes())?);
            }
            let rows: Vec<_> = head.take().into_iter().chain(page.iter().map(|entry| row(entry, now))).collect();
            Ok(print(table(&rows).as_bytes())?)
        })
        .await?;
        if head.is_some() && !as_json {
            print_line("nothing waits")?;
        }
        Ok(())
    }

    async fn show(&self, id: RecordId, as_json: bool) -> Result<(), Failure> {
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
            ("route", self.route(&entry.organization)),
        ];
        if let Some(reason) = &entry.reason {
            rows.push(("reason", reason.clone()));
        }
        let recipients = fields
            .recipients
            .iter()
            .map(|recipient| ("recipient", format!("{:?}: {}", recipient.label, recipient.address)));
        rows.extend(recipients);
        let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        Ok(print(table(&rows).as_bytes())?)
    }

    async fn show_original(&self, id: RecordId) -> Result<(), Failure> {
        let (_, _, octets) = self.spool.show(id).await?;
        write_octets(&mut std::io::stdout().lock(), &kept(id, octets)?)
    }

    async fn show_record(&self, id: RecordId) -> Result<(), Failure> {
        let (fields, _, octets) = self.spool.show(id).await?;
        let key = self.key().await?;
        self.write_record(&mut std::io::stdout().lock(), fields, &kept(id, octets)?, &key)
    }

    async fn operate(&self, ids: &[RecordId], operation: &Operation) -> Result<(), Failure> {
        let mut failures = 0_usize;
        for id in ids {
            match self.spool.operate(*id, operation.clone(), clock::system().now()).await {
                Ok(entry) => print_line(&format!("{id}  {}", entry.state))?,
                Err(error) => {
                    failures += 1;
                    complain(&format!("{id}: {error}"));
                }
            }
        }
        if failures == 0 {
            Ok(())
        } else {
            Err(Failure::Failed(format!("{failures} of {} could not be done", ids.len())))
        }
    }

    async fn export(&self, directory: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(directory)?;
        let key = self.key().await?;
        let mut written = 0_usize;
        let mut missing = 0_usize;
        self.each_page(Filter::default(), async |page| {
            for entry in page {
                let (fields, _, octets) = self.spool.show(entry.id).await?;
                let Some(octets) = octets else {
                    missing += 1;
                    complain(&format!("{}: its octets are gone", entry.id));
                    continue;
                };
                let mut file = std::fs::File::create_new(directory.join(format!("{}.eml", entry.id)))?;
                self.write_record(&mut file, fields, &octets, &key)?;
                file.sync_all()?;
                written += 1;
            }
            Ok(())
        })
        .await?;
        print_line(&format!("{written} records written to {}", directory.display()))?;
        if missing == 0 { Ok(()) } else { Err(Failure::Failed(format!("{missing} records could not be written"))) }
    }

    /// What records are sealed with: the daemon's, or the one it will find.
    async fn key(&self) -> Result<MacKey, Failure> {
        Ok(MacKey::from_bytes(self.spool.secret(MacKey::draw(&OsEntropy)).await?))
    }

    /// The record as an archive that offers everything gets it.
    fn write_record(
        &self,
        output: &mut dyn Write,
        mut fields: RecordFields,
        octets: &Octets,
        key: &MacKey,
    ) -> Result<(), Failure> {
        let organization = organization(self.config, &fields.organization)?;
        if fields.message_uuid.is_nil() {
            fields.message_uuid = message_uuid(&fields);
        }
        let offers = ArchiveOffers::ALL;
        let rendering = render(&fields, &organization.sender, &organization.journaling_address, offers, Some(key));
        output.write_all(&rendering.prefix)?;
        write_octets(output, octets)?;
        output.write_all(&rendering.suffix)?;
        Ok(output.flush()?)
    }

    async fn chosen(&self, chosen: &Chosen, state: Option<State>) -> Result<Vec<RecordId>, Failure> {
        match &chosen.organization {
            Some(name) => self.ids_in(state, Some(name.clone())).await,
            None => Ok(chosen.ids.clone()),
        }
    }

    async fn ids_in(&self, state: Option<State>, organization: Option<String>) -> Result<Vec<RecordId>, Failure> {
        let mut ids = Vec::new();
        self.each_page(Filter { state, organization, after: None }, async |page| {
            ids.extend(page.iter().map(|entry| entry.id));
            Ok(())
        })
        .await?;
        Ok(ids)
    }

    /// Reads what `filter` means, a page at a time.
    async fn each_page(
        &self,
        mut filter: Filter,
        mut take: impl AsyncFnMut(&[Listing]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let page = self.spool.list(filter.clone(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            filter.after = Some(last.id);
            take(&page).await?;
        }
    }

    fn as_json(&self, entry: &Listing) -> Value {
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
            "route": self.route(&entry.organization),
        });
        if let (Some(reason), Some(map)) = (&entry.reason, object.as_object_mut()) {
            map.insert("reason".to_owned(), json!(reason));
        }
        object
    }

    /// Where the record goes by the configuration of now.
    fn route(&self, organization: &str) -> String {
        let found = self.config.organizations.iter().find(|other| other.name == organization);
        found.map_or_else(|| "-".to_owned(), |found| found.journaling_route.to_string())
    }
}

fn kept(id: RecordId, octets: Option<Octets>) -> Result<Octets, Failure> {
    octets.ok_or_else(|| Failure::Failed(format!("{id}: the message is no longer kept, only what is known of it")))
}

fn write_octets(output: &mut dyn Write, octets: &Octets) -> Result<(), Failure> {
    for chunk in octets.chunks()? {
        output.write_all(&chunk?)?;
    }
    Ok(output.flush()?)
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
        span(now.since(entry.created)),
        entry.state.to_string(),
        entry.attempts.to_string(),
        next,
        entry.last_reply.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

/// A time span for people: its largest unit, rounded down.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_largest_unit() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400 * 8, "8d")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
