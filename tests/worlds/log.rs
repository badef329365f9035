//! The relay's log as a world hears it, and panics of its tasks.

use super::history::{Chronicle, Logged};
use super::net::Power;
use super::trace::Trace;
use journal_relay::config::Log;
use journal_relay::telemetry::{HashKey, Telemetry};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Once, OnceLock};
use tracing::Dispatch;

/// Where the relay's log lines go.
pub struct LogSink {
    pub chronicle: Chronicle,
    pub trace: Trace,
    pub power: Power,
    pub clock: super::clock::SimClock,
}

impl Write for LogSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What a program says when its machine has no power, nobody reads.
        if !self.power.is_off() {
            self.keep(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogSink {
    fn keep(&self, line: &[u8]) {
        let read: serde_json::Value = serde_json::from_slice(line).expect("a log line is one JSON object");
        let fields: BTreeMap<String, String> = read
            .as_object()
            .expect("an object")
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        let event = fields.get("event").cloned().unwrap_or_default();
        let shown: Vec<_> = fields
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "timestamp" | "event" | "level" | "message"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.trace.note(format!(
            "log {event}: {} {}",
            fields.get("message").map_or("", String::as_str),
            shown.join(" ")
        ));
        self.chronicle.write().log.push(Logged { when: self.clock.millis(), event, fields });
    }
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps two subscribers for ever. While there is but one, `tracing` asks the thread that comes to a log line first whether
/// anybody wants it, and remembers the answer for all threads; a thread of another test wants none.
pub fn keep_lines_wanted(log: &Log) {
    static KEPT: OnceLock<[Dispatch; 2]> = OnceLock::new();
    let (key, clock) = (HashKey::from_bytes([0; 32]), journal_relay::clock::system());
    let telemetry = Telemetry::to(Box::new(io::sink()), log, &key, clock);
    KEPT.get_or_init(|| [(); 2].map(|()| Dispatch::new(telemetry.subscriber())));
}

/// From now on panics of this process are also noted for the thread that has them: a panic in a task of the relay would
/// else end the task alone.
pub fn watch_panics() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
}

/// The panics of this thread since the last question.
pub fn take_panics() -> Vec<String> {
    PANICS.take()
}
