//! A sync fails: each of a working day, of files and of directories.
//!
//! The system then counts as written what never reached the disk, and shows it until it boots again. So the file must not be
//! synced again, nothing may be promised any more, and the next start, in the same boot, must not build on what is shown.

use super::day::day_at;
use super::faults::Kind;
use super::found::{check, check_promises};
use super::power::{aftermaths, for_each, operations_of, run};
use super::work::{Books, Desk, ROOT};
use super::{Fault, SimulatedDisk};
use journal_relay::spool::{Spool, SpoolError};

fn syncs_of_a_day(books: fn() -> Books) -> impl Iterator<Item = (u64, String)> {
    let syncs = operations_of(books).into_iter();
    let syncs = syncs.filter(|operation| matches!(operation.kind, Kind::Sync | Kind::SyncDirectory));
    syncs.map(|operation| (operation.number, format!("failed: {operation}")))
}

#[test]
fn after_a_sync_that_failed_nothing_is_promised_and_nothing_promised_is_lost() {
    let syncs: Vec<_> = syncs_of_a_day(Books::new).collect();
    assert!(syncs.len() > 30, "{syncs:?}");
    for_each(0..syncs.len() as u64, |which| {
        let (at, context) = &syncs[which as usize];
        run(fail_at(Books::new(), *at, context));
        run(start_in_vain(*at, context));
        if context.ends_with("-wal") {
            run(starts_cut_short(*at, context));
        }
    });
    let syncs: Vec<_> = syncs_of_a_day(Books::narrow).collect();
    for_each(0..syncs.len() as u64, |which| {
        let (at, context) = &syncs[which as usize];
        run(fail_at(Books::narrow(), *at, context));
    });
}

async fn fail_at(books: Books, at: u64, context: &str) {
    let disk = SimulatedDisk::new(ROOT, at);
    disk.plan(at, Fault::FailedSync);
    let mut open = None;
    let ended = day_at(&mut open, &books, &disk).await;
    assert!(ended.is_err(), "{context}: nobody noticed");
    if let Some(desk) = open {
        nothing_is_promised(&desk, context).await;
    }
    // SQLite syncs again when it takes back what a first start had begun; that start promises nothing, and fails.
    let again = if matches!(ended, Err(SpoolError::Unusable(_))) { Vec::new() } else { disk.synced_again() };
    assert_eq!(again, Vec::<std::path::PathBuf>::new(), "{context}");
    for aftermath in aftermaths(at) {
        let context = format!("{context}, {aftermath:?}");
        check(&books.copy(), &disk.after_power_cut(aftermath), &context).await;
    }
    start_in_the_same_boot(&books, &disk, at, context).await;
}

async fn nothing_is_promised(desk: &Desk, context: &str) {
    for size in [500, 50_000, 500] {
        let which = desk.books.message(77, &["y@x.example"], size, false);
        let refused = desk.prepare(which).await;
        assert!(matches!(refused, Err(SpoolError::Failing(_))), "{context}: {refused:?}");
    }
    assert!(desk.claim().await.is_err(), "{context}");
    assert!(desk.spool.close().await.is_err(), "{context}: closed as if nothing had been");
}

/// The power is lost right behind the start in the same boot, before anything has come.
async fn start_in_vain(at: u64, context: &str) {
    let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, at));
    disk.plan(at, Fault::FailedSync);
    let mut open = None;
    let _ = day_at(&mut open, &books, &disk).await;
    let again = disk.after_kill();
    let Ok(desk) = books.copy().open_with(&again, journal_relay::spool::CHECKPOINT_PAGES) else { return };
    for aftermath in aftermaths(at) {
        let context = format!("{context}, started again in vain, then lost the power, {aftermath:?}");
        check(&books.copy(), &again.after_power_cut(aftermath), &context).await;
    }
    drop((open, desk));
}

/// The power is lost in the midst of the start in the same boot: at every third operation, another third for each sync.
async fn starts_cut_short(at: u64, context: &str) {
    let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, at));
    disk.plan(at, Fault::FailedSync);
    let mut open = None;
    let _ = day_at(&mut open, &books, &disk).await;
    for cut in (at % 3..).step_by(3) {
        let again = disk.after_kill();
        again.plan(again.operations() + cut, Fault::PowerCut);
        let started = books.copy().open_with(&again, journal_relay::spool::CHECKPOINT_PAGES);
        if !again.is_dead() {
            break;
        }
        for aftermath in aftermaths(at + cut) {
            let context = format!("{context}, and the power {cut} operations into the next start, {aftermath:?}");
            check(&books.copy(), &again.after_power_cut(aftermath), &context).await;
        }
        drop(started);
    }
    drop(open);
}

/// What the system shows is not what the disk has. New promises must be kept all the same.
async fn start_in_the_same_boot(books: &Books, disk: &SimulatedDisk, at: u64, context: &str) {
    let books = books.copy();
    let again = disk.after_kill();
    // What is promised now stays in the log, behind what the disk does not have.
    let Ok((desk, _)) = books.open_with(&again, journal_relay::spool::CHECKPOINT_PAGES) else {
        // A directory can't be synced: it says so until the machine boots.
        check(&books, &again.after_power_cut(super::Aftermath::Kept), context).await;
        return;
    };
    check_promises(&desk, context).await;
    for size in [600, 60_000] {
        let which = books.message(78 + u8::try_from(size / 60_000).unwrap(), &["w@x.example"], size, false);
        desk.relay(which).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    for aftermath in aftermaths(at) {
        let context = format!("{context}, started again, then lost the power, {aftermath:?}");
        check(&books.copy(), &again.after_power_cut(aftermath), &context).await;
    }
}
