//! `test-send`: one marked message from and to an organization's report address, through a listener of the running daemon, and
//! what becomes of its record, until the archive has answered.
//!
//! The message is like any other: it reaches the report address's mailbox, and its record the archive. The record is found by the
//! message's Message-ID, in the spool, which is only read. What would leave the message without a record is said before it is sent.

mod journey;
mod letter;

use super::Failure;
use super::output::{print_line, shown};
use crate::clock;
use crate::config::{self, Config, Listener, Organization};
use crate::mail::{Address, OsEntropy, ReversePath};
use crate::receive::{Journaling, concerns};
use crate::spool::disk;
use journey::Journey;
use letter::Letter;
use serde_json::{Value, json};
use std::time::Duration;

/// How long the archive may take, on top of `coalesce`, unless somebody says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The organization whose journal is tried out
    #[arg(long, value_name = "NAME")]
    organization: String,
    /// The listener that takes the message; the first one of the configuration that has a fixed port
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Sender and recipient, instead of the report address; one of the organization's
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: Option<Address>,
    /// How long to wait in all, such as "90s" or "15m"; one minute on top of coalesce
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    timeout: Option<Duration>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

/// Tells each step as it is made.
pub(super) struct Teller {
    json: bool,
}

impl Teller {
    /// A step: its name, its line for people, and its keys for programs.
    fn tell(&self, step: &str, text: &str, mut keys: Value) -> Result<(), Failure> {
        if !self.json {
            return Ok(print_line(&format!("{step:<9} {}", shown(text)))?);
        }
        if let Some(object) = keys.as_object_mut() {
            object.insert("step".to_owned(), step.into());
        }
        Ok(print_line(&keys.to_string())?)
    }
}

/// Sends the message and waits for the archive's reply.
///
/// # Errors
/// [`Failure::Failed`]: nothing was sent, and why; or the message was refused, or its record has not reached the archive in time.
pub(super) fn test_send(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    let teller = Teller { json: arguments.json };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(go(arguments, config, &teller));
    // A look-up that hangs in the system must not hold up the end.
    runtime.shutdown_background();
    if let (Err(Failure::Failed(why)), true) = (&done, arguments.json) {
        teller.tell("failed", why, json!({ "reason": why }))?;
    }
    done
}

async fn go(arguments: &Arguments, config: &Config, teller: &Teller) -> Result<(), Failure> {
    let organization = organization(config, &arguments.organization)?;
    let mailbox = arguments.address.as_ref().unwrap_or(&organization.report_address);
    expect_record(config, organization, mailbox)?;
    let listener = listener(config, arguments.listener.as_deref())?;
    let spool = &config.spool.path;
    let runs = disk::system().is_locked(spool);
    let runs = runs.map_err(|error| Failure::Failed(format!("whether a daemon runs can't be seen: {error}")))?;
    if !runs {
        return Err(Failure::Failed(format!("no daemon runs with the spool {}: start it first", spool.display())));
    }
    let limit = arguments.timeout.unwrap_or(organization.coalesce.saturating_add(PATIENCE));
    let letter = Letter::new(organization, mailbox, &config.hostname, clock::system().now(), &OsEntropy);
    let journey = Journey { config, organization, listener, letter: &letter, teller };
    journey.go(limit).await
}

fn organization<'c>(config: &'c Config, name: &str) -> Result<&'c Organization, Failure> {
    config.organizations.iter().find(|other| other.name == name).ok_or_else(|| {
        let known: Vec<_> = config.organizations.iter().map(|other| other.name.as_str()).collect();
        Failure::Failed(format!("there is no organization {name:?}; there are {}", known.join(", ")))
    })
}

/// Whether mail from and to this address makes a record of the organization.
fn expect_record(config: &Config, organization: &Organization, mailbox: &Address) -> Result<(), Failure> {
    let sender = ReversePath::Address(mailbox.clone());
    let concerned = concerns(config, &sender, None, std::slice::from_ref(mailbox));
    let verdict = concerned.iter().find(|concern| concern.organization.name == organization.name);
    let name = &organization.name;
    match verdict.map(|concern| concern.verdict) {
        Some(Journaling::Yes) => Ok(()),
        Some(why) => Err(Failure::Failed(format!(
            "mail from and to {mailbox} gets no record by the configuration of {name}: {}; nothing was sent",
            why.rule()
        ))),
        None => Err(Failure::Failed(format!(
            "{mailbox} is no address of {name}: mail from and to it makes no record; --address names one"
        ))),
    }
}

fn listener<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Listener, Failure> {
    let has_port = |listener: &&Listener| listener.address.port() != 0;
    let known = || config.listeners.iter().map(|other| other.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        let none = || Failure::Failed("every listener's port is chosen at the start: none can be reached".to_owned());
        return config.listeners.iter().find(has_port).ok_or_else(none);
    };
    let found = config.listeners.iter().find(|other| other.name == name);
    let found =
        found.ok_or_else(|| Failure::Failed(format!("there is no listener {name:?}; there are {}", known())))?;
    if has_port(&found) {
        Ok(found)
    } else {
        Err(Failure::Failed(format!("the port of listener {name:?} is chosen at the start: it can't be reached")))
    }
}
