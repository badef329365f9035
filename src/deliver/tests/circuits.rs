//! Archives that fail: how often they are tried, who waits, and what happens when they are back.

use super::archive::{Act, Archive, Script};
use super::lanes::CONNECTIONS;
use super::world::{RETRY, World, config, organization};
use super::*;
use crate::config::Retry;
use crate::deliver::{BUSY_AFTER, DOWN_AFTER, Delivery};
use crate::queue::State;
use crate::spool::Operation;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// After this test nobody waits for another attempt.
const NEVER: Duration = Duration::from_secs(3_600);
/// A first failure leads nowhere soon.
const SLOW: Retry = Retry { first: NEVER, longest: NEVER, ..RETRY };

fn nowhere() -> Route {
    Route::Maildir("/nowhere".into())
}

fn times(script: Script, count: usize, verb: &'static str, reply: &'static str) -> Script {
    (0..count).fold(script, |script, _| script.on(verb, Act::Say(reply)))
}

fn down(count: usize) -> Script {
    times(Script::default(), count, "greeting", "421 4.3.2 down\r\n")
}

/// Relays so many messages, each of which is another one.
async fn commit(world: &World, count: usize) -> Vec<RecordId> {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let mut ids = Vec::new();
    for _ in 0..count {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        ids.push(world.commit("acme", &format!("Subject: {number}\r\n\r\n")).await);
    }
    ids
}

async fn attempts(world: &World, ids: &[RecordId]) -> Vec<u32> {
    let mut attempts = Vec::new();
    for id in ids {
        attempts.push(world.listing(*id).await.attempts);
    }
    attempts
}

/// Waits until nothing is tried on a route any more.
async fn until_down(delivery: &Delivery) {
    let mut changes = delivery.office.circuits.changes();
    while delivery.route_states().iter().all(|(_, is_up)| *is_up) {
        changes.changed().await.unwrap();
    }
}

/// Commits as many records as open the circuit of a route where each first attempt fails, and gives them.
async fn open_circuit(world: &World, delivery: &Delivery, archive: &Archive) -> Vec<RecordId> {
    let mut ids = Vec::new();
    for number in 1..=DOWN_AFTER as usize {
        ids.extend(commit(world, 1).await);
        archive.hears(|heard| heard.connections == number).await;
    }
    until_down(delivery).await;
    ids
}

#[tokio::test]
async fn an_archive_that_is_down_is_probed_by_one_record_at_a_time_and_takes_all_when_it_is_back() {
    const RECORDS: usize = 100;
    const PROBES: usize = 5;
    let failing = CONNECTIONS + PROBES;
    let archive = Archive::start(down(failing)).await;
    let retry = Retry { first: Duration::from_millis(50), longest: Duration::from_millis(50), ..RETRY };
    let world = World::new(config(vec![organization("acme", plain(&archive), nowhere())], retry));
    let ids = commit(&world, RECORDS).await;
    world.start();
    let heard = archive.hears(|heard| heard.connections > CONNECTIONS).await;
    let tried = attempts(&world, &ids).await.iter().filter(|attempts| **attempts > 0).count();
    assert!(tried <= heard.connections + CONNECTIONS, "{tried} records were tried");
    archive.hears(|heard| heard.letters.len() == RECORDS).await;
    world.end().await;
    assert_eq!(world.count(State::Acked).await, RECORDS);
    let burnt: u32 = attempts(&world, &ids).await.iter().sum();
    assert_eq!(burnt as usize, RECORDS + failing, "no attempt was counted that was not made");
}

#[tokio::test]
async fn what_waits_behind_a_dead_route_is_due_at_once_when_a_probe_succeeds() {
    let archive = Archive::start(down(DOWN_AFTER as usize)).await;
    let world = World::new(config(vec![organization("acme", plain(&archive), nowhere())], SLOW));
    let delivery = world.start();
    // The first ones wait an hour each, all others have never been tried.
    let mut ids = open_circuit(&world, &delivery, &archive).await;
    ids.extend(commit(&world, 30).await);
    assert_eq!(archive.heard().connections, DOWN_AFTER as usize);
    // An operator's wish leads to an attempt now; his record is the probe.
    let urged = ids[1];
    while world.state(urged).await == State::Sending {
        tokio::task::yield_now().await;
    }
    world.spool.operate(urged, Operation::Retry, clock::system().now()).await.unwrap();
    let heard = archive.hears(|heard| heard.letters.len() == ids.len()).await;
    world.end().await;
    assert_eq!(world.count(State::Acked).await, ids.len());
    assert!(memchr::memmem::find(&heard.letters[0], urged.as_str().as_bytes()).is_some(), "the probe went first");
}

#[tokio::test]
async fn an_operator_s_wish_that_fails_leaves_the_others_alone() {
    let archive = Archive::start(down(10_000)).await;
    let world = World::new(config(vec![organization("acme", plain(&archive), nowhere())], SLOW));
    let delivery = world.start();
    let mut ids = open_circuit(&world, &delivery, &archive).await;
    ids.extend(commit(&world, 10).await);
    world.spool.operate(ids[5], Operation::Retry, clock::system().now()).await.unwrap();
    archive.hears(|heard| heard.connections == DOWN_AFTER as usize + 1).await;
    world.end().await;
    assert_eq!(archive.heard().connections, DOWN_AFTER as usize + 1);
    let expected: Vec<u32> = (0..ids.len()).map(|place| u32::from(place < DOWN_AFTER as usize || place == 5)).collect();
    assert_eq!(attempts(&world, &ids).await, expected);
}

#[tokio::test]
async fn another_route_is_not_affected_and_a_new_configuration_is_tried_at_once() {
    let (dead, alive) = (Archive::start(down(1_000)).await, Archive::start(Script::default()).await);
    let both = |route: &Archive| {
        vec![organization("acme", plain(route), nowhere()), organization("bolt", plain(&alive), nowhere())]
    };
    let world = World::new(config(both(&dead), SLOW));
    let delivery = world.start();
    open_circuit(&world, &delivery, &dead).await;
    commit(&world, 2).await;
    world.commit("bolt", "Subject: bolt\r\n\r\n").await;
    alive.hears(|heard| heard.letters.len() == 1).await;
    world.config.send_replace(config(both(&alive), SLOW));
    // Those that were tried, too: what they wait for was said on another route.
    alive.hears(|heard| heard.letters.len() == DOWN_AFTER as usize + 3).await;
    world.end().await;
}

#[tokio::test]
async fn a_reload_probes_a_dead_route_at_once() {
    let archive = Archive::start(down(DOWN_AFTER as usize)).await;
    let organizations = || vec![organization("acme", plain(&archive), nowhere())];
    let world = World::new(config(organizations(), SLOW));
    let delivery = world.start();
    open_circuit(&world, &delivery, &archive).await;
    commit(&world, 5).await;
    world.config.send_replace(config(organizations(), SLOW));
    archive.hears(|heard| heard.letters.len() == DOWN_AFTER as usize + 5).await;
    world.end().await;
}

#[tokio::test]
async fn an_organization_whose_sender_is_refused_does_not_keep_others_from_the_archive() {
    let archive = Archive::start(times(Script::default(), 1, "MAIL", "550 5.7.1 not you\r\n")).await;
    let organizations = ["acme", "bolt"].map(|name| organization(name, plain(&archive), nowhere()));
    let world = World::new(config(organizations.to_vec(), SLOW));
    let delivery = world.start();
    let refused = commit(&world, 1).await;
    until_down(&delivery).await;
    let waiting = commit(&world, 5).await;
    world.commit("bolt", "Subject: bolt\r\n\r\n").await;
    archive.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    assert_eq!(attempts(&world, &refused).await, [1]);
    assert_eq!(attempts(&world, &waiting).await, [0; 5]);
}

#[tokio::test]
async fn an_archive_that_takes_no_records_for_the_moment_is_not_hammered() {
    const RECORDS: usize = 60;
    let failing = CONNECTIONS + BUSY_AFTER as usize + 3;
    let archive = Archive::start(times(Script::default(), failing, "RCPT", "452 4.2.2 full\r\n")).await;
    let retry = Retry { first: Duration::from_millis(50), longest: Duration::from_millis(50), ..RETRY };
    let world = World::new(config(vec![organization("acme", plain(&archive), nowhere())], retry));
    let ids = commit(&world, RECORDS).await;
    world.start();
    let heard = archive.hears(|heard| heard.of("RCPT").len() > CONNECTIONS + BUSY_AFTER as usize).await;
    assert!(heard.letters.is_empty());
    let untried = attempts(&world, &ids).await.iter().filter(|attempts| **attempts == 0).count();
    assert!(untried > 0, "every record was tried");
    archive.hears(|heard| heard.letters.len() == RECORDS).await;
    world.end().await;
    assert_eq!(world.count(State::Acked).await, RECORDS);
}

#[tokio::test]
async fn what_waits_too_long_behind_a_dead_route_is_kept_as_failed_and_told() {
    let (archive, reports) = (Archive::start(down(10_000)).await, Archive::start(Script::default()).await);
    let retry = Retry { give_up: Duration::from_secs(1), ..SLOW };
    let world = World::new(config(vec![organization("acme", plain(&archive), plain(&reports))], retry));
    let delivery = world.start();
    let mut ids = open_circuit(&world, &delivery, &archive).await;
    ids.extend(commit(&world, 10).await);
    let heard = reports.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    let report = String::from_utf8_lossy(&heard.letters[0]).into_owned();
    assert!(report.contains("Subject: 13 journal records not delivered") && report.contains("Given up:      13"));
    for id in &ids {
        assert!(report.contains(&format!("X-Journal-Record: {id}")), "{id}");
    }
    assert!(report.contains("Diagnostic-Code: smtp; 421 4.3.2 down"), "{report}");
    assert_eq!((world.count(State::Failed).await, archive.heard().connections), (13, DOWN_AFTER as usize));
}
