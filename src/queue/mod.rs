//! The life of a record as data: its states, how it moves between them, when it is tried again.
//!
//! Floor 2: decisions from arguments alone; `now` is a parameter, jitter a hash of id and attempt.

mod retry;
mod state;

pub use retry::{Decision, after_deferral};
pub use state::{State, Status};
