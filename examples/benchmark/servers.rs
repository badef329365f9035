//! Who is measured: the relay, Postfix, Exim, Haraka and the floor, each with a queue on the disk in a directory of its own, started for one
//! round and ended after it.

use crate::Options;
use crate::common::{Postfix, Program, Running, RunningExim, cpu_ticks, free_port, own_loopback_address};
use crate::measure::{self, Group, TICK};
use crate::others;
use crate::sinks::{Side, Sinks};
use crate::work::Work;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    Relay,
    Postfix,
    Exim,
    Haraka,
    Floor,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "journal-relay",
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
            Self::Haraka => "Haraka",
            Self::Floor => "floor",
        }
    }

    /// Messages of a round.
    pub fn messages(self, work: &Work) -> u64 {
        match self {
            Self::Relay | Self::Floor => work.messages,
            Self::Postfix | Self::Exim | Self::Haraka => work.messages_of_others,
        }
    }
}

enum Child {
    One(Program),
    Postfix(Running),
    // The server ends before its group does.
    Exim(RunningExim, Group),
    Haraka(Program),
}

/// A server at work.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Server {
    pub fn start(kind: Kind, work: &Work, options: &Options, sinks: &Sinks) -> Self {
        let directory = &options.directory;
        let home = tempfile::tempdir_in(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let address = free_port(own_loopback_address());
        let child = match kind {
            Kind::Relay => Child::One(relay(address, work, options, sinks, home.path())),
            Kind::Floor => Child::One(floor(address, work, sinks, home.path())),
            Kind::Postfix => Child::Postfix(postfix(address, work, sinks, home.path())),
            Kind::Exim => {
                let (exim, group) = Group::start(|| others::exim(address, sinks, home.path()));
                Child::Exim(exim, group)
            }
            Kind::Haraka => {
                let program = others::haraka_program(options.haraka.as_deref()).expect("Haraka is there");
                Child::Haraka(others::haraka(&program, address, sinks, home.path()))
            }
        };
        let until = Instant::now() + STARTS_WITHIN;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "{} does not listen", kind.name());
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Self { child, address, _home: home }
    }

    /// Its processes, for who wants to trace them.
    pub fn pids(&self) -> Vec<u32> {
        match &self.child {
            Child::One(program) => vec![program.pid()],
            Child::Postfix(running) => running.pids(),
            Child::Exim(exim, group) => {
                [exim.pid()].into_iter().chain(group.pids().into_iter().filter(|pid| *pid != exim.pid())).collect()
            }
            Child::Haraka(program) => measure::family(program.pid()),
        }
    }

    /// CPU time so far, of children that have ended too.
    pub fn cpu(&self) -> Duration {
        let ticks = match &self.child {
            Child::One(program) => cpu_ticks(program.pid()).expect("the server runs"),
            Child::Postfix(running) => running.cpu_ticks(),
            Child::Haraka(program) => measure::family(program.pid()).into_iter().filter_map(cpu_ticks).sum(),
            Child::Exim(_, group) => return group.cpu(),
        };
        TICK * u32::try_from(ticks).expect("a short run")
    }

    /// The most memory used; of several processes the sum, in which what they share counts for each.
    pub fn peak_mib(&self) -> f64 {
        // Exim's processes have come and gone.
        if matches!(self.child, Child::Exim(..)) {
            return f64::NAN;
        }
        self.pids().into_iter().map(measure::peak_mib).sum()
    }
}

/// As an administrator sets it up; what is not said is the default. `coalesce` is of the work, since a benchmark of waiting
/// says nothing of speed. The log is a pipe, as under systemd.
fn relay(listen: SocketAddr, work: &Work, options: &Options, sinks: &Sinks, home: &Path) -> Program {
    let (next_hop, archive) = (sinks.address(Side::NextHop), sinks.address(Side::Archive));
    // An archive that is far away is sent to over more connections (docs/ROUTES.md), as the floor does.
    let far = if work.away[1].is_zero() { "" } else { "&connections=100" };
    let toml = format!(
        "hostname = \"relay.example.org\"\n[spool]\npath = {:?}\nallow_volatile = {}\n[[listener]]\nname = \"incoming\"\naddress = \"{listen}\"\n\
         next_hop = \"smtp://{next_hop}?tls=none\"\ntrusted_networks = [\"127.0.0.0/8\"]\n[listener.limits]\n\
         connections = 20000\n[[organization]]\nname = \"acme\"\ndomains = [\"example.org\"]\n\
         journaling_address = \"archive@vault.example\"\nreport_address = \"postmaster@example.org\"\n\
         journaling_route = \"smtp://{archive}?tls=none{far}\"\nreport_route = \"smtp://{archive}?tls=none\"\ncoalesce = \"{}\"\n\
         [log]\nformat = \"json\"\n{}",
        home.join("spool").display().to_string(),
        options.allow_volatile,
        work.coalesce,
        // Postfix tries every second or two what it has deferred (tests/common/postfix.rs).
        if work.is_backlog { "[retry]\nfirst = \"1s\"\nlongest = \"2s\"\n" } else { "" },
    );
    let config = home.join("config.toml");
    std::fs::write(&config, toml).expect("the configuration is writable");
    let mut command = Command::new(&options.program);
    command.args(["run", "--config"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = Program::start(&mut command);
    let log = program.child().stderr.take().expect("stderr is a pipe");
    std::thread::spawn(move || drain(log));
    program
}

/// Reads a log as cheaply as can be, now and then: what a pipe holds is some hundred lines. Its beginning is shown when the
/// server ends at once.
fn drain(mut log: ChildStderr) {
    let (mut block, mut first) = (vec![0; 64 * 1024], Vec::new());
    let start = Instant::now();
    while let Ok(count @ 1..) = log.read(&mut block) {
        if first.len() < 4_096 {
            first.extend_from_slice(&block[..count]);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if start.elapsed() < Duration::from_secs(1) {
        eprintln!("{}", String::from_utf8_lossy(&first));
    }
}

fn floor(listen: SocketAddr, work: &Work, sinks: &Sinks, home: &Path) -> Program {
    let own = std::env::current_exe().expect("this program");
    let address = |side| sinks.address(side).to_string();
    let mut command = Command::new(own);
    command.args(["floor-server", "--listen", &listen.to_string(), "--next-hop", &address(Side::NextHop)]);
    command.args(["--archive", &address(Side::Archive), "--log"]).arg(home.join("log"));
    // What is far away answers no sooner, so that only more connections help.
    if work.away.iter().any(|away| !away.is_zero()) {
        command.args(["--links", "100"]);
    }
    Program::start(&mut command)
}

/// A Postfix that does what the relay does as well as Postfix can: every message goes on and a copy to the archive. What
/// would hold it back without need (limits on connections, the brake on incoming mail) is off.
fn postfix(listen: SocketAddr, work: &Work, sinks: &Sinks, home: &Path) -> Running {
    let destination = |side: Side| format!("[{}]:{}", sinks.address(side).ip(), sinks.address(side).port());
    let processes = (200 + work.shape.idle).to_string();
    Postfix::new(listen, sinks.address(Side::NextHop))
        .with("always_bcc", "archive@vault.example")
        .with("transport_maps", &format!("inline:{{vault.example=smtp:{}}}", destination(Side::Archive)))
        .with("default_process_limit", &processes)
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
