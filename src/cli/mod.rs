//! The command line: what an administrator types, and the exit status it ends with.
//!
//! Floor 6. Exit status: 0 done, 1 the thing asked for failed, 2 usage, 74 the daemon's disk failed it (`EX_IOERR` of sysexits),
//! 78 configuration (`EX_CONFIG`).

mod beside;
mod check;
mod organization;
mod output;
mod queue;
mod reach;
mod record;
mod status;
mod test_send;

use crate::app::{self, StartError};
use crate::config::{Config, ConfigErrors};
use crate::spool::SpoolError;
use clap::{CommandFactory as _, Parser, Subcommand};
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// `EX_IOERR` of sysexits.
const EXIT_DISK: u8 = 74;
/// `EX_CONFIG` of sysexits.
const EXIT_CONFIG: u8 = 78;

/// An SMTP relay that passes mail on octet for octet and journals every message once.
#[derive(Debug, Parser)]
#[command(name = "journal-relay", version, propagate_version = true)]
struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        env = "JOURNAL_RELAY_CONFIG",
        default_value = "/etc/journal-relay/config.toml",
        value_name = "PATH"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (also the default).
    Run(RunArguments),
    /// Validate the configuration, and try out what it leads to.
    Check(check::Arguments),
    /// Print the journal record that a message would get; nothing is sent.
    Record(record::Arguments),
    /// Send a marked message through a listener of the running daemon, and wait until the archive has its record.
    TestSend(test_send::Arguments),
    /// See and turn the switches of organizations.
    #[command(subcommand)]
    Organization(organization::Command),
    /// See and steer the records that wait.
    #[command(subcommand)]
    Queue(queue::Command),
    /// Tell how the daemon is: listeners, next hops, archives, what waits, gaps, last failures.
    Status(status::Arguments),
}

#[derive(Debug, Default, clap::Args)]
struct RunArguments {
    /// Write the whole dialogue of this client's sessions to the log, without messages and passwords: an address or a network,
    /// such as 192.0.2.1 or 192.0.2.0/24; may be repeated. As log.trace_sessions, which a reload changes.
    #[arg(long, value_name = "PEER", value_parser = peer)]
    trace_session: Vec<IpNet>,
}

fn peer(text: &str) -> Result<IpNet, String> {
    let host = text.parse::<IpAddr>().map(IpNet::from);
    host.or_else(|_| text.parse()).map_err(|_| "an IP address or a network is needed, such as 192.0.2.0/24".to_owned())
}

/// Why a command failed; by the exit status it leads to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The configuration: 78.
    #[error("{0}")]
    Config(String),
    /// The daemon has to be started anew: 74.
    #[error("{0}")]
    Broken(String),
    /// The thing asked for: 1.
    #[error("{0}")]
    Failed(String),
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors.to_string())
    }
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The command line as clap knows it: what manual pages and completions are made of.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Reads the command line, does what it says, and gives the exit status.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            match failure {
                Failure::Config(_) => ExitCode::from(EXIT_CONFIG),
                Failure::Broken(_) => ExitCode::from(EXIT_DISK),
                Failure::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.command.as_ref().unwrap_or(&Command::Run(RunArguments::default())) {
        Command::Run(RunArguments { trace_session }) => {
            app::run(&arguments.config, trace_session).map_err(|error| match error {
                StartError::Config(errors) => Failure::Config(errors.to_string()),
                refusal @ (StartError::Volatile(_) | StartError::OpenRelay(_) | StartError::Passed(_)) => {
                    Failure::Config(refusal.to_string())
                }
                broken @ StartError::Broken => Failure::Broken(broken.to_string()),
                other => Failure::Failed(other.to_string()),
            })
        }
        Command::Check(check) => check::check(&arguments.config, check),
        Command::Record(record) => record::print_record(record, &Config::load_without_files(&arguments.config)?),
        Command::TestSend(test) => test_send::test_send(test, &Config::load(&arguments.config)?),
        Command::Organization(command) => organization::execute(command, &arguments.config),
        Command::Queue(command) => queue::execute(command, &Config::load_without_files(&arguments.config)?),
        Command::Status(arguments_of) => status::status(arguments_of, &Config::load_without_files(&arguments.config)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn without_a_command_the_daemon_runs() {
        let arguments = Arguments::parse_from(["journal-relay", "--config", "x.toml"]);
        assert!(arguments.command.is_none());
        assert_eq!(arguments.config, PathBuf::from("x.toml"));
    }

    /// The words of a shell's line with simple quotes; what stands behind `&&`, `|`, `>` or `#` is another's.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), None);
        for letter in line.chars() {
            match (letter, quoted) {
                ('\'' | '"', None) => quoted = Some(letter),
                (_, Some(mark)) if letter == mark => quoted = None,
                (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
                _ => word.push(letter),
            }
        }
        words.push(word);
        let end = words.iter().position(|word| ["&&", "|", ">", "#", "&", ""].contains(&word.as_str()));
        words.truncate(end.unwrap_or(words.len()));
        words
    }

    #[test]
    fn every_command_of_the_pages_is_one() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let mut commands = 0;
        for page in docs.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|it| it == "md")) {
            let text = std::fs::read_to_string(&page).unwrap();
            let blocks = text.split("\n```").filter_map(|block| block.split_once('\n'));
            // Of a dialogue the lines behind a prompt are commands, of a script all of them.
            let lines = blocks.flat_map(|(info, lines)| {
                let kind = info.split(' ').next().unwrap();
                lines.lines().filter_map(move |line| match kind {
                    "console" => line.strip_prefix("$ "),
                    "sh" => Some(line.trim_start()),
                    _ => None,
                })
            });
            for line in lines {
                if line.starts_with("journal-relay ") && !line.contains('…') && !line.ends_with('\\') {
                    let parsed = Arguments::try_parse_from(words(line));
                    assert!(
                        parsed.is_ok(),
                        "{}: {line}: {:?}",
                        page.display(),
                        parsed.err().map(|error| error.to_string())
                    );
                    commands += 1;
                }
            }
        }
        assert!(commands > 20, "only {commands} commands found");
    }
}
