//! The one place that writes: what has gathered while it was busy becomes one transaction, one sync.
//!
//! A [`Writer`] hands steps to a thread, or to a task where the disk is simulated. A step that somebody waits for is
//! taken at once, or when the spool is busy within [`GATHER`]; one that nobody waits for (a verdict, the end of an attempt) lingers up to [`LINGER`] for a transaction
//! to join, so that a record is claimable within some milliseconds and light load doesn't pay a sync of its own for each
//! move. While a transaction is being synced the next one gathers.
//!
//! When a transaction fails everybody in it gets the error. Steps that nobody waits for are kept and tried again with
//! the next one, since a lost verdict would be guessed at the next start. After a sync that failed nothing is tried again:
//! what the operating system still holds and what the disk has is not known then, and only reopening finds out.

use super::batch::Message;
use super::core::{Core, Parts};
use super::drivers;
use super::front::{FrontStep, Lag, Place};
use super::steps::{Effects, Step, StepError};
use crate::drain::Drain;
use crate::mail::Timestamp;
use crate::spool::{Archive, Pending, SpoolError};
use crate::watch;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc as task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How long a step that nobody waits for may wait for company.
pub(super) const LINGER: Duration = Duration::from_millis(5);
/// How long a step that somebody waits for may wait for that of others, when there are many.
pub(super) const GATHER: Duration = Duration::from_millis(3);
/// A record that is due for no longer than this is in time; …
const LEISURE: Duration = Duration::from_millis(100);
/// … beyond, a new message waits for this part of the time …
const SLOWDOWN: u32 = 10;
/// … and no longer than this.
const LONGEST_PACE: Duration = Duration::from_millis(100);
/// A shorter wait is none.
const SHORTEST_PACE: Duration = Duration::from_millis(3);
/// Octets of one unit of room in the queue.
const ROOM_UNIT: usize = 4 * 1024;
/// Units of room for steps that wait to be taken: as many steps, or 32 MiB. Who finds none waits. Steps that nobody waits
/// for need no room: each follows a step that was waited for, so there are never more of them than messages on their way.
const ROOM: u32 = 8_192;

/// Counts and signals that the thread shares with everybody.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) commits: AtomicU64,
    pub(super) changes: watch::Sender<u64>,
    /// Nothing is written any more before the next start.
    pub(super) broken: watch::Sender<bool>,
    pub(super) commit_seconds: Histogram,
    pub(super) seen: Mutex<Seen>,
}

/// What can be known of the front without asking the thread.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether there is anything that the database lacks.
    pub(super) has_rows: bool,
    /// When the first record for each archive is due there.
    pub(super) agenda: BTreeMap<Archive, Timestamp>,
    /// How far each archive lags behind that takes records.
    pub(super) lags: BTreeMap<Archive, Lag>,
    /// Moves whenever something has been written to the database.
    pub(super) database: u64,
}

impl Shared {
    /// What is seen at this moment.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody that something may have become due.
    pub(super) fn change(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }
}

/// Hands steps to the thread. Cheap to clone; the thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: Queue,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Starts the thread, or within the runtime a task, when `parts` lie on a simulated disk.
    pub(super) fn start(parts: Parts) -> Result<Self, SpoolError> {
        let shared = Arc::new(Shared {
            commits: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            broken: watch::Sender::new(false),
            // From 0.1 ms to half a minute.
            commit_seconds: Histogram::new(exponential_buckets(0.0001, 4.0, 10)),
            seen: Mutex::default(),
        });
        let simulated = parts.store.disk().vfs().is_some();
        let core = Core::new(parts, Arc::clone(&shared));
        let queue = if simulated {
            let (queue, steps) = task::unbounded_channel();
            // It ends with the last one that can hand it something.
            Drain::default().spawn("the spool's writer", drivers::task(core, steps));
            Queue::Task(queue)
        } else {
            let (queue, steps) = mpsc::channel();
            std::thread::Builder::new()
                .name("spool-writer".to_owned())
                .spawn(move || drivers::thread(core, &steps))
                .map_err(|error| SpoolError::Unusable(format!("its thread can't be started: {error}")))?;
            Queue::Thread(queue)
        };
        Ok(Self { queue, room: Arc::new(Semaphore::new(ROOM as usize)), shared })
    }

    /// Transactions committed so far.
    pub(super) fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// How long commits take.
    pub(super) fn commit_seconds(&self) -> Histogram {
        self.shared.commit_seconds.clone()
    }

    /// See [`EmbeddedSpool::broken`](super::EmbeddedSpool::broken).
    pub(super) fn broken(&self) -> watch::Receiver<bool> {
        self.shared.broken.subscribe()
    }

    /// See [`Spool::changes`](crate::spool::Spool::changes).
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// When the first record for `archive` is due in front of the database, and how the database stands: the same number
    /// means that nothing has been written to it.
    pub(super) fn glance(&self, archive: &Archive) -> (Option<Timestamp>, u64) {
        let seen = self.shared.seen();
        (seen.agenda.get(archive).copied(), seen.database)
    }

    /// How long a message with records for these archives should wait before it is taken: where more comes than an archive takes,
    /// a little more than the archive does, so that what is on its way stays in front of the database.
    pub(super) fn pace<'a>(&self, archives: impl Iterator<Item = &'a Archive>) -> Duration {
        let seen = self.shared.seen();
        archives.filter_map(|archive| seen.lags.get(archive)).map(pace_for).max().unwrap_or_default()
    }

    /// Brings into the database what it lacks.
    pub(super) async fn complete(&self) -> Result<(), SpoolError> {
        let lacks = self.shared.seen().has_rows;
        if lacks { self.call(0, |_| Ok(()), |_, ()| {}).await } else { Ok(()) }
    }

    /// A step that somebody waits for; `octets` of it wait in memory. Handed over when the future is first polled. When
    /// the future is dropped before it has given the result, the step is not taken, or `undo` gets what it gave.
    pub(super) fn call<T, F>(&self, octets: usize, step: F, undo: impl FnOnce(&Self, T) + Send + 'static) -> Pending<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Step<'_>) -> Result<T, StepError> + Send + 'static,
    {
        self.call_in_front(octets, |_| Ok(Place::Behind), step, undo)
    }

    /// The same for a step that may be taken in front of the database: `first` is asked, and `step` taken if it says so.
    pub(super) fn call_in_front<T, P, F>(
        &self,
        octets: usize,
        first: P,
        step: F,
        undo: impl FnOnce(&Self, T) + Send + 'static,
    ) -> Pending<T>
    where
        T: Send + 'static,
        P: FnMut(&mut FrontStep<'_>) -> Result<Place<T>, SpoolError> + Send + 'static,
        F: FnMut(&mut Step<'_>) -> Result<T, StepError> + Send + 'static,
    {
        let writer = self.clone();
        let units = u32::try_from(octets / ROOM_UNIT).unwrap_or(ROOM).saturating_add(1).min(ROOM);
        Box::pin(async move {
            let room = Arc::clone(&writer.room).acquire_many_owned(units).await.map_err(|_| closed())?;
            let undo: Undo<T> = Some((writer.clone(), Box::new(undo)));
            let (answer, result) = oneshot::channel();
            let task = Task { first, step, given: None, answer, undo, room: Some(room), octets, urgent: true };
            writer.send(Message::Task(Box::new(task)))?;
            drop(writer);
            result.await.map_err(|_| closed())?.and_then(Unread::read)
        })
    }

    /// A step that nobody needs to wait for, with what may be done of it in front of the database: handed over at once, tried again until it is durable. Only then its future ends,
    /// or with the step's own answer, or once nothing is written any more before the next start.
    pub(super) fn post<T, P, F>(&self, first: P, step: F) -> Pending<T>
    where
        T: Send + 'static,
        P: FnMut(&mut FrontStep<'_>) -> Result<Place<T>, SpoolError> + Send + 'static,
        F: FnMut(&mut Step<'_>) -> Result<T, StepError> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let task = Task { first, step, given: None, answer, undo: None, room: None, octets: 0, urgent: false };
        let sent = self.send(Message::Task(Box::new(task)));
        Box::pin(async move {
            sent?;
            result.await.map_err(|_| closed())?.and_then(Unread::read)
        })
    }

    /// Something that is only read, on the writer's own connection: where nobody else may have one.
    pub(super) fn ask<T, F>(&self, question: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StepError> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let ask = move |db: &Connection| {
            let _ = answer.send(question(db).map_err(SpoolError::from));
        };
        let sent = self.send(Message::Question(Box::new(ask)));
        Box::pin(async move {
            sent?;
            result.await.map_err(|_| closed())?
        })
    }

    /// Ends the thread once everything before is written.
    pub(super) fn close(&self) -> Pending<()> {
        let (answer, result) = oneshot::channel();
        let sent = self.send(Message::Close(answer));
        Box::pin(async move {
            sent?;
            result.await.map_err(|_| closed())?
        })
    }

    fn send(&self, message: Message) -> Result<(), SpoolError> {
        match &self.queue {
            Queue::Thread(queue) => queue.send(message).map_err(|_| closed()),
            Queue::Task(queue) => queue.send(message).map_err(|_| closed()),
        }
    }
}

/// The way to the thread or the task.
#[derive(Debug, Clone)]
enum Queue {
    Thread(mpsc::Sender<Message>),
    Task(task::UnboundedSender<Message>),
}

/// What everything asked after the end is told.
pub(super) fn closed() -> SpoolError {
    SpoolError::Failing("the spool is closed".to_owned())
}

/// A tenth of what a record has been due for beyond [`LEISURE`], or so much as the front is full.
fn pace_for(lag: &Lag) -> Duration {
    let by_time = lag.time.saturating_sub(LEISURE) / SLOWDOWN;
    let by_room = LONGEST_PACE * lag.full / 100;
    let pace = by_time.max(by_room).min(LONGEST_PACE);
    if pace < SHORTEST_PACE { Duration::ZERO } else { pace }
}

/// A step on its way, as the thread sees it.
pub(super) trait Queued: Send {
    /// Octets it brings.
    fn octets(&self) -> usize;
    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool;
    /// Whether nobody wants it any more.
    fn is_unwanted(&self) -> bool;
    /// Takes the step in front of the database, where it can be; a failure of its own is kept and counts as taken.
    fn take_in_front(&mut self, step: &mut FrontStep<'_>) -> Place<()>;
    /// Takes the step within a transaction. `Err` is what spoils the whole transaction or is the step's own failure.
    fn take(&mut self, step: &mut Step<'_>) -> Result<(), StepError>;
    /// Remembers the step's own failure.
    fn fail(&mut self, error: SpoolError);
    /// Tells who waits how the transaction ended; gives the step back, with nobody told yet, when it has to be taken again:
    /// after a failure that is not the last (`again`), where nobody needs to wait.
    fn answer(self: Box<Self>, committed: Result<(), SpoolError>, again: bool) -> Option<Box<dyn Queued>>;
}

type Undo<T> = Option<(Writer, Box<dyn FnOnce(&Writer, T) + Send>)>;

struct Task<T, P, F> {
    first: P,
    step: F,
    given: Option<Result<T, SpoolError>>,
    answer: oneshot::Sender<Result<Unread<T>, SpoolError>>,
    undo: Undo<T>,
    room: Option<OwnedSemaphorePermit>,
    octets: usize,
    urgent: bool,
}

impl<T, P, F> Queued for Task<T, P, F>
where
    T: Send + 'static,
    P: FnMut(&mut FrontStep<'_>) -> Result<Place<T>, SpoolError> + Send + 'static,
    F: FnMut(&mut Step<'_>) -> Result<T, StepError> + Send + 'static,
{
    fn octets(&self) -> usize {
        self.octets
    }

    fn is_urgent(&self) -> bool {
        self.urgent
    }

    fn is_unwanted(&self) -> bool {
        self.urgent && self.answer.is_closed()
    }

    fn take_in_front(&mut self, step: &mut FrontStep<'_>) -> Place<()> {
        let mark = step.front.mark();
        let given = match (self.first)(step) {
            Ok(Place::Taken(value)) => Ok(value),
            elsewhere => {
                step.front.rewind(mark);
                step.effects = Effects::default();
                match elsewhere {
                    Ok(Place::Apart) => return Place::Apart,
                    Err(error) => Err(error),
                    Ok(_) => return Place::Behind,
                }
            }
        };
        self.given = Some(given);
        Place::Taken(())
    }

    fn take(&mut self, step: &mut Step<'_>) -> Result<(), StepError> {
        self.given = Some(Ok((self.step)(step)?));
        Ok(())
    }

    fn fail(&mut self, error: SpoolError) {
        self.given = Some(Err(error));
    }

    fn answer(mut self: Box<Self>, committed: Result<(), SpoolError>, again: bool) -> Option<Box<dyn Queued>> {
        drop(self.room.take());
        if again && !self.urgent && committed.is_err() {
            self.given = None;
            return Some(self);
        }
        let result = match (self.given.take(), committed) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(Unread { value: Some(value), undo: self.undo.take() }),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(closed()),
        };
        let Self { first, step, answer, .. } = *self;
        // What a failed step held, an octet file perhaps, is gone before anybody hears of the failure.
        drop((first, step));
        // Whoever went away meanwhile: the value undoes itself.
        let _ = answer.send(result);
        None
    }
}

/// A result on its way to who waits; dropped unread, it is undone.
struct Unread<T> {
    value: Option<T>,
    undo: Undo<T>,
}

impl<T> Unread<T> {
    fn read(mut self) -> Result<T, SpoolError> {
        self.undo = None;
        self.value.take().ok_or_else(closed)
    }
}

impl<T> Drop for Unread<T> {
    fn drop(&mut self) {
        if let (Some(value), Some((writer, undo))) = (self.value.take(), self.undo.take()) {
            undo(&writer, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_message_waits_by_how_long_records_are_due_and_how_full_the_front_is_and_never_for_long() {
        let pace = |time, full| pace_for(&Lag { time: Duration::from_millis(time), full }).as_millis();
        assert_eq!([pace(0, 0), pace(100, 2), pace(129, 0)], [0, 0, 0], "what is in time, or nearly, waits for nobody");
        assert_eq!([pace(130, 0), pace(600, 0), pace(600, 70)], [3, 50, 70]);
        assert_eq!([pace(1_100, 0), pace(86_400_000, 0), pace(0, u32::MAX)], [100, 100, 100]);
    }
}
