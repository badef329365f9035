//! What an operator is told about a wrong configuration: each mistake with the exact text of its error.
//!
//! A case is a change to a sound file and the lines that must come of it. The sound file's lines are numbered in the
//! expectations, so a change keeps them where it can.

use journal_relay::config::{Config, Machine};
use std::path::Path;

mod checks;
mod documented;
mod features;
mod values;

/// Lines 1 to 10.
const SOUND: &str = r#"[[listener]]
name = "incoming"
address = "127.0.0.1:25"
next_hop = "smtp://127.0.0.1:10025"
max_message_size = "64MiB"
[[organization]]
name = "acme"
domains = ["acme.example"]
journaling_address = "a@archive.example"
report_address = "p@acme.example"
"#;

fn errors_of(text: &str) -> String {
    let machine = Machine { hostname: "relay.acme.example".to_owned(), stderr_is_terminal: false };
    match Config::parse(text, Path::new("c.toml"), &machine) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

/// Each case: a part of the sound file, what stands there instead, the errors.
fn check(cases: &[(&str, &str, &str)]) {
    assert_eq!(errors_of(SOUND), "");
    for (part, instead, errors) in cases {
        assert_eq!(SOUND.matches(part).count(), 1, "{part:?} must stand in the file once");
        let text = SOUND.replace(part, instead);
        assert_eq!(errors_of(&text), *errors, "of this file:\n{text}");
    }
}

/// Like [`check`], with lines added at the end, from line 11.
fn check_added(cases: &[(&str, &str)]) {
    for (added, errors) in cases {
        assert_eq!(errors_of(&format!("{SOUND}{added}")), *errors, "with this added:\n{added}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nonexistent/config.toml")).unwrap_err().to_string();
    assert_eq!(error, "/nonexistent/config.toml: the file can't be read: No such file or directory (os error 2)");
    let directory = tempfile::tempdir().unwrap();
    let error = Config::load(directory.path()).unwrap_err().to_string();
    assert!(error.ends_with(": the file can't be read: Is a directory (os error 21)"), "{error}");
}

#[test]
fn a_file_that_is_too_large_or_not_utf_8_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, vec![b'\n'; 4 * 1024 * 1024 + 1]).unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.ends_with(": the file is larger than 4194304 octets, the most that is allowed"), "{error}");
    std::fs::write(&path, b"# \xc3\xa4\nname = \"\xe4\"\n").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.ends_with("config.toml:2:9: found an octet that is not UTF-8; a TOML file is UTF-8"), "{error}");
}

#[test]
fn what_is_not_toml_is_shown_by_place() {
    check(&[
        (
            "name = \"acme\"",
            "name = acme",
            "c.toml:7:8: not TOML: string values must be quoted, expected literal string",
        ),
        ("name = \"acme\"", "name \"acme\"", "c.toml:7:6: not TOML: key with no value, expected `=`"),
        ("[[organization]]", "[[organization]", "c.toml:6:16: not TOML: unclosed array table, expected `]`"),
        (
            "name = \"acme\"",
            "name = \"acme\"\nname = \"acme\"",
            "c.toml:8:1: duplicate key name; a key or table is allowed once",
        ),
    ]);
    check_added(&[("[log]\n[log]\n", "c.toml:12:2: duplicate key log; a key or table is allowed once")]);
}

#[test]
fn an_unknown_key_is_answered_with_the_known_ones() {
    check(&[
        (
            "max_message_size",
            "max_size",
            "c.toml:5:1: unknown key \"max_size\" in [[listener]]; allowed are name, address, mode, next_hop, \
             trusted_networks, client_identity, proxy_protocol_from, max_message_size, auth, tls, limits",
        ),
        (
            "name = \"acme\"",
            "name = \"acme\"\nUnlisted = 1",
            "c.toml:8:1: unknown key \"Unlisted\" in [[organization]]; allowed are name, domains, journaling, \
             switch_reason, journaling_address, report_address, journaling_route, also, delivered_when, retention, \
             report_route, sender, unlisted_recipients, recipients, coalesce, scope",
        ),
    ]);
    check_added(&[
        (
            "[loging]\n",
            "c.toml:11:2: unknown key \"loging\"; allowed are hostname, spool, listener, organization, retry, admin, log",
        ),
        (
            "[spool]\ndir = 1\n",
            "c.toml:12:1: unknown key \"dir\" in [spool]; allowed are path, on_failure, allow_volatile",
        ),
        (
            "[retry]\nlast = 1\n",
            "c.toml:12:1: unknown key \"last\" in [retry]; allowed are first, longest, give_up, report_after",
        ),
        (
            "[log]\nfile = 1\n",
            "c.toml:12:1: unknown key \"file\" in [log]; allowed are format, level, addresses, trace_sessions",
        ),
        (
            "scope = { only = [] }\n",
            "c.toml:11:11: unknown key \"only\" in organization.scope; allowed are directions, include, exclude",
        ),
    ]);
}

#[test]
fn a_wrong_type_is_named_beside_the_right_one() {
    check(&[
        ("\"127.0.0.1:25\"", "25", "c.toml:3:11: listener.address: found the number 25; allowed is a string"),
        ("\"64MiB\"", "1.5", "c.toml:5:20: listener.max_message_size: found the number 1.5; allowed is a string"),
        (
            "[\"acme.example\"]",
            "\"acme.example\"",
            "c.toml:8:11: organization.domains: found a string; allowed is a list of strings",
        ),
        (
            "[\"acme.example\"]",
            "[\"acme.example\", true]",
            "c.toml:8:28: organization.domains: found true; allowed is a string",
        ),
        (
            "[[organization]]",
            "[organization]",
            "c.toml:6:1: organization: found a table; allowed is a list of tables, each headed [[organization]]",
        ),
    ]);
    check_added(&[
        ("journaling = \"yes\"\n", "c.toml:11:14: organization.journaling: found a string; allowed is true or false"),
        ("coalesce = 5\n", "c.toml:11:12: organization.coalesce: found the number 5; allowed is a string"),
        ("scope = [\"*\"]\n", "c.toml:11:9: organization.scope: found a list; allowed is a table organization.scope"),
        ("[[log]]\n", "c.toml:11:1: log: found a list; allowed is a table [log]"),
    ]);
}

#[test]
fn a_missing_key_is_reported_at_its_table() {
    check(&[
        (
            "next_hop = \"smtp://127.0.0.1:10025\"\n",
            "",
            "c.toml:1:1: [[listener]] lacks the key \"next_hop\"; required are name, address, next_hop",
        ),
        (
            "report_address = \"p@acme.example\"\n",
            "",
            "c.toml:6:1: [[organization]] lacks the key \"report_address\"; required are name, domains, \
             journaling_address, report_address",
        ),
    ]);
    let nothing = "c.toml:1:1: the file has no [[listener]]; at least one is needed\n\
                   c.toml:1:1: the file has no [[organization]]; at least one is needed";
    for text in ["", "# nothing\n", "listener = []\norganization = []\n"] {
        assert_eq!(errors_of(text), nothing, "{text:?}");
    }
}

#[test]
fn several_mistakes_are_told_at_once_in_the_file_s_order() {
    let text = SOUND.replace("name = \"incoming\"", "nam = 1").replace("\"64MiB\"", "true").replace("p@", "p@-");
    let errors = errors_of(&text);
    let places: Vec<_> = errors.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["c.toml:1:1:", "c.toml:2:1:", "c.toml:5:20:", "c.toml:10:18:"]);
}

#[test]
fn columns_count_characters() {
    check(&[(
        "[\"acme.example\"]",
        "[\"例え.example\", \"-\"]",
        "c.toml:8:26: organization.domains = \"-\": bad domain; allowed is a domain such as \"example.org\" or \
         \"*.example.org\"",
    )]);
}
