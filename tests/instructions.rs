//! A guard that noise can't move: how many instructions the pure parts take, and the whole daemon for a message, counted by
//! valgrind's callgrind, and how many system calls and syncs the daemon makes for a message, counted by strace.
//!
//! `tests/instructions.toml` holds the figures, one table for each kind of build: `cargo test` counts what is built for tests,
//! `cargo test --release` what is built for use. A rise above the margin is a failure; where it is meant, the figures are
//! renewed with
//!
//! ```text
//! RENEW=1 cargo test --test instructions            # and the same with --release
//! ```
//!
//! The pure parts are the same to some instructions at every run. What the daemon does depends on when octets arrive and
//! threads wake, so that its messages come one after the other, and its margins are wider.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::string_slice,
    unreachable_pub,
    missing_docs,
    reason = "a test may stop at once"
)]

mod common;
#[path = "../benches/parts/mod.rs"]
mod parts;

use common::{Client, Program, Relay, Setup, Sink, installed, signal};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// By how much a figure may rise, in percent.
const MARGIN: u64 = 10;
const MARGIN_OF_DAEMON: u64 = 20;
/// Messages of the daemon's shorter run and its longer one; what the longer one takes more is theirs.
const FEW: u64 = 20;
const MANY: u64 = 80;
/// Octets of a message.
const SIZE: usize = 4_096;

fn figures_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions.toml")
}

/// How this test was built.
const fn build() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

/// Holds counts against the figures, or writes them there.
fn hold(counts: &[(String, u64)], margin: u64) {
    // One at a time: the file is read and written whole.
    static FILE: Mutex<()> = Mutex::new(());
    let _guard = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(figures_path()).unwrap();
    if std::env::var_os("RENEW").is_some() {
        let mut document: toml_edit::DocumentMut = text.parse().unwrap();
        for (name, count) in counts {
            document[build()][name] = toml_edit::value(i64::try_from(*count).unwrap());
        }
        fs::write(figures_path(), document.to_string()).unwrap();
        return;
    }
    let figures: BTreeMap<String, BTreeMap<String, u64>> = toml::from_str(&text).unwrap();
    let mut risen = Vec::new();
    for (name, count) in counts {
        let figure = *figures[build()].get(name).unwrap_or_else(|| panic!("tests/instructions.toml lacks {name:?}"));
        println!("{name}: {count}, of {figure}");
        if *count > figure + figure * margin / 100 {
            risen.push(format!("{name}: {count}, and {figure} are told"));
        } else if *count + count * margin / 100 < figure {
            println!("{name} has fallen: RENEW=1 keeps it there");
        }
    }
    assert!(risen.is_empty(), "more than {margin} % above tests/instructions.toml: {risen:#?}");
}

/// What `measured` took, each time.
fn totals(directory: &Path) -> Vec<u64> {
    let read = |number: usize| fs::read_to_string(directory.join(format!("out.{number}"))).ok();
    (1..).map_while(read).map(|dump| total(&dump)).collect()
}

fn total(dump: &str) -> u64 {
    let line = dump.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    line.unwrap_or_else(|| panic!("no total")).trim().parse().unwrap()
}

/// What valgrind runs: each part once for what is done only once, and once more.
#[test]
#[ignore = "the other test runs it under valgrind"]
fn every_part_runs() {
    for mut part in parts::all() {
        part.warm();
        part.measured();
    }
}

#[test]
fn the_pure_parts_take_no_more_instructions_than_they_did() {
    if !installed(&["valgrind"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    // Two patterns for one function: with the same one for both, callgrind obeys the first option alone.
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=*measured*",
            "--dump-after=*Part::measured",
            "--callgrind-out-file=out",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "every_part_runs", "--ignored", "--test-threads=1"])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<_> = parts::all().iter().map(|part| part.name.to_owned()).collect();
    let totals = totals(home.path());
    assert_eq!(totals.len(), names.len(), "a total for each part: {totals:?}");
    hold(&names.into_iter().zip(totals).collect::<Vec<_>>(), MARGIN);
}

/// A daemon with its next hop and archive.
struct Bench {
    next_hop: Sink,
    archive: Sink,
    relay: Relay,
}

impl Bench {
    fn start(program: Option<PathBuf>) -> Self {
        let (next_hop, archive) = (Sink::counting(), Sink::counting());
        let mut setup = Setup::new(&next_hop, &archive);
        if let Some(program) = program {
            setup.program = program;
        }
        let relay = setup.start();
        Self { next_hop, archive, relay }
    }

    /// Messages one after the other, each with its record, so that nothing is done for two of them at once.
    fn send(&self, count: u64) {
        // No two messages are the same, or the second one would have no record of its own.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut client = Client::ehlo(self.relay.address());
        let line = "The quick brown fox jumps over the lazy dog, and the relay keeps it all.\r\n";
        let text = line.repeat(SIZE / line.len());
        for number in std::iter::repeat_with(|| NUMBER.fetch_add(1, Ordering::Relaxed)).take(count as usize) {
            client.send(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n");
            for expected in ["250", "250", "354"] {
                client.reply().starts(expected);
            }
            let before = self.relay.count("record.acked");
            let header = format!(
                "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: {number}\r\n\
                 Message-ID: <{number}@example.org>\r\n\r\n"
            );
            client.send(format!("{header}{text}.\r\n").as_bytes());
            client.reply().starts("250");
            self.relay.wait_events("record.acked", before + 1);
        }
        assert!(self.next_hop.count() as u64 >= count && self.archive.count() as u64 >= count);
    }
}

/// Instructions of a daemon that takes so many messages, from its start to its end.
fn instructions(count: u64) -> u64 {
    let home = tempfile::tempdir().unwrap();
    let (script, out) = (home.path().join("daemon"), home.path().join("out"));
    let program = env!("CARGO_BIN_EXE_journal-relay");
    let text = format!(
        "#!/bin/sh\nexec valgrind -q --tool=callgrind --callgrind-out-file={} {program} \"$@\"\n",
        out.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut bench = Bench::start(Some(script));
    bench.send(count);
    assert!(bench.relay.terminate().success());
    total(&fs::read_to_string(&out).unwrap())
}

#[test]
fn a_message_takes_no_more_instructions_of_the_daemon_than_it_did() {
    if !installed(&["valgrind"]) {
        return;
    }
    let each = (instructions(MANY) - instructions(FEW)) / (MANY - FEW);
    hold(&[("daemon, a message of 4 KiB".to_owned(), each)], MARGIN_OF_DAEMON);
}

/// Calls by their names, of a daemon at work.
fn system_calls(bench: &Bench, count: u64) -> BTreeMap<String, u64> {
    let output = tempfile::NamedTempFile::new().unwrap();
    let pid = bench.relay.pid().to_string();
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-p", &pid, "-o"]).arg(output.path()).stderr(Stdio::piped());
    let mut strace = Program::start(&mut command);
    let mut said = BufReader::new(strace.child().stderr.take().unwrap()).lines();
    let line = said.next().and_then(Result::ok).unwrap_or_default();
    assert!(line.contains("attached"), "strace: {line}");
    let rest = std::thread::spawn(move || said.count());
    bench.send(count);
    signal(strace.pid(), "INT");
    strace.wait(Duration::from_secs(30));
    let _ = rest.join();
    // Columns: % time, seconds, usecs/call, calls, errors (may be empty), name.
    let table = fs::read_to_string(output.path()).unwrap();
    let rows = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let calls = words.get(3)?.parse().ok()?;
        Some(((*words.last()?).to_owned(), calls))
    });
    rows.filter(|(name, _)| name != "total").collect()
}

#[test]
fn a_message_takes_no_more_system_calls_than_it_did() {
    if !installed(&["strace"]) {
        return;
    }
    let bench = Bench::start(None);
    bench.send(FEW);
    let calls = system_calls(&bench, MANY);
    println!("{calls:?}");
    let of =
        |names: &[&str]| calls.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, calls)| calls).sum();
    let syncs: u64 = of(&["fsync", "fdatasync", "sync_file_range", "msync", "syncfs"]);
    let all: u64 = calls.values().sum();
    // Never fewer than one before each reply, and each message waits for its own here.
    assert!(syncs >= MANY, "{syncs} syncs for {MANY} messages that came one after the other");
    let hundred = |calls: u64| calls * 100 / MANY;
    let counts =
        [("system calls, 100 messages".to_owned(), hundred(all)), ("syncs, 100 messages".to_owned(), hundred(syncs))];
    hold(&counts, MARGIN_OF_DAEMON);
}
