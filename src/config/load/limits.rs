//! `[listener.limits]`.

use super::section::{Kind, Section};
use super::values;
use crate::config::Limits;
use std::num::NonZeroU32;
use std::time::Duration;

pub(super) const LIMITS: Kind = Kind {
    path: "listener.limits",
    title: "[listener.limits]",
    keys: &[
        "connections",
        "connections_per_client",
        "messages_per_minute",
        "messages_per_minute_in_all",
        "recipients_per_minute",
        "errors_per_minute",
        "recipients",
        "errors",
        "greeting_delay",
    ],
};

/// The longest delay: clients wait five minutes for the greeting (RFC 5321, section 4.5.3.2.1), and many less.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// RFC 5321, section 4.5.3.1.8.
const FEWEST_RECIPIENTS: u32 = 100;

/// The table of a listener; the defaults where it has none.
pub(super) fn read(listener: Section<'_>) -> Limits {
    let section = listener.table("limits", LIMITS).unwrap_or_else(|| listener.absent(LIMITS));
    let count = |key| section.text_or_number(key, values::count).map(|placed| placed.value);
    let usual = Limits::default();
    let recipients = |text: &str| match values::count(text)? {
        few if few.get() < FEWEST_RECIPIENTS => Err(format!("too few; at least {FEWEST_RECIPIENTS} are allowed")),
        many => Ok(many),
    };
    let delay = |text: &str| match values::duration(text)? {
        long if long > LONGEST_DELAY => Err(r#"too long; at most "60s" is allowed"#.to_owned()),
        delay => Ok(delay),
    };
    let or = |found: Option<NonZeroU32>, usual| found.unwrap_or(usual);
    Limits {
        connections: or(count("connections"), usual.connections),
        connections_per_client: or(count("connections_per_client"), usual.connections_per_client),
        messages_per_minute: count("messages_per_minute").or(usual.messages_per_minute),
        messages_per_minute_in_all: count("messages_per_minute_in_all").or(usual.messages_per_minute_in_all),
        recipients_per_minute: count("recipients_per_minute").or(usual.recipients_per_minute),
        errors_per_minute: or(count("errors_per_minute"), usual.errors_per_minute),
        recipients: or(section.text_or_number("recipients", recipients).map(|placed| placed.value), usual.recipients),
        errors: or(count("errors"), usual.errors),
        greeting_delay: section.text("greeting_delay", delay).map_or(usual.greeting_delay, |placed| placed.value),
    }
}
