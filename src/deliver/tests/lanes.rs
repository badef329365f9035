//! Records and reports from the spool to the archive and back: what becomes of them in the end.

use super::archive::{Act, Archive, Script};
use super::world::{RETRY, World, archive_of, config, organization};
use super::*;
use crate::config::Retry;
use crate::deliver::office::Freight;
use crate::queue::State;
use std::time::Duration;

pub(super) use crate::config::DEFAULT_CONNECTIONS as CONNECTIONS;

/// One organization, `acme`, its archive and the server that takes its reports.
async fn acme(archive: Script, reports: Script, retry: Retry) -> (World, Archive, Archive) {
    let (archive, reports) = (Archive::start(archive).await, Archive::start(reports).await);
    let world = World::running(vec![organization("acme", plain(&archive), plain(&reports))], retry);
    (world, archive, reports)
}

fn has(letter: &[u8], text: &str) -> bool {
    memchr::memmem::find(letter, text.as_bytes()).is_some()
}

#[tokio::test]
async fn a_record_that_the_archive_took_is_acked_and_gone() {
    let (world, archive, _reports) = acme(Script::default(), Script::default(), RETRY).await;
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n.1\r\n").await;
    let heard = archive.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    assert!(has(&heard.letters[0], "Subject: Numbers\r\n\r\n.1\r\n\r\n--"));
    assert_eq!(heard.of("MAIL")[0], "MAIL FROM:<amazonjournaling@acme.awsapps.com>");
    let (_, listing, octets) = world.spool.show(id).await.unwrap();
    assert_eq!((listing.state, listing.attempts), (State::Acked, 1));
    assert_eq!(listing.last_reply.as_deref(), Some("250 2.0.0 kept"));
    assert!(octets.is_none());
}

#[tokio::test]
async fn every_attempt_sends_the_same_octets_until_the_archive_has_said_yes() {
    let script = Script::default().on(".", Act::Hang).on(".", Act::Say("451 4.3.0 no\r\n")).on(".", Act::Hang);
    let (world, archive, _reports) = acme(script, Script::default(), RETRY).await;
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    let heard = archive.hears(|heard| heard.letters.len() == 4).await;
    world.end().await;
    assert!(has(&heard.letters[0], "\r\nMessage-ID: <"));
    assert!(heard.letters.iter().all(|letter| *letter == heard.letters[0]));
    let listing = world.listing(id).await;
    assert_eq!((listing.state, listing.attempts), (State::Acked, 4));
}

#[tokio::test]
async fn a_refused_record_is_kept_as_failed_and_reported_once() {
    let refusal = "550-5.7.1 no\r\n550 5.7.1 records here\r\n";
    let (world, archive, reports) =
        acme(Script::default().on("RCPT", Act::Say(refusal)), Script::default(), RETRY).await;
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    let heard = reports.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    let listing = world.listing(id).await;
    assert_eq!((listing.state, listing.attempts), (State::Failed, 1));
    assert_eq!(listing.last_reply.as_deref(), Some("550 5.7.1 no 5.7.1 records here"));
    assert_eq!((heard.of("MAIL"), heard.of("RCPT")), (vec!["MAIL FROM:<>"], vec!["RCPT TO:<postmaster@acme.example>"]));
    for text in [id.as_str(), "5.7.1 no 5.7.1 records here", "X-MS-Journal-Report", "Subject: Numbers\r\n\r\n1\r\n"] {
        assert!(has(&heard.letters[0], text), "{text}");
    }
    assert_eq!(world.spool.next_due(&archive_of("acme")).await.unwrap(), None, "nothing more to send");
    assert_eq!((archive.heard().of("RCPT").len(), reports.heard().letters.len()), (1, 1));
}

#[tokio::test]
async fn a_refused_report_causes_no_other() {
    let refuse = |script: Script| script.on("RCPT", Act::Say("550 5.1.1 nobody\r\n"));
    let (world, _archive, reports) = acme(refuse(Script::default()), refuse(Script::default()), RETRY).await;
    world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    reports.hears(|heard| heard.of("RSET").len() == 1).await;
    world.end().await;
    assert_eq!(world.spool.next_due(&archive_of("acme")).await.unwrap(), None);
    assert_eq!((reports.heard().of("RCPT").len(), world.count(State::Failed).await), (1, 1));
}

#[tokio::test]
async fn a_report_is_tried_again_until_it_is_taken() {
    let later = Script::default().on("greeting", Act::Say("421 4.3.2 busy\r\n")).on(".", Act::Hang);
    let (world, _archive, reports) = acme(Script::default().on(".", Act::Say("554 5.6.0 no\r\n")), later, RETRY).await;
    world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    let heard = reports.hears(|heard| heard.letters.len() == 2).await;
    world.end().await;
    assert_eq!(heard.letters[0], heard.letters[1]);
    assert_eq!(world.spool.next_due(&archive_of("acme")).await.unwrap(), None);
}

#[tokio::test]
async fn a_delay_is_reported_once_however_long_it_lasts() {
    let full = (0..10_000).fold(Script::default(), |script, _| script.on("RCPT", Act::Say("450 4.2.2 full\r\n")));
    let (world, archive, reports) = acme(full, Script::default(), RETRY).await;
    let ids = [world.commit("acme", "Subject: 1\r\n\r\n").await, world.commit("acme", "Subject: 2\r\n\r\n").await];
    // Both were refused, and that is kept; only then they are late by what the configuration says.
    for asked in 1.. {
        archive.hears(|heard| heard.of("RCPT").len() >= asked).await;
        let [one, other] = [world.listing(ids[0]).await, world.listing(ids[1]).await];
        if one.last_reply.is_some() && other.last_reply.is_some() {
            break;
        }
    }
    let retry = Retry { report_after: Duration::ZERO, ..RETRY };
    let route = plain(&archive);
    world.config.send_replace(config(vec![organization("acme", route, plain(&reports))], retry));
    let heard = reports.hears(|heard| heard.letters.len() == 1).await;
    for text in ["Action: delayed", "Diagnostic-Code: smtp; 450 4.2.2 full"] {
        assert!(has(&heard.letters[0], text), "{text}");
    }
    // One of them may have been on its way just then.
    assert!(ids.iter().any(|id| has(&heard.letters[0], &format!("X-Journal-Record: {id}"))));
    let willing = Archive::start(Script::default()).await;
    // Nothing is late any more by what this configuration says.
    world.config.send_replace(config(vec![organization("acme", plain(&willing), plain(&reports))], RETRY));
    willing.hears(|heard| heard.letters.len() == 2).await;
    world.end().await;
    // Its end is told when it has held.
    assert_eq!((reports.heard().letters.len(), world.spool.next_due(&archive_of("acme")).await.unwrap()), (1, None));
}

#[tokio::test]
async fn records_that_fail_together_are_told_in_one_report() {
    let refuse = (0..30).fold(Script::default(), |script, _| script.on(".", Act::Say("554 5.6.0 no\r\n")));
    let (world, _archive, reports) = acme(refuse, Script::default(), RETRY).await;
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(world.commit("acme", &format!("Subject: {number}\r\n\r\n")).await);
    }
    let heard = reports.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    assert!(has(&heard.letters[0], "Subject: 30 journal records not delivered: acme"));
    assert!(ids.iter().all(|id| has(&heard.letters[0], &format!("X-Journal-Record: {id}\r\n"))));
    assert_eq!((reports.heard().letters.len(), world.count(State::Failed).await), (1, 30));
    assert_eq!(world.spool.next_due(&archive_of("acme")).await.unwrap(), None);
}

#[tokio::test]
async fn a_record_whose_time_is_over_is_kept_as_failed_and_reported() {
    let retry = Retry { give_up: Duration::ZERO, report_after: Duration::from_secs(3_600), ..RETRY };
    let script = Script::default().on("MAIL", Act::Say("451 4.7.1 later\r\n"));
    let (world, _archive, reports) = acme(script, Script::default(), retry).await;
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    let heard = reports.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    assert!(has(&heard.letters[0], "Action: failed"), "{}", String::from_utf8_lossy(&heard.letters[0]));
    assert_eq!(world.state(id).await, State::Failed);
}

#[tokio::test]
async fn a_route_has_so_many_connections_and_no_more_for_all_organizations_together() {
    connections_of(CONNECTIONS, |server| server).await;
    connections_of(3, |server| SmtpRoute { connections: 3, ..server }).await;
    connections_of(2 * CONNECTIONS, |server| SmtpRoute { connections: 2 * CONNECTIONS, ..server }).await;
}

/// Two organizations with one route, for which there are so many connections.
async fn connections_of(count: usize, route: impl Fn(SmtpRoute) -> SmtpRoute) {
    let (open, gate) = tokio::sync::watch::channel(false);
    let many = count + 10;
    let script = (0..many).fold(Script::default(), |script, _| script.on(".", Act::Once(gate.clone())));
    let archive = Archive::start(script).await;
    let nowhere = Route::Maildir("/nowhere".into());
    let Route::Smtp(server) = plain(&archive) else { panic!("it is a server") };
    let there = Route::Smtp(route(server));
    let organizations = ["acme", "bolt"].map(|name| organization(name, there.clone(), nowhere.clone()));
    let world = World::new(config(organizations.to_vec(), RETRY));
    for number in 0..many {
        world.commit(["acme", "bolt"][number % 2], &format!("Subject: {number}\r\n\r\n")).await;
    }
    world.start();
    archive.hears(|heard| heard.letters.len() == count).await;
    let (sent, of) = (archive.heard(), world.count(State::Sending).await);
    assert_eq!(sent.letters.len(), count, "of {of} that were claimed");
    open.send_replace(true);
    let heard = archive.hears(|heard| heard.letters.len() == many).await;
    world.end().await;
    assert_eq!((heard.most_open, world.count(State::Acked).await), (count, many));
}

#[tokio::test]
async fn organizations_come_and_go_with_the_configuration_and_records_stay() {
    let archive = Archive::start(Script::default()).await;
    let nowhere = Route::Maildir("/nowhere".into());
    let named = |names: &[&str]| {
        let organizations = names.iter().map(|name| organization(name, plain(&archive), nowhere.clone()));
        config(organizations.collect(), RETRY)
    };
    let world = World::new(named(&["acme"]));
    world.start();
    let early = world.commit("bolt", "Subject: early\r\n\r\n").await;
    world.commit("acme", "Subject: acme\r\n\r\n").await;
    archive.hears(|heard| heard.letters.len() == 1).await;
    assert_eq!(world.state(early).await, State::Waiting);

    world.config.send_replace(named(&["bolt"]));
    archive.hears(|heard| heard.letters.len() == 2).await;
    let late = world.commit("acme", "Subject: late\r\n\r\n").await;
    world.commit("bolt", "Subject: bolt\r\n\r\n").await;
    let heard = archive.hears(|heard| heard.letters.len() == 3).await;
    world.end().await;
    assert_eq!((world.state(early).await, world.state(late).await), (State::Acked, State::Waiting));
    assert!(heard.letters.iter().all(|letter| !has(letter, "Subject: late")));
}

#[tokio::test]
async fn waiting_records_follow_a_changed_route() {
    let down = (0..10_000).fold(Script::default(), |script, _| script.on("greeting", Act::Say("421 4.3.2 down\r\n")));
    let (old, new) = (Archive::start(down).await, Archive::start(Script::default()).await);
    let nowhere = Route::Maildir("/nowhere".into());
    let world = World::running(vec![organization("acme", plain(&old), nowhere.clone())], RETRY);
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    old.hears(|heard| heard.connections == 2).await;
    world.config.send_replace(config(vec![organization("acme", plain(&new), nowhere)], RETRY));
    new.hears(|heard| heard.letters.len() == 1).await;
    world.end().await;
    assert_eq!(world.state(id).await, State::Acked);
}

#[tokio::test]
async fn the_end_waits_for_attempts_under_way_and_begins_none() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let (world, archive, _reports) = acme(Script::default().on(".", Act::Once(gate)), Script::default(), RETRY).await;
    let first = world.commit("acme", "Subject: first\r\n\r\n").await;
    archive.hears(|heard| heard.letters.len() == 1).await;
    world.drain.begin();
    let second = world.commit("acme", "Subject: second\r\n\r\n").await;
    assert!(world.drain.open_labels().contains(&format!("record {first}")));
    open.send_replace(true);
    world.end().await;
    assert_eq!((world.state(first).await, world.state(second).await), (State::Acked, State::Waiting));
    assert_eq!(archive.heard().letters.len(), 1);
}

#[tokio::test]
async fn what_was_claimed_before_the_end_and_not_sent_is_put_back() {
    let archive = Archive::start(Script::default()).await;
    let organizations = vec![organization("acme", plain(&archive), plain(&archive))];
    let world = World::new(config(organizations, RETRY));
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    let claims = world.spool.claim(&archive_of("acme"), clock::system().now(), 5).await.unwrap();
    assert_eq!((claims.len(), world.state(id).await), (1, State::Sending));
    world.drain.begin();
    let delivery = world.start();
    for claim in claims {
        let slot = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
        let way = delivery.office.way(&archive_of("acme"), Freight::Records).unwrap();
        let (office, pass) = (Arc::clone(&delivery.office), delivery.office.circuits.pass(way.line()));
        world.drain.spawn_named("a courier", |name| {
            office.carry_records(claim, pass, (slot, (way.label().to_owned(), way.route.connections())), name)
        });
    }
    world.drain.done().await;
    let listing = world.listing(id).await;
    assert_eq!((listing.state, listing.attempts, archive.heard().connections), (State::Waiting, 0, 0));
}

#[tokio::test]
async fn a_record_kept_in_a_maildir_is_acked() {
    let directory = tempfile::tempdir().unwrap();
    let route = Route::Maildir(directory.path().join("box"));
    let world = World::running(vec![organization("acme", route.clone(), route)], RETRY);
    let mut changes = world.spool.changes();
    let id = world.commit("acme", "Subject: Numbers\r\n\r\n1\r\n").await;
    while world.state(id).await != State::Acked {
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(std::fs::read_dir(directory.path().join("box/new")).unwrap().count(), 1);
    world.end().await;
}

#[tokio::test]
async fn many_records_over_few_connections_arrive_once_each() {
    const MANY: usize = 150;
    let archive = Archive::start(Script::offering(&["PIPELINING"])).await;
    let world = World::new(config(vec![organization("acme", plain(&archive), plain(&archive))], RETRY));
    for number in 0..MANY {
        world.commit("acme", &format!("Subject: {number}\r\n\r\n")).await;
    }
    world.start();
    let heard = archive.hears(|heard| heard.letters.len() >= MANY).await;
    world.end().await;
    let subject = |letter: &Vec<u8>| {
        let text = String::from_utf8_lossy(letter).into_owned();
        text.lines().filter_map(|line| line.strip_prefix("Subject: ")?.parse().ok()).next_back()
    };
    let mut numbers: Vec<usize> = heard.letters.iter().filter_map(subject).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..MANY).collect::<Vec<_>>());
    assert_eq!((world.count(State::Acked).await, heard.most_open <= CONNECTIONS), (MANY, true));
}

#[tokio::test]
async fn what_is_claimed_behind_a_record_that_hangs_is_carried_by_others() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let script = Script::offering(&["PIPELINING"]).on(".", Act::Once(tokio::sync::watch::channel(true).1));
    let archive = Archive::start(script.on(".", Act::Once(gate))).await;
    let world = World::new(config(vec![organization("acme", plain(&archive), plain(&archive))], RETRY));
    const MANY: usize = CONNECTIONS * 4;
    for number in 0..MANY {
        world.commit("acme", &format!("Subject: {number}\r\n\r\n")).await;
    }
    world.start();
    // All others, though one connection stands still.
    archive.hears(|heard| heard.letters.len() == MANY).await;
    while world.count(State::Acked).await < MANY - 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.count(State::Sending).await, 1);
    open.send_replace(true);
    world.end().await;
    assert_eq!(world.count(State::Acked).await, MANY);
}
