//! The daemon of a trial: started, killed and ended again and again; its log goes into a file and its events are counted.

use super::ledger::{Kind, Ledger};
use crate::common::{PATIENCE, Program, Setup, cpu_ticks, signal};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Octets of a log file; then it becomes the older one, and the older one goes.
const LOG_SIZE: u64 = 64 << 20;

/// How an orderly end went.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    pub took: Duration,
    /// The grace period was over before the work was.
    pub cut_short: bool,
}

/// What the daemon's log said.
#[derive(Debug, Default)]
struct Said {
    events: BTreeMap<String, u64>,
    /// Of this life: it listens, and it stopped with work still open.
    listens: bool,
    cut_short: bool,
    ended: bool,
}

struct Log {
    said: Mutex<Said>,
    changed: Condvar,
    ledger: Arc<Ledger>,
    path: PathBuf,
}

/// The daemon, its home and its log.
pub struct Daemon {
    pub setup: Setup,
    home: PathBuf,
    program: Option<Program>,
    reader: Option<JoinHandle<()>>,
    log: Arc<Log>,
    /// CPU time of the lives that are over, in ticks.
    ticks: u64,
    /// The most memory of any life, KiB.
    peak_kib: u64,
    pub lives: u64,
}

impl Daemon {
    /// Nothing is started yet. The setup needs a fixed address.
    pub fn new(setup: Setup, home: &Path, ledger: &Arc<Ledger>) -> Self {
        let log = Log {
            said: Mutex::default(),
            changed: Condvar::new(),
            ledger: Arc::clone(ledger),
            path: home.join("daemon.log"),
        };
        let daemon = Self {
            setup,
            home: home.to_owned(),
            program: None,
            reader: None,
            log: Arc::new(log),
            ticks: 0,
            peak_kib: 0,
            lives: 0,
        };
        daemon.configure();
        daemon
    }

    pub fn spool(&self) -> PathBuf {
        self.setup.spool.clone().unwrap_or_else(|| self.home.join("spool"))
    }

    fn config(&self) -> PathBuf {
        self.home.join("config.toml")
    }

    /// Writes the setup into the configuration file.
    pub fn configure(&self) {
        std::fs::write(self.config(), self.setup.toml(&self.spool())).expect("the configuration is writable");
    }

    /// Starts it and waits until it listens.
    pub fn launch(&mut self) {
        self.begin();
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.log.lock();
        while !said.listens {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!said.ended && !left.is_zero(), "the daemon does not listen; see {}", self.log.path.display());
            said = self.log.changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts it and does not wait.
    pub fn begin(&mut self) {
        let events = std::mem::take(&mut self.log.lock().events);
        *self.log.lock() = Said { events, ..Said::default() };
        let mut command = Command::new(&self.setup.program);
        command.args(["run", "--config"]).arg(self.config()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut program = Program::start(&mut command);
        let stderr = program.child().stderr.take().expect("stderr is a pipe");
        let log = Arc::clone(&self.log);
        self.reader = Some(std::thread::spawn(move || log.read(BufReader::new(stderr))));
        self.program = Some(program);
        self.lives += 1;
    }

    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    /// `kill -9`; what it did last may be forgotten.
    pub fn kill9(&mut self) {
        self.note();
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
        self.log.ledger.daemon_died();
        self.read_out();
    }

    /// SIGTERM and the end, with exit status 0 within the grace period and what closing may take.
    pub fn terminate(&mut self, longest: Duration) -> Ending {
        self.note();
        let Some(mut program) = self.program.take() else { panic!("the daemon runs") };
        let start = Instant::now();
        signal(program.pid(), "TERM");
        let status = program.wait(longest);
        let took = start.elapsed();
        if status.and_then(|status| status.code()) != Some(0) {
            let what = format!("SIGTERM: {status:?} after {took:?}");
            self.log.ledger.violation(Kind::Wrong, what);
        }
        program.kill();
        self.read_out();
        let cut_short = self.log.lock().cut_short || status.is_none();
        if cut_short {
            self.log.ledger.daemon_died();
        }
        Ending { took, cut_short }
    }

    /// The end of a process that was told to end by other means; none when it does not come.
    pub fn ended(&mut self, longest: Duration) -> Option<ExitStatus> {
        self.note();
        let status = self.program.take().and_then(|mut program| program.wait(longest));
        self.read_out();
        status
    }

    /// SIGHUP with the setup as it is now.
    pub fn reload(&self) {
        self.configure();
        if let Some(pid) = self.pid() {
            signal(pid, "HUP");
        }
    }

    /// Runs a command with this daemon's configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.setup.program);
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The entries of `queue list`; a command that fails is a violation.
    pub fn queue(&self) -> Vec<serde_json::Value> {
        let output = self.command(&["queue", "list", "--json"]);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let entries: Result<Vec<_>, _> = lines.lines().map(serde_json::from_str).collect();
        match entries {
            Ok(entries) if output.status.success() => entries,
            other => {
                let what =
                    format!("queue list: {:?} {other:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
                self.log.ledger.violation(Kind::Wrong, what);
                Vec::new()
            }
        }
    }

    /// How many events there were, by name, of all lives.
    pub fn events(&self) -> BTreeMap<String, u64> {
        self.log.lock().events.clone()
    }

    /// Memory of now, KiB.
    pub fn memory_kib(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most memory that any life used, KiB, and the CPU time of all of them, in ticks of 10 ms.
    pub fn used(&mut self) -> (u64, u64) {
        let (peak, ticks) = self.measure();
        (self.peak_kib.max(peak), self.ticks + ticks)
    }

    fn measure(&self) -> (u64, u64) {
        let ticks = self.pid().and_then(cpu_ticks).unwrap_or(0);
        (self.status("VmHWM:").unwrap_or(0), ticks)
    }

    /// Keeps what dies with the process.
    fn note(&mut self) {
        let (peak, ticks) = self.measure();
        self.peak_kib = self.peak_kib.max(peak);
        self.ticks += ticks;
    }

    fn status(&self, key: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// What it wrote last is in the books before anything else happens.
    fn read_out(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stderr: impl BufRead) {
        let mut file = File::options().append(true).create(true).open(&self.path).expect("the log is writable");
        for line in stderr.split(b'\n').map_while(Result::ok) {
            let _ = file.write_all(&[&line[..], b"\n"].concat());
            if file.metadata().is_ok_and(|log| log.len() > LOG_SIZE) {
                let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
                file = File::options().append(true).create(true).open(&self.path).expect("the log is writable");
            }
            self.note(&line);
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn note(&self, line: &[u8]) {
        let Ok(event @ serde_json::Value::Object(_)) = serde_json::from_slice::<serde_json::Value>(line) else {
            // A process that is killed may leave half a line.
            if line.ends_with(b"}") || memchr::memmem::find(line, b"panicked").is_some() {
                let what = format!("a line of the log is no JSON object: {}", String::from_utf8_lossy(line));
                self.ledger.violation(Kind::Wrong, what);
            }
            return;
        };
        let name = event["event"].as_str().unwrap_or_default();
        if name == "record.acked" {
            self.ledger.acked(event["record"].as_str().unwrap_or_default());
        }
        let mut said = self.lock();
        *said.events.entry(name.to_owned()).or_default() += 1;
        said.listens |= name == "listener.started";
        said.cut_short |= name == "daemon.draining" && !event["reason"].is_null();
        drop(said);
        self.changed.notify_all();
    }
}
