//! What the daemon says on stderr: events of `tracing` as lines, one JSON object each, or text for people.
//!
//! A line has `timestamp`, `level`, `event`, `message`, then the event's fields in their order. It promises:
//!
//! - one write a line, and no line inside another;
//! - nothing that somebody sent can end a line early or pass for a field: everything is escaped (`format`);
//! - of mail addresses no more than the configuration allows, wherever they stand (`redact`);
//! - a line of bounded length (`value`).
//!
//! Events of other crates are named `library` and carry their `target`; they are shown from `warn` up, and at the
//! configured level only when that is `debug` or `trace`. lettre and hickory never go below `warn`: their debug lines
//! would hold bodies and whole answers. Spans are not shown: what a line must say, it says itself.

use crate::clock::{self, SharedClock};
use crate::config::{Log, LogFormat};
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, callsite};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};

mod failures;
mod format;
mod journal;
mod metrics;
mod redact;
mod value;

pub use failures::Failed;
use failures::{Failures, Memorable, Remembering};
use journal::Journal;
pub use metrics::Metrics;
pub use redact::HashKey;
use redact::Redactor;
use value::{Line, Spare};

/// The `event` of a line that names none.
const LIBRARY: &str = "library";
/// The target of what `log.trace_sessions` asks for, which is written whatever the level is.
pub const TRACED: &str = "journal_relay::session_trace";
/// Where targets of our own events begin.
const OURS: &str = "journal_relay";
/// Crates that might log what was sent to them.
const TALKATIVE: [&str; 2] = ["lettre", "hickory"];

/// The running log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry(Arc<Writer>);

/// Begins to write what `tracing` is told, as `log` says, on stderr; `key` is for `addresses = "hash"`.
///
/// There is one log in a process: called again, this changes the one there is (its key stays) and returns it.
pub fn start(log: &Log, key: &HashKey) -> Telemetry {
    start_counting(log, key, None)
}

/// The same, and counts what happens in `metrics`, whatever the log shows.
pub fn start_counting(log: &Log, key: &HashKey, metrics: Option<&Metrics>) -> Telemetry {
    static STARTED: OnceLock<Telemetry> = OnceLock::new();
    let telemetry = STARTED.get_or_init(|| {
        let journal = (Journal::at(Path::new(journal::SOCKET)), journal::has_stderr());
        let telemetry = Telemetry::beside(Box::new(std::io::stderr()), log, key, clock::system(), journal);
        // Somebody else's subscriber, as a test may have set one, stays.
        let _ = tracing::subscriber::set_global_default(telemetry.subscriber_counting(metrics));
        telemetry
    });
    telemetry.reconfigure(log);
    telemetry.clone()
}

impl Telemetry {
    /// A log that writes to `sink`, and is not installed yet.
    pub fn to(sink: Box<dyn Write + Send>, log: &Log, key: &HashKey, clock: SharedClock) -> Self {
        Self::beside(sink, log, key, clock, (Journal::at(Path::new(journal::SOCKET)), false))
    }

    /// The same with systemd's journal, and whether it reads `sink`.
    fn beside(
        sink: Box<dyn Write + Send>,
        log: &Log,
        key: &HashKey,
        clock: SharedClock,
        journal: (Journal, bool),
    ) -> Self {
        let failures = Mutex::default();
        let (journal, is_read_by_journal) = (Mutex::new(journal.0), journal.1);
        let (log, sink, redactor) = (RwLock::new(*log), Mutex::new(sink), Redactor::new(key));
        Self(Arc::new(Writer { log, sink, is_read_by_journal, journal, redactor, clock, failures }))
    }

    /// What `tracing` is to be given: for a whole process, or in a test for one closure.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        self.subscriber_counting(None)
    }

    fn subscriber_counting(&self, metrics: Option<&Metrics>) -> impl Subscriber + Send + Sync + use<> {
        let lines = Lines(Arc::clone(&self.0)).with_filter(Heard(Arc::clone(&self.0)));
        let remembered = Remembering(Arc::clone(&self.0)).with_filter(Memorable);
        tracing_subscriber::registry().with(lines).with(remembered).with(metrics.map(Metrics::layer))
    }

    /// Takes new settings; they hold from the next line on.
    pub fn reconfigure(&self, log: &Log) {
        *self.0.log.write().unwrap_or_else(PoisonError::into_inner) = *log;
        callsite::rebuild_interest_cache();
    }
}

thread_local! {
    /// What one thread reads events into, again and again.
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Where lines go and how.
struct Writer {
    log: RwLock<Log>,
    sink: Mutex<Box<dyn Write + Send>>,
    is_read_by_journal: bool,
    journal: Mutex<Journal>,
    redactor: Redactor,
    clock: SharedClock,
    failures: Mutex<Failures>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Writer {
    fn log(&self) -> Log {
        *self.log.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, event: &Event<'_>) {
        let written = SPARE.try_with(|spare| {
            let Ok(mut spare) = spare.try_borrow_mut() else { return false };
            self.write_within(event, &mut spare);
            true
        });
        // An event inside the reading of another one, or at the end of a thread.
        if !written.unwrap_or_default() {
            self.write_within(event, &mut Spare::default());
        }
    }

    fn write_within(&self, event: &Event<'_>, spare: &mut Spare) {
        let log = self.log();
        let mut line = Line::within(event, spare);
        self.redactor.redact(&mut line, log.addresses);
        line.bound();
        self.write_line(&line, log.format);
        spare.take_back(line);
    }

    fn write_line(&self, line: &Line, format: LogFormat) {
        let now = self.clock.now();
        if format == LogFormat::Journald {
            let entry = journal::entry(line, &format::words(line));
            if self.journal.lock().unwrap_or_else(PoisonError::into_inner).send(&entry).is_ok() {
                return;
            }
        }
        let mut octets = match format {
            LogFormat::Json | LogFormat::Journald => format::json(line, now),
            LogFormat::Text => format::text(line, now),
        };
        if self.is_read_by_journal {
            octets = journal::prefixed(line.level, &octets);
        }
        // Nobody is left to be told that stderr is closed.
        let _ = self.sink.lock().unwrap_or_else(PoisonError::into_inner).write_all(&octets);
    }
}

/// What the log shows.
struct Heard(Arc<Writer>);

impl<S> Filter<S> for Heard {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_event()
            && (metadata.target() == TRACED || *metadata.level() <= most_verbose(metadata.target(), self.0.log().level))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // What is traced is of this level.
        Some(LevelFilter::from_level(self.0.log().level.max(Level::INFO)))
    }
}

/// Turns events into lines.
struct Lines(Arc<Writer>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.write(event);
    }
}

/// The most verbose level at which `target` is heard when `configured` is asked for.
fn most_verbose(target: &str, configured: Level) -> Level {
    let talkative = TALKATIVE.iter().any(|name| target.starts_with(name));
    let heard = is_ours(target) || (configured >= Level::DEBUG && !talkative);
    if heard { configured } else { configured.min(Level::WARN) }
}

/// Whether `target` is this crate or a module of it.
fn is_ours(target: &str) -> bool {
    target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests;
