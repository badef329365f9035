//! A round: a server is started, warmed up, given the work, and looked at until it has nothing left to do.

use crate::Options;
use crate::common::{Program, free_port, own_loopback_address, signal};
use crate::load::Load;
use crate::measure::{Thread, quantile, settled};
use crate::servers::{Kind, Server};
use crate::sinks::{Side, Sinks};
use crate::work::Work;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one round showed; times a message are in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Round {
    pub cpu_us: f64,
    /// Messages a second, from the first octet to the last record; where the archive was down, from the first record.
    pub per_second: f64,
    /// Messages a second, as the clients were answered.
    pub accepted_per_second: f64,
    /// From a message's first octet of content to its reply, milliseconds.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub peak_mib: f64,
    /// CPU time of the load, and of the sinks.
    pub load_us: f64,
    pub sinks_us: f64,
    /// Calls that wait for the disk, when they were counted.
    pub syncs: f64,
    /// Where the archive was down: until its first record once it was back, and once the server had tried it; milliseconds.
    pub after_return_ms: f64,
    pub after_probe_ms: f64,
}

/// The ends of a round, warmed up.
struct Bench {
    // The sinks end before the server does, so that it has nobody to retry.
    sinks: Sinks,
    load: Load,
    server: Server,
    until: Instant,
}

impl Bench {
    fn prepare(kind: Kind, work: &Work, options: &Options) -> Self {
        let until = Instant::now() + Duration::from_secs(options.limit);
        let addresses = [free_port(own_loopback_address()), free_port(own_loopback_address())];
        let sinks = Sinks::start(addresses, work.away);
        let server = Server::start(kind, work, options, &sinks);
        let mut shape = work.shape.clone();
        // Haraka answers 503 to an envelope that comes along with content.
        shape.is_ahead &= kind != Kind::Haraka;
        let mut load = Load::open(server.address, &shape, until);
        // Opens connections, starts processes, fills caches.
        let count = (10 * work.shape.sessions as u64).min(kind.messages(work) / 5).max(1);
        load.send(count, until);
        let bench = Self { sinks, load, server, until };
        bench.wait(count);
        settled(|| bench.server.cpu(), until);
        bench
    }

    /// Waits until both servers have so many messages.
    fn wait(&self, count: u64) {
        for (side, name) in [(Side::NextHop, "next hop"), (Side::Archive, "archive")] {
            let is_there = self.sinks.wait(side, count, self.until);
            assert!(is_there, "the {name} has {} of {count}", self.sinks.count(side));
        }
    }
}

/// One round.
pub fn round(kind: Kind, work: &Work, options: &Options) -> Round {
    Bench::prepare(kind, work, options).round(work, kind.messages(work))
}

/// Rounds of one server that remembers more and more messages.
pub fn remembering(kind: Kind, work: &Work, options: &Options, steps: &[u64]) -> Vec<(u64, Round)> {
    let mut bench = Bench::prepare(kind, work, options);
    let count = kind.messages(work);
    let one = |step: &u64| {
        let seen = bench.sinks.count(Side::Archive);
        if let Some(more) = step.checked_sub(seen).filter(|more| *more > 0) {
            bench.until = Instant::now() + Duration::from_secs(options.limit);
            bench.load.send(more, bench.until);
            bench.wait(seen + more);
            settled(|| bench.server.cpu(), bench.until);
        }
        (bench.sinks.count(Side::Archive), bench.round(work, count))
    };
    steps.iter().map(one).collect()
}

impl Bench {
    /// What becomes of so many messages.
    fn round(&mut self, work: &Work, count: u64) -> Round {
        let (own, warm) = (Thread::current(), self.sinks.count(Side::Archive));
        let before = (self.server.cpu(), own.cpu(), self.sinks.cpu());
        if work.is_backlog {
            self.sinks.turn(Side::Archive, true);
        }
        let mut outcome = self.load.send(count, self.until);
        let load = own.cpu() - before.1;
        if work.is_backlog {
            assert!(self.sinks.wait(Side::NextHop, warm + count, self.until), "the next hop lacks messages");
        }
        let back = Instant::now();
        self.sinks.turn(Side::Archive, false);
        self.wait(warm + count);
        let last = self.sinks.last(Side::NextHop).max(self.sinks.last(Side::Archive));
        let first = self.sinks.first(Side::Archive).expect("records have come");
        let probed = self.sinks.probed(Side::Archive).expect("connections have come");
        let cpu = settled(|| self.server.cpu(), self.until) - before.0;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let begun = if work.is_backlog { first } else { outcome.start };
        Round {
            cpu_us: each(cpu),
            per_second: count as f64 / (last - begun).as_secs_f64(),
            accepted_per_second: count as f64 / outcome.accepted.as_secs_f64(),
            p50_ms: ms(quantile(&mut outcome.waits, 0.5)),
            p99_ms: ms(quantile(&mut outcome.waits, 0.99)),
            peak_mib: self.server.peak_mib(),
            load_us: each(load),
            sinks_us: each(self.sinks.cpu() - before.2),
            syncs: f64::NAN,
            after_return_ms: ms(first.saturating_duration_since(back)),
            after_probe_ms: ms(first.saturating_duration_since(probed)),
        }
    }
}

/// Syncing calls a message, in a round of their own under strace, which slows it down.
pub fn syncs(kind: Kind, work: &Work, options: &Options) -> f64 {
    let mut bench = Bench::prepare(kind, work, options);
    let count = kind.messages(work).div_ceil(4);
    let warm = bench.sinks.count(Side::Archive);
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,msync,syncfs,sync", "-o"])
        .arg(output.path());
    let pids = bench.server.pids();
    pids.iter().for_each(|pid| {
        command.args(["-p", &pid.to_string()]);
    });
    let mut strace = Program::start(command.stderr(Stdio::piped()));
    let mut said = BufReader::new(strace.child().stderr.take().expect("stderr is a pipe")).lines();
    for _ in &pids {
        let line = said.next().and_then(Result::ok).unwrap_or_default();
        assert!(line.contains("attached"), "strace: {line}");
    }
    // It goes on telling of threads and children; nobody reads that, so somebody must.
    let rest = std::thread::spawn(move || said.count());
    bench.load.send(count, bench.until);
    bench.wait(warm + count);
    settled(|| bench.server.cpu(), bench.until);
    signal(strace.pid(), "INT");
    strace.wait(Duration::from_secs(30));
    let _ = rest.join();
    let table = std::fs::read_to_string(output.path()).unwrap_or_default();
    // Columns: % time, seconds, usecs/call, calls, errors (may be empty), name.
    let calls = table.lines().filter(|line| line.contains("sync") && !line.contains("total"));
    let calls: u64 = calls.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
    calls as f64 / count as f64
}
