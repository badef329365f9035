//! Lists, and what operators do.

use super::both;
use crate::mail::{OsEntropy, RecordId};
use crate::queue::State;
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    a_list_is_filtered_and_paged_by_age
    a_retry_makes_an_entry_due_at_once
    a_held_record_is_not_given_out_until_it_is_released
    a_hold_during_an_attempt_takes_effect_after_it
    a_discarded_record_is_history_with_its_reason
    a_discard_keeps_octets_that_another_record_needs
    what_is_being_sent_can_not_be_retried_or_discarded
    history_can_not_be_moved
    what_is_prepared_can_not_be_moved
    nobody_s_record_is_not_found
    the_first_secret_is_the_spool_s
}

async fn the_first_secret_is_the_spool_s(world: World) {
    assert_eq!(world.spool.secret([1; 32]).await.unwrap(), [1; 32]);
    assert_eq!(world.spool.secret([2; 32]).await.unwrap(), [1; 32]);
}

async fn one(world: &World, identity: u8) -> RecordId {
    world.relay(&Message::new(identity, &["a@x.example"]), Verdict::Accepted).await.record()
}

async fn a_list_is_filtered_and_paged_by_age(world: World) {
    let mut ids = Vec::new();
    for identity in 0..5 {
        ids.push(one(&world, identity).await);
        world.clock.advance(Duration::from_millis(1));
    }
    let other = Message { organizations: vec!["another"], ..Message::new(9, &["a@x.example"]) };
    let other = world.relay(&other, Verdict::Accepted).await.record();
    world.operate(ids[1], Operation::Hold).await.unwrap();

    let mut filter = Filter { organization: Some(ORGANIZATION.into()), ..Filter::default() };
    let mut seen = Vec::new();
    loop {
        let page = world.spool.list(filter.clone(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        seen.extend(page.iter().map(|listing| listing.id));
    }
    assert_eq!(seen, ids);
    assert_eq!(world.live().await.len(), 6);
    assert_eq!(world.in_state(State::Held).await, [ids[1]]);
    assert_eq!(world.in_state(State::Waiting).await, [ids[0], ids[2], ids[3], ids[4], other]);
    for state in [State::Prepared, State::Sending, State::Deferred, State::Failed, State::Acked, State::Discarded] {
        assert_eq!(world.in_state(state).await, [], "{state}");
    }
}

async fn a_retry_makes_an_entry_due_at_once(world: World) {
    let id = one(&world, 1).await;
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    // Before its window has ended.
    let listing = world.operate(id, Operation::Retry).await.unwrap();
    assert_eq!((listing.state, listing.next_attempt), (State::Waiting, Some(world.now())));
    changes.changed().await.unwrap();
    assert_eq!(world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap().len(), 1);
    world.defer(id, Duration::from_secs(3_600)).await;
    world.operate(id, Operation::Retry).await.unwrap();
    assert_eq!(world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap().len(), 1);
    world.fail(id, None).await;
    world.operate(id, Operation::Retry).await.unwrap();
    let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    assert_eq!((claims.len(), claims[0].status.attempts), (1, 3));
}

async fn a_held_record_is_not_given_out_until_it_is_released(world: World) {
    let id = one(&world, 1).await;
    let listing = world.operate(id, Operation::Hold).await.unwrap();
    assert_eq!((listing.state, listing.next_attempt), (State::Held, None));
    assert!(world.claim_all().await.is_empty());
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), None);
    assert!(matches!(world.operate(id, Operation::Retry).await, Err(SpoolError::NotNow(why)) if why.contains("held")));
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    let listing = world.operate(id, Operation::Release).await.unwrap();
    assert_eq!(listing.state, State::Waiting);
    changes.changed().await.unwrap();
    assert_eq!(world.claim_all().await.len(), 1);
}

async fn a_hold_during_an_attempt_takes_effect_after_it(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    let listing = world.operate(id, Operation::Hold).await.unwrap();
    assert_eq!(listing.state, State::Sending);
    world.defer(id, Duration::ZERO).await;
    assert_eq!(world.in_state(State::Held).await, [id]);
    assert!(world.claim_all().await.is_empty());
    let listing = world.operate(id, Operation::Release).await.unwrap();
    assert_eq!(listing.state, State::Deferred);
}

async fn a_discarded_record_is_history_with_its_reason(world: World) {
    let id = one(&world, 1).await;
    let listing = world.discard(id).await.unwrap();
    assert_eq!((listing.state, listing.reason.as_deref()), (State::Discarded, Some("asked for")));
    assert!(world.claim_all().await.is_empty());
    assert!(world.octets(id).await.is_none());
    assert_eq!(world.in_state(State::Discarded).await, [id]);
}

async fn a_discard_keeps_octets_that_another_record_needs(world: World) {
    let message = Message { organizations: vec![ORGANIZATION, "another"], ..Message::new(1, &["a@x.example"]) };
    let prepared = world.prepare(&message, &[b'x'; LARGE]).await.unwrap();
    world.spool.decide(prepared.queue_id, Verdict::Accepted).await.unwrap();
    world.discard(prepared.records[0]).await.unwrap();
    assert_eq!(world.octets(prepared.records[1]).await.unwrap().read_all().unwrap().len(), LARGE);
}

async fn what_is_being_sent_can_not_be_retried_or_discarded(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    let why = world.discard(id).await.unwrap_err().to_string();
    assert!(why.contains("being sent right now; hold it first") && why.contains(id.as_str()), "{why}");
    assert!(matches!(world.operate(id, Operation::Retry).await, Err(SpoolError::NotNow(_))));
    world.ack(id).await;
}

async fn history_can_not_be_moved(world: World) {
    let (acked, discarded) = (one(&world, 1).await, one(&world, 2).await);
    world.discard(discarded).await.unwrap();
    world.claim_all().await;
    world.ack(acked).await;
    for id in [acked, discarded] {
        for operation in
            [Operation::Retry, Operation::Hold, Operation::Release, Operation::Discard { reason: "again".into() }]
        {
            let moved = world.operate(id, operation.clone()).await;
            assert!(matches!(moved, Err(SpoolError::NotNow(_))), "{operation:?}: {moved:?}");
        }
    }
    assert_eq!(world.spool.show(discarded).await.unwrap().1.reason.as_deref(), Some("asked for"));
}

async fn what_is_prepared_can_not_be_moved(world: World) {
    let prepared = world.prepare(&Message::new(1, &["a@x.example"]), b"octets").await.unwrap();
    assert!(matches!(world.discard(prepared.record()).await, Err(SpoolError::NotNow(_))));
    assert!(matches!(world.operate(prepared.record(), Operation::Hold).await, Err(SpoolError::NotNow(_))));
    assert_eq!(world.in_state(State::Prepared).await, prepared.records);
}

async fn nobody_s_record_is_not_found(world: World) {
    let nobody = RecordId::new(world.now(), &OsEntropy);
    for operation in [Operation::Retry, Operation::Hold, Operation::Release] {
        let moved = world.operate(nobody, operation).await;
        assert!(matches!(moved, Err(SpoolError::NotFound(id)) if id == nobody));
    }
}
