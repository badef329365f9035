//! A repeatable load: how many messages a second the relay carries end to end, what each costs in CPU time, and the same for a
//! Postfix that archives with `always_bcc`, measured in turn on the same machine.
//!
//! ```text
//! cargo build --release && cargo run --release --example load -- --messages 5000 --postfix
//! ```
//!
//! The clients, the next hop and the archive are threads of this program; the relay (or a private Postfix, which needs root)
//! is a child process with a durable spool in a directory of its own. A round ends when the next hop and the archive have
//! every message. Everything stays on this machine's loopback network and is bounded in number and time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    reason = "a measuring program: it may stop, and it stands outside the relay"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use clap::Parser;
use common::{
    Client, FarLink, Postfix, Program, Relay, Running, Setup, Sink, cpu_ticks, free_port, own_loopback_address, signal,
    stuff,
};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// CPU time is told in ticks of this length (USER_HZ is 100 on every Linux).
const TICK_US: f64 = 10_000.0;

/// Sends a load through the relay, and through Postfix for comparison.
#[derive(Debug, Parser)]
struct Options {
    /// Messages in a round
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
    /// Octets of a message
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(400..=64 << 20))]
    size: u32,
    /// Connections at once, each used for many messages
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    sessions: u32,
    /// Rounds of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds of a round trip to the next hop
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    next_hop_away: u64,
    /// Milliseconds of a round trip to the archive
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    archive_away: u64,
    /// Measure Postfix with always_bcc too, in turn with the relay; needs root
    #[arg(long)]
    postfix: bool,
    /// Count the calls that wait for the disk, in one more, slower round of each; needs strace
    #[arg(long)]
    syncs: bool,
    /// The relay
    #[arg(long, default_value = "target/release/journal-relay")]
    program: PathBuf,
    /// Where spools and queues are made; default: the system's temporary directory, which may not be on a disk
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Seconds that a round may take
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    limit: u64,
}

fn main() {
    let options = Options::parse();
    assert!(options.program.is_file(), "{} is not there: cargo build --release", options.program.display());
    println!(
        "{} messages of {} octets over {} sessions, {} rounds; next hop {} ms away, archive {} ms",
        options.messages, options.size, options.sessions, options.rounds, options.next_hop_away, options.archive_away
    );
    let (mut relay, mut postfix) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        relay.push(Round::of_relay(&options));
        relay.last().unwrap().print("relay", round);
        if options.postfix {
            postfix.push(Round::of_postfix(&options));
            postfix.last().unwrap().print("postfix", round);
        }
    }
    println!();
    summary("relay", &relay);
    if options.postfix {
        summary("postfix", &postfix);
        let ratio = |value: fn(&Round) -> f64| median(&postfix, value) / median(&relay, value);
        println!("relay to postfix: {:.2} times as many messages a second", 1.0 / ratio(|round| round.per_second));
        println!("relay to postfix: {:.2} times as little CPU time a message", ratio(|round| round.cpu_us));
    }
    if options.syncs {
        println!();
        count_syncs(&options);
    }
}

/// What one round showed.
struct Round {
    /// Messages a second, from the first octet to the last record.
    per_second: f64,
    /// Messages a second, as the clients were answered.
    accepted_per_second: f64,
    /// Microseconds of CPU time a message.
    cpu_us: f64,
    /// The most memory used, MiB; of the relay alone.
    peak_mib: Option<f64>,
}

impl Round {
    fn of_relay(options: &Options) -> Self {
        let (next_hop, archive) = (Sink::counting(), Sink::counting());
        let relay = start_relay(options, &next_hop, &archive);
        let sides = Sides { server: relay.address(), next_hop: &next_hop, archive: &archive };
        sides.warm_up(options);
        let warm = archive.count();
        relay.wait_events("record.acked", warm);
        let before = cpu_ticks(relay.pid()).unwrap();
        let (accepted, took) = sides.load(options);
        // The archive's last replies are part of the work.
        let patience = Instant::now() + Duration::from_secs(options.limit);
        while relay.count("record.acked") < warm + options.messages as usize && Instant::now() < patience {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let ticks = cpu_ticks(relay.pid()).unwrap() - before;
        let mut round = Self::new(options, accepted, took, ticks);
        round.peak_mib = Some(relay.peak_memory_kib() as f64 / 1024.0);
        round
    }

    fn of_postfix(options: &Options) -> Self {
        let (next_hop, archive) = (Sink::counting(), Sink::counting());
        let home = home(options);
        let postfix = start_postfix(options, home.path(), &next_hop, &archive);
        let sides = Sides { server: postfix.address, next_hop: &next_hop, archive: &archive };
        sides.warm_up(options);
        let before = postfix.cpu_ticks();
        let (accepted, took) = sides.load(options);
        Self::new(options, accepted, took, postfix.cpu_ticks() - before)
    }

    fn new(options: &Options, accepted: Duration, took: Duration, ticks: u64) -> Self {
        let messages = f64::from(options.messages);
        Self {
            per_second: messages / took.as_secs_f64(),
            accepted_per_second: messages / accepted.as_secs_f64(),
            cpu_us: ticks as f64 * TICK_US / messages,
            peak_mib: None,
        }
    }

    fn print(&self, name: &str, round: u32) {
        let peak = self.peak_mib.map(|peak| format!(", at most {peak:.1} MiB")).unwrap_or_default();
        println!(
            "{name:8} {round}: {:7.0} messages/s end to end, {:7.0} accepted/s, {:6.0} us CPU a message{peak}",
            self.per_second, self.accepted_per_second, self.cpu_us
        );
    }
}

fn summary(name: &str, rounds: &[Round]) {
    let spread = |value: fn(&Round) -> f64| {
        let values = rounds.iter().map(value);
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        format!("{:.0} ({low:.0} to {high:.0})", median(rounds, value))
    };
    println!(
        "{name:8} median: {} messages/s end to end, {} us CPU a message",
        spread(|round| round.per_second),
        spread(|round| round.cpu_us)
    );
}

fn median(rounds: &[Round], value: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn home(options: &Options) -> tempfile::TempDir {
    let directory = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    tempfile::tempdir_in(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
}

fn start_relay(options: &Options, next_hop: &Sink, archive: &Sink) -> Relay {
    let route = |address: SocketAddr| format!("smtp://{address}?tls=none");
    let (next_hop, archive) = places(options, next_hop, archive);
    let mut setup = Setup::with_routes(&route(next_hop), &route(archive));
    setup.program.clone_from(&options.program);
    setup.start_in(home(options))
}

/// Where next hop and archive are reached: behind a link that takes its time, where they are to be away.
fn places(options: &Options, next_hop: &Sink, archive: &Sink) -> (SocketAddr, SocketAddr) {
    let place = |server: &Sink, away: u64| match away {
        0 => server.address(),
        away => FarLink::to(server.address(), Duration::from_millis(away) / 2).address(),
    };
    (place(next_hop, options.next_hop_away), place(archive, options.archive_away))
}

/// A Postfix that does what the relay does as well as Postfix can: every message goes on and a copy to the archive. What
/// would hold it back without need (limits on connections, the brake on incoming mail) is off.
fn start_postfix(options: &Options, home: &Path, next_hop: &Sink, archive: &Sink) -> Running {
    let (next_hop, archive) = places(options, next_hop, archive);
    let destination = |address: SocketAddr| format!("[{}]:{}", address.ip(), address.port());
    Postfix::new(free_port(own_loopback_address()), next_hop)
        .with("always_bcc", "archive@vault.example")
        .with("transport_maps", &format!("inline:{{vault.example=smtp:{}}}", destination(archive)))
        .with("default_process_limit", "200")
        .with("default_destination_concurrency_limit", "50")
        .with("initial_destination_concurrency", "20")
        .with("smtp_connection_cache_on_demand", "yes")
        .with("smtp_connection_reuse_time_limit", "300s")
        .with("smtpd_client_connection_count_limit", "0")
        .with("smtpd_client_connection_rate_limit", "0")
        .with("in_flow_delay", "0")
        .with("message_size_limit", "0")
        .with("smtpd_discard_ehlo_keywords", "chunking")
        .start(home)
}

/// The four ends of a round.
struct Sides<'a> {
    server: SocketAddr,
    next_hop: &'a Sink,
    archive: &'a Sink,
}

impl Sides<'_> {
    /// Opens connections, starts processes, fills caches.
    fn warm_up(&self, options: &Options) {
        self.send(options, 10 * options.sessions, Duration::from_secs(options.limit));
    }

    /// How long the clients waited for all their replies, and the archive for the last record.
    fn load(&self, options: &Options) -> (Duration, Duration) {
        self.send(options, options.messages, Duration::from_secs(options.limit))
    }

    fn send(&self, options: &Options, count: u32, limit: Duration) -> (Duration, Duration) {
        let count = count as usize;
        let goals = (self.next_hop.count() + count, self.archive.count() + count);
        let body = body(options.size as usize);
        let next = AtomicUsize::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..options.sessions {
                scope.spawn(|| {
                    let mut client = Client::ehlo(self.server);
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        assert!(start.elapsed() < limit, "the limit of {limit:?} is over after {number} messages");
                        send_one(&mut client, &body);
                    }
                });
            }
        });
        let accepted = start.elapsed();
        let left = || limit.saturating_sub(start.elapsed());
        assert!(
            self.next_hop.wait_for_within(goals.0, left()),
            "the next hop has {} of {}",
            self.next_hop.count(),
            goals.0
        );
        assert!(
            self.archive.wait_for_within(goals.1, left()),
            "the archive has {} of {}",
            self.archive.count(),
            goals.1
        );
        (accepted, start.elapsed())
    }
}

/// One message as a good client sends it: commands in one group (RFC 2920), the data in one piece.
fn send_one(client: &mut Client, body: &[u8]) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    client.send(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n");
    for expected in ["250", "250", "354"] {
        client.reply().starts(expected);
    }
    let header = format!(
        "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: load {number}\r\n\
         Date: Tue, 10 Nov 2026 10:00:00 +0000\r\nMessage-ID: <load-{number}@example.org>\r\nX-Number: {number:0100}\r\n\r\n"
    );
    client.send(&[header.as_bytes(), body].concat());
    client.reply().starts("250");
}

/// Lines of text that, dot-stuffed and with a header of some 300 octets before them, make a message of that size.
fn body(size: usize) -> Vec<u8> {
    let line = b"The quick brown fox jumps over the lazy dog, and the relay keeps it all.\r\n";
    let lines = size.saturating_sub(300) / line.len() + 1;
    stuff(&line.repeat(lines))
}

/// One round of each under strace, which slows it down, so that it is not part of the measurement.
fn count_syncs(options: &Options) {
    let (next_hop, archive) = (Sink::counting(), Sink::counting());
    let relay = start_relay(options, &next_hop, &archive);
    let sides = Sides { server: relay.address(), next_hop: &next_hop, archive: &archive };
    let calls = under_strace(&[relay.pid()], || sides.load(options));
    println!("relay    syncs a message: {:.2}", calls as f64 / f64::from(options.messages));
    drop(relay);
    if options.postfix {
        let (next_hop, archive) = (Sink::counting(), Sink::counting());
        let home = home(options);
        let postfix = start_postfix(options, home.path(), &next_hop, &archive);
        let sides = Sides { server: postfix.address, next_hop: &next_hop, archive: &archive };
        let calls = under_strace(&postfix.pids(), || sides.load(options));
        println!("postfix  syncs a message: {:.2}", calls as f64 / f64::from(options.messages));
    }
}

/// How many syncing calls those processes and their children make during the load.
fn under_strace<T>(pids: &[u32], load: impl FnOnce() -> T) -> u64 {
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,msync,syncfs,sync", "-o"])
        .arg(output.path());
    pids.iter().for_each(|pid| {
        command.args(["-p", &pid.to_string()]);
    });
    let mut strace = Program::start(command.stderr(Stdio::piped()));
    let mut said = BufReader::new(strace.child().stderr.take().expect("stderr is a pipe")).lines();
    for _ in pids {
        let line = said.next().and_then(Result::ok).unwrap_or_default();
        assert!(line.contains("attached"), "strace: {line}");
    }
    // It goes on telling of threads and children; nobody reads that, so somebody must.
    let rest = std::thread::spawn(move || said.count());
    load();
    signal(strace.pid(), "INT");
    strace.wait(Duration::from_secs(30));
    let _ = rest.join();
    let table = std::fs::read_to_string(output.path()).unwrap_or_default();
    // Columns: % time, seconds, usecs/call, calls, errors (may be empty), name.
    let calls = table.lines().filter(|line| line.contains("sync") && !line.contains("total"));
    calls.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum()
}
