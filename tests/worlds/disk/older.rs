//! A spool of an older version, with what a morning's work leaves in it, is opened; the power is lost at every operation of the
//! start. Nothing is lost, and the next start goes on.

use super::day::half_a_day;
use super::found::check;
use super::power::{for_each, run, where_it_was};
use super::work::{Books, ORGANIZATION, ROOT, path};
use super::{Aftermath, Fault, SimulatedDisk};
use journal_relay::spool::Spool;
use journal_relay::spool::disk::Disk as _;
use journal_relay::spool::embedded::MIGRATIONS;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::collections::BTreeMap;

/// The first version whose reports are about more than one record.
const DIGESTS: usize = 5;
/// Reports that were still to be sent when a spool without digests was left.
const OLD_REPORTS: usize = 2;

/// The rows of each table, by the names of their columns.
type Rows = BTreeMap<String, Vec<Vec<(String, Value)>>>;

#[test]
fn a_spool_of_any_older_version_outlasts_a_loss_of_power_at_every_operation_of_its_first_start() {
    for_each(1..MIGRATIONS.len() as u64, |version| {
        run(async {
            let (books, disk) = older(version as usize).await;
            let before = counts(&disk.after_power_cut(Aftermath::Kept));
            let mut cut = 0;
            // The start that does not get as far as the loss of power is the last.
            while lose_power(&books, &disk, &before, version as usize, cut).await {
                cut += 1;
            }
            assert!(cut > 10, "a migration from version {version} has {cut} operations");
        });
    });
}

/// Whether the start had so many operations.
async fn lose_power(
    books: &Books,
    disk: &SimulatedDisk,
    before: &BTreeMap<String, i64>,
    version: usize,
    cut: u64,
) -> bool {
    let starting = disk.after_power_cut(Aftermath::Kept);
    starting.plan(cut, Fault::PowerCut);
    let opened = books.open(&starting).map(drop);
    if opened.is_ok() && !starting.is_dead() {
        return false;
    }
    let aftermath = if cut.is_multiple_of(2) { Aftermath::Lost } else { Aftermath::Torn(cut) };
    let context = format!("from version {version}, power lost before {} {aftermath:?}", where_it_was(&starting));
    let found = starting.after_power_cut(aftermath);
    let (desk, _) = books.copy().open(&found).unwrap_or_else(|error| panic!("{context}: {error}"));
    desk.spool.close().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(desk);
    let after = counts(&found);
    for table in ["record", "message", "secret", "notice", "report"] {
        let grown = if table == "notice" && version < DIGESTS { OLD_REPORTS as i64 } else { 0 };
        let expected =
            if table == "report" && version < DIGESTS { 0 } else { before.get(table).copied().unwrap_or(0) + grown };
        assert_eq!(after[table], expected, "{context}: rows of {table}");
    }
    check(&books.copy(), &found.after_kill(), &context).await;
    true
}

/// A morning's work in a spool of this version, all of it durable.
async fn older(version: usize) -> (Books, SimulatedDisk) {
    let (books, disk) = (Books::new(), SimulatedDisk::new(ROOT, 1));
    half_a_day(&books, &disk).await.unwrap();
    let disk = disk.after_kill();
    let mut rows = Rows::new();
    {
        let db = open(&disk);
        for table in tables(&db) {
            let found = read(&db, &table);
            rows.insert(table, found);
        }
    }
    for name in ["spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"] {
        let _ = disk.remove(&path().join(name));
    }
    let db = open(&disk);
    for (done, step) in MIGRATIONS[..version].iter().enumerate() {
        db.execute_batch(step).unwrap();
        db.pragma_update(None, "user_version", (done + 1) as i64).unwrap();
    }
    write(&db, &rows, version);
    if !tables(&db).iter().any(|table| table == "front") {
        // Nor has it a log in front.
        disk.remove(&path().join("front")).unwrap();
    }
    drop(db);
    assert!(!rows["record"].is_empty() && !rows["notice"].is_empty());
    (books, disk.after_power_cut(Aftermath::Kept))
}

/// Puts back what this version has a place for; what it had and later ones have not is made up.
fn write(db: &Connection, rows: &Rows, version: usize) {
    for table in tables(db) {
        if table == "report" && version < DIGESTS {
            (0..OLD_REPORTS).for_each(|number| write_old_report(db, number, &rows["record"][0]));
            continue;
        }
        let known = columns(db, &table);
        for row in rows.get(&table).into_iter().flatten() {
            let mut row: Vec<_> = row.iter().filter(|(name, _)| known.contains(name)).cloned().collect();
            if known.iter().any(|name| name == "delay_reported") {
                row.push(("delay_reported".to_owned(), Value::Integer(0)));
            }
            let names: Vec<_> = row.iter().map(|(name, _)| name.as_str()).collect();
            let places = vec!["?"; row.len()].join(", ");
            let insert = format!("INSERT INTO {table} ({}) VALUES ({places})", names.join(", "));
            db.execute(&insert, params_from_iter(row.iter().map(|(_, value)| value))).unwrap();
        }
    }
}

fn write_old_report(db: &Connection, number: usize, record: &[(String, Value)]) {
    let Some((_, Value::Text(record))) = record.iter().find(|(name, _)| name == "id") else {
        panic!("a record has an id")
    };
    let id = format!("01jcb4x5w0rrrrr{number}");
    let fields = format!(
        r#"{{"id":"{id}","organization":"{ORGANIZATION}","kind":"failed","record":"{record}","date":1794304800000,
        "message_uuid":"99999999-2222-4333-8444-555555555555","boundary":"11111111-2222-4333-8444-555555555555",
        "route":"mx:x.example","reply":"550 no","reply_is_smtp":true,"attempts":3,"next_attempt":null}}"#
    );
    let insert = "INSERT INTO report (id, organization, record, state, attempts, due, fields) VALUES (?, ?, ?, 'waiting', 0, 0, ?)";
    db.execute(insert, [&id, ORGANIZATION, record, &fields]).unwrap();
}

pub(super) fn counts(disk: &SimulatedDisk) -> BTreeMap<String, i64> {
    let db = open(disk);
    let count = |table: &String| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    tables(&db).into_iter().map(|table| (table.clone(), count(&table))).collect()
}

fn tables(db: &Connection) -> Vec<String> {
    texts(db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
}

fn columns(db: &Connection, table: &str) -> Vec<String> {
    texts(db, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"))
}

fn texts(db: &Connection, question: &str) -> Vec<String> {
    let mut statement = db.prepare(question).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn read(db: &Connection, table: &str) -> Vec<Vec<(String, Value)>> {
    let names = columns(db, table);
    let mut statement = db.prepare(&format!("SELECT * FROM {table} ORDER BY rowid")).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        names.iter().enumerate().map(|(place, name)| Ok((name.clone(), row.get(place)?))).collect()
    };
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

fn open(disk: &SimulatedDisk) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = path().join("spool.sqlite");
    let db = Connection::open_with_flags_and_vfs(file, flags, disk.vfs().unwrap()).unwrap();
    db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(())).unwrap();
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    db
}
