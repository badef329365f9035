//! Several archives: copies of a record, what becomes of them with their archive, and records that are sent again.

use super::both;
use crate::mail::{OsEntropy, RecordId};
use crate::queue::State;
use crate::spool::fixtures::*;
use crate::spool::*;
use std::time::Duration;

both! {
    each_archive_gets_its_own_copy_under_the_same_message_id_date_and_boundary
    a_copy_is_sealed_with_the_first_one_that_is_sent
    transactions_of_one_message_are_merged_at_each_archive
    a_record_of_which_each_copy_is_needed_stays_until_each_is_taken
    a_copy_counts_as_delivered_once_another_is_taken_and_one_is_enough
    a_copy_that_is_being_sent_is_decided_by_its_own_end
    a_failed_copy_is_told_only_when_no_other_can_be_taken
    records_follow_their_archive_s_new_address
    records_of_an_archive_that_is_gone_are_never_doubled_at_another
    a_record_that_no_archive_took_is_never_let_go_whichever_archives_come_and_go
    a_held_record_stays_when_its_archive_leaves
    a_failure_is_told_once_the_last_hope_is_given_up_or_leaves
    what_goes_to_another_archive_does_not_wait_for_the_one_that_is_gone
    a_message_is_known_by_what_an_earlier_version_remembers_of_it
    an_archive_that_comes_back_gets_what_it_never_had
    a_held_failure_is_over_when_it_is_released_behind_another_s_acknowledgement
    two_archives_that_change_places_change_nothing
    octets_of_a_delivered_record_stay_for_as_long_as_they_are_to_be_kept
    a_delivered_record_is_sent_again_as_it_was_and_says_so
    a_replay_is_not_let_go_for_an_earlier_one
    whatever_is_not_sent_again_is_counted
    a_new_archive_gets_every_delivered_record_once
}

const TWO: [&str; 2] = ["a@one.example", "b@two.example"];

fn message(copies: Copies) -> Message {
    Message::new(1, &["a@x.example"]).to(&TWO, copies)
}

async fn both_claimed(world: &World) -> [Claim; 2] {
    world.clock.advance(WINDOW);
    let mut claims = world.claim_at(TWO[0]).await;
    claims.extend(world.claim_at(TWO[1]).await);
    claims.try_into().unwrap()
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

async fn follow(world: &World, archives: &[&str]) -> Followers {
    world.spool.follow(ORGANIZATION, keys(archives), world.now()).await.unwrap()
}

/// What waits or has failed, by archive.
async fn left(world: &World) -> Vec<(String, State)> {
    let mut left: Vec<_> = world.live().await.into_iter().map(|entry| (entry.archive, entry.state)).collect();
    left.sort_by(|one, two| one.0.cmp(&two.0));
    left
}

async fn each_archive_gets_its_own_copy_under_the_same_message_id_date_and_boundary(world: World) {
    for message_id in [true, false] {
        let message = Message { message_id, ..message(Copies::EachIsNeeded) };
        let prepared = world.relay(&message, Verdict::Accepted).await;
        let [one, two] = both_claimed(&world).await;
        assert_eq!([one.fields.id, two.fields.id], prepared.records[..]);
        assert_eq!(two.fields.copy_of, Some(one.fields.id));
        assert_eq!((one.archive.as_str(), two.archive.as_str()), (TWO[0], TWO[1]));
        let like_the_first = RecordFields { id: one.fields.id, copy_of: None, ..(*two.fields).clone() };
        let uuids = [one.fields.message_uuid, two.fields.message_uuid];
        if message_id {
            assert_eq!(uuids[0], uuids[1]);
        }
        assert_eq!(like_the_first, RecordFields { message_uuid: uuids[1], ..(*one.fields).clone() });
        world.ack(prepared.records[0]).await;
        world.ack(prepared.records[1]).await;
    }
}

async fn a_copy_is_sealed_with_the_first_one_that_is_sent(world: World) {
    let first = world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    world.clock.advance(WINDOW);
    let one = world.claim_at(TWO[0]).await.remove(0);
    // Without the seal the second archive's copy would name more recipients under the same Message-ID.
    world.clock.advance(Duration::from_secs(1));
    let more = Message { recipients: vec!["b@x.example"], ..message(Copies::EachIsNeeded) };
    world.relay(&more, Verdict::Accepted).await;
    let two = world.claim_at(TWO[1]).await.remove(0);
    assert_eq!((two.fields.id, two.fields.date), (first.records[1], one.fields.date));
    assert_eq!(two.fields.recipients, one.fields.recipients);
    for id in first.records {
        world.ack(id).await;
    }
    let [one, two] = both_claimed(&world).await;
    assert!(one.fields.supplements.is_some());
    assert_eq!(one.fields.supplements, two.fields.supplements);
}

async fn transactions_of_one_message_are_merged_at_each_archive(world: World) {
    let first = world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    let more = Message { recipients: vec!["b@x.example"], ..message(Copies::EachIsNeeded) };
    world.relay(&more, Verdict::Accepted).await;
    let [one, two] = both_claimed(&world).await;
    assert_eq!([one.fields.id, two.fields.id], first.records[..]);
    assert_eq!(one.fields.recipients.len(), 2);
    assert_eq!(one.fields.recipients, two.fields.recipients);
}

async fn a_record_of_which_each_copy_is_needed_stays_until_each_is_taken(world: World) {
    world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    let [one, two] = both_claimed(&world).await;
    world.ack(one.fields.id).await;
    assert!(world.octets(two.fields.id).await.is_some());
    world.defer(two.fields.id, Duration::from_secs(9)).await;
    assert_eq!(left(&world).await, [(TWO[1].to_owned(), State::Deferred)]);
    world.clock.advance(Duration::from_secs(9));
    world.ack(world.claim_at(TWO[1]).await[0].fields.id).await;
    assert_eq!(left(&world).await, []);
    assert!(world.octets(one.fields.id).await.is_none(), "nobody needs them any more");
}

async fn a_copy_counts_as_delivered_once_another_is_taken_and_one_is_enough(world: World) {
    let prepared = world.relay(&message(Copies::OneIsEnough), Verdict::Accepted).await;
    world.clock.advance(WINDOW);
    let one = world.claim_at(TWO[0]).await.remove(0);
    world.ack(one.fields.id).await;
    assert_eq!(left(&world).await, []);
    assert_eq!(world.claim_at(TWO[1]).await.len(), 0);
    let (_, two, octets) = world.spool.show(prepared.records[1]).await.unwrap();
    assert_eq!((two.state, octets.is_none()), (State::Acked, true));
    assert!(two.reason.unwrap().contains("another archive"));
    let since = Timestamp::from_millis(START);
    assert_eq!(world.spool.acked_since(&archive(TWO[1]), since).await.unwrap(), 0, "that archive has taken nothing");
    // A later transaction is known at both.
    world.relay(&message(Copies::OneIsEnough), Verdict::Accepted).await;
    assert_eq!(left(&world).await, []);
}

async fn a_copy_that_is_being_sent_is_decided_by_its_own_end(world: World) {
    world.relay(&message(Copies::OneIsEnough), Verdict::Accepted).await;
    let [one, two] = both_claimed(&world).await;
    world.ack(one.fields.id).await;
    assert_eq!(left(&world).await, [(TWO[1].to_owned(), State::Sending)]);
    world.defer(two.fields.id, Duration::from_secs(9)).await;
    assert_eq!(left(&world).await, []);
    assert!(world.octets(two.fields.id).await.is_none());
}

async fn a_failed_copy_is_told_only_when_no_other_can_be_taken(world: World) {
    world.relay(&message(Copies::OneIsEnough), Verdict::Accepted).await;
    let [one, two] = both_claimed(&world).await;
    world.refuse(one.fields.id).await;
    assert_eq!(world.spool.agenda(&archive(TWO[0])).await.unwrap().notices, None, "the other may be taken");
    world.refuse(two.fields.id).await;
    let report = world.gather().await;
    let claims = world.claim_reports().await;
    assert_eq!((claims[0].fields.id, claims[0].fields.news.named().unwrap().total()), (report, 1));
    assert_eq!(left(&world).await, [(TWO[0].to_owned(), State::Failed), (TWO[1].to_owned(), State::Failed)]);
    // Once one is taken after all, nothing of the other is left.
    world.operate(one.fields.id, Operation::Retry).await.unwrap();
    let again = world.claim_at(TWO[0]).await.remove(0);
    world.ack(again.fields.id).await;
    assert_eq!(left(&world).await, []);
}

async fn records_follow_their_archive_s_new_address(world: World) {
    // As an earlier version kept them, too: without a key.
    for (identity, key) in [(1, ""), (2, "old@one.example")] {
        world.relay(&Message::new(identity, &["a@x.example"]).to(&[key], Copies::Alone), Verdict::Accepted).await;
    }
    assert_eq!(follow(&world, &["new@one.example"]).await, Followers { redirected: 2, superseded: 0 });
    assert_eq!(follow(&world, &["new@one.example"]).await, Followers::default());
    world.clock.advance(WINDOW);
    assert_eq!(world.claim_at("new@one.example").await.len(), 2);
}

async fn records_of_an_archive_that_is_gone_are_never_doubled_at_another(world: World) {
    world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    let [one, two] = both_claimed(&world).await;
    world.ack(two.fields.id).await;
    assert_eq!(follow(&world, &[TWO[1]]).await, Followers::default(), "what is being sent is looked at when it waits");
    world.defer(one.fields.id, Duration::from_secs(9)).await;
    assert_eq!(follow(&world, &[TWO[1]]).await, Followers { redirected: 0, superseded: 1 });
    assert_eq!(left(&world).await, []);
    assert!(world.octets(one.fields.id).await.is_none());
    let (_, gone, _) = world.spool.show(one.fields.id).await.unwrap();
    assert!(gone.reason.unwrap().contains("not in the configuration"));
}

async fn a_record_that_no_archive_took_is_never_let_go_whichever_archives_come_and_go(world: World) {
    for (identity, copies) in [(1, Copies::EachIsNeeded), (2, Copies::OneIsEnough)] {
        world.relay(&Message { identity, ..message(copies) }, Verdict::Accepted).await;
        assert_eq!(follow(&world, &[TWO[1]]).await, Followers { redirected: 0, superseded: 1 });
        // The way back, before anything was taken.
        assert_eq!(follow(&world, &[TWO[0]]).await, Followers { redirected: 1, superseded: 0 });
        assert_eq!(left(&world).await, [(TWO[0].to_owned(), State::Waiting)]);
        world.clock.advance(WINDOW);
        let claim = world.claim_at(TWO[0]).await.remove(0);
        world.ack(claim.fields.id).await;
    }
}

async fn a_held_record_stays_when_its_archive_leaves(world: World) {
    let prepared = world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    world.operate(prepared.records[0], Operation::Hold).await.unwrap();
    assert_eq!(follow(&world, &[TWO[1]]).await, Followers::default());
    world.operate(prepared.records[0], Operation::Release).await.unwrap();
    assert_eq!(follow(&world, &[TWO[1]]).await, Followers { redirected: 0, superseded: 1 });
}

async fn a_failure_is_told_once_the_last_hope_is_given_up_or_leaves(world: World) {
    for leaves in [false, true] {
        world.relay(&Message { identity: u8::from(leaves), ..message(Copies::OneIsEnough) }, Verdict::Accepted).await;
        let [one, two] = both_claimed(&world).await;
        world.refuse(one.fields.id).await;
        world.defer(two.fields.id, Duration::from_secs(9)).await;
        assert_eq!(world.spool.agenda(&archive(TWO[0])).await.unwrap().notices, None);
        if leaves {
            assert_eq!(follow(&world, &[TWO[0]]).await, Followers { redirected: 0, superseded: 1 });
        } else {
            world.discard(two.fields.id).await.unwrap();
        }
        world.gather().await;
        let claims = world.claim_reports().await;
        let named = claims[0].fields.news.named().unwrap().single().unwrap();
        assert_eq!(
            (named.record, named.reply.as_str(), named.archive.as_str()),
            (one.fields.id, "550 5.7.1 no", TWO[0])
        );
        let outcome = Outcome::Acked { reply: "250".into(), retain: false };
        world.spool.settle_report(claims[0].fields.id, outcome, world.now()).await.unwrap();
        world.discard(one.fields.id).await.unwrap();
        world.clock.advance(Duration::from_secs(86_400));
    }
}

async fn what_goes_to_another_archive_does_not_wait_for_the_one_that_is_gone(world: World) {
    world.relay(&Message::new(1, &["a@x.example"]).to(&["old@one.example"], Copies::Alone), Verdict::Accepted).await;
    world.clock.advance(WINDOW);
    let claim = world.claim_at("old@one.example").await.remove(0);
    world.defer(claim.fields.id, Duration::from_secs(3_600)).await;
    follow(&world, &["new@one.example"]).await;
    assert_eq!(world.claim_at("new@one.example").await.len(), 1);
}

async fn a_message_is_known_by_what_an_earlier_version_remembers_of_it(world: World) {
    // It knew of no archives.
    let before = Message::new(1, &["a@x.example"]);
    delivered(&world, &before, false).await;
    world.relay(&before.clone().to(&TWO, Copies::EachIsNeeded), Verdict::Accepted).await;
    assert_eq!(left(&world).await, []);
}

async fn an_archive_that_comes_back_gets_what_it_never_had(world: World) {
    let prepared = world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    follow(&world, &[TWO[0]]).await;
    world.clock.advance(WINDOW);
    world.ack(world.claim_at(TWO[0]).await[0].fields.id).await;
    world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    let live = world.live().await;
    assert_eq!((live.len(), live[0].archive.as_str(), live[0].state), (1, TWO[1], State::Waiting));
    assert_ne!(live[0].id, prepared.records[1]);
}

async fn a_held_failure_is_over_when_it_is_released_behind_another_s_acknowledgement(world: World) {
    world.relay(&message(Copies::OneIsEnough), Verdict::Accepted).await;
    let [one, two] = both_claimed(&world).await;
    world.refuse(one.fields.id).await;
    world.operate(one.fields.id, Operation::Hold).await.unwrap();
    world.ack(two.fields.id).await;
    assert_eq!(left(&world).await, [(TWO[0].to_owned(), State::Held)]);
    let released = world.operate(one.fields.id, Operation::Release).await.unwrap();
    assert_eq!((released.state, left(&world).await), (State::Acked, vec![]));
}

async fn two_archives_that_change_places_change_nothing(world: World) {
    world.relay(&message(Copies::EachIsNeeded), Verdict::Accepted).await;
    assert_eq!(follow(&world, &[TWO[1], TWO[0]]).await, Followers::default());
    assert_eq!(left(&world).await, [(TWO[0].to_owned(), State::Waiting), (TWO[1].to_owned(), State::Waiting)]);
}

async fn delivered(world: &World, message: &Message, retain: bool) -> Vec<RecordId> {
    let prepared = world.relay(message, Verdict::Accepted).await;
    world.clock.advance(WINDOW);
    for key in &message.archives {
        for claim in world.claim_at(key).await {
            let outcome = Outcome::Acked { reply: "250 2.0.0 kept".into(), retain };
            world.spool.settle(claim.fields.id, outcome, world.now()).await.unwrap();
        }
    }
    prepared.records
}

async fn let_go(world: &World, older_than: Duration) -> usize {
    let before = [(ORGANIZATION.to_owned(), world.now().minus(older_than))];
    world.spool.let_go(before.into(), Timestamp::from_millis(0)).await.unwrap()
}

async fn octets_of_a_delivered_record_stay_for_as_long_as_they_are_to_be_kept(world: World) {
    let kept = delivered(&world, &Message::new(1, &["a@x.example"]), true).await[0];
    let gone = delivered(&world, &Message::new(2, &["a@x.example"]), false).await[0];
    assert!(world.octets(gone).await.is_none());
    let day = Duration::from_secs(86_400);
    world.clock.advance(day);
    assert_eq!(let_go(&world, day * 2).await, 0);
    assert!(world.octets(kept).await.is_some());
    world.clock.advance(day);
    assert_eq!(let_go(&world, day).await, 1);
    assert!(world.octets(kept).await.is_none());
    // So do those of an organization that nobody knows any more, for a while.
    let kept = delivered(&world, &Message::new(3, &["a@x.example"]), true).await[0];
    assert_eq!(world.spool.let_go([].into(), world.now()).await.unwrap(), 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.spool.let_go([].into(), world.now()).await.unwrap(), 1);
    assert!(world.octets(kept).await.is_none());
}

fn resend(world: &World, to: Option<&str>) -> Resend {
    Resend {
        organization: ORGANIZATION.to_owned(),
        since: Timestamp::from_millis(START),
        until: world.now(),
        to: to.map(str::to_owned),
        archives: keys(&["", TWO[0], TWO[1]]),
        after: None,
        at: world.now(),
        ids: (0..50).map(|_| RecordId::new(world.now(), &OsEntropy)).collect(),
    }
}

async fn a_delivered_record_is_sent_again_as_it_was_and_says_so(world: World) {
    let of = delivered(&world, &Message::new(1, &["a@x.example"]), true).await[0];
    let (before, _, _) = world.spool.show(of).await.unwrap();
    world.clock.advance(Duration::from_secs(9 * 86_400));
    let resent = world.spool.resend(resend(&world, None)).await.unwrap();
    assert_eq!((resent.resent, resent.oldest, resent.last), (1, Some(before.original.received), Some(of)));
    // However old its message, it has all the time that a new record has.
    let backlog = world.spool.backlog(&archive("")).await.unwrap();
    assert_eq!((backlog.waiting, backlog.oldest), (1, Some(world.now())));
    let again = world.claim_at("").await.remove(0);
    let replay = again.fields.replay.clone().unwrap();
    assert_eq!((replay.of, replay.at), (of, world.now()));
    assert_ne!(again.fields.id, of);
    assert_eq!(
        RecordFields { id: of, replay: None, ..(*again.fields).clone() },
        before,
        "to the octet, but for the mark"
    );
    world.ack(again.fields.id).await;
    assert!(world.octets(of).await.is_some(), "it may be sent once more");
    assert_eq!(let_go(&world, Duration::ZERO).await, 1);
    assert!(world.octets(of).await.is_none());
}

async fn a_replay_is_not_let_go_for_an_earlier_one(world: World) {
    delivered(&world, &Message::new(1, &["a@x.example"]), true).await;
    world.clock.advance(Duration::from_secs(1));
    world.spool.resend(resend(&world, Some(TWO[0]))).await.unwrap();
    world.ack(world.claim_at(TWO[0]).await[0].fields.id).await;
    world.spool.resend(resend(&world, Some(TWO[1]))).await.unwrap();
    // The archive that was meant leaves; the other one has had a replay before, and this one was asked for since.
    assert_eq!(follow(&world, &[TWO[0]]).await, Followers { redirected: 1, superseded: 0 });
    assert_eq!(left(&world).await, [(TWO[0].to_owned(), State::Waiting)]);
}

async fn whatever_is_not_sent_again_is_counted(world: World) {
    delivered(&world, &Message::new(1, &["a@x.example"]), false).await;
    let discarded = world.relay(&Message::new(2, &["a@x.example"]), Verdict::Accepted).await.record();
    world.discard(discarded).await.unwrap();
    delivered(&world, &Message { identity: 3, ..message(Copies::OneIsEnough) }, true).await;
    delivered(&world, &Message::new(4, &["a@x.example"]), true).await;
    world.relay(&Message::new(5, &["a@x.example"]), Verdict::Accepted).await;
    world.clock.advance(Duration::from_secs(1));
    let first = world.spool.resend(resend(&world, None)).await.unwrap();
    let counted = Resent { gone: 1, discarded: 1, undelivered: 1, copies: 1, resent: 2, ..first.clone() };
    assert_eq!(first, counted);
    let again = world.spool.resend(resend(&world, None)).await.unwrap();
    assert_eq!((again.resent, again.under_way), (0, 2), "an interrupted command may be given again");
    let failed = world.claim_at("").await.remove(0);
    world.refuse(failed.fields.id).await;
    let again = world.spool.resend(resend(&world, None)).await.unwrap();
    assert_eq!((again.resent, again.under_way, again.undelivered), (0, 1, 2));
    let after = Resend { after: first.last, ..resend(&world, None) };
    assert_eq!(world.spool.resend(after).await.unwrap(), Resent::default());
    let stranger = Resend { organization: "other".into(), ..resend(&world, None) };
    assert_eq!(world.spool.resend(stranger).await.unwrap(), Resent::default());
}

async fn a_new_archive_gets_every_delivered_record_once(world: World) {
    let old = delivered(&world, &message(Copies::EachIsNeeded), true).await;
    let late = world.relay(&Message { identity: 2, ..message(Copies::EachIsNeeded) }, Verdict::Accepted).await;
    world.clock.advance(WINDOW);
    let taken = world.claim_at(TWO[0]).await.remove(0);
    world
        .spool
        .settle(taken.fields.id, Outcome::Acked { reply: "250".into(), retain: true }, world.now())
        .await
        .unwrap();
    let resent = world.spool.resend(resend(&world, Some("new@three.example"))).await.unwrap();
    assert_eq!((resent.resent, resent.copies, resent.undelivered), (2, 1, 1));
    let claims = world.claim_at("new@three.example").await;
    let of: Vec<_> = claims.iter().map(|claim| claim.fields.replay.as_ref().unwrap().of).collect();
    assert!(of.contains(old.iter().min().unwrap()) && of.contains(&late.records[0]), "{of:?}");
    // One that waits for its own copy gets no other.
    let resent = world.spool.resend(resend(&world, Some(TWO[1]))).await.unwrap();
    assert_eq!((resent.resent, resent.copies, resent.undelivered), (1, 2, 1));
}
