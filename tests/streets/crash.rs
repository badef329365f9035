//! `kill -9` in the middle of a load, again and again: every message that a next hop has taken or a client was promised has
//! its record, unchanged, and every repeat of a record is the same octet for octet.

use crate::common::{Client, PATIENCE, Record, Setup, Sink, strip_received};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const ROUNDS: u64 = 20;
const CLIENTS: u64 = 4;

/// SplitMix64: small, and the same for a seed everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// `JOURNAL_RELAY_SEED`, or chance.
fn seed() -> u64 {
    let chosen = std::env::var("JOURNAL_RELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    chosen.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| since.subsec_nanos().into())
    })
}

/// A message that tells who it is; some are large enough to be kept in a file.
fn message(mark: &str, lines: u64) -> Vec<u8> {
    let mut octets =
        format!("From: alice@example.org\r\nTo: bob@example.net\r\nMessage-ID: <{mark}@example.org>\r\n\r\n")
            .into_bytes();
    for line in 0..lines {
        octets.extend_from_slice(format!(".{mark} line {line} {}\r\n", "x".repeat(60)).as_bytes());
    }
    octets
}

/// Sends until the connection is lost; tells of each message before it is sent and once it is promised.
fn send_until_lost(address: SocketAddr, name: &str, mut chance: Chance, told: &Sender<(String, Option<Vec<u8>>)>) {
    let Ok(mut client) = Client::try_connect(address, PATIENCE) else { return };
    if client.try_send(b"EHLO client.example.com\r\n").is_err() || client.try_reply().is_err() {
        return;
    }
    for number in 0.. {
        let mark = format!("{name}-{number}");
        let lines = if chance.next(8) == 0 { 3_000 } else { chance.next(40) };
        let octets = message(&mark, lines);
        if told.send((mark.clone(), Some(octets.clone()))).is_err() {
            return;
        }
        match client.try_mail("alice@example.org", &["bob@example.net"], &octets) {
            Ok(reply) if reply.is_taken() => {
                if told.send((mark, None)).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn no_promised_message_loses_its_record_by_kill_9() {
    let seed = seed();
    println!("JOURNAL_RELAY_SEED={seed}");
    let mut chance = Chance(seed);
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let (mut sent, mut promised) = (HashMap::new(), HashSet::new());
    for round in 0..ROUNDS {
        if round > 0 {
            relay.launch();
        }
        let (tell, told) = channel();
        let address = relay.address();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (tell, chance) = (tell.clone(), Chance(chance.next(u64::MAX)));
                std::thread::spawn(move || send_until_lost(address, &format!("r{round}c{client}"), chance, &tell))
            })
            .collect();
        drop(tell);
        // The moment: after so many promises, and a little later still.
        let mut promises_left = 1 + chance.next(60);
        let mut note = |(mark, octets): (String, Option<Vec<u8>>)| match octets {
            Some(octets) => {
                sent.insert(mark, octets);
                false
            }
            None => promised.insert(mark),
        };
        while promises_left > 0 {
            let news = told.recv_timeout(PATIENCE).expect("the load goes on");
            promises_left -= u64::from(note(news));
        }
        let later = Duration::from_micros(chance.next(20_000));
        while let Ok(news) = told.recv_timeout(later) {
            note(news);
            if chance.next(16) == 0 {
                break;
            }
        }
        relay.kill9();
        told.iter().for_each(|news| {
            note(news);
        });
        clients.into_iter().for_each(|client| client.join().expect("a client"));
    }
    println!("{} messages begun, {} promised, {} relayed", sent.len(), promised.len(), next_hop.count());
    relay.launch();
    relay.poll("the spool to be empty", || relay.queue().is_empty().then_some(()));
    assert_eq!(relay.finish().len(), 0);
    check(&sent, &promised, &next_hop, &archive);
}

fn check(sent: &HashMap<String, Vec<u8>>, promised: &HashSet<String>, next_hop: &Sink, archive: &Sink) {
    let marks: HashMap<&[u8], &String> = sent.iter().map(|(mark, octets)| (&octets[..], mark)).collect();
    let mut by_mark: HashMap<&String, Record> = HashMap::new();
    for transaction in archive.transactions() {
        let record = Record::read(&transaction.octets);
        let mark =
            marks.get(&record.original[..]).unwrap_or_else(|| panic!("no client sent the original in {record:?}"));
        match by_mark.get(mark) {
            None => {
                by_mark.insert(mark, record);
            }
            Some(first) => assert!(first.octets == record.octets, "{mark}: a second record, or a repeat that differs"),
        }
    }
    for mark in promised {
        assert!(by_mark.contains_key(mark), "{mark} was promised and has no record");
    }
    for copy in next_hop.transactions() {
        let octets = strip_received(&copy.octets).1;
        let mark = marks.get(octets).unwrap_or_else(|| panic!("the next hop got what no client sent: {copy:?}"));
        assert!(by_mark.contains_key(mark), "{mark} reached the next hop and has no record");
    }
}
