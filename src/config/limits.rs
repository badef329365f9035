//! `[listener.limits]`: what clients may ask of a listener.

use std::num::NonZeroU32;
use std::time::Duration;

/// `[listener.limits]`. What is counted for a client is counted for its IPv4 address or its IPv6 /64 network, in minutes that
/// begin with its first deed; clients of `trusted_networks` are not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time.
    pub connections: NonZeroU32,
    /// Sessions of one client at a time.
    pub connections_per_client: NonZeroU32,
    /// Messages that a client may begin in a minute; none: any number.
    pub messages_per_minute: Option<NonZeroU32>,
    /// Messages that all clients together may begin in a minute; none: any number. Those of `trusted_networks` are counted, and
    /// never refused for it.
    pub messages_per_minute_in_all: Option<NonZeroU32>,
    /// Recipients that a client may name in a minute; none: any number.
    pub recipients_per_minute: Option<NonZeroU32>,
    /// Mistakes that a client may make in a minute, over all its sessions; then it is not let in for the rest of it.
    pub errors_per_minute: NonZeroU32,
    /// Recipients of one transaction (RFC 5321, section 4.5.3.1.8, asks for 100 at least).
    pub recipients: NonZeroU32,
    /// Mistakes in one session, before it is ended; a message that was accepted starts the count again.
    pub errors: NonZeroU32,
    /// How long a client that is not trusted waits for the greeting; one that talks before it is sent away. Zero: not at all.
    pub greeting_delay: Duration,
}

const fn number(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: number(10_000),
            connections_per_client: number(100),
            messages_per_minute: None,
            messages_per_minute_in_all: None,
            recipients_per_minute: None,
            errors_per_minute: number(200),
            recipients: number(10_000),
            errors: number(20),
            greeting_delay: Duration::ZERO,
        }
    }
}
