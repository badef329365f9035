//! The life of a record as data: its states, how it moves between them, when it is tried again.
//!
//! Floor 2: decisions from arguments alone; `now` is a parameter, jitter a hash of id and attempt.

mod merge;
mod pace;
mod retry;
mod standing;
mod state;

pub use merge::{Earlier, Merge, merge, same_mailboxes};
pub use pace::{CALM, Comings, DELAY_DISTANCES, DISTANCES, GATHER, Pace, QUIET, SETTLE};
pub use retry::{Decision, after_deferral, backoff};
pub use standing::{OCTETS_LOST, Standing, Unmoved};
pub use state::{State, Status};
