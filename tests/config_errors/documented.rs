//! `docs/CONFIGURATION.md` against the program: what keys it accepts is asked of the program itself, by its errors. A key that
//! nobody described, a description of a key that is gone, and a default that is another one are failures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, with helpers of their own")]

use super::SOUND;
use journal_relay::config::{Config, Machine};
use std::collections::BTreeMap;
use std::path::Path;
use toml_edit::{DocumentMut, Item, TableLike, Value};

const PAGE: &str = include_str!("../../docs/CONFIGURATION.md");
/// Where the page's examples have certificates.
const TLS_FILES: &str = "/etc/journal-relay/tls/";
/// Where they have the token.
const TOKEN: &str = "/etc/journal-relay/admin.token";
/// No key may be called so.
const UNKNOWN: &str = "no-such-key";
/// A value that no key takes.
const NO_VALUE: &str = "1979-05-27";

/// The kinds of tables there are, by what stands before and behind a key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Table,
    Tables,
    List,
    Flag,
    Text,
}

/// The file with `content` in the table at `path`, whose other keys are sound where the program asks for them.
fn file_with(path: &[(String, Kind)], content: &str) -> String {
    let mut text = content.to_owned();
    for (name, kind) in path.iter().rev() {
        text = match kind {
            Kind::Tables => format!("{name} = [{{ {}{text} }}]", companions(name)),
            _ => format!("{name} = {{ {text} }}"),
        };
    }
    text + "\n"
}

/// What a table must have for all of it to be read.
fn companions(table: &str) -> &'static str {
    match table {
        "listener" => "name = \"a\", address = \"127.0.0.1:0\", next_hop = \"maildir:x\", ",
        "organization" => {
            "name = \"a\", domains = [\"a.example\"], journaling_address = \"a@b.example\", report_address = \"c@a.example\", "
        }
        _ => "",
    }
}

fn errors_of(text: &str) -> String {
    load(text).err().unwrap_or_default()
}

fn load(text: &str) -> Result<Config, String> {
    let machine = Machine { hostname: "relay.acme.example".to_owned(), stderr_is_terminal: false };
    Config::parse(text, Path::new("c.toml"), &machine).map_err(|errors| errors.to_string())
}

fn dotted(path: &[(String, Kind)], key: &str) -> String {
    path.iter().map(|(name, _)| format!("{name}.")).collect::<String>() + key
}

/// The keys that the program allows in the table at `path`.
fn allowed_keys(path: &[(String, Kind)]) -> Vec<String> {
    let errors = errors_of(&file_with(path, &format!("{UNKNOWN} = 1")));
    let line = errors.lines().find(|line| line.contains(&format!("unknown key \"{UNKNOWN}\"")));
    let line = line.unwrap_or_else(|| panic!("{path:?} takes any key: {errors}"));
    line.rsplit_once("allowed are ").unwrap().1.split(", ").map(str::to_owned).collect()
}

/// What the program says a value should be.
fn kind_of(path: &[(String, Kind)], key: &str) -> Kind {
    let companions_without = |table: &str| {
        let kept =
            companions(table).split(", ").filter(|item| !item.is_empty() && !item.starts_with(&format!("{key} =")));
        kept.map(|item| format!("{item}, ")).collect::<String>()
    };
    let content = format!("{key} = {NO_VALUE}");
    let text = match path {
        [(table, Kind::Tables)] => format!("{table} = [{{ {}{content} }}]\n", companions_without(table)),
        _ => file_with(path, &content),
    };
    let errors = errors_of(&text);
    let start = format!("{}: found the date or time {NO_VALUE}; allowed is ", dotted(path, key));
    let allowed = errors.lines().find_map(|line| Some(line.split_once(&start)?.1));
    match allowed.unwrap_or_else(|| panic!("{path:?} {key} takes a date: {errors}")) {
        "a string" => Kind::Text,
        "true or false" => Kind::Flag,
        "a list of strings" => Kind::List,
        table if table.starts_with("a list of tables") => Kind::Tables,
        table if table.starts_with("a table") => Kind::Table,
        other => panic!("{path:?} {key}: {other}"),
    }
}

/// Every key that the program accepts, by its dotted name.
fn accepted() -> BTreeMap<String, Kind> {
    let mut keys = BTreeMap::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        for key in allowed_keys(&path) {
            let kind = kind_of(&path, &key);
            keys.insert(dotted(&path, &key), kind.clone());
            if matches!(kind, Kind::Table | Kind::Tables) {
                open.push([path.clone(), vec![(key, kind)]].concat());
            }
        }
    }
    keys
}

/// What the page says of a key.
#[derive(Debug)]
struct Described {
    key: String,
    /// The line below the heading.
    facts: String,
    text: String,
    example: Option<String>,
}

fn described() -> Vec<Described> {
    let sections = PAGE.split("\n### `").skip(1).map(|section| {
        let section = section.split("\n## ").next().unwrap();
        let (key, text) = section.split_once("`\n").unwrap();
        let example = text.split_once("```toml\n").map(|(_, behind)| behind.split_once("```").unwrap().0.to_owned());
        let facts = text.trim_start().split("\n\n").next().unwrap().replace('\n', " ");
        Described { key: key.to_owned(), facts, text: text.to_owned(), example }
    });
    sections.collect()
}

/// What stands between backquotes behind `default`, when the page gives a value.
fn default_of(facts: &str) -> Option<&str> {
    facts.split_once("default `")?.1.split_once('`').map(|(value, _)| value)
}

/// `SOUND` with what an example sets; its tables are those of the example.
fn sound_with(example: &str) -> DocumentMut {
    let mut document: DocumentMut = SOUND.parse().unwrap();
    let example: DocumentMut = example.parse().unwrap();
    overlay(document.as_table_mut(), example.as_table());
    document
}

fn overlay(below: &mut dyn TableLike, above: &dyn TableLike) {
    for (key, item) in above.iter() {
        // `[listener.tls]` without a `[[listener]]` of its own is meant for the one that is there.
        let target = below.get_mut(key).and_then(first_table);
        match (target, first_table_of(item)) {
            (Some(target), Some(table)) => overlay(target, table),
            // In one line, since tables of two files have no order among each other.
            _ => drop(below.insert(key, Item::Value(item.clone().into_value().unwrap()))),
        }
    }
}

fn first_table(item: &mut Item) -> Option<&mut dyn TableLike> {
    match item {
        Item::ArrayOfTables(tables) => tables.get_mut(0).map(|table| table as &mut dyn TableLike),
        Item::Value(Value::Array(tables)) => Some(tables.get_mut(0)?.as_inline_table_mut()? as &mut dyn TableLike),
        other => other.as_table_like_mut(),
    }
}

fn first_table_of(item: &Item) -> Option<&dyn TableLike> {
    match item {
        Item::ArrayOfTables(tables) => tables.get(0).map(|table| table as &dyn TableLike),
        other => other.as_table_like(),
    }
}

/// The table that `key` stands in, and its last part.
fn table_of<'a>(document: &'a mut DocumentMut, key: &'a str) -> (&'a mut dyn TableLike, &'a str) {
    let mut parts: Vec<_> = key.split('.').collect();
    let last = parts.pop().unwrap();
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in parts {
        table =
            table.get_mut(part).and_then(first_table).unwrap_or_else(|| panic!("the example of {key} has no {part}"));
    }
    (table, last)
}

/// A directory with what the examples call for, and the text that leads there.
fn with_files(directory: &Path) -> impl Fn(&str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["mx.example.net".to_owned()]).unwrap();
    for name in ["fullchain.pem", "mx.example.net.pem"] {
        std::fs::write(directory.join(name), made.cert.pem()).unwrap();
    }
    for name in ["privkey.pem", "mx.example.net.key"] {
        std::fs::write(directory.join(name), made.signing_key.serialize_pem()).unwrap();
    }
    let here = format!("{}/", directory.display());
    std::fs::write(directory.join("admin.token"), "0123456789abcdef\n").unwrap();
    move |text| text.replace(TOKEN, &format!("{here}admin.token")).replace(TLS_FILES, &here)
}

#[test]
fn every_key_that_the_program_accepts_is_described_and_no_other() {
    let accepted: Vec<String> = accepted().into_keys().collect();
    let mut described: Vec<String> = described().into_iter().map(|it| it.key).collect();
    described.sort();
    assert_eq!(described, accepted, "docs/CONFIGURATION.md (left) and src/config/load (right) have other keys");
    assert!(accepted.len() > 50, "the program's errors are not understood any more: {accepted:?}");
}

#[test]
fn the_kind_of_a_key_is_the_program_s() {
    let accepted = accepted();
    for it in described() {
        let stated = it.facts.strip_prefix('*').and_then(|facts| facts.split('*').next()).unwrap_or_default();
        let fits = match &accepted[&it.key] {
            Kind::Table => stated == "table",
            Kind::Tables => stated == "list of tables",
            Kind::List => stated.starts_with("list") && stated != "list of tables",
            Kind::Flag => stated == "true or false",
            Kind::Text => {
                !["table", "true or false"].contains(&stated) && !stated.starts_with("list") && !stated.is_empty()
            }
        };
        assert!(fits, "{}: {:?} is no {stated:?}", it.key, accepted[&it.key]);
    }
}

#[test]
fn every_example_is_accepted_and_changes_something() {
    let directory = tempfile::tempdir().unwrap();
    let here = with_files(directory.path());
    let tables = accepted().into_iter().filter(|(_, kind)| matches!(kind, Kind::Table | Kind::Tables));
    let tables: Vec<_> = tables.map(|(key, _)| key).collect();
    for it in described() {
        let Some(example) = it.example else {
            assert!(tables.contains(&it.key), "{} has no example", it.key);
            continue;
        };
        let mut document = sound_with(&example);
        let with = load(&here(&document.to_string())).unwrap_or_else(|why| panic!("{}: {why}", it.key));
        let (table, key) = table_of(&mut document, &it.key);
        table.remove(key).unwrap_or_else(|| panic!("the example of {} does not set it", it.key));
        // A word that is the only one can't be another than the default.
        let has_a_choice = it.facts.split("; default").next().unwrap().matches('`').count() != 2;
        if has_a_choice || !it.facts.starts_with("*word*") {
            assert_ne!(load(&here(&document.to_string())).ok(), Some(with), "{} changes nothing", it.key);
        }
    }
}

#[test]
fn every_default_is_the_one_that_the_program_takes() {
    let directory = tempfile::tempdir().unwrap();
    let here = with_files(directory.path());
    for it in described() {
        let mut document = sound_with(it.example.as_deref().unwrap_or_default());
        if it.example.is_some() {
            let (table, key) = table_of(&mut document, &it.key);
            table.remove(key);
        }
        let without = load(&here(&document.to_string()));
        if it.facts.contains("; required") {
            let why = without.err().unwrap_or_default();
            let last = it.key.rsplit('.').next().unwrap();
            let is_a_list = it.example.is_none();
            assert!(is_a_list || why.contains(&format!("lacks the key {last:?}")), "{} is not required: {why}", it.key);
            continue;
        }
        assert!(it.facts.contains("default"), "{}: neither required nor a default", it.key);
        let without = without.unwrap_or_else(|why| panic!("{}: {why}", it.key));
        let Some(default) = default_of(&it.facts) else { continue };
        let value =
            format!("value = {default}").parse::<DocumentMut>().unwrap_or_else(|why| panic!("{}: {why}", it.key));
        let (table, key) = table_of(&mut document, &it.key);
        table.insert(key, value["value"].clone());
        let with = load(&here(&document.to_string())).unwrap_or_else(|why| panic!("{}: {why}", it.key));
        assert_eq!(without, with, "the default of {} is not {default}", it.key);
    }
}

#[test]
fn words_are_those_that_the_program_knows() {
    for it in described().iter().filter(|it| it.facts.contains("*word*") || it.facts.contains("*list of words*")) {
        let mut document = sound_with(it.example.as_deref().unwrap_or_default());
        let (table, key) = table_of(&mut document, &it.key);
        let wrong = if it.facts.starts_with("*list") { "value = [\"zz\"]" } else { "value = \"zz\"" };
        table.insert(key, wrong.parse::<DocumentMut>().unwrap()["value"].clone());
        let errors = errors_of(&document.to_string());
        let start = format!("{} = \"zz\": unknown; allowed ", it.key);
        let known = errors.lines().find_map(|line| line.split_once(&start)).unwrap_or_else(|| panic!("{errors}")).1;
        let known = known.trim_start_matches("are ").trim_start_matches("is ");
        let stated = it.facts.split("; default").next().unwrap().split_once(": ").unwrap().1.replace('`', "");
        assert_eq!(stated, known, "{}", it.key);
    }
}

#[test]
fn every_option_of_a_route_is_described_and_no_other() {
    let mut known: Vec<String> = ["mx?zz=1", "smtp://a.example:25?zz=1"]
        .iter()
        .flat_map(|route| {
            let errors = errors_of(&format!("{SOUND}journaling_route = \"{route}\"\n"));
            let list = errors.rsplit_once("unknown option; allowed are ").unwrap().1.trim().to_owned();
            list.split(", ").map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    known.sort();
    known.dedup();
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("=` |").map(|(option, _)| option));
    let mut stated: Vec<_> = rows.map(str::to_owned).collect();
    stated.sort();
    assert_eq!(stated, known);
}

#[test]
fn the_page_and_the_example_file_have_the_same_keys() {
    let example = include_str!("../../config/journal-relay.toml");
    let names: Vec<_> = example
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once(" = ").map(|(name, _)| name))
        .collect();
    for it in described() {
        let last = it.key.rsplit('.').next().unwrap();
        let stands = names.contains(&last) || it.example.is_none() || example.contains(&format!("{last} = "));
        assert!(stands, "config/journal-relay.toml lacks {}", it.key);
        assert!(it.text.len() < 2_000, "{} is too long to be read", it.key);
    }
}
