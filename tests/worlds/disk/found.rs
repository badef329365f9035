//! What must be found on a disk after whatever happened to it, and that the spool goes on from there.

use super::SimulatedDisk;
use super::work::{Books, Desk, INLINE, MIDDLING, Move, Place, Told, path};
use journal_relay::journal::RecordFields;
use journal_relay::mail::RecordId;
use journal_relay::spool::{Filter, Listing, Octets, Recovered, Spool};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Records = BTreeMap<RecordId, (Listing, RecordFields)>;

/// Opens the spool on a sound disk, checks every promise, lets it finish its work, and looks again.
pub async fn check(books: &Books, disk: &SimulatedDisk, context: &str) {
    let (desk, _) = books.open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    check_promises(&desk, context).await;
    finish(&desk, context).await;
    desk.spool.close().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(desk);
    let (desk, recovered) = books.open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(recovered, Recovered::default(), "{context}");
    desk.spool.close().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    let whole = integrity(disk);
    assert_eq!(whole, "ok", "{context}");
    assert_eq!(disk.synced_again(), Vec::<std::path::PathBuf>::new(), "{context}");
}

/// Every record is where it may be, every message is journaled, its octets are what they were, and nothing else is there.
pub async fn check_promises(desk: &Desk, context: &str) {
    let records = desk.records().await;
    let all = desk.books.ledger.all();
    for told in &all {
        check_place(told, records.get(&told.record), context);
        check_cover(told, &all, &records, context);
        check_octets(desk, told, records.get(&told.record), context).await;
    }
    let strangers: Vec<_> = records.keys().filter(|id| all.iter().all(|told| told.record != **id)).collect();
    assert!(strangers.is_empty(), "{context}: {strangers:?}");
    check_names(&records, context);
    check_files(desk, &all, &records, context).await;
}

fn check_place(told: &Told, found: Option<&(Listing, RecordFields)>, context: &str) {
    let place = match found {
        None => Place::Absent,
        Some((listing, _)) if matches!(listing.state.as_str(), "acked" | "discarded") => Place::Ended(listing.state),
        Some((listing, fields)) => Place::Live { state: listing.state, unknown: fields.outcome_unknown },
    };
    let mut allowed = told.places();
    if told.merges {
        allowed = vec![Place::Absent];
    }
    assert!(allowed.contains(&place), "{context}: {place:?} instead of one of {allowed:?}: {told:?}");
}

/// Every recipient of a message that was prepared, and not refused, is named by a record of the message.
fn check_cover(told: &Told, all: &[Told], records: &Records, context: &str) {
    let same = || all.iter().filter(|other| other.identity == told.identity);
    if !told.is_done(Move::Prepare)
        || told.asked.contains(&Move::Refuse)
        || same().any(|other| other.asked.contains(&Move::Forget))
    {
        return;
    }
    let named: BTreeSet<&str> = same()
        .filter_map(|other| records.get(&other.record))
        .flat_map(|(_, fields)| fields.recipients.iter().map(|recipient| recipient.address.as_str()))
        .collect();
    for recipient in &told.recipients {
        assert!(named.contains(recipient), "{context}: {recipient} is named by no record of {told:?}");
    }
}

/// Nobody is named twice for one message.
fn check_names(records: &Records, context: &str) {
    let mut named = BTreeSet::new();
    for (_, fields) in records.values() {
        for recipient in &fields.recipients {
            let name = (fields.original.identity, recipient.address.as_str());
            assert!(named.insert(name), "{context}: {} twice for one message", recipient.address);
        }
    }
}

async fn check_octets(desk: &Desk, told: &Told, found: Option<&(Listing, RecordFields)>, context: &str) {
    let Some((listing, _)) = found.filter(|(listing, _)| !matches!(listing.state.as_str(), "acked" | "discarded"))
    else {
        return;
    };
    assert_eq!(listing.size, told.octets.len() as u64, "{context}");
    let octets =
        desk.spool.show(told.record).await.unwrap().2.unwrap_or_else(|| panic!("{context}: no octets: {told:?}"));
    let octets = octets.read_all().unwrap_or_else(|error| panic!("{context}: {error}: {told:?}"));
    assert!(octets == told.octets, "{context}: other octets than were taken: {told:?}");
}

/// The octet files are those of live records that are large, and of the middling sort where the spool says so; no other.
async fn check_files(desk: &Desk, all: &[Told], records: &Records, context: &str) {
    let is_live = |told: &&Told| {
        let found = records.get(&told.record);
        found.is_some_and(|(listing, _)| !matches!(listing.state.as_str(), "acked" | "discarded"))
    };
    let mut expected = BTreeSet::new();
    for told in all.iter().filter(is_live) {
        let octets = desk.spool.show(told.record).await.unwrap().2;
        let is_in_file = matches!(octets, Some(Octets::File { .. }));
        let size = told.octets.len();
        assert!(is_in_file || size <= MIDDLING, "{context}: {size} octets inline: {told:?}");
        assert!(!is_in_file || size > INLINE, "{context}: {size} octets in a file: {told:?}");
        if is_in_file {
            expected.insert(told.queue_id.to_string());
        }
    }
    let files = desk.disk.files(&path().join("octets"));
    let found: BTreeSet<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, expected, "{context}");
}

/// A new message goes all the way, and everything that waits is sent.
async fn finish(desk: &Desk, context: &str) {
    let last = desk.books.message(99, &["z@x.example"], 60_000, false);
    desk.relay(last).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    desk.books.advance(Duration::from_secs(86_400));
    let live = desk.spool.list(Filter::default(), 1_000).await.unwrap();
    for listing in live.iter().filter(|listing| listing.state.as_str() == "failed") {
        let retried = desk.spool.operate(listing.id, journal_relay::spool::Operation::Retry, desk.books.now()).await;
        retried.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    let claims = desk.claim().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(claims.len(), live.len(), "{context}");
    for (which, _) in claims {
        desk.ack(which).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    assert!(desk.spool.list(Filter::default(), 9).await.unwrap().is_empty(), "{context}");
    // Files are removed right behind the answer.
    desk.spool.next_due(&"nobody".into()).await.unwrap();
    let left = desk.disk.files(&path().join("octets"));
    assert!(left.is_empty(), "{context}: {left:?}");
}

fn integrity(disk: &SimulatedDisk) -> String {
    use journal_relay::spool::disk::Disk as _;
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = path().join("spool.sqlite");
    let db = rusqlite::Connection::open_with_flags_and_vfs(file, flags, disk.vfs().unwrap()).unwrap();
    db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(())).unwrap();
    db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}
