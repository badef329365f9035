//! The man pages and completions that are made from the command line leave no command out, and formatters find nothing to
//! complain about.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test may stop at once"
)]

#[path = "../examples/manual.rs"]
mod manual;

use clap::Command as Clap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every command's words, `journal-relay` first, without those that are hidden.
fn commands(command: &Clap, before: &str, found: &mut Vec<String>) {
    let name =
        if before.is_empty() { command.get_name().to_owned() } else { format!("{before} {}", command.get_name()) };
    for command in command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        commands(command, &name, found);
    }
    found.push(name);
}

fn all_commands() -> Vec<String> {
    let mut found = Vec::new();
    commands(&journal_relay::cli::command(), "", &mut found);
    assert!(found.len() > 10 && found.contains(&"journal-relay queue list".to_owned()), "{found:?}");
    found
}

fn pages(directory: &Path) -> Vec<PathBuf> {
    let mut pages: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "1"));
    pages.sort();
    pages
}

#[test]
fn every_command_has_a_page_that_names_it_and_its_options() {
    let directory = tempfile::tempdir().unwrap();
    manual::write(directory.path()).unwrap();
    let wanted: BTreeSet<_> = all_commands().iter().map(|words| words.replace(' ', "-") + ".1").collect();
    let found: BTreeSet<_> =
        pages(directory.path()).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, wanted);
    for page in pages(directory.path()) {
        let text = std::fs::read_to_string(&page).unwrap();
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", "\\-\\-config", ".SH EXIT STATUS"] {
            assert!(text.contains(part), "{} has no {part}", page.display());
        }
    }
}

#[test]
fn completions_know_every_command() {
    let directory = tempfile::tempdir().unwrap();
    manual::write(directory.path()).unwrap();
    for file in ["journal-relay.bash", "_journal-relay", "journal-relay.fish"] {
        let text = std::fs::read_to_string(directory.path().join(file)).unwrap();
        for words in all_commands() {
            let last = words.rsplit(' ').next().unwrap().to_owned();
            assert!(text.contains(&last), "{file} does not know {words}");
        }
    }
}

#[test]
fn formatters_find_nothing_to_complain_about() {
    let directory = tempfile::tempdir().unwrap();
    manual::write(directory.path()).unwrap();
    for page in pages(directory.path()) {
        let path = page.to_str().unwrap();
        for line in [
            ["groff", "-man", "-Tutf8", "-ww", "-z", path],
            ["mandoc", "-T", "lint", "-W", "warning", path],
            ["man", "--warnings", "-l", "-P", "cat", path],
        ] {
            let [program, arguments @ ..] = line;
            match Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").output() {
                Ok(said) => {
                    let complaints = String::from_utf8_lossy(&said.stderr);
                    let lint = if program == "mandoc" { String::from_utf8_lossy(&said.stdout) } else { "".into() };
                    assert!(
                        said.status.success() && complaints.is_empty() && lint.is_empty(),
                        "{program}: {complaints}{lint}"
                    );
                }
                Err(error) => {
                    assert!(
                        std::env::var_os("JOURNAL_RELAY_PEERS").is_none(),
                        "JOURNAL_RELAY_PEERS=required, but {program}: {error}"
                    );
                    println!("skipped: {program}: {error}");
                }
            }
        }
    }
}
