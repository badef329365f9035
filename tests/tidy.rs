//! House rules as a test: an import points to a lower floor, every file opens with its head, and a room can be held in
//! the head.

#![allow(clippy::unwrap_used, clippy::string_slice, reason = "a test may stop at once")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/lib.rs`; a room may name rooms of lower floors, and those beside the stairs.
const FLOORS: &[(&str, u8)] = &[
    ("main", 8),
    ("cli", 7),
    ("app", 6),
    ("admin", 5),
    ("receive", 4),
    ("forward", 4),
    ("deliver", 4),
    ("spool", 3),
    ("maildir", 3),
    ("smtp", 2),
    ("journal", 2),
    ("queue", 2),
    ("mail", 1),
];
/// Any floor may use these; they themselves may use floor 1 and each other.
const BESIDE: &[&str] = &["config", "clock", "drain", "net", "telemetry", "watch"];
/// `receive` passes mail on through `forward`: the one door between two rooms of a floor.
const DOORS: &[(&str, &str)] = &[("receive", "forward")];
/// Lines of a file, tests included.
const MAX_LINES: usize = 450;
/// Letters of a line of the documents, as wide as an editor's window.
const MAX_WIDTH: usize = 130;

fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 20, "only {} files found", found.len());
    found
}

/// `src/receive/driver.rs` lies in the room `receive`, `src/clock.rs` in `clock`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a file names: `crate::room`, also inside `use crate::{room, …}`.
fn named_rooms(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (place, _) in text.match_indices("crate::") {
        let rest = &text[place + "crate::".len()..];
        let word = |text: &str| {
            text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>()
        };
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(group.split('}').next().unwrap().split(',').map(|name| word(name.trim()))),
            None => rooms.push(word(rest)),
        }
    }
    rooms
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What a room of a floor does with its tests may look up and down.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn every_room_has_a_floor_or_stands_beside_the_stairs() {
    for path in sources().keys() {
        let room = room(path);
        assert!(
            room == "lib" || floor(&room).is_some() || BESIDE.contains(&room.as_str()),
            "{room} has no place in tests/tidy.rs"
        );
    }
}

#[test]
fn an_import_points_to_a_lower_floor() {
    for (path, text) in sources() {
        let from = room(&path);
        if from == "lib" || path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for to in named_rooms(without_tests(&text)) {
            if to == from || BESIDE.contains(&to.as_str()) || DOORS.contains(&(from.as_str(), to.as_str())) {
                continue;
            }
            let Some(to_floor) = floor(&to) else { continue };
            // Beside the stairs, floor 1 is all there is below.
            let own_floor = floor(&from).unwrap_or(2);
            assert!(to_floor < own_floor, "{} (floor {own_floor}) names {to} (floor {to_floor})", path.display());
        }
    }
}

#[test]
fn every_file_opens_with_its_head() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} has no //! head", path.display());
    }
}

#[test]
fn a_file_can_be_held_in_the_head() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines; {MAX_LINES} are allowed", path.display());
    }
}

/// Tables, what stands between fences (it is held to what a program prints), comments for tests, and what has no blank to be
/// broken at are as wide as they are.
#[test]
fn a_line_of_the_documents_can_be_read_at_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut lines = 0;
    for path in pages.chain([root.join("README.md")]) {
        let (mut is_fenced, mut is_comment) = (false, false);
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            is_fenced ^= line.trim_start().starts_with("```");
            is_comment |= line.starts_with("<!--");
            let may_be_wide = is_fenced || is_comment || line.starts_with('|') || !line.trim().contains(' ');
            let width = line.chars().count();
            assert!(may_be_wide || width <= MAX_WIDTH, "{}:{}: {width} letters", path.display(), number + 1);
            is_comment &= !line.ends_with("-->");
            lines += 1;
        }
    }
    assert!(lines > 1_000, "only {lines} lines found");
}

#[test]
fn the_checker_sees_imports_in_every_form() {
    let text = "use crate::mail::Address;\nuse crate::{spool, queue::State};\nlet x = crate::deliver::start();";
    assert_eq!(named_rooms(text), ["mail", "spool", "queue", "deliver"]);
}
