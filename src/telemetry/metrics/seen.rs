//! What of an event counts: its name, and of its fields those that the metrics of that event are named or measured by.

use std::fmt::{Debug, Write as _};
use tracing::field::{Field, Visit};

/// The fields of one event; used again for the next, so that reading takes no memory of its own.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) event: String,
    pub(super) listener: String,
    pub(super) organization: String,
    pub(super) direction: String,
    pub(super) outcome: String,
    pub(super) kind: String,
    pub(super) stage: String,
    pub(super) reply: String,
    pub(super) age_ms: u64,
}

impl Seen {
    /// Forgets the last event.
    pub(super) fn clear(&mut self) {
        let Self { event, listener, organization, direction, outcome, kind, stage, reply, age_ms } = self;
        for text in [event, listener, organization, direction, outcome, kind, stage, reply] {
            text.clear();
        }
        *age_ms = 0;
    }

    /// What became of a message that was not relayed.
    pub(super) fn refusal(&self) -> &'static str {
        match (self.outcome.as_str(), self.reply.starts_with('5')) {
            ("unknown", _) => "unknown",
            (_, true) => "refused",
            (_, false) => "deferred",
        }
    }

    /// Where a field goes that counts for this event; the event's name comes before them.
    fn place(&mut self, field: &str) -> Option<&mut String> {
        let of_refusal = self.event == "message.refused";
        let of_message = of_refusal || self.event == "message.accepted";
        Some(match field {
            "event" => &mut self.event,
            "listener" if of_message || self.event.starts_with("session.") => &mut self.listener,
            "direction" if of_message => &mut self.direction,
            "outcome" if of_refusal => &mut self.outcome,
            "stage" if of_refusal => &mut self.stage,
            "reply" if of_refusal => &mut self.reply,
            "organization" if self.event.starts_with("rec") || self.event.starts_with("rep") => &mut self.organization,
            "kind" if self.event.starts_with("report.") => &mut self.kind,
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

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_bool(&mut self, _: &Field, _: bool) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(place) = self.place(field.name()) {
            value.clone_into(place);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(place) = self.place(field.name()) {
            place.clear();
            // Writing into memory does not fail.
            let _ = write!(place, "{value:?}");
        }
    }
}
