//! What a message hears of a spool that can't take it, by `spool.on_failure`.

use super::*;
use crate::mail::{OsEntropy, RecordId};
use crate::receive::fixtures;
use crate::receive::fixtures::spool;
use crate::spool::fixtures::{Message, ORGANIZATION, draft};
use crate::spool::{Copies, Filter, MemorySpool, Room, Spool};
use std::sync::Arc;
use tokio::time::Instant;

const OCTETS: &[u8] = b"Subject: x\r\n\r\nhello\r\n";

fn parts(spool: &MemorySpool) -> Arc<Parts> {
    fixtures::parts(Arc::new(spool.clone()))
}

/// A message from MAIL to the end of data; the spool fails before `prepare`.
async fn pass(parts: &Arc<Parts>, spool: &MemorySpool, way: OnFailure, failure: Option<SpoolError>) -> Passed {
    let queue_id = QueueId::new(parts.clock.now(), &OsEntropy);
    let mut keeping = Keeping::new(parts, way);
    keeping.admit(None)?;
    keeping.begin(queue_id, None);
    keeping.append(OCTETS).await?;
    spool.fail_with(failure);
    let message = Message::new(1, &["bob@x.example"]).to(&["a@one.example", "b@two.example"], Copies::EachIsNeeded);
    let draft = draft(&message, queue_id, OCTETS, parts.clock.now());
    let passed = keeping.prepare(draft).await;
    spool.fail_with(None);
    passed
}

type Passed = Result<Option<Unrecorded>, Reply>;

async fn kept(spool: &MemorySpool) -> Vec<RecordId> {
    spool.list(Filter::default(), 9).await.unwrap().into_iter().map(|entry| entry.id).collect()
}

fn full() -> Option<SpoolError> {
    Some(SpoolError::Full("no room".into()))
}

#[tokio::test]
async fn a_spool_that_fails_at_the_end_refuses_the_message_or_lets_it_go_on_without_a_record() {
    let spool = spool();
    let parts = parts(&spool);
    let refused = pass(&parts, &spool, OnFailure::Tempfail, full()).await.unwrap_err();
    assert_eq!(refused.code(), 452);
    let unrecorded = pass(&parts, &spool, OnFailure::Bypass, full()).await.unwrap().unwrap();
    assert_eq!(unrecorded.organizations, [ORGANIZATION], "once, however many archives it has");
    assert_eq!(unrecorded.reason, "the spool is full: no room");
    assert_eq!(kept(&spool).await, []);
    assert!(pass(&parts, &spool, OnFailure::Bypass, None).await.unwrap().is_none());
    assert_eq!(kept(&spool).await.len(), 2, "once it works, the next message has its record at each archive");
}

#[tokio::test]
async fn pressure_refuses_mail_or_lets_it_go_on_without_the_spool() {
    let spool = spool();
    let parts = parts(&spool);
    parts.pressure.note(Room { free_octets: 0, total_octets: 1_000, free_inodes: None, total_inodes: 0 });
    let refused = pass(&parts, &spool, OnFailure::Tempfail, None).await.unwrap_err();
    assert_eq!(refused.code(), 452);
    let unrecorded = pass(&parts, &spool, OnFailure::Bypass, None).await.unwrap().unwrap();
    assert!(unrecorded.reason.contains("full"), "{unrecorded:?}");
    assert_eq!(kept(&spool).await, []);
}

#[tokio::test]
async fn a_message_that_should_have_no_record_leaves_no_gap() {
    let spool = spool();
    let parts = parts(&spool);
    parts.pressure.note(Room { free_octets: 0, total_octets: 1_000, free_inodes: None, total_inodes: 0 });
    let mut keeping = Keeping::new(&parts, OnFailure::Bypass);
    keeping.admit(None).unwrap();
    let queue_id = QueueId::new(parts.clock.now(), &OsEntropy);
    keeping.begin(queue_id, None);
    assert!(keeping.prepare(Draft { queue_id, records: Vec::new() }).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_hangs_is_waited_for_two_minutes_and_then_is_a_failing_one() {
    let spool = spool();
    let parts = parts(&spool);
    for (way, bypasses) in [(OnFailure::Tempfail, false), (OnFailure::Bypass, true)] {
        let begun = Instant::now();
        spool.hang(true);
        let passed = pass(&parts, &spool, way, None).await;
        spool.hang(false);
        assert!(
            (SPOOL_TIMEOUT..SPOOL_TIMEOUT + Duration::from_secs(1)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        match passed {
            Ok(unrecorded) => {
                let unrecorded = unrecorded.unwrap();
                assert!(bypasses && unrecorded.reason.contains("no answer within 120 s"), "{unrecorded:?}");
            }
            Err(refused) => assert!(!bypasses && refused.code() == 451, "{refused}"),
        }
        assert_eq!(kept(&spool).await, [], "what was given up is not kept later");
    }
    assert!(pass(&parts, &spool, OnFailure::Bypass, None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_message_that_outgrows_the_room_is_refused_and_leaves_nothing_behind() {
    let spool = spool();
    let parts = parts(&spool);
    // 100 of 1,000 octets are kept for what waits, half of that from what is under way.
    parts.pressure.note(Room { free_octets: 160, total_octets: 1_000, free_inodes: None, total_inodes: 0 });
    let mut keeping = Keeping::new(&parts, OnFailure::Tempfail);
    keeping.admit(Some(40)).unwrap();
    keeping.begin(QueueId::new(parts.clock.now(), &OsEntropy), None);
    keeping.append(&[b'x'; 110]).await.unwrap();
    let refused = keeping.append(b"x").await.unwrap_err();
    assert!(refused.to_string().starts_with("452 4.3.1"), "{refused}");
    keeping.let_go();
    assert_eq!(kept(&spool).await, []);
}
