//! A Postfix of our own: its own configuration, queue and log in one directory, on loopback addresses, ended by its
//! process id. Needs root, since Postfix does.

use super::program::{Program, cpu_ticks, pause};
use super::{PATIENCE, gave_up};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Which services there are, none of them in a chroot.
const SERVICES: &str = "\
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// How often a Postfix is started that does not work.
const STARTS: usize = 3;
/// How long one has to begin its work.
const WORKS_WITHIN: Duration = Duration::from_secs(20);

/// How a Postfix is set up.
#[derive(Debug, Clone)]
pub struct Postfix {
    /// Where it takes mail.
    pub listen: SocketAddr,
    /// Where everything goes on to.
    pub relay_host: SocketAddr,
    /// More lines of main.cf.
    pub more: String,
    /// Lines of master.cf for smtpd; without them it listens at `listen`.
    pub services: String,
    /// Whose mail it takes, and for whom.
    policy: String,
}

/// Hands on whatever comes from this machine.
const HANDS_ON: &str = "\
myhostname = postfix.example.org
mydestination =
local_recipient_maps =
local_transport = error:no local mail
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = reject_non_fqdn_recipient
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtp_dns_support_level = disabled
";

impl Postfix {
    /// Takes mail at `listen` from this machine and hands all of it to `relay_host`.
    pub fn new(listen: SocketAddr, relay_host: SocketAddr) -> Self {
        Self { listen, relay_host, more: String::new(), services: String::new(), policy: HANDS_ON.to_owned() }
    }

    /// An ordinary mail server of example.org with the users alice and bob, whose mailboxes are at `mailboxes`: as Debian
    /// sets it up, and changed by the lines of a page.
    pub fn of_example_org(listen: SocketAddr, mailboxes: SocketAddr, main_cf: &str) -> Self {
        // Where the Internet would be is nothing.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let policy = format!(
            "myhostname = mail.example.org\nmyorigin = example.org\nmydestination = example.org\nmynetworks = 127.0.0.0/8\n\
             local_recipient_maps = inline:{{ alice=here, bob=here, postmaster=here }}\nlocal_transport = smtp:[{}]:{}\n",
            mailboxes.ip(),
            mailboxes.port()
        );
        Self { policy, more: format!("{main_cf}\n"), ..Self::new(listen, nowhere) }
    }

    /// These lines of master.cf are in the place of the ordinary one.
    pub fn with_services(mut self, services: &str) -> Self {
        self.services.push_str(services);
        self
    }

    /// Sets a parameter of main.cf.
    pub fn with(mut self, parameter: &str, value: &str) -> Self {
        self.more.push_str(&format!("{parameter} = {value}\n"));
        self
    }

    /// Starts it in `home` and waits until it listens.
    pub fn start(&self, home: &Path) -> Running {
        let (etc, queue, data) = (home.join("etc"), home.join("queue"), home.join("data"));
        for directory in [&etc, &queue, &data] {
            std::fs::create_dir_all(directory).expect("a directory for Postfix");
        }
        open_to_others(home);
        Self::give_to_postfix(&data);
        let log = home.join("log");
        std::fs::write(etc.join("main.cf"), self.main_cf(&queue, &data, &log)).expect("main.cf");
        let services = if self.services.is_empty() {
            format!("{} inet n - n - - smtpd", self.listen)
        } else {
            self.services.clone()
        };
        std::fs::write(etc.join("master.cf"), format!("{services}\n{SERVICES}")).expect("master.cf");
        let check = Command::new("postfix").arg("-c").arg(&etc).arg("check").stdin(Stdio::null()).output();
        let check = check.expect("postfix runs");
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(check.status.success(), "postfix check: {check:?}: {}", said());
        let launch = || {
            let mut master = Command::new("/usr/lib/postfix/sbin/master");
            // In the foreground (-d) it is our child, to be ended by its id; it leads a group of its own to end its children.
            std::os::unix::process::CommandExt::process_group(&mut master, 0);
            master.arg("-c").arg(&etc).arg("-d").stdout(Stdio::null()).stderr(Stdio::null());
            let (log, etc) = (log.clone(), etc.clone());
            Running { master: Program::start(&mut master), address: self.listen, log, etc }
        };
        // Its master starts no service for a minute that failed once, and once in some hundred starts the log daemon does: it
        // listens then, and neither greets nor says why.
        for _ in 0..STARTS {
            let running = launch();
            running.wait_until_it_listens();
            if running.works() {
                return running;
            }
        }
        gave_up("Postfix to work", &said());
    }

    fn main_cf(&self, queue: &Path, data: &Path, log: &Path) -> String {
        format!(
            "compatibility_level = 3.6\nqueue_directory = {}\ndata_directory = {}\nmaillog_file = {}\n\
             maillog_file_prefixes = {}\ncommand_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
             mail_owner = postfix\nsetgid_group = postdrop\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             smtp_bind_address = 127.0.0.1\nalias_maps =\nalias_database =\nlocal_header_rewrite_clients =\n\
             relayhost = [{}]:{}\nsmtp_host_lookup = native\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n\
             maximal_backoff_time = 2s\nsmtputf8_enable = yes\nbiff = no\n{}{}",
            queue.display(),
            data.display(),
            log.display(),
            log.parent().unwrap_or(log).display(),
            self.relay_host.ip(),
            self.relay_host.port(),
            self.policy,
            self.more,
        )
    }

    fn give_to_postfix(directory: &Path) {
        let status = Command::new("chown").arg("postfix").arg(directory).status();
        assert!(status.is_ok_and(|status| status.success()), "chown postfix {}", directory.display());
    }
}

/// A Postfix at work; it ends when this is dropped.
pub struct Running {
    master: Program,
    pub address: SocketAddr,
    log: PathBuf,
    etc: PathBuf,
}

impl Running {
    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What waits in its queue, as `postqueue -p` says it.
    pub fn queue(&self) -> String {
        let output = Command::new("postqueue").arg("-c").arg(&self.etc).arg("-p").stdin(Stdio::null()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Its processes now, the master first.
    pub fn pids(&self) -> Vec<u32> {
        let master = self.master.pid();
        [master].into_iter().chain(children(master)).collect()
    }

    /// The CPU time of all its processes so far, those that have ended included, in ticks of 10 ms; without the log
    /// daemon's, which a system's own syslog spends elsewhere.
    pub fn cpu_ticks(&self) -> u64 {
        let logs = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postlogd")
        };
        self.pids().into_iter().filter(|pid| !logs(pid)).filter_map(cpu_ticks).sum()
    }

    /// Whether its services start: the first thing that it logs is that it has.
    fn works(&self) -> bool {
        let deadline = Instant::now() + WORKS_WITHIN;
        while !self.log().contains("daemon started") {
            if Instant::now() > deadline {
                return false;
            }
            pause();
        }
        true
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            if Instant::now() > deadline {
                gave_up("Postfix to listen", &self.log());
            }
            pause();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("Postfix's last lines: {lines:#?}");
        }
        // SIGTERM lets the master end its children too.
        super::signal(self.master.pid(), "TERM");
        let _ = self.master.wait(Duration::from_secs(10));
    }
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind = stat.rsplit_once(") ").map(|(_, behind)| behind.to_owned()).unwrap_or_default();
        behind.split(' ').nth(1).and_then(|found| found.parse().ok()) == Some(parent)
    })
    .collect()
}

/// A port that was free just now.
pub fn free_port(address: Ipv4Addr) -> SocketAddr {
    TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Where `.ci/peers` puts the mail servers that can't be installed beside Postfix.
pub const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/usr/sbin");

/// Whether all these programs are there; when not, that is said, or is a failure where they are required.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:" + UNPACKED;
    let there = |program: &&&str| path.split(':').any(|directory| Path::new(directory).join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|program| !there(program)).collect();
    let needs_root = ["postfix", "dovecot", "exim4", "smtpd"];
    let root = !programs.iter().any(|program| needs_root.contains(program)) || is_root();
    if missing.is_empty() && root {
        return true;
    }
    let why =
        if missing.is_empty() { format!("{needs_root:?} need root") } else { format!("not installed: {missing:?}") };
    assert!(!required(), "JOURNAL_RELAY_PEERS=required, but {why}");
    println!("skipped: {why}");
    false
}

/// Whether the real peers must be there.
pub fn required() -> bool {
    std::env::var("JOURNAL_RELAY_PEERS").is_ok_and(|value| value == "required")
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

/// Postfix's users must be able to enter; a temporary directory is closed to others.
pub fn open_to_others(directory: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, mode).expect("a directory that others can enter");
}
