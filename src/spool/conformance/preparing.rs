//! From the first octet to the verdict.

use super::both;
use crate::mail::{OsEntropy, QueueId};
use crate::queue::State;
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    octets_come_back_as_they_came
    a_prepared_record_is_listed_and_not_given_out
    a_draft_without_records_keeps_nothing
    an_accepted_message_waits_for_the_end_of_its_window
    an_unknown_verdict_makes_the_record_due_and_say_so
    a_refused_message_leaves_nothing
    a_verdict_on_what_is_not_prepared_changes_nothing
    a_verdict_needs_no_waiting
    a_preparation_that_nobody_waits_for_keeps_nothing
    every_organization_gets_its_own_record_of_one_original
    a_verdict_is_a_change
    what_is_closed_takes_nothing_more
}

async fn octets_come_back_as_they_came(world: World) {
    for size in [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 1_000_000] {
        let octets: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
        let prepared = world.prepare(&Message::new(1, &["a@x.example"]), &octets).await.unwrap();
        let (fields, listing, kept) = world.spool.show(prepared.record()).await.unwrap();
        let kept = kept.unwrap();
        assert_eq!((kept.len(), listing.size), (size as u64, size as u64));
        assert_eq!(kept.read_all().unwrap(), octets);
        assert_eq!(fields.original.queue_id, prepared.queue_id);
    }
}

async fn a_prepared_record_is_listed_and_not_given_out(world: World) {
    let prepared = world.prepare(&Message::new(1, &["a@x.example", "b@x.example"]), b"octets").await.unwrap();
    let live = world.live().await;
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].id, live[0].state, live[0].size), (prepared.record(), State::Prepared, 6));
    assert_eq!(live[0].recipients, ["a@x.example", "b@x.example"]);
    assert_eq!(live[0].original_message_id.as_deref(), Some("<1@example.org>"));
    assert_eq!((live[0].created, live[0].attempts, live[0].next_attempt), (world.now(), 0, None));
    assert!(world.claim_all().await.is_empty());
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), None);
}

async fn a_draft_without_records_keeps_nothing(world: World) {
    let message = Message { organizations: vec![], ..Message::new(1, &["a@x.example"]) };
    let prepared = world.prepare(&message, &[b'x'; 300_000]).await.unwrap();
    world.spool.decide(prepared.queue_id, Verdict::Accepted).await.unwrap();
    assert!(world.live().await.is_empty());
}

async fn an_accepted_message_waits_for_the_end_of_its_window(world: World) {
    let prepared = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let end = world.now().plus(WINDOW);
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), Some(end));
    assert_eq!(world.spool.next_due(&"another".into()).await.unwrap(), None);
    world.clock.advance(WINDOW - Duration::from_millis(1));
    assert!(world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap().is_empty());
    world.clock.advance(Duration::from_millis(1));
    assert!(world.spool.claim(&"another".into(), world.now(), 9).await.unwrap().is_empty());
    let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].fields.id, claims[0].fields.outcome_unknown), (prepared.record(), false));
}

async fn an_unknown_verdict_makes_the_record_due_and_say_so(world: World) {
    let prepared = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Unknown).await;
    let claims = world.claim_all().await;
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].fields.id, claims[0].fields.outcome_unknown), (prepared.record(), true));
}

async fn a_refused_message_leaves_nothing(world: World) {
    let prepared = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Refused).await;
    assert!(world.live().await.is_empty());
    assert!(
        matches!(world.spool.show(prepared.record()).await, Err(SpoolError::NotFound(id)) if id == prepared.record())
    );
    // Nothing stands for a later message, either.
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    assert_eq!(world.claim_all().await.len(), 1);
}

async fn a_verdict_on_what_is_not_prepared_changes_nothing(world: World) {
    world.spool.decide(QueueId::new(world.now(), &OsEntropy), Verdict::Accepted).await.unwrap();
    let prepared = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    world.spool.decide(prepared.queue_id, Verdict::Refused).await.unwrap();
    assert_eq!(world.in_state(State::Waiting).await, [prepared.record()]);
}

async fn a_verdict_needs_no_waiting(world: World) {
    let prepared = world.prepare(&Message::new(1, &["a@x.example"]), b"octets").await.unwrap();
    let mut changes = world.spool.changes();
    drop(world.spool.decide(prepared.queue_id, Verdict::Accepted));
    while world.in_state(State::Waiting).await.is_empty() {
        changes.changed().await.unwrap();
    }
    assert_eq!(world.in_state(State::Waiting).await, [prepared.record()]);
}

async fn a_preparation_that_nobody_waits_for_keeps_nothing(world: World) {
    let message = Message::new(1, &["a@x.example"]);
    let queue_id = QueueId::new(world.now(), &OsEntropy);
    let mut intake = world.spool.begin(queue_id);
    intake.append(b"octets").await.unwrap();
    let mut preparing = world.spool.prepare(intake, draft(&message, queue_id, b"octets", world.now()));
    // Begun, and then given up, unless it was done at once.
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(preparing.as_mut().poll(context))).await;
    drop(preparing);
    if polled.is_ready() {
        world.spool.decide(queue_id, Verdict::Refused).await.unwrap();
    }
    // Goes through after whatever was begun; and so does what the first of them undid.
    for _ in 0..2 {
        world.relay(&Message { organizations: vec!["another"], ..message.clone() }, Verdict::Accepted).await;
    }
    let filter = Filter { organization: Some(ORGANIZATION.into()), ..Filter::default() };
    assert_eq!(world.spool.list(filter, 9).await.unwrap(), []);
}

async fn every_organization_gets_its_own_record_of_one_original(world: World) {
    let message = Message { organizations: vec![ORGANIZATION, "another"], ..Message::new(1, &["a@x.example"]) };
    let prepared = world.relay(&message, Verdict::Accepted).await;
    let claims = world.claim_all().await;
    assert_eq!(claims.len(), 1);
    world.ack(claims[0].fields.id).await;
    // The other organization's record needs the octets still.
    let other = world.spool.claim(&"another".into(), world.now(), 9).await.unwrap();
    assert_eq!(other.len(), 1);
    assert_eq!(other[0].fields.original.queue_id, prepared.queue_id);
    assert!(other[0].octets.read_all().unwrap().ends_with(b"hello\r\n"));
}

async fn a_verdict_is_a_change(world: World) {
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    changes.changed().await.unwrap();
}

async fn what_is_closed_takes_nothing_more(world: World) {
    let message = Message::new(1, &["a@x.example"]);
    let prepared = world.prepare(&message, b"octets").await.unwrap();
    world.spool.close().await.unwrap();
    assert!(matches!(world.prepare(&message, b"octets").await, Err(SpoolError::Failing(_))));
    assert!(world.spool.decide(prepared.queue_id, Verdict::Accepted).await.is_err());
    assert!(world.spool.claim(&ORGANIZATION.into(), world.now(), 1).await.is_err());
    assert!(world.spool.list(Filter::default(), 1).await.is_err());
    assert!(world.spool.close().await.is_err());
}
