//! Bounces on their way in: what a slow, a large and an unlucky one hears.

use super::*;
use crate::config::OnFailure;
use crate::mail::{OsEntropy, RecordId};
use crate::queue::State;
use crate::receive::fixtures::{parts, spool};
use crate::receive::places::FAIR_TIME;
use crate::spool::fixtures::{HandClock, Message, ORGANIZATION, World};
use crate::spool::{Spool, SpoolError, Verdict};
use std::sync::Arc;

fn bounce_of(client: usize) -> BounceMail {
    BounceMail {
        forward_path: Address::parse("sender@example.org").unwrap(),
        organizations: vec![ORGANIZATION.to_owned()],
        routes: BTreeMap::new(),
        client: format!("192.0.2.{client}").parse().unwrap(),
        size: 0,
        place: None,
        since: None,
    }
}

fn code(answer: &Result<(), Reply>) -> u16 {
    answer.as_ref().map_or_else(Reply::code, |()| 250)
}

fn of_nobody() -> Arc<Parts> {
    parts(Arc::new(spool()))
}

#[tokio::test(start_paused = true)]
async fn a_bounce_that_trickles_or_is_too_large_is_let_go() {
    let (parts, mut bounce) = (of_nobody(), bounce_of(1));
    assert_eq!(bounce.begin(&parts).code(), 354);
    assert_eq!(code(&bounce.take(b"x", 100, &parts)), 250);
    tokio::time::advance(BOUNCE_TIMEOUT - Duration::from_secs(1)).await;
    assert_eq!(code(&bounce.take(b"x", 100, &parts)), 250);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(code(&bounce.take(b"x", 100, &parts)), 451);
    assert_eq!(code(&bounce.take(&[b'x'; 98], 100, &parts)), 552);
}

#[tokio::test(start_paused = true)]
async fn who_opens_data_and_sends_nothing_takes_no_place() {
    let parts = of_nobody();
    let mut silent: Vec<_> = (0..100).map(bounce_of).collect();
    assert!(silent.iter_mut().all(|bounce| bounce.begin(&parts).code() == 354));
    let mut bounce = bounce_of(200);
    assert_eq!(bounce.begin(&parts).code(), 354);
    assert_eq!(code(&bounce.take(b"x", 100, &parts)), 250);
}

#[tokio::test(start_paused = true)]
async fn one_client_leaves_places_to_others_and_many_slow_ones_make_way() {
    let parts = of_nobody();
    let mut held = Vec::new();
    for (client, expected) in [(1, 250), (1, 250), (1, 451), (2, 250), (2, 250), (3, 250), (3, 250), (4, 250), (4, 250)]
    {
        let mut bounce = bounce_of(client);
        bounce.begin(&parts);
        assert_eq!(code(&bounce.take(b"x", 100, &parts)), expected, "{client}");
        held.push(bounce);
    }
    assert_eq!(bounce_of(5).begin(&parts).code(), 451, "all are taken");
    tokio::time::advance(FAIR_TIME).await;
    let mut bounce = bounce_of(5);
    assert_eq!(bounce.begin(&parts).code(), 354);
    assert_eq!(code(&bounce.take(b"x", 100, &parts)), 250);
    let lost = held[0].take(b"x", 100, &parts).unwrap_err();
    assert!(lost.to_string().starts_with("451 4.3.2"), "{lost}");
}

/// What a bounce of `record` that says so is answered.
async fn brought(parts: &Arc<Parts>, record: RecordId) -> Reply {
    let text = format!(
        "Content-Type: multipart/report; report-type=delivery-status; boundary=\"bb\"\r\n\r\n--bb\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x.example\r\n\r\n\
         Final-Recipient: rfc822; archive@x.example\r\nAction: failed\r\nStatus: 5.2.2\r\n\r\n--bb\r\n\
         Content-Type: text/rfc822-headers\r\n\r\nX-Journal-Record: {record}\r\n\r\n--bb--\r\n"
    );
    let mut bounce = bounce_of(1);
    assert_eq!(bounce.begin(parts).code(), 354);
    bounce.take(text.as_bytes(), 10_000, parts).unwrap();
    let keeping = Keeping::new(parts, OnFailure::Bypass);
    let now = parts.clock.now();
    let ids = (SessionId::new(now, &OsEntropy), QueueId::new(now, &OsEntropy));
    bounce.judge(&keeping, parts, ids).await
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_can_not_keep_a_bounce_says_so_and_nothing_has_changed() {
    let memory = spool();
    let spool: Arc<dyn Spool> = Arc::new(memory.clone());
    let directory = tempfile::tempdir().unwrap();
    let world = World { spool: Arc::clone(&spool), clock: HandClock::new(), directory };
    let record = world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await.record();
    world.claim_all().await;
    world.ack(record).await;
    let parts = parts(spool);
    for (error, expected) in [
        (SpoolError::Full("no room".into()), "452 4.3.1"),
        (SpoolError::Failing("no disk".into()), "451 4.3.0"),
        (SpoolError::NotNow("it is being sent".into()), "451 4.3.0"),
    ] {
        memory.fail_with(Some(error));
        let reply = brought(&parts, record).await.to_string();
        memory.fail_with(None);
        assert!(reply.starts_with(expected), "{reply}");
        assert_eq!(world.in_state(State::Acked).await, [record]);
        assert_eq!(world.spool.agenda(&ORGANIZATION.into()).await.unwrap().notices, None);
    }
    memory.hang(true);
    assert_eq!(brought(&parts, record).await.code(), 451, "a disk that hangs is a failing one");
    memory.hang(false);
    assert_eq!(world.in_state(State::Acked).await, [record]);
    assert_eq!(brought(&parts, record).await.code(), 250, "the places are free again, too");
    assert_eq!(world.in_state(State::Failed).await, [record]);
}
