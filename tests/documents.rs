//! `docs/LOGS.md` against the source: every event that is written is described with its levels and fields, and nothing else is;
//! examples are lines as the program writes them. [`blocks`]: what stands between fences anywhere in the documents.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::string_slice,
    clippy::indexing_slicing,
    clippy::expect_used,
    unreachable_pub,
    dead_code,
    reason = "a test may stop at once"
)]

#[path = "documents/blocks.rs"]
mod blocks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../docs/LOGS.md");
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// The events that users were promised.
const PROMISED: &str = "listener.started session.opened session.closed message.accepted message.refused record.committed \
    record.merged record.acked record.deferred record.failed record.discarded report.sent report.suppressed route.state \
    spool.pressure spool.recovered config.reloaded config.rejected loop.detected organization.switched";
/// What every line has before its fields.
const FIRST: [&str; 4] = ["timestamp", "level", "event", "message"];

/// One event's levels and fields.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

/// Every `tracing::level!(…)` of the program itself: its event, its level, its fields.
fn written() -> BTreeMap<String, Shape> {
    let mut found: BTreeMap<String, Shape> = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Tests stand at the end of a file.
                let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
                for (level, parts) in LEVELS.iter().flat_map(|level| invocations(text, level)) {
                    let (event, fields) = read(&parts);
                    let event = event.unwrap_or_else(|| panic!("{}: no event in {parts:?}", path.display()));
                    let shape = found.entry(event).or_default();
                    shape.levels.insert(level);
                    shape.fields.extend(fields);
                }
            }
        }
    }
    found
}

/// The arguments of each `tracing::level!(…)` in a file, split at its commas.
fn invocations(text: &str, level: &str) -> Vec<(String, Vec<String>)> {
    let start = format!("tracing::{level}!(");
    text.match_indices(&start).map(|(at, _)| (level.to_owned(), arguments(&text[at + start.len()..]))).collect()
}

fn arguments(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut quoted) = (Vec::new(), String::new(), 0, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => {
                part.push(letter);
                part.extend(letters.next());
                continue;
            }
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part.trim().to_owned());
    parts
}

/// The event's name, and the names of its fields; the text for people ends them.
fn read(parts: &[String]) -> (Option<String>, Vec<String>) {
    let (mut event, mut fields) = (None, Vec::new());
    for part in parts.iter().filter(|part| !part.starts_with("target:")).take_while(|part| !part.starts_with('"')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().trim_start_matches(['%', '?']) {
            "event" => event = Some(value.trim().trim_matches('"').to_owned()),
            "" => {}
            field => fields.push(field.to_owned()),
        }
    }
    (event, fields)
}

/// What the page says of each event, and its example.
fn described() -> BTreeMap<String, (Shape, Option<String>)> {
    let mut found = BTreeMap::new();
    for section in PAGE.split("\n### `").skip(1) {
        let (name, text) = section.split_once("`\n").unwrap();
        let facts = text.trim_start().split("\n\n").next().unwrap().replace('\n', " ");
        let levels = facts.split('*').nth(1).unwrap_or_else(|| panic!("{name} has no level: {facts}"));
        let shape = Shape {
            levels: levels.split(", ").map(str::to_owned).collect(),
            fields: facts.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        };
        let example = text.split_once("```json\n").map(|(_, behind)| behind.split_once("\n```").unwrap().0.to_owned());
        assert!(found.insert(name.to_owned(), (shape, example)).is_none(), "{name} is described twice");
    }
    found
}

#[test]
fn every_event_is_described_with_its_levels_and_fields_and_no_other() {
    let written = written();
    let described: BTreeMap<_, _> = described().into_iter().map(|(name, (shape, _))| (name, shape)).collect();
    let names = |of: &BTreeMap<String, Shape>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&described), names(&written), "docs/LOGS.md (left) and src (right) have other events");
    for (name, shape) in &written {
        assert_eq!(&described[name], shape, "docs/LOGS.md (left) and src (right) differ about {name}");
    }
    for promised in PROMISED.split_whitespace() {
        assert!(written.contains_key(promised), "{promised} was promised");
    }
}

#[test]
fn every_field_is_explained() {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")).map(|line| line.split_once(" | ").unwrap().0);
    let explained: BTreeSet<String> = rows
        .flat_map(|names| {
            names.split('`').filter(|name| !name.is_empty() && *name != ", ").map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let used: BTreeSet<String> =
        written().into_values().flat_map(|shape| shape.fields).chain(FIRST.map(str::to_owned)).collect();
    assert_eq!(explained, used, "the table of fields (left) and src (right)");
}

#[test]
fn every_event_has_a_line_as_the_program_writes_it() {
    for (name, (shape, example)) in described() {
        let example = example.unwrap_or_else(|| panic!("{name} has no example"));
        let read: serde_json::Value = serde_json::from_str(&example).unwrap_or_else(|error| panic!("{name}: {error}"));
        let line = read.as_object().unwrap();
        assert_eq!(line["event"], name);
        assert!(shape.levels.contains(line["level"].as_str().unwrap()), "{name}: {}", line["level"]);
        for field in line.keys() {
            assert!(FIRST.contains(&field.as_str()) || shape.fields.contains(field), "{name} has no {field}");
        }
    }
}
