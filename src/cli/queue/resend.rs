//! `resend`: delivered records whose messages are kept go out once more.
//!
//! Nothing is passed over silently: what can't be sent again is counted, with the reason. A record whose earlier replay still
//! waits is not doubled; one whose replay was delivered meanwhile is sent once more where an interrupted command is given again
//! without `--after`.

use super::progress::Progress;
use super::{Desk, PAGE};
use crate::cli::Failure;
use crate::cli::output::{complain, print_line, print_object};
use crate::clock;
use crate::mail::{Address, OsEntropy, RecordId, Timestamp};
use crate::spool::{Resend, Resent, Spool};
use serde_json::{Value, json};
use std::time::Duration;

/// Left to the daemon between two transactions.
const BREATH: Duration = Duration::from_millis(20);
/// Mail older than this is ignored by some archives: Mimecast's limit.
const OLD: Duration = Duration::from_secs(30 * 86_400);

/// Which records.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Chosen {
    /// Of this organization.
    #[arg(long, value_name = "NAME")]
    organization: String,
    /// Of messages that arrived then or later: a date or a time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Timestamp,
    /// Of messages that arrived before this; default: now.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    until: Option<Timestamp>,
    /// The journaling address of the organization that gets each record once; default: each goes to the archive that took it.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    to: Option<Address>,
    /// Only records made after this one: where a command that was interrupted had come to.
    #[arg(long, value_name = "ID")]
    after: Option<RecordId>,
    /// One JSON object: how many are sent again, and how many of each kind are not.
    #[arg(long)]
    json: bool,
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

impl Desk<'_> {
    pub(super) async fn resend(&self, chosen: &Chosen) -> Result<(), Failure> {
        let now = clock::system().now();
        let to = self.target(chosen)?;
        let archives = self.config.organization(&chosen.organization).map(|of| of.archive_keys().collect());
        let mut all = Resent { last: chosen.after, ..Resent::default() };
        let mut progress = Progress::new("records looked at");
        loop {
            let resend = Resend {
                organization: chosen.organization.clone(),
                since: chosen.since,
                until: chosen.until.unwrap_or(now),
                to: to.clone(),
                archives: archives.clone().unwrap_or_default(),
                after: all.last,
                at: now,
                ids: (0..PAGE).map(|_| RecordId::new(now, &OsEntropy)).collect(),
            };
            let some = self.spool.resend(resend).await.map_err(|error| {
                let last = all.last.map_or_else(String::new, |last| format!("; go on with --after {last}"));
                Failure::Failed(format!("{} records were made due again, then: {error}{last}", all.resent))
            })?;
            if some.last.is_none() {
                break;
            }
            all = all.plus(some);
            progress.reach(usize::try_from(looked_at(&all)).unwrap_or(usize::MAX));
            tokio::time::sleep(BREATH).await;
        }
        drop(progress);
        let Chosen { organization, since, .. } = chosen;
        let (since, to) = (since.rfc3339(), to.as_deref());
        if all.resent > 0 {
            tracing::warn!(
                event = "records.resent",
                organization,
                since,
                to,
                records = all.resent,
                "an operator has delivered records sent again"
            );
        }
        if chosen.json {
            print_object(&chosen.object(&all, now))?;
        } else {
            print_line(&format!("{} are sent again, marked as replays (X-Journal-Replay)", count(all.resent)))?;
        }
        passed_over(&all).iter().for_each(|line| complain(line));
        age_warning(&all, now).iter().for_each(|warning| complain(warning));
        if all.gone > 0 {
            return Err(Failure::Failed(format!("{} can't be sent again", count(all.gone))));
        }
        Ok(())
    }

    /// The key of the archive that gets everything, if one is named.
    fn target(&self, chosen: &Chosen) -> Result<Option<String>, Failure> {
        let Some(organization) = self.config.organization(&chosen.organization) else {
            let known: Vec<_> = self.config.organizations.iter().map(|other| other.name.as_str()).collect();
            let name = &chosen.organization;
            return Err(Failure::Failed(format!("there is no organization {name:?}; there are {}", known.join(", "))));
        };
        let Some(to) = &chosen.to else { return Ok(None) };
        if organization.archive(&to.mailbox_key()).is_none() {
            let known: Vec<_> = organization.archives().map(|(address, _)| address.to_string()).collect();
            return Err(Failure::Failed(format!(
                "{to} is no archive of {}; its archives are {}",
                organization.name,
                known.join(", ")
            )));
        }
        Ok(Some(to.mailbox_key()))
    }
}

impl Chosen {
    /// What was asked for, and what came of it.
    fn object(&self, all: &Resent, now: Timestamp) -> Value {
        json!({
            "organization": self.organization,
            "since": self.since.rfc3339(),
            "until": self.until.unwrap_or(now).rfc3339(),
            "to": self.to,
            "resent": all.resent,
            "gone": all.gone,
            "undelivered": all.undelivered,
            "discarded": all.discarded,
            "under_way": all.under_way,
            "copies": all.copies,
            "oldest": all.oldest.map(Timestamp::rfc3339),
            "last": all.last,
        })
    }
}

fn count(records: u64) -> String {
    if records == 1 { "1 record".to_owned() } else { format!("{records} records") }
}

/// What there is to say of old mail.
fn age_warning(all: &Resent, now: Timestamp) -> Option<String> {
    let oldest = all.oldest.filter(|oldest| now.since(*oldest) >= OLD)?;
    Some(format!(
        "warning: the oldest of them is of {}; some archives ignore mail of that age while they accept it (Mimecast: 30 days): \
         make sure there that they are kept",
        oldest.rfc3339()
    ))
}

fn looked_at(all: &Resent) -> u64 {
    all.resent + all.gone + all.undelivered + all.discarded + all.under_way + all.copies
}

/// What was not sent again, and why, a line each.
fn passed_over(all: &Resent) -> Vec<String> {
    [
        (all.gone, "not sent again, the message is not kept (organization.retention)"),
        (all.undelivered, "not delivered yet, or an earlier replay has failed: see queue list"),
        (all.discarded, "discarded by an operator: see queue list --state discarded"),
        (all.under_way, "waiting to be sent again already"),
        (all.copies, "a copy, for which that of another archive stands"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(number, why)| format!("{}: {why}", count(number)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_some_archives_ignore_for_their_age_are_warned_of() {
        let now = Timestamp::parse("2026-11-26").unwrap();
        let of = |oldest: Option<&str>| {
            let oldest = oldest.map(|oldest| Timestamp::parse(oldest).unwrap());
            age_warning(&Resent { oldest, ..Resent::default() }, now)
        };
        assert_eq!((of(None), of(Some("2026-10-28"))), (None, None));
        assert!(of(Some("2026-10-27")).unwrap().contains("of 2026-10-27T00:00:00.000Z"));
    }

    #[test]
    fn whatever_is_passed_over_is_told_with_its_reason() {
        assert!(passed_over(&Resent { resent: 7, ..Resent::default() }).is_empty());
        let all = Resent { gone: 1, undelivered: 2, discarded: 3, under_way: 4, copies: 5, ..Resent::default() };
        let lines = passed_over(&all);
        assert_eq!(lines.len(), 5);
        for (line, count) in lines.iter().zip(1..) {
            assert!(line.starts_with(&format!("{}: ", super::count(count))), "{line}");
        }
    }
}
