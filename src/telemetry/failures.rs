//! The last failures: lines of level `warn` and `error`, kept in memory for whoever looks at the daemon later, whatever the
//! log's level is.
//!
//! Each event has a few places of its own, so that what clients can cause a thousand times a second pushes out no word of an
//! archive that is down. They are kept as they came, and redacted when they are shown, by the setting of that moment.

use super::value::{Line, Value};
use super::{Telemetry, Writer, is_ours};
use crate::mail::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};

/// Lines of one event.
const MOST_OF_EVENT: usize = 8;
/// Events; the names are words of our own, some forty.
const MOST_EVENTS: usize = 64;

/// What went wrong, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// When.
    pub at: Timestamp,
    /// `warn` or `error`.
    pub level: &'static str,
    /// The event's name.
    pub event: String,
    /// For people.
    pub message: String,
    /// Its fields, lists joined by commas.
    pub fields: Vec<(&'static str, String)>,
}

/// Lines by their events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<String, VecDeque<(Timestamp, Line)>>);

impl Failures {
    fn put(&mut self, at: Timestamp, line: Line) {
        if self.0.len() >= MOST_EVENTS && !self.0.contains_key(&line.event) {
            return;
        }
        let of_event = self.0.entry(line.event.clone()).or_default();
        if of_event.len() >= MOST_OF_EVENT {
            of_event.pop_front();
        }
        of_event.push_back((at, line));
    }
}

/// Remembers.
pub(super) struct Remembering(pub(super) Arc<Writer>);

impl<S: Subscriber> Layer<S> for Remembering {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::of(event);
        line.bound();
        let now = self.0.clock.now();
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner).put(now, line);
    }
}

/// What is remembered: our own warnings and errors.
pub(super) struct Memorable;

impl<S> Filter<S> for Memorable {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN && is_ours(metadata.target())
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::WARN)
    }
}

impl Telemetry {
    /// The last failures, latest first, with as much of mail addresses as the log shows now.
    pub fn failures(&self) -> Vec<Failed> {
        let addresses = self.0.log().addresses;
        let mut lines: Vec<(Timestamp, Line)> = {
            let failures = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.0.values().flatten().cloned().collect()
        };
        lines.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let shown = lines.into_iter().map(|(at, mut line)| {
            self.0.redactor.redact(&mut line, addresses);
            let fields = line.fields.into_iter().map(|(name, value)| (name, value.to_string())).collect();
            let level = if line.level == Level::ERROR { "error" } else { "warn" };
            Failed { at, level, event: line.event, message: line.message, fields }
        });
        shown.collect()
    }

    /// `text` with as much of the mail addresses in it as the log shows now.
    pub fn redacted(&self, text: &str) -> String {
        let mut line = Line {
            level: Level::INFO,
            event: String::new(),
            message: String::new(),
            fields: vec![("text", Value::Text(text.to_owned()))],
        };
        self.0.redactor.redact(&mut line, self.0.log().addresses);
        line.fields.pop().map(|(_, value)| value.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::HashKey;
    use super::*;
    use crate::config::{Log, LogAddresses, LogFormat};

    fn telemetry(addresses: LogAddresses) -> Telemetry {
        let log = Log { format: LogFormat::Json, level: Level::ERROR, addresses };
        Telemetry::to(Box::new(std::io::sink()), &log, &HashKey::from_bytes([1; 32]), crate::clock::system())
    }

    #[test]
    fn warnings_and_errors_are_remembered_and_a_flood_of_one_pushes_out_no_other() {
        let telemetry = telemetry(LogAddresses::Full);
        tracing::subscriber::with_default(telemetry.subscriber(), || {
            tracing::error!(event = "record.failed", reply = "550 no", "the record is kept as failed");
            for number in 0..1_000 {
                tracing::warn!(event = "session.closed", number, "too many connections");
            }
            tracing::info!(event = "record.acked", "taken");
        });
        let failures = telemetry.failures();
        assert_eq!(failures.len(), 1 + MOST_OF_EVENT, "{failures:?}");
        let [failed] = failures.iter().filter(|one| one.event == "record.failed").collect::<Vec<_>>()[..] else {
            panic!("{failures:?}")
        };
        assert_eq!((failed.level, &failed.fields[..]), ("error", &[("reply", "550 no".to_owned())][..]));
        assert!(failures.iter().any(|one| one.fields == [("number", "999".to_owned())]), "{failures:?}");
    }

    #[test]
    fn what_is_shown_of_addresses_is_what_the_log_shows() {
        let telemetry = telemetry(LogAddresses::Domain);
        tracing::subscriber::with_default(telemetry.subscriber(), || {
            tracing::warn!(
                event = "record.failed",
                reply = "550 no <mallory@example.org> here",
                sender = "bob@example.net"
            );
        });
        let failures = format!("{:?}", telemetry.failures());
        assert!(failures.contains("*@example.org") && failures.contains("*@example.net"), "{failures}");
        assert!(!failures.contains("mallory") && !failures.contains("bob"), "{failures}");
        assert_eq!(telemetry.redacted("to mallory@example.org"), "to *@example.org");
    }
}
