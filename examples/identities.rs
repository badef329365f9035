//! What it costs to remember messages: the embedded spool with ten thousand, a hundred thousand and a million records that
//! archives have taken, how long a decision takes among them, and how much room each takes on the disk.
//!
//! ```text
//! cargo run --release --example identities                       # some minutes, and 2 GB below the temporary directory
//! cargo run --release --example identities -- --most 100000 --directory /var/tmp/spool
//! ```
//!
//! Every record comes the way that mail comes: octets observed, record drafted, prepared, decided, claimed and acknowledged
//! through the spool's trait, some hundreds at a time. At each size two kinds of message are decided, and the CPU time of the
//! whole process is taken (user and system, the spool's threads included): messages that the spool has not seen, and repeats
//! of ones that it remembers, chosen from all over its history. Everything is bounded by the sizes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measuring program: it may stop, and it stands outside the relay"
)]

use clap::Parser;
use journal_relay::clock::{self, SharedClock};
use journal_relay::config::{Config, Machine};
use journal_relay::journal::{HeaderFacts, Observer, message_uuid};
use journal_relay::mail::{Address, OsEntropy, QueueId, ReversePath, Timestamp};
use journal_relay::receive::{Envelope, draft_records};
use journal_relay::spool::{
    CHECKPOINT_PAGES, Draft, EmbeddedSpool, FrontBounds, INLINE_LIMIT, Options, Outcome, Spool, Verdict, disk,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;

/// Messages under way at a time.
const BATCH: u64 = 250;
/// Messages that are measured, of each kind.
const MEASURED: u64 = 10_000;
/// CPU time is told in ticks of this length (USER_HZ is 100 on every Linux).
const TICK_US: f64 = 10_000.0;
/// Whose they are.
const ORGANIZATION: &str = "acme";

/// Fills a spool with history and measures decisions among it.
#[derive(Debug, Parser)]
struct Given {
    /// Records in the largest history; each size before it is a tenth of the next
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    most: u64,
    /// Where the spool is made; it must not exist yet, and is kept
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// A message that has arrived.
struct Arrived {
    octets: Vec<u8>,
    draft: Draft,
}

struct Bench {
    spool: EmbeddedSpool,
    clock: SharedClock,
    config: Config,
}

impl Bench {
    fn open(directory: &Path) -> Self {
        let clock = clock::system();
        let options = Options {
            disk: disk::system(),
            clock: clock.clone(),
            keep_history: Duration::from_secs(8 * 86_400),
            checkpoint_pages: CHECKPOINT_PAGES,
            inline_limit: INLINE_LIMIT,
            front: FrontBounds::default(),
            message_uuid,
        };
        let (spool, _) = EmbeddedSpool::open(directory, options).expect("a spool");
        Self { spool, clock, config: config() }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Message `number`, the same whenever it comes, to three recipients.
    fn message(&self, number: u64) -> Arrived {
        let octets = format!(
            "Received: from client.example.com (client.example.com [192.0.2.1]) by mail.example.org\r\n\
             From: Alice Example <alice@example.org>\r\nTo: Bob Example <bob@example.net>, carol@example.net\r\n\
             Cc: dave@example.com\r\nSubject: About number {number} of many\r\nDate: Tue, 10 Nov 2026 10:00:00 +0000\r\n\
             Message-ID: <{number}.20261110100000@mail.example.org>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\nThis is number {number}.\r\n"
        )
        .into_bytes();
        let mut observer = Observer::new();
        observer.observe(&octets);
        let observation = observer.finish();
        let facts = HeaderFacts::read(&observation.header);
        let queue_id = QueueId::new(self.now(), &OsEntropy);
        let recipients = ["bob@example.net", "carol@example.net", "dave@example.com"];
        let envelope = Envelope {
            queue_id,
            received: self.now(),
            reverse_path: ReversePath::try_from("alice@example.org".to_owned()).expect("an address"),
            recipients: recipients.iter().map(|text| Address::parse(text).expect("an address")).collect(),
            login: None,
        };
        let records = draft_records(&self.config, &envelope, &observation, &facts, &OsEntropy);
        Arrived { octets, draft: Draft { queue_id, records } }
    }

    /// Has these messages kept and decided; gives the CPU time of that, in microseconds.
    async fn decide(&self, numbers: impl Iterator<Item = u64>) -> f64 {
        let arrived: Vec<_> = numbers.map(|number| self.message(number)).collect();
        let begun = cpu_us();
        let mut under_way = JoinSet::new();
        for Arrived { octets, draft } in arrived {
            if under_way.len() as u64 >= BATCH {
                under_way.join_next().await.expect("one is under way").expect("it ends");
            }
            let spool = self.spool.clone();
            under_way.spawn(async move {
                let queue_id = draft.queue_id;
                let mut intake = spool.begin(queue_id);
                intake.append(&octets).await.expect("octets are kept");
                spool.prepare(intake, draft).await.expect("a message is kept");
                spool.decide(queue_id, Verdict::Accepted).await.expect("a verdict is kept");
            });
        }
        while let Some(ended) = under_way.join_next().await {
            ended.expect("it ends");
        }
        cpu_us() - begun
    }

    /// Has the archive take everything that is due.
    async fn acknowledge(&self) {
        loop {
            let claims = self.spool.claim(&ORGANIZATION.into(), self.now(), BATCH as usize).await.expect("claims");
            if claims.is_empty() {
                return;
            }
            let now = self.now();
            let outcome = || Outcome::Acked { reply: "250 2.0.0 Ok: queued as 4d2XyZ0aBcz1".to_owned(), retain: false };
            let settled: Vec<_> =
                claims.iter().map(|claim| self.spool.settle(claim.fields.id, outcome(), now)).collect();
            for one in settled {
                one.await.expect("a result is kept");
            }
        }
    }
}

/// One organization, whose records are due at once.
fn config() -> Config {
    let text = format!(
        "hostname = \"relay.example.org\"\n[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:0\"\n\
         next_hop = \"smtp://127.0.0.1:10025\"\n[[organization]]\nname = \"{ORGANIZATION}\"\ndomains = [\"example.org\"]\n\
         journaling_address = \"archive@vault.example\"\nreport_address = \"postmaster@example.org\"\ncoalesce = \"0s\"\n"
    );
    let machine = Machine { hostname: "relay.example.org".to_owned(), stderr_is_terminal: false };
    Config::parse(&text, Path::new("identities.toml"), &machine).expect("a sound configuration")
}

/// CPU time of this process so far.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // Fields 14 and 15 are the twelfth and thirteenth behind the name (proc_pid_stat(5)).
    let behind = stat.rsplit_once(") ").expect("a name").1;
    behind.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() * TICK_US
}

/// Octets of a row's fields, on average over some.
fn fields_octets(directory: &Path) -> f64 {
    let db = rusqlite::Connection::open(directory.join("spool.sqlite")).expect("the database");
    let ask = "SELECT avg(length(fields)) FROM (SELECT fields FROM record LIMIT 10000)";
    db.query_row(ask, [], |row| row.get(0)).expect("an answer")
}

#[tokio::main]
async fn main() {
    let given = Given::parse();
    let own = tempfile::tempdir().expect("a temporary directory");
    let directory = given.directory.unwrap_or_else(|| own.path().join("spool"));
    assert!(!directory.exists(), "{} is there already", directory.display());
    println!(
        "{:>10} {:>14} {:>14} {:>12} {:>12}",
        "remembered", "new, CPU us", "repeat, CPU us", "octets each", "of fields"
    );
    let mut next = 0;
    for size in [given.most / 100, given.most / 10, given.most] {
        let bench = Bench::open(&directory);
        while next < size {
            let end = size.min(next + 20 * BATCH);
            bench.decide(next..end).await;
            bench.acknowledge().await;
            next = end;
        }
        bench.spool.close().await.expect("it closes");
        let octets = std::fs::metadata(directory.join("spool.sqlite")).expect("the database").len();
        // A repeat is one from all over the history: the step is prime to every size that is asked for.
        let bench = Bench::open(&directory);
        let repeats = bench.decide((0..MEASURED).map(|number| number * 7_919 % size)).await;
        let news = bench.decide(next..next + MEASURED).await;
        bench.acknowledge().await;
        next += MEASURED;
        bench.spool.close().await.expect("it closes");
        let each = |us: f64| us / MEASURED as f64;
        println!(
            "{size:>10} {:>14.1} {:>14.1} {:>12.0} {:>12.0}",
            each(news),
            each(repeats),
            octets as f64 / size as f64,
            fields_octets(&directory)
        );
    }
}
