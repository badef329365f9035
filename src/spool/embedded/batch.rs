//! What the writer takes at a time: what waits already, what comes within the linger when nobody waits for any of it, and when
//! the spool is busy what comes soon.

use super::writer::{GATHER, LINGER, Queued};
use crate::spool::SpoolError;
use rusqlite::Connection;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Steps of one transaction.
pub(super) const MAX_STEPS: usize = 512;
/// Octets that one transaction gathers; the step that reaches it is the last.
const MAX_OCTETS: usize = 16 << 20;

/// So many messages on their way are a busy spool: those of fewer sessions would lose more by the wait than their syncs cost.
const BUSY: usize = 4;
/// How long a busy spool sleeps before it looks what has come.
const SLICE: Duration = Duration::from_micros(500);

/// Tells who waits for the end how it went.
pub(super) type Close = oneshot::Sender<Result<(), SpoolError>>;

/// Looks something up and answers by itself.
pub(super) type Question = Box<dyn FnOnce(&Connection) + Send>;

/// What comes through the queue.
pub(super) enum Message {
    /// A step of a transaction.
    Task(Box<dyn Queued>),
    /// Something that is only read, behind the steps before it.
    Question(Question),
    /// The end.
    Close(Close),
}

/// What has gathered.
pub(super) struct Batch {
    pub(super) steps: Vec<Box<dyn Queued>>,
    pub(super) questions: Vec<Question>,
    pub(super) close: Option<Close>,
    octets: usize,
    /// How many wait for it.
    urgent: usize,
    /// How many others are known to come soon.
    company: usize,
    begun: Instant,
}

/// What a batch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing.
    No,
    /// The next step, so long at most: it comes alone, if at all.
    Next(Duration),
    /// The time itself: many come meanwhile, and none needs to be noticed before it is over.
    Many(Duration),
}

impl Batch {
    /// A batch of one message, while `company` messages are on their way whose next steps come soon.
    pub(super) fn begin(first: Message, company: usize) -> Self {
        let (steps, questions, close, begun) = (Vec::new(), Vec::new(), None, Instant::now());
        let mut batch = Self { steps, questions, close, octets: 0, urgent: 0, company, begun };
        batch.add(first);
        batch
    }

    /// Takes one more.
    pub(super) fn add(&mut self, message: Message) {
        match message {
            Message::Task(step) => {
                self.octets = self.octets.saturating_add(step.octets());
                self.urgent = self.urgent.saturating_add(usize::from(step.is_urgent()));
                self.steps.push(step);
            }
            Message::Question(question) => {
                self.urgent = self.urgent.saturating_add(1);
                self.questions.push(question);
            }
            Message::Close(answer) => self.close = Some(answer),
        }
    }

    /// Whether more may be added. Nothing comes behind the end.
    pub(super) fn has_room(&self) -> bool {
        self.close.is_none()
            && self.octets < MAX_OCTETS
            && self.steps.len().saturating_add(self.questions.len()) < MAX_STEPS
    }

    /// What is waited for, once nothing more is there. Where somebody waits that is nothing, but for a little while when more
    /// messages are on their way than wait here: then one sync for many costs each of them less than the wait.
    pub(super) fn wait(&self) -> Wait {
        let left = |of: Duration| of.saturating_sub(self.begun.elapsed());
        let is_busy = self.company >= BUSY;
        match self.urgent {
            0 if left(LINGER).is_zero() => Wait::No,
            0 if is_busy => Wait::Many(left(LINGER).min(SLICE)),
            0 => Wait::Next(left(LINGER)),
            waiting if is_busy && waiting < self.company && !left(GATHER).is_zero() => {
                Wait::Many(left(GATHER).min(SLICE))
            }
            _ => Wait::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Message {
        Message::Question(Box::new(|_| {}))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_kept_waiting_only_while_more_are_on_their_way_and_not_for_long() {
        for company in 0..BUSY {
            assert_eq!(Batch::begin(question(), company).wait(), Wait::No);
        }
        let mut batch = Batch::begin(question(), BUSY);
        assert_eq!(batch.wait(), Wait::Many(SLICE));
        for _ in 1..BUSY {
            batch.add(question());
        }
        assert_eq!(batch.wait(), Wait::No, "as many wait as are on their way");
        let batch = Batch::begin(question(), 1_000);
        tokio::time::advance(GATHER - SLICE / 2).await;
        assert_eq!(batch.wait(), Wait::Many(SLICE / 2));
        tokio::time::advance(SLICE).await;
        assert_eq!(batch.wait(), Wait::No);
    }
}
