//! What happened, counted: events folded into the metrics of the contract, at any level of the log.
//!
//! The rooms say what happens by their events alone; nothing else has to be handed to them. Labels are names of the
//! configuration and words of our own, so that their number has a bound. What is a state and no event (how many wait, how
//! much room there is) is asked by whoever shows it.

use super::is_ours;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt::{self, Debug};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;

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

    /// The layer that counts.
    pub(super) fn layer<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>>(
        &self,
    ) -> impl Layer<S> + use<S> {
        Counting(self.clone()).with_filter(Countable)
    }

    fn count(&self, seen: &Seen) {
        let counted = &self.0;
        let record = |outcome: &str| {
            let labels = vec![("organization", seen.organization.clone()), ("outcome", outcome.to_owned())];
            counted.records.get_or_create(&labels).inc();
        };
        let report = |kind: &str| {
            let labels = vec![("organization", seen.organization.clone()), ("kind", kind.to_owned())];
            counted.reports.get_or_create(&labels).inc();
        };
        let session = || counted.sessions.get_or_create_owned(&vec![("listener", seen.listener.clone())]);
        match seen.event.as_str() {
            "message.accepted" => self.count_message(seen, "accepted"),
            // A refused recipient is not a message.
            "message.refused" if seen.stage != "RCPT" => self.count_message(seen, seen.refusal()),
            "record.acked" => {
                record("acked");
                counted.delivery.observe(seen.age_ms as f64 / 1_000.0);
            }
            "record.committed" | "record.merged" | "record.deferred" | "record.failed" | "record.discarded" => {
                record(seen.event.trim_start_matches("record."));
            }
            "record.bypassed" => {
                counted.bypassed.get_or_create(&vec![("organization", seen.organization.clone())]).inc();
            }
            "report.sent" => report(&seen.kind.to_ascii_lowercase()),
            "report.suppressed" => report("suppressed"),
            "session.opened" => {
                session().inc();
            }
            // One that was refused at the door was never opened.
            "session.closed" if !seen.listener.is_empty() => {
                session().dec();
            }
            "config.reloaded" => {
                counted.generation.inc();
            }
            _ => {}
        }
    }

    fn count_message(&self, seen: &Seen, outcome: &str) {
        let direction = if seen.direction.is_empty() { "none" } else { &seen.direction };
        let labels = vec![
            ("listener", seen.listener.clone()),
            ("direction", direction.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.0.messages.get_or_create(&labels).inc();
    }
}

impl Counted {
    fn registered(mut self) -> Self {
        self.generation.set(1);
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let registry = &mut self.registry;
        registry.register(
            "messages",
            "Messages that came to an end, by the organization's view",
            self.messages.clone(),
        );
        registry.register(
            "records",
            "What became of journal records; deferred ones count at each attempt",
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

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        self.0.count(&seen);
    }
}

/// The fields of an event that matter here.
#[derive(Default)]
struct Seen {
    event: String,
    listener: String,
    organization: String,
    direction: String,
    outcome: String,
    kind: String,
    stage: String,
    reply: String,
    age_ms: u64,
}

impl Seen {
    fn refusal(&self) -> &'static str {
        match (self.outcome.as_str(), self.reply.starts_with('5')) {
            ("unknown", _) => "unknown",
            (_, true) => "refused",
            (_, false) => "deferred",
        }
    }

    fn place(&mut self, field: &Field) -> Option<&mut String> {
        Some(match field.name() {
            "event" => &mut self.event,
            "listener" => &mut self.listener,
            "organization" => &mut self.organization,
            "direction" => &mut self.direction,
            "outcome" => &mut self.outcome,
            "kind" => &mut self.kind,
            "stage" => &mut self.stage,
            "reply" => &mut self.reply,
            _ => return None,
        })
    }
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "age_ms" {
            self.age_ms = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(place) = self.place(field) {
            value.clone_into(place);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(place) = self.place(field) {
            *place = format!("{value:?}");
        }
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
            tracing::info!(event = "config.reloaded");
        });
        let mut text = String::new();
        encode(&mut text, metrics.registry()).unwrap();
        for line in [
            "journal_relay_sessions{listener=\"in\"} 1",
            "journal_relay_messages_total{listener=\"in\",direction=\"incoming\",outcome=\"accepted\"} 1",
            "journal_relay_messages_total{listener=\"in\",direction=\"none\",outcome=\"deferred\"} 1",
            "journal_relay_records_total{organization=\"acme\",outcome=\"acked\"} 1",
            "journal_relay_bypassed_total{organization=\"acme\"} 1",
            "journal_relay_delivery_seconds_sum 1.5",
            "journal_relay_config_generation 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("outcome=\"refused\""), "{text}");
    }
}
