//! What is taken in front of the database, and what leaves it first.

mod damage;

use super::super::decide::{Body, Prepared};
use super::super::{FrontBounds, rows, schema};
use super::*;
use crate::mail::OsEntropy;
use crate::queue::State;
use crate::spool::disk::{SharedDisk, system};
use crate::spool::fixtures::{Message, ORGANIZATION, START, draft, uuid_of};
use crate::spool::reserve::Reserve;
use crate::spool::{Claim, Outcome, Verdict};
use std::sync::Arc;

/// Small ones.
const BOUNDS: FrontBounds = FrontBounds { records: 4_096, octets: 24 << 20, log_octets: 1 << 20 };

/// Of each message.
const OCTETS: &[u8] = b"octets";

/// A front and its database.
struct House {
    directory: tempfile::TempDir,
    disk: SharedDisk,
    db: Connection,
    store: Arc<OctetStore>,
    front: Front,
    now: Timestamp,
}

impl House {
    fn new(bounds: FrontBounds) -> Self {
        let (directory, disk) = (tempfile::tempdir().unwrap(), system());
        let path = directory.path();
        let mut db = schema::open_writable(&*disk, path, true).unwrap();
        schema::migrate(&mut db, schema::MIGRATIONS).unwrap();
        let reserve = Reserve::beside(Arc::clone(&disk), path);
        let store = OctetStore::open(Arc::clone(&disk), path.join("octets"), reserve).unwrap();
        let front = renew(&db, &disk, path, bounds).unwrap().unwrap();
        Self { directory, disk, db, store, front, now: Timestamp::from_millis(START) }
    }

    /// Asks a step; what it has brought is durable where it was taken here, and gone where not.
    fn ask<T>(&mut self, step: impl FnOnce(&mut FrontStep<'_>) -> Result<Place<T>, SpoolError>) -> Place<T> {
        let (db, store, effects) = (&self.db, &self.store, Effects::default());
        let place = step(&mut FrontStep { front: &mut self.front, db, store, effects }).unwrap();
        match place {
            Place::Taken(_) => self.front.commit().unwrap(),
            Place::Apart | Place::Behind => self.front.undo(),
        }
        place
    }

    /// The same for one that is taken here.
    fn take<T>(&mut self, step: impl FnOnce(&mut FrontStep<'_>) -> Result<Place<T>, SpoolError>) -> T {
        match self.ask(step) {
            Place::Taken(given) => given,
            Place::Apart | Place::Behind => panic!("the database has to take it"),
        }
    }

    /// Takes a message, and asks for the verdict on it.
    fn relay(&mut self, message: &Message) -> (RecordId, Place<()>) {
        let (now, queue_id) = (self.now, QueueId::new(self.now, &OsEntropy));
        let records = draft(message, queue_id, OCTETS, now).records;
        let records: Vec<_> = records.into_iter().map(|record| Kept::prepared(record, uuid_of)).collect();
        let id = records[0].fields.id;
        let body = Body::Inline(Bytes::from_static(OCTETS), None);
        let prepared = Prepared { queue_id, size: OCTETS.len() as u64, body, records };
        self.take(|step| prepare(step, &prepared));
        (id, self.ask(|step| decide(step, queue_id, Verdict::Accepted, now, uuid_of)))
    }

    fn relay_here(&mut self, identity: u8) -> RecordId {
        let (id, place) = self.relay(&Message { coalesce: Duration::ZERO, ..Message::new(identity, &["a@x.example"]) });
        assert!(matches!(place, Place::Taken(())));
        id
    }

    fn claim(&mut self, limit: usize) -> Vec<Claim> {
        let (archive, now) = (Archive::from(ORGANIZATION), self.now);
        self.take(|step| claim(step, &archive, now, limit, uuid_of))
    }

    fn recover(&mut self) -> Result<(), SpoolError> {
        recover(&mut self.db, &self.disk, self.directory.path())
    }

    fn renew(&mut self) {
        self.front = renew(&self.db, &self.disk, self.directory.path(), BOUNDS).unwrap().unwrap();
    }

    fn defer(&mut self, id: RecordId, by: Duration) -> Timestamp {
        let (now, next_attempt) = (self.now, self.now.plus(by));
        let later = Outcome::Deferred { reply: "451 4.3.0 later".to_owned(), next_attempt };
        self.take(|step| settle(step, id, &later, now));
        next_attempt
    }
}

#[test]
fn a_record_that_is_deferred_waits_here_is_sent_again_and_comes_through_a_kill() {
    let mut house = House::new(BOUNDS);
    let id = house.relay_here(1);
    let mut sent = Vec::new();
    for attempts in 1..=2 {
        let claim = house.claim(9).pop().unwrap();
        assert_eq!((claim.fields.id, claim.status.attempts), (id, attempts));
        sent.push(claim.fields);
        let next_attempt = house.defer(id, Duration::from_secs(60));
        assert_eq!(house.front.agenda().get(&Archive::from(ORGANIZATION)), Some(&next_attempt));
        assert!(house.claim(9).is_empty(), "not before its time");
        house.now = next_attempt;
    }
    assert!(rows::lacks(&house.db, id).unwrap(), "all that was done here");
    house.recover().unwrap();
    let kept = rows::find(&house.db, id).unwrap();
    let standing = &kept.standing;
    assert_eq!((standing.state, standing.attempts, standing.due()), (State::Deferred, 2, Some(house.now)));
    assert_eq!(standing.last_reply.as_deref(), Some("451 4.3.0 later"));
    sent.push(kept.fields);
    assert!(sent.iter().all(|fields| *fields == sent[0]), "a repeat is the same to the last octet");
}

#[test]
fn a_message_without_a_message_id_is_taken_here_unless_an_equal_one_is_known() {
    let mut house = House::new(BOUNDS);
    let nameless = |identity| Message { message_id: false, ..Message::new(identity, &["a@x.example"]) };
    assert!(matches!(house.relay(&nameless(1)).1, Place::Taken(())));
    assert!(matches!(house.relay(&nameless(2)).1, Place::Taken(())));
    assert!(matches!(house.relay(&nameless(1)).1, Place::Behind), "here");
    let stranger = Message { organizations: vec!["another"], ..nameless(1) };
    assert!(matches!(house.relay(&stranger).1, Place::Taken(())), "of another organization");
    house.recover().unwrap();
    house.renew();
    assert!(matches!(house.relay(&nameless(2)).1, Place::Behind), "in the database");
    assert!(matches!(house.relay(&nameless(3)).1, Place::Taken(())));
}

#[test]
fn what_is_deferred_the_longest_leaves_first_and_then_what_is_due_first() {
    let mut house = House::new(FrontBounds { records: 8, ..BOUNDS });
    let mut records = Vec::new();
    for identity in 1..=10 {
        house.now = house.now.plus(Duration::from_millis(1));
        records.push(house.relay_here(identity));
    }
    assert_eq!(house.claim(3).len(), 3);
    for (place, minutes) in [(0, 1), (1, 3), (2, 2)] {
        house.defer(records[place], Duration::from_secs(60 * minutes));
    }
    // One that waits for others of its message is not deferred.
    house.now = house.now.plus(Duration::from_millis(1));
    let (window, place) =
        house.relay(&Message { coalesce: Duration::from_secs(3_600), ..Message::new(11, &["a@x.example"]) });
    assert!(matches!(place, Place::Taken(())));
    for (number, place) in [1, 2, 0, 3, 4].into_iter().enumerate() {
        let Choice::Some(leaving) = house.front.choose(house.now).unwrap() else { panic!("the {number}th") };
        assert!(leaving.has(records[place]) && !leaving.has(window), "the {number}th");
        house.front.leave(&leaving).unwrap();
        // As many wait as before, more than may.
        house.now = house.now.plus(Duration::from_millis(1));
        house.relay_here(20 + u8::try_from(number).unwrap());
    }
}

#[test]
fn what_archives_have_said_counts_as_what_is_here() {
    let mut house = House::new(FrontBounds { octets: 32 << 10, ..BOUNDS });
    let ids: Vec<_> = (1..=8).map(|identity| house.relay_here(identity)).collect();
    assert!(!house.front.is_ripe() && !house.front.is_full());
    assert_eq!(house.claim(9).len(), ids.len());
    let (now, next_attempt) = (house.now, house.now.plus(Duration::from_secs(60)));
    for (place, id) in ids.into_iter().enumerate() {
        let later = Outcome::Deferred { reply: format!("451 {}", "x".repeat(8 << 10)), next_attempt };
        house.take(|step| settle(step, id, &later, now));
        assert_eq!((house.front.is_ripe(), house.front.is_full()), (place >= 2, place >= 7), "{place}");
    }
}
