//! What a message costs whose record is taken in time: the log in front of the database, and a row of history later.

use super::faults::Kind;
use super::found::check;
use super::power::run;
use super::work::{Books, Desk, NARROW, ROOT, WINDOW, path};
use super::{Aftermath, SimulatedDisk};
use journal_relay::queue::State;
use journal_relay::spool::disk::Disk;
use journal_relay::spool::{Filter, Spool, Verdict};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// What was written since operation `begun`, and how often that was synced.
fn written_since(disk: &SimulatedDisk, begun: u64) -> (BTreeSet<PathBuf>, usize) {
    let log: Vec<_> = disk.log().into_iter().filter(|operation| operation.number >= begun).collect();
    let syncs = log.iter().filter(|operation| operation.kind == Kind::Sync).count();
    (log.into_iter().map(|operation| operation.path).collect(), syncs)
}

fn log() -> BTreeSet<PathBuf> {
    BTreeSet::from([path().join("front")])
}

async fn one_is_taken(desk: &Desk, identity: u8) -> usize {
    let which = desk.books.message(identity, &["a@x.example"], 500, false);
    desk.relay(which).await.unwrap();
    desk.books.advance(WINDOW);
    let claims = desk.claim().await.unwrap();
    assert_eq!(claims.iter().map(|(which, _)| *which).collect::<Vec<_>>(), [which]);
    desk.ack(which).await.unwrap();
    which
}

#[test]
fn what_is_taken_in_time_is_written_to_the_log_alone_and_then_once_as_history() {
    run(async {
        let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
        // Its own log is carried over some other time.
        let (desk, _) = books.open_with(&disk, journal_relay::spool::CHECKPOINT_PAGES).unwrap();
        let begun = disk.operations();
        let which = one_is_taken(&desk, 1).await;
        assert_eq!(written_since(&disk, begun), (log(), 4), "prepared, decided, claimed, taken");
        // Nothing moves any more.
        let quiet = disk.operations();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (files, syncs) = written_since(&disk, quiet);
        assert!(
            files.contains(&path().join("spool.sqlite-wal")) && !files.contains(&path().join("front")),
            "{files:?}"
        );
        assert_eq!(syncs, 1, "one transaction");
        let history = desk.spool.list(Filter { state: Some(State::Acked), ..Filter::default() }, 9).await.unwrap();
        assert_eq!(history.iter().map(|line| line.id).collect::<Vec<_>>(), [books.told(which).record]);
        check(&books, &disk.after_power_cut(Aftermath::Lost), "taken in time").await;
    });
}

#[test]
fn the_log_begins_again_at_its_front_and_what_it_had_before_counts_no_more() {
    run(async {
        let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
        let (desk, _) = books.open(&disk).unwrap();
        let mut length = None;
        for identity in 1..20 {
            one_is_taken(&desk, identity).await;
            desk.spool.complete().await.unwrap();
            let found = Disk::length(&disk, &path().join("front")).unwrap();
            assert!(found <= 2 * *length.get_or_insert(found), "{found}: it grows with what came");
        }
        let last = desk.books.message(20, &["a@x.example"], 500, false);
        desk.prepare(last).await.unwrap();
        check(&books, &disk.after_power_cut(Aftermath::Lost), "a short log before the rest of longer ones").await;
    });
}

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    Disk::open(disk, &path().join(name)).unwrap().read_to_end(&mut octets).unwrap();
    octets
}

#[test]
fn history_leaves_in_parts_while_what_is_on_its_way_stays() {
    run(async {
        let (books, disk) = (Books::narrow(), SimulatedDisk::new(ROOT, 1));
        let (desk, _) = books.open(&disk).unwrap();
        let stays = books.message(99, &["a@x.example"], 3_000, false);
        desk.prepare(stays).await.unwrap();
        let others: u8 = 60;
        for identity in 1..=others {
            one_is_taken(&desk, identity).await;
            let left = disk.log().iter().filter(|operation| operation.path.ends_with("spool.sqlite-wal")).count();
            assert!(
                left > usize::from(identity),
                "{left} writes: every record is in the database, whose first writes were the start's"
            );
        }
        let octets = books.told(stays).octets;
        let is_in = |name| content(&disk, name).windows(64).any(|window| *window == octets[..64]);
        assert!(!is_in("spool.sqlite") && !is_in("spool.sqlite-wal"), "what is on its way went with the rest");
        let length = Disk::length(&disk, &path().join("front")).unwrap();
        assert!(length <= NARROW.log_octets, "{length}");
        desk.decide(stays, Verdict::Accepted).await.unwrap();
        books.advance(WINDOW);
        assert_eq!(desk.claim().await.unwrap().len(), 1);
        desk.ack(stays).await.unwrap();
        check(&books, &disk.after_power_cut(Aftermath::Lost), "taken after much history").await;
    });
}

#[test]
fn what_waits_leaves_due_first_where_too_much_does() {
    run(async {
        let (books, disk) = (Books::narrow(), SimulatedDisk::new(ROOT, 1));
        let (desk, _) = books.open(&disk).unwrap();
        let mut all = Vec::new();
        for identity in 1..=9 {
            let which = books.message(identity, &["a@x.example"], 700, false);
            desk.relay(which).await.unwrap();
            all.push(which);
        }
        let has_left = |which: usize| {
            let octets = books.told(which).octets;
            content(&disk, "spool.sqlite-wal").windows(64).any(|window| *window == octets[..64])
        };
        assert!(all[..7].iter().all(|which| has_left(*which)) && !all[7..].iter().any(|which| has_left(*which)));
        books.advance(WINDOW);
        let mut given = Vec::new();
        while given.len() < all.len() {
            let claims = desk.claim().await.unwrap();
            assert!(!claims.is_empty(), "{given:?}");
            given.extend(claims.into_iter().map(|(which, _)| which));
        }
        assert_eq!(given, all);
        check(&books, &disk.after_power_cut(Aftermath::Lost), "too many wait").await;
    });
}

#[test]
fn what_is_due_for_longest_goes_first_whether_the_database_has_it_or_not() {
    run(async {
        let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
        let (desk, _) = books.open(&disk).unwrap();
        let mut all = Vec::new();
        for identity in 1..=4 {
            let which = books.message(identity, &["a@x.example"], 500, false);
            desk.relay(which).await.unwrap();
            if identity == 2 {
                desk.spool.complete().await.unwrap();
            }
            all.push(which);
        }
        books.advance(WINDOW);
        let mut given = Vec::new();
        for _ in 0..4 {
            let claims = desk.spool.claim(&super::work::ORGANIZATION.into(), books.now(), 9).await.unwrap();
            given.extend(claims.into_iter().map(|claim| claim.fields.id));
        }
        let all: Vec<_> = all.into_iter().map(|which| books.told(which).record).collect();
        assert_eq!(given, all);
    });
}
