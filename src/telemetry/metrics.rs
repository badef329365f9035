//! What happened, counted: events folded into the metrics of the contract, at any level of the log.
//!
//! The rooms say what happens by their events alone; nothing else has to be handed to them. Labels are names of the
//! configuration and words of our own, so that their number has a bound. Series that the configuration promises are there
//! from the start, at 0: a first increment that nobody can see is no alarm. What is a state and no event (how many wait, how
//! much room there is) is asked by whoever shows it.
//!
//! Of an event those fields are read that count (`seen`), into memory that is used again: a message costs a few look-ups and
//! atomic increments.

mod seen;

use super::is_ours;
use crate::config::Config;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use seen::Seen;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;

/// Ways that a message can go, and none that is known.
const DIRECTIONS: [&str; 4] = ["incoming", "outgoing", "internal", "none"];
/// What becomes of a message: taken by the next hop, refused for good or for now, lost behind its final dot.
const MESSAGE_OUTCOMES: [&str; 4] = ["accepted", "refused", "deferred", "unknown"];
/// What becomes of a record, and messages that get none by the configuration.
const RECORD_OUTCOMES: [&str; 7] = ["committed", "merged", "acked", "superseded", "deferred", "failed", "exempt"];

/// What a notification tells, and those that could not be sent.
const REPORT_KINDS: [&str; 5] = ["failed", "delayed", "restored", "bypassed", "suppressed"];

/// The metrics of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    registry: Registry,
    messages: Family<Labels, Counter>,
    records: Family<Labels, Counter>,
    reports: Family<Labels, Counter>,
    bypassed: Family<Labels, Counter>,
    sessions: Family<Labels, Gauge>,
    delivery: Histogram,
    generation: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Nothing has happened yet.
    #[allow(clippy::new_without_default, reason = "a daemon has one, and makes it on purpose")]
    pub fn new() -> Self {
        let counted = Counted {
            messages: Family::default(),
            records: Family::default(),
            reports: Family::default(),
            bypassed: Family::default(),
            sessions: Family::default(),
            // From 0.1 s to nine days: an archive may be down for long.
            delivery: Histogram::new(exponential_buckets(0.1, 4.0, 12)),
            generation: Gauge::default(),
            registry: Registry::with_prefix("journal_relay"),
        };
        Self(Arc::new(counted.registered()))
    }

    /// What is counted, for an exposition.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What this configuration can bring is shown from now on, at 0 where nothing has happened yet.
    pub fn expect(&self, config: &Config) {
        let counted = &self.0;
        for listener in &config.listeners {
            let name = listener.name.as_str();
            drop(counted.sessions.get_or_create(&labels([("listener", name)])));
            for (direction, outcome) in pairs(&DIRECTIONS, &MESSAGE_OUTCOMES) {
                let all = [("listener", name), ("direction", direction), ("outcome", outcome)];
                drop(counted.messages.get_or_create(&labels(all)));
            }
        }
        for organization in &config.organizations {
            let name = organization.name.as_str();
            drop(counted.bypassed.get_or_create(&labels([("organization", name)])));
            for outcome in RECORD_OUTCOMES {
                drop(counted.records.get_or_create(&labels([("organization", name), ("outcome", outcome)])));
            }
            for kind in REPORT_KINDS {
                drop(counted.reports.get_or_create(&labels([("organization", name), ("kind", kind)])));
            }
        }
    }

    /// Sessions of `listener` that are open.
    pub fn sessions(&self, listener: &str) -> i64 {
        self.0.sessions.get_or_create(&labels([("listener", listener)])).get()
    }

    /// The number of the configuration in effect, since the start.
    pub fn generation(&self) -> i64 {
        self.0.generation.get()
    }

    /// The layer that counts.
    pub(super) fn layer<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>>(
        &self,
    ) -> impl Layer<S> + use<S> {
        Counting(self.clone()).with_filter(Countable)
    }

    fn count(&self, seen: &Seen, scratch: &mut Scratch) {
        let counted = &self.0;
        match seen.event.as_str() {
            "message.accepted" => self.count_message(seen, "accepted", scratch),
            // A refused recipient is not a message.
            "message.refused" if seen.stage != "RCPT" => self.count_message(seen, seen.refusal(), scratch),
            "record.acked" => {
                self.count_record(seen, "acked", scratch);
                counted.delivery.observe(seen.age_ms as f64 / 1_000.0);
            }
            "record.committed" | "record.merged" | "record.superseded" | "record.deferred" | "record.failed"
            | "record.exempt" => {
                self.count_record(seen, seen.event.trim_start_matches("record."), scratch);
            }
            "record.bypassed" => {
                let labels = scratch.one([("organization", &seen.organization)]);
                counted.bypassed.get_or_create(labels).inc();
            }
            "report.sent" | "report.suppressed" => {
                let kind = if seen.event == "report.sent" { seen.kind.as_str() } else { "suppressed" };
                let labels = scratch.two([("organization", &seen.organization), ("kind", kind)]);
                counted.reports.get_or_create(labels).inc();
            }
            "session.opened" => {
                counted.sessions.get_or_create(scratch.one([("listener", &seen.listener)])).inc();
            }
            // One that was refused at the door was never opened.
            "session.closed" if !seen.listener.is_empty() => {
                counted.sessions.get_or_create(scratch.one([("listener", &seen.listener)])).dec();
            }
            "config.reloaded" => {
                counted.generation.inc();
            }
            _ => {}
        }
    }

    fn count_record(&self, seen: &Seen, outcome: &str, scratch: &mut Scratch) {
        let labels = scratch.two([("organization", &seen.organization), ("outcome", outcome)]);
        self.0.records.get_or_create(labels).inc();
    }

    fn count_message(&self, seen: &Seen, outcome: &str, scratch: &mut Scratch) {
        let direction = if seen.direction.is_empty() { "none" } else { &seen.direction };
        let labels = scratch.three([("listener", &seen.listener), ("direction", direction), ("outcome", outcome)]);
        self.0.messages.get_or_create(labels).inc();
    }
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn pairs(
    first: &'static [&'static str],
    second: &'static [&'static str],
) -> impl Iterator<Item = (&'static str, &'static str)> {
    first.iter().flat_map(|one| second.iter().map(|two| (*one, *two)))
}

impl Counted {
    fn registered(mut self) -> Self {
        self.generation.set(1);
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let registry = &mut self.registry;
        registry.register(
            "messages",
            "Messages that came to an end, their direction by the first organization concerned",
            self.messages.clone(),
        );
        registry.register(
            "records",
            "What became of journal records, deferred ones at each attempt; exempt: messages without one by the configuration",
            self.records.clone(),
        );
        registry.register("bypassed", "Messages relayed without a record that they should have", self.bypassed.clone());
        registry.register("reports", "Notifications sent, and those suppressed", self.reports.clone());
        registry.register("sessions", "Sessions of clients that are open", self.sessions.clone());
        registry.register("delivery_seconds", "From a message's arrival to the archive's 250", self.delivery.clone());
        registry.register("build_info", "The program", build);
        registry.register(
            "config_generation",
            "Grows with each configuration that takes effect",
            self.generation.clone(),
        );
        self
    }
}

/// What is counted: our own events from `info` up, whatever the log shows.
struct Countable;

impl<S> Filter<S> for Countable {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO && is_ours(metadata.target())
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }
}

struct Counting(Metrics);

/// What one thread reads events and names series with, again and again.
#[derive(Default)]
struct Scratch([Labels; 3]);

impl Scratch {
    fn one(&mut self, pairs: [(&'static str, &str); 1]) -> &Labels {
        fill(&mut self.0[0], &pairs)
    }

    fn two(&mut self, pairs: [(&'static str, &str); 2]) -> &Labels {
        fill(&mut self.0[1], &pairs)
    }

    fn three(&mut self, pairs: [(&'static str, &str); 3]) -> &Labels {
        fill(&mut self.0[2], &pairs)
    }
}

fn fill<'a>(labels: &'a mut Labels, pairs: &[(&'static str, &str)]) -> &'a Labels {
    labels.resize_with(pairs.len(), Default::default);
    for (slot, (name, value)) in labels.iter_mut().zip(pairs) {
        slot.0 = name;
        (*value).clone_into(&mut slot.1);
    }
    labels
}

thread_local! {
    static SCRATCH: RefCell<(Seen, Scratch)> = RefCell::default();
}

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // An event inside the reading of another one, or at the end of a thread, would find no memory; there is none such.
        let _ = SCRATCH.try_with(|memory| {
            let Ok(mut memory) = memory.try_borrow_mut() else { return };
            let (seen, scratch) = &mut *memory;
            seen.clear();
            event.record(seen);
            self.0.count(seen, scratch);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn events_are_counted_whatever_the_log_shows() {
        let metrics = Metrics::new();
        let subscriber = tracing_subscriber::registry().with(metrics.layer());
        tracing::subscriber::with_default(subscriber, || {
            let organization = "acme";
            tracing::info!(event = "session.opened", session = "s", listener = %"in");
            tracing::info!(event = "session.opened", session = "t", listener = %"in");
            tracing::info!(event = "session.closed", session = "s", listener = %"in");
            tracing::warn!(event = "session.closed", client = "x", reason = "too many connections");
            tracing::info!(event = "message.accepted", listener = %"in", direction = "incoming", reply = %"250 ok");
            tracing::info!(event = "message.refused", listener = %"in", stage = "RCPT", reply = %"550 no");
            tracing::info!(event = "message.refused", listener = %"in", stage = "MAIL", reply = %"452 4.3.1 full");
            tracing::info!(event = "record.acked", organization, age_ms = 1_500_u64);
            tracing::debug!(event = "record.acked", organization, age_ms = 1_500_u64);
            tracing::error!(event = "record.bypassed", organization, queue_id = "q", reason = "full");
            tracing::info!(event = "record.exempt", organization, direction = "incoming", rule = "scope.exclude");
            tracing::info!(event = "config.reloaded");
        });
        let mut text = String::new();
        encode(&mut text, metrics.registry()).unwrap();
        for line in [
            "journal_relay_sessions{listener=\"in\"} 1",
            "journal_relay_messages_total{listener=\"in\",direction=\"incoming\",outcome=\"accepted\"} 1",
            "journal_relay_messages_total{listener=\"in\",direction=\"none\",outcome=\"deferred\"} 1",
            "journal_relay_records_total{organization=\"acme\",outcome=\"acked\"} 1",
            "journal_relay_records_total{organization=\"acme\",outcome=\"exempt\"} 1",
            "journal_relay_bypassed_total{organization=\"acme\"} 1",
            "journal_relay_delivery_seconds_sum 1.5",
            "journal_relay_config_generation 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("outcome=\"refused\""), "{text}");
    }
}
