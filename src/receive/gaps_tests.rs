//! Gaps as values, with the time as an argument, and in front of a spool that fails and comes back.

use super::*;
use crate::journal::MAX_QUEUE_IDS;
use crate::mail::OsEntropy;
use crate::spool::MemorySpool;
use crate::spool::fixtures::{HandClock, options};
use uuid::Uuid;

const START: Timestamp = Timestamp::from_millis(1_794_304_800_000);

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

fn id() -> QueueId {
    QueueId::new(START, &OsEntropy)
}

fn seed() -> ReportSeed {
    ReportSeed {
        id: RecordId::new(START, &OsEntropy),
        date: START,
        message_uuid: Uuid::new_v4(),
        boundary: Uuid::new_v4(),
    }
}

fn full() -> Result<(), SpoolError> {
    Err(SpoolError::Full("no room".into()))
}

/// Takes what is due and has it noted.
fn noted(book: &mut Book, now: Timestamp) -> Option<Gap> {
    let organization = book.due(now).pop()?;
    let (gap, _) = book.take(&organization, seed())?;
    book.settle(&organization, &Ok(()), now);
    Some(gap)
}

#[test]
fn a_gap_has_its_first_reason_its_times_and_a_bounded_list_of_ids() {
    let mut book = Book::default();
    let ids: Vec<_> = (0..MAX_QUEUE_IDS + 20).map(|_| id()).collect();
    for (second, id) in ids.iter().enumerate() {
        let reason = if second == 0 { "é".repeat(900) } else { "another".to_owned() };
        book.note("acme", *id, &reason, at(second as u64));
    }
    let gap = noted(&mut book, at(500)).unwrap();
    assert_eq!((gap.since, gap.until, gap.messages), (at(0), at(119), 120));
    assert_eq!((gap.reason, gap.queue_ids.as_slice()), ("é".repeat(500), &ids[..MAX_QUEUE_IDS]));
    assert_eq!(book.messages(), 0);
}

#[test]
fn each_organization_has_a_gap_of_its_own() {
    let mut book = Book::default();
    book.note("b", id(), "full", at(0));
    book.note("a", id(), "full", at(1));
    assert_eq!(book.due(at(1)), ["a", "b"]);
    assert_eq!(book.take("a", seed()).unwrap().0.messages, 1);
    assert!(book.take("c", seed()).is_none());
}

#[test]
fn what_the_spool_had_no_room_for_is_one_gap_with_what_came_since() {
    let mut book = Book::default();
    book.note("acme", id(), "first", at(0));
    book.take("acme", seed()).unwrap();
    book.note("acme", id(), "second", at(2));
    book.settle("acme", &full(), at(3));
    let gap = noted(&mut book, at(5)).unwrap();
    assert_eq!((gap.messages, gap.reason.as_str(), gap.since, gap.until), (2, "first", at(0), at(2)));
    assert_eq!(noted(&mut book, at(9_999)), None);
}

#[test]
fn what_may_be_noted_already_is_asked_again_as_it_was() {
    let mut book = Book::default();
    book.note("acme", id(), "first", at(0));
    let (gap, asked) = book.take("acme", seed()).unwrap();
    book.settle("acme", &Err(SpoolError::Failing("who knows".into())), at(1));
    book.note("acme", id(), "second", at(2));
    assert_eq!(book.messages(), 2);
    assert_eq!(book.take("acme", seed()).unwrap(), (gap, asked));
    book.settle("acme", &Ok(()), at(3));
    assert_eq!(book.take("acme", seed()).unwrap().0.reason, "second");
}

#[test]
fn gaps_that_go_on_are_told_ever_more_rarely_and_at_once_after_a_quiet_time() {
    let mut book = Book::default();
    let mut now = 0;
    for distance in [0, 60, 120, 240, 480, 960, 960] {
        book.note("acme", id(), "full", at(now));
        if distance > 0 {
            assert_eq!(noted(&mut book, at(now + distance - 1)), None, "too soon, of {distance}");
        }
        now += distance;
        assert!(noted(&mut book, at(now)).is_some(), "{distance}");
    }
    now += QUIET.as_secs();
    book.note("acme", id(), "full", at(now));
    assert!(noted(&mut book, at(now)).is_some());
    book.note("acme", id(), "full", at(now));
    assert!(noted(&mut book, at(now + 60)).is_some(), "the distance has begun anew");
    book.note("acme", id(), "full", at(now));
    assert!(noted(&mut book, at(0)).is_some(), "a clock that was set back delays nothing");
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_noted_once_the_spool_takes_writes_and_the_rest_at_the_end() {
    let clock = HandClock::new();
    let spool = MemorySpool::new(options(&clock));
    let (gaps, drain, entropy) = (Gaps::default(), Drain::default(), Arc::new(OsEntropy));
    let shared: SharedClock = Arc::clone(&clock) as SharedClock;
    let task = gaps.clone().keep(Arc::new(spool.clone()), Arc::clone(&shared), entropy, drain.clone());
    drain.spawn("gaps", task);
    spool.fail_with(Some(SpoolError::Full("no room".into())));
    gaps.note("acme", id(), "no room", shared.now());
    sleep(3 * EVERY).await;
    assert_eq!(gaps.messages(), 1);
    spool.fail_with(None);
    sleep(EVERY).await;
    assert_eq!((gaps.messages(), spool.gaps(9).await.unwrap().len()), (0, 1));
    gaps.note("acme", id(), "again", shared.now());
    sleep(2 * EVERY).await;
    assert_eq!(gaps.messages(), 1, "not so soon");
    drain.begin();
    drain.done().await;
    gaps.close(&spool, &shared, &OsEntropy).await;
    assert_eq!((gaps.messages(), spool.gaps(9).await.unwrap().len()), (0, 2));
    let reports = spool.claim_reports("acme", shared.now(), 9).await.unwrap();
    assert_eq!(reports.iter().map(|claim| claim.fields.news.as_str()).collect::<Vec<_>>(), ["bypassed", "bypassed"]);
}
