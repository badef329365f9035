//! Tests of the defaults, and of the example file that shows them.

use super::*;
use crate::config::{AddressPattern, Direction, MxRoute, Route, UnlistedRecipients};

const EXAMPLE: &str = include_str!("../../../config/journal-relay.toml");

fn machine() -> Machine {
    Machine { hostname: "relay.example.org".to_owned(), stderr_is_terminal: false }
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("config.toml"), &machine()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// The key of a line `# key = value` of the example.
fn commented_key(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix("# ")?.split_once(" = ")?;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
}

/// The example without values for the keys that have a default: with the defaults written out, or left to the code.
fn example_of_defaults(written_out: bool) -> (String, Vec<String>) {
    let (mut text, mut shown) = (String::new(), Vec::new());
    let mut table = String::new();
    for line in EXAMPLE.lines() {
        if line.starts_with('[') {
            table = line.to_owned();
        }
        let active = line.split_once(" = ").map(|(key, _)| format!("{table}{key}"));
        if let Some(key) = commented_key(line) {
            shown.push(format!("{table}{key}"));
            if written_out {
                text += line.trim_start_matches("# ");
                text += "\n";
            }
        } else if !active.is_some_and(|key| shown.contains(&key)) {
            text += line;
            text += "\n";
        }
    }
    (text, shown)
}

#[test]
fn the_example_is_a_sound_configuration() {
    let config = parse(EXAMPLE);
    let listener = &config.listeners[0];
    assert_eq!(listener.address.to_string(), "127.0.0.1:2525");
    assert_eq!(listener.next_hop.to_string(), "maildir:journal-relay-data/delivered");
    assert_eq!(listener.trusted_networks.len(), 2);
    let organization = &config.organizations[0];
    assert_eq!(organization.name, "yourorganization");
    assert_eq!(organization.domains.iter().map(|d| d.as_text()).collect::<Vec<_>>(), ["example.org", "example.net"]);
    assert_eq!(organization.journaling_route.to_string(), "maildir:journal-relay-data/journal");
    assert_eq!(organization.report_route.to_string(), "maildir:journal-relay-data/reports");
    assert_eq!(config.spool.path, Path::new("journal-relay-data/spool"));
}

#[test]
fn every_default_that_the_example_shows_is_the_one_in_force() {
    let (written_out, shown) = example_of_defaults(true);
    assert_eq!(shown.len(), 31, "{shown:?}");
    assert_eq!(parse(&written_out), parse(&example_of_defaults(false).0));
}

#[test]
fn the_example_shows_every_key() {
    let (text, _) = example_of_defaults(true);
    let document = DeTable::parse(&text).unwrap();
    let root = document.get_ref();
    let keys = |table: &DeTable<'_>| table.keys().map(|key| key.get_ref().to_string()).collect::<Vec<_>>();
    let first = |key: &str| root[key].get_ref().as_array().unwrap()[0].get_ref().as_table().unwrap();
    let sorted = |kind: Kind| {
        let mut keys: Vec<_> = kind.keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(root), sorted(ROOT));
    // Tables without a default stand there as comments alone.
    let mut of_listener = sorted(listener::LISTENER);
    of_listener.retain(|key| key != "tls" && key != "limits");
    assert_eq!(keys(first("listener")), of_listener);
    for line in
        ["#[listener.tls]", "#mode = ", "#certificate = ", "#key = ", "#[[listener.tls.sni]]", "#[listener.limits]"]
    {
        assert!(EXAMPLE.lines().any(|shown| shown.starts_with(line)), "{line}");
    }
    for key in limits::LIMITS.keys {
        assert!(EXAMPLE.lines().any(|shown| shown.starts_with(&format!("#{key} = "))), "{key}");
    }
    assert_eq!(keys(first("organization")), sorted(organization::ORGANIZATION));
    // A token is a file that one makes.
    assert_eq!(keys(root["admin"].get_ref().as_table().unwrap()), ["address", "hosts"]);
    assert!(EXAMPLE.lines().any(|line| line.starts_with("#token_file = ")));
    assert_eq!(admin::ADMIN.keys, ["address", "hosts", "token_file"]);
    for kind in [SPOOL, RETRY, LOG] {
        assert_eq!(keys(root[kind.path].get_ref().as_table().unwrap()), sorted(kind));
    }
}

#[test]
fn what_the_file_leaves_out_has_the_contract_s_default() {
    let config = parse(
        "[[listener]]\nname = \"in\"\naddress = \"0.0.0.0:25\"\nnext_hop = \"smtp://127.0.0.1:10025\"\n\
         [[organization]]\nname = \"acme\"\ndomains = [\"acme.example\"]\n\
         journaling_address = \"a@archive.example\"\nreport_address = \"p@acme.example\"\n",
    );
    assert_eq!(config.hostname, "relay.example.org");
    assert_eq!(config.spool.path, Path::new("/var/lib/journal-relay"));
    assert!(!config.spool.allow_volatile, "a volatile spool has to be meant");
    assert_eq!(config.listeners[0].trusted_networks, []);
    assert_eq!(config.listeners[0].max_message_size, 67_108_864);
    let organization = &config.organizations[0];
    assert!(organization.journaling);
    let mx = Route::Mx(MxRoute::default());
    assert_eq!((&organization.journaling_route, &organization.report_route), (&mx, &mx));
    assert_eq!(organization.sender.as_str(), "amazonjournaling@acme.awsapps.com");
    assert_eq!(organization.unlisted_recipients, UnlistedRecipients::Bcc);
    assert_eq!(organization.coalesce, Duration::from_secs(5));
    assert_eq!(organization.scope.directions, [Direction::Incoming, Direction::Outgoing, Direction::Internal]);
    assert_eq!(organization.scope.include, [AddressPattern::Any]);
    assert_eq!(organization.scope.exclude, []);
    let retry = [config.retry.first, config.retry.longest, config.retry.give_up, config.retry.report_after];
    assert_eq!(retry.map(|wait| wait.as_secs()), [60, 3_600, 691_200, 14_400]);
    let log = Log { format: LogFormat::Json, level: tracing::Level::INFO, addresses: LogAddresses::Full };
    assert_eq!(config.log, log);
}

#[test]
fn a_terminal_gets_text_unless_the_file_says_otherwise() {
    let terminal = Machine { stderr_is_terminal: true, ..machine() };
    let format = |text: &str| Config::parse(text, Path::new("c"), &terminal).unwrap().log.format;
    assert_eq!(format(EXAMPLE), LogFormat::Text);
    assert_eq!(format(&EXAMPLE.replace("# format", "format")), LogFormat::Json);
}

#[test]
fn a_file_on_disk_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    assert_eq!(Config::load(&path).unwrap().organizations, parse(EXAMPLE).organizations);
}
