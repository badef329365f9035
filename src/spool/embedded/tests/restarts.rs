//! What a start finds and makes of it.

use super::*;
use crate::queue::State;
use crate::spool::Recovered;
use crate::spool::reserve::Reserve;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[tokio::test]
async fn whatever_was_promised_is_there_after_a_kill() {
    let house = House::new();
    let small = house.world.prepare(&Message::new(1, &["a@x.example"]), b"small").await.unwrap();
    let large = house.world.prepare(&Message::new(2, &["a@x.example"]), &[b'x'; 600_000]).await.unwrap();
    let accepted = house.world.relay(&Message::new(3, &["a@x.example"]), Verdict::Accepted).await;
    let refused = house.world.relay(&Message::new(4, &["a@x.example"]), Verdict::Refused).await;
    let (reborn, recovered) = house.killed();
    assert_eq!(recovered, Recovered { records: 3, unknown: 2 });
    assert!(matches!(reborn.spool.show(refused.record()).await, Err(SpoolError::NotFound(_))));
    let claims = reborn.world.claim_all().await;
    for (prepared, unknown, octets) in [
        (&small, true, b"small".to_vec()),
        (&large, true, vec![b'x'; 600_000]),
        (&accepted, false, b"Subject: hello\r\n\r\nhello\r\n".to_vec()),
    ] {
        let claim = claims.iter().find(|claim| claim.fields.id == prepared.record()).unwrap();
        assert_eq!(claim.fields.outcome_unknown, unknown);
        assert_eq!(claim.octets.read_all().unwrap(), octets);
    }
    assert_eq!(claims.len(), 3);
}

#[tokio::test]
async fn attempts_cut_off_are_due_again_as_they_were() {
    let house = House::new();
    let [first, again, idle, held, failed] = [1, 2, 3, 4, 5].map(|identity| Message::new(identity, &["a@x.example"]));
    let again = house.world.relay(&again, Verdict::Accepted).await.record();
    let failed = house.world.relay(&failed, Verdict::Accepted).await.record();
    house.world.claim_all().await;
    house.world.defer(again, Duration::ZERO).await;
    house.world.refuse(failed).await;
    house.world.gather().await;
    let report = house.world.claim_reports().await[0].fields.clone();
    let first = house.world.relay(&first, Verdict::Accepted).await.record();
    let held = house.world.relay(&held, Verdict::Accepted).await.record();
    let sent = house.world.claim_all().await;
    assert_eq!(sent.len(), 3);
    house.world.operate(held, Operation::Hold).await.unwrap();
    let idle = house.world.relay(&idle, Verdict::Accepted).await.record();

    let (reborn, recovered) = house.killed();
    assert_eq!(recovered, Recovered { records: 5, unknown: 0 });
    assert_eq!(reborn.world.in_state(State::Waiting).await, [first, idle]);
    assert_eq!(reborn.world.in_state(State::Deferred).await, [again]);
    assert_eq!(reborn.world.in_state(State::Held).await, [held]);
    assert_eq!(reborn.world.in_state(State::Failed).await, [failed]);
    let claims = reborn.spool.claim(&ORGANIZATION.into(), reborn.world.now(), 9).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.status.attempts).collect::<Vec<_>>().iter().sum::<u32>(), 5);
    for claim in &claims {
        let before = sent.iter().find(|before| before.fields.id == claim.fields.id).unwrap();
        assert_eq!(claim.fields, before.fields, "a repeat is the same to the last octet");
    }
    let reports = reborn.spool.claim_reports(ORGANIZATION, reborn.world.now(), 9).await.unwrap();
    assert_eq!((reports.len(), &reports[0].fields, reports[0].attempts), (1, &report, 2));
}

#[tokio::test]
async fn an_unknown_verdict_is_merged_like_any_other() {
    let house = House::new();
    let first = house.world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    house.world.prepare(&Message::new(1, &["b@x.example"]), &[b'x'; LARGE]).await.unwrap();
    assert_eq!(house.files().len(), 1);
    let (reborn, recovered) = house.killed();
    assert_eq!(recovered, Recovered { records: 1, unknown: 0 });
    assert!(reborn.files().is_empty());
    let live = reborn.world.live().await;
    assert_eq!((live[0].id, live[0].recipients.len()), (first.record(), 2));
}

#[tokio::test]
async fn octet_files_without_a_message_are_removed() {
    let house = House::new();
    let kept = house.relay_large(&Message::new(1, &["a@x.example"])).await;
    let queue_id = QueueId::new(house.world.now(), &crate::mail::OsEntropy);
    let mut intake = house.spool.begin(queue_id);
    intake.append(&[b'x'; 300_000]).await.unwrap();
    assert_eq!(house.files().len(), 2);
    let (reborn, recovered) = house.killed();
    assert_eq!(recovered.records, 1);
    assert_eq!(reborn.files(), [kept.queue_id.to_string()]);
}

#[tokio::test]
async fn messages_of_the_middling_sort_are_inline_while_the_allowance_lasts_and_all_come_back() {
    let house = House::new();
    let left = || house.spool.allowances.middling.left() / 1_024;
    // 98 KiB each.
    let octets = |number: u8| (0..100_000_u32).map(|place| number.wrapping_add(place as u8)).collect::<Vec<_>>();
    let all = left();
    let inline = all / 98;
    assert!((10..20).contains(&inline), "{inline}");
    let mut begun = Vec::new();
    for number in 0..30 {
        let queue_id = QueueId::new(house.world.now(), &crate::mail::OsEntropy);
        let mut intake = house.spool.begin(queue_id);
        intake.append(&octets(number)).await.unwrap();
        begun.push((number, queue_id, intake));
    }
    assert_eq!((house.files().len(), left()), (30 - inline, all - inline * 98));
    // Those inline in one group of the log, behind what the writer is busy with.
    let (release, busy) = house.occupy();
    let (mut records, mut prepared) = (Vec::new(), tokio::task::JoinSet::new());
    for (number, queue_id, intake) in begun {
        let draft = draft(&Message::new(number, &["a@x.example"]), queue_id, &octets(number), house.world.now());
        records.push((queue_id, draft.records[0].fields.id, number));
        prepared.spawn(house.spool.prepare(intake, draft));
    }
    tokio::task::yield_now().await;
    drop(release);
    busy.await.unwrap();
    while let Some(one) = prepared.join_next().await {
        one.unwrap().unwrap();
    }
    let all_are_there = async |reborn: &House| {
        assert_eq!(reborn.files().len(), 30 - inline);
        for (_, record, number) in &records {
            assert_eq!(reborn.world.octets(*record).await.unwrap().read_all().unwrap(), octets(*number));
        }
    };
    let (reborn, recovered) = house.killed();
    assert_eq!(recovered, Recovered { records: 30, unknown: 30 });
    all_are_there(&reborn).await;
    for (queue_id, _, _) in &records {
        house.spool.decide(*queue_id, Verdict::Accepted).await.unwrap();
    }
    house.spool.complete().await.unwrap();
    assert_eq!(left(), all - inline * 98, "in the database they are held as before");
    let (reborn, recovered) = house.killed();
    assert_eq!(recovered, Recovered { records: 30, unknown: 0 });
    all_are_there(&reborn).await;
    for claim in house.world.claim_all().await {
        house.world.ack(claim.fields.id).await;
    }
    // Behind what follows the last of them.
    house.step(|_| Ok(())).await.unwrap();
    assert_eq!((house.world.live().await.len(), house.files().len(), left()), (0, 0, all));
}

#[tokio::test]
async fn what_a_queue_command_discards_is_no_longer_held() {
    let house = House::new();
    let left = || house.spool.allowances.middling.left() / 1_024;
    let all = left();
    let one = house.world.prepare(&Message::new(1, &["a@x.example"]), &[b'x'; 100_000]).await.unwrap();
    house.spool.decide(one.queue_id, Verdict::Accepted).await.unwrap();
    let two = house.world.prepare(&Message::new(2, &["a@x.example"]), &[b'x'; 100_000]).await.unwrap();
    house.spool.decide(two.queue_id, Verdict::Accepted).await.unwrap();
    house.spool.complete().await.unwrap();
    assert_eq!(left(), all - 2 * 98);
    let beside = EmbeddedSpool::open_beside(&house.path(), system()).unwrap();
    let mut changes = house.spool.changes();
    let discard = Operation::Discard { reason: "asked for".into() };
    beside.operate(one.record(), discard, house.world.now()).await.unwrap();
    // The daemon sees within a second that another process has been there.
    while left() == all - 2 * 98 {
        changes.changed().await.unwrap();
    }
    assert_eq!(left(), all - 98);
}

#[tokio::test]
async fn a_record_whose_file_is_missing_or_cut_is_failed_and_says_so() {
    let house = House::new();
    let missing = house.relay_large(&Message::new(1, &["a@x.example"])).await;
    let cut = house.world.prepare(&Message::new(2, &["a@x.example"]), &[b'x'; LARGE]).await.unwrap();
    let sound = house.relay_large(&Message::new(3, &["a@x.example"])).await;
    let copy = house.copy();
    let store = OctetStore::open(
        system(),
        copy.path().join("spool/octets"),
        Reserve::beside(system(), &copy.path().join("spool")),
    )
    .unwrap();
    std::fs::remove_file(store.path(missing.queue_id)).unwrap();
    std::fs::write(store.path(cut.queue_id), b"short").unwrap();
    let (reborn, recovered) = House::open(copy, Arc::clone(&house.world.clock));
    assert_eq!(recovered.records, 3);
    let failed = reborn.world.in_state(State::Failed).await;
    assert_eq!((failed.len(), failed.contains(&sound.record())), (2, false));
    let reply = |listing: Listing| listing.last_reply.unwrap();
    let why = reply(reborn.spool.show(missing.record()).await.unwrap().1);
    assert!(why.contains("the spool's octets: file") && why.ends_with("is missing"), "{why}");
    let why = reply(reborn.spool.show(cut.record()).await.unwrap().1);
    assert!(why.contains("has 5 octets instead of 200000"), "{why}");
    assert_eq!(reborn.world.claim_all().await.len(), 1);
    // The same message again is not taken for known: its octets are here now.
    let again = reborn.relay_large(&Message::new(1, &["a@x.example"])).await;
    assert_eq!(reborn.world.in_state(State::Waiting).await, [again.record()]);
    // An operator can clear it away.
    reborn.world.discard(missing.record()).await.unwrap();
}

#[tokio::test]
async fn a_closed_spool_opens_again_at_once() {
    let house = House::new();
    let prepared = house.relay_large(&Message::new(1, &["a@x.example"])).await;
    house.spool.close().await.unwrap();
    let House { world: World { directory, clock, .. }, .. } = house;
    assert!(!directory.path().join("spool/spool.sqlite-wal").exists(), "all was carried over");
    let (again, recovered) = House::open(directory, clock);
    assert_eq!(recovered, Recovered { records: 1, unknown: 0 });
    assert_eq!(again.world.in_state(State::Waiting).await, [prepared.record()]);
}

#[tokio::test]
async fn everything_is_its_owner_s_alone() {
    let house = House::new();
    let large = house.relay_large(&Message::new(1, &["a@x.example"])).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = house.spool.store.path(large.queue_id);
    for directory in [house.path(), house.path().join("octets"), file.parent().unwrap().to_owned()] {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
    let names = ["lock", "spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"].map(|name| house.path().join(name));
    for file in names.iter().chain([&file]) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn an_empty_database_becomes_a_spool() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("spool")).unwrap();
    std::fs::write(directory.path().join("spool/spool.sqlite"), b"").unwrap();
    let (house, recovered) = House::open(directory, HandClock::new());
    assert_eq!(recovered, Recovered::default());
    house.world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
}

#[tokio::test]
async fn a_newer_or_strange_database_is_refused_and_left_alone() {
    let house = House::new();
    let clock = Arc::clone(&house.world.clock);
    let known = format!("version {}", schema::MIGRATIONS.len());
    house.sql("PRAGMA user_version = 777").await.unwrap();
    let copy = house.copy();
    let path = copy.path().join("spool");
    let refusals = [
        EmbeddedSpool::open(&path, options(&clock)).err().unwrap(),
        EmbeddedSpool::open_beside(&path, system()).err().unwrap(),
    ];
    for refusal in refusals {
        let SpoolError::Unusable(why) = refusal else { panic!("{refusal:?}") };
        assert!(why.contains("version 777") && why.contains(&known), "{why}");
        assert!(why.contains(path.to_str().unwrap()), "{why}");
    }
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("spool.sqlite"), vec![b'?'; 5_000]).unwrap();
    assert!(matches!(EmbeddedSpool::open(&path, options(&clock)), Err(SpoolError::Unusable(_))));
    assert_eq!(std::fs::read(path.join("spool.sqlite")).unwrap(), vec![b'?'; 5_000]);
}

#[tokio::test]
async fn old_history_goes_and_live_records_stay() {
    let house = House::new();
    let [acked, discarded, failed, waiting] = [1, 2, 3, 4].map(|identity| Message::new(identity, &["a@x.example"]));
    let acked = house.world.relay(&acked, Verdict::Accepted).await.record();
    let failed = house.world.relay(&failed, Verdict::Accepted).await.record();
    house.world.claim_all().await;
    house.world.ack(acked).await;
    house.world.fail(failed, None).await;
    let discarded = house.world.relay(&discarded, Verdict::Accepted).await.record();
    house.world.discard(discarded).await.unwrap();
    let waiting = house.world.relay(&waiting, Verdict::Accepted).await.record();

    let clock = Arc::clone(&house.world.clock);
    let history_after = async |wait: Duration| {
        clock.advance(wait);
        let (reborn, _) = house.killed();
        // The writer looks after history when its first transaction is done.
        reborn.sql("").await.unwrap();
        reborn.sql("").await.unwrap();
        let live: Vec<_> = reborn.world.live().await.into_iter().map(|listing| listing.id).collect();
        assert_eq!(live, [failed, waiting]);
        (reborn.world.in_state(State::Acked).await, reborn.world.in_state(State::Discarded).await)
    };
    assert_eq!(history_after(KEEP_HISTORY).await, (vec![acked], vec![discarded]));
    assert_eq!(history_after(Duration::from_secs(1)).await, (vec![], vec![discarded]));
    assert_eq!(history_after(history::KEEP_DISCARDED).await, (vec![], vec![]));
}

#[tokio::test]
async fn history_is_removed_in_small_batches() {
    let house = House::new();
    let more = house.step(|step| {
        let one = "INSERT INTO report (id, organization, state, attempts, ended, fields) \
                   WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) \
                   SELECT 'r' || i, 'o', 'failed', 1, 0, '{}' FROM n";
        step.db.execute(one, [])?;
        let now = Timestamp::from_millis(START);
        let left = |step: &Step<'_>| step.db.query_row("SELECT count(*) FROM report", [], |row| row.get::<_, i64>(0));
        let first = (history::prune(step.db, now, KEEP_HISTORY)?, left(step)?);
        let second = (history::prune(step.db, now, KEEP_HISTORY)?, left(step)?);
        Ok((first, second))
    });
    assert_eq!(more.await.unwrap(), ((true, 200), (false, 0)));
}

#[tokio::test]
async fn a_replay_is_known_by_its_message_id_once_its_record_is_gone() {
    let house = House::new();
    let world = &house.world;
    world.relay(&Message::new(1, &["a@x.example"]), Verdict::Accepted).await;
    let first = world.claim_all().await.remove(0).fields.id;
    let taken = Outcome::Acked { reply: "250 2.0.0 kept".into(), retain: true };
    world.spool.settle(first, taken, world.now()).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let resend = Resend {
        organization: ORGANIZATION.to_owned(),
        since: Timestamp::from_millis(START),
        until: world.now(),
        to: None,
        archives: vec![String::new()],
        after: None,
        at: world.now(),
        ids: vec![RecordId::new(world.now(), &crate::mail::OsEntropy)],
    };
    assert_eq!(world.spool.resend(resend).await.unwrap().resent, 1);
    let replay = world.claim_at("").await.remove(0).fields;
    world.ack(replay.id).await;
    let bounce = || Returned {
        record: None,
        message_uuid: Some(replay.message_uuid),
        boundary: Some(replay.boundary),
        organizations: vec![ORGANIZATION.into()],
        reply: Some("bounced: 550 5.1.1 no".into()),
        original: None,
        routes: [(ORGANIZATION.into(), "smtp://archive.example.com:25".to_owned())].into(),
        at: world.now(),
    };
    let meant = [first, replay.id];
    for (number, expected) in meant.into_iter().enumerate() {
        let receipt = world.spool.returned(bounce()).await.unwrap();
        assert!(matches!(receipt, Receipt::Failed { record, .. } if record == expected), "{number}: {receipt:?}");
        house.sql("DELETE FROM record WHERE replay_of IS NULL").await.unwrap();
    }
}

#[tokio::test]
async fn the_secret_outlives_a_kill_and_is_the_commands_too() {
    let house = House::new();
    assert_eq!(house.spool.secret([1; 32]).await.unwrap(), [1; 32]);
    let (reborn, _) = house.killed();
    assert_eq!(reborn.spool.secret([2; 32]).await.unwrap(), [1; 32]);
    let beside = EmbeddedSpool::open_beside(&reborn.path(), crate::spool::disk::system()).unwrap();
    assert_eq!(beside.secret([3; 32]).await.unwrap(), [1; 32]);
}

#[tokio::test]
async fn a_refusal_that_empties_the_front_is_durable_though_others_wait_for_the_database() {
    let house = House::new();
    for identity in 1..20 {
        let prepared = house.world.prepare(&Message::new(identity, &["a@x.example"]), b"octets").await.unwrap();
        // One batch: the verdict waits some milliseconds for company.
        let decided = house.spool.decide(prepared.queue_id, Verdict::Refused);
        let (decided, completed) = tokio::join!(decided, house.spool.complete());
        decided.unwrap();
        completed.unwrap();
        assert!(house.world.in_state(State::Prepared).await.is_empty());
    }
    let (reborn, recovered) = house.killed();
    assert_eq!(recovered, Recovered { records: 0, unknown: 0 });
    assert!(reborn.world.in_state(State::Waiting).await.is_empty());
}

/// A copy whose database lacks what its log has; nothing rests in front for long.
pub(super) async fn with_something_in_front(house: &House) -> (tempfile::TempDir, RecordId) {
    for identity in 1..100 {
        let record = house.world.relay(&Message::new(identity, &["a@x.example"]), Verdict::Accepted).await.record();
        // While the writer waits nothing goes on.
        let (go_on, wait) = mpsc::channel::<()>();
        let waiting = house.spool.writer.ask(move |_| {
            let _ = wait.recv();
            Ok(())
        });
        let copy = house.copy();
        drop(go_on);
        waiting.await.unwrap();
        let path = copy.path().join("spool");
        let db = Connection::open(path.join(schema::DATABASE)).unwrap();
        if front::is_left(&db, &system(), &path).unwrap() && rows::lacks(&db, record).unwrap() {
            return (copy, record);
        }
    }
    panic!("the database had everything at once");
}

#[tokio::test]
async fn what_has_left_the_front_is_the_database_s_though_its_log_does_not_say_so() {
    let house = House::new();
    let (copy, record) = with_something_in_front(&house).await;
    let path = copy.path().join("spool");
    let database = || Connection::open(path.join(schema::DATABASE)).unwrap();
    let generation: i64 = database().query_row("SELECT generation FROM front", [], |row| row.get(0)).unwrap();
    let beside = EmbeddedSpool::open_beside(&path, system()).unwrap();
    let discard = Operation::Discard { reason: "a test".to_owned() };
    beside.operate(record, discard, house.world.now()).await.unwrap();
    beside.close().await.unwrap();
    // The word of the log for it was not durable.
    database().execute("UPDATE front SET generation = ?", [generation]).unwrap();
    let (reborn, _) = House::open(copy, Arc::clone(&house.world.clock));
    assert_eq!(reborn.world.in_state(State::Discarded).await, [record]);
    assert!(!reborn.world.live().await.iter().any(|listing| listing.id == record));
}
