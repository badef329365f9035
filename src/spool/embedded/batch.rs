//! What the writer takes at a time: what waits already, and what comes within the linger when nobody waits for any of it.

use super::writer::{LINGER, Queued};
use crate::spool::SpoolError;
use rusqlite::Connection;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Steps of one transaction.
pub(super) const MAX_STEPS: usize = 512;
/// Octets that one transaction gathers; the step that reaches it is the last.
const MAX_OCTETS: usize = 16 << 20;

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
    /// Somebody waits: nothing is waited for.
    urgent: bool,
    linger_until: Instant,
}

impl Batch {
    /// A batch of one message.
    pub(super) fn begin(first: Message) -> Self {
        let linger_until = Instant::now() + LINGER;
        let mut batch =
            Self { steps: Vec::new(), questions: Vec::new(), close: None, octets: 0, urgent: false, linger_until };
        batch.add(first);
        batch
    }

    /// Takes one more.
    pub(super) fn add(&mut self, message: Message) {
        match message {
            Message::Task(step) => {
                self.octets = self.octets.saturating_add(step.octets());
                self.urgent |= step.is_urgent();
                self.steps.push(step);
            }
            Message::Question(question) => {
                self.urgent = true;
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

    /// How long the next message may be waited for.
    pub(super) fn wait(&self) -> Duration {
        if self.urgent { Duration::ZERO } else { self.linger_until.saturating_duration_since(Instant::now()) }
    }
}
