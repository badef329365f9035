//! A whole delivery: a spool in a directory, a configuration that can change, records to send.

use super::*;
use crate::clock::SharedClock;
use crate::config::{
    Config, DeliveredWhen, Direction, Log, LogAddresses, LogFormat, OnFailure, Organization, Retry, Scope,
    Spool as SpoolConfig, UnlistedRecipients,
};
use crate::deliver::{Deliver, Delivery, NoMemory, start};
use crate::journal::{Label, MacKey, OctetsKind, Original, Recipient, RecordFields, message_uuid};
use crate::mail::QueueId;
use crate::net::SharedNetwork;
use crate::queue::State;
use crate::spool::{
    Archive, Copies, Draft, EmbeddedSpool, Filter, FrontBounds, Listing, MemorySpool, Options, RecordDraft, Spool, disk,
};
use crate::watch;
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// Everything a test needs; ends with [`World::end`].
pub(super) struct World {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) drain: Drain,
    clock: SharedClock,
    network: SharedNetwork,
    pub(super) resolver: Arc<dyn Resolver>,
    _directory: Option<tempfile::TempDir>,
}

/// Quick attempts, and no report before a week has passed.
pub(super) const RETRY: Retry = Retry {
    first: Duration::from_millis(10),
    longest: Duration::from_millis(10),
    give_up: Duration::from_secs(8 * 86_400),
    report_after: Duration::from_secs(7 * 86_400),
};

fn options(clock: SharedClock) -> Options {
    Options {
        disk: disk::system(),
        checkpoint_pages: crate::spool::CHECKPOINT_PAGES,
        inline_limit: crate::spool::INLINE_LIMIT,
        front: FrontBounds::default(),
        clock,
        keep_history: Duration::from_secs(86_400),
        message_uuid,
    }
}

/// Where every organization's records go.
pub(super) const ARCHIVE: &str = "archive@journal.example";

/// The archive of this organization.
pub(super) fn archive_of(organization: &str) -> Archive {
    Archive { organization: organization.to_owned(), key: ARCHIVE.to_owned() }
}

/// An organization whose records and reports go these ways.
pub(super) fn organization(name: &str, journaling_route: Route, report_route: Route) -> Organization {
    Organization {
        name: name.to_owned(),
        domains: Vec::new(),
        journaling: true,
        switch_reason: None,
        journaling_address: address(ARCHIVE),
        report_address: address("postmaster@acme.example"),
        journaling_route,
        also: Vec::new(),
        delivered_when: DeliveredWhen::All,
        retention: None,
        report_route,
        sender: address(&format!("amazonjournaling@{name}.awsapps.com")),
        unlisted_recipients: UnlistedRecipients::Bcc,
        recipients: crate::config::NamedRecipients::All,
        coalesce: Duration::ZERO,
        scope: Scope { directions: vec![Direction::Incoming], include: Vec::new(), exclude: Vec::new() },
    }
}

pub(super) fn config(organizations: Vec<Organization>, retry: Retry) -> Arc<Config> {
    Arc::new(Config {
        hostname: "relay.example.org".to_owned(),
        spool: SpoolConfig { path: "/nowhere".into(), allow_volatile: true, on_failure: OnFailure::Tempfail },
        listeners: Vec::new(),
        organizations,
        retry,
        admin: None,
        log: Log { format: LogFormat::Json, level: tracing::Level::INFO, addresses: LogAddresses::Full },
        trace_sessions: Vec::new(),
    })
}

impl World {
    /// A spool with nothing in it.
    pub(super) fn new(config: Arc<Config>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _) = EmbeddedSpool::open(&directory.path().join("spool"), options(clock::system())).unwrap();
        Self {
            spool: Arc::new(spool),
            config: watch::Sender::new(config),
            drain: Drain::default(),
            clock: clock::system(),
            network: crate::net::system(),
            resolver: Arc::new(Names::default()),
            _directory: Some(directory),
        }
    }

    /// The same with a spool in memory, under another clock and on another network: nothing of it takes real time.
    pub(super) fn simulated(config: Arc<Config>, clock: SharedClock, network: SharedNetwork) -> Self {
        Self {
            spool: Arc::new(MemorySpool::new(options(Arc::clone(&clock)))),
            config: watch::Sender::new(config),
            drain: Drain::default(),
            clock,
            network,
            resolver: Arc::new(Names::default()),
            _directory: None,
        }
    }

    /// Ends delivery and begins it anew, with what the spool remembers alone.
    pub(super) async fn restart(&mut self) {
        self.end().await;
        self.drain = Drain::default();
        self.start();
    }

    /// Delivers what is in it.
    pub(super) fn start(&self) -> Delivery {
        start(Deliver {
            spool: Arc::clone(&self.spool),
            config: self.config.subscribe(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::new(OsEntropy),
            mac_key: MacKey::from_bytes([7; 32]),
            drain: self.drain.clone(),
            resolver: Arc::clone(&self.resolver),
            network: Arc::clone(&self.network),
            policies: Arc::new(NoMemory),
        })
    }

    /// A spool whose contents are being delivered.
    pub(super) fn running(organizations: Vec<Organization>, retry: Retry) -> Self {
        let world = Self::new(config(organizations, retry));
        world.start();
        world
    }

    /// Relays `text` and waits until its record is due.
    pub(super) async fn commit(&self, organization: &str, text: &str) -> RecordId {
        let now = self.clock.now();
        let (queue_id, id) = (QueueId::new(now, &OsEntropy), RecordId::new(now, &OsEntropy));
        let digest = <[u8; 32]>::from(Sha256::digest(text));
        let original = Original {
            queue_id,
            received: now,
            reverse_path: ReversePath::Address(address("alice@elsewhere.example")),
            login: None,
            size: text.len() as u64,
            sha256: digest,
            identity: digest,
            kind: OctetsKind::SevenBit,
            subject: Some("Numbers".to_owned()),
            message_id: Some(format!("<{id}@elsewhere.example>")),
            sender: "alice@elsewhere.example".to_owned(),
            on_behalf_of: None,
        };
        let fields = RecordFields {
            id,
            organization: organization.to_owned(),
            original,
            recipients: vec![Recipient { label: Label::To, address: address("bob@acme.example") }],
            copy_of: None,
            replay: None,
            message_uuid: Uuid::nil(),
            boundary: Uuid::from_u128(u128::from_be_bytes(digest[..16].try_into().unwrap())),
            date: now,
            outcome_unknown: false,
            supplements: None,
            retry_came: false,
            owed: Vec::new(),
        };
        let mut intake = self.spool.begin(queue_id);
        intake.append(text.as_bytes()).await.unwrap();
        let records =
            vec![RecordDraft { fields, coalesce: Duration::ZERO, archive: ARCHIVE.to_owned(), copies: Copies::Alone }];
        self.spool.prepare(intake, Draft { queue_id, records }).await.unwrap();
        self.spool.decide(queue_id, crate::spool::Verdict::Accepted).await.unwrap();
        id
    }

    /// Ends delivery; whatever was under way has been settled then.
    pub(super) async fn end(&self) {
        self.drain.begin();
        self.drain.done().await;
    }

    pub(super) async fn listing(&self, id: RecordId) -> Listing {
        self.spool.show(id).await.unwrap().1
    }

    pub(super) async fn state(&self, id: RecordId) -> State {
        self.listing(id).await.state
    }

    /// How many records are in `state`.
    pub(super) async fn count(&self, state: State) -> usize {
        let filter = Filter { state: Some(state), ..Filter::default() };
        self.spool.list(filter, 1_000).await.unwrap().len()
    }
}
