//! How far a long command has come, on a terminal alone: a line on standard error that is written over.

use std::io::{self, IsTerminal, Stderr, Write};
use std::time::Duration;
use tokio::time::Instant;

/// A command that is done sooner shows nothing, and the line changes no faster.
const EVERY: Duration = Duration::from_millis(250);

/// The line; it is gone when this is dropped.
pub(super) struct Progress<W: Write = Stderr> {
    what: &'static str,
    output: W,
    /// None: nobody watches.
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Counts `what`.
    pub(super) fn new(what: &'static str) -> Self {
        Self::to(io::stderr(), io::stderr().is_terminal(), what)
    }
}

impl<W: Write> Progress<W> {
    fn to(output: W, is_terminal: bool, what: &'static str) -> Self {
        Self { what, output, next: is_terminal.then(|| Instant::now() + EVERY), shown: false }
    }

    /// So many are done.
    pub(super) fn reach(&mut self, count: usize) {
        if self.next.is_none_or(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + EVERY);
        self.shown = true;
        // A terminal that went away needs no progress.
        let _ = write!(self.output, "\r\u{1b}[K{count} {}", self.what).and_then(|()| self.output.flush());
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(self.output, "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn it_is_written_over_at_a_terminal_not_too_often_and_gone_in_the_end() {
        for (is_terminal, expected) in [(true, "\r\u{1b}[K2 records\r\u{1b}[K4 records\r\u{1b}[K"), (false, "")] {
            let mut written = Vec::new();
            let mut progress = Progress::to(&mut written, is_terminal, "records");
            progress.reach(1);
            advance(EVERY).await;
            progress.reach(2);
            progress.reach(3);
            advance(EVERY).await;
            progress.reach(4);
            drop(progress);
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_is_done_at_once_shows_nothing() {
        let mut written = Vec::new();
        Progress::to(&mut written, true, "records").reach(9);
        assert!(written.is_empty());
    }
}
