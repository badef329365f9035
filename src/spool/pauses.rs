//! When an organization's journaling was switched off, as data: one entry with its start and, once it is over, its end.

use crate::mail::Timestamp;

/// The switch of an organization was turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// Whose.
    pub organization: String,
    /// How it stands from now on.
    pub turn: Turn,
    /// On, or off.
    pub journaling: bool,
}

/// When and why a switch was turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When the configuration that says so took effect.
    pub at: Timestamp,
    /// Its number since the daemon's start.
    pub generation: u64,
    /// What whoever turned it says.
    pub reason: Option<String>,
}

/// A time without journaling, by the administrator's will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Whose.
    pub organization: String,
    /// Its start.
    pub off: Turn,
    /// Its end; none while it lasts.
    pub on: Option<Turn>,
}
