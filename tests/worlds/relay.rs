//! The relay's host: starts the whole relay on the world's network, disk, time and chance, and does what it is told.

use super::clock::{SimClock, SimEntropy};
use super::history::{Chronicle, Entry, Trouble, Wrong};
use super::net::SimNetwork;
use super::operator::{Operator, Wish};
use super::trace::Trace;
use journal_relay::app::{Relay, Surroundings};
use journal_relay::config::{Config, Machine};
use journal_relay::deliver::NoMemory;
use journal_relay::mail::Entropy;
use journal_relay::receive::Allowance;
use journal_relay::spool::{Archive, Spool};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two starts on a disk that fails.
const RESTART: Duration = Duration::from_secs(2);

/// The organizations' names, and which archive each has.
pub const ORGANIZATIONS: [(&str, &str); 2] = [("north", "one"), ("south", "two")];
/// Whose records go to a second archive as well, where a world has that, …
pub const ALSO_OF: &str = "north";
/// … and there they are known as another organization's.
pub const ALSO: (&str, &str) = ("north's second archive", "also");

/// What the relay is told from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM.
    Drain,
    /// SIGHUP, with this file.
    Reload(String),
    /// Say what the spool has.
    Look,
    /// A queue command for one of the entries.
    Wish(Wish, u64),
    /// Nothing is to stay held or failed.
    TidyUp,
}

/// What the host and the world tell each other.
#[derive(Clone, Default)]
pub struct Control(Arc<Inner>);

#[derive(Default)]
struct Inner {
    orders: Mutex<VecDeque<Order>>,
    came: Notify,
    seen: Mutex<Seen>,
}

/// What is known of the relay.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Started, and not ended.
    pub is_up: bool,
    /// Drained to the end, how often.
    pub drained: u64,
    /// Looks answered.
    pub looks: u64,
    /// By the last look: entries that are live.
    pub live: Vec<Entry>,
    /// By the last look: records or reports wait for a time.
    pub is_due: bool,
    /// What start-up found last: records, and unknown ones.
    pub recovered: (u64, u64),
}

impl Control {
    pub fn order(&self, order: Order) {
        self.0.orders.lock().unwrap().push_back(order);
        self.0.came.notify_one();
    }

    pub fn seen(&self) -> Seen {
        self.0.seen.lock().unwrap().clone()
    }

    /// Forgets orders that nobody has heard: the relay is gone.
    pub fn gone(&self) {
        self.0.orders.lock().unwrap().clear();
        self.change(|seen| seen.is_up = false);
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.seen.lock().unwrap());
    }

    async fn next(&self) -> Order {
        loop {
            if let Some(order) = self.0.orders.lock().unwrap().pop_front() {
                return order;
            }
            self.0.came.notified().await;
        }
    }
}

/// All that a start of the relay needs.
#[derive(Clone)]
pub struct House {
    pub control: Control,
    pub network: SimNetwork,
    pub clock: SimClock,
    pub entropy: Arc<SimEntropy>,
    pub chronicle: Chronicle,
    pub trace: Trace,
    pub config: Arc<Mutex<String>>,
    pub spool: super::store::Store,
}

impl House {
    /// One life of the relay.
    pub async fn live(self) -> turmoil::Result {
        let _last = Farewell(self.network.clone());
        loop {
            let ended = self.work().await;
            // On a disk that fails nothing starts; whoever looks after the program starts it again.
            let is_helpless = ended.as_ref().is_err_and(|broken| broken.starts_with("start: ")) && self.disk_fails();
            if !is_helpless || self.network.power.is_off() {
                self.note_end(ended);
                break;
            }
            self.trace.note("the relay can't start on its disk");
            tokio::time::sleep(RESTART).await;
        }
        self.control.gone();
        Ok(())
    }

    fn disk_fails(&self) -> bool {
        let now = self.clock.millis();
        let covers = |trouble: &Trouble| trouble.what == Wrong::Disk && (trouble.from..=trouble.until).contains(&now);
        self.chronicle.write().troubles.iter().any(covers)
    }

    fn note_end(&self, ended: Result<(), String>) {
        if let Err(broken) = ended
            && !self.network.power.is_off()
        {
            self.trace.note(format!("the relay does not work: {broken}"));
            self.chronicle.write().broken.push(broken);
        }
    }

    async fn work(&self) -> Result<(), String> {
        let text = self.config.lock().unwrap().clone();
        let config = parse(&text)?;
        let (spool, recovered) = self.spool.open(&config, &self.clock).map_err(|error| format!("start: {error}"))?;
        self.trace.note(format!("the spool is open: {recovered:?}"));
        let surroundings = Surroundings {
            allowance: Allowance::ENDLESS,
            spool: Arc::clone(&spool),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::clone(&self.entropy) as Arc<dyn Entropy>,
            network: Arc::new(self.network.clone()),
            resolver: Arc::new(self.network.clone()),
            policies: Arc::new(NoMemory),
        };
        let mut relay = Relay::start(config, surroundings).await.map_err(|error| format!("start: {error}"))?;
        self.control.change(|seen| {
            seen.is_up = true;
            seen.recovered = recovered;
        });
        loop {
            match self.control.next().await {
                Order::Drain => {
                    relay.drain(std::future::pending()).await;
                    self.control.change(|seen| seen.drained += 1);
                    return Ok(());
                }
                Order::Reload(text) => {
                    *self.config.lock().unwrap() = text.clone();
                    relay.reconfigure(parse(&text)?).await?;
                }
                Order::Look => self.look(&*spool).await,
                Order::Wish(wish, which) => self.operator(&*spool).wish(wish, which).await,
                Order::TidyUp => self.operator(&*spool).tidy_up().await,
            }
        }
    }

    fn operator<'s>(&'s self, spool: &'s dyn Spool) -> Operator<'s> {
        Operator { spool, clock: &self.clock, chronicle: &self.chronicle, trace: &self.trace }
    }

    async fn look(&self, spool: &dyn Spool) {
        let Some(whole) = self.operator(spool).look().await else { return };
        let Some(gaps) = self.operator(spool).gaps().await else { return };
        let is_live = |entry: &&Entry| !matches!(entry.state.as_str(), "acked" | "discarded");
        let live = whole.iter().filter(is_live).cloned().collect();
        let mut is_due = false;
        for (organization, archive) in ORGANIZATIONS.into_iter().chain([(ALSO_OF, ALSO.1)]) {
            let archive = Archive { organization: organization.to_owned(), key: format!("archive@{archive}.example") };
            is_due |= spool.next_due(&archive).await.ok().flatten().is_some();
        }
        {
            let mut history = self.chronicle.write();
            (history.spool, history.gaps) = (whole, gaps);
        }
        self.control.change(|seen| {
            seen.looks += 1;
            seen.live = live;
            seen.is_due = is_due;
        });
    }
}

fn parse(text: &str) -> Result<Arc<Config>, String> {
    let machine = Machine { hostname: "relay.example".to_owned(), stderr_is_terminal: false };
    Config::parse(text, Path::new("config.toml"), &machine).map(Arc::new).map_err(|error| error.to_string())
}

/// Dropped with the host's program, behind all its tasks.
struct Farewell(SimNetwork);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.close_all();
    }
}

/// What of a world's configuration is the same in all its versions.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// `coalesce` of the organizations.
    pub coalesce: [&'static str; 2],
    /// `spool.on_failure = "bypass"`.
    pub bypass: bool,
    /// An organization has a second archive.
    pub also: bool,
}

/// A configuration of the world; `version` changes what a reload may change.
pub fn config(shape: Shape, version: u64) -> String {
    let on_failure = if shape.bypass { "bypass" } else { "tempfail" };
    let mut text = format!(
        "hostname = \"relay.example\"\n[spool]\npath = \"/disk/spool\"\non_failure = \"{on_failure}\"\n[[listener]]\nname = \"in\"\naddress = \"0.0.0.0:25\"\n\
         next_hop = \"smtp://next-hop.example:25?tls=none\"\ntrusted_networks = [\"192.168.0.0/16\"]\n\
         max_message_size = \"{}MiB\"\n[retry]\nfirst = \"{}s\"\nlongest = \"{}s\"\nreport_after = \"20s\"\n",
        4 + version % 2,
        1 + version % 2,
        4 + version % 3,
    );
    // The archives change places: each takes what comes for the other.
    let hosts = if version % 4 == 2 { ["two", "one"] } else { ["one", "two"] };
    for (((name, archive), coalesce), host) in ORGANIZATIONS.into_iter().zip(shape.coalesce).zip(hosts) {
        let mut archives = vec![(archive, host)];
        if shape.also && name == ALSO_OF {
            archives.push((ALSO.1, hosts[1]));
        }
        if version % 4 == 3 {
            // Which one is the first makes no difference to anybody.
            archives.reverse();
        }
        let keys = |(archive, host): (&str, &str), between: &str| {
            format!(
                "journaling_address = \"archive@{archive}.example\"{between}\
                 journaling_route = \"smtp://{host}.example:25?tls=none\""
            )
        };
        let first = keys(archives.remove(0), "\n");
        let also: Vec<_> = archives.into_iter().map(|archive| format!("{{ {} }}", keys(archive, ", "))).collect();
        text.push_str(&format!(
            "[[organization]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n{first}\n\
             report_address = \"postmaster@{name}.example\"\nreport_route = \"smtp://reports.example:25?tls=none\"\n\
             coalesce = \"{coalesce}\"\nalso = [{}]\n",
            also.join(", ")
        ));
    }
    text
}
