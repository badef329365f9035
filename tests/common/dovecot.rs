//! A Dovecot of our own that does nothing but know one user's password, for a Postfix to ask. Needs root.

use super::postfix::open_to_others;
use super::program::{Program, pause, signal};
use super::{PATIENCE, gave_up};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// It ends when this is dropped.
pub struct Dovecot {
    master: Program,
    /// Where it is asked (`smtpd_sasl_path`).
    pub socket: PathBuf,
}

impl Dovecot {
    /// Starts it in `home` and waits until it can be asked.
    pub fn start(home: &Path, user: &str, password: &str) -> Self {
        Self::start_with(home, user, password, "plain login")
    }

    /// The same with other mechanisms.
    pub fn start_with(home: &Path, user: &str, password: &str, mechanisms: &str) -> Self {
        std::fs::create_dir_all(home).expect("a directory for Dovecot");
        open_to_others(home);
        let (socket, users, log) = (home.join("auth"), home.join("users"), home.join("log"));
        std::fs::write(&users, format!("{user}:{{PLAIN}}{password}\n")).expect("users");
        let configuration = format!(
            "base_dir = {0}/run\nstate_dir = {0}/state\nlog_path = {1}\nprotocols =\nssl = no\nlisten = 127.0.0.1\n\
             auth_mechanisms = {mechanisms}\nauth_failure_delay = 0\n\
             service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\npassdb {{\n  driver = passwd-file\n  args = {2}\n}}\n\
             userdb {{\n  driver = static\n  args = uid=65534 gid=65534 home=/nonexistent\n}}\n\
             service auth {{\n  unix_listener {3} {{\n    mode = 0666\n  }}\n}}\n",
            home.display(),
            log.display(),
            users.display(),
            socket.display(),
        );
        let path = home.join("dovecot.conf");
        std::fs::write(&path, configuration).expect("dovecot.conf");
        let mut command = Command::new("/usr/sbin/dovecot");
        // In the foreground (-F) it is our child, to be ended by its id.
        command.arg("-F").arg("-c").arg(&path).stdout(Stdio::null());
        let dovecot = Self { master: Program::start(&mut command), socket };
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&dovecot.socket).is_err() {
            if Instant::now() > deadline {
                gave_up("Dovecot to listen", &std::fs::read_to_string(&log));
            }
            pause();
        }
        dovecot
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // SIGTERM lets the master end its children too.
        signal(self.master.pid(), "TERM");
        let _ = self.master.wait(Duration::from_secs(10));
    }
}
