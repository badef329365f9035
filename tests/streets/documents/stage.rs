//! Where a page is played: a relay with next hop and archive in the place of those that the pages show, and what a page's
//! comments say has happened.
//!
//! | `<!-- here: … -->` | what is done |
//! |---|---|
//! | `mail A B …` | messages of these marks come from alice@example.org to bob@example.net, one after the other |
//! | `archive down`, `archive up` | nobody listens there; somebody does |
//! | `archive greets REPLY`, `archive answers RCPT REPLY`, `archive takes all` | what it says from now on |
//! | `archive certificate expired`, `… own`, `… none` | the route asks for TLS, and the archive has such a certificate; as before |
//! | `listener certificate expired` | the relay's own one, in its configuration |
//! | `next hop vanishes`, `next hop takes all` | its connection breaks behind the final dot; it does not |
//! | `wait EVENT [N] [FIELD=VALUE]` | until the log has it, since the last deed or command |
//! | `daemon stopped`, `killed`, `started` | what it says |
//! | `configuration OLD -> NEW` | in the file (`\n` ends a line), and the daemon is told |
//! | `disk of 24m`, `disk filled`, `disk emptied` | the spool is on a small disk from now on; others fill it |
//! | `spool damaged` | the database's pages are overwritten under the daemon |
//! | `record back`, `record back after 101 hops` | the archive's last record comes in through the listener |
//! | `new stage` | everything from here on is played on a stage of its own, beside what stands before |
//! | `file PATTERN` | until there is one |
//! | `schema N` | the database says it is of that version |
//! | `log of another spool` | the database knows nothing of the log beside it |
//! | `queue retried`, `queue empty` | `queue retry --all`, which the page does not show; until nothing waits |

use crate::common::{
    Answer, Authority, Client, PATIENCE, Program, Relay, Setup, Sink, Stage as Said, drop_line, free_port,
    own_loopback_address, pause, say, signal,
};
use crate::message;
use crate::room::Disk;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the pages' relay is configured with, by its addresses there.
const TRIAL: &str = include_str!("trial.toml");
/// The listener, and the archive, as pages show them.
pub const LISTENER: &str = "127.0.0.1:2625";
const ARCHIVE: &str = "127.0.0.1:2626";
const SECOND: &str = "127.0.0.1:2627";
/// An archive with a certificate.
const CERTIFIED: &str = "127.0.0.1:2628";
/// The listener of config/journal-relay.toml.
const FIRST: &str = "127.0.0.1:2525";
const NEXT_HOP: &str = "127.0.0.1:10025";
const ADMIN: &str = "127.0.0.1:8025";
pub const SPOOL: &str = "/var/lib/journal-relay";
pub const CONFIG: &str = "/etc/journal-relay/config.toml";

pub struct Stage {
    pub relay: Relay,
    next_hop: Sink,
    archive: Sink,
    /// An archive beside it, for as long as the stage stands.
    _second: Sink,
    certified: Option<Relay>,
    /// What a page leaves running in another terminal.
    background: Vec<Program>,
    disk: Option<Disk>,
    /// What the pages show, and what it is here.
    places: Vec<(String, String)>,
    /// How many events of each name there were before the last deed.
    before: BTreeMap<String, usize>,
}

impl Stage {
    pub fn set() -> Self {
        // In the order of their routes' names, as the pages' are: tables are sorted by it.
        let mut sinks = [Sink::start(), Sink::start(), Sink::start()];
        sinks.sort_by_key(Sink::route);
        let [next_hop, archive, second] = sinks;
        let setup = Setup::new(&next_hop, &archive).at_a_fixed_address();
        let admin = free_port(own_loopback_address());
        let mut places: Vec<(String, String)> = vec![
            (LISTENER.into(), setup.listen.to_string()),
            (ARCHIVE.into(), archive.address().to_string()),
            (SECOND.into(), second.address().to_string()),
            (NEXT_HOP.into(), next_hop.address().to_string()),
            (ADMIN.into(), admin.to_string()),
        ];
        let home = tempfile::tempdir().unwrap();
        let relay = Relay::prepare(setup, home);
        places.push((SPOOL.into(), relay.spool().display().to_string()));
        places.push((CONFIG.into(), relay.config().display().to_string()));
        places.push(("/etc/journal-relay/ca.pem".into(), relay.home().join("authority.pem").display().to_string()));
        places.push((FIRST.into(), free_port(own_loopback_address()).to_string()));
        std::fs::write(relay.home().join("message.eml"), message("by-curl")).unwrap();
        let (certified, background, disk, before) = (None, Vec::new(), None, BTreeMap::new());
        let mut stage = Self { relay, next_hop, archive, _second: second, certified, background, disk, places, before };
        stage.copy(&["config", "examples"]);
        let trial = stage.here(TRIAL);
        stage.relay.configure(&trial);
        stage.relay.launch();
        stage
    }

    /// Files of the repository that commands name, with the places of this machine.
    fn copy(&self, folders: &[&str]) {
        for folder in folders {
            let there = self.relay.home().join(folder);
            std::fs::create_dir(&there).unwrap();
            for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                // What a page starts beside the stage's own daemon has a port of its own for health, too.
                let admin = free_port(own_loopback_address()).to_string();
                let text = text.replace(FIRST, &self.here(FIRST)).replace(ADMIN, &admin);
                std::fs::write(there.join(path.file_name().unwrap()), text).unwrap();
            }
        }
    }

    /// What a page shows, with the places of this machine.
    pub fn here(&self, shown: &str) -> String {
        self.places.iter().fold(shown.to_owned(), |text, (shown, here)| text.replace(shown, here))
    }

    /// What came out, with the places that a page shows.
    pub fn shown(&self, here: &str) -> String {
        self.places.iter().fold(here.to_owned(), |text, (shown, here)| text.replace(here, shown))
    }

    /// A shell with the program, the configuration and what stands for other machines' programs.
    pub fn shell(&self, script: &str) -> Command {
        let home = self.relay.home();
        let log = home.join("journal");
        std::fs::write(&log, self.relay.everything().join("\n") + "\n").unwrap();
        let program = Path::new(option_env!("CARGO_BIN_EXE_journal-relay").unwrap_or_default()).parent().unwrap();
        let path = format!("{}:{}:/usr/sbin", program.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        // The journal is a file here, and what cargo would run is built.
        let others =
            format!("journalctl() {{ cat '{}'; }}\ncargo() {{ shift 3; exec journal-relay \"$@\"; }}", log.display());
        shell.args(["-c", &format!("{others}\n{script}\n")]);
        shell.env("PATH", path).env("JOURNAL_RELAY_CONFIG", self.relay.config()).env("LC_ALL", "C.UTF-8");
        shell.current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    }

    /// From here on events are new.
    pub fn mark(&mut self) {
        self.before.clear();
        for line in self.relay.everything() {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            *self.before.entry(event["event"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }

    /// Does what a comment says; what it does not know is a failure.
    #[track_caller]
    pub fn act(&mut self, deed: &str) {
        let words: Vec<&str> = deed.split(' ').collect();
        if let ["wait", event, rest @ ..] = words.as_slice() {
            return self.wait(event, rest);
        }
        self.mark();
        match words.as_slice() {
            // The page was cut there.
            ["new", "stage"] => {}
            ["mail", marks @ ..] => self.mail(marks),
            ["archive", "down"] => self.archive.down(),
            ["archive", "up"] => self.archive.up(),
            ["archive", "takes", "all"] => self.archive.script(|_| None),
            ["archive", "greets", reply @ ..] => {
                // It is heard on connections that begin after it.
                self.archive.down();
                self.archive_says(reply, |stage| matches!(stage, Said::Greeting));
                self.archive.up();
            }
            ["archive", "answers", "RCPT", reply @ ..] => {
                self.archive_says(reply, |stage| matches!(stage, Said::Rcpt(_)));
            }
            ["archive", "certificate", kind] => self.certified_archive(kind),
            ["listener", "certificate", "expired"] => {
                let (pem, key) = self.certify(&["relay.example.org"], true);
                let tls = format!("\n[listener.tls]\ncertificate = {pem:?}\nkey = {key:?}\n\n[[organization]]\n");
                self.configure("[[organization]]\n", &tls);
            }
            ["next", "hop", "vanishes"] => {
                self.next_hop.script(|stage| if matches!(stage, Said::End(_)) { drop_line() } else { None });
            }
            ["next", "hop", "takes", "all"] => self.next_hop.script(|_| None),
            ["daemon", "stopped"] => drop(self.relay.terminate()),
            ["daemon", "killed"] => self.relay.kill9(),
            ["daemon", "started"] => self.relay.launch(),
            ["configuration", ..] => {
                let (old, new) = deed.trim_start_matches("configuration ").split_once(" -> ").expect("OLD -> NEW");
                self.configure(old, new);
            }
            ["file", pattern] => {
                let look = format!("ls {pattern}");
                let is_there = || self.shell(&look).output().is_ok_and(|output| output.status.success()).then_some(());
                self.relay.poll(pattern, is_there);
            }
            ["disk", ..] => self.disk(&words[1..]),
            ["spool", "damaged"] => damage(&Path::new(&self.here(SPOOL)).join("spool.sqlite")),
            ["log", "of", "another", "spool"] => {
                self.database().execute("UPDATE front SET generation = 7, first = 7, last = 7", []).unwrap();
            }
            ["schema", version] => {
                self.database().pragma_update(None, "user_version", version.parse::<i64>().unwrap()).unwrap();
            }
            ["queue", "empty"] => self.relay.poll("an empty queue", || self.relay.queue().is_empty().then_some(())),
            ["queue", "retried"] => drop(self.relay.command(&["queue", "retry", "--all"])),
            ["record", "back", hops @ ..] => self.back(hops.get(1).map_or(0, |hops| hops.parse().expect("a number"))),
            _ => panic!("nobody knows how to {deed:?}"),
        }
    }

    /// That of the spool, beside whoever has it.
    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(Path::new(&self.here(SPOOL)).join("spool.sqlite")).unwrap()
    }

    fn mail(&self, marks: &[&str]) {
        let mut client = Client::ehlo(self.relay.address());
        for mark in marks {
            // Whether it is taken is what the page is about.
            let _ = client.mail("alice@example.org", &["bob@example.net"], &message(mark));
        }
    }

    fn archive_says(&self, reply: &[&str], at: fn(&Said<'_>) -> bool) {
        let reply = reply.join(" ");
        self.archive.script(move |stage| -> Option<Answer> {
            if at(stage) { say(&reply) } else { None }
        });
    }

    #[track_caller]
    fn wait(&self, event: &str, rest: &[&str]) {
        let before = self.before.get(event).copied().unwrap_or_default();
        let count = rest.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
        let field = rest.iter().find_map(|word| word.split_once('='));
        self.relay.poll(&format!("{count} new {event} {rest:?}"), || {
            let new = self.relay.events(event).into_iter().skip(before);
            let fits = new.filter(|event| field.is_none_or(|(key, value)| event.text(key) == value));
            (fits.count() >= count).then_some(())
        });
        // What an event tells is in the spool some milliseconds later; where that can't be read, the page is about it.
        self.relay.poll("results in the spool", || {
            let said = String::from_utf8_lossy(&self.relay.command(&["queue", "list", "--json"]).stdout).into_owned();
            (!said.contains("\"sending\"") && !said.contains("\"prepared\"")).then_some(())
        });
    }

    #[track_caller]
    fn configure(&mut self, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.relay.config()).unwrap();
        let (old, new) = (self.here(old), self.here(new).replace("\\n", "\n"));
        assert!(text.contains(&old), "{old:?} isn't in\n{text}");
        self.relay.configure(&text.replacen(&old, &new, 1));
        self.relay.ask_to_reload();
    }

    /// A certificate of an authority that the page's clients and routes may know, in files.
    fn certify(&self, names: &[&str], is_expired: bool) -> (PathBuf, PathBuf) {
        let authority = Authority::new();
        authority.write(self.relay.home());
        let made = if is_expired {
            authority.certify_between(names, (2026, 8, 1), (2026, 10, 30))
        } else {
            authority.certify(names)
        };
        made.write(self.relay.home(), "shown")
    }

    /// Another relay is the archive, so that it has TLS.
    fn certified_archive(&mut self, kind: &str) {
        if kind == "none" {
            let certified = self.certified.take().expect("an archive with a certificate");
            let text = std::fs::read_to_string(self.relay.config()).unwrap();
            let route = text.lines().find(|line| line.starts_with("journaling_route")).expect("a route").to_owned();
            drop(certified);
            self.places.retain(|(shown, _)| shown != CERTIFIED);
            return self.configure(&route, &format!("journaling_route = \"smtp://{ARCHIVE}\""));
        }
        let (pem, key) = self.certify(&["127.0.0.1"], kind == "expired");
        let maildir = self.relay.home().join("vault");
        let mut setup = Setup::with_routes(&format!("maildir:{}", maildir.display()), "smtp://127.0.0.1:9");
        setup.organizations[0].name = "vault".into();
        setup.organizations[0].domains = vec!["nobody.example".into()];
        setup.listener = format!("[listener.tls]\ncertificate = {pem:?}\nkey = {key:?}\n");
        let certified = setup.start();
        let here = certified.address().to_string();
        self.certified = Some(certified);
        self.places.push((CERTIFIED.into(), here.clone()));
        let authority = self.relay.home().join("authority.pem").display().to_string();
        let trusted = if kind == "own" { String::new() } else { format!("&ca_file={authority}") };
        let route = format!("journaling_route = \"smtp://{here}?tls=required{trusted}\"");
        self.configure(&format!("journaling_route = \"smtp://{ARCHIVE}\""), &route);
    }

    fn disk(&mut self, words: &[&str]) {
        match (words, &self.disk) {
            (["of", size], _) => {
                self.relay.terminate();
                let disk = Disk::mount(size).expect("root mounts a disk");
                let spool = disk.path().join("spool").display().to_string();
                let old = self.here(&format!("path = \"{SPOOL}\""));
                let text = std::fs::read_to_string(self.relay.config()).unwrap();
                self.relay.configure(&text.replace(&old, &format!("path = {spool:?}")));
                self.places.retain(|(shown, _)| shown != SPOOL);
                self.places.push((SPOOL.into(), spool));
                self.disk = Some(disk);
                self.relay.launch();
            }
            (["filled"], Some(disk)) => {
                // As far as it goes: that it ends early is what it is for.
                let _ = std::fs::write(disk.path().join("filler"), vec![0; 64 << 20]);
            }
            (["emptied"], Some(disk)) => std::fs::remove_file(disk.path().join("filler")).unwrap(),
            _ => panic!("nobody knows what the disk should be: {words:?}"),
        }
    }

    fn back(&self, hops: usize) {
        let record = self.archive.taken().pop().expect("a record").octets;
        let back = ["Received: from archive by archive; today\r\n".repeat(hops).as_bytes(), &record].concat();
        let mut client = Client::ehlo(self.relay.address());
        let _ = client.mail("amazonjournaling@acme.awsapps.com", &["alice@example.org"], &back);
    }

    /// Starts what the page leaves running, and waits until it listens.
    pub fn leave_running(&mut self, script: &str) {
        let log = self.relay.home().join("background");
        let mut shell = self.shell(&format!("exec >'{}' 2>&1\n{script}", log.display()));
        self.background.push(Program::start(&mut shell));
        let listens = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("listening")).then_some(());
        self.relay.poll("what the page leaves running", listens);
    }

    /// Runs a command that goes on until it is ended, and gives its lines once `is_enough` says so.
    pub fn watch(&self, script: &str, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let output = self.relay.home().join("watched");
        let mut shell = self.shell(&format!("exec {script} >'{}' 2>&1", output.display()));
        let mut program = Program::start(&mut shell);
        let read =
            || std::fs::read_to_string(&output).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !is_enough(&read()) {
            if program.wait(Duration::ZERO).is_some() {
                break;
            }
            pause();
        }
        // A daemon ends in order; what has ended already has said everything.
        if program.wait(Duration::ZERO).is_none() {
            signal(program.pid(), "TERM");
            program.wait(PATIENCE);
        }
        read()
    }
}

/// Overwrites the database under the running daemon, and has it look again.
fn damage(database: &Path) {
    let neighbour = rusqlite::Connection::open(database).unwrap();
    let mut octets = std::fs::read(database).unwrap();
    octets[4_096..].fill(0xff);
    std::fs::write(database, &octets).unwrap();
    let id: i64 = neighbour.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    neighbour.pragma_update(None, "application_id", id + 1).unwrap();
    neighbour.pragma_update(None, "application_id", id).unwrap();
}
