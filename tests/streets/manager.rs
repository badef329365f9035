//! What a service manager sees of the daemon: readiness, reloads, the watchdog and the end, and sockets that it bound.
//!
//! The manager is played by a datagram socket, and by a launcher that passes sockets as systemd does (`sd_listen_fds(3)`).

use crate::common::{Client, PATIENCE, Relay, Setup, Sink, free_port, own_loopback_address};
use crate::message;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

/// Binds the addresses of its first argument (joined by commas; `!` in front: without listening), passes them under the names
/// of its second, and becomes the rest.
const LAUNCHER: &str = r#"
import os, socket, sys
addresses, names, program = sys.argv[1], sys.argv[2], sys.argv[3:]
sockets = []
for address in addresses.split(","):
    host, port = address.lstrip("!").rsplit(":", 1)
    bound = socket.socket()
    bound.bind((host, int(port)))
    if not address.startswith("!"):
        bound.listen()
    sockets.append(os.dup2(os.dup(bound.fileno()), 100 + len(sockets)))
for place, number in enumerate(sockets):
    os.dup2(number, 3 + place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=names)
os.execv(program[0], program)
"#;

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn hears(&self) -> String {
        let mut octets = [0; 4096];
        let length = self.0.recv(&mut octets).expect("the daemon says something in time");
        String::from_utf8(octets[..length].to_vec()).unwrap()
    }

    /// The next datagram that begins so; pings of the watchdog may come before it, and nothing else.
    #[track_caller]
    fn hears_next(&self, beginning: &str) -> String {
        loop {
            let heard = self.hears();
            if heard.starts_with(beginning) {
                return heard;
            }
            assert_eq!(heard, "WATCHDOG=1", "before {beginning}");
        }
    }
}

/// A daemon that is started by way of a shell script of one line: `line`, with the program and its arguments behind it.
fn launched_by(line: &str, mut setup: Setup) -> Relay {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("launch");
    std::fs::write(&script, format!("#!/bin/sh\n{line} {} \"$@\"\n", setup.program.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    setup.program = script;
    Relay::prepare(setup, home)
}

fn passing(addresses: &str, names: &str) -> String {
    let launcher = LAUNCHER.replace('\'', "'\\''");
    format!("exec python3 -c '{launcher}' '{addresses}' '{names}'")
}

#[test]
fn a_manager_hears_of_readiness_reloads_the_watchdog_and_the_end() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let manager = Manager::at(&path);
    // A ping each tenth of a second.
    let line = format!("exec env NOTIFY_SOCKET={} WATCHDOG_USEC=200000", path.display());
    let setup = Setup::new(&next_hop, &archive).at_a_fixed_address();
    let mut relay = launched_by(&line, setup.clone());
    relay.launch();
    manager.hears_next("STATUS=opening the spool");
    let ready = manager.hears_next("READY=1\n");
    assert_eq!(ready, format!("READY=1\nSTATUS=listening: incoming {}", setup.listen));
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }

    relay.configure(&setup.toml(&relay.spool()).replace("first = \"200ms\"", "first = \"300ms\""));
    relay.ask_to_reload();
    let reloading = manager.hears_next("RELOADING=1\n");
    assert!(reloading.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading}");
    assert_eq!(manager.hears_next("READY=1\n"), ready);
    relay.wait_event("config.reloaded", |_| true);

    relay.configure("nonsense");
    relay.ask_to_reload();
    while !manager.hears().starts_with("READY=1\nSTATUS=the changed configuration was rejected") {}

    assert_eq!(relay.terminate().code(), Some(0));
    while !manager.hears().starts_with("STOPPING=1\nSTATUS=no new work") {}
}

#[test]
fn readiness_is_told_only_when_every_listener_is_bound() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let manager = Manager::at(&path);
    let mut setup = Setup::new(&next_hop, &archive);
    let route = next_hop.route();
    setup.more = format!(
        "\n[[listener]]\nname = \"second\"\naddress = \"{}\"\nnext_hop = {route:?}\n",
        taken.local_addr().unwrap()
    );
    let relay = launched_by(&format!("exec env NOTIFY_SOCKET={}", path.display()), setup);
    let ended = relay.command(&["run"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    manager.hears_next("STATUS=opening the spool");
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err(), "the daemon is gone, and never was ready");
}

#[test]
fn passed_sockets_are_used_by_name_and_by_address() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive).at_a_fixed_address();
    let second: SocketAddr = free_port(own_loopback_address());
    let route = next_hop.route();
    let mut both = setup.clone();
    both.more = format!("\n[[listener]]\nname = \"second\"\naddress = \"{second}\"\nnext_hop = {route:?}\n");
    let line = passing(&format!("{},{second}", setup.listen), "incoming:journal-relay.socket");
    let mut relay = launched_by(&line, both);
    relay.launch();
    let passed = relay.wait_events("listener.passed", 2);
    let found: Vec<_> = passed.iter().map(|event| (event.text("listener"), event.text("address"))).collect();
    let (first, other) = (setup.listen.to_string(), second.to_string());
    assert_eq!(found, [("incoming", first.as_str()), ("second", other.as_str())]);
    // The daemon has bound nothing itself, or the address would have been in use.
    for (number, address) in [setup.listen, second].into_iter().enumerate() {
        let mark = format!("passed-{number}");
        Client::ehlo(address).mail("alice@example.org", &["carol@example.org"], &message(&mark)).starts("250");
    }
    relay.finish_clean(2);
}

#[test]
fn passed_sockets_that_fit_no_listener_start_nothing_and_say_why() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive).at_a_fixed_address();
    let other = free_port(own_loopback_address());
    for (addresses, names, said) in [
        (other.to_string(), "incoming", "ListenStream= and address have to be the same"),
        (other.to_string(), "journal-relay.socket", "no listener has that name (FileDescriptorName=) or that address"),
        (format!("!{}", setup.listen), "incoming", "it does not listen"),
    ] {
        let relay = launched_by(&passing(&addresses, names), setup.clone());
        let ended = relay.command(&["run"]);
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        assert!(!relay.spool().exists(), "nothing was touched");
    }
    // What is passed to another process is none of ours.
    let line = "exec env LISTEN_PID=1 LISTEN_FDS=7";
    let mut relay = launched_by(line, setup);
    relay.launch();
    assert!(TcpStream::connect(relay.address()).is_ok());
    assert_eq!(relay.finish().len(), 0);
}

/// The unit as it is shipped, as far as systemd's own tools judge it without running it.
#[test]
fn systemd_finds_the_unit_sound_and_well_confined() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("systemd-analyze isn't installed: skipped");
        return;
    }
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20", "config/journal-relay.service"])
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(judged.status.success(), "the exposure is 2.0 or more:\n{table}");
    let overall = table.lines().find(|line| line.contains("Overall exposure level")).expect("a level");
    let docs = std::fs::read_to_string("docs/INSTALLING.md").unwrap();
    let level = overall.split_whitespace().find(|word| word.parse::<f64>().is_ok()).expect("a number");
    assert!(
        docs.contains(&format!("Overall exposure level for journal-relay.service: {level}")),
        "docs say otherwise than {overall}"
    );
}
