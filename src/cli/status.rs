//! `status`: what the running daemon says of itself, over its control socket; without one, what spool and configuration say.
//!
//! Exit status 0 when a daemon answers, ready or not; 1 when none runs (what could be found out is printed first), or when
//! one runs and does not answer.

use super::output::{is_coloured, print, table};
use super::{Failure, beside};
use crate::admin::{Archive, Daemon, Failure as Failed, Gap, Line, Listener, Standing, json_lines, offline, standings};
use crate::clock;
use crate::config::Config;
use crate::mail::{self, span};
use crate::net::CONTROL;
use crate::spool::{EmbeddedSpool, Spool, SpoolError, disk};
use crate::telemetry::{self, HashKey};
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// For the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Failures that people are shown; `--json` has more.
const MOST_FAILURES: usize = 10;
/// Gaps that people are shown; `queue gaps` has more.
const MOST_GAPS: usize = 10;

/// What can be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object a line; "what" tells of what kind.
    #[arg(long)]
    json: bool,
}

/// Prints the state.
///
/// # Errors
/// [`Failure::Failed`]: no daemon runs, or it does not answer, or the spool can't be read.
pub(super) fn status(arguments: &Arguments, config: &Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let told = timeout(PATIENCE, ask(config)).await;
        let told = told.unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {} s", PATIENCE.as_secs()))));
        let refusal = match told {
            Ok(lines) => return show(arguments, &lines),
            Err(error) => error,
        };
        let path = &config.spool.path;
        if disk::system().is_locked(path).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))? {
            let socket = path.join(CONTROL);
            let why = format!("a daemon runs and does not tell its state: {}: {refusal}", socket.display());
            return Err(Failure::Failed(why));
        }
        // What is found wrong with a spool that is opened is an event.
        telemetry::start(&config.log, &HashKey::draw(&mail::OsEntropy));
        let (lines, trouble) = without_daemon(config).await?;
        show(arguments, &lines)?;
        let why = match trouble {
            None => "no daemon runs: this is what spool and configuration say".to_owned(),
            Some(error) => format!("no daemon runs: this is what the configuration says; {error}"),
        };
        Err(Failure::Failed(why))
    })
}

/// What the daemon says.
async fn ask(config: &Config) -> io::Result<Vec<Line>> {
    let body = beside::get(&config.spool.path, "/status").await?;
    let lines = serde_json::Deserializer::from_slice(&body).into_iter::<Line>().collect::<Result<_, _>>();
    lines.map_err(io::Error::other)
}

/// What spool and configuration say; of a spool that can't be read, why.
async fn without_daemon(config: &Config) -> Result<(Vec<Line>, Option<SpoolError>), Failure> {
    let now = clock::system().now();
    let trouble = if matches!(config.spool.path.try_exists(), Ok(false)) {
        None
    } else {
        match with_spool(config, now).await {
            Ok(lines) => return Ok((lines, None)),
            Err(error) => Some(error),
        }
    };
    Ok((offline(config, None, now).await?, trouble))
}

async fn with_spool(config: &Config, now: mail::Timestamp) -> Result<Vec<Line>, SpoolError> {
    let spool = EmbeddedSpool::open_beside(&config.spool.path, disk::system())?;
    let lines = offline(config, Some(&spool), now).await;
    // What can't be closed in order was only read.
    let _ = spool.close().await;
    lines
}

fn show(arguments: &Arguments, lines: &[Line]) -> Result<(), Failure> {
    let text = if arguments.json { json_lines(lines) } else { for_people(lines, is_coloured()) };
    Ok(print(text.as_bytes())?)
}

/// How much a row asks for somebody's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Warn,
    Bad,
}

type Row = (Tone, Vec<String>);

fn for_people(lines: &[Line], coloured: bool) -> String {
    let mut text = String::new();
    let (mut listeners, mut archives, mut gaps, mut failures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Daemon(daemon) => text += &head(daemon, coloured),
            Line::Listener(listener) => listeners.push(of_listener(listener)),
            Line::Archive(archive) => archives.push(of_archive(archive)),
            Line::Gap(gap) => gaps.push(of_gap(gap)),
            Line::Failure(failure) => failures.push(of_failure(failure)),
            Line::Organization(_) | Line::Queue(_) => {}
        }
    }
    let organizations = standings(lines).iter().map(of_organization).collect();
    gaps.reverse();
    gaps.truncate(MOST_GAPS);
    failures.truncate(MOST_FAILURES);
    for (heads, rows) in [
        (&["LISTENER", "ADDRESS", "ACCEPTS", "SESSIONS", "NEXT HOP", "IS"][..], listeners),
        (&["ORGANIZATION", "JOURNALING", "WAITING", "SENDING", "DEFERRED", "FAILED", "HELD", "OLDEST"], organizations),
        (&["ROUTE", "IS", "USED FOR", "NEXT TRY", "LAST REPLY"], archives),
        (&["GAP SINCE", "UNTIL", "ORGANIZATION", "MESSAGES", "REASON"], gaps),
        (&["LAST FAILURES", "EVENT", "WHAT"], failures),
    ] {
        text += &part(heads, rows, coloured);
    }
    text
}

fn head(daemon: &Daemon, coloured: bool) -> String {
    let Daemon { version, hostname, spool, spool_bytes, spool_free_bytes, .. } = daemon;
    let (tone, state) = match (daemon.running, daemon.ready) {
        (false, _) => (Tone::Bad, "not running".to_owned()),
        (true, Some(true)) => (Tone::Plain, "ready".to_owned()),
        (true, _) => (Tone::Bad, format!("not ready: {}", daemon.reasons.join("; "))),
    };
    let mut rows = vec![(tone, vec!["state".to_owned(), state])];
    let mut put = |name: &str, value: String| rows.push((Tone::Plain, vec![name.to_owned(), value]));
    if let (Some(started), Some(process)) = (&daemon.started, daemon.process) {
        let generation = daemon.generation.unwrap_or(1);
        put("running since", format!("{started} (process {process}, configuration {generation})"));
    }
    let octets = |count: &Option<u64>| count.map_or_else(|| "unknown".to_owned(), mail::octets);
    let free = if spool_free_bytes.is_some() { format!(", {} free", octets(spool_free_bytes)) } else { String::new() };
    put("spool", format!("{spool}: {}{free}", octets(spool_bytes)));
    format!("journal-relay {version} on {}\n{}", mail::shown(hostname), painted(rows, coloured))
}

fn of_listener(listener: &Listener) -> Row {
    let accepts = if listener.accepts { "yes" } else { "no" };
    let is_bad = !listener.accepts || listener.next_hop_state == "down";
    let Listener { name, address, sessions, next_hop, next_hop_state, .. } = listener;
    let cells = [name, address, accepts, &sessions.to_string(), next_hop, next_hop_state];
    (if is_bad { Tone::Bad } else { Tone::Plain }, cells.map(str::to_owned).to_vec())
}

fn of_organization(of: &Standing) -> Row {
    let switch = of.journaling.map_or("not configured", |on| if on { "on" } else { "off" });
    let tone = match (of.failed, of.journaling, of.held + of.deferred) {
        (1.., _, _) => Tone::Bad,
        (0, Some(true), 0) => Tone::Plain,
        _ => Tone::Warn,
    };
    let counts = [of.waiting, of.sending, of.deferred, of.failed, of.held].map(|count| count.to_string());
    let oldest = of.oldest.map_or_else(|| "-".to_owned(), span);
    (tone, [of.name.clone(), switch.to_owned()].into_iter().chain(counts).chain([oldest]).collect())
}

fn of_archive(archive: &Archive) -> Row {
    let tone = match archive.state.as_str() {
        "down" => Tone::Bad,
        "busy" => Tone::Warn,
        _ => Tone::Plain,
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let Archive { route, state, used_for, next_probe, last_reply, .. } = archive;
    (tone, vec![route.clone(), state.clone(), used_for.join(", "), or_dash(next_probe), or_dash(last_reply)])
}

fn of_gap(gap: &Gap) -> Row {
    let until = gap.until.clone().unwrap_or_else(|| if gap.kind == "switch" { "still off" } else { "-" }.to_owned());
    let messages = gap.messages.map_or_else(|| "all".to_owned(), |count| count.to_string());
    let why = gap.reason.as_deref().unwrap_or("no reason given");
    let reason = if gap.kind == "switch" { format!("switched off: {why}") } else { why.to_owned() };
    let tone = if gap.until.is_none() { Tone::Warn } else { Tone::Plain };
    (tone, vec![gap.since.clone(), until, gap.organization.clone(), messages, reason])
}

fn of_failure(failure: &Failed) -> Row {
    let fields: String = failure.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let tone = if failure.level == "error" { Tone::Bad } else { Tone::Warn };
    (tone, vec![failure.at.clone(), failure.event.clone(), format!("{}{fields}", failure.message)])
}

/// A table with its heads, behind an empty line; nothing without rows.
fn part(heads: &[&str], mut rows: Vec<Row>, coloured: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(0, (Tone::Plain, heads.iter().map(|head| (*head).to_owned()).collect()));
    format!("\n{}", painted(rows, coloured))
}

/// Aligned; a row that asks for it in its colour.
fn painted(rows: Vec<Row>, coloured: bool) -> String {
    let (tones, cells): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let paint = |(line, tone): (&str, Tone)| match tone {
        Tone::Warn if coloured => format!("\u{1b}[33m{line}\u{1b}[0m\n"),
        Tone::Bad if coloured => format!("\u{1b}[31m{line}\u{1b}[0m\n"),
        _ => format!("{line}\n"),
    };
    table(&cells).lines().zip(tones).map(paint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(state: &str, last_reply: &str) -> Line {
        Line::Archive(Archive {
            route: "smtp://archive.example.com:25".into(),
            used_for: vec!["records of acme".into()],
            state: state.into(),
            since: None,
            next_probe: None,
            last_reply: Some(last_reply.into()),
            last_reply_at: None,
        })
    }

    #[test]
    fn colour_is_for_rows_that_ask_for_eyes_and_an_archive_can_bring_none_of_its_own() {
        let lines = [archive("up", "250 ok"), archive("down", "\u{1b}[2J\u{202e}451 later")];
        let plain = for_people(&lines, false);
        assert!(!plain.contains('\u{1b}') && plain.contains(r"\u{1b}[2J\u{202e}451 later"), "{plain}");
        let coloured = for_people(&lines, true);
        assert_eq!(coloured.matches('\u{1b}').count(), 2, "{coloured:?}");
        assert_eq!(coloured.replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""), plain);
    }
}
