//! An Exim of our own: its own configuration, queue and log in one directory, on a loopback address, ended by its process
//! id. Needs root, since it changes to its own user; `.ci/peers` unpacks it.

use super::postfix::{UNPACKED, open_to_others};
use super::program::{Program, pause};
use super::{PATIENCE, Sink, gave_up};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How an Exim is set up: a mail server of example.org with the users alice and bob, whose mailboxes are at a sink, as is
/// the rest of the world.
#[derive(Debug, Clone)]
pub struct Exim {
    listen: SocketAddr,
    world: SocketAddr,
    main: String,
    recipients: String,
    routers: String,
    authenticators: &'static str,
}

/// alice, with the password that all tests use.
const AUTHENTICATORS: &str = "\
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{alice}}{eq{$auth3}{s3cret-word}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{alice}}{eq{$auth2}{s3cret-word}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${if eq{$auth1}{alice}{s3cret-word}fail}
  server_set_id = $auth1
";

impl Exim {
    pub fn new(listen: SocketAddr, world: &Sink) -> Self {
        Self::to(listen, world.address())
    }

    /// The same by an address.
    pub fn to(listen: SocketAddr, world: SocketAddr) -> Self {
        Self {
            listen,
            world,
            main: String::new(),
            recipients: String::new(),
            routers: String::new(),
            authenticators: "",
        }
    }

    /// More options of the main section.
    pub fn with(mut self, lines: &str) -> Self {
        self.main.push_str(lines);
        self.main.push('\n');
        self
    }

    /// Routers before the others.
    pub fn with_routers(mut self, lines: &str) -> Self {
        self.routers.push_str(lines);
        self
    }

    /// Statements of the recipients' ACL before the others.
    pub fn with_recipients(mut self, lines: &str) -> Self {
        self.recipients.push_str(lines);
        self
    }

    /// alice may authenticate, and then send to anybody.
    pub fn with_passwords(mut self) -> Self {
        self.authenticators = AUTHENTICATORS;
        self
    }

    /// Starts it in `home` and waits until it listens.
    pub fn start(&self, home: &Path) -> RunningExim {
        let (spool, log) = (home.join("spool"), home.join("log"));
        for directory in [home, &spool, &log] {
            std::fs::create_dir_all(directory).expect("a directory for Exim");
            open_to_others(directory);
        }
        let owned = Command::new("chown").arg("Debian-exim").args([&spool, &log]).status();
        assert!(owned.is_ok_and(|status| status.success()), "chown Debian-exim");
        let program = Path::new(UNPACKED).join("exim4");
        let conf = home.join("exim4.conf");
        std::fs::write(&conf, self.conf(&program, &spool, &log)).expect("exim4.conf");
        let mut command = Command::new(&program);
        // In the foreground (-bdf) it is our child; it leads a group of its own to end its children.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.arg("-C").arg(&conf).args(["-bdf", "-q1m"]).stdout(Stdio::null()).stderr(Stdio::null());
        let running = RunningExim { daemon: Program::start(&mut command), address: self.listen, program, conf, log };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&running.address, Duration::from_secs(1)).is_err() {
            if Instant::now() > deadline {
                gave_up("Exim to listen", &running.log());
            }
            pause();
        }
        running
    }

    /// Exim takes no option twice.
    fn unless_given(&self, option: &str, value: impl std::fmt::Display) -> String {
        if self.main.contains(option) { String::new() } else { format!("{option} = {value}\n") }
    }

    fn conf(&self, program: &Path, spool: &Path, log: &Path) -> String {
        format!(
            "exim_path = {}\nspool_directory = {}\nlog_file_path = {}/%slog\npid_file_path = {}/pid\nkeep_environment =\n\
             primary_hostname = mail.example.org\n{}{}host_lookup =\n\
             rfc1413_query_timeout = 0s\nacl_smtp_rcpt = recipients\nacl_smtp_data = accept\n\
             return_path_remove = false\nenvelope_to_remove = false\n\
             delivery_date_remove = false\nreceived_headers_max = 200\nmessage_size_limit = 100M\n\
             domainlist local_domains = example.org\nnever_users =\nlog_selector = +all_parents +smtp_connection \
             +received_recipients +incoming_interface +proxy +tls_cipher +smtp_protocol_error\n\
             {}\nbegin acl\nrecipients:\n  accept authenticated = *\n{}\n  accept domains = +local_domains\n         \
             local_parts = alice : bob : postmaster\n  deny message = no such user\n       domains = +local_domains\n  \
             deny message = relay not permitted\n\nbegin routers\n{}\nworld:\n  driver = manualroute\n  \
             route_list = * {}::{} byname\n  self = send\n  transport = world\n\nbegin transports\nworld:\n  \
             driver = smtp\n  hosts_avoid_tls = *\n  message_linelength_limit = 100M\n  allow_localhost\nsmarthost:\n  \
             driver = smtp\n  allow_localhost\n\nbegin retry\n* * F,1h,1s\n\nbegin authenticators\n{}",
            program.display(),
            spool.display(),
            log.display(),
            spool.display(),
            self.unless_given("local_interfaces", self.listen.ip()),
            self.unless_given("daemon_smtp_ports", self.listen.port()),
            self.main,
            self.recipients,
            self.routers,
            self.world.ip(),
            self.world.port(),
            self.authenticators,
        )
    }
}

/// An Exim at work; it ends when this is dropped.
pub struct RunningExim {
    daemon: Program,
    pub address: SocketAddr,
    program: PathBuf,
    conf: PathBuf,
    log: PathBuf,
}

impl RunningExim {
    /// Its daemon.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it has logged so far: messages, then refusals.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.log.join(name)).unwrap_or_default();
        read("mainlog") + &read("rejectlog") + &read("paniclog")
    }

    /// How many messages wait in its queue.
    pub fn waiting(&self) -> usize {
        let mut command = Command::new(&self.program);
        let output = command.arg("-C").arg(&self.conf).arg("-bpc").stdin(Stdio::null()).output().expect("exim runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
    }
}

impl Drop for RunningExim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("Exim's last lines: {:#?}", log.lines().rev().take(40).collect::<Vec<_>>());
        }
        super::signal(self.daemon.pid(), "TERM");
        let _ = self.daemon.wait(Duration::from_secs(10));
    }
}
