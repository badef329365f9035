//! Other processes at the same spool: a second daemon, and queue commands.

use super::*;
use crate::queue::State;
use crate::spool::Recovered;

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_who_has_the_spool() {
    let house = House::new();
    let refusal = EmbeddedSpool::open(&house.path(), options(&house.world.clock)).err().unwrap();
    let SpoolError::Unusable(why) = refusal else { panic!("{refusal:?}") };
    assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
    assert!(why.contains(house.path().to_str().unwrap()), "{why}");
    house.world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
}

#[tokio::test]
async fn a_command_beside_the_daemon_sees_and_moves_records() {
    let house = House::new();
    let first = house.relay_large(&Message::new(1, &["a@x.example"])).await.record();
    let second = house.world.relay(&Message::new(2, &["a@x.example"]), Verdict::Accepted).await.record();
    house.spool.complete().await.unwrap();
    let beside = EmbeddedSpool::open_beside(&house.path(), system()).unwrap();
    let now = house.world.now();
    let seen: Vec<_> = beside.list(Filter::default(), 9).await.unwrap();
    assert_eq!(seen, house.world.live().await);
    assert_eq!(beside.show(first).await.unwrap().2.unwrap().read_all().unwrap(), vec![b'x'; LARGE]);

    let mut changes = house.spool.changes();
    changes.borrow_and_update();
    beside.operate(second, Operation::Retry, now).await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(house.spool.next_due(&ORGANIZATION.into()).await.unwrap(), Some(now));
    let claims = house.spool.claim(&ORGANIZATION.into(), now, 9).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.fields.id).collect::<Vec<_>>(), [second]);
    // The daemon lives: what it is sending is not stale.
    let discard = Operation::Discard { reason: "asked for".into() };
    assert!(matches!(beside.operate(second, discard.clone(), now).await, Err(SpoolError::NotNow(_))));
    beside.operate(first, discard, now).await.unwrap();
    beside.close().await.unwrap();
    assert!(house.files().is_empty());
    assert_eq!(house.world.in_state(State::Discarded).await, [first]);
}

#[tokio::test]
async fn without_a_daemon_what_was_being_sent_counts_as_waiting() {
    let house = House::new();
    let fresh = house.world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await.record();
    let tried = house.world.relay(&Message::new(2, &["a@x.example"]), Verdict::Accepted).await.record();
    let held = house.world.relay(&Message::new(3, &["a@x.example"]), Verdict::Accepted).await.record();
    house.world.claim_all().await;
    house.world.defer(tried, Duration::ZERO).await;
    house.world.claim_all().await;
    house.world.operate(held, Operation::Hold).await.unwrap();
    house.world.prepare(&Message::new(4, &["a@x.example"]), b"octets").await.unwrap();
    assert_eq!(house.world.in_state(State::Sending).await.len(), 3);

    let copy = house.copy();
    let path = copy.path().join("spool");
    let beside = EmbeddedSpool::open_beside(&path, system()).unwrap();
    let in_state = async |state| {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let found = beside.list(filter, 9).await.unwrap();
        assert!(found.iter().all(|listing| listing.state == state));
        found.into_iter().map(|listing| listing.id).collect::<Vec<_>>()
    };
    assert_eq!(in_state(State::Waiting).await, [fresh]);
    assert_eq!(in_state(State::Deferred).await, [tried]);
    assert_eq!(in_state(State::Held).await, [held]);
    assert_eq!(in_state(State::Sending).await, []);
    assert_eq!(in_state(State::Prepared).await.len(), 1);
    assert_eq!(beside.show(fresh).await.unwrap().1.state, State::Waiting);
    let now = house.world.now();
    beside.operate(fresh, Operation::Discard { reason: "asked for".into() }, now).await.unwrap();
    beside.operate(tried, Operation::Retry, now).await.unwrap();
    beside.close().await.unwrap();

    let (reborn, recovered) = House::open(copy, Arc::clone(&house.world.clock));
    assert_eq!(recovered, Recovered { records: 3, unknown: 1 });
    assert_eq!(reborn.world.in_state(State::Discarded).await, [fresh]);
    assert_eq!(reborn.spool.claim(&ORGANIZATION.into(), now, 9).await.unwrap()[0].fields.id, tried);
}

#[tokio::test]
async fn beside_the_daemon_nothing_is_taken_or_sent() {
    let house = House::new();
    let first = house.world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    house.spool.complete().await.unwrap();
    let beside = EmbeddedSpool::open_beside(&house.path(), system()).unwrap();
    let now = house.world.now();
    let message = Message::new(2, &["a@x.example"]);
    let taken = prepare(&beside, &message, b"octets", now).await;
    assert!(matches!(taken, Err(SpoolError::NotNow(_))));
    assert!(beside.decide(first.queue_id, Verdict::Refused).await.is_err());
    assert!(beside.claim(&ORGANIZATION.into(), now, 9).await.is_err());
    assert!(beside.claim_reports(ORGANIZATION, now, 9).await.is_err());
    assert!(beside.unclaim(first.record()).await.is_err());
    assert_eq!(house.world.live().await.len(), 1);
}

#[tokio::test]
async fn a_command_where_no_spool_is_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = EmbeddedSpool::open_beside(directory.path(), system()).err().unwrap();
    assert!(refusal.to_string().contains("there is no spool in"), "{refusal}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_spool_s_octets_are_those_of_the_database_with_its_log_and_of_large_messages() {
    let house = House::new();
    house.relay_large(&Message::new(1, &["a@x.example"])).await;
    house.spool.complete().await.unwrap();
    let length = |name: &str| std::fs::metadata(house.path().join(name)).unwrap().len();
    let log = length("spool.sqlite-wal");
    assert!(log > 0, "nothing has been carried over yet");
    // Each page is in the database, or in the log alone.
    let octets = house.spool.figures().await.unwrap().octets;
    assert!(octets > log + LARGE as u64 && octets >= length("spool.sqlite") + log, "{octets}");
}
