//! A spool that an earlier version left: what waits there is sent, and what was told is not told again.

use super::*;
use crate::journal::Outage;
use crate::spool::embedded::schema::{DATABASE, MIGRATIONS, migrate};
use crate::spool::{Draft, Followers, Warned};
use rusqlite::params;

/// The schema before organizations could have several archives.
const BEFORE_ARCHIVES: usize = 8;

#[tokio::test]
async fn a_record_of_an_earlier_version_gets_its_archive_and_what_was_told_of_it_stays_told() {
    let world = World::embedded();
    let directory = world.directory.path().join("earlier");
    std::fs::create_dir(&directory).unwrap();
    let mut db = Connection::open(directory.join(DATABASE)).unwrap();
    migrate(&mut db, &MIGRATIONS[..BEFORE_ARCHIVES]).unwrap();
    let queue_id = QueueId::new(world.now(), &crate::mail::OsEntropy);
    let Draft { records, .. } = draft(&Message::new(1, &["a@x.example"]), queue_id, b"A: b\r\n\r\n", world.now());
    let fields = &records[0].fields;
    let json = serde_json::to_string(fields).unwrap();
    assert!(!json.contains("copy_of") && !json.contains("replay"), "as it was written: {json}");
    db.execute("INSERT INTO message VALUES (?, 0, 8, ?)", params![queue_id.as_str(), b"A: b\r\n\r\n"]).unwrap();
    let record = "INSERT INTO record (id, queue_id, organization, identity, created, window, state, before, held, sealed, \
                  attempts, next_attempt, due, last_reply, fields) \
                  VALUES (?, ?, ?, ?, ?, 0, 'deferred', 'waiting', 0, 1, 3, 0, 0, '451 later', ?)";
    let identity = fields.original.identity.as_slice();
    let (id, created) = (fields.id, world.now().as_millis());
    db.execute(record, params![id.as_str(), queue_id.as_str(), ORGANIZATION, identity, created, json]).unwrap();
    let outage = Outage {
        archive: String::new(),
        route: "smtp://archive.example.com:25".into(),
        since: world.now(),
        reply: "451 later".into(),
        reply_is_smtp: true,
        shut: false,
        waiting: 1,
        next_probe: None,
    };
    let told = serde_json::to_string(&Warned::of(outage, None, world.now())).unwrap();
    let told = told.replacen("\"archive\":\"\",", "", 1);
    db.execute("INSERT INTO warned VALUES (?, ?)", params![ORGANIZATION, told]).unwrap();
    drop(db);

    let (spool, recovered) = EmbeddedSpool::open(&directory, options(&world.clock)).unwrap();
    assert_eq!(recovered.records, 1);
    let keys = vec!["a@one.example".to_owned(), "b@two.example".to_owned()];
    let followers = spool.follow(ORGANIZATION, keys.clone(), world.now()).await.unwrap();
    assert_eq!(followers, Followers { redirected: 1, superseded: 0 });
    assert_eq!(spool.follow(ORGANIZATION, keys, world.now()).await.unwrap(), Followers::default());
    let backlog = spool.backlog(&archive("a@one.example")).await.unwrap();
    assert!(backlog.warned.is_some_and(|warned| warned.lasts()));
    let claim = spool.claim(&archive("a@one.example"), world.now(), 9).await.unwrap().remove(0);
    assert_eq!((claim.fields.id, claim.status.attempts), (id, 4));
    assert_eq!(claim.octets.read_all().unwrap(), b"A: b\r\n\r\n"[..]);
}
