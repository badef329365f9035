//! What the program is built from, against what Cargo.toml and docs/INSTALLING.md say of it: the oldest Rust that the dependencies
//! need, and how many they are. What they may be is deny.toml's, which `.ci/supply` checks.

#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// What a command prints; one that fails is a failure of the test.
fn printed(program: &str, arguments: &str) -> String {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let output = Command::new(program).args(&arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What cargo prints. Offline: what built this test has fetched what is asked for.
fn cargo(arguments: &str) -> String {
    printed(env!("CARGO"), &format!("{arguments} --locked --offline"))
}

/// Major and minor.
fn version(text: &str) -> Vec<u32> {
    text.split('.').take(2).map(|part| part.parse().unwrap()).collect()
}

#[test]
fn no_dependency_asks_for_a_newer_rust_than_is_stated() {
    let stated = version(env!("CARGO_PKG_RUST_VERSION"));
    let rustc = printed("rustc", "-vV");
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = cargo(&format!("metadata --format-version 1 --filter-platform {host}"));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata.get("packages").and_then(Value::as_array).unwrap();
    assert!(packages.len() > 100, "only {} packages were looked at", packages.len());
    let asked =
        packages.iter().filter_map(|package| Some((package.get("name")?, package.get("rust_version")?.as_str()?)));
    let newer: Vec<_> = asked.filter(|(_, asked)| version(asked) > stated).collect();
    assert!(newer.is_empty(), "{newer:?}, and Cargo.toml says {stated:?}");
}

#[test]
fn the_page_tells_how_many_crates_are_in_the_program() {
    let crates = |depth: u8| {
        let tree = cargo(&format!("tree -p journal-relay -e normal --prefix none --no-dedupe --depth {depth}"));
        tree.lines().collect::<BTreeSet<_>>().len() - 1
    };
    let said = format!("{} crates beside its own, {} of them asked for by name", crates(99), crates(1));
    let page = include_str!("../docs/INSTALLING.md");
    assert!(page.contains(&said), "docs/INSTALLING.md does not say: {said}");
}
