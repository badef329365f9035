//! `queue`: what waits, and what an operator does about it. Works beside a running daemon and without one.
//!
//! Each change is one transaction with the daemon's own, so a command never sees or makes half a move. A command that names
//! its entries answers for every one of them; one that means all or an organization's (`--all`, `--organization`) works
//! through pages, and what has moved on meanwhile is passed over.

mod export;
mod gaps;
mod list;
mod progress;
mod resend;
mod steer;

use super::{Failure, beside};
use crate::config::Config;
use crate::journal::{ArchiveOffers, MacKey, RecordFields, message_uuid, render};
use crate::mail::{Address, OsEntropy, RecordId};
use crate::queue::State;
use crate::spool::{EmbeddedSpool, Filter, Listing, Octets, Operation, Spool};
use std::io::Write;
use std::path::PathBuf;

/// Entries read, and moved in one transaction, at a time: a long queue needs little memory, and a sync is shared by many.
const PAGE: usize = 500;
/// Letters of a reason; it stands in the history and in the log.
const LONGEST_REASON: usize = 1_000;

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
        /// One JSON object a line: each entry as it is now, or its id with the error.
        #[arg(long)]
        json: bool,
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
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
        /// One JSON object a line: each entry as it is now, or its id with the error.
        #[arg(long)]
        json: bool,
    },
    /// Gaps in the journal: times in which mail was relayed without a record, because the spool could not take it
    /// (spool.on_failure = "bypass") or because journaling was switched off.
    Gaps {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Send delivered records again, whose messages are kept (organization.retention): for an archive that has lost them, or
    /// a new one. Each is a new entry, marked as a replay.
    Resend(resend::Chosen),
    /// Write every waiting record as ID.eml, readable by its owner alone; a file of that name is replaced.
    Export {
        /// The directory; made when it is missing.
        directory: PathBuf,
        /// One JSON object a line: each entry with its file, or its id with the error.
        #[arg(long)]
        json: bool,
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
    /// One JSON object a line: each entry as it is now, or its id with the error.
    #[arg(long)]
    json: bool,
}

/// What a reason must be.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a reason is needed; it is kept in the history and in the log".to_owned()),
        trimmed if trimmed.chars().count() > LONGEST_REASON => {
            Err(format!("too long; at most {LONGEST_REASON} letters are kept"))
        }
        trimmed => Ok(trimmed.to_owned()),
    }
}

/// Does what a queue command says.
///
/// # Errors
/// [`Failure::Failed`]: the spool can't be opened, or at least one entry could not be treated; the others were.
pub(super) fn execute(command: &Command, config: &Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let desk = Desk { spool: beside::open(config).await?, config };
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
            Command::Retry { ids, all: false, json } => self.steer(ids, &Operation::Retry, *json).await,
            Command::Retry { json, .. } => {
                self.steer_all(&[Some(State::Deferred), Some(State::Failed)], None, &Operation::Retry, *json).await
            }
            Command::Hold(Chosen { ids, organization: None, json }) => self.steer(ids, &Operation::Hold, *json).await,
            Command::Hold(Chosen { organization, json, .. }) => {
                self.steer_all(&[None], organization.clone(), &Operation::Hold, *json).await
            }
            Command::Release(Chosen { ids, organization: None, json }) => {
                self.steer(ids, &Operation::Release, *json).await
            }
            Command::Release(Chosen { organization, json, .. }) => {
                self.steer_all(&[Some(State::Held)], organization.clone(), &Operation::Release, *json).await
            }
            Command::Discard { ids, reason, json } => {
                self.steer(ids, &Operation::Discard { reason: reason.clone() }, *json).await
            }
            Command::Gaps { json } => self.gaps(*json).await,
            Command::Resend(chosen) => self.resend(chosen).await,
            Command::Export { directory, json } => self.export(directory, *json).await,
        }
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

    /// What records are sealed with: the daemon's, or the one it will find.
    async fn key(&self) -> Result<MacKey, Failure> {
        Ok(MacKey::from_bytes(self.spool.secret(MacKey::draw(&OsEntropy)).await?))
    }

    /// The record as an archive that offers everything gets it.
    fn write_record(
        &self,
        output: &mut dyn Write,
        (mut fields, archive): (RecordFields, &str),
        octets: &Octets,
        key: &MacKey,
    ) -> Result<(), Failure> {
        if fields.message_uuid.is_nil() {
            fields.message_uuid = message_uuid(&fields);
        }
        let (sender, to) = self.addresses(&fields.organization, archive)?;
        let rendering = render(&fields, &sender, &to, ArchiveOffers::ALL, Some(key));
        output.write_all(&rendering.prefix)?;
        write_octets(output, octets)?;
        output.write_all(&rendering.suffix)?;
        Ok(output.flush()?)
    }

    /// From and To of an organization's records. One that the configuration no longer has keeps the sender that its name
    /// makes; where its records went is not known any more, and the address says so.
    fn addresses(&self, name: &str, archive: &str) -> Result<(Address, Address), Failure> {
        if let Some(found) = self.config.organization(name) {
            let to = found.archive_or_first(archive).map_or(&found.journaling_address, |(address, _)| address);
            return Ok((found.sender.clone(), to.clone()));
        }
        let word = |text: &str| Address::parse(text).map_err(|error| Failure::Failed(format!("{text}: {error}")));
        let sender = word(&format!("amazonjournaling@{name}.awsapps.com")).or_else(|_| word(UNKNOWN_SENDER))?;
        Ok((sender, word(UNKNOWN_ARCHIVE)?))
    }

    fn knows(&self, organization: &str) -> bool {
        self.config.organizations.iter().any(|other| other.name == organization)
    }
}

/// Under reserved names (RFC 2606, section 2), so that nothing sent there arrives anywhere.
const UNKNOWN_SENDER: &str = "amazonjournaling@organization.invalid";
const UNKNOWN_ARCHIVE: &str = "unknown@archive.invalid";

fn write_octets(output: &mut dyn Write, octets: &Octets) -> Result<(), Failure> {
    for chunk in octets.chunks()? {
        output.write_all(&chunk?)?;
    }
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something() {
        for empty in ["", " ", "\t\n"] {
            assert!(reason(empty).is_err(), "{empty:?}");
        }
        assert_eq!(reason(" court order 7\n"), Ok("court order 7".to_owned()));
        assert!(reason(&"x".repeat(LONGEST_REASON)).is_ok());
        assert!(reason(&"x".repeat(LONGEST_REASON + 1)).is_err());
    }
}
