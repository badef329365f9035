//! What organizations are told: notices gather, become reports, and told delays are remembered.

use super::both;
use crate::journal::{Gap, MAX_NAMED, Named, News, Outage};
use crate::mail::{OsEntropy, QueueId, RecordId};
use crate::queue::{DISTANCES, GATHER, SETTLE, State};
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    a_failure_leaves_a_notice_that_is_told_when_it_has_settled
    what_fails_together_becomes_one_report_with_each_record_by_name
    the_next_report_keeps_its_distance
    failures_beyond_the_maximum_are_counted
    each_organization_is_told_of_its_own
    a_told_delay_is_remembered_and_so_is_its_end
    a_report_about_several_records_has_none_attached
    a_gap_is_noted_once_and_told_at_once
}

async fn sending(world: &World, count: u8) -> Vec<RecordId> {
    for identity in 0..count {
        world.relay(&Message::new(identity, &["a@x.example"]), Verdict::Accepted).await;
    }
    world.claim_all().await.iter().map(|claim| claim.fields.id).collect()
}

fn named(claim: &ReportClaim) -> &Named {
    claim.fields.news.named().unwrap()
}

async fn a_failure_leaves_a_notice_that_is_told_when_it_has_settled(world: World) {
    let ids = sending(&world, 1).await;
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    world.refuse(ids[0]).await;
    changes.changed().await.unwrap();
    let agenda = world.spool.agenda(&ORGANIZATION.into()).await.unwrap();
    assert_eq!(agenda, Agenda { notices: Some(world.now().plus(SETTLE)), ..Agenda::default() });
    assert!(!world.spool.gather(ORGANIZATION, world.seed()).await.unwrap(), "not yet");
    world.clock.advance(SETTLE);
    let seed = world.seed();
    assert!(world.spool.gather(ORGANIZATION, seed).await.unwrap());
    assert!(!world.spool.gather(ORGANIZATION, world.seed()).await.unwrap(), "all is told");
    let agenda = world.spool.agenda(&ORGANIZATION.into()).await.unwrap();
    assert_eq!(agenda, Agenda { reports: Some(world.now()), ..Agenda::default() });
    let claims = world.claim_reports().await;
    let fields = &claims[0].fields;
    assert_eq!((fields.id, fields.date, fields.organization.as_str()), (seed.id, seed.date, ORGANIZATION));
    assert_eq!((fields.message_uuid, fields.boundary), (seed.message_uuid, seed.boundary));
}

async fn what_fails_together_becomes_one_report_with_each_record_by_name(world: World) {
    let ids = sending(&world, 40).await;
    let mut notices = Vec::new();
    for id in ids {
        notices.push(world.refuse(id).await);
        world.clock.advance(Duration::from_millis(500));
    }
    world.gather().await;
    let claims = world.claim_reports().await;
    assert_eq!(claims.len(), 1);
    assert_eq!(named(&claims[0]), &Named { records: notices, more: 0 });
}

async fn the_next_report_keeps_its_distance(world: World) {
    let ids = sending(&world, 2).await;
    world.refuse(ids[0]).await;
    world.gather().await;
    let told = world.now();
    world.clock.advance(Duration::from_secs(1));
    world.refuse(ids[1]).await;
    world.clock.advance(GATHER);
    assert!(!world.spool.gather(ORGANIZATION, world.seed()).await.unwrap());
    assert_eq!(world.spool.agenda(&ORGANIZATION.into()).await.unwrap().notices, Some(told.plus(DISTANCES[0])));
    world.gather().await;
    assert_eq!(world.claim_reports().await.len(), 2);
}

async fn failures_beyond_the_maximum_are_counted(world: World) {
    let id = sending(&world, 1).await[0];
    for _ in 0..MAX_NAMED + 7 {
        world.refuse(id).await;
        // Back to where it can fail again.
        world.operate(id, Operation::Retry).await.unwrap();
        world.spool.claim(&ORGANIZATION.into(), world.now(), 1).await.unwrap();
    }
    world.gather().await;
    let claims = world.claim_reports().await;
    assert_eq!((named(&claims[0]).records.len(), named(&claims[0]).more), (MAX_NAMED, 7));
}

async fn each_organization_is_told_of_its_own(world: World) {
    let other = Message { organizations: vec!["another"], ..Message::new(9, &["a@x.example"]) };
    let other = world.relay(&other, Verdict::Accepted).await.record();
    let ids = sending(&world, 1).await;
    world.spool.claim(&"another".into(), world.now(), 9).await.unwrap();
    world.refuse(ids[0]).await;
    world.refuse(other).await;
    world.gather().await;
    assert!(world.spool.gather("another", world.seed()).await.unwrap());
    assert_eq!(named(&world.claim_reports().await[0]).single().unwrap().record, ids[0]);
    let claims = world.spool.claim_reports("another", world.now(), 9).await.unwrap();
    assert_eq!(named(&claims[0]).single().unwrap().record, other);
}

async fn a_told_delay_is_remembered_and_so_is_its_end(world: World) {
    let warned = || async { world.spool.backlog(&ORGANIZATION.into()).await.unwrap().warned };
    assert_eq!(warned().await, None);
    let mut outage = Outage {
        archive: String::new(),
        route: "smtp://archive.example.com:25".into(),
        since: world.now(),
        reply: "451 later".into(),
        reply_is_smtp: true,
        shut: false,
        waiting: 3,
        next_probe: None,
    };
    let tell = |news: News| world.spool.tell(world.seed().tell(ORGANIZATION, news));
    let delayed = |outage: &Outage| News::Delayed { outage: outage.clone(), late: Named::default() };
    let restored = |outage: &Outage| News::Restored { outage: outage.clone(), delivered: 9, until: Some(world.now()) };
    tell(restored(&outage)).await.unwrap();
    assert_eq!(warned().await, None, "what was never told has no end");
    world.clock.advance(Duration::from_secs(1));
    let mut expected = Warned::of(outage.clone(), None, world.now());
    tell(delayed(&outage)).await.unwrap();
    assert_eq!(warned().await, Some(expected.clone()));
    world.clock.advance(Duration::from_secs(86_400));
    outage.waiting = 9;
    expected = Warned::of(outage.clone(), Some(expected), world.now());
    tell(delayed(&outage)).await.unwrap();
    assert_eq!(warned().await, Some(expected.clone()));
    assert_eq!(world.spool.backlog(&"another".into()).await.unwrap().warned, None);
    world.clock.advance(Duration::from_secs(1));
    expected = expected.ended(world.now());
    tell(restored(&outage)).await.unwrap();
    assert_eq!(warned().await, Some(expected.clone()));
    assert!(!expected.lasts());
    world.clock.advance(Duration::from_secs(3_600));
    expected = Warned::of(outage.clone(), Some(expected), world.now());
    tell(delayed(&outage)).await.unwrap();
    assert_eq!(warned().await, Some(expected));
    let claims = world.claim_reports().await;
    let kinds: Vec<_> = claims.iter().map(|claim| (claim.fields.news.as_str(), claim.record.is_some())).collect();
    let kinds_told = ["restored", "delayed", "delayed", "restored", "delayed"];
    assert_eq!(kinds, kinds_told.map(|kind| (kind, false)));
}

async fn a_report_about_several_records_has_none_attached(world: World) {
    for id in sending(&world, 2).await {
        world.refuse(id).await;
    }
    world.gather().await;
    let claims = world.claim_reports().await;
    assert!(claims[0].record.is_none());
    assert_eq!(world.in_state(State::Failed).await.len(), 2);
}

async fn a_gap_is_noted_once_and_told_at_once(world: World) {
    let gap = |reason: &str| {
        let mut gap = Gap::open(QueueId::new(world.now(), &OsEntropy), reason, world.now());
        gap.add(QueueId::new(world.now(), &OsEntropy), world.now().plus(Duration::from_secs(9)));
        gap
    };
    let noted = |organization: &str, gap: &Gap| NotedGap { organization: organization.to_owned(), gap: gap.clone() };
    assert_eq!(world.spool.gaps(9).await.unwrap(), []);
    let mut changes = world.spool.changes();
    changes.borrow_and_update();
    let (first, seed) = (gap("the spool is full"), world.seed());
    world.spool.note_gap(ORGANIZATION, first.clone(), seed).await.unwrap();
    changes.changed().await.unwrap();
    // Who did not hear the answer asks again.
    world.spool.note_gap(ORGANIZATION, first.clone(), seed).await.unwrap();
    let second = gap("again");
    world.spool.note_gap("another", second.clone(), world.seed()).await.unwrap();
    let both = [noted(ORGANIZATION, &first), noted("another", &second)];
    assert_eq!(world.spool.gaps(9).await.unwrap(), both);
    assert_eq!(world.spool.gaps(1).await.unwrap(), both[1..]);
    let claims = world.claim_reports().await;
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].fields.id, &claims[0].fields.news), (seed.id, &News::Bypassed(first)));
    assert!(claims[0].record.is_none());
    // The report goes, and the gap stays known.
    world
        .spool
        .settle_report(seed.id, Outcome::Acked { reply: "250 ok".into(), retain: false }, world.now())
        .await
        .unwrap();
    world.spool.note_gap(ORGANIZATION, gap("late"), seed).await.unwrap();
    assert_eq!(world.claim_reports().await.len(), 0);
    assert_eq!(world.spool.gaps(9).await.unwrap(), both);
}
