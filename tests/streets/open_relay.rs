//! nmap's script for open relays, against the relay and against one that is open.

use crate::common::{Setup, Sink, installed};
use std::process::{Command, Stdio};

/// What the script says of a server that takes mail for example.org from strangers, or from everybody for anybody.
fn nmap(trusted: bool) -> String {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let setup = Setup::new(&next_hop, &archive);
    let mut relay = if trusted { setup } else { setup.trusting_nobody() }.start();
    let (host, port) = (relay.address().ip().to_string(), relay.address().port().to_string());
    let mut nmap = Command::new("nmap");
    nmap.args(["-Pn", "-n", "--script", "+smtp-open-relay", "-p", &port, &host]);
    nmap.args(["--script-args", "smtp-open-relay.domain=client.example.com,smtp-open-relay.ip=127.0.0.1"]);
    let output = nmap.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    relay.finish_clean(0);
    assert!(next_hop.transactions().is_empty(), "the script sends no message");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nmap_finds_the_relay_closed_and_one_that_trusts_it_open() {
    if !installed(&["nmap"]) {
        return;
    }
    let said = nmap(false);
    assert!(said.contains("Server doesn't seem to be an open relay, all tests failed"), "{said}");
    let said = nmap(true);
    assert!(said.contains("Server is an open relay ("), "{said}");
}
