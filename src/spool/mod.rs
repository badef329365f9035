//! Durable storage behind one small trait: the embedded spool (SQLite and files), and one in memory for tests.
//!
//! Floor 3. What the trait promises, an implementation keeps across a crash of the process, the machine or the disk's
//! power: whatever a returned future said is done stays done.
//!
//! The life of a message here:
//!
//! 1. [`Spool::begin`] gives an [`Intake`] that takes the octets as they arrive, small ones in memory, large ones in a file;
//! 2. [`Spool::prepare`] makes octets and records durable (state `prepared`); only then may the next hop get the final dot;
//! 3. [`Spool::decide`] says what the next hop's verdict was: the records wait to be sent, or everything goes;
//! 4. [`Spool::claim`] gives out what is due, durably `sending`; [`Spool::settle`] takes the result of the attempt.

mod allowance;
#[cfg(test)]
mod conformance;
pub mod disk;
pub mod embedded;
mod files;
#[cfg(test)]
pub(crate) mod fixtures;
mod ground;
mod intake;
mod life;
mod lock;
pub mod memory;
mod octets;
mod pauses;
mod pressure;
mod reserve;
mod values;
mod warned;

pub use embedded::{CHECKPOINT_PAGES, EmbeddedSpool, FrontBounds, Options};
pub use ground::{Ground, Volatile, ground, require_lasting};
pub use intake::{INLINE_LIMIT, Intake};
pub use life::MessageUuid;
pub use memory::MemorySpool;
pub use octets::{Chunks, Octets, READ_CHUNK};
pub use pauses::{Pause, Switched, Turn};
pub use pressure::{LOOK_EVERY, LOOK_UNDER_PRESSURE, Pressure, Reservation, Room};
pub use values::{
    Agenda, Archive, Backlog, Claim, Copies, Draft, Figures, Filter, Followers, Listing, NotedGap, Operation, Outcome,
    Receipt, RecordDraft, Recovered, ReportClaim, Resend, Resent, Returned, Setback, Verdict, Waiting,
};
pub use warned::{REMIND, Warned};

use crate::journal::{Gap, Named, RecordFields, ReportFields, ReportSeed};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::watch;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

/// The result of an operation that ends when it is durable.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, SpoolError>> + Send>>;

/// Why the spool could not do its job; by what the caller must do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// No room on the device: answer `452 4.3.1`, nothing was kept.
    #[error("the spool is full: {0}")]
    Full(String),
    /// It can't be written or read: answer `451 4.3.0`, nothing was kept.
    #[error("the spool is failing: {0}")]
    Failing(String),
    /// It can't be opened: say so and do not start.
    #[error("the spool can't be opened: {0}")]
    Unusable(String),
    /// No such entry.
    #[error("no record {0}")]
    NotFound(RecordId),
    /// The entry's state does not allow it: tell the operator.
    #[error("{0}")]
    NotNow(String),
}

/// Durable storage of messages on their way and of their records.
pub trait Spool: Send + Sync + 'static {
    /// A place for the octets of one message. Costs nothing until octets come.
    fn begin(&self, queue_id: QueueId) -> Intake;

    /// Makes the octets and all records durable, in state `prepared`. A draft without records keeps nothing, and so does a
    /// future that is dropped before its end.
    fn prepare(&self, intake: Intake, draft: Draft) -> Pending<()>;

    /// Takes the next hop's verdict on a prepared message. The future ends once it is durable; nobody needs to wait: a
    /// verdict that a crash swallows counts as [`Verdict::Unknown`]. Here records are merged (logged as `record.committed`
    /// or `record.merged`).
    fn decide(&self, queue_id: QueueId, verdict: Verdict) -> Pending<()>;

    /// Gives out up to `limit` records for `archive` that are due at `now`, those first that have been due for longest,
    /// sealed and `sending`. It may give fewer than there are, but never none: who wants more asks again. When the future is
    /// dropped before its end they are put back.
    fn claim(&self, archive: &Archive, now: Timestamp, limit: usize) -> Pending<Vec<Claim>>;

    /// Takes the result of an attempt. Nobody needs to wait: an acknowledgement that a crash swallows is a repeat. Where the
    /// disk fails it is tried again, here as in `decide`; an error of it may be brought again.
    fn settle(&self, id: RecordId, outcome: Outcome, now: Timestamp) -> Pending<()>;

    /// Puts a claimed record or report back as if the attempt had not begun (drain, or a route that was found shut). It is
    /// due again at once, and [`changes`](Self::changes) does not say so: whoever puts it back knows when to ask again.
    fn unclaim(&self, id: RecordId) -> Pending<()>;

    /// Gives out the record for `archive` that an operator wants tried and that has waited for longest, if there is one,
    /// as [`claim`](Self::claim) does. It stands for all others he asked for: they are no longer urgent.
    fn claim_urged(&self, archive: &Archive, now: Timestamp) -> Pending<Option<Claim>>;

    /// Makes deferred records for `archive` due at once, some hundreds of those due last; tells how many. Until none are
    /// left it is asked again.
    fn hurry(&self, archive: &Archive, now: Timestamp) -> Pending<usize>;

    /// Keeps as failed, with a notice each, some hundreds of the records for `archive` that wait and were made at
    /// `until` or before, oldest first; tells which. Until none are left it is asked again.
    fn give_up(&self, archive: &Archive, until: Timestamp, setback: Setback, now: Timestamp) -> Pending<Vec<RecordId>>;

    /// Makes a report of the notices of `organization` when they have gathered for long enough; tells whether. It is due at
    /// once.
    fn gather(&self, organization: &str, seed: ReportSeed) -> Pending<bool>;

    /// Keeps a report that is due at once. One of a delay, or of its end, is remembered as told ([`Backlog::warned`]).
    fn tell(&self, report: ReportFields) -> Pending<()>;

    /// Notes that messages of `organization` were relayed without a record, with a report of it that is due at once. Asked
    /// again with the same seed it changes nothing: for who does not know how the first time went.
    fn note_gap(&self, organization: &str, gap: Gap, seed: ReportSeed) -> Pending<()>;

    /// The last `limit` gaps of the past year, oldest first.
    fn gaps(&self, limit: usize) -> Pending<Vec<NotedGap>>;

    /// Notes that a switch was turned; nothing, where it is known to stand so.
    fn switched(&self, switched: Switched) -> Pending<()>;

    /// The last `limit` times without journaling, oldest first.
    fn pauses(&self, limit: usize) -> Pending<Vec<Pause>>;

    /// The same as [`claim`](Self::claim) for reports.
    fn claim_reports(&self, organization: &str, now: Timestamp, limit: usize) -> Pending<Vec<ReportClaim>>;

    /// Takes the result of sending a report: gone when acked, tried again when deferred, remembered when failed. A notice in
    /// the outcome is ignored: a report never causes one.
    fn settle_report(&self, id: RecordId, outcome: Outcome, now: Timestamp) -> Pending<()>;

    /// The same as [`hurry`](Self::hurry) for reports.
    fn hurry_reports(&self, organization: &str, now: Timestamp) -> Pending<usize>;

    /// When something for `archive`, or a report of its organization, is due next.
    fn agenda(&self, archive: &Archive) -> Pending<Agenda>;

    /// When anything of it is due next; none when nothing waits for a time.
    fn next_due(&self, archive: &Archive) -> Pending<Option<Timestamp>> {
        let agenda = self.agenda(archive);
        Box::pin(async move { Ok(agenda.await?.earliest()) })
    }

    /// What waits for an attempt at `archive`.
    fn backlog(&self, archive: &Archive) -> Pending<Backlog>;

    /// Up to `most` of the records for `archive` that wait and were made at `until` or before, oldest first, as notices
    /// that say so, and how many more there are.
    fn waiting(&self, archive: &Archive, until: Timestamp, most: usize, now: Timestamp) -> Pending<Named>;

    /// How many records `archive` has taken since then, as far as history goes back.
    fn acked_since(&self, archive: &Archive, since: Timestamp) -> Pending<u64>;

    /// Sends on some hundreds of the records of `organization` whose archive is not among `archives`, the keys of the
    /// configuration in its order: each to the first one that has no copy of it; where all have one it counts as delivered
    /// (`record.superseded`). Tells how many; until none are left it is asked again.
    fn follow(&self, organization: &str, archives: Vec<String>, now: Timestamp) -> Pending<Followers>;

    /// Makes records that were delivered, and whose octets are kept for that, due once more, as new entries that say so.
    /// Works beside a running daemon.
    fn resend(&self, resend: Resend) -> Pending<Resent>;

    /// Lets go some hundreds of the octets that are kept to be sent again: of records that were delivered before the time that
    /// `before` has for their organization, or before `rest` where it lacks that. Tells of how many records; until none are
    /// left it is asked again.
    fn let_go(&self, before: BTreeMap<String, Timestamp>, rest: Timestamp) -> Pending<usize>;

    /// A number that grows whenever something may have become due, by this process or another.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Up to `limit` entries that `filter` means, oldest first.
    fn list(&self, filter: Filter, limit: usize) -> Pending<Vec<Listing>>;

    /// One entry whole; the octets of what is history are there where they are kept to be sent again.
    fn show(&self, id: RecordId) -> Pending<(RecordFields, Listing, Option<Octets>)>;

    /// What an operator asks for. Works beside a running daemon: the state is changed in one transaction.
    fn operate(&self, id: RecordId, operation: Operation, now: Timestamp) -> Pending<Listing>;

    /// Takes a notification that a server which had taken a record gave it back: the record is kept as failed, and its
    /// notification with it. One that was acked, whose octets have gone, gets them back when they came back as they were;
    /// else it is failed for octets that are lost, and stands for no later copy of its message. Repeats change nothing.
    ///
    /// Gives [`SpoolError::NotNow`] while the record is being sent: ask again later.
    fn returned(&self, returned: Returned) -> Pending<Receipt>;

    /// The spool's secret, with which its records are sealed: `proposal` when it has none yet, durable before it is told,
    /// else the one that was kept first. Only the spool's owner can read it; it is never logged.
    fn secret(&self, proposal: [u8; 32]) -> Pending<[u8; 32]>;

    /// How many records wait and since when, and what the spool takes. Costs what waits, whatever the history holds.
    fn figures(&self) -> Pending<Figures>;

    /// A small write, made durable: whether the spool takes one.
    fn probe(&self, now: Timestamp) -> Pending<()>;

    /// The room that the file system has left.
    fn room(&self) -> Pending<Room>;

    /// Brings what was written so far to where other processes see it.
    fn complete(&self) -> Pending<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Writes what is gathered and closes the files. Everything asked afterwards fails.
    fn close(&self) -> Pending<()>;
}
