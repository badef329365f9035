//! A spool's working day on a simulated disk, and what must be found of it afterwards.
//!
//! [`Ledger`] remembers for each message what was asked and what the spool has said is done. After whatever went wrong the
//! spool must stand at least where its last answer put it, and nowhere that nobody asked for.

use super::dice::Chance;
use super::{Dice, SimulatedDisk};
use journal_relay::clock::{Clock, SharedClock};
use journal_relay::journal::{Cause, Label, Notice, OctetsKind, Original, Recipient, RecordFields, message_uuid};
use journal_relay::mail::{Address, QueueId, RecordId, ReversePath, Timestamp};
use journal_relay::queue::State;
use journal_relay::spool::{
    Claim, Copies, Draft, EmbeddedSpool, Filter, FrontBounds, Listing, Operation, Options, Outcome, Pending,
    RecordDraft, Recovered, Spool, SpoolError, Verdict,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

pub const ORGANIZATION: &str = "yourorganization";
pub const WINDOW: Duration = Duration::from_secs(5);
pub const KEEP_HISTORY: Duration = Duration::from_secs(8 * 86_400);
pub const ROOT: &str = "/machine";
/// Octets of a small message: a sixteenth of what the daemon has, so that the files of larger ones are small.
pub const INLINE: usize = 8 * 1024;
/// Octets of a message that is stored inline while there is an allowance for it.
pub const MIDDLING: usize = 4 * INLINE;

/// Bounds that every move of a day meets.
pub const NARROW: FrontBounds = FrontBounds { records: 2, octets: 24 * 1024, log_octets: 96 * 1024 };

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// One thing asked about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Prepare,
    Accept,
    Refuse,
    LoseVerdict,
    Claim,
    Ack,
    Defer,
    Fail,
    Discard,
    Forget,
}

/// Where a message's own record is after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Absent,
    Live { state: State, unknown: bool },
    Ended(State),
}

/// A message and what was asked about it.
#[derive(Clone)]
pub struct Told {
    pub queue_id: QueueId,
    pub record: RecordId,
    pub identity: u8,
    pub recipients: Vec<&'static str>,
    pub octets: Vec<u8>,
    /// An earlier record stands for it, or will.
    pub merges: bool,
    pub asked: Vec<Move>,
    /// So many of them are promised.
    pub done: usize,
}

impl Told {
    /// Every place that the record may be found at.
    pub fn places(&self) -> Vec<Place> {
        (self.done..=self.asked.len()).map(|count| place(&self.asked[..count])).collect()
    }

    pub fn is_done(&self, wanted: Move) -> bool {
        self.asked[..self.done].contains(&wanted)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record, identity, recipients, asked, done, .. } = self;
        write!(f, "record {record} of message {identity} ({} octets) to {recipients:?}", self.octets.len())?;
        write!(f, ", promised {:?}, asked {:?}", &asked[..*done], &asked[*done..])
    }
}

fn place(moves: &[Move]) -> Place {
    let mut place = Place::Absent;
    for step in moves {
        place = match (step, place) {
            (Move::Prepare | Move::LoseVerdict, _) => Place::Live { state: State::Waiting, unknown: true },
            (Move::Accept, _) => Place::Live { state: State::Waiting, unknown: false },
            (Move::Refuse | Move::Forget, _) => Place::Absent,
            (Move::Claim, place) => place,
            (Move::Ack, _) => Place::Ended(State::Acked),
            (Move::Discard, _) => Place::Ended(State::Discarded),
            (Move::Defer, Place::Live { unknown, .. }) => Place::Live { state: State::Deferred, unknown },
            (Move::Fail, Place::Live { unknown, .. }) => Place::Live { state: State::Failed, unknown },
            (step, place) => panic!("{step:?} at {place:?}"),
        };
    }
    place
}

/// Everything asked of a spool.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Told>>>);

impl Ledger {
    pub fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    fn add(&self, told: Told) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(told);
        all.len() - 1
    }

    fn ask(&self, which: usize, step: Move) -> usize {
        let mut all = self.0.lock().unwrap();
        all[which].asked.push(step);
        all[which].asked.len()
    }

    fn done(&self, which: usize, count: usize) {
        let mut all = self.0.lock().unwrap();
        let done = &mut all[which].done;
        *done = count.max(*done);
    }

    fn find(&self, record: RecordId) -> Option<usize> {
        self.0.lock().unwrap().iter().position(|told| told.record == record)
    }
}

/// What outlasts the spool: the ledger, and where time and chance come from.
#[derive(Clone)]
pub struct Books {
    pub ledger: Ledger,
    /// How much stays in front of the database.
    bounds: FrontBounds,
    clock: Arc<HandClock>,
    chance: Arc<Chance>,
}

/// A spool on a simulated disk.
#[derive(Clone)]
pub struct Desk {
    pub disk: SimulatedDisk,
    pub spool: EmbeddedSpool,
    pub books: Books,
}

/// Where the spool is; nothing of the path is there before the first start.
pub fn path() -> PathBuf {
    PathBuf::from(ROOT).join("var/lib/journal-relay")
}

impl Books {
    pub fn new() -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(1_794_304_800_000)));
        Self { ledger: Ledger::default(), bounds: FrontBounds::default(), clock, chance: Arc::new(Chance::new(1)) }
    }

    /// Of a spool in front of whose database hardly anything stays: rows leave it one by one, and its log's halves change places.
    pub fn narrow() -> Self {
        Self { bounds: NARROW, ..Self::new() }
    }

    /// Opens the spool on a disk; its log is carried over often.
    pub fn open(&self, disk: &SimulatedDisk) -> Result<(Desk, Recovered), SpoolError> {
        self.open_with(disk, 12)
    }

    /// The same; its log is carried over when it has so many pages.
    pub fn open_with(&self, disk: &SimulatedDisk, checkpoint_pages: u32) -> Result<(Desk, Recovered), SpoolError> {
        let options = Options {
            disk: disk.shared(),
            clock: Arc::clone(&self.clock) as SharedClock,
            keep_history: KEEP_HISTORY,
            checkpoint_pages,
            inline_limit: INLINE,
            front: self.bounds,
            message_uuid,
        };
        let (spool, recovered) = EmbeddedSpool::open(&path(), options)?;
        Ok((Desk { disk: disk.clone(), spool, books: self.clone() }, recovered))
    }

    /// The same books, to go on from here more than once.
    pub fn copy(&self) -> Self {
        Self {
            ledger: Ledger(Arc::new(Mutex::new(self.ledger.all()))),
            bounds: self.bounds,
            clock: Arc::new(HandClock(AtomicI64::new(self.now().as_millis()))),
            chance: Arc::new(Chance::new(2)),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn advance(&self, by: Duration) {
        self.clock.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    pub fn told(&self, which: usize) -> Told {
        self.ledger.all()[which].clone()
    }

    /// A new message; `size` octets that are its own.
    pub fn message(&self, identity: u8, recipients: &[&'static str], size: usize, merges: bool) -> usize {
        self.advance(Duration::from_millis(1));
        let told = Told {
            queue_id: QueueId::new(self.now(), &*self.chance),
            record: RecordId::new(self.now(), &*self.chance),
            identity,
            recipients: recipients.to_vec(),
            octets: octets_of(identity, size),
            merges,
            asked: Vec::new(),
            done: 0,
        };
        self.ledger.add(told)
    }

    /// From now on this may be forgotten: it is history, and old.
    pub fn may_forget(&self, which: usize) {
        self.ledger.ask(which, Move::Forget);
    }
}

impl Desk {
    /// Takes a message in and prepares it.
    pub async fn prepare(&self, which: usize) -> Result<(), SpoolError> {
        let told = self.books.told(which);
        let count = self.books.ledger.ask(which, Move::Prepare);
        let mut intake = self.spool.begin(told.queue_id);
        for piece in told.octets.chunks(50_000) {
            intake.append(piece).await?;
        }
        self.spool.prepare(intake, draft(&told, self.books.now())).await?;
        self.books.ledger.done(which, count);
        Ok(())
    }

    /// Takes the verdict.
    pub fn decide(&self, which: usize, verdict: Verdict) -> impl Future<Output = Result<(), SpoolError>> {
        let step = match verdict {
            Verdict::Accepted => Move::Accept,
            Verdict::Refused => Move::Refuse,
            Verdict::Unknown => Move::LoseVerdict,
        };
        let decided = self.spool.decide(self.books.told(which).queue_id, verdict);
        self.keep_track(which, step, decided)
    }

    /// Prepares and accepts.
    pub async fn relay(&self, which: usize) -> Result<(), SpoolError> {
        self.prepare(which).await?;
        self.decide(which, Verdict::Accepted).await
    }

    /// Claims what is due.
    pub async fn claim(&self) -> Result<Vec<(usize, Claim)>, SpoolError> {
        let claims = self.spool.claim(&ORGANIZATION.into(), self.books.now(), 100).await?;
        let note = |claim: Claim| {
            let which = self.books.ledger.find(claim.fields.id).expect("a record that nobody made");
            // Whoever gives it out has the verdict.
            let count = self.books.ledger.ask(which, Move::Claim);
            self.books.ledger.done(which, count);
            (which, claim)
        };
        Ok(claims.into_iter().map(note).collect())
    }

    pub fn ack(&self, which: usize) -> impl Future<Output = Result<(), SpoolError>> {
        let outcome = Outcome::Acked { reply: "250 2.0.0 kept".into(), retain: false };
        self.keep_track(which, Move::Ack, self.spool.settle(self.books.told(which).record, outcome, self.books.now()))
    }

    pub fn defer(&self, which: usize) -> impl Future<Output = Result<(), SpoolError>> {
        let outcome = Outcome::Deferred {
            reply: "451 4.3.0 later".into(),
            next_attempt: self.books.now().plus(Duration::from_secs(60)),
        };
        self.keep_track(which, Move::Defer, self.spool.settle(self.books.told(which).record, outcome, self.books.now()))
    }

    pub fn fail(&self, which: usize) -> impl Future<Output = Result<(), SpoolError>> {
        let notice = Some(self.notice(which));
        let outcome = Outcome::Failed { reply: "550 5.7.1 no".into(), notice };
        self.keep_track(which, Move::Fail, self.spool.settle(self.books.told(which).record, outcome, self.books.now()))
    }

    pub fn discard(&self, which: usize) -> impl Future<Output = Result<(), SpoolError>> {
        let operation = Operation::Discard { reason: "asked for".into() };
        let discarded = self.spool.operate(self.books.told(which).record, operation, self.books.now());
        self.keep_track(which, Move::Discard, Box::pin(async move { discarded.await.map(drop) }))
    }

    fn keep_track(
        &self,
        which: usize,
        step: Move,
        pending: Pending<()>,
    ) -> impl Future<Output = Result<(), SpoolError>> + use<> {
        let (ledger, count) = (self.books.ledger.clone(), self.books.ledger.ask(which, step));
        let (spool, now) = (self.spool.clone(), self.books.now());
        async move {
            in_time(&spool, now, pending).await?;
            ledger.done(which, count);
            Ok(())
        }
    }

    fn notice(&self, which: usize) -> Notice {
        Notice {
            archive: String::new(),
            record: self.books.told(which).record,
            cause: Cause::Refused,
            at: self.books.now(),
            message_id: "<1@journal.report.generator>".into(),
            original_message_id: None,
            created: self.books.now(),
            recipients: 1,
            attempts: 1,
            next_attempt: None,
            route: "smtp://archive.example.com:25".into(),
            reply: "550 5.7.1 no".into(),
            reply_is_smtp: true,
        }
    }

    /// Every record there is, history included.
    pub async fn records(&self) -> BTreeMap<RecordId, (Listing, RecordFields)> {
        let mut found = BTreeMap::new();
        for state in [None, Some(State::Acked), Some(State::Discarded)] {
            for listing in self.spool.list(Filter { state, ..Filter::default() }, 1_000).await.unwrap() {
                let (fields, shown, _) = self.spool.show(listing.id).await.expect("a record that can't be read");
                assert_eq!(shown, listing);
                found.insert(listing.id, (listing, fields));
            }
        }
        found
    }
}

/// What nobody needs to wait for is tried again for as long as the spool is open: whoever waits on a full disk, or one without
/// power, hears from a small write how it stands.
pub async fn in_time(spool: &EmbeddedSpool, now: Timestamp, pending: Pending<()>) -> Result<(), SpoolError> {
    match tokio::time::timeout(Duration::from_secs(10), pending).await {
        Ok(answered) => answered,
        Err(_) => spool.probe(now).await.and(Err(SpoolError::Failing("no answer".into()))),
    }
}

/// Octets that a piece of another place or another message can't be taken for.
fn octets_of(identity: u8, size: usize) -> Vec<u8> {
    let mut dice = Dice::new(u64::from(identity) * 1_000_003 + size as u64);
    // A prime, so that no sector is like another.
    let block: Vec<u8> = (0..1_021).map(|_| dice.octet()).collect();
    let mut octets = block.repeat(size / block.len() + 1);
    octets.truncate(size);
    octets
}

/// A message's draft.
fn draft(told: &Told, now: Timestamp) -> Draft {
    let original = Original {
        queue_id: told.queue_id,
        received: now,
        reverse_path: ReversePath::Null,
        login: None,
        size: told.octets.len() as u64,
        sha256: [told.identity; 32],
        identity: [told.identity; 32],
        kind: OctetsKind::Binary,
        subject: None,
        message_id: Some(format!("<{}@example.org>", told.identity)),
        sender: "alice@example.org".into(),
        on_behalf_of: None,
    };
    let recipient = |text: &&str| Recipient { label: Label::To, address: Address::parse(text).unwrap() };
    let fields = RecordFields {
        id: told.record,
        organization: ORGANIZATION.into(),
        original,
        recipients: told.recipients.iter().map(recipient).collect(),
        copy_of: None,
        replay: None,
        message_uuid: Uuid::nil(),
        boundary: Uuid::from_u128(3),
        date: now,
        outcome_unknown: false,
        supplements: None,
        retry_came: false,
        owed: Vec::new(),
    };
    Draft {
        queue_id: told.queue_id,
        records: vec![RecordDraft { fields, coalesce: WINDOW, archive: String::new(), copies: Copies::Alone }],
    }
}
