//! Reading the configuration: from one TOML file to a checked [`Config`], or to all that is wrong with it.
//!
//! Every error names file, line and column, what was found and what is allowed; as many as can be told apart are
//! collected, so that an operator mends a file in one go. Nothing is started, made or written here; besides the file
//! itself only what it names (`password_file`, `token_file`, `ca_file`, certificates and keys) is read, and not even that by
//! [`Config::load_without_files`]. What a value means is said in [`super`]; features of the contract that this version lacks stand in `later`, one line each.

use super::{Config, Log, LogAddresses, LogFormat, OnFailure, Retry, Spool};
use ipnet::IpNet;
use report::{Files, Report};
use section::{Kind, Section};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

mod admin;
mod checks;
mod files;
mod later;
mod limits;
mod listener;
mod listener_tls;
mod machine;
mod organization;
mod report;
mod routes;
mod section;
mod values;

pub use machine::Machine;
pub use report::{ConfigError, ConfigErrors, Place};
pub use values::duration;

/// Octets of a configuration file; a larger one is refused. It bounds every list a file can hold.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Where the spool is unless the file says otherwise.
const DEFAULT_SPOOL: &str = "/var/lib/journal-relay";

const ROOT: Kind = Kind {
    path: "",
    title: "the file",
    keys: &["hostname", "spool", "listener", "organization", "retry", "admin", "log"],
};
const SPOOL: Kind = Kind { path: "spool", title: "[spool]", keys: &["path", "on_failure", "allow_volatile"] };
const RETRY: Kind = Kind { path: "retry", title: "[retry]", keys: &["first", "longest", "give_up", "report_after"] };
const LOG: Kind = Kind { path: "log", title: "[log]", keys: &["format", "level", "addresses", "trace_sessions"] };

impl Config {
    /// Reads and checks the file at `path`, on this machine.
    ///
    /// Errors: the file can't be read, is larger than [`MAX_FILE`], isn't UTF-8, or says what [`Config::parse`] refuses.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = read_file(path)?;
        Self::parse(&text, path, &Machine::look())
    }

    /// Like [`Config::load`], for what neither listens nor connects: no file that it names is opened, so that a missing certificate or
    /// password keeps nobody from the spool. Listeners then have no identities, users of routes empty passwords, `[admin]` no token.
    ///
    /// Errors: as [`Config::load`], but for those of other files.
    pub fn load_without_files(path: &Path) -> Result<Self, ConfigErrors> {
        let text = read_file(path)?;
        Self::read(&text, path, &Machine::look(), Files::Leave)
    }

    /// Reads and checks `text`, which came from `file` (a name for error messages alone), as on `machine`.
    ///
    /// Errors: not TOML; or an unknown key, a wrong type or value, a missing key, a duplicate, a loop, or a feature that
    /// this version lacks.
    pub fn parse(text: &str, file: &Path, machine: &Machine) -> Result<Self, ConfigErrors> {
        Self::read(text, file, machine, Files::Open)
    }

    fn read(text: &str, file: &Path, machine: &Machine, files: Files) -> Result<Self, ConfigErrors> {
        let report = Report::new(file, text, files);
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            report.note_syntax(error);
        }
        report.finish()?;
        let root = Section::open(ROOT, document.get_ref(), 0, &report);
        let config = read_root(root, machine);
        report.finish()?;
        Ok(config)
    }
}

fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    let refuse = |message: String| ConfigErrors::of(ConfigError::without_place(path, message));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(format!("the file can't be read: {error}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(refuse(format!("the file is larger than {MAX_FILE} octets, the most that is allowed")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes().get(..sound).unwrap_or_default()).into_owned();
        let report = Report::new(path, &text, Files::Leave);
        report.note(sound, "found an octet that is not UTF-8; a TOML file is UTF-8");
        report.into_errors()
    })
}

fn read_root(root: Section<'_>, machine: &Machine) -> Config {
    let hostname = root.text("hostname", values::hostname).map_or_else(|| machine.hostname.clone(), |name| name.value);
    let spool = read_spool(root);
    let retry = read_retry(root);
    let admin = admin::read(root);
    let (log, trace_sessions) = read_log(root, machine);
    let listeners = listener::read_all(root);
    let organizations = organization::read_all(root);
    checks::check(root, &hostname, &listeners, &organizations);
    Config {
        hostname,
        spool,
        listeners: listeners.into_iter().map(|placed| placed.listener).collect(),
        organizations: organizations.into_iter().map(|placed| placed.organization).collect(),
        retry,
        admin,
        log,
        trace_sessions,
    }
}

fn read_spool(root: Section<'_>) -> Spool {
    let section = root.table("spool", SPOOL).unwrap_or_else(|| root.absent(SPOOL));
    let ways = values::one_of(&[("tempfail", OnFailure::Tempfail), ("bypass", OnFailure::Bypass)]);
    Spool {
        on_failure: section.text("on_failure", ways).map_or_else(OnFailure::default, |way| way.value),
        path: section.text("path", values::path).map_or_else(|| PathBuf::from(DEFAULT_SPOOL), |path| path.value),
        allow_volatile: section.flag("allow_volatile").unwrap_or(false),
    }
}

fn read_retry(root: Section<'_>) -> Retry {
    let section = root.table("retry", RETRY).unwrap_or_else(|| root.absent(RETRY));
    let minutes = |number: u64| Duration::from_secs(60 * number);
    let read = |key, default| section.text(key, values::duration).map_or(default, |placed| placed.value);
    let retry = Retry {
        first: read("first", minutes(1)),
        longest: read("longest", minutes(60)),
        give_up: read("give_up", minutes(8 * 24 * 60)),
        report_after: read("report_after", minutes(4 * 60)),
    };
    // A value that could not be read would be compared as its default, and blame the others.
    if !root.report().is_clean() {
        return retry;
    }
    if retry.first < values::SHORTEST_RETRY {
        section.refuse("first", r#"too short; at least "10ms" is allowed"#);
    }
    for (key, wait) in [("longest", retry.longest), ("give_up", retry.give_up)] {
        if wait < retry.first {
            let at_fault = if section.has(key) { key } else { "first" };
            section.refuse(at_fault, &format!("retry.{key} can't be shorter than retry.first"));
        }
    }
    retry
}

fn read_log(root: Section<'_>, machine: &Machine) -> (Log, Vec<IpNet>) {
    let default_format = if machine.stderr_is_terminal { LogFormat::Text } else { LogFormat::Json };
    let section = root.table("log", LOG).unwrap_or_else(|| root.absent(LOG));
    let formats =
        values::one_of(&[("json", LogFormat::Json), ("text", LogFormat::Text), ("journald", LogFormat::Journald)]);
    let levels = values::one_of(&[
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ]);
    let addresses = values::one_of(&[
        ("full", LogAddresses::Full),
        ("domain", LogAddresses::Domain),
        ("hash", LogAddresses::Hash),
        ("none", LogAddresses::None),
    ]);
    let traced = section.list("trace_sessions", values::network).map(|list| list.value).unwrap_or_default();
    let log = Log {
        format: section.text("format", formats).map_or(default_format, |placed| placed.value),
        level: section.text("level", levels).map_or(tracing::Level::INFO, |placed| placed.value),
        addresses: section.text("addresses", addresses).map_or(LogAddresses::Full, |placed| placed.value),
    };
    (log, traced.into_iter().map(|network| network.value).collect())
}

#[cfg(test)]
mod tests;
