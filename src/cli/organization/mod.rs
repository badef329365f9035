//! `organization`: the switches of the configuration's organizations, seen and turned. Turning one edits the file, comments
//! and order kept, and a daemon that runs takes it as any change of the file, within seconds; the command waits for that.

mod edit;

use super::output::{complain, print, print_line, print_object, table};
use super::{Failure, beside};
use crate::config::{Config, Organization};
use crate::spool::disk;
use crate::spool::{Pause, Spool as _, SpoolError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Pauses that are looked through, the last ones.
const MOST: usize = 100_000;
/// How long a daemon is waited for; it looks at its files every two seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what it has noted.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Every organization, its switch, and since when it is off.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Switch an organization's journaling on.
    Enable(Turned),
    /// Switch an organization's journaling off: from the next transaction on, its mail has no records.
    Disable(Turned),
}

#[derive(Debug, clap::Args)]
pub(super) struct Turned {
    /// The organization.
    name: String,
    /// Why; kept in the configuration, in the log and with the gap.
    #[arg(long, value_name = "TEXT", value_parser = super::queue::reason)]
    reason: String,
    /// One JSON object: the organization as in list, whether anything changed, and whether a daemon has noted it.
    #[arg(long)]
    json: bool,
}

/// Does what the command says.
///
/// # Errors
/// [`Failure::Config`]: the file is not sound, before or after. [`Failure::Failed`]: there is no such organization, the file
/// can't be written, or a daemon that runs has not taken it.
pub(super) fn execute(command: &Command, file: &Path) -> Result<(), Failure> {
    let config = match command {
        Command::List { .. } => Config::load_without_files(file),
        // What is written must be what a daemon can take.
        Command::Enable(_) | Command::Disable(_) => Config::load(file),
    }?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::List { json } => runtime.block_on(list(&config, *json)),
        Command::Enable(turned) => runtime.block_on(turn(&config, file, turned, true)),
        Command::Disable(turned) => runtime.block_on(turn(&config, file, turned, false)),
    }
}

async fn list(config: &Config, as_json: bool) -> Result<(), Failure> {
    let open = open_pauses(config).await.unwrap_or_else(|error| {
        complain(&format!("since when switches are off can't be seen: {error}"));
        BTreeMap::new()
    });
    if as_json {
        let lines = config.organizations.iter().map(|of| format!("{}\n", object(of, open.get(&of.name))));
        return Ok(print(lines.collect::<String>().as_bytes())?);
    }
    let head = ["ORGANIZATION", "JOURNALING", "SINCE", "RECORDS TO", "REASON"].map(str::to_owned).to_vec();
    let row = |of: &Organization| {
        let since = open.get(&of.name).map_or_else(String::new, |pause| pause.off.at.rfc3339());
        let state = if of.journaling { "on" } else { "off" };
        let reason = of.switch_reason.clone().unwrap_or_default();
        let archives: Vec<_> = of.archives().map(|(address, _)| address.to_string()).collect();
        vec![of.name.clone(), state.to_owned(), since, archives.join(", "), reason]
    };
    let rows: Vec<_> = std::iter::once(head).chain(config.organizations.iter().map(row)).collect();
    Ok(print(table(&rows).as_bytes())?)
}

fn object(of: &Organization, pause: Option<&Pause>) -> serde_json::Value {
    json!({
        "organization": of.name,
        "journaling": of.journaling,
        "off_since": pause.map(|pause| pause.off.at.rfc3339()),
        "journaling_address": of.journaling_address,
        "also": of.also.iter().map(|also| &also.journaling_address).collect::<Vec<_>>(),
        "reason": of.switch_reason,
    })
}

/// The pauses that last; none where no daemon has made a spool yet.
async fn open_pauses(config: &Config) -> Result<BTreeMap<String, Pause>, SpoolError> {
    if matches!(config.spool.path.try_exists(), Ok(false)) {
        return Ok(BTreeMap::new());
    }
    let spool = beside::open(config).await?;
    let pauses = spool.pauses(MOST).await;
    // What can't be closed in order was only read.
    let _ = spool.close().await;
    let open = pauses?.into_iter().filter(|pause| pause.on.is_none());
    Ok(open.map(|pause| (pause.organization.clone(), pause)).collect())
}

async fn turn(config: &Config, file: &Path, turned: &Turned, journaling: bool) -> Result<(), Failure> {
    let Turned { name, reason, json: as_json } = turned;
    let word = if journaling { "on" } else { "off" };
    let Some(organization) = config.organizations.iter().find(|other| other.name == *name) else {
        let known: Vec<_> = config.organizations.iter().map(|other| other.name.as_str()).collect();
        return Err(Failure::Failed(format!("there is no organization {name:?}; there are {}", known.join(", "))));
    };
    let tell = async |became: Became| match as_json {
        true => Ok(print_object(&became.object(file, name).await?)?),
        false => Ok(print_line(&format!("journaling of {name} is {word}{}", became.words()))?),
    };
    if organization.journaling == journaling {
        return tell(Became::SoAlready).await;
    }
    edit::turn(file, name, journaling, &format!("{}: {reason}", who())).await?;
    let runs = disk::system().is_locked(&config.spool.path).map_err(|error| {
        let (spool, file) = (config.spool.path.display(), file.display());
        Failure::Failed(format!(
            "{file} says now that journaling of {name} is {word}; whether a daemon runs can't be seen: {spool}: {error}"
        ))
    })?;
    if !runs {
        return tell(Became::Written).await;
    }
    let until = Instant::now() + PATIENCE;
    while open_pauses(config).await?.contains_key(name) == journaling {
        if Instant::now() >= until {
            return Err(Failure::Failed(format!(
                "{} says that journaling of {name} is {word}; the daemon has not noted it within {} s: see its log (config.rejected)",
                file.display(),
                PATIENCE.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
    tell(Became::Noted).await
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// Nothing was to be done.
    SoAlready,
    /// It stands in the file; no daemon runs.
    Written,
    /// The running daemon works by it.
    Noted,
}

impl Became {
    fn words(self) -> &'static str {
        match self {
            Self::SoAlready => " already",
            Self::Written => " from the next start on: no daemon runs",
            Self::Noted => "; the daemon has noted it",
        }
    }

    /// The organization as the file says now.
    async fn object(self, file: &Path, name: &str) -> Result<serde_json::Value, Failure> {
        let config = Config::load_without_files(file)?;
        let open = open_pauses(&config).await.unwrap_or_default();
        let mut said = config.organization(name).map_or_else(|| json!({}), |of| object(of, open.get(name)));
        if let Some(map) = said.as_object_mut() {
            map.insert("changed".to_owned(), (self != Self::SoAlready).into());
            map.insert("noted".to_owned(), (self == Self::Noted).into());
        }
        Ok(said)
    }
}

/// Who does it, as far as the system tells.
fn who() -> String {
    let by =
        ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|key| std::env::var(key).ok().filter(|name| !name.is_empty()));
    by.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
