//! The states of an entry and what is known of its delivery.
//!
//! ```text
//! prepared → waiting → sending → acked
//!     │         │         ├→ deferred → sending …
//!     │         │         └→ failed → (retried by hand) waiting
//!     └ gone    └ merged into an earlier record    any but acked: held, discarded
//! ```

use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where an entry is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Durable, and the next hop's verdict is not known yet.
    Prepared,
    /// To be sent when its time has come: new, or released, or retried by hand.
    Waiting,
    /// On its way to the archive.
    Sending,
    /// The archive said not now; it will be tried again.
    Deferred,
    /// Refused for good or given up; kept until somebody retries or discards it.
    Failed,
    /// Kept from being sent by an operator.
    Held,
    /// The archive took it (history).
    Acked,
    /// An operator gave it up (history).
    Discarded,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Prepared,
        Self::Waiting,
        Self::Sending,
        Self::Deferred,
        Self::Failed,
        Self::Held,
        Self::Acked,
        Self::Discarded,
    ];

    /// The word commands and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Acked => "acked",
            Self::Discarded => "discarded",
        }
    }

    /// Whether the entry is over and only remembered.
    pub fn is_history(self) -> bool {
        matches!(self, Self::Acked | Self::Discarded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("{text:?} is no state: one of {} is expected", words.join(", "))
        })
    }
}

/// How far the delivery of an entry has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub state: State,
    /// Attempts begun so far.
    pub attempts: u32,
    /// When it is tried next; none where no attempt is planned.
    pub next_attempt: Option<Timestamp>,
    /// What the archive (or our own side of the line) said last.
    pub last_reply: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_back_from_its_word() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>(), Ok(state));
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let error = "lost".parse::<State>().unwrap_err();
        assert!(error.contains("\"lost\"") && error.contains("prepared, waiting"), "{error}");
    }
}
