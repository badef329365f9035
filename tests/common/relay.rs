//! The real daemon as a child process: a configuration in a directory of its own, its log read line by line as events.

use super::program::{Program, pause, signal};
use super::{PATIENCE, Sink, gave_up, own_loopback_address};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The program under test.
const PROGRAM: Option<&str> = option_env!("CARGO_BIN_EXE_journal-relay");

/// One line of the log.
#[derive(Debug, Clone)]
pub struct Event(pub serde_json::Value);

impl Event {
    pub fn name(&self) -> &str {
        self.text("event")
    }

    /// A field as text; empty when it is absent or no text.
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.0[key].as_u64()
    }
}

/// One organization of the configuration.
#[derive(Debug, Clone)]
pub struct Organization {
    pub name: String,
    pub domains: Vec<String>,
    pub route: String,
    pub report_route: String,
    /// More lines of its table.
    pub more: String,
}

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub program: PathBuf,
    pub listen: SocketAddr,
    pub next_hop: String,
    pub trusted: bool,
    /// Who is trusted, as TOML, instead.
    pub trusted_networks: Option<String>,
    pub organizations: Vec<Organization>,
    pub retry_first: String,
    pub retry_longest: String,
    pub report_after: String,
    /// Elsewhere than in the daemon's home.
    pub spool: Option<PathBuf>,
    /// More lines of the listener's table.
    pub listener: String,
    /// More lines behind everything.
    pub more: String,
    pub log_level: String,
}

impl Setup {
    /// One organization `acme` with example.org; clients on this machine may send to any domain; records are tried again
    /// soon.
    pub fn new(next_hop: &Sink, archive: &Sink) -> Self {
        Self::with_routes(&next_hop.route(), &archive.route())
    }

    pub fn with_routes(next_hop: &str, archive: &str) -> Self {
        let acme = Organization {
            name: "acme".into(),
            domains: vec!["example.org".into()],
            route: archive.into(),
            report_route: archive.into(),
            more: String::new(),
        };
        Self {
            program: PROGRAM.map(PathBuf::from).unwrap_or_default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            next_hop: next_hop.into(),
            trusted: true,
            trusted_networks: None,
            organizations: vec![acme],
            retry_first: "200ms".into(),
            retry_longest: "1s".into(),
            report_after: "4h".into(),
            spool: None,
            listener: String::new(),
            more: String::new(),
            log_level: "info".into(),
        }
    }

    /// Notifications go here.
    pub fn reporting_to(mut self, sink: &Sink) -> Self {
        for organization in &mut self.organizations {
            organization.report_route = sink.route();
        }
        self
    }

    /// One more organization.
    pub fn and(mut self, name: &str, domains: &[&str], archive: &Sink) -> Self {
        self.organizations.push(Organization {
            name: name.into(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            route: archive.route(),
            report_route: archive.route(),
            more: String::new(),
        });
        self
    }

    /// Clients may send to the organizations' domains alone.
    pub fn trusting_nobody(mut self) -> Self {
        self.trusted = false;
        self
    }

    /// A listener at the same address after every restart.
    pub fn at_a_fixed_address(mut self) -> Self {
        self.listen = super::free_port(own_loopback_address());
        self
    }

    /// Starts the daemon and waits until it listens.
    #[track_caller]
    pub fn start(&self) -> Relay {
        self.start_in(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The same, with configuration and spool in a directory of the caller's choice.
    #[track_caller]
    pub fn start_in(&self, home: tempfile::TempDir) -> Relay {
        let mut relay = Relay::prepare(self.clone(), home);
        relay.launch();
        relay
    }

    /// The configuration file's text.
    pub fn toml(&self, spool: &Path) -> String {
        let trusted = if self.trusted { r#"["127.0.0.0/8", "::1"]"# } else { "[]" };
        let trusted = self.trusted_networks.as_deref().unwrap_or(trusted);
        let mut toml = format!(
            "hostname = \"relay.example.org\"\n\n[spool]\npath = {:?}\nallow_volatile = true\n\n[[listener]]\nname = \"incoming\"\n\
             address = \"{}\"\nnext_hop = {:?}\ntrusted_networks = {trusted}\n{}\n",
            spool.display().to_string(),
            self.listen,
            self.next_hop,
            self.listener,
        );
        for organization in &self.organizations {
            let _ = write!(
                toml,
                "\n[[organization]]\nname = {:?}\ndomains = {:?}\njournaling_address = \"archive@vault.example\"\n\
                 report_address = \"postmaster@{}\"\njournaling_route = {:?}\nreport_route = {:?}\n{}\n",
                organization.name,
                organization.domains,
                organization.domains.first().map_or("example.org", |domain| domain.trim_start_matches("*.")),
                organization.route,
                organization.report_route,
                if organization.more.contains("coalesce") {
                    organization.more.clone()
                } else {
                    format!("coalesce = \"0s\"\n{}", organization.more)
                },
            );
        }
        let _ = write!(
            toml,
            "\n[retry]\nfirst = {:?}\nlongest = {:?}\nreport_after = {:?}\n\n[log]\nformat = \"json\"\nlevel = {:?}\n{}",
            self.retry_first, self.retry_longest, self.report_after, self.log_level, self.more,
        );
        toml
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    events: Vec<Event>,
    noise: Vec<String>,
    ended: bool,
}

/// The daemon.
pub struct Relay {
    setup: Setup,
    home: tempfile::TempDir,
    program: Option<Program>,
    log: Arc<Log>,
    address: Option<SocketAddr>,
}

impl Relay {
    /// Configuration and directory, nothing started yet.
    pub fn prepare(setup: Setup, home: tempfile::TempDir) -> Self {
        let relay = Self { setup, home, program: None, log: Arc::default(), address: None };
        relay.configure(&relay.setup.toml(&relay.spool()));
        relay
    }

    /// Starts the daemon, again too, and waits until it listens.
    #[track_caller]
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn launch_with(&mut self, arguments: &[&str]) {
        self.log = Arc::default();
        let mut command = Command::new(&self.setup.program);
        command
            .args(["run", "--config"])
            .arg(self.config())
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut program = Program::start(&mut command);
        let stderr = program.child().stderr.take().expect("stderr is a pipe");
        self.program = Some(program);
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || listen(BufReader::new(stderr), &log));
        let started = self.wait_event("listener.started", |event| event.text("listener") != "admin");
        self.address = Some(started.text("address").parse().unwrap_or_else(|error| panic!("{error}: {started:?}")));
    }

    pub fn address(&self) -> SocketAddr {
        self.address.expect("the daemon has been started")
    }

    pub fn pid(&self) -> u32 {
        self.program.as_ref().expect("the daemon runs").pid()
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join("config.toml")
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn spool(&self) -> PathBuf {
        self.setup.spool.clone().unwrap_or_else(|| self.home.path().join("spool"))
    }

    /// Replaces the configuration file.
    pub fn configure(&self, toml: &str) {
        std::fs::write(self.config(), toml).expect("the configuration is writable");
    }

    /// How many events of that name there are so far.
    pub fn count(&self, name: &str) -> usize {
        lock(&self.log.lines).events.iter().filter(|event| event.name() == name).count()
    }

    /// Every event so far.
    pub fn events(&self, name: &str) -> Vec<Event> {
        lock(&self.log.lines).events.iter().filter(|event| event.name() == name).cloned().collect()
    }

    /// Every line of the log so far.
    pub fn everything(&self) -> Vec<String> {
        let lines = lock(&self.log.lines);
        lines.events.iter().map(|event| event.0.to_string()).chain(lines.noise.iter().cloned()).collect()
    }

    /// Waits for the first event of that name for which the predicate holds.
    #[track_caller]
    pub fn wait_event(&self, name: &str, matches: impl Fn(&Event) -> bool) -> Event {
        self.wait(&format!("the event {name}"), |events| {
            events.iter().find(|event| event.name() == name && matches(event)).cloned()
        })
    }

    /// Waits until there are so many events of that name.
    #[track_caller]
    pub fn wait_events(&self, name: &str, count: usize) -> Vec<Event> {
        self.wait(&format!("{count} events {name}"), |events| {
            let found: Vec<_> = events.iter().filter(|event| event.name() == name).cloned().collect();
            (found.len() >= count).then_some(found)
        })
    }

    #[track_caller]
    fn wait<T>(&self, awaited: &str, look: impl Fn(&[Event]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = lock(&self.log.lines);
        loop {
            if let Some(found) = look(&lines.events) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended {
                let last = (lines.ended, last_lines(&lines));
                drop(lines);
                gave_up(&format!("{awaited} (log ended, last lines)"), &last);
            }
            lines = self.log.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(program) = &mut self.program {
            program.kill();
        }
        self.program = None;
    }

    /// SIGTERM, without waiting for the end.
    pub fn ask_to_end(&self) {
        signal(self.pid(), "TERM");
    }

    /// SIGHUP.
    pub fn ask_to_reload(&self) {
        signal(self.pid(), "HUP");
    }

    /// Waits for the daemon's end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut program = self.program.take().expect("the daemon runs");
        let status = program.wait(PATIENCE);
        // What it wrote last is read before anybody looks.
        let _ = self.log.changed.wait_timeout_while(lock(&self.log.lines), PATIENCE, |lines| !lines.ended);
        status.unwrap_or_else(|| gave_up("the daemon's end", &last_lines(&lock(&self.log.lines))))
    }

    /// SIGTERM, and the end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.ended()
    }

    /// Ends the daemon and tells what its spool still holds: after this nothing more can arrive anywhere.
    #[track_caller]
    pub fn finish(&mut self) -> Vec<serde_json::Value> {
        let status = self.terminate();
        assert_eq!(status.code(), Some(0), "the daemon's exit status; {:#?}", last_lines(&lock(&self.log.lines)));
        assert_eq!(lock(&self.log.lines).noise, [""; 0], "every line of the log is a JSON object");
        self.queue()
    }

    /// Waits until so many records are acknowledged by an archive, ends the daemon, and finds its spool empty.
    #[track_caller]
    pub fn finish_clean(&mut self, acked: usize) {
        self.wait_events("record.acked", acked);
        assert_eq!(self.finish(), [(); 0].map(|()| serde_json::Value::Null), "nothing is left in the spool");
        assert_eq!(self.events("record.acked").len(), acked, "records acknowledged");
    }

    /// `queue list --json`, one value a line.
    #[track_caller]
    pub fn queue(&self) -> Vec<serde_json::Value> {
        let output = self.command(&["queue", "list", "--json"]);
        assert!(output.status.success(), "{output:?}");
        json_lines(&output.stdout)
    }

    /// Runs a command with this daemon's configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.setup.program);
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The most memory the daemon has used so far, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// The memory it uses now, in KiB.
    pub fn resident_memory_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, label: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix(label)).expect("a figure");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits until a look finds something, where no event tells.
    #[track_caller]
    pub fn poll<T>(&self, awaited: &str, look: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > deadline {
                gave_up(awaited, &last_lines(&lock(&self.log.lines)));
            }
            pause();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let _ = self
                .log
                .changed
                .wait_timeout_while(lock(&self.log.lines), Duration::from_secs(5), |lines| !lines.ended);
            eprintln!("the daemon's last lines: {:#?}", last_lines(&lock(&self.log.lines)));
        }
    }
}

/// Runs the program without a configuration of its own.
pub fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM.unwrap_or_default());
    command.args(arguments).env_remove("JOURNAL_RELAY_CONFIG").stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// One JSON object a line.
#[track_caller]
pub fn json_lines(output: &[u8]) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(output);
    text.lines()
        .map(|line| match serde_json::from_str(line) {
            Ok(value @ serde_json::Value::Object(_)) => value,
            other => panic!("{line:?} is no JSON object: {other:?}"),
        })
        .collect()
}

fn lock(mutex: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn last_lines(lines: &Lines) -> Vec<String> {
    let skip = lines.events.len().saturating_sub(25);
    let events = lines.events.iter().skip(skip).map(|event| event.0.to_string());
    events.chain(lines.noise.iter().rev().take(25).rev().cloned()).collect()
}

fn listen(stderr: impl BufRead, log: &Log) {
    for line in stderr.split(b'\n').map_while(Result::ok) {
        let mut lines = lock(&log.lines);
        match serde_json::from_slice(&line) {
            Ok(value @ serde_json::Value::Object(_)) => lines.events.push(Event(value)),
            _ => lines.noise.push(String::from_utf8_lossy(&line).into_owned()),
        }
        log.changed.notify_all();
    }
    lock(&log.lines).ended = true;
    log.changed.notify_all();
}
