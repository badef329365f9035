//! The power is lost before each operation of a working day, and before each operation of the start after that.

use super::day::day;
use super::found::check;
use super::work::{Books, ROOT};
use super::{Aftermath, Fault, Operation, SimulatedDisk};
use std::future::Future;

/// Spools in front of whose database much stays, or hardly anything: in which steps operations are chosen for the one that has
/// fewer moves, and for the other.
const KINDS: [(fn() -> Books, usize); 2] = [(Books::new, 2), (Books::narrow, 1)];

/// What may be left of what was not synced.
pub fn aftermaths(seed: u64) -> [Aftermath; 4] {
    [Aftermath::Lost, Aftermath::Kept, Aftermath::Mixed(seed), Aftermath::Torn(seed)]
}

/// Runs under simulated time.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Runs something for each number, on as many threads as the machine has; a simulation stays within one of them.
pub fn for_each(numbers: impl Iterator<Item = u64>, one: impl Fn(u64) + Sync) {
    let numbers: Vec<u64> = numbers.collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (numbers, one) = (&numbers, &one);
            scope.spawn(move || numbers.iter().skip(thread).step_by(threads).for_each(|number| one(*number)));
        }
    });
}

/// The operations of a day without trouble.
pub fn operations_of_a_day() -> Vec<Operation> {
    operations_of(Books::new)
}

/// The same, of another spool.
pub fn operations_of(books: impl Fn() -> Books) -> Vec<Operation> {
    run(async {
        let (books, disk) = (books(), SimulatedDisk::new(ROOT, 1));
        day(&books, &disk).await.unwrap();
        let log = disk.log();
        assert_eq!(log.len() as u64, disk.operations(), "some were forgotten");
        log
    })
}

/// A day that ends with the power at operation `cut`.
async fn day_until(books: Books, cut: u64) -> (Books, SimulatedDisk) {
    let disk = SimulatedDisk::new(ROOT, 1);
    disk.plan(cut, Fault::PowerCut);
    // The last thing a spool does when it closes may fail unheard.
    let _ = day(&books, &disk).await;
    assert!(disk.is_dead(), "the power was to be lost at operation {cut}");
    (books, disk)
}

pub fn where_it_was(disk: &SimulatedDisk) -> String {
    disk.log().last().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_day_without_trouble_keeps_every_promise() {
    run(async {
        let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
        day(&books, &disk).await.unwrap();
        check(&books, &disk.after_kill(), "no trouble").await;
    });
}

#[test]
fn a_day_is_the_same_to_the_last_operation_when_it_is_run_again() {
    let log = || {
        run(async {
            let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
            day(&books, &disk).await.unwrap();
            disk.log().iter().map(ToString::to_string).collect::<Vec<_>>()
        })
    };
    assert_eq!(log(), log());
}

#[test]
fn whenever_the_power_is_lost_everything_promised_is_found() {
    for (kind, step) in KINDS {
        for_each((0..operations_of(kind).len() as u64).step_by(step), |cut| {
            run(async {
                let (books, disk) = day_until(kind(), cut).await;
                for aftermath in aftermaths(cut) {
                    let context = format!("power lost before operation {} {aftermath:?}", where_it_was(&disk));
                    check(&books.copy(), &disk.after_power_cut(aftermath), &context).await;
                }
            });
        });
    }
}

#[test]
fn whenever_the_power_is_lost_again_while_it_starts_everything_promised_is_found() {
    for (kind, step) in KINDS {
        for_each((0..operations_of(kind).len() as u64).step_by(19 * step), |first| {
            let mut second = 0;
            run(async {
                let (books, disk) = day_until(kind(), first).await;
                // The start that does not get as far as the second loss of power is the last.
                while lose_power_twice(&books.copy(), &disk, second).await {
                    second += 1;
                }
            });
            assert!(second > 0);
        });
    }
}

/// Whether the start had so many operations.
async fn lose_power_twice(books: &Books, disk: &SimulatedDisk, second: u64) -> bool {
    let again = disk.after_power_cut(Aftermath::Torn(disk.operations()));
    again.plan(second, Fault::PowerCut);
    let opened = books.open(&again).map(drop);
    if opened.is_ok() && !again.is_dead() {
        return false;
    }
    let context = format!("power lost before {}, again before {}", where_it_was(disk), where_it_was(&again));
    check(books, &again.after_power_cut(Aftermath::Torn(second)), &context).await;
    true
}

#[test]
fn whenever_the_process_is_killed_everything_promised_is_found() {
    for (kind, step) in KINDS {
        for_each((0..operations_of(kind).len() as u64).step_by(7 * step), |cut| {
            run(async {
                let (books, disk) = day_until(kind(), cut).await;
                let context = format!("killed before operation {}", where_it_was(&disk));
                check(&books, &disk.after_kill(), &context).await;
            });
        });
    }
}
