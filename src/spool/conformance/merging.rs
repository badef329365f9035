//! One record for each message and organization, however many transactions.

use super::both;
use crate::mail::RecordId;
use crate::queue::State;
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    recipients_of_another_transaction_join_the_waiting_record
    another_message_or_organization_gets_its_own_record
    without_a_window_nothing_is_joined
    known_recipients_after_the_window_need_no_record
    known_recipients_after_the_ack_need_no_record
    new_recipients_after_the_window_get_a_supplement
    a_supplement_of_a_supplement_names_the_first_record
    a_held_record_is_not_joined_and_its_message_id_is_fixed
    a_known_verdict_clears_the_unknown_one_until_it_is_sealed
    an_unknown_verdict_does_not_mark_a_known_one
    without_a_message_id_nothing_is_left_out_after_the_window
    octets_of_a_merged_message_go
    one_retry_is_owed_for_each_lost_verdict_also_without_a_message_id
    a_retry_is_known_by_sender_and_recipients
    a_retry_before_the_record_is_sealed_makes_the_outcome_known
    a_retry_that_is_refused_or_lost_again_leaves_the_debt
    a_debt_ends_when_clients_have_given_up
    a_lost_transaction_is_owed_its_retry_whatever_record_names_its_recipients
}

fn names(claim: &Claim) -> Vec<&str> {
    claim.fields.recipients.iter().map(|recipient| recipient.address.as_str()).collect()
}

async fn recipients_of_another_transaction_join_the_waiting_record(world: World) {
    let first = world.relay(&Message::new(1, &["a@x.example", "b@x.example"]), Verdict::Accepted).await;
    world.clock.advance(Duration::from_secs(4));
    world.relay(&Message::new(1, &["c@x.example", "\"b\"@X.example", "a@x.example"]), Verdict::Accepted).await;
    // The window is the first transaction's; the second does not make it longer.
    world.clock.advance(Duration::from_secs(1));
    let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].fields.id, first.record());
    assert_eq!(names(&claims[0]), ["a@x.example", "b@x.example", "c@x.example"]);
    assert_eq!(claims[0].fields.message_uuid, uuid_of(&claims[0].fields));
}

async fn another_message_or_organization_gets_its_own_record(world: World) {
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    world.relay(&Message::new(2, &["a@x.example"]), Verdict::Accepted).await;
    let other = Message { organizations: vec!["another"], ..Message::new(1, &["a@x.example"]) };
    world.relay(&other, Verdict::Accepted).await;
    assert_eq!(world.live().await.len(), 3);
}

async fn without_a_window_nothing_is_joined(world: World) {
    let message = Message { coalesce: Duration::ZERO, ..Message::new(1, &["a@x.example"]) };
    world.relay(&message, Verdict::Accepted).await;
    assert_eq!(world.spool.next_due(&ORGANIZATION.into()).await.unwrap(), Some(world.now()));
    world.clock.advance(Duration::from_millis(1));
    world.relay(&Message { recipients: vec!["b@x.example"], ..message }, Verdict::Accepted).await;
    let claims = world.spool.claim(&ORGANIZATION.into(), world.now(), 9).await.unwrap();
    // Both are due at the same moment, so their order is that of their ids, which chance decides.
    let mut recipients: Vec<_> = claims.iter().map(names).collect();
    recipients.sort();
    assert_eq!(recipients, [["a@x.example"], ["b@x.example"]]);
}

async fn known_recipients_after_the_window_need_no_record(world: World) {
    let message = Message::new(1, &["a@x.example", "b@x.example"]);
    let first = world.relay(&message, Verdict::Accepted).await;
    // Nobody has claimed it, but its window is over.
    world.clock.advance(WINDOW);
    world.relay(&Message { recipients: vec!["b@x.example"], ..message.clone() }, Verdict::Accepted).await;
    assert_eq!(world.claim_all().await.len(), 1);
    for state in [State::Deferred, State::Failed] {
        match state {
            State::Deferred => world.defer(first.record(), Duration::ZERO).await,
            _ => world.fail(first.record(), None).await,
        }
        world.relay(&message, Verdict::Unknown).await;
        assert_eq!(world.in_state(state).await, [first.record()]);
        assert_eq!(world.live().await.len(), 1);
        world.claim_all().await;
    }
}

async fn known_recipients_after_the_ack_need_no_record(world: World) {
    let message = Message::new(1, &["a@x.example"]);
    let first = world.relay(&message, Verdict::Accepted).await;
    world.claim_all().await;
    world.ack(first.record()).await;
    world.relay(&message, Verdict::Accepted).await;
    assert!(world.live().await.is_empty());
    assert_eq!(world.in_state(State::Acked).await, [first.record()]);
}

async fn new_recipients_after_the_window_get_a_supplement(world: World) {
    let first = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let claims = world.claim_all().await;
    world.ack(first.record()).await;
    let second = world.relay(&Message::new(1, &["b@x.example", "a@x.example"]), Verdict::Accepted).await;
    let supplements = world.claim_all().await;
    assert_eq!(supplements.len(), 1);
    let (first, supplement) = (&claims[0], &supplements[0]);
    assert_eq!(supplement.fields.id, second.record());
    assert_eq!(names(supplement), ["b@x.example"]);
    let message_id = format!("<{}@journal.report.generator>", first.fields.message_uuid);
    assert_eq!(supplement.fields.supplements, Some(message_id));
    assert_ne!(supplement.fields.message_uuid, first.fields.message_uuid);
}

async fn a_supplement_of_a_supplement_names_the_first_record(world: World) {
    let mut supplements = Vec::new();
    for recipients in [["a@x.example"], ["b@x.example"], ["c@x.example"]] {
        world.relay(&Message::new(1, &recipients), Verdict::Accepted).await;
        supplements.extend(world.claim_all().await.into_iter().map(|claim| claim.fields.supplements.clone()));
    }
    assert_eq!(supplements.len(), 3);
    assert_eq!(supplements[0], None);
    assert!(supplements[1].is_some());
    assert_eq!(supplements[1], supplements[2]);
    // All three together know everybody.
    world.relay(&Message::new(1, &["c@x.example", "a@x.example", "b@x.example"]), Verdict::Accepted).await;
    assert!(world.claim_all().await.is_empty());
}

async fn a_held_record_is_not_joined_and_its_message_id_is_fixed(world: World) {
    let first = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    world.operate(first.record(), Operation::Hold).await.unwrap();
    let second = world.relay(&Message::new(1, &["b@x.example"]), Verdict::Accepted).await;
    world.operate(first.record(), Operation::Release).await.unwrap();
    let third = world.relay(&Message::new(1, &["c@x.example"]), Verdict::Accepted).await;
    let claims = world.claim_all().await;
    assert_eq!(claims.len(), 2, "{third:?}");
    let of = |id| claims.iter().find(|claim| claim.fields.id == id).unwrap();
    let (first, second) = (of(first.record()), of(second.record()));
    assert_eq!((names(first), names(second)), (vec!["a@x.example"], vec!["b@x.example", "c@x.example"]));
    let message_id = format!("<{}@journal.report.generator>", first.fields.message_uuid);
    assert_eq!(second.fields.supplements, Some(message_id));
}

async fn a_known_verdict_clears_the_unknown_one_until_it_is_sealed(world: World) {
    let message = Message::new(1, &["a@x.example"]);
    world.relay(&message, Verdict::Unknown).await;
    world.relay(&message, Verdict::Accepted).await;
    let claims = world.claim_all().await;
    assert!(!claims[0].fields.outcome_unknown);

    let message = Message::new(2, &["a@x.example"]);
    let late = world.relay(&message, Verdict::Unknown).await;
    let sealed = world.claim_all().await;
    world.defer(late.record(), Duration::ZERO).await;
    world.relay(&message, Verdict::Accepted).await;
    let again = world.claim_all().await;
    assert_eq!(again[0].fields, sealed[0].fields);
    assert!(again[0].fields.outcome_unknown);
}

async fn an_unknown_verdict_does_not_mark_a_known_one(world: World) {
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    world.relay(&Message::new(1, &["b@x.example"]), Verdict::Unknown).await;
    let claims = world.claim_all().await;
    assert_eq!(claims.len(), 1);
    assert_eq!(names(&claims[0]), ["a@x.example", "b@x.example"]);
    assert!(!claims[0].fields.outcome_unknown);
}

async fn without_a_message_id_nothing_is_left_out_after_the_window(world: World) {
    let message = Message { message_id: false, ..Message::new(1, &["a@x.example"]) };
    world.relay(&message, Verdict::Accepted).await;
    world.relay(&message, Verdict::Accepted).await;
    let first = world.claim_all().await;
    assert_eq!(first.len(), 1, "joined within the window");
    world.relay(&message, Verdict::Accepted).await;
    let second = world.claim_all().await;
    assert_eq!(second.len(), 1, "its own record afterwards");
    assert_eq!(names(&second[0]), ["a@x.example"]);
    assert_eq!(second[0].fields.supplements, None);
}

async fn octets_of_a_merged_message_go(world: World) {
    let message = Message { organizations: vec![ORGANIZATION, "another"], ..Message::new(1, &["a@x.example"]) };
    let first = world.prepare(&message, &[b'1'; LARGE]).await.unwrap();
    world.spool.decide(first.queue_id, Verdict::Accepted).await.unwrap();
    // One of its two records is merged, the other needs the octets.
    let message = Message { organizations: vec![ORGANIZATION, "third"], ..message };
    let second = world.prepare(&message, &[b'2'; LARGE]).await.unwrap();
    world.spool.decide(second.queue_id, Verdict::Accepted).await.unwrap();
    assert!(matches!(world.spool.show(second.record()).await, Err(SpoolError::NotFound(_))));
    assert_eq!(world.octets(second.records[1]).await.unwrap().read_all().unwrap(), vec![b'2'; LARGE]);
    assert_eq!(world.octets(first.record()).await.unwrap().read_all().unwrap(), vec![b'1'; LARGE]);
}

fn nameless() -> Message {
    Message { message_id: false, coalesce: Duration::ZERO, ..Message::new(1, &["a@x.example", "b@x.example"]) }
}

/// A record without Message-ID whose verdict was lost, and that the archive has.
async fn lost(world: &World) -> RecordId {
    world.relay(&nameless(), Verdict::Unknown).await;
    let claims = world.claim_all().await;
    assert!(claims[0].fields.outcome_unknown);
    world.ack(claims[0].fields.id).await;
    claims[0].fields.id
}

async fn one_retry_is_owed_for_each_lost_verdict_also_without_a_message_id(world: World) {
    for _ in 0..2 {
        lost(&world).await;
        world.clock.advance(Duration::from_secs(86_400));
        world.relay(&nameless(), Verdict::Accepted).await;
        assert!(world.claim_all().await.is_empty(), "the retry");
        // The next equal message is another one, and so is the one behind it.
        for _ in 0..2 {
            world.relay(&nameless(), Verdict::Accepted).await;
            let claims = world.claim_all().await;
            assert_eq!(claims.len(), 1);
            world.ack(claims[0].fields.id).await;
        }
    }
}

async fn a_retry_is_known_by_sender_and_recipients(world: World) {
    lost(&world).await;
    let fewer = Message { recipients: vec!["a@x.example"], ..nameless() };
    let more = Message { recipients: vec!["a@x.example", "b@x.example", "c@x.example"], ..nameless() };
    for other in [fewer, more] {
        world.relay(&other, Verdict::Accepted).await;
        assert_eq!(world.claim_all().await.len(), 1);
    }
    world.relay(&Message { recipients: vec!["b@X.example", "\"a\"@x.example"], ..nameless() }, Verdict::Accepted).await;
    assert!(world.claim_all().await.is_empty(), "the same mailboxes, written otherwise");
}

async fn a_retry_before_the_record_is_sealed_makes_the_outcome_known(world: World) {
    for message in [nameless(), Message { message_id: true, identity: 2, ..nameless() }] {
        world.relay(&message, Verdict::Unknown).await;
        world.clock.advance(Duration::from_secs(60));
        world.relay(&message, Verdict::Accepted).await;
        let claims = world.claim_all().await;
        assert_eq!(claims.len(), 1);
        assert!(!claims[0].fields.outcome_unknown);
        world.ack(claims[0].fields.id).await;
    }
}

async fn a_retry_that_is_refused_or_lost_again_leaves_the_debt(world: World) {
    let record = lost(&world).await;
    world.relay(&nameless(), Verdict::Refused).await;
    world.relay(&nameless(), Verdict::Unknown).await;
    assert!(world.claim_all().await.is_empty());
    world.relay(&nameless(), Verdict::Accepted).await;
    assert!(world.claim_all().await.is_empty());
    assert_eq!(world.in_state(State::Acked).await, [record]);
}

async fn a_debt_ends_when_clients_have_given_up(world: World) {
    let lifetime = Duration::from_secs(5 * 86_400);
    for (wait, records) in [(lifetime - WINDOW * 2, 0), (lifetime, 1)] {
        lost(&world).await;
        world.clock.advance(wait);
        world.relay(&nameless(), Verdict::Accepted).await;
        let claims = world.claim_all().await;
        assert_eq!(claims.len(), records, "after {wait:?}");
        for claim in claims {
            world.ack(claim.fields.id).await;
        }
    }
}

/// One message in two transactions within the window, one of them lost.
async fn a_lost_transaction_is_owed_its_retry_whatever_record_names_its_recipients(world: World) {
    let one = Message { recipients: vec!["a@x.example"], coalesce: WINDOW, ..nameless() };
    let two = Message { recipients: vec!["b@x.example"], ..one.clone() };
    for (identity, verdicts) in [(1, [Verdict::Unknown, Verdict::Accepted]), (2, [Verdict::Accepted, Verdict::Unknown])]
    {
        let parts = [&one, &two].map(|part| Message { identity, ..part.clone() });
        for (part, verdict) in parts.iter().zip(verdicts) {
            world.relay(part, verdict).await;
        }
        let claims = world.claim_all().await;
        assert_eq!((claims.len(), claims[0].fields.recipients.len()), (1, 2));
        world.ack(claims[0].fields.id).await;
        for (part, verdict) in parts.iter().zip(verdicts).rev() {
            world.relay(part, Verdict::Accepted).await;
            // The retry adds nothing; an equal message that is none has its record.
            let claims = world.claim_all().await;
            assert_eq!(claims.len(), usize::from(verdict == Verdict::Accepted), "{identity}");
            for claim in claims {
                world.ack(claim.fields.id).await;
            }
        }
    }
}
