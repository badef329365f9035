//! What a message hears of a spool that can't take it, by `spool.on_failure`.

use super::*;
use crate::drain::Drain;
use crate::journal::MacKey;
use crate::mail::{OsEntropy, RecordId};
use crate::receive::gaps::Gaps;
use crate::spool::fixtures::{HandClock, Message, ORGANIZATION, draft, options};
use crate::spool::{Filter, MemorySpool, Pressure, Room, Spool};
use std::sync::Arc;
use tokio::sync::Semaphore;

const OCTETS: &[u8] = b"Subject: x\r\n\r\nhello\r\n";

fn parts(spool: &MemorySpool) -> Parts {
    let (clock, entropy) = (HandClock::new(), Arc::new(OsEntropy));
    Parts {
        spool: Arc::new(spool.clone()),
        pressure: Pressure::new(1_000),
        gaps: Gaps::default(),
        clock,
        entropy,
        mac_key: MacKey::from_bytes([7; 32]),
        bounces: Arc::new(Semaphore::new(1)),
        drain: Drain::default(),
    }
}

fn spool() -> MemorySpool {
    MemorySpool::new(options(&HandClock::new()))
}

/// A message from MAIL to the end of data; the spool fails before `prepare`.
async fn pass(parts: &Parts, spool: &MemorySpool, way: OnFailure, failure: Option<SpoolError>) -> Passed {
    let queue_id = QueueId::new(parts.clock.now(), &OsEntropy);
    let mut keeping = Keeping::new(parts, way);
    keeping.admit(None)?;
    keeping.begin(queue_id);
    keeping.append(OCTETS).await?;
    spool.fail_with(failure);
    let draft = draft(&Message::new(1, &["bob@x.example"]), queue_id, OCTETS, parts.clock.now());
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
    assert_eq!(unrecorded.organizations, [ORGANIZATION]);
    assert_eq!(unrecorded.reason, "the spool is full: no room");
    assert_eq!(kept(&spool).await, []);
    assert!(pass(&parts, &spool, OnFailure::Bypass, None).await.unwrap().is_none());
    assert_eq!(kept(&spool).await.len(), 1, "once it works, the next message has its record");
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
    keeping.begin(queue_id);
    assert!(keeping.prepare(Draft { queue_id, records: Vec::new() }).await.unwrap().is_none());
}
