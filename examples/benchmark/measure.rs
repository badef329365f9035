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
