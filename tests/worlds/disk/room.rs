//! The disk is full for a while, writes fail or are cut short: each write of a working day.

use super::day::day_at;
use super::faults::Kind;
use super::found::check;
use super::power::{for_each, operations_of_a_day, run};
use super::work::{Books, ROOT};
use super::{Fault, SimulatedDisk};
use journal_relay::spool::{Spool, SpoolError};
use std::time::Duration;

/// The numbers of the operations that may find no room, and what they are.
fn writes_of_a_day() -> Vec<(u64, String)> {
    let all = operations_of_a_day().into_iter();
    let writes = all.filter(|operation| operation.kind == Kind::Write || operation.kind.needs_room());
    writes.map(|operation| (operation.number, operation.to_string())).collect()
}

#[test]
fn a_disk_full_from_any_write_on_loses_nothing_and_works_again_once_there_is_room() {
    let writes = writes_of_a_day();
    for_each(0..writes.len() as u64, |which| {
        let (at, context) = &writes[which as usize];
        run(full_from(*at, &format!("full from {context}")));
    });
}

async fn full_from(at: u64, context: &str) {
    let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, at));
    disk.plan_full(at..u64::MAX);
    let mut open = None;
    let ended = day_at(&mut open, &books, &disk).await;
    disk.clear();
    if let Some(desk) = open {
        assert!(matches!(ended, Err(SpoolError::Full(_))), "{context}: {ended:?}");
        // The spool looks for room every second, and holds its reserve again before it takes octets.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let more = desk.books.message(77, &["y@x.example"], 45_000, false);
        desk.relay(more).await.unwrap_or_else(|error| panic!("{context}: there is room again, but {error}"));
        desk.spool.close().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    check(&books, &disk.after_kill(), context).await;
}

#[test]
fn a_write_that_fails_or_is_cut_short_loses_nothing() {
    let writes = writes_of_a_day();
    for fault in [Fault::FailedWrite, Fault::ShortWrite] {
        for_each((0..writes.len() as u64).step_by(2), |which| {
            let (at, context) = &writes[which as usize];
            run(fail_at(*at, fault, &format!("{fault:?} at {context}")));
        });
    }
}

async fn fail_at(at: u64, fault: Fault, context: &str) {
    let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, at));
    disk.plan(at, fault);
    let mut open = None;
    let _ = day_at(&mut open, &books, &disk).await;
    if let Some(desk) = open {
        // It goes on, or it says that it does not.
        let more = desk.books.message(77, &["y@x.example"], 45_000, false);
        match desk.relay(more).await {
            Ok(()) => desk.spool.close().await.unwrap_or_else(|error| panic!("{context}: {error}")),
            Err(error) => {
                assert!(matches!(error, SpoolError::Failing(_)), "{context}: {error}");
                assert!(desk.spool.close().await.is_err(), "{context}: closed as if nothing had been");
            }
        }
    }
    check(&books, &disk.after_kill(), context).await;
}
