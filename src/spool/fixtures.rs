//! What tests of spools are made of: a clock that is set by hand, drafts, a spool of either kind.

use super::*;
use crate::clock::{Clock, SharedClock};
use crate::journal::{Cause, Label, Notice, OctetsKind, Original, Recipient};
use crate::mail::{Address, OsEntropy, ReversePath};
use crate::queue::State;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// When every test begins.
pub(crate) const START: i64 = 1_794_304_800_000;
pub(crate) const WINDOW: Duration = Duration::from_secs(5);
pub(crate) const KEEP_HISTORY: Duration = Duration::from_secs(8 * 86_400);
pub(crate) const ORGANIZATION: &str = "yourorganization";

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct HandClock(AtomicI64);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(START)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Depends on what must not change any more once a record is sealed.
pub(crate) fn uuid_of(fields: &RecordFields) -> Uuid {
    let mut hash = Sha256::new().chain_update(&fields.organization).chain_update(fields.original.identity);
    for recipient in &fields.recipients {
        hash.update(recipient.address.as_str());
    }
    let hash = hash.finalize();
    uuid::Builder::from_custom_bytes(std::array::from_fn(|place| hash[place])).into_uuid()
}

/// Octets of a small message here, which is stored inline …
pub(crate) const SMALL: usize = 32 * 1024;
/// … and of one that never is.
pub(crate) const LARGE: usize = 200_000;

pub(crate) fn options(clock: &Arc<HandClock>) -> Options {
    let clock: SharedClock = Arc::clone(clock) as SharedClock;
    Options {
        disk: disk::system(),
        checkpoint_pages: CHECKPOINT_PAGES,
        inline_limit: SMALL,
        // A log that is copied in no time.
        front: FrontBounds { octets: 4 << 20, log_octets: 8 << 20, ..FrontBounds::default() },
        clock,
        keep_history: KEEP_HISTORY,
        message_uuid: uuid_of,
    }
}

/// A spool, its clock, and short ways to use them.
pub(crate) struct World {
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) clock: Arc<HandClock>,
    /// Removed with the world.
    pub(crate) directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn in_memory() -> Self {
        let clock = HandClock::new();
        let spool = Arc::new(MemorySpool::new(options(&clock)));
        Self { spool, clock, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn embedded() -> Self {
        let clock = HandClock::new();
        let directory = tempfile::tempdir().unwrap();
        let (spool, recovered) = EmbeddedSpool::open(&directory.path().join("spool"), options(&clock)).unwrap();
        assert_eq!(recovered, Recovered::default());
        Self { spool: Arc::new(spool), clock, directory }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Prepares a message of these octets.
    pub(crate) async fn prepare(&self, message: &Message, octets: &[u8]) -> Result<Prepared, SpoolError> {
        prepare(&*self.spool, message, octets, self.now()).await
    }

    /// Prepares a small message and takes the verdict.
    pub(crate) async fn relay(&self, message: &Message, verdict: Verdict) -> Prepared {
        let prepared = self.prepare(message, b"Subject: hello\r\n\r\nhello\r\n").await.unwrap();
        self.spool.decide(prepared.queue_id, verdict).await.unwrap();
        prepared
    }

    /// Lets every window end and claims all that is due.
    pub(crate) async fn claim_all(&self) -> Vec<Claim> {
        self.clock.advance(WINDOW);
        self.claim_at("").await
    }

    /// Claims all that is due at the archive of this key.
    pub(crate) async fn claim_at(&self, key: &str) -> Vec<Claim> {
        let mut all = Vec::new();
        loop {
            let more = self.spool.claim(&archive(key), self.now(), 100).await.unwrap();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    pub(crate) async fn ack(&self, id: RecordId) {
        self.spool
            .settle(id, Outcome::Acked { reply: "250 2.0.0 kept".into(), retain: false }, self.now())
            .await
            .unwrap();
    }

    pub(crate) async fn defer(&self, id: RecordId, wait: Duration) {
        let next_attempt = self.now().plus(wait);
        let outcome = Outcome::Deferred { reply: "451 4.3.0 later".into(), next_attempt };
        self.spool.settle(id, outcome, self.now()).await.unwrap();
    }

    pub(crate) async fn fail(&self, id: RecordId, notice: Option<Notice>) {
        let outcome = Outcome::Failed { reply: "550 5.7.1 no".into(), notice };
        self.spool.settle(id, outcome, self.now()).await.unwrap();
    }

    pub(crate) async fn operate(&self, id: RecordId, operation: Operation) -> Result<Listing, SpoolError> {
        self.spool.operate(id, operation, self.now()).await
    }

    pub(crate) async fn discard(&self, id: RecordId) -> Result<Listing, SpoolError> {
        self.operate(id, Operation::Discard { reason: "asked for".into() }).await
    }

    /// All but history.
    pub(crate) async fn live(&self) -> Vec<Listing> {
        self.spool.list(Filter::default(), 1_000).await.unwrap()
    }

    pub(crate) async fn in_state(&self, state: State) -> Vec<RecordId> {
        let filter = Filter { state: Some(state), ..Filter::default() };
        self.spool.list(filter, 1_000).await.unwrap().into_iter().map(|listing| listing.id).collect()
    }

    pub(crate) async fn octets(&self, id: RecordId) -> Option<Octets> {
        self.spool.show(id).await.unwrap().2
    }

    /// That a record was refused just now.
    pub(crate) async fn notice(&self, id: RecordId) -> Notice {
        let (fields, _, _) = self.spool.show(id).await.unwrap();
        let notice = Notice { attempts: 1, ..Notice::about(&fields, Cause::Refused, self.now()) };
        notice.with_reply("smtp://archive.example.com:25", "550 5.7.1 no", true)
    }

    /// Claims a record and fails it with a notice.
    pub(crate) async fn refuse(&self, id: RecordId) -> Notice {
        let notice = self.notice(id).await;
        self.fail(id, Some(notice.clone())).await;
        notice
    }

    pub(crate) fn seed(&self) -> ReportSeed {
        ReportSeed {
            id: RecordId::new(self.now(), &OsEntropy),
            date: self.now(),
            message_uuid: Uuid::new_v4(),
            boundary: Uuid::new_v4(),
        }
    }

    /// Makes a report of what has gathered, once its time has come, and gives its id.
    pub(crate) async fn gather(&self) -> RecordId {
        let due = self.spool.agenda(&ORGANIZATION.into()).await.unwrap().notices.unwrap();
        self.clock.advance(due.since(self.now()));
        let seed = self.seed();
        assert!(self.spool.gather(ORGANIZATION, seed).await.unwrap());
        seed.id
    }

    pub(crate) async fn claim_reports(&self) -> Vec<ReportClaim> {
        self.spool.claim_reports(ORGANIZATION, self.now(), 100).await.unwrap()
    }
}

/// The organization's archive of this key.
pub(crate) fn archive(key: &str) -> Archive {
    Archive { organization: ORGANIZATION.to_owned(), key: key.to_owned() }
}

/// What was prepared.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) queue_id: QueueId,
    /// In the order of the organizations, and of their archives.
    pub(crate) records: Vec<RecordId>,
}

impl Prepared {
    pub(crate) fn record(&self) -> RecordId {
        self.records[0]
    }
}

/// A message as a test means it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Equal for transactions of one message.
    pub(crate) identity: u8,
    pub(crate) recipients: Vec<&'static str>,
    pub(crate) organizations: Vec<&'static str>,
    pub(crate) message_id: bool,
    pub(crate) coalesce: Duration,
    /// Keys of the archives that each organization has.
    pub(crate) archives: Vec<&'static str>,
    pub(crate) copies: Copies,
}

impl Message {
    pub(crate) fn new(identity: u8, recipients: &[&'static str]) -> Self {
        let organizations = vec![ORGANIZATION];
        Self {
            identity,
            recipients: recipients.to_vec(),
            organizations,
            message_id: true,
            coalesce: WINDOW,
            archives: vec![""],
            copies: Copies::Alone,
        }
    }

    /// The same with a copy for each of these archives.
    pub(crate) fn to(self, archives: &[&'static str], copies: Copies) -> Self {
        Self { archives: archives.to_vec(), copies, ..self }
    }
}

pub(crate) async fn prepare(
    spool: &dyn Spool,
    message: &Message,
    octets: &[u8],
    now: Timestamp,
) -> Result<Prepared, SpoolError> {
    let queue_id = QueueId::new(now, &OsEntropy);
    let mut intake = spool.begin(queue_id);
    for piece in octets.chunks(100_000) {
        intake.append(piece).await?;
    }
    let draft = draft(message, queue_id, octets, now);
    let records = draft.records.iter().map(|record| record.fields.id).collect();
    spool.prepare(intake, draft).await?;
    Ok(Prepared { queue_id, records })
}

pub(crate) fn draft(message: &Message, queue_id: QueueId, octets: &[u8], now: Timestamp) -> Draft {
    let original = Original {
        queue_id,
        received: now,
        reverse_path: ReversePath::Null,
        login: None,
        size: octets.len() as u64,
        sha256: Sha256::digest(octets).into(),
        identity: [message.identity; 32],
        kind: OctetsKind::SevenBit,
        subject: Some("hello".into()),
        message_id: message.message_id.then(|| format!("<{}@example.org>", message.identity)),
        sender: "alice@example.org".into(),
        on_behalf_of: None,
    };
    let recipient = |text: &&str| Recipient { label: Label::To, address: Address::parse(text).unwrap() };
    let fields = |organization: &&str| RecordFields {
        id: RecordId::new(now, &OsEntropy),
        organization: (*organization).into(),
        original: original.clone(),
        recipients: message.recipients.iter().map(recipient).collect(),
        copy_of: None,
        replay: None,
        message_uuid: Uuid::nil(),
        boundary: Uuid::new_v4(),
        date: now,
        outcome_unknown: false,
        supplements: None,
        retry_came: false,
        owed: Vec::new(),
    };
    let mut records = Vec::new();
    for organization in &message.organizations {
        let first = fields(organization);
        for (place, archive) in message.archives.iter().enumerate() {
            let copy = RecordFields { id: RecordId::new(now, &OsEntropy), copy_of: Some(first.id), ..first.clone() };
            let fields = if place == 0 { first.clone() } else { copy };
            let (archive, copies) = ((*archive).to_owned(), message.copies);
            records.push(RecordDraft { fields, coalesce: message.coalesce, archive, copies });
        }
    }
    Draft { queue_id, records }
}
