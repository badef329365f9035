//! A process of our own: ended by its id when the test is over, whatever happened.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A child process that does not outlive its owner.
pub struct Program {
    child: Child,
    name: String,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, name }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end; `None` when it did not come in time.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => pause(),
                Ok(status) => return status,
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal, named as `kill -s` names it, to one process.
pub fn signal(pid: u32, name: &str) {
    // The shell's own kill: no other program is needed, and no unsafe code.
    let status = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "no {name} to {pid}");
}

/// Gives way between two looks at something that can't be waited for (a child's end, a file).
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

/// User and system time that a process has used, its ended children included, in clock ticks of 10 ms.
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; field 14 is the twelfth behind it (proc_pid_stat(5)).
    let behind = stat.rsplit_once(") ")?.1;
    Some(behind.split(' ').skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
}
