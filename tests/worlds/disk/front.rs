//! What a message costs whose record is taken in time: the log in front of the database, and a row of history later.

use super::faults::Kind;
use super::found::check;
use super::power::run;
use super::work::{Books, Desk, ROOT, WINDOW, path};
use super::{Aftermath, SimulatedDisk};
use journal_relay::queue::State;
use journal_relay::spool::{Filter, Spool};
use std::collections::BTreeSet;
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
            let found = journal_relay::spool::disk::Disk::length(&disk, &path().join("front")).unwrap();
            assert!(found <= 2 * *length.get_or_insert(found), "{found}: it grows with what came");
        }
        let last = desk.books.message(20, &["a@x.example"], 500, false);
        desk.prepare(last).await.unwrap();
        check(&books, &disk.after_power_cut(Aftermath::Lost), "a short log before the rest of longer ones").await;
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
