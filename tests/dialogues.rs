//! Runs the conversations of `tests/dialogues/*.txt`; `tests/dialogues/README.md` tells how they are written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

#[path = "dialogues/runner.rs"]
mod runner;
#[path = "dialogues/script.rs"]
mod script;
#[path = "dialogues/table.rs"]
mod table;

use std::path::Path;

#[test]
fn every_dialogue_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let (mut failures, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for dialogue in script::read(&text) {
            count += 1;
            for piece in [usize::MAX, 1] {
                if let Err(failure) = runner::run(&dialogue, piece) {
                    let how = if piece == 1 { "octet by octet" } else { "as written" };
                    failures.push(format!("{name}:{} ({}, {how})\n    {failure}", failure.line, dialogue.title));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(count > 100, "only {count} dialogues were found");
}

#[test]
fn a_dialogue_that_goes_otherwise_fails() {
    let wrong = [
        "C: NOOP\nS: 250 2.0.0 No",
        "C: NOOP",
        "C: NOOP\nS: 250 2.0.0 Ok\nS: 250 2.0.0 Ok",
        "C: EHLO a\nask: HELO a",
        "C: EHLO a\nask: EHLO a\nS: 250 a",
        "C: EHLO a\nask: EHLO a\nC: NOOP",
        "C+ NOOP",
        "after: data\nC: a\ntell: CONTENT b\\r\\n",
        "after: data\nC: a\ntell: CONTENT a",
        "wait",
    ];
    for text in wrong {
        for dialogue in script::read(&format!("== wrong\n{text}\n")) {
            assert!(runner::run(&dialogue, usize::MAX).is_err(), "{text}");
            assert!(runner::run(&dialogue, 1).is_err(), "{text}");
        }
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    table::check(include_str!("dialogues/commands.md"));
}
