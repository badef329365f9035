//! The benchmark's own ends: what it counts must be what was sent, wherever the octets are cut; and it runs to its end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test may stop at once"
)]

#[path = "../examples/benchmark/wire.rs"]
mod wire;

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use wire::{Gather, Inbound, Replies, Seen};

/// Two messages; in the first one nothing but its last line is a dot alone, and the second one is empty.
const SESSION: &[u8] = b"EHLO a.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n\
    Subject: dots\r\n\r\n..\r\n.. \r\n...\r\n.\n.\r\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n.\r\nQUIT\r\n";

/// Content with its end, and how many recipients it has.
type Message = (Vec<u8>, u32);

/// What a server sees of a session in pieces: messages, the codes of its replies, and whether there was QUIT.
fn seen(pieces: &[&[u8]]) -> (Vec<Message>, Vec<u16>, bool) {
    let (mut inbound, mut out) = (Inbound::keeping(), Vec::new());
    let (mut messages, mut content, mut is_over) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        let mut from = 0;
        while from < piece.len() {
            let (used, seen) = inbound.take(&piece[from..], &mut out, |octets| content.extend_from_slice(octets));
            from += used;
            match seen {
                Seen::Used => {}
                Seen::Message => {
                    messages.push((std::mem::take(&mut content), inbound.recipients));
                    inbound.reset();
                }
                Seen::Quit => is_over = true,
            }
        }
    }
    let mut codes = Vec::new();
    Replies::default().take(&out, &mut codes);
    (messages, codes, is_over)
}

#[test]
fn a_message_ends_at_its_dot_wherever_its_octets_are_cut() {
    let whole = seen(&[SESSION]);
    let (messages, codes, is_over) = &whole;
    assert_eq!(codes, &[250, 250, 250, 250, 354, 250, 250, 354, 221]);
    assert!(is_over);
    assert_eq!(messages[0], (b"Subject: dots\r\n\r\n..\r\n.. \r\n...\r\n.\n.\r\r\n.\r\n".to_vec(), 2));
    assert_eq!(messages[1], (b".\r\n".to_vec(), 1));
    for at in 1..SESSION.len() {
        let (one, two) = SESSION.split_at(at);
        assert_eq!(seen(&[one, two]), whole, "cut at {at}");
    }
    let singly: Vec<&[u8]> = SESSION.chunks(1).collect();
    assert_eq!(seen(&singly), whole);
}

#[test]
fn a_reply_is_read_once_its_last_line_is_there() {
    let wire = b"220 a\r\n250-a\r\n250-PIPELINING\r\n250 SIZE\r\n354\r\n550-5.1.1 no\r\n550 5.1.1 no\r\n";
    for at in 0..wire.len() {
        let (mut replies, mut codes) = (Replies::default(), Vec::new());
        replies.take(&wire[..at], &mut codes);
        replies.take(&wire[at..], &mut codes);
        assert_eq!(codes, [220, 250, 354, 550], "cut at {at}");
    }
}

/// A socket that takes a few octets at a time, and sometimes none.
#[derive(Default)]
struct Narrow {
    taken: Vec<u8>,
    turns: usize,
}

impl Write for Narrow {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.turns += 1;
        if self.turns.is_multiple_of(3) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let few = octets.len().min(3);
        self.taken.extend_from_slice(&octets[..few]);
        Ok(few)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_leaves_in_parts_leaves_whole_and_in_order() {
    let mut gather = Gather::default();
    gather.head.extend_from_slice(b"header\r\n\r\n");
    gather.body = Some((Rc::new(b"body, and what is not sent of it".to_vec()), 4));
    gather.foot.extend_from_slice(b"\r\n.\r\nQUIT\r\n");
    let mut narrow = Narrow::default();
    while !gather.write(&mut narrow).unwrap() {}
    assert_eq!(narrow.taken, b"header\r\n\r\nbody\r\n.\r\nQUIT\r\n");
    assert!(gather.is_empty());
}

#[test]
fn the_benchmark_runs_to_its_end() {
    // Beside the daemon stand the examples that were built with it.
    let daemon = Path::new(env!("CARGO_BIN_EXE_journal-relay"));
    let benchmark = daemon.parent().unwrap().join("examples/benchmark");
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(&benchmark)
        .args([
            "--work",
            "a,c",
            "--of",
            "relay,floor",
            "--rounds",
            "1",
            "--messages",
            "40",
            "--markdown",
            "--allow-volatile",
        ])
        .arg("--program")
        .arg(daemon)
        .arg("--directory")
        .arg(home.path())
        .output()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; cargo test builds it, --test alone does not", benchmark.display())
        });
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for row in ["**a: ", "**c: ", "| journal-relay | ", "| floor | "] {
        assert!(told.contains(row), "{row:?} is not in: {told}");
    }
}
