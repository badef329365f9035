//! How far a long command has come, on a terminal alone: a line on standard error that is written over.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;

/// A command that is done sooner shows nothing, and the line changes no faster.
const EVERY: Duration = Duration::from_millis(250);

/// The line; it is gone when this is dropped.
pub(super) struct Progress {
    what: &'static str,
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Counts `what`.
    pub(super) fn new(what: &'static str) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + EVERY);
        Self { what, next, shown: false }
    }

    /// So many are done.
    pub(super) fn reach(&mut self, count: usize) {
        if self.next.is_none_or(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + EVERY);
        self.shown = true;
        // A terminal that went away needs no progress.
        let _ = write!(io::stderr(), "\r\u{1b}[K{count} {}", self.what).and_then(|()| io::stderr().flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
