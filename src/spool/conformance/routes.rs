//! What the state of a route asks of a spool: everything due at once, what an operator wants, what is too old.

use super::both;
use crate::journal::{Cause, News};
use crate::mail::RecordId;
use crate::queue::State;
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    what_is_deferred_is_hurried_and_nothing_else
    reports_are_hurried_too
    what_an_operator_wants_tried_is_given_out_one_for_all
    what_waits_too_long_is_given_up_with_a_notice
    what_waits_is_counted_and_named_oldest_first
    what_archives_have_taken_since_is_counted
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn one(world: &World, identity: u8) -> RecordId {
    let id = world.relay(&Message::new(identity, &["a@x.example"]), Verdict::Accepted).await.record();
    world.clock.advance(Duration::from_millis(1));
    id
}

async fn what_is_deferred_is_hurried_and_nothing_else(world: World) {
    let (deferred, held) = (one(&world, 1).await, one(&world, 2).await);
    world.claim_all().await;
    world.defer(deferred, HOUR).await;
    world.defer(held, HOUR).await;
    world.operate(held, Operation::Hold).await.unwrap();
    // Its window is still open: more recipients may join.
    let waiting = one(&world, 3).await;
    let window_end = world.spool.show(waiting).await.unwrap().1.next_attempt;
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    assert_eq!(world.spool.hurry(&"another".into(), world.now()).await.unwrap(), 0);
    assert_eq!(world.spool.hurry(&ORGANIZATION.into(), world.now()).await.unwrap(), 1);
    changes.changed().await.unwrap();
    assert_eq!(world.spool.hurry(&ORGANIZATION.into(), world.now()).await.unwrap(), 0);
    let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.fields.id).collect::<Vec<_>>(), [deferred]);
    assert_eq!(world.spool.show(waiting).await.unwrap().1.next_attempt, window_end);
    let listing = world.operate(held, Operation::Release).await.unwrap();
    assert!(listing.next_attempt.unwrap() > world.now());
}

async fn reports_are_hurried_too(world: World) {
    let id = one(&world, 1).await;
    world.claim_all().await;
    world.refuse(id).await;
    let report = world.gather().await;
    world.claim_reports().await;
    let deferred = Outcome::Deferred { reply: "451".into(), next_attempt: world.now().plus(HOUR) };
    world.spool.settle_report(report, deferred, world.now()).await.unwrap();
    assert_eq!(world.spool.hurry(&ORGANIZATION.into(), world.now()).await.unwrap(), 0, "no records");
    assert_eq!(world.spool.hurry_reports(ORGANIZATION, world.now()).await.unwrap(), 1);
    assert_eq!(world.spool.hurry_reports(ORGANIZATION, world.now()).await.unwrap(), 0);
    assert_eq!(world.claim_reports().await.len(), 1);
}

async fn what_an_operator_wants_tried_is_given_out_one_for_all(world: World) {
    let ids = [one(&world, 1).await, one(&world, 2).await, one(&world, 3).await];
    world.clock.advance(WINDOW);
    assert!(world.spool.claim_urged(&ORGANIZATION.into(), world.now()).await.unwrap().is_none());
    assert_eq!(world.spool.agenda(&ORGANIZATION.into()).await.unwrap().urged, None);
    for id in &ids[1..] {
        world.operate(*id, Operation::Retry).await.unwrap();
    }
    assert_eq!(world.spool.agenda(&ORGANIZATION.into()).await.unwrap().urged, Some(world.now()));
    assert!(world.spool.claim_urged(&"another".into(), world.now()).await.unwrap().is_none());
    let claim = world.spool.claim_urged(&ORGANIZATION.into(), world.now()).await.unwrap().unwrap();
    assert_eq!((claim.fields.id, claim.status.state, claim.status.attempts), (ids[1], State::Sending, 1));
    assert!(world.spool.claim_urged(&ORGANIZATION.into(), world.now()).await.unwrap().is_none());
    let agenda = world.spool.agenda(&ORGANIZATION.into()).await.unwrap();
    assert!(agenda.urged.is_none() && agenda.records.is_some(), "the others wait: {agenda:?}");
    assert_eq!(world.in_state(State::Waiting).await, [ids[0], ids[2]]);
}

async fn what_waits_too_long_is_given_up_with_a_notice(world: World) {
    let (deferred, held, waiting) = (one(&world, 1).await, one(&world, 2).await, one(&world, 3).await);
    world.operate(held, Operation::Hold).await.unwrap();
    world.clock.advance(WINDOW);
    world.spool.claim(&ORGANIZATION.into(), world.now(), 1).await.unwrap();
    world.defer(deferred, HOUR).await;
    let until = world.now();
    world.clock.advance(HOUR);
    let young = one(&world, 4).await;
    let setback = Setback {
        route: "smtp://archive.example.com:25".into(),
        reply: "connection refused".into(),
        reply_is_smtp: false,
    };
    let given_up = world.spool.give_up(&ORGANIZATION.into(), until, setback.clone(), world.now()).await.unwrap();
    assert_eq!(given_up, [deferred, waiting]);
    assert!(world.spool.give_up(&ORGANIZATION.into(), until, setback, world.now()).await.unwrap().is_empty());
    assert_eq!(world.in_state(State::Failed).await, [deferred, waiting]);
    assert_eq!((world.in_state(State::Held).await, world.in_state(State::Waiting).await), (vec![held], vec![young]));
    assert!(world.octets(waiting).await.is_some(), "kept whole");
    assert_eq!(world.spool.show(waiting).await.unwrap().1.last_reply.as_deref(), Some("connection refused"));
    world.gather().await;
    let claims = world.claim_reports().await;
    let News::Failed(named) = &claims[0].fields.news else { panic!("{claims:?}") };
    let told: Vec<_> = named.records.iter().map(|notice| (notice.record, notice.cause, notice.attempts)).collect();
    assert_eq!(told, [(deferred, Cause::GivenUp, 1), (waiting, Cause::GivenUp, 0)]);
    assert!(named.records.iter().all(|notice| notice.reply == "connection refused" && !notice.reply_is_smtp));
}

async fn what_waits_is_counted_and_named_oldest_first(world: World) {
    assert_eq!(world.spool.backlog(&ORGANIZATION.into()).await.unwrap(), Backlog::default());
    let made = world.now();
    let (first, held) = (one(&world, 1).await, one(&world, 2).await);
    world.operate(held, Operation::Hold).await.unwrap();
    world.claim_all().await;
    world.defer(first, HOUR).await;
    let second = one(&world, 3).await;
    let until = world.now().minus(Duration::from_millis(1));
    one(&world, 4).await;
    let backlog = world.spool.backlog(&ORGANIZATION.into()).await.unwrap();
    assert_eq!((backlog.waiting, backlog.oldest), (3, Some(made)));
    let named = world.spool.waiting(&ORGANIZATION.into(), until, 9, world.now()).await.unwrap();
    assert_eq!(named.records.iter().map(|notice| notice.record).collect::<Vec<_>>(), [first, second]);
    assert_eq!(named.more, 0);
    let notice = &named.records[0];
    assert_eq!((notice.cause, notice.attempts, notice.created), (Cause::Waits, 1, made));
    assert_eq!((notice.reply.as_str(), notice.reply_is_smtp), ("451 4.3.0 later", true));
    assert_eq!((named.records[1].reply.as_str(), named.records[1].attempts), ("", 0));
    let named = world.spool.waiting(&ORGANIZATION.into(), world.now(), 1, world.now()).await.unwrap();
    assert_eq!((named.records[0].record, named.more), (first, 2));
}

async fn what_archives_have_taken_since_is_counted(world: World) {
    for identity in 1..=3 {
        let id = one(&world, identity).await;
        world.claim_all().await;
        world.ack(id).await;
    }
    let since = world.now();
    assert_eq!(world.spool.acked_since(&ORGANIZATION.into(), since).await.unwrap(), 1);
    assert_eq!(world.spool.acked_since(&ORGANIZATION.into(), since.minus(HOUR)).await.unwrap(), 3);
    assert_eq!(world.spool.acked_since(&"another".into(), since.minus(HOUR)).await.unwrap(), 0);
}
