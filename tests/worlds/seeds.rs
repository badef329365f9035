//! Runs many worlds, counts what happened in them, and says how to replay one that broke a promise.

use super::history::{History, Peer};
use super::plan::Plan;
use super::promises::{came_back, check, excuse};
use super::returns::{Kind, field};
use super::world::{self, Outcome};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How many worlds `cargo test` runs.
const USUAL: u64 = 300;

/// The seeds of this run: `WORLDS_SEEDS=from..to` (without `to`) or `WORLDS_SEEDS=seed`.
fn wanted() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WORLDS_SEEDS") else { return 0..USUAL };
    let number = |text: &str| text.trim().parse().expect("WORLDS_SEEDS is a number or from..to");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// Runs every `shares`th of the wanted worlds; ends the test when one breaks a promise.
pub fn run_share(share: u64, shares: u64) {
    let mut figures = Figures::default();
    let mut broken = Vec::new();
    let wanted = wanted();
    let alone = wanted.end - wanted.start == 1;
    for seed in wanted.filter(|seed| seed % shares == share) {
        let before = cpu();
        let outcome = world::run(&Plan::of(seed));
        let complaints = check(&outcome.history);
        figures.add(&outcome, cpu().saturating_sub(before));
        if std::env::var_os("WORLDS_EACH").is_some() {
            println!("seed {seed}: {} s simulated, {:.0?}", outcome.lasted / 1_000, cpu() - before);
        }
        if !complaints.is_empty() || (alone && std::env::var_os("WORLDS_TRACE").is_some()) {
            // One log is enough to begin with.
            if broken.is_empty() {
                outcome.lines.iter().for_each(|line| println!("{line}"));
            }
        }
        if !complaints.is_empty() {
            println!("seed {seed}: {}", complaints.join("\n  "));
            broken.push(seed);
        }
    }
    println!("{figures}");
    if let Some(first) = broken.first() {
        panic!(
            "worlds {broken:?} broke promises; replay one with\n  WORLDS_SEEDS={first} cargo test --test worlds \
             worlds_keep_what_is_promised -- --nocapture"
        );
    }
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0))
}

/// What happened in all worlds together.
#[derive(Default)]
struct Figures {
    worlds: u64,
    cpu: Duration,
    simulated_ms: u64,
    events: u64,
    attempts: usize,
    given_up: u64,
    relayed: usize,
    records: usize,
    unknown: usize,
    supplements: usize,
    reports: usize,
    bypassed: usize,
    gaps: usize,
    returned: BTreeMap<Kind, u64>,
    faults: BTreeMap<&'static str, u64>,
    repeats: BTreeMap<&'static str, u64>,
}

impl Figures {
    fn add(&mut self, outcome: &Outcome, cpu: Duration) {
        let history = &outcome.history;
        self.worlds += 1;
        self.cpu += cpu;
        self.simulated_ms += outcome.lasted;
        self.events += outcome.sum.0;
        self.attempts += history.attempts.len();
        self.given_up += history.given_up;
        let taken = |peer: Peer| history.arrivals.iter().filter(move |arrival| arrival.at == peer && arrival.taken);
        self.relayed += taken(Peer::NextHop).count();
        self.reports += taken(Peer::Reports).count();
        for (name, count) in &history.faults {
            *self.faults.entry(name).or_default() += count;
        }
        self.bypassed += history.log.iter().filter(|line| line.event == "record.bypassed").count();
        self.gaps += history.gaps.len();
        for returned in &history.returned {
            *self.returned.entry(returned.kind).or_default() += 1;
        }
        self.count_records(history);
    }

    fn count_records(&mut self, history: &History) {
        let mut seen: BTreeMap<&[u8], _> = BTreeMap::new();
        for arrival in history.arrivals.iter().filter(|arrival| arrival.at.is_archive() && arrival.taken) {
            let octets = arrival.octets.as_slice();
            if let Some(first) = seen.insert(octets, arrival) {
                let id = field(octets, "X-Journal-Record");
                let returned = came_back(history, &id, first.when, arrival.when).then_some("it came back");
                let reason = excuse(history, first, arrival.when).or(returned).unwrap_or("no reason");
                *self.repeats.entry(reason).or_default() += 1;
                continue;
            }
            self.records += 1;
            let has = |field: &[u8]| memchr::memmem::find(&octets[..octets.len().min(2_000)], field).is_some();
            self.unknown += usize::from(has(b"\r\nX-Journal-Outcome: unknown"));
            self.supplements += usize::from(has(b"\r\nX-Journal-Supplement: "));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.cpu / u32::try_from(self.worlds.max(1)).unwrap_or(1);
        writeln!(
            f,
            "{} worlds, {} s simulated, {} events, {:.1} s of processor time ({each:.0?} each)",
            self.worlds,
            self.simulated_ms / 1_000,
            self.events,
            self.cpu.as_secs_f64()
        )?;
        writeln!(
            f,
            "{} transactions tried, {} jobs given up, {} messages taken by the next hop, {} records ({} of unknown outcome, {} \
             supplements), {} reports",
            self.attempts, self.given_up, self.relayed, self.records, self.unknown, self.supplements, self.reports
        )?;
        writeln!(f, "faults: {:?}", self.faults)?;
        writeln!(f, "returned: {:?}; without a record: {} in {} gaps", self.returned, self.bypassed, self.gaps)?;
        write!(f, "repeats: {:?}", self.repeats)
    }
}
