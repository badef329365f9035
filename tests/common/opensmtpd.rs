//! An OpenSMTPD of our own, ended by its process id. Its queue and its socket are where they were compiled to be, so it gets
//! file systems of its own there; it needs root that may mount, and `.ci/peers` unpacks it.

use super::postfix::{UNPACKED, open_to_others};
use super::program::{Program, pause};
use super::{PATIENCE, Sink, gave_up};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// It ends when this is dropped.
pub struct OpenSmtpd {
    daemon: Program,
    pub address: SocketAddr,
    log: PathBuf,
}

/// Mounts what is written to and runs the program.
const APART: &str =
    "mount -t tmpfs -o mode=0755 tmpfs /var/spool && mount -t tmpfs -o mode=0755 tmpfs /run && exec \"$@\"";

/// Whether this machine lets a program have file systems of its own; where not, that is said.
pub fn can_stand_apart() -> bool {
    let tried = Command::new("unshare").args(["--mount", "sh", "-c", APART, "sh", "true"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: nothing can be mounted here");
    }
    can
}

impl OpenSmtpd {
    /// Starts it in `home`: mail to bob@example.org goes on to `world`. `options` are more of its listener's. Without TLS:
    /// Debian 12's (6.8.0p2 with OpenSSL 3) breaks every handshake off (`rsa routines::missing private key`), and
    /// without TLS it offers no AUTH.
    pub fn start(home: &Path, listen: SocketAddr, options: &str, world: &Sink) -> Self {
        std::fs::create_dir_all(home).expect("a directory for OpenSMTPD");
        open_to_others(home);
        // It changes its root to this directory, and wants nobody else to write there.
        std::fs::create_dir_all("/var/lib/opensmtpd/empty").expect("an empty directory");
        let conf = home.join("smtpd.conf");
        std::fs::write(&conf, configuration(listen, options, world)).expect("smtpd.conf");
        let log = home.join("log");
        let output = File::create(&log).expect("a log");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", APART, "sh"]).arg(Path::new(UNPACKED).join("smtpd"));
        // In the foreground (-d) it is our child; it leads a group of its own to end its children.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(["-d", "-v", "-f"]).arg(&conf).stdout(Stdio::null()).stderr(output);
        let smtpd = Self { daemon: Program::start(&mut command), address: listen, log };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&listen, Duration::from_secs(1)).is_err() {
            if Instant::now() > deadline {
                gave_up("OpenSMTPD to listen", &smtpd.log());
            }
            pause();
        }
        smtpd
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The files in its queue.
    pub fn queue(&self) -> String {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.daemon.pid().to_string()]);
        let output = command.args(["find", "/var/spool/smtpd/queue", "-type", "f"]).output().expect("nsenter");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn configuration(listen: SocketAddr, options: &str, world: &Sink) -> String {
    format!(
        "listen on {} port {} hostname mail.example.org {options}\naction \"world\" relay host smtp://{}\n\
         match from any for rcpt-to \"bob@example.org\" action \"world\"\n",
        listen.ip(),
        listen.port(),
        world.address(),
    )
}

impl Drop for OpenSmtpd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("OpenSMTPD's last lines: {:#?}", log.lines().rev().take(40).collect::<Vec<_>>());
        }
        super::signal(self.daemon.pid(), "TERM");
        let _ = self.daemon.wait(Duration::from_secs(10));
    }
}
