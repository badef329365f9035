//! What stays in memory, what goes to a file, and that it comes back.

use super::*;
use crate::mail::{OsEntropy, Timestamp};
use crate::spool::allowance::Allowance;
use crate::spool::disk::system;
use crate::spool::reserve::Reserve;
use crate::spool::{Octets, READ_CHUNK};
use proptest::prelude::*;
use std::path::PathBuf;

fn queue_id() -> QueueId {
    QueueId::new(Timestamp::from_millis(1_794_304_800_000), &OsEntropy)
}

fn store() -> (tempfile::TempDir, Arc<OctetStore>) {
    let directory = tempfile::tempdir().unwrap();
    let store =
        OctetStore::open(system(), directory.path().join("octets"), Reserve::beside(system(), directory.path()))
            .unwrap();
    (directory, store)
}

fn files(store: &OctetStore) -> Vec<PathBuf> {
    let mut found = Vec::new();
    store.each(|_, path| found.push(path.to_owned())).unwrap();
    found
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

const SMALL: usize = 32 * 1024;
const MOST: usize = MIDDLING * SMALL;
const FREE: usize = SMALL / FREE_PART;

fn allowances(arriving: usize, middling: usize) -> Allowances {
    Allowances { arriving: Allowance::new(arriving), middling: Allowance::new(middling) }
}

fn intake(store: &Arc<OctetStore>, allowances: &Allowances) -> Intake {
    Intake::with_store(queue_id(), Arc::clone(store), SMALL, allowances.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn octets_come_back_as_they_came_however_they_are_cut_and_announced_and_with_little_memory(
        pieces in prop::collection::vec((any::<u8>(), prop::sample::select(vec![0, 1, 1000, 3_000, 16_384, 32_767, 65_537])), 0..7),
        announced in prop::sample::select(vec![None, Some(-1_i64), Some(0), Some(5), Some(1_000_000)]),
        arriving in prop::sample::select(vec![0, SMALL, 20 * SMALL]),
        middling in prop::sample::select(vec![0, SMALL + 1, 3 * SMALL, 20 * SMALL]),
    ) {
        let (_directory, store) = store();
        let allowances = allowances(arriving, middling);
        let left = || (allowances.arriving.left(), allowances.middling.left());
        let all = left();
        let held = || all.0 + all.1 - left().0 - left().1;
        let expected: Vec<u8> = pieces.iter().flat_map(|(octet, count)| vec![*octet; *count]).collect();
        let length = expected.len();
        let mut intake = intake(&store, &allowances);
        if let Some(more) = announced {
            intake.announce(u64::try_from((length as i64 + more).max(0)).unwrap());
        }
        let whole = run(async {
            for (octet, count) in &pieces {
                intake.append(&vec![*octet; *count]).await.unwrap();
                assert!(intake.buffer.capacity() <= held().max(FREE), "memory grows beyond what was granted");
                assert!(held() <= MOST, "one message has more than a message may");
            }
            assert_eq!(intake.len(), length as u64);
            intake.finish().await.unwrap()
        });
        let octets = match whole.octets {
            Gathered::Inline(octets) => {
                let is_middling = length > SMALL;
                prop_assert_eq!(whole.middling.is_some(), is_middling);
                prop_assert!(!is_middling || length <= middling.min(MOST));
                prop_assert!(is_middling || length <= FREE || arriving + middling > 0);
                drop(whole.arriving);
                prop_assert_eq!(left().0, all.0, "what is whole no longer arrives");
                let held = if is_middling { length.next_multiple_of(1024) } else { 0 };
                prop_assert_eq!(all.1 - left().1, held);
                drop(whole.middling);
                Octets::Inline(octets)
            }
            Gathered::File(file) => {
                prop_assert_eq!(left(), all, "what is in a file holds no memory");
                prop_assert!(length > FREE);
                let room = if length > SMALL { middling.min(arriving) } else { arriving };
                prop_assert!(length + 5 + 2_048 > MOST || room < MOST || announced == Some(1_000_000), "there was room");
                file.keep();
                Octets::File { disk: system(), path: file.path().to_owned(), length: length as u64 }
            }
        };
        prop_assert!(octets.chunks().unwrap().all(|chunk| chunk.unwrap().len() <= READ_CHUNK));
        prop_assert_eq!(octets.read_all().unwrap(), expected);
        drop(octets);
        prop_assert_eq!(left(), all, "nothing is held for what is gone");
    }
}

#[test]
fn many_of_the_middling_sort_share_their_allowance_and_who_finds_none_goes_to_a_file() {
    let (_directory, store) = store();
    let allowances = allowances(20 * SMALL, 3 * 2 * SMALL);
    let left = || allowances.middling.left();
    run(async {
        let mut intakes: Vec<_> = (0..4).map(|_| intake(&store, &allowances)).collect();
        for intake in &mut intakes[..2] {
            intake.announce(2 * SMALL as u64 - OWN_OCTETS);
            intake.append(&[b'x'; SMALL + 1]).await.unwrap();
        }
        // Not said beforehand: half as much again at a time.
        intakes[2].append(&[b'x'; SMALL]).await.unwrap();
        intakes[2].append(b"x").await.unwrap();
        assert_eq!(left(), SMALL / 2);
        intakes[3].append(&[b'x'; 2 * SMALL]).await.unwrap();
        assert_eq!(files(&store).len(), 1, "it was refused");
        let first = intakes.remove(0).finish().await.unwrap();
        assert!(matches!(first.octets, Gathered::Inline(_)), "it was granted");
        assert_eq!(left(), SMALL / 2 + SMALL - 1024, "what was announced and did not come is given back");
        drop((first, intakes.remove(0)));
        assert_eq!(left(), 4 * SMALL + SMALL / 2);
    });
}

#[test]
fn a_crowd_of_small_messages_shares_its_allowance_and_who_finds_none_has_little_in_memory() {
    let (_directory, store) = store();
    let allowances = allowances(2 * SMALL, 0);
    run(async {
        let mut intakes: Vec<_> = (0..5).map(|_| intake(&store, &allowances)).collect();
        for intake in &mut intakes {
            intake.append(&[b'x'; FREE]).await.unwrap();
        }
        assert_eq!((allowances.arriving.left(), files(&store).len()), (2 * SMALL, 0), "so much is free");
        for intake in &mut intakes {
            intake.append(&[b'x'; SMALL - FREE]).await.unwrap();
        }
        assert_eq!((allowances.arriving.left(), files(&store).len()), (0, 3));
        assert!(intakes[2..].iter().all(|intake| intake.buffer.capacity() <= FREE));
        let whole = intakes.remove(0).finish().await.unwrap();
        assert_eq!(allowances.arriving.left(), 0, "it is not durable yet");
        drop(whole.arriving);
        assert_eq!(allowances.arriving.left(), SMALL);
    });
}

#[test]
fn what_is_dropped_unprepared_leaves_no_file() {
    let (_directory, store) = store();
    run(async {
        let mut intake = intake(&store, &allowances(0, 0));
        intake.append(&vec![b'x'; SMALL + 1]).await.unwrap();
        assert_eq!(files(&store).len(), 1);
        drop(intake);
        assert!(files(&store).is_empty());
    });
}

#[test]
fn an_append_given_up_halfway_breaks_the_message_and_leaves_no_file() {
    let (_directory, store) = store();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut intake = intake(&store, &allowances(0, 0));
        {
            let piece = vec![b'x'; SMALL + 1];
            let mut append = std::pin::pin!(intake.append(&piece));
            // Polled once: the write is under way, and then nobody wants it any more.
            assert!(
                std::future::poll_fn(|context| std::task::Poll::Ready(append.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
        }
        assert!(matches!(intake.finish().await, Err(SpoolError::Failing(_))));
    });
    // Waits for the blocking write.
    drop(runtime);
    assert!(files(&store).is_empty());
}
