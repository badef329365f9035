//! The books of the kill test and the soak, against forged ones: what is lost, altered, doubled or wrong is found, and what
//! is explained is not.

use crate::common::trial::{Kind, Ledger, ORGANIZATIONS, check};
use crate::common::{Transaction, run};
use std::time::Instant;

const SEED: u64 = 7;

fn transaction(from: &str, to: &[&str], octets: Vec<u8>) -> Transaction {
    Transaction {
        connection: 1,
        connected: Instant::now(),
        ehlo: "relay.example.org".into(),
        mail: format!("<{from}>"),
        rcpts: to.iter().map(|to| format!("<{to}>")).collect(),
        size: octets.len(),
        octets,
        taken: true,
    }
}

/// A message of the first organization in one transaction, and its recipients.
fn a_message(ledger: &Ledger) -> (u64, Vec<String>, Vec<u8>) {
    let plain = |letter: &crate::common::trial::Letter| {
        letter.transactions.len() == 1
            && letter.recipients.len() > 1
            && letter.recipients.iter().all(|to| !to.starts_with("nobody") && !to.ends_with(ORGANIZATIONS[1].1))
            && letter.from.ends_with(ORGANIZATIONS[0].1)
    };
    let letter = (0..1_000).map(|number| ledger.letter(number)).find(plain).unwrap();
    let octets = letter.octets(0);
    ledger.begun(&letter, 0, &octets);
    (letter.number, letter.recipients, octets)
}

/// The record that the program itself prints for the message.
fn record(from: &str, to: &[&str], octets: &[u8]) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let (config, file) = (home.path().join("config.toml"), home.path().join("message.eml"));
    let setup = crate::common::Setup::with_routes("smtp://127.0.0.1:9?tls=none", "smtp://127.0.0.1:9?tls=none");
    std::fs::write(&config, setup.toml(&home.path().join("spool"))).unwrap();
    std::fs::write(&file, octets).unwrap();
    let mut arguments = vec!["record", file.to_str().unwrap(), "--config", config.to_str().unwrap(), "--from", from];
    to.iter().for_each(|to| arguments.extend(["--to", to]));
    let output = run(&arguments);
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// What is found when the next hop and the archive were given these; each record with whether its reply was lost.
fn found(
    at_next_hop: impl Fn(&[String], &[u8]) -> Vec<u8>,
    at_archive: impl Fn(&str, &[String], &[u8]) -> Vec<(Vec<u8>, bool)>,
) -> Vec<Kind> {
    let ledger = Ledger::new(SEED, 4_000);
    let (number, recipients, octets) = a_message(&ledger);
    let letter = ledger.letter(number);
    let to: Vec<_> = recipients.iter().map(String::as_str).collect();
    let relayed = [b"Received: from x by y\r\n", &at_next_hop(&recipients, &octets)[..]].concat();
    ledger.at_next_hop(&transaction(&letter.from, &to, relayed), true);
    ledger.promised(number, letter.mask(&to).unwrap());
    for (record, reply_lost) in at_archive(&letter.from, &recipients, &octets) {
        let vault = transaction("amazonjournaling@acme.awsapps.com", &["archive@vault.example"], record);
        ledger.at_archive(0, &vault, true, reply_lost);
    }
    let mut kinds: Vec<_> = check(&ledger).violations.into_iter().map(|(kind, _)| kind).collect();
    kinds.dedup();
    kinds
}

fn whole(from: &str, to: &[String], octets: &[u8]) -> Vec<u8> {
    record(from, &to.iter().map(String::as_str).collect::<Vec<_>>(), octets)
}

fn unchanged(_: &[String], octets: &[u8]) -> Vec<u8> {
    octets.to_vec()
}

#[test]
fn what_is_as_promised_is_not_reported() {
    assert_eq!(found(unchanged, |from, to, octets| vec![(whole(from, to, octets), false)]), []);
}

#[test]
fn a_missing_record_and_a_missing_recipient_are_lost() {
    assert_eq!(found(unchanged, |_, _, _| Vec::new()), [Kind::Lost]);
    assert_eq!(found(unchanged, |from, to, octets| vec![(whole(from, &to[1..], octets), false)]), [Kind::Lost]);
}

#[test]
fn one_changed_octet_is_an_alteration() {
    let flip = |octets: &[u8]| {
        let mut octets = octets.to_vec();
        let last = octets.len() - 3;
        octets[last] ^= 1;
        octets
    };
    let relayed = found(|_, octets| flip(octets), |from, to, octets| vec![(whole(from, to, octets), false)]);
    assert!(relayed.contains(&Kind::Altered), "{relayed:?}");
    let recorded = found(unchanged, |from, to, octets| vec![(whole(from, to, &flip(octets)), false)]);
    assert!(recorded.contains(&Kind::Altered) && recorded.contains(&Kind::Lost), "{recorded:?}");
}

#[test]
fn a_repeat_is_explained_by_a_lost_reply_and_by_nothing_else() {
    let twice = |lost: bool| {
        found(unchanged, move |from, to, octets| {
            let record = whole(from, to, octets);
            vec![(record.clone(), lost), (record, false)]
        })
    };
    assert_eq!(twice(true), []);
    assert_eq!(twice(false), [Kind::Doubled]);
}

#[test]
fn a_repeat_that_differs_and_a_second_record_are_found() {
    let differs = found(unchanged, |from, to, octets| {
        let record = whole(from, to, octets);
        let other = String::from_utf8(record.clone()).unwrap().replacen("Subject: trial", "Subject: Trial", 1);
        vec![(record, true), (other.into_bytes(), false)]
    });
    assert_eq!(differs, [Kind::Altered]);
    // Each run of the program makes a record of its own.
    let second =
        found(unchanged, |from, to, octets| vec![(whole(from, to, octets), false), (whole(from, to, octets), false)]);
    assert_eq!(second, [Kind::Doubled]);
}
