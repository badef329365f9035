//! The fuzz targets' oracles without a fuzzer: over the committed corpora, and over mutations of them. `docs/FUZZING.md` says
//! how the targets themselves are run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a test may stop, and the oracles are public to the targets alone"
)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

// The oracles call what they share by the name of their own crate.
use targets::pieces;

use proptest::prelude::*;
use std::path::Path;

/// Mutations of each target's seeds in one run; `JOURNAL_RELAY_ORACLE_CASES` says another number.
const CASES: u32 = 2_000;
/// What parsers stumble over.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n.",
    b".",
    b"\0",
    b" ",
    b"\t",
    b"<",
    b">",
    b"@",
    b"\"",
    b"=",
    b";",
    b"BDAT 3\r\n",
    b"BDAT 0 LAST\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"RCPT TO:<c@d.example>\r\n",
    b"250 a\r\n",
    b"250-a\r\n",
    b"=?utf-8?B?DQpCY2M6IHg=?=",
    b"=?utf-8?Q?=0D=0ABcc:_x@evil.example?=",
    b"\r\nBcc: x@evil.example",
    b"Subject: ",
    b"To: ",
    b"Content-Type: multipart/mixed; boundary=x\r\n",
    b"--x\r\n",
    b"\xff",
    "\u{2028}ü".as_bytes(),
    b"PROXY TCP4 ",
    b"PROXY TCP6 ",
    b" 192.0.2.7",
    b"2001:db8::7 ",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has its seeds", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static [u8]),
    Cut(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index, u8),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = any::<prop::sample::Index>;
    let change = prop_oneof![
        (place(), any::<u8>()).prop_map(|(place, octet)| Change::Set(place, octet)),
        (place(), prop::sample::select(WORDS)).prop_map(|(place, word)| Change::Insert(place, word)),
        (place(), place()).prop_map(|(from, to)| Change::Cut(from, to)),
        (place(), place(), 1..9_u8).prop_map(|(from, to, times)| Change::Repeat(from, to, times)),
    ];
    prop::collection::vec(change, 0..12)
}

fn changed(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    let span = |from: &prop::sample::Index, to: &prop::sample::Index, length: usize| {
        let (from, to) = (from.index(length + 1), to.index(length + 1));
        from.min(to)..from.max(to).min(from.min(to) + 500)
    };
    for change in changes {
        match change {
            Change::Set(place, octet) if !input.is_empty() => {
                let place = place.index(input.len());
                input[place] = *octet;
            }
            Change::Set(_, octet) => input.push(*octet),
            Change::Insert(place, word) => {
                let place = place.index(input.len() + 1);
                input.splice(place..place, word.iter().copied());
            }
            Change::Cut(from, to) => drop(input.drain(span(from, to, input.len()))),
            Change::Repeat(from, to, times) => {
                let span = span(from, to, input.len());
                let repeated = input[span.clone()].repeat(usize::from(*times));
                input.splice(span.end..span.end, repeated);
            }
        }
    }
    input
}

fn run(target: &str, check: fn(&[u8])) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| check(seed));
    let inputs = (prop::sample::select(seeds), changes()).prop_map(|(seed, changes)| changed(seed, &changes));
    let cases = std::env::var("JOURNAL_RELAY_ORACLE_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    });
    runner
        .run(&inputs, |input| {
            check(&input);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_command_line_is_a_command_that_can_be_said_again_or_has_a_refusal() {
    run("command", targets::command::check);
}

#[test]
fn any_conversation_goes_the_same_way_however_it_is_cut() {
    run("session", targets::session::check);
}

#[test]
fn any_message_is_read_as_a_naive_reader_would_and_comes_out_as_it_went_in() {
    run("data", targets::data::check);
}

#[test]
fn any_replies_are_read_as_a_naive_reader_would() {
    run("reply", targets::reply::check);
}

#[test]
fn no_original_and_no_address_forges_a_recipient() {
    run("record", targets::record::check);
}

#[test]
fn any_header_of_a_load_balancer_means_what_the_specification_says() {
    run("proxy", targets::proxy::check);
}
