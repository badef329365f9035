//! The benchmark: what the relay, a Postfix that archives with `always_bcc`, other mail servers and a bare program (the
//! floor) make of the same work on this machine, round by round in turn, each with its queue on the disk.
//!
//! ```text
//! cargo build --release && cargo run --release --example benchmark -- --work a,b --syncs
//! ```
//!
//! Load and sinks are two threads of this program; who is measured is a child process in a directory of its own, and its CPU
//! time is the system's account of it. A round ends when next hop and archive have every message and the server has nothing
//! left to do. Everything stays on this machine's loopback network and is bounded in number and time. `docs/PERFORMANCE.md`
//! says what the figures mean.

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

#[path = "../../tests/common/mod.rs"]
mod common;
mod floor;
mod grow;
mod load;
mod measure;
mod others;
mod rounds;
mod servers;
mod sinks;
mod table;
mod wire;
mod work;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use servers::Kind;
use std::path::PathBuf;
use table::Rounds;
use work::Work;

/// Idle connections for which servers that have a process for each take part.
const MOST_PROCESSES: usize = 2_000;

/// Measures the relay against Postfix and a bare program on the same work.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// Works, by letter, with commas between; "all" is each of them
    #[arg(long, default_value = "a", value_delimiter = ',')]
    work: Vec<String>,
    /// Instead: how the cost of a message grows, in one round for each step
    #[arg(long)]
    grow: Vec<grow::Grow>,
    /// Rounds of each server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Messages in a round, instead of the work's own number; Postfix gets a fifth
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    messages: Option<u64>,
    /// Idle connections in work g
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    idle: u32,
    /// Messages that arrive in work h while the archive is down
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    backlog: u64,
    /// Who is measured, with commas between: relay, postfix, exim, haraka, floor. Who is not installed is left out; Postfix and
    /// Exim need root
    #[arg(long, default_value = "relay,postfix,floor", value_delimiter = ',')]
    of: Vec<Kind>,
    /// Where `npm install Haraka` was run; otherwise it is looked for in PATH
    #[arg(long)]
    haraka: Option<PathBuf>,
    /// Count the calls that wait for the disk, in one more, slower round of each; needs strace
    #[arg(long)]
    syncs: bool,
    /// Print the tables as Markdown
    #[arg(long)]
    markdown: bool,
    /// The relay
    #[arg(long, default_value = "target/release/journal-relay")]
    program: PathBuf,
    /// Where spools and queues are made: a directory on a disk that others may enter
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
    /// Measure where the relay would not keep mail: in memory (tmpfs) or in a container's layer
    #[arg(long)]
    allow_volatile: bool,
    /// Seconds that a round may take
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=7_200))]
    limit: u64,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// The bare program; the benchmark starts it
    #[command(hide = true)]
    FloorServer(floor::Place),
}

impl Options {
    fn works(&self) -> Vec<Work> {
        let all = Work::all(self.idle as usize, self.backlog);
        let letters: Vec<_> = match &self.work[..] {
            [one] if one == "all" => all.iter().map(|work| work.letter.to_owned()).collect(),
            some => some.to_vec(),
        };
        let chosen = letters.iter().map(|letter| {
            let found = all.iter().find(|work| work.letter == letter);
            let mut work = found.unwrap_or_else(|| panic!("there is no work {letter}")).clone();
            if let Some(messages) = self.messages {
                (work.messages, work.messages_of_others) = (messages, messages.div_ceil(5));
            }
            work
        });
        chosen.collect()
    }

    /// Who takes part: those that are there and have what the work needs.
    fn kinds(&self, work: &Work) -> Vec<Kind> {
        let is_there = |kind: &Kind| match kind {
            // A process each, for thousands of connections that say nothing.
            Kind::Postfix | Kind::Exim if work.shape.idle > MOST_PROCESSES => false,
            Kind::Relay => true,
            Kind::Postfix => common::installed(&["postfix"]),
            Kind::Exim => others::has_exim(),
            Kind::Haraka => others::haraka_program(self.haraka.as_deref()).is_some(),
            // It has no queue to hold a backlog in.
            Kind::Floor => !work.is_backlog,
        };
        self.of.iter().copied().filter(is_there).collect()
    }
}

fn main() {
    let options = Options::parse();
    if let Some(Hidden::FloorServer(place)) = &options.hidden {
        floor::run(place);
    }
    // Idle connections are many; what is started here may have as many files open.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("files");
    assert!(options.program.is_file(), "{} is not there: cargo build --release", options.program.display());
    for grow in &options.grow {
        println!("{}", grow::grow(*grow, &options));
    }
    if !options.grow.is_empty() {
        return;
    }
    let mut all = Vec::new();
    for work in options.works() {
        let kinds = options.kinds(&work);
        let mut rounds = Rounds::new();
        for number in 1..=options.rounds {
            for kind in &kinds {
                let round = rounds::round(*kind, &work, &options);
                eprintln!(
                    "{} {number}: {:13} {:6.0} us, {:7.0}/s, accepted {:7.0}/s",
                    work.letter,
                    kind.name(),
                    round.cpu_us,
                    round.per_second,
                    round.accepted_per_second
                );
                rounds.entry(*kind).or_default().push(round);
            }
        }
        if options.syncs {
            for (kind, of_kind) in &mut rounds {
                let syncs = rounds::syncs(*kind, &work, &options);
                of_kind.iter_mut().for_each(|round| round.syncs = syncs);
            }
        }
        println!("{}", table::table(&work, &rounds, options.markdown));
        all.push((work, rounds));
    }
    if all.len() > 1 && options.of.contains(&Kind::Relay) {
        println!("{}", table::summary(&all, options.markdown));
    }
}
