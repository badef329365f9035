//! The service manager that started this process, where one did: what systemd is told (`sd_notify(3)`), and how often it wants to
//! hear that the process is alive.
//!
//! Promises: without `NOTIFY_SOCKET` nothing is said and nothing is waited for; a manager that does not listen holds nothing up
//! longer than [`PATIENCE`], and is complained about once. What is told is one datagram, so that a state and the words for it
//! arrive together.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixDatagram;

/// How long a manager may take to read what it is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// Characters of a status; `systemctl status` shows one line.
const LONGEST_STATUS: usize = 400;

/// The service manager, or nobody.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    ping_every: Option<Duration>,
    complained: AtomicBool,
}

impl Manager {
    /// Who started this process: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. Within a runtime.
    ///
    /// # Errors
    /// The socket that it names can't be reached.
    pub fn from_environment() -> io::Result<Self> {
        let watchdog = match env::var("WATCHDOG_PID") {
            Ok(pid) if pid != std::process::id().to_string() => None,
            _ => env::var("WATCHDOG_USEC").ok(),
        };
        Self::at(env::var_os("NOTIFY_SOCKET").as_deref(), watchdog.as_deref())
    }

    /// One that listens at `socket` (a path, or `@` and an abstract name) and wants to hear from us once in `watchdog_usec`.
    fn at(socket: Option<&OsStr>, watchdog_usec: Option<&str>) -> io::Result<Self> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = StdDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        let usec = watchdog_usec.and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0);
        Ok(Self {
            socket: Some(UnixDatagram::from_std(socket)?),
            ping_every: usec.map(|usec| Duration::from_micros(usec) / 2),
            complained: AtomicBool::new(false),
        })
    }

    /// Everything serves.
    pub async fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status))).await;
    }

    /// A new configuration is read; [`ready`](Self::ready) ends that.
    pub async fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reading the configuration")).await;
    }

    /// The end has begun.
    pub async fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\n{}", status_line(status))).await;
    }

    /// What goes on, for people.
    pub async fn status(&self, status: &str) {
        self.tell(&status_line(status)).await;
    }

    /// Says now and then that the process is alive, in half the time the manager allows; ends at once where nobody wants to
    /// hear it.
    pub async fn keep_telling_alive(&self) {
        let Some(ping_every) = self.ping_every else { return };
        let mut ticks = tokio::time::interval(ping_every);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1").await;
        }
    }

    async fn tell(&self, words: &str) {
        let Some(socket) = &self.socket else { return };
        let told = tokio::time::timeout(PATIENCE, socket.send(words.as_bytes())).await;
        let error = match told {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(event = "manager.failed", %error, "can't tell the service manager how the daemon is");
        }
    }
}

/// `STATUS=`, in one line.
fn status_line(status: &str) -> String {
    let line = status.lines().next().unwrap_or_default();
    format!("STATUS={}", line.chars().take(LONGEST_STATUS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &StdDatagram) -> String {
        let mut octets = [0; 1_024];
        let length = socket.recv(&mut octets).unwrap();
        String::from_utf8(octets[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_manager_hears_states_with_their_words_in_one_line() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let listening = StdDatagram::bind(&path).unwrap();
        let manager = Manager::at(Some(path.as_os_str()), None).unwrap();
        manager.status("opening\nREADY=1").await;
        manager.ready("listening").await;
        manager.reloading().await;
        manager.stopping("draining").await;
        assert_eq!(heard(&listening), "STATUS=opening");
        assert_eq!(heard(&listening), "READY=1\nSTATUS=listening");
        let reloading = heard(&listening);
        let usec = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(reloading.starts_with("RELOADING=1\n") && usec.parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!(heard(&listening), "STOPPING=1\nSTATUS=draining");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_told_in_half_its_time() {
        let name = format!("journal-relay-test-{}", uuid::Uuid::new_v4());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = StdDatagram::bind_addr(&address).unwrap();
        let manager = Manager::at(Some(OsStr::new(&format!("@{name}"))), Some("30000000")).unwrap();
        let begun = tokio::time::Instant::now();
        let telling = manager.keep_telling_alive();
        let _ = tokio::time::timeout(Duration::from_secs(50), telling).await;
        assert!(begun.elapsed() >= Duration::from_secs(50));
        listening.set_nonblocking(true).unwrap();
        let pings: Vec<_> = std::iter::from_fn(|| listening.recv(&mut [0; 64]).ok()).collect();
        assert_eq!(pings.len(), 4, "at 0, 15, 30 and 45 seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_reads_nothing_holds_nobody_up_for_long() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let _deaf = StdDatagram::bind(&path).unwrap();
        let manager = Manager::at(Some(path.as_os_str()), None).unwrap();
        let begun = tokio::time::Instant::now();
        // More than any queue of datagrams holds; each beyond waits for the limit, of simulated time.
        let mut told = 0;
        while begun.elapsed() < PATIENCE {
            manager.status("still here").await;
            told += 1;
            assert!(told < 100_000, "the queue never filled");
        }
        assert!(manager.complained.load(Ordering::Relaxed));
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn without_a_manager_nothing_is_said_and_a_wrong_one_is_an_error() {
        let nobody = Manager::at(None, Some("1000")).unwrap();
        nobody.ready("listening").await;
        nobody.keep_telling_alive().await;
        assert!(Manager::at(Some(OsStr::new("/nowhere/notify")), None).is_err());
    }
}
