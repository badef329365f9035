//! Every fence of README.md and docs/*.md is of one of these kinds, by what its opening fence says. One of none, and one more
//! that nobody can play, is a failure: so nothing stands in a page that no test knows.
//!
//! | opening fence | what holds it |
//! |---|---|
//! | `console`, `sh`, `sh background` | `tests/streets/documents` runs the commands and compares what they print |
//! | `json log` | the same finds the lines in the daemon's log |
//! | `json` | an event's line, in docs/LOGS.md alone: `tests/documents.rs` |
//! | `toml` | loads, completed where it is a part |
//! | `text commands` | each line begins with a command that there is |
//! | `text drawing` | no test: it shows how things stand to each other |
//! | LANGUAGE TITLE, on a page of `tests/streets/pages` | is started, run or put into a peer's configuration there |
//! | LANGUAGE `by-hand` | no test can: they are counted in [`BY_HAND`], and shell has to be shell |

#[path = "../common/fences.rs"]
mod fences;

use fences::{Fence, fences as fences_of, pages};
use journal_relay::config::{Config, Machine};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What no test can play: it needs systemd as the first process, root's directories, a registry, hours, or is another program's.
const BY_HAND: &[(&str, usize)] = &[
    ("README.md", 3),
    ("docs/FUZZING.md", 3),
    ("docs/INSTALLING.md", 8),
    ("docs/LOGS.md", 1),
    ("docs/PERFORMANCE.md", 1),
    ("docs/RELIABILITY.md", 5),
    ("docs/ROUTES.md", 1),
    ("docs/STATUS.md", 3),
    ("docs/topology-exchange.md", 2),
    ("docs/topology-load-balancer.md", 2),
    ("docs/topology-submission.md", 2),
];
/// What a configuration that is shown in part is completed with; `listener` and `organization` have their tables' heads.
const LISTENER: &str = "[[listener]]\nname = \"incoming\"\naddress = \"127.0.0.1:2525\"\n";
const NEXT_HOP: &str = "next_hop = \"smtp://127.0.0.1:10025\"\n";
const ORGANIZATION: &str = "[[organization]]\nname = \"acme\"\ndomains = [\"example.org\"]\n\
    journaling_address = \"journal@archive.example.com\"\nreport_address = \"postmaster@example.org\"\n";
/// Keys that pages show without their table.
const OF_LISTENERS: [&str; 2] = ["next_hop", "client_identity"];
const OF_ORGANIZATIONS: [&str; 2] = ["journaling_route", "report_route"];
const OF_TLS: [&str; 2] = ["certificate", "key"];
/// Where pages have their files.
const FOLDERS: [&str; 3] =
    ["/etc/journal-relay/tls/", "/etc/journal-relay/", "/run/credentials/journal-relay.service/"];

/// The source of the tests that play a topology's page.
fn played_elsewhere(page: &str, title: &str) -> bool {
    let name = page.trim_start_matches("docs/").trim_end_matches(".md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streets/pages");
    let sources = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let quoted = format!("\"{title}\"");
    sources.filter(|text| text.contains(&format!("\"{name}\""))).any(|text| text.contains(&quoted))
}

/// What holds a fence; `None`: nothing.
fn holder(page: &str, fence: &Fence) -> Option<&'static str> {
    match (fence.language.as_str(), fence.title.as_str()) {
        ("", _) => None,
        (_, "by-hand") => Some("nobody"),
        _ if fence.is_played() => Some("tests/streets/documents"),
        ("json", "log") if page == "docs/OPERATING.md" => Some("tests/streets/documents"),
        ("json", "") if page == "docs/LOGS.md" => Some("tests/documents.rs"),
        ("toml", "") | ("text", "commands" | "drawing") => Some("this"),
        (_, title) if !title.is_empty() && played_elsewhere(page, title) => Some("tests/streets/pages"),
        _ => None,
    }
}

fn every_fence() -> Vec<(String, Fence)> {
    let all = pages().into_iter();
    all.flat_map(|(page, text)| fences_of(&text).into_iter().map(move |fence| (page.clone(), fence))).collect()
}

#[test]
fn every_fence_is_held_by_a_test_or_counted_as_one_that_is_not() {
    let mut by_hand: Vec<(String, usize)> = Vec::new();
    for (page, fence) in every_fence() {
        let place = format!("{page}:{}: ```{} {}", fence.line, fence.language, fence.title);
        let holder = holder(&page, &fence).unwrap_or_else(|| panic!("{place}: no test knows what this is"));
        if holder == "nobody" {
            match by_hand.iter_mut().find(|(known, _)| *known == page) {
                Some((_, count)) => *count += 1,
                None => by_hand.push((page, 1)),
            }
        }
    }
    let expected: Vec<_> = BY_HAND.iter().map(|(page, count)| ((*page).to_owned(), *count)).collect();
    assert_eq!(by_hand, expected, "fences (left) that no test can play, and those that are known (right)");
}

#[test]
fn what_is_written_as_shell_is_shell() {
    for (page, fence) in every_fence().iter().filter(|(_, fence)| ["sh", "console"].contains(&fence.language.as_str()))
    {
        let script = match fence.language.as_str() {
            "sh" => fence.text.clone(),
            _ => fence.text.lines().filter_map(|line| line.strip_prefix("$ ")).collect::<Vec<_>>().join("\n"),
        };
        let read = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(read.status.success(), "{page}:{}: {}", fence.line, String::from_utf8_lossy(&read.stderr));
    }
}

#[test]
fn a_list_of_commands_has_those_that_there_are() {
    let command = journal_relay::cli::command();
    let mut lines = 0;
    for (page, fence) in every_fence().iter().filter(|(_, fence)| fence.title == "commands") {
        for line in fence.text.lines() {
            let mut here = &command;
            let words = line.strip_prefix("journal-relay ").unwrap_or_else(|| panic!("{page}: {line}"));
            // `hold|release` are two of them; an option, or what stands for a value, ends them.
            for word in words.split(' ').take_while(|word| word.starts_with(|letter: char| letter.is_ascii_lowercase()))
            {
                let mut found = word.split('|').map(|word| here.find_subcommand(word));
                let first = found.next().flatten().unwrap_or_else(|| panic!("{page}: no {word:?} in {line}"));
                assert!(found.all(|other| other.is_some()), "{page}: {line}");
                here = first;
                if !here.has_subcommands() {
                    break;
                }
            }
            lines += 1;
        }
    }
    assert!(lines > 10, "only {lines} commands are listed");
}

/// A directory with every file that the pages' configurations name.
fn with_files(directory: &Path, text: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.net".to_owned()]).unwrap();
    let here = format!("{}/", directory.display());
    let text = FOLDERS.iter().fold(text.to_owned(), |text, folder| text.replace(folder, &here));
    for name in text.split(&here).skip(1).map(|rest| rest.split(['"', '&', '?']).next().unwrap()) {
        let octets = match name {
            _ if name.contains("key") => made.signing_key.serialize_pem(),
            _ if name.contains("pass") || name.ends_with("token") => "0123456789abcdef\n".to_owned(),
            _ => made.cert.pem(),
        };
        fs::write(directory.join(name), octets).unwrap();
    }
    text
}

/// The whole file that a part belongs into.
fn completed(part: &str) -> String {
    let first = if part.starts_with('[') { 0 } else { part.find("\n[").map_or(part.len(), |at| at + 1) };
    let (bare, tables) = part.split_at(first);
    let lines = |keys: &[&str]| -> String {
        let own = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| keys.contains(&key));
        bare.lines().filter(own).map(|line| format!("{line}\n")).collect()
    };
    let (listener, tls) = (lines(&OF_LISTENERS), lines(&OF_TLS));
    let mut text = bare.lines().filter(|line| line.starts_with("hostname")).collect::<Vec<_>>().join("\n") + "\n";
    if !tables.contains("[[listener]]") {
        let next_hop = if listener.contains("next_hop") { "" } else { NEXT_HOP };
        text += &[LISTENER, next_hop, &listener].concat();
        if !tls.is_empty() {
            let both = OF_TLS.map(|key| {
                if tls.contains(&format!("{key} = ")) {
                    String::new()
                } else {
                    format!("{key} = \"/etc/journal-relay/tls/{key}.pem\"\n")
                }
            });
            text += &format!("[listener.tls]\n{tls}{}", both.concat());
        }
    }
    text += tables;
    if !tables.contains("[[organization]]") {
        text += &format!("{ORGANIZATION}{}", lines(&OF_ORGANIZATIONS));
    }
    text
}

#[test]
fn every_configuration_loads() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine { hostname: "relay.example.org".to_owned(), stderr_is_terminal: false };
    let mut whole = 0;
    for (page, fence) in every_fence().iter().filter(|(_, fence)| fence.language == "toml") {
        let place = format!("{page}:{}", fence.line);
        // Its examples are held by tests/config_errors/documented.rs, key by key.
        if page == "docs/CONFIGURATION.md" {
            continue;
        }
        let text = completed(&fence.text);
        for line in fence.text.lines().filter(|line| !line.trim().is_empty()) {
            assert!(text.contains(line), "{place}: nobody knows where this belongs: {line}");
        }
        whole += usize::from(fence.text.contains("[[listener]]") && fence.text.contains("[[organization]]"));
        let text = with_files(directory.path(), &text);
        let loaded = Config::parse(&text, Path::new("config.toml"), &machine);
        assert!(
            loaded.is_ok(),
            "{place}: {}\n{text}",
            loaded.err().map(|errors| errors.to_string()).unwrap_or_default()
        );
    }
    assert!(whole >= 6, "only {whole} whole configurations");
}
