//! A command on a pseudo terminal, as somebody sees it who sits at one: `script` of util-linux makes it.

use super::Relay;
use std::process::{Command, Stdio};

/// What a command writes to a terminal, both its outputs together; `more` follows it on the shell's line.
#[track_caller]
pub fn on_terminal(relay: &Relay, command: &str, more: &str, environment: &[(&str, &str)]) -> String {
    let program = option_env!("CARGO_BIN_EXE_journal-relay").unwrap_or_default();
    let line = format!("'{program}' {command} --config '{}' {more}", relay.config().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    script.env_remove("NO_COLOR").env("TERM", "xterm").env("SHELL", "/bin/sh").envs(environment.iter().copied());
    let output = script.output().expect("script");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
