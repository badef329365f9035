//! Claims, the ends of attempts, and reports.

use super::both;
use crate::journal::{Named, News};
use crate::mail::{OsEntropy, RecordId};
use crate::queue::State;
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    a_claim_seals_counts_and_is_its_holder_s_alone
    a_claim_gives_out_the_longest_due_first_up_to_its_limit
    a_sealed_record_never_changes
    an_acked_record_is_history_without_octets
    a_deferred_record_is_due_again_when_its_time_has_come
    a_failed_record_is_kept_whole
    an_attempt_that_did_not_begin_is_not_counted
    a_claim_that_nobody_waits_for_is_put_back
    the_end_of_an_attempt_needs_an_attempt
    a_report_is_due_until_it_is_sent
    a_report_about_what_is_gone_has_no_record
    a_report_that_was_not_sent_is_put_back
}

async fn one(world: &World, identity: u8) -> RecordId {
    world.relay(&Message::new(identity, &["a@x.example"]), Verdict::Accepted).await.record()
}

async fn a_claim_seals_counts_and_is_its_holder_s_alone(world: World) {
    let id = one(&world, 1).await;
    let claims = world.claim_all().await;
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].fields.id, claims[0].fields.date), (id, world.now()));
    assert_eq!(claims[0].fields.message_uuid, uuid_of(&claims[0].fields));
    assert_eq!((claims[0].status.state, claims[0].status.attempts), (State::Sending, 1));
    assert_eq!(world.in_state(State::Sending).await, [id]);
    assert!(world.claim_all().await.is_empty());
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), None);
}

async fn a_claim_gives_out_the_longest_due_first_up_to_its_limit(world: World) {
    let mut ids = Vec::new();
    for identity in 0..5 {
        ids.push(one(&world, identity).await);
        world.clock.advance(Duration::from_millis(10));
    }
    world.clock.advance(WINDOW);
    let mut claimed = Vec::new();
    for expected in [2, 2, 1, 0] {
        let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 2).await.unwrap();
        assert_eq!(claims.len(), expected);
        claimed.extend(claims.into_iter().map(|claim| claim.fields.id));
    }
    assert_eq!(claimed, ids);
}

async fn a_sealed_record_never_changes(world: World) {
    let id = one(&world, 1).await;
    let first = world.claim_all().await;
    world.defer(id, Duration::from_secs(60)).await;
    world.clock.advance(Duration::from_secs(60));
    let second = world.claim_all().await;
    assert_eq!(second[0].fields, first[0].fields);
    assert_eq!(second[0].status.attempts, 2);
    assert_eq!(second[0].status.last_reply.as_deref(), Some("451 4.3.0 later"));
}

async fn an_acked_record_is_history_without_octets(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    world.ack(id).await;
    assert!(world.live().await.is_empty());
    let (fields, listing, octets) = world.spool.show(id).await.unwrap();
    assert_eq!((fields.id, listing.state, octets.is_none()), (id, State::Acked, true));
    assert_eq!(listing.last_reply.as_deref(), Some("250 2.0.0 kept"));
    assert!(listing.message_id.ends_with("@journal.report.generator>"));
    assert_eq!((listing.attempts, listing.next_attempt), (1, None));
}

async fn a_deferred_record_is_due_again_when_its_time_has_come(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    world.defer(id, Duration::from_secs(60)).await;
    changes.changed().await.unwrap();
    let due = world.now().plus(Duration::from_secs(60));
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), Some(due));
    let live = world.live().await;
    assert_eq!((live[0].state, live[0].next_attempt), (State::Deferred, Some(due)));
    assert!(world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap().is_empty());
    assert_eq!(world.spool.claim(&ORGANIZATION.into(), due, 9).await.unwrap().len(), 1);
}

async fn a_failed_record_is_kept_whole(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    world.fail(id, None).await;
    world.clock.advance(Duration::from_secs(365 * 86_400));
    assert!(world.claim_all().await.is_empty());
    assert_eq!(world.in_state(State::Failed).await, [id]);
    assert!(world.octets(id).await.is_some());
    assert_eq!(world.live().await[0].last_reply.as_deref(), Some("550 5.7.1 no"));
}

async fn an_attempt_that_did_not_begin_is_not_counted(world: World) {
    let id = one(&world, 1).await;
    let first = world.claim_all().await;
    world.spool.unclaim(id).await.unwrap();
    assert_eq!(world.in_state(State::Waiting).await, [id]);
    // Sealed it stays: what was rendered once is rendered the same again.
    world.relay(&Message::new(1, &["b@x.example"]), Verdict::Accepted).await;
    let second = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    assert_eq!((&second[0].fields, second[0].status.attempts), (&first[0].fields, 1));
}

async fn a_claim_that_nobody_waits_for_is_put_back(world: World) {
    let id = one(&world, 1).await;
    world.clock.advance(WINDOW);
    let mut claim = world.spool.claim(&ORGANIZATION.into(), world.now(), 9);
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(claim.as_mut().poll(context))).await;
    drop(claim);
    if polled.is_ready() {
        world.spool.unclaim(id).await.unwrap();
    }
    for _ in 0..2 {
        // Takes its turn behind what was begun.
        world
            .relay(&Message { organizations: vec!["another"], ..Message::new(2, &["a@x.example"]) }, Verdict::Refused)
            .await;
    }
    let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    assert_eq!(claims.iter().map(|claim| (claim.fields.id, claim.status.attempts)).collect::<Vec<_>>(), [(id, 1)]);
}

async fn the_end_of_an_attempt_needs_an_attempt(world: World) {
    let id = one(&world, 1).await;
    let reply = || "250 ok".to_owned();
    let acked = world.spool.settle(id, Outcome::Acked { reply: reply(), retain: false }, world.now()).await;
    assert!(matches!(acked, Err(SpoolError::NotNow(_))), "{acked:?}");
    assert!(matches!(world.spool.unclaim(id).await, Err(SpoolError::NotNow(_))));
    let nobody = RecordId::new(world.now(), &OsEntropy);
    let acked = world.spool.settle(nobody, Outcome::Acked { reply: reply(), retain: false }, world.now()).await;
    assert!(matches!(acked, Err(SpoolError::NotFound(id)) if id == nobody));
    assert!(matches!(world.spool.unclaim(nobody).await, Err(SpoolError::NotFound(_))));
    assert!(matches!(world.spool.show(nobody).await, Err(SpoolError::NotFound(_))));
    assert_eq!(world.in_state(State::Waiting).await, [id]);
}

async fn a_report_is_due_until_it_is_sent(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    let notice = world.refuse(id).await;
    let report = world.gather().await;
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), Some(world.now()));
    assert!(world.spool.claim_reports("another", world.now(), 9).await.unwrap().is_empty());

    let claims = world.claim_reports().await;
    assert_eq!((claims.len(), claims[0].attempts, claims[0].fields.id), (1, 1, report));
    assert_eq!(claims[0].fields.news, News::Failed(Named { records: vec![notice], more: 0 }));
    let (fields, octets) = claims[0].record.as_ref().unwrap();
    assert_eq!((fields.id, octets.is_empty()), (id, false));
    assert!(world.claim_reports().await.is_empty());

    let later = world.now().plus(Duration::from_secs(60));
    let deferred = Outcome::Deferred { reply: "451".into(), next_attempt: later };
    world.spool.settle_report(report, deferred, world.now()).await.unwrap();
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), Some(later));
    assert!(world.claim_reports().await.is_empty());
    let claims = world.spool.claim_reports(ORGANIZATION, later, 9).await.unwrap();
    assert_eq!(claims[0].attempts, 2);
    world.spool.settle_report(report, Outcome::Acked { reply: "250".into(), retain: false }, later).await.unwrap();
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), None);
    let again = world.spool.settle_report(report, Outcome::Acked { reply: "250".into(), retain: false }, later).await;
    assert!(matches!(again, Err(SpoolError::NotFound(_))));
}

async fn a_report_about_what_is_gone_has_no_record(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    world.refuse(id).await;
    world.discard(id).await.unwrap();
    let report = world.gather().await;
    let claims = world.claim_reports().await;
    assert_eq!(claims.len(), 1);
    assert!(claims[0].record.is_none());
    // Refused for good: remembered, never tried again, and no report about a report.
    let failed = Outcome::Failed { reply: "550".into(), notice: Some(world.notice(id).await) };
    world.spool.settle_report(report, failed, world.now()).await.unwrap();
    world.clock.advance(Duration::from_secs(86_400));
    assert!(world.claim_reports().await.is_empty());
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), None);
}

async fn a_report_that_was_not_sent_is_put_back(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    world.refuse(id).await;
    let report = world.gather().await;
    world.claim_reports().await;
    world.spool.unclaim(report).await.unwrap();
    assert!(matches!(world.spool.unclaim(report).await, Err(SpoolError::NotNow(_))));
    let claims = world.claim_reports().await;
    assert_eq!((claims.len(), claims[0].attempts), (1, 1));
}
