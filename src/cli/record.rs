//! `record`: the journal record that a message would get, on standard output. Nothing is sent or kept.

use super::Failure;
use super::output::{complain, print, print_object};
use crate::clock;
use crate::config::{Config, Organization};
use crate::journal::{ArchiveOffers, HeaderFacts, Observer, RecordFields, message_id, message_uuid, render};
use crate::mail::{Address, OsEntropy, QueueId, ReversePath};
use crate::receive::{Envelope, draft_records};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What `record` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The message; `-` reads standard input.
    file: PathBuf,
    /// MAIL FROM; `<>` or nothing between quotes for a bounce.
    #[arg(long, value_name = "ADDRESS", value_parser = reverse_path)]
    from: ReversePath,
    /// RCPT TO; once for each recipient.
    #[arg(long, value_name = "ADDRESS", required = true, value_parser = forward_path)]
    to: Vec<Address>,
    /// Whose record, when the message concerns several organizations.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// One JSON object a line, for each organization that would have a record: what is known of it, without its octets.
    #[arg(long)]
    json: bool,
}

fn reverse_path(text: &str) -> Result<ReversePath, String> {
    let text = text.trim_start_matches('<').trim_end_matches('>');
    ReversePath::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn forward_path(text: &str) -> Result<Address, String> {
    Address::parse(text.trim_start_matches('<').trim_end_matches('>')).map_err(|error| error.to_string())
}

/// Prints the record.
///
/// # Errors
/// [`Failure::Failed`]: the file can't be read, no organization is concerned, or several are and none was chosen.
pub(super) fn print_record(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    let octets = as_on_the_wire(read(&arguments.file)?);
    let mut observer = Observer::new();
    observer.observe(&octets);
    let observation = observer.finish();
    let facts = HeaderFacts::read(&observation.header);
    let now = clock::system().now();
    let envelope = Envelope {
        queue_id: QueueId::new(now, &OsEntropy),
        received: now,
        reverse_path: arguments.from.clone(),
        recipients: arguments.to.clone(),
        login: None,
    };
    let drafts = draft_records(config, &envelope, &observation, &facts, &OsEntropy);
    let wanted = |name: &str| arguments.organization.as_deref().is_none_or(|wanted| wanted == name);
    // Copies for further archives read the same but for To.
    let first = |record: &RecordFields| record.copy_of.is_none() && wanted(&record.organization);
    let mut records: Vec<_> = drafts.into_iter().map(|draft| draft.fields).filter(first).collect();
    let Some(mut record) = records.pop() else {
        return Err(Failure::Failed(
            "this message gets no record: it concerns no organization that journals it".to_owned(),
        ));
    };
    if arguments.json {
        records.push(record);
        return Ok(records.iter().try_for_each(|record| print_object(&object(record, config)))?);
    }
    if !records.is_empty() {
        let names: Vec<_> = records.iter().chain([&record]).map(|record| record.organization.as_str()).collect();
        return Err(Failure::Failed(format!(
            "it gets several records: choose one of {} with --organization",
            names.join(", ")
        )));
    }
    record.message_uuid = message_uuid(&record);
    let organization = organization(config, &record.organization)?;
    let rendering = render(&record, &organization.sender, &organization.journaling_address, ArchiveOffers::ALL, None);
    Ok(print(&[rendering.prefix.as_slice(), &octets, &rendering.suffix].concat())?)
}

/// What is known of a record that would be, by the keys of `queue list`.
fn object(record: &RecordFields, config: &Config) -> Value {
    let organization = config.organization(&record.organization);
    let archives: Vec<_> = organization.into_iter().flat_map(Organization::archives).collect();
    json!({
        "organization": record.organization,
        "message_id": message_id(message_uuid(record)),
        "original_message_id": record.original.message_id,
        "size": record.original.size,
        "recipients": record.recipients.iter().map(|recipient| &recipient.address).collect::<Vec<_>>(),
        "route": archives.first().map(|(_, route)| route.to_string()),
        "sender": record.original.sender,
        "archives": archives.iter().map(|(address, _)| address).collect::<Vec<_>>(),
    })
}

/// The organization of that name.
pub(super) fn organization<'c>(config: &'c Config, name: &str) -> Result<&'c Organization, Failure> {
    let found = config.organizations.iter().find(|organization| organization.name == name);
    found.ok_or_else(|| Failure::Failed(format!("the configuration has no organization {name:?}")))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut octets).map(|_| ())
    } else {
        std::fs::read(file).map(|read| octets = read)
    };
    read.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    Ok(octets)
}

/// Lines that end in LF alone get the CRLF they have on the wire, and so does a last line without end.
fn as_on_the_wire(octets: Vec<u8>) -> Vec<u8> {
    let mut converted = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut before = 0;
    let mut changed = 0_usize;
    for octet in octets {
        if octet == b'\n' && before != b'\r' {
            converted.push(b'\r');
            changed += 1;
        }
        converted.push(octet);
        before = octet;
    }
    if changed > 0 {
        complain(&format!("{changed} lines ended in LF alone: converted to CRLF, as they would be sent"));
    }
    if !converted.is_empty() && !converted.ends_with(b"\r\n") {
        complain("the last line had no end: CRLF added, as it would be sent");
        converted.extend_from_slice(b"\r\n");
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_get_the_ends_they_have_on_the_wire() {
        assert_eq!(as_on_the_wire(b"a\nb\r\nc".to_vec()), b"a\r\nb\r\nc\r\n");
        assert_eq!(as_on_the_wire(b"a\r\n\r\n".to_vec()), b"a\r\n\r\n");
        assert_eq!(as_on_the_wire(Vec::new()), b"");
    }

    #[test]
    fn a_bounce_s_sender_is_written_in_two_ways() {
        assert_eq!(reverse_path("<>"), Ok(ReversePath::Null));
        assert_eq!(reverse_path(""), Ok(ReversePath::Null));
        assert!(reverse_path("a b@c").is_err());
    }
}
