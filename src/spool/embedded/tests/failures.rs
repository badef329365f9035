//! Group commit, full disks, failing disks, damaged entries.

use super::*;
use crate::queue::State;
use crate::spool::embedded::carry::FoundLog;
use crate::spool::embedded::opening::Opener;
use crate::spool::reserve::Reserve;
use crate::spool::{Copies, Recovered};
use rusqlite::ffi;
use tokio::sync::oneshot;

fn unsynced() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), Some("disk I/O error".into()))
}

/// Polls once what shall gather.
async fn begin<T>(futures: &mut [Pending<T>]) {
    for future in futures {
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await;
        assert!(polled.is_pending());
    }
}

fn prepare_small(house: &House, queue_id: QueueId, identity: u8) -> Pending<()> {
    let message = Message::new(identity, &["a@x.example"]);
    let intake = house.spool.begin(queue_id);
    house.spool.prepare(intake, draft(&message, queue_id, b"", house.world.now()))
}

fn new_id(house: &House) -> QueueId {
    QueueId::new(house.world.now(), &crate::mail::OsEntropy)
}

#[tokio::test]
async fn what_gathers_during_a_commit_is_one_commit() {
    let house = House::new();
    let (release, busy) = house.occupy();
    let mut waiting = vec![busy];
    begin(&mut waiting).await;
    let mut prepares: Vec<_> = (0..50).map(|identity| prepare_small(&house, new_id(&house), identity)).collect();
    begin(&mut prepares).await;
    let before = house.spool.commits();
    release.send(()).unwrap();
    for future in waiting.into_iter().chain(prepares) {
        future.await.unwrap();
    }
    let commits = house.spool.commits() - before;
    // The busy one has taken what came before its own transaction began; all others gathered.
    assert!(commits <= 2, "{commits} commits for 50 messages");
    assert_eq!(house.world.in_state(State::Prepared).await.len(), 50);
}

#[tokio::test]
async fn verdicts_join_a_transaction_that_somebody_waits_for() {
    let house = House::new();
    let first = house.world.prepare(&Message::new(1, &["a@x.example"]), b"").await.unwrap();
    let before = house.spool.commits();
    let verdict = house.spool.decide(first.queue_id, Verdict::Accepted);
    house.sql("").await.unwrap();
    verdict.await.unwrap();
    // One, or two where the linger was over before the second came.
    assert!(house.spool.commits() - before <= 2);
    assert_eq!(house.world.in_state(State::Waiting).await, first.records);
}

#[tokio::test]
async fn a_full_spool_keeps_nothing_new_loses_nothing_old_and_recovers() {
    let house = House::new();
    let message = |identity| Message::new(identity, &["a@x.example"]);
    let prepared = house.world.prepare(&message(1), b"octets").await.unwrap();
    house.sql("PRAGMA max_page_count = 1").await.unwrap();
    let mut kept = vec![prepared.record()];
    let full = loop {
        match house.world.prepare(&message(2), &[b'x'; INLINE]).await {
            Ok(more) => kept.push(more.record()),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SpoolError::Full(_)), "{full:?}");
    let large = house.world.prepare(&message(3), &[b'x'; 300_000]).await;
    match large {
        // Its row may have found room that inline octets had not.
        Ok(more) => kept.push(more.record()),
        Err(error) => {
            assert!(matches!(error, SpoolError::Full(_)));
            assert!(house.files().is_empty());
        }
    }
    let make_room = |db: &rusqlite::Connection| Ok(db.execute_batch("PRAGMA max_page_count = 1000000")?);
    house.spool.writer.ask(make_room).await.unwrap();
    kept.sort();
    assert_eq!(house.world.in_state(State::Prepared).await, kept);
    // The daemon looks after it by itself, too, now and then.
    let early = house.world.prepare(&message(4), &[b'x'; INLINE]).await;
    let is_held = house.spool.store.reserve().admit().is_ok();
    assert!(
        matches!(early, Err(SpoolError::Full(_))) || is_held,
        "nothing that brings octets is taken before the reserve is held"
    );
    if let Ok(more) = early {
        kept.push(more.record());
    }
    house.spool.store.reserve().look_after();
    house.world.prepare(&message(5), &[b'x'; INLINE]).await.unwrap();
    assert_eq!(house.world.in_state(State::Prepared).await.len(), kept.len() + 1);
}

const INLINE: usize = crate::spool::fixtures::SMALL;

/// A step that fails with `error` and the whole transaction with it, once everything in `others` has gathered behind it.
async fn spoil<T: Send + 'static>(
    house: &House,
    code: i32,
    others: impl FnOnce() -> Vec<Pending<T>>,
) -> (SpoolError, Vec<Result<T, SpoolError>>) {
    let (release, busy) = house.occupy();
    let mut busy = vec![busy];
    begin(&mut busy).await;
    let mut others = others();
    begin(&mut others).await;
    let mut culprit: Vec<Pending<()>> = vec![
        house.step(move |_| Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("spoilt".into())).into())),
    ];
    begin(&mut culprit).await;
    release.send(()).unwrap();
    let _ = busy.remove(0).await;
    let error = culprit.remove(0).await.unwrap_err();
    let mut results = Vec::new();
    for other in others {
        results.push(other.await);
    }
    (error, results)
}

#[tokio::test]
async fn everybody_in_a_failed_transaction_gets_its_error() {
    let house = House::new();
    let (id, other) = (new_id(&house), new_id(&house));
    let (error, results) =
        spoil(&house, ffi::SQLITE_FULL, || vec![prepare_small(&house, id, 1), prepare_small(&house, other, 2)]).await;
    assert!(matches!(error, SpoolError::Full(_)));
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| matches!(result, Err(SpoolError::Full(_)))), "{results:?}");
    assert!(house.world.live().await.is_empty());
    house.spool.store.reserve().look_after();
    prepare_small(&house, id, 1).await.unwrap();
}

#[tokio::test]
async fn a_move_that_finds_no_room_is_made_with_the_reserve_s_and_new_mail_is_not() {
    let house = House::new();
    let (release, busy) = house.occupy();
    let mut gathering = vec![busy];
    begin(&mut gathering).await;
    let mut new = vec![prepare_small(&house, new_id(&house), 2)];
    begin(&mut new).await;
    let mut found_room = false;
    let mut moves = vec![house.step(move |_| {
        let no_room = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
        if std::mem::replace(&mut found_room, true) { Ok(()) } else { Err(no_room.into()) }
    })];
    begin(&mut moves).await;
    release.send(()).unwrap();
    moves.remove(0).await.unwrap();
    let refused = new.remove(0).await;
    assert!(matches!(refused, Err(SpoolError::Full(_))), "{refused:?}");
    house.spool.store.reserve().look_after();
    house.spool.probe(house.world.now()).await.unwrap();
}

#[tokio::test]
async fn the_file_of_a_message_in_a_failed_transaction_is_removed() {
    let house = House::new();
    house
        .sql("CREATE TEMP TRIGGER full BEFORE INSERT ON message BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
        .await
        .unwrap();
    // Several archives: of the database alone.
    let message = Message::new(1, &["a@x.example"]).to(&["first", "second"], Copies::EachIsNeeded);
    let prepared = house.world.prepare(&message, &[b'x'; 300_000]).await;
    assert!(prepared.is_err());
    assert!(house.files().is_empty());
    assert!(house.world.live().await.is_empty());
    house.sql("DROP TRIGGER full").await.unwrap();
    house.world.prepare(&message, &[b'x'; 300_000]).await.unwrap();
    assert_eq!(house.files().len(), 1);
}

#[tokio::test]
async fn a_verdict_in_a_failed_transaction_is_taken_again() {
    let house = House::new();
    let prepared = house.world.prepare(&Message::new(1, &["a@x.example"]), b"octets").await.unwrap();
    let (_, results) =
        spoil(&house, ffi::SQLITE_IOERR_WRITE, || vec![house.spool.decide(prepared.queue_id, Verdict::Accepted)]).await;
    // It was owed, and whoever waited for it hears of it once it is durable.
    assert!(matches!(results.as_slice(), [Ok(())]), "{results:?}");
    assert_eq!(house.world.in_state(State::Waiting).await, prepared.records);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_before_it_is_opened_again() {
    let house = House::new();
    let prepared = house.world.prepare(&Message::new(1, &["a@x.example"]), b"octets").await.unwrap();
    let broken = house.spool.broken();
    house.step(|_| Err::<(), _>(SpoolError::NotNow("no".into()).into())).await.unwrap_err();
    assert!(!*broken.borrow());
    let error = house.step(|_| Err::<(), _>(unsynced().into())).await.unwrap_err();
    assert!(matches!(error, SpoolError::Failing(_)));
    assert!(*broken.borrow(), "whoever can start the process anew is told");
    for _ in 0..2 {
        let refused = house.world.prepare(&Message::new(2, &["a@x.example"]), &[b'x'; 300_000]).await;
        assert!(matches!(refused, Err(SpoolError::Failing(_))));
        assert!(house.spool.decide(prepared.queue_id, Verdict::Accepted).await.is_err());
        assert!(house.spool.claim(&ORGANIZATION.into(), house.world.now(), 9).await.is_err());
    }
    assert!(house.files().is_empty());
    assert_eq!(house.world.in_state(State::Prepared).await, prepared.records, "what is there can still be read");
    assert!(house.spool.close().await.is_err());
    let House { world: World { directory, clock, .. }, .. } = house;
    let (again, recovered) = House::open(directory, clock);
    assert_eq!(recovered, Recovered { records: 1, unknown: 1 });
    again.world.prepare(&Message::new(2, &["a@x.example"]), b"octets").await.unwrap();
}

#[tokio::test]
async fn a_step_s_own_failure_touches_nobody_else_in_its_transaction() {
    let house = House::new();
    let (release, busy) = house.occupy();
    let mut busy = vec![busy];
    begin(&mut busy).await;
    let twice = new_id(&house);
    let ids = [new_id(&house), twice, twice, new_id(&house)];
    let mut prepares: Vec<_> =
        ids.iter().zip(1..).map(|(queue_id, identity)| prepare_small(&house, *queue_id, identity)).collect();
    begin(&mut prepares).await;
    release.send(()).unwrap();
    let mut results = Vec::new();
    for prepare in prepares {
        results.push(prepare.await.is_ok());
    }
    assert_eq!(results, [true, true, false, true]);
    assert_eq!(house.world.in_state(State::Prepared).await.len(), 3);
}

#[tokio::test]
async fn a_preparation_given_up_in_its_transaction_is_undone() {
    let house = House::new();
    let (reached, taken) = oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let mut reached = Some(reached);
    let mut prepares = vec![prepare_small(&house, new_id(&house), 1)];
    let (go, busy) = house.occupy();
    let mut busy = vec![busy];
    begin(&mut busy).await;
    begin(&mut prepares).await;
    // Behind it in the same transaction: it has been taken when this one is.
    let mut last = vec![house.step(move |_| {
        if let Some(reached) = reached.take() {
            let _ = reached.send(());
        }
        let _ = released.recv();
        Ok(())
    })];
    begin(&mut last).await;
    go.send(()).unwrap();
    taken.await.unwrap();
    prepares.clear();
    release.send(()).unwrap();
    last.remove(0).await.unwrap();
    // The undoing came before this.
    house.sql("").await.unwrap();
    assert!(house.world.live().await.is_empty());
}

#[tokio::test]
async fn an_entry_that_can_not_be_read_does_not_stand_in_the_others_way() {
    let house = House::new();
    let damaged = house.world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let headless = house.world.relay(&Message::new(2, &["a@x.example"]), Verdict::Accepted).await;
    let sound = house.world.relay(&Message::new(3, &["a@x.example"]), Verdict::Accepted).await;
    let (one, two) = (damaged.record(), headless.queue_id);
    let tamper = house.step(move |step| {
        step.db.execute("UPDATE record SET fields = '{}' WHERE id = ?", [one.as_str()])?;
        step.db.execute("DELETE FROM message WHERE queue_id = ?", [two.as_str()])?;
        Ok(())
    });
    tamper.await.unwrap();
    let claims = house.world.claim_all().await;
    assert_eq!(claims.iter().map(|claim| claim.fields.id).collect::<Vec<_>>(), sound.records);
    let failed = house.world.in_state(State::Failed).await;
    assert_eq!(failed.len(), 2);
    assert!(failed.contains(&damaged.record()) && failed.contains(&headless.record()));
    let why = house.world.live().await.into_iter().find(|listing| listing.id == one).unwrap().last_reply.unwrap();
    assert!(why.contains("can't be read"), "{why}");
}

#[tokio::test]
async fn octet_files_go_with_their_last_record() {
    let house = House::new();
    for end in ["acked", "discarded", "refused", "merged"] {
        let message = Message::new(end.len() as u8, &["a@x.example"]);
        let prepared = house.world.prepare(&message, &[b'x'; 300_000]).await.unwrap();
        assert_eq!(house.files(), [prepared.queue_id.to_string()]);
        let verdict = if end == "refused" { Verdict::Refused } else { Verdict::Accepted };
        house.spool.decide(prepared.queue_id, verdict).await.unwrap();
        match end {
            "acked" => {
                house.world.claim_all().await;
                house.world.ack(prepared.record()).await;
            }
            "discarded" => drop(house.world.discard(prepared.record()).await.unwrap()),
            "merged" => {
                let second = house.world.prepare(&message, &[b'x'; 300_000]).await.unwrap();
                assert_eq!(house.files().len(), 2);
                house.spool.decide(second.queue_id, Verdict::Accepted).await.unwrap();
                house.sql("").await.unwrap();
                assert_eq!(house.files(), [prepared.queue_id.to_string()]);
                house.world.discard(prepared.record()).await.unwrap();
            }
            _ => {}
        }
        // Files are removed right behind the answer.
        house.sql("").await.unwrap();
        assert!(house.files().is_empty(), "{end}");
    }
}

/// A commit that fails in a way that leaves open what is on the disk.
#[tokio::test]
async fn a_commit_that_ends_uncertain_keeps_the_files_for_the_next_start_to_judge() {
    let house = House::new();
    house.spool.close().await.unwrap();
    let House { world: World { directory, clock, .. }, .. } = house;
    let path = directory.path().join("spool");
    let db = schema::open_writable(&SystemDisk, &path, false).unwrap();
    db.execute_batch(
        "PRAGMA foreign_keys = ON; CREATE TEMP TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TEMP TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         CREATE TEMP TRIGGER orphan AFTER INSERT ON message BEGIN INSERT INTO child VALUES (1); END;",
    )
    .unwrap();
    let store = OctetStore::open(system(), path.join(OCTETS), Reserve::beside(system(), &path)).unwrap();
    let spool =
        EmbeddedSpool::start(&path, db, store, Opener::Command(FoundLog::CarriedOver), Some(options(&clock))).unwrap();
    let world = World { spool: Arc::new(spool.clone()), clock: Arc::clone(&clock), directory };
    let house = House { world, spool };
    let prepared = house.world.prepare(&Message::new(1, &["a@x.example"]), &[b'x'; 300_000]).await;
    assert!(matches!(prepared, Err(SpoolError::Failing(_))), "{prepared:?}");
    assert_eq!(house.files().len(), 1);
    assert!(house.sql("").await.is_err(), "nothing is written any more");
    // Here the rows did not come through: the next start removes the file.
    let (reborn, recovered) = house.killed();
    assert_eq!((recovered.records, reborn.files().len()), (0, 0));
}
