//! The state of a relay as lines, one object each: what `journal-relay status` and the page show.
//!
//! A daemon tells what it knows ([`gather`]); without one the spool and the configuration say what they can ([`offline`]).
//! Lists are bounded by the configuration or by a named maximum, and so is each text. What a daemon tells has as much of mail
//! addresses as its log.

use super::Watched;
use super::health::Health;
use crate::config::{Config, Organization};
use crate::deliver::{RouteState, routes_of};
use crate::mail::Timestamp;
use crate::queue::State;
use crate::receive::listener_label;
use crate::spool::{Figures, NotedGap, Pause, Spool, SpoolError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// Gaps of each kind that are told: the last ones.
const MOST_GAPS: usize = 50;
/// Failures that are told: the last ones.
const MOST_FAILURES: usize = 50;
/// Letters of a text that somebody else wrote.
const MOST_LETTERS: usize = 500;
/// For the spool to answer.
const SPOOL_TIMEOUT: Duration = Duration::from_secs(10);

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Line {
    /// The daemon, or that there is none; the first line.
    Daemon(Daemon),
    /// Where mail comes in.
    Listener(Listener),
    /// Where records or reports go.
    Archive(Archive),
    /// Whose mail is journaled.
    Organization(Switch),
    /// What waits, by organization and state.
    Queue(Queue),
    /// A time without records.
    Gap(Gap),
    /// What went wrong, latest first.
    Failure(Failure),
}

/// The daemon and its spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Whether it runs.
    pub running: bool,
    /// The program that tells this.
    pub version: String,
    /// Its name.
    pub hostname: String,
    /// Its process.
    pub process: Option<u32>,
    /// Since when it runs.
    pub started: Option<String>,
    /// The number of its configuration since then.
    pub generation: Option<i64>,
    /// Whether mail would be taken and journaled; none: nobody knows.
    pub ready: Option<bool>,
    /// Why not.
    pub reasons: Vec<String>,
    /// The spool's directory.
    pub spool: String,
    /// Octets that it takes.
    pub spool_bytes: Option<u64>,
    /// Octets that its file system has left.
    pub spool_free_bytes: Option<u64>,
    /// When this was told.
    pub at: String,
}

/// A listener and its next hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether it accepts connections.
    pub accepts: bool,
    /// Sessions that are open.
    pub sessions: i64,
    /// Where its mail goes on to.
    pub next_hop: String,
    /// `up`, `down`, or `unknown` before the first connection.
    pub next_hop_state: String,
}

/// A route of records or reports, or one line on it that is shut by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// By URL without password, or `mx:` and domain.
    pub route: String,
    /// What goes there, such as `records of acme`.
    pub used_for: Vec<String>,
    /// `up`, `busy`, `down`; `untried` since the start; `unknown` without a daemon.
    pub state: String,
    /// Since when it is not up.
    pub since: Option<String>,
    /// When it is tried next, where it is not up.
    pub next_probe: Option<String>,
    /// What was said last.
    pub last_reply: Option<String>,
    /// When.
    pub last_reply_at: Option<String>,
}

/// An organization's switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// Whether it is on.
    pub journaling: bool,
    /// Why it was turned last.
    pub reason: Option<String>,
}

/// Records of an organization in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Whose.
    pub organization: String,
    /// Where they are.
    pub state: State,
    /// How many.
    pub count: u64,
    /// When the oldest was made.
    pub oldest: String,
    /// How long ago, in seconds.
    pub oldest_seconds: u64,
}

/// A time without records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// `bypass` or `switch`.
    pub kind: String,
    /// Whose.
    pub organization: String,
    /// Its start.
    pub since: String,
    /// Its end; none: it lasts.
    pub until: Option<String>,
    /// How many messages, where that is known.
    pub messages: Option<u64>,
    /// Why.
    pub reason: Option<String>,
}

/// A line of the log, of level `warn` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: String,
    /// `warn` or `error`.
    pub level: String,
    /// The event's name.
    pub event: String,
    /// For people.
    pub message: String,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
}

/// What a running daemon knows.
pub(super) async fn gather(watched: &Watched, health: &Health) -> Vec<Line> {
    let Some(config) = watched.config() else { return Vec::new() };
    let now = watched.clock.now();
    let mut reasons = health.reasons(watched).await;
    let of_spool = timeout(SPOOL_TIMEOUT, spool_lines(&*watched.spool, now)).await;
    let of_spool = of_spool.unwrap_or_else(|_| Err(SpoolError::Failing("no answer in time".to_owned())));
    let (figures, mut waiting, mut gaps) = of_spool.unwrap_or_else(|error| {
        reasons.push(format!("what waits can't be told: {error}"));
        Default::default()
    });
    let mut lines = vec![Line::Daemon(Daemon {
        running: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: config.hostname.clone(),
        process: Some(std::process::id()),
        started: Some(watched.started.rfc3339()),
        generation: Some(watched.metrics.generation()),
        ready: Some(reasons.is_empty()),
        reasons,
        spool: config.spool.path.display().to_string(),
        spool_bytes: figures.map(|figures| figures.octets),
        spool_free_bytes: watched.pressure.state().0.map(|room| room.free_octets),
        at: now.rfc3339(),
    })];
    let open = watched.drain.open_labels();
    for (address, setup) in watched.listeners() {
        let (name, next_hop) = (&setup.listener.name, &setup.next_hop);
        let state = next_hop.is_up().map_or("unknown", |up| if up { "up" } else { "down" });
        lines.push(Line::Listener(Listener {
            name: name.clone(),
            address: address.to_string(),
            accepts: !watched.drain.has_begun() && open.contains(&listener_label(address)),
            sessions: watched.metrics.sessions(name),
            next_hop: next_hop.label(),
            next_hop_state: state.to_owned(),
        }));
    }
    lines.extend(archives(&config, watched.delivery.routes()));
    lines.extend(config.organizations.iter().map(switch));
    lines.append(&mut waiting);
    lines.append(&mut gaps);
    lines.extend(watched.telemetry.failures().into_iter().take(MOST_FAILURES).map(|failed| {
        let fields = failed.fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (at, level) = (failed.at.rfc3339(), failed.level.to_owned());
        Line::Failure(Failure { at, level, event: failed.event, message: failed.message, fields })
    }));
    lines.into_iter().map(|line| line.with_texts(&|text| short(&watched.telemetry.redacted(text)))).collect()
}

/// What configuration and spool say while no daemon runs. `spool`: opened beside; none where there is none yet.
///
/// # Errors
/// Of the spool.
pub async fn offline(config: &Config, spool: Option<&dyn Spool>, now: Timestamp) -> Result<Vec<Line>, SpoolError> {
    let (figures, mut waiting, mut gaps) = match spool {
        Some(spool) => spool_lines(spool, now).await?,
        None => Default::default(),
    };
    let mut lines = vec![Line::Daemon(Daemon {
        running: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: config.hostname.clone(),
        process: None,
        started: None,
        generation: None,
        ready: None,
        reasons: vec!["no daemon runs".to_owned()],
        spool: config.spool.path.display().to_string(),
        spool_bytes: figures.map(|figures| figures.octets),
        spool_free_bytes: None,
        at: now.rfc3339(),
    })];
    lines.extend(config.listeners.iter().map(|listener| {
        Line::Listener(Listener {
            name: listener.name.clone(),
            address: listener.address.to_string(),
            accepts: false,
            sessions: 0,
            next_hop: listener.next_hop.to_string(),
            next_hop_state: "unknown".to_owned(),
        })
    }));
    lines.extend(archives(config, Vec::new()).map(|line| match line {
        Line::Archive(archive) => Line::Archive(Archive { state: "unknown".to_owned(), ..archive }),
        line => line,
    }));
    lines.extend(config.organizations.iter().map(switch));
    lines.append(&mut waiting);
    lines.append(&mut gaps);
    Ok(lines.into_iter().map(|line| line.with_texts(&short)).collect())
}

/// Figures, what waits, and gaps, oldest first.
type OfSpool = (Option<Figures>, Vec<Line>, Vec<Line>);

async fn spool_lines(spool: &dyn Spool, now: Timestamp) -> Result<OfSpool, SpoolError> {
    let figures = spool.figures().await?;
    let waiting = figures.waiting.iter().map(|group| {
        Line::Queue(Queue {
            organization: group.organization.clone(),
            state: group.state,
            count: group.count,
            oldest: group.oldest.rfc3339(),
            oldest_seconds: now.since(group.oldest).as_secs(),
        })
    });
    let waiting = waiting.collect();
    let mut gaps: Vec<(Timestamp, Line)> = spool.gaps(MOST_GAPS).await?.into_iter().map(bypassed).collect();
    gaps.extend(spool.pauses(MOST_GAPS).await?.into_iter().map(switched_off));
    gaps.sort_by_key(|(since, _)| *since);
    Ok((Some(figures), waiting, gaps.into_iter().map(|(_, line)| line).collect()))
}

fn bypassed(NotedGap { organization, gap }: NotedGap) -> (Timestamp, Line) {
    let line = Line::Gap(Gap {
        kind: "bypass".to_owned(),
        organization,
        since: gap.since.rfc3339(),
        until: Some(gap.until.rfc3339()),
        messages: Some(gap.messages),
        reason: Some(gap.reason),
    });
    (gap.since, line)
}

fn switched_off(Pause { organization, off, on }: Pause) -> (Timestamp, Line) {
    let line = Line::Gap(Gap {
        kind: "switch".to_owned(),
        organization,
        since: off.at.rfc3339(),
        until: on.map(|turn| turn.at.rfc3339()),
        messages: None,
        reason: off.reason,
    });
    (off.at, line)
}

fn switch(organization: &Organization) -> Line {
    let Organization { name, journaling, switch_reason, .. } = organization;
    Line::Organization(Switch { name: name.clone(), journaling: *journaling, reason: switch_reason.clone() })
}

/// Every route of the configuration, with what is known of it.
fn archives(config: &Config, states: Vec<RouteState>) -> impl Iterator<Item = Line> {
    let mut known: BTreeMap<String, Vec<RouteState>> = BTreeMap::new();
    for state in states {
        known.entry(state.route.clone()).or_default().push(state);
    }
    routes_of(config).into_iter().flat_map(move |(route, used_for)| {
        let (whole, lines): (Vec<_>, Vec<_>) =
            known.remove(&route).unwrap_or_default().into_iter().partition(|state| state.line.is_none());
        let whole = match whole.into_iter().next() {
            Some(state) => archive(used_for, state),
            None => Archive {
                route,
                used_for,
                state: "untried".to_owned(),
                since: None,
                next_probe: None,
                last_reply: None,
                last_reply_at: None,
            },
        };
        std::iter::once(whole)
            .chain(lines.into_iter().map(|state| archive(state.line.iter().cloned().collect(), state)))
            .map(Line::Archive)
            .collect::<Vec<_>>()
    })
}

fn archive(used_for: Vec<String>, state: RouteState) -> Archive {
    let (last_reply_at, last_reply) = state.last_reply.unzip();
    Archive {
        route: state.route,
        used_for,
        state: state.health.as_str().to_owned(),
        since: state.since.map(Timestamp::rfc3339),
        next_probe: state.next_probe.map(Timestamp::rfc3339),
        last_reply,
        last_reply_at: last_reply_at.map(Timestamp::rfc3339),
    }
}

impl Line {
    /// The line with every text changed.
    fn with_texts(self, change: &dyn Fn(&str) -> String) -> Self {
        let Ok(mut value) = serde_json::to_value(&self) else { return self };
        change_texts(&mut value, change);
        serde_json::from_value(value).unwrap_or(self)
    }
}

fn change_texts(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| change_texts(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| change_texts(field, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MOST_LETTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// One JSON object a line.
pub fn json_lines(lines: &[Line]) -> String {
    lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|line| line + "\n").collect()
}
