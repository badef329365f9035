//! Records that a server took and gave back.

use super::both;
use crate::journal::Cause;
use crate::queue::{OCTETS_LOST, State};
use crate::spool::fixtures::*;
use crate::spool::*;
use bytes::Bytes;
use std::time::Duration;

both! {
    an_acked_record_that_comes_back_whole_can_be_sent_again
    an_acked_record_that_comes_back_without_its_octets_is_failed_and_stands_for_no_later_copy
    a_record_that_still_waits_is_failed_with_its_octets
    a_repeat_changes_nothing_and_makes_no_second_report
    what_was_lost_comes_back_with_a_repeat
    a_message_id_counts_with_the_boundary_alone
    what_was_never_sent_or_is_another_s_is_unknown
    what_is_being_sent_has_to_wait
    discarded_stays_discarded_and_held_stays_held
    a_notice_that_is_no_failure_changes_nothing
}

const OCTETS: &[u8] = b"Subject: hello\r\n\r\nhello\r\n";

fn returned(world: &World, record: RecordId) -> Returned {
    Returned {
        record: Some(record),
        message_uuid: None,
        boundary: None,
        organizations: vec![ORGANIZATION.into()],
        reply: Some("bounced: 550 5.1.1 no".into()),
        original: Some(Bytes::from_static(OCTETS)),
        routes: [(ORGANIZATION.into(), "smtp://archive.example.com:25".to_owned())].into(),
        at: world.now(),
    }
}

async fn acked(world: &World) -> RecordId {
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let record = world.claim_all().await[0].fields.id;
    world.ack(record).await;
    record
}

/// How many records the next report names.
async fn reports(world: &World) -> usize {
    if world.spool.agenda(&ORGANIZATION.into()).await.unwrap().notices.is_none() {
        return 0;
    }
    world.gather().await;
    let claims = world.claim_reports().await;
    claims.iter().map(|claim| claim.fields.news.named().unwrap().records.len()).sum()
}

fn failed(record: RecordId, whole: bool) -> Receipt {
    Receipt::Failed { record, organization: ORGANIZATION.into(), attempts: 1, whole }
}

async fn an_acked_record_that_comes_back_whole_can_be_sent_again(world: World) {
    let record = acked(&world).await;
    let receipt = world.spool.returned(returned(&world, record)).await.unwrap();
    assert_eq!(receipt, failed(record, true));
    let (_, listing, octets) = world.spool.show(record).await.unwrap();
    assert_eq!((listing.state, listing.last_reply.as_deref()), (State::Failed, Some("bounced: 550 5.1.1 no")));
    assert_eq!(octets.unwrap().read_all().unwrap(), OCTETS);
    world.gather().await;
    let claims = world.claim_reports().await;
    assert_eq!(claims.len(), 1);
    let notice = claims[0].fields.news.named().unwrap().single().unwrap();
    assert_eq!((notice.record, notice.cause, notice.attempts), (record, Cause::Bounced, 1));
    assert_eq!(notice.reply, "bounced: 550 5.1.1 no");
    assert!(claims[0].record.is_some(), "the record is attached");
    world.operate(record, Operation::Retry).await.unwrap();
    assert_eq!(world.claim_all().await[0].octets.read_all().unwrap(), OCTETS);
}

async fn an_acked_record_that_comes_back_without_its_octets_is_failed_and_stands_for_no_later_copy(world: World) {
    for original in [None, Some(Bytes::from_static(b"other octets"))] {
        let record = acked(&world).await;
        let returned = Returned { original, ..returned(&world, record) };
        assert_eq!(world.spool.returned(returned).await.unwrap(), failed(record, false));
        let (_, listing, octets) = world.spool.show(record).await.unwrap();
        assert!(listing.last_reply.unwrap().starts_with(OCTETS_LOST));
        assert!(octets.is_none());
        assert_eq!(listing.state, State::Failed);
        // The next round's copy of the same message gets its own record: `acked` finds one to claim.
    }
}

async fn a_record_that_still_waits_is_failed_with_its_octets(world: World) {
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let record = world.claim_all().await[0].fields.id;
    world.defer(record, Duration::from_secs(60)).await;
    let returned = Returned { original: None, ..returned(&world, record) };
    assert_eq!(world.spool.returned(returned).await.unwrap(), failed(record, true));
    assert_eq!(world.octets(record).await.unwrap().read_all().unwrap(), OCTETS);
    assert_eq!(world.in_state(State::Failed).await, [record]);
}

async fn a_repeat_changes_nothing_and_makes_no_second_report(world: World) {
    let record = acked(&world).await;
    for number in 0..3 {
        let receipt = world.spool.returned(returned(&world, record)).await.unwrap();
        assert_eq!(receipt == Receipt::Unchanged(record), number > 0, "{receipt:?}");
    }
    assert_eq!(reports(&world).await, 1);
}

async fn what_was_lost_comes_back_with_a_repeat(world: World) {
    let record = acked(&world).await;
    world.spool.returned(Returned { original: None, ..returned(&world, record) }).await.unwrap();
    world.spool.returned(returned(&world, record)).await.unwrap();
    assert_eq!(world.octets(record).await.unwrap().read_all().unwrap(), OCTETS);
    assert_eq!(reports(&world).await, 1);
}

async fn a_message_id_counts_with_the_boundary_alone(world: World) {
    let record = acked(&world).await;
    let fields = world.spool.show(record).await.unwrap().0;
    let by = |uuid, boundary| Returned { record: None, message_uuid: Some(uuid), boundary, ..returned(&world, record) };
    let (uuid, boundary) = (fields.message_uuid, Some(fields.boundary));
    for other in [by(uuid, None), by(uuid, Some(uuid)), by(fields.boundary, boundary)] {
        assert_eq!(world.spool.returned(other).await.unwrap(), Receipt::Unknown);
    }
    assert_eq!(world.spool.returned(by(uuid, boundary)).await.unwrap(), failed(record, true));
}

async fn what_was_never_sent_or_is_another_s_is_unknown(world: World) {
    let waiting = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await.record();
    let prepared = world.prepare(&Message::new(2, &["a@x.example"]), OCTETS).await.unwrap().record();
    let nobody = RecordId::new(world.now(), &crate::mail::OsEntropy);
    for record in [waiting, prepared, nobody] {
        assert_eq!(world.spool.returned(returned(&world, record)).await.unwrap(), Receipt::Unknown);
    }
    assert_eq!(world.in_state(State::Waiting).await, [waiting]);
    world.claim_all().await;
    world.ack(waiting).await;
    let other = Returned { organizations: vec!["another".into()], ..returned(&world, waiting) };
    assert_eq!(world.spool.returned(other).await.unwrap(), Receipt::Unknown);
    assert_eq!(reports(&world).await, 0);
}

async fn what_is_being_sent_has_to_wait(world: World) {
    let record = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await.record();
    world.claim_all().await;
    let refused = world.spool.returned(returned(&world, record)).await;
    assert!(matches!(refused, Err(SpoolError::NotNow(_))), "{refused:?}");
    world.ack(record).await;
    assert_eq!(world.spool.returned(returned(&world, record)).await.unwrap(), failed(record, true));
}

async fn discarded_stays_discarded_and_held_stays_held(world: World) {
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let record = world.claim_all().await[0].fields.id;
    world.defer(record, Duration::from_secs(60)).await;
    world.operate(record, Operation::Hold).await.unwrap();
    assert_eq!(world.spool.returned(returned(&world, record)).await.unwrap(), failed(record, true));
    assert_eq!(world.in_state(State::Held).await, [record]);
    world.discard(record).await.unwrap();
    assert_eq!(world.spool.returned(returned(&world, record)).await.unwrap(), Receipt::Unchanged(record));
    assert_eq!(world.in_state(State::Discarded).await, [record]);
}

async fn a_notice_that_is_no_failure_changes_nothing(world: World) {
    let record = acked(&world).await;
    let notice = Returned { reply: None, ..returned(&world, record) };
    assert_eq!(world.spool.returned(notice).await.unwrap(), Receipt::Unchanged(record));
    assert_eq!(world.in_state(State::Acked).await, [record]);
    assert_eq!(reports(&world).await, 0);
}
