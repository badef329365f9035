//! SMTP smuggling (CVE-2023-51764 and its kin) against a running relay whose next hop takes everything for a line's end: CR, LF
//! and both, with NULs passed over. What it finds must be what clients were told, in their own envelopes.

#[path = "../smuggling/strict.rs"]
mod strict;

use crate::common::{Client, Relay, Setup, Sink, own_loopback_address};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use strict::{Said, attempt, messages, surroundings};

/// Transactions that one connection carries.
const OF_CONNECTION: usize = 8;

/// A next hop that is as careless as can be.
struct Lax {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Said>>>,
}

impl Lax {
    /// With what stands in its reply to EHLO.
    fn start(offers: &'static str) -> Self {
        let listener = TcpListener::bind((own_loopback_address(), 0)).unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Said>>>::default());
        let book = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let book = Arc::clone(&book);
                std::thread::spawn(move || hear(stream.unwrap(), offers, &book));
            }
        });
        Self { address, taken }
    }

    fn route(&self) -> String {
        format!("smtp://{}?tls=none", self.address)
    }

    fn taken(&self) -> Vec<Said> {
        self.taken.lock().unwrap().clone()
    }
}

/// One octet after the other, so that nothing depends on how they come.
fn hear(mut stream: TcpStream, offers: &str, book: &Mutex<Vec<Said>>) {
    stream.set_nodelay(true).unwrap();
    let mut say = stream.try_clone().unwrap();
    let mut tell = move |text: &str| drop(say.write_all(format!("{text}\r\n").as_bytes()));
    tell("220 lax.example");
    let (mut line, mut after_cr, mut in_data) = (Vec::new(), false, false);
    let (mut said, mut chunk) =
        (Said { from: String::new(), to: Vec::new(), octets: Vec::new() }, None::<(usize, bool)>);
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        for octet in &buffer[..count] {
            if std::mem::take(&mut after_cr) && *octet == b'\n' {
                continue;
            }
            if let Some((left, last)) = &mut chunk {
                said.octets.push(*octet);
                *left -= 1;
                if *left == 0 {
                    if *last {
                        book.lock().unwrap().push(said.clone());
                    }
                    tell("250 2.0.0 taken");
                    chunk = None;
                }
                continue;
            }
            after_cr = *octet == b'\r';
            if !matches!(octet, b'\r' | b'\n') {
                line.extend((*octet != 0).then_some(*octet));
                continue;
            }
            let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
            if in_data && text == "." {
                in_data = false;
                book.lock().unwrap().push(said.clone());
                tell("250 2.0.0 taken");
            } else if in_data {
                said.octets.extend_from_slice(text.strip_prefix('.').unwrap_or(&text).as_bytes());
                said.octets.extend_from_slice(b"\r\n");
            } else if let Some(from) = text.strip_prefix("MAIL FROM:") {
                let from = from.split(' ').next().unwrap_or_default().to_owned();
                said = Said { from, to: Vec::new(), octets: Vec::new() };
                tell("250 2.1.0 sender ok");
            } else if let Some(to) = text.strip_prefix("RCPT TO:") {
                said.to.push(to.to_owned());
                tell("250 2.1.5 recipient ok");
            } else if let Some(size) = text.strip_prefix("BDAT ") {
                let (size, last) = size.split_once(' ').map_or((size, false), |(size, _)| (size, true));
                let size = size.parse().unwrap();
                if size > 0 {
                    chunk = Some((size, last));
                } else {
                    if last {
                        book.lock().unwrap().push(said.clone());
                    }
                    tell("250 2.0.0 taken");
                }
            } else {
                in_data = text == "DATA";
                match text.split(' ').next().unwrap_or_default() {
                    "" => {}
                    "EHLO" => tell(&format!("250-lax.example{offers}\r\n250 8BITMIME")),
                    "DATA" => tell("354 go"),
                    _ => tell("250 2.0.0 ok"),
                }
            }
        }
    }
}

/// Whoever of the 5,000 has a number is sent: all short ones, and some of the long ones.
fn attempts() -> Vec<Vec<u8>> {
    let short = (0..=3).flat_map(surroundings);
    let long = surroundings(5).into_iter().step_by(83);
    short.chain(long).enumerate().map(|(number, (before, behind))| attempt(number, &before, &behind)).collect()
}

/// Sends conversations, in two writes each, and gives what was said of ends of data: `2.0.0 taken` or the refusal.
fn send_all(relay: &Relay, conversations: &[Vec<u8>]) -> Vec<String> {
    let mut told = Vec::new();
    for (number, conversation) in conversations.iter().enumerate() {
        let mut client = Client::ehlo(relay.address());
        let (one, other) = conversation.split_at(conversation.len() * (number % 7 + 1) / 8);
        client.send(one);
        client.send(other);
        client.send(b"QUIT\r\n");
        let replies = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(replies.ends_with("221 2.0.0 Bye\r\n"), "{replies}");
        let of_ends = |line: &&str| line.starts_with("250 2.0.0 taken") || line.starts_with("550 5.6.11");
        told.extend(replies.lines().filter(of_ends).map(str::to_owned));
    }
    told
}

#[track_caller]
fn assert_nothing_foreign(
    taken: &[Said],
    conversations: &[Vec<u8>],
    told: &[String],
    is_flawed: impl Fn(&Said) -> bool,
) {
    let said: Vec<Said> = conversations.iter().flat_map(|conversation| messages(conversation)).collect();
    assert_same(taken, said, told, is_flawed);
}

#[track_caller]
fn assert_same(taken: &[Said], said: Vec<Said>, told: &[String], is_flawed: impl Fn(&Said) -> bool) {
    assert_eq!(told.len(), said.len(), "each end of data has its reply");
    for (said, told) in said.iter().zip(told) {
        assert_eq!(told.starts_with("550"), is_flawed(said), "{said:?} was answered {told}");
    }
    let expected: Vec<_> = said.into_iter().filter(|said| !is_flawed(said)).collect();
    assert_eq!(taken.len(), expected.len(), "as many messages as clients were told");
    for (taken, expected) in taken.iter().zip(&expected) {
        assert_eq!((&taken.from, &taken.to), (&expected.from, &expected.to), "the envelope is the client's");
        let octets = String::from_utf8_lossy(&taken.octets).into_owned();
        assert!(octets.ends_with(&*String::from_utf8_lossy(&expected.octets)), "{octets} holds {expected:?}");
    }
}

/// Several attempts behind each other on each connection.
fn conversations() -> Vec<Vec<u8>> {
    attempts().chunks(OF_CONNECTION).map(<[_]>::concat).collect()
}

#[test]
fn a_careless_next_hop_finds_no_message_that_its_client_was_not_told_of() {
    let (next_hop, archive) = (Lax::start("\r\n250-PIPELINING"), Sink::start());
    let mut relay = Setup::with_routes(&next_hop.route(), &archive.route()).trusting_nobody().start();
    let conversations = conversations();
    let told = send_all(&relay, &conversations);
    assert_nothing_foreign(&next_hop.taken(), &conversations, &told, Said::is_flawed);
    let taken = next_hop.taken().len();
    assert!(taken > 50 && taken + 500 < told.len(), "{taken} of {}: both kinds were there", told.len());
    relay.finish_clean(taken);
}

/// The same attempts in chunks, one or two of them: the message, and what would be another, is what the chunks' lengths say.
fn in_chunks(attempts: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<Said>) {
    let (mut conversations, mut expected) = (Vec::new(), Vec::new());
    for (number, attempt) in attempts.iter().enumerate() {
        let split = attempt.windows(6).position(|window| window == b"DATA\r\n").unwrap();
        let (envelope, content) = (&attempt[..split], &attempt[split + 6..]);
        let dot = content.iter().position(|octet| *octet == b'.').unwrap();
        let (one, other) = content.split_at([content.len(), dot, dot + 1][number % 3]);
        let chunks = [format!("BDAT {}\r\n", one.len()), format!("BDAT {} LAST\r\n", other.len())];
        conversations.push([envelope, chunks[0].as_bytes(), one, chunks[1].as_bytes(), other, b"RSET\r\n"].concat());
        let (from, to) = (format!("<sender{number}@b.example>"), vec!["<alice@example.org>".to_owned()]);
        expected.push(Said { from, to, octets: content.to_vec() });
    }
    (conversations.chunks(OF_CONNECTION).map(<[_]>::concat).collect(), expected)
}

#[test]
fn what_comes_in_chunks_and_has_a_record_may_have_no_flaw_either() {
    let (next_hop, archive) = (Lax::start("\r\n250-CHUNKING"), Sink::start());
    let mut relay = Setup::with_routes(&next_hop.route(), &archive.route()).start();
    let (conversations, said) = in_chunks(&attempts());
    let told = send_all(&relay, &conversations);
    // Records go by DATA.
    assert_same(&next_hop.taken(), said, &told, Said::is_flawed);
    let taken = next_hop.taken().len();
    relay.finish_clean(taken);
}

#[test]
fn in_chunks_that_go_on_as_chunks_every_octet_is_the_message_s() {
    let (next_hop, archive) = (Lax::start("\r\n250-CHUNKING"), Sink::start());
    let mut setup = Setup::with_routes(&next_hop.route(), &archive.route());
    setup.organizations[0].more = "journaling = false".into();
    let mut relay = setup.start();
    let (conversations, said) = in_chunks(&attempts());
    let told = send_all(&relay, &conversations);
    assert_same(&next_hop.taken(), said, &told, |said| said.octets.contains(&0));
    relay.finish_clean(0);
}
