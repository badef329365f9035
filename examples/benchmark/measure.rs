//! What processes and threads cost, and how figures of several rounds are told.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// CPU time of a process is told in ticks of this length (USER_HZ is 100 on every Linux).
pub const TICK: Duration = Duration::from_millis(10);

/// A thread of this process.
#[derive(Debug, Clone)]
pub struct Thread {
    place: PathBuf,
}

impl Thread {
    pub fn current() -> Self {
        let place = std::fs::read_link("/proc/thread-self").expect("Linux");
        Self { place: PathBuf::from("/proc").join(place).join("schedstat") }
    }

    /// Its CPU time so far.
    pub fn cpu(&self) -> Duration {
        let told = std::fs::read_to_string(&self.place).unwrap_or_default();
        Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
    }
}

/// A process and all that came of it and are still there.
pub fn family(pid: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let children = parents.iter().filter(|(_, parent)| *parent == found[at]).map(|(pid, _)| *pid);
        let children: Vec<_> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(children);
        at += 1;
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A control group that a server is started in, for servers whose processes come, end and leave each other: their CPU time is
/// the group's. Needs root.
#[derive(Debug)]
pub struct Group {
    place: PathBuf,
}

impl Group {
    /// Starts something in a group of its own; this program is in it until that is done.
    pub fn start<T>(start: impl FnOnce() -> T) -> (T, Self) {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // Version 1 has a hierarchy for accounts, whose line names it; version 2 has one for everything.
        let of = |line: &str, root: &str| Some((PathBuf::from(root), line.rsplit_once(':')?.1.to_owned()));
        let first = own.lines().find(|line| line.contains(":cpuacct:") || line.contains("cpu,cpuacct:"));
        let second = own.lines().find(|line| line.starts_with("0::"));
        let found = match (first, second) {
            (Some(line), _) => of(line, "/sys/fs/cgroup/cpuacct"),
            (None, Some(line)) => of(line, "/sys/fs/cgroup"),
            (None, None) => None,
        };
        let (root, before) = found.expect("control groups");
        let place = root.join(format!("journal-relay-benchmark-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        let enter = |place: PathBuf| {
            let id = std::process::id().to_string();
            std::fs::write(place.join("cgroup.procs"), id)
                .unwrap_or_else(|error| panic!("{}: {error}", place.display()));
        };
        enter(place.clone());
        let started = start();
        enter(root.join(before.trim_start_matches('/')));
        (started, Self { place })
    }

    /// CPU time of all that ever were in it.
    pub fn cpu(&self) -> Duration {
        let read = |name| std::fs::read_to_string(self.place.join(name)).ok();
        if let Some(usage) = read("cpuacct.usage") {
            return Duration::from_nanos(usage.trim().parse().unwrap_or(0));
        }
        let told = read("cpu.stat").unwrap_or_default();
        let usage = told.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Duration::from_micros(usage.and_then(|usage| usage.parse().ok()).unwrap_or(0))
    }

    /// Processes that are in it.
    pub fn pids(&self) -> Vec<u32> {
        let told = std::fs::read_to_string(self.place.join("cgroup.procs")).unwrap_or_default();
        told.lines().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        // The last processes may still be on their way out.
        while std::fs::remove_dir(&self.place).is_err() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// The most memory that a process has used, MiB.
pub fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// Waits until a server has nothing left to do: it has used no CPU time for a while. What it has used by then.
pub fn settled(cpu: impl Fn() -> Duration, until: Instant) -> Duration {
    let (mut last, mut since) = (cpu(), Instant::now());
    while since.elapsed() < Duration::from_millis(150) && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(25));
        let now = cpu();
        if now > last + TICK {
            (last, since) = (now, Instant::now());
        }
    }
    cpu()
}

/// The value in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (middle, 1) => values[middle],
        (middle, _) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The value below which that part of the values lies.
pub fn quantile(values: &mut [Duration], part: f64) -> Duration {
    if values.is_empty() {
        return Duration::ZERO;
    }
    values.sort_unstable();
    values[((values.len() - 1) as f64 * part).round() as usize]
}
