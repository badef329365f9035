//! The database: how it is opened, what it holds, how an older one becomes a current one.
//!
//! `PRAGMA user_version` is the schema's number, the count of [`MIGRATIONS`] applied. Each step runs in the same
//! transaction as the new number. A number from the future is refused: an older program must not guess.

use crate::spool::SpoolError;
use crate::spool::disk::Disk;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, ffi};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The database's name in the spool's directory.
pub(super) const DATABASE: &str = "spool.sqlite";
/// Its write-ahead log, as SQLite calls it.
pub(super) const LOG: &str = "spool.sqlite-wal";
/// How long one process waits for another's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements kept parsed for each connection.
const STATEMENTS: usize = 64;
/// Octets of the write-ahead log that are kept after a checkpoint; a longer one is cut.
const WAL_KEPT: i64 = 64 << 20;

/// What leads from each version to the next; the first makes version 1 out of nothing. Only ever added to.
pub const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE message (
        queue_id TEXT PRIMARY KEY,
        received INTEGER NOT NULL,
        size INTEGER NOT NULL,
        octets BLOB                     -- null: in the file of that id
    ) STRICT;
    CREATE TABLE record (
        id TEXT PRIMARY KEY,
        queue_id TEXT NOT NULL,
        organization TEXT NOT NULL,
        identity BLOB NOT NULL,
        created INTEGER NOT NULL,       -- times in milliseconds since 1970
        window INTEGER NOT NULL,        -- how long it may be joined after the verdict, milliseconds
        state TEXT NOT NULL,
        before TEXT NOT NULL,
        held INTEGER NOT NULL,
        sealed INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt INTEGER,
        due INTEGER,                    -- next_attempt where one is planned
        last_reply TEXT,
        delay_reported INTEGER NOT NULL,
        reason TEXT,
        ended INTEGER,
        fields TEXT NOT NULL            -- journal::RecordFields as JSON
    ) STRICT;
    CREATE INDEX record_due ON record (organization, due, id) WHERE due IS NOT NULL;
    CREATE INDEX record_identity ON record (organization, identity, sealed);
    CREATE INDEX record_message ON record (queue_id);
    CREATE INDEX record_live ON record (id) WHERE ended IS NULL;
    CREATE INDEX record_ended ON record (state, ended) WHERE ended IS NOT NULL;
    CREATE TABLE report (
        id TEXT PRIMARY KEY,
        organization TEXT NOT NULL,
        record TEXT NOT NULL,
        state TEXT NOT NULL,            -- waiting, sending or failed
        attempts INTEGER NOT NULL,
        due INTEGER,
        last_reply TEXT,
        ended INTEGER,
        fields TEXT NOT NULL            -- journal::ReportFields as JSON
    ) STRICT;
    CREATE INDEX report_due ON report (organization, due, id) WHERE due IS NOT NULL;
    CREATE INDEX report_ended ON report (ended) WHERE ended IS NOT NULL;
",
    "
    CREATE TABLE secret (
        name TEXT PRIMARY KEY,
        octets BLOB NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE record ADD COLUMN message_uuid TEXT;   -- once it is sealed
    UPDATE record SET message_uuid = json_extract(fields, '$.message_uuid') WHERE sealed;
    CREATE INDEX record_message_uuid ON record (message_uuid) WHERE message_uuid IS NOT NULL;
",
    "
    ALTER TABLE record ADD COLUMN owes INTEGER NOT NULL DEFAULT 0;   -- a retry is owed for its lost verdict
    CREATE INDEX record_owes ON record (organization, identity) WHERE owes = 1;
",
    "
    ALTER TABLE record DROP COLUMN delay_reported;
    ALTER TABLE record ADD COLUMN urged INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX record_urged ON record (organization, due, id) WHERE urged AND due IS NOT NULL;
    CREATE TABLE notice (               -- what is still to be told, oldest first
        number INTEGER PRIMARY KEY,
        organization TEXT NOT NULL,
        fields TEXT NOT NULL            -- journal::Notice as JSON
    ) STRICT;
    CREATE INDEX notice_organization ON notice (organization, number);
    CREATE TABLE pace (                 -- how each organization is told
        organization TEXT PRIMARY KEY,
        due INTEGER,                    -- when its notices become a report
        fields TEXT NOT NULL            -- queue::Pace as JSON
    ) STRICT;
    CREATE TABLE warned (               -- delays that have been told, and their ends
        organization TEXT PRIMARY KEY,
        fields TEXT NOT NULL            -- spool::Warned as JSON
    ) STRICT;
    -- Reports were about one record each. Failures that were not told yet become notices; a delay that lasts is told anew.
    INSERT INTO notice (organization, fields)
        SELECT organization, json_object(
            'record', record, 'cause', iif(fields ->> 'kind' = 'bounced', 'bounced', 'refused'),
            'at', fields ->> 'date', 'message_id', '', 'original_message_id', NULL,
            'created', fields ->> 'date', 'recipients', 0, 'attempts', fields ->> 'attempts', 'next_attempt', NULL,
            'route', fields ->> 'route', 'reply', fields ->> 'reply', 'reply_is_smtp', fields -> 'reply_is_smtp')
        FROM report WHERE ended IS NULL AND fields ->> 'kind' <> 'delayed' ORDER BY id;
    INSERT INTO pace (organization, due, fields)
        SELECT organization, 0, json_object(
            'first', 0, 'last', 0, 'told', NULL, 'reports', 0, 'named', count(*), 'more', 0)
        FROM notice GROUP BY organization;
    DROP TABLE report;
    CREATE TABLE report (
        id TEXT PRIMARY KEY,
        organization TEXT NOT NULL,
        state TEXT NOT NULL,            -- waiting, sending or failed
        attempts INTEGER NOT NULL,
        due INTEGER,
        last_reply TEXT,
        ended INTEGER,
        fields TEXT NOT NULL            -- journal::ReportFields as JSON
    ) STRICT;
    CREATE INDEX report_due ON report (organization, due, id) WHERE due IS NOT NULL;
    CREATE INDEX report_ended ON report (ended) WHERE ended IS NOT NULL;
",
    "
    -- What the figures of the spool read: live records and large messages alone.
    CREATE INDEX record_figures ON record (organization, state, held, created, ended) WHERE ended IS NULL;
    CREATE INDEX message_files ON message (size, octets) WHERE octets IS NULL;
    -- One row, written to see whether anything can be.
    CREATE TABLE probe (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE gap (                  -- messages that were relayed without a record
        id INTEGER PRIMARY KEY,
        report TEXT NOT NULL UNIQUE,    -- which told it; a gap is noted once
        organization TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        reason TEXT NOT NULL,
        queue_ids TEXT NOT NULL         -- of the first of them, JSON
    ) STRICT;
    CREATE INDEX gap_until ON gap (until);
",
    "
    CREATE TABLE pause (                -- times in which an organization's journaling was switched off
        id INTEGER PRIMARY KEY,
        organization TEXT NOT NULL,
        since INTEGER NOT NULL,
        off_generation INTEGER NOT NULL,
        off_reason TEXT,
        until INTEGER,                  -- NULL while it lasts
        on_generation INTEGER,
        on_reason TEXT
    ) STRICT;
    CREATE UNIQUE INDEX pause_open ON pause (organization) WHERE until IS NULL;
",
    "
    -- An organization may have several archives.
    ALTER TABLE record ADD COLUMN archive TEXT NOT NULL DEFAULT '';    -- the key of where it goes; '' until a start knows
    ALTER TABLE record ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;   -- of others: 0 none, 1 each is needed, 2 one is enough
    ALTER TABLE record ADD COLUMN retained INTEGER NOT NULL DEFAULT 0; -- delivered, and its octets are kept
    ALTER TABLE record ADD COLUMN replay_of TEXT;                      -- the record that was delivered and is sent again
    DROP INDEX record_due;
    CREATE INDEX record_due ON record (organization, archive, due, id) WHERE due IS NOT NULL;
    DROP INDEX record_urged;
    CREATE INDEX record_urged ON record (organization, archive, due, id) WHERE urged AND due IS NOT NULL;
    DROP INDEX record_figures;
    CREATE INDEX record_figures ON record (organization, state, held, created, archive, ended) WHERE ended IS NULL;
    CREATE INDEX record_retained ON record (organization, ended) WHERE retained;
    CREATE INDEX record_replay ON record (replay_of) WHERE replay_of IS NOT NULL;
    ALTER TABLE warned RENAME TO warned_of_one;
    CREATE TABLE warned (               -- delays that have been told, and their ends
        organization TEXT NOT NULL,
        archive TEXT NOT NULL,
        fields TEXT NOT NULL,           -- spool::Warned as JSON
        PRIMARY KEY (organization, archive)
    ) STRICT;
    INSERT INTO warned (organization, archive, fields) SELECT organization, '', fields FROM warned_of_one;
    DROP TABLE warned_of_one;
",
    "
    -- A later version that rewrites records or messages has to bring what the log in front has into the tables first.
    CREATE TABLE front (                -- one row: which generation of the log in front has what is lacking here
        id INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE front ADD COLUMN half INTEGER NOT NULL DEFAULT 0;   -- where the second half of its file begins; 0: it has one part
",
    "
    ALTER TABLE front ADD COLUMN first INTEGER;     -- the first generation that the file may have; null: not known
    ALTER TABLE front ADD COLUMN last INTEGER;      -- the last one that it may have without being another database's
",
];

/// Opens the database for writing; makes an empty one (mode 0600) when `create` says so.
pub(super) fn open_writable(disk: &dyn Disk, directory: &Path, create: bool) -> Result<Connection, SpoolError> {
    let path = directory.join(DATABASE);
    let failed = |error: io::Error| SpoolError::Unusable(format!("{}: {error}", path.display()));
    if create {
        // SQLite gives its other files the mode of this one.
        match disk.create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
    } else {
        match disk.length(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Unusable(format!("there is no spool in {}", directory.display())));
            }
            found => drop(found.map_err(failed)?),
        }
    }
    let db = connect(disk, &path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| unusable(&path, &error))?;
    prepare_connection(&db)
        .and_then(|()| if disk.vfs().is_some() { have_it_alone(&db) } else { Ok(()) })
        .and_then(|()| prepare_writer(&db))
        .map_err(|error| unusable(&path, &error))?;
    Ok(db)
}

/// Opens the database for reading alone.
pub(super) fn open_readable(disk: &dyn Disk, directory: &Path) -> rusqlite::Result<Connection> {
    let db = connect(disk, &directory.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    prepare_connection(&db)?;
    Ok(db)
}

fn connect(disk: &dyn Disk, path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match disk.vfs() {
        None => Connection::open_with_flags(path, flags),
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
    }
}

/// Brings the schema up to date, step by step, each in a transaction of its own.
pub(super) fn migrate(db: &mut Connection, migrations: &[&str]) -> Result<(), SpoolError> {
    let newest = migrations.len();
    loop {
        let found = version(db)?;
        if found > newest {
            return Err(refused(found, newest, "it was written by a newer version of this program"));
        }
        let Some(step) = migrations.get(found) else { return Ok(()) };
        let migrated = db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", i64::try_from(found + 1).unwrap_or(i64::MAX))?;
            transaction.commit()
        });
        migrated.map_err(|error| {
            SpoolError::Unusable(format!("its schema can't be brought from version {found} to {}: {error}", found + 1))
        })?;
    }
}

/// Refuses any schema but the current one: who comes beside a daemon must not change it.
pub(super) fn require_current(db: &Connection) -> Result<(), SpoolError> {
    let (found, newest) = (version(db)?, MIGRATIONS.len());
    match found.cmp(&newest) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(refused(found, newest, "it was written by a newer version of this program")),
        std::cmp::Ordering::Less => Err(refused(found, newest, "the daemon of this version has to be started once")),
    }
}

fn version(db: &Connection) -> Result<usize, SpoolError> {
    db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
        .map_err(|error| SpoolError::Unusable(error.to_string()))
}

fn refused(found: usize, known: usize, why: &str) -> SpoolError {
    SpoolError::Unusable(format!("its schema is version {found}, this program knows version {known}: {why}"))
}

fn unusable(path: &Path, error: &rusqlite::Error) -> SpoolError {
    SpoolError::Unusable(format!("{}: {error}", path.display()))
}

fn prepare_connection(db: &Connection) -> rusqlite::Result<()> {
    // Nothing goes from the log to the database but by the writer: also where a connection does not come into being.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans do not depend on the values bound: without this SQLite prepares a cached statement anew for each of them.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.pragma_update(None, "temp_store", "MEMORY")
}

/// One connection only: the write-ahead log's index then needs no memory that is shared.
fn have_it_alone(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))
}

fn prepare_writer(db: &Connection) -> rusqlite::Result<()> {
    // Where it can't be had SQLite goes on with another kind of journal and says so in the row alone; a sync that fails on the
    // way is heard of behind the row.
    let mut statement = db.prepare("PRAGMA journal_mode = WAL")?;
    let modes: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if modes != ["wal"] {
        let why = format!("the database can't have a write-ahead log (its journal stays in mode {})", modes.join(" "));
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(why)));
    }
    // FULL: a commit is on the disk before it counts.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))?;
    // SQLite ignores errors of the checkpoints it makes by itself; the writer makes them, and sees a failed sync.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &[&str] = &["CREATE TABLE thing (name TEXT); INSERT INTO thing VALUES ('kept');"];
    const NEWER: &[&str] =
        &[OLDER[0], "ALTER TABLE thing ADD COLUMN colour TEXT DEFAULT 'red';", "CREATE TABLE other (name TEXT);"];

    #[test]
    fn an_empty_database_gets_every_step() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, MIGRATIONS).unwrap();
        assert_eq!(version(&db).unwrap(), MIGRATIONS.len());
        require_current(&db).unwrap();
    }

    #[test]
    fn an_older_schema_is_migrated_step_by_step_with_its_rows() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, OLDER).unwrap();
        migrate(&mut db, NEWER).unwrap();
        assert_eq!(version(&db).unwrap(), 3);
        let row: (String, String) =
            db.query_row("SELECT name, colour FROM thing", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(row, ("kept".to_owned(), "red".to_owned()));
    }

    #[test]
    fn reports_of_an_older_version_become_notices() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &MIGRATIONS[..4]).unwrap();
        let old = |id: &str, kind: &str, state: &str| {
            let fields = format!(
                r#"{{"id":"{id}","organization":"o","kind":"{kind}","record":"01jcb4x5w0abcdef","date":1794304800000,
                "message_uuid":"99999999-2222-4333-8444-555555555555","boundary":"11111111-2222-4333-8444-555555555555",
                "route":"mx:x.example","reply":"550 no","reply_is_smtp":true,"attempts":3,"next_attempt":null}}"#
            );
            let ended = (state == "failed").then_some(1);
            let insert = "INSERT INTO report (id, organization, record, state, attempts, due, ended, fields) \
                          VALUES (?, 'o', '01jcb4x5w0abcdef', ?, 0, 0, ?, ?)";
            db.execute(insert, rusqlite::params![id, state, ended, fields]).unwrap();
        };
        old("01jcb4x5w0rrrrr1", "failed", "waiting");
        old("01jcb4x5w0rrrrr2", "delayed", "waiting");
        old("01jcb4x5w0rrrrr3", "failed", "failed");
        migrate(&mut db, MIGRATIONS).unwrap();
        let text = |sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        let notice: crate::journal::Notice = serde_json::from_str(&text("SELECT fields FROM notice")).unwrap();
        assert_eq!((notice.record.as_str(), notice.attempts), ("01jcb4x5w0abcdef", 3));
        assert_eq!((notice.reply.as_str(), notice.reply_is_smtp, notice.created), ("550 no", true, notice.at));
        let pace: crate::queue::Pace = serde_json::from_str(&text("SELECT fields FROM pace")).unwrap();
        assert!(pace.due().is_some());
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut db = Connection::open_in_memory().unwrap();
        let error = migrate(&mut db, &[OLDER[0], "CREATE TABLE half (a); CREATE TABLE thing (name);"]).unwrap_err();
        assert!(error.to_string().contains("from version 1 to 2"), "{error}");
        assert_eq!(version(&db).unwrap(), 1);
        assert!(db.prepare("SELECT * FROM half").is_err(), "half a step stayed");
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_numbers() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, NEWER).unwrap();
        let error = migrate(&mut db, OLDER).unwrap_err().to_string();
        assert!(error.contains("version 3") && error.contains("version 1"), "{error}");
    }

    /// A backlog of any size must not make the daily work slower.
    #[test]
    fn no_daily_question_reads_a_whole_table() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, MIGRATIONS).unwrap();
        for (question, index) in [
            ("SELECT * FROM record WHERE organization = 'o' AND due <= 1 ORDER BY due, id LIMIT 9", "record_due"),
            ("SELECT min(due) FROM record WHERE organization = 'o' AND due IS NOT NULL", "record_due"),
            ("SELECT min(due) FROM report WHERE organization = 'o' AND due IS NOT NULL", "report_due"),
            ("SELECT * FROM report WHERE organization = 'o' AND due <= 1 ORDER BY due, id LIMIT 9", "report_due"),
            (
                "SELECT * FROM record WHERE organization = 'o' AND identity = x'00' AND sealed = 0 AND state = 'waiting'",
                "record_identity (organization=? AND identity=? AND sealed=?)",
            ),
            (
                "SELECT * FROM record WHERE organization = 'o' AND identity = x'00' AND state <> 'prepared' ORDER BY id",
                "record_identity (organization=? AND identity=?)",
            ),
            ("SELECT * FROM record WHERE queue_id = 'q' AND state = 'prepared' ORDER BY id", "record_message"),
            ("SELECT 1 FROM record WHERE queue_id = 'q' AND ended IS NULL", "record_message"),
            ("SELECT * FROM record WHERE ended IS NULL AND id > 'i' ORDER BY id LIMIT 9", "record_live"),
            (
                "SELECT * FROM record WHERE organization = 'o' AND identity = x'00' AND owes = 1 ORDER BY id",
                "record_owes",
            ),
            ("SELECT * FROM record WHERE message_uuid = 'u' ORDER BY id", "record_message_uuid"),
            ("SELECT min(due) FROM record WHERE organization = 'o' AND urged AND due IS NOT NULL", "record_urged"),
            (
                "SELECT * FROM record WHERE organization = 'o' AND urged AND due <= 1 ORDER BY due, id LIMIT 1",
                "record_urged",
            ),
            (
                "SELECT count(*), min(id) FROM record WHERE organization = 'o' AND due IS NOT NULL",
                "COVERING INDEX record_due",
            ),
            ("SELECT * FROM record WHERE organization = 'o' AND due > 1 ORDER BY due DESC LIMIT 9", "record_due"),
            ("SELECT fields FROM notice WHERE organization = 'o' ORDER BY number", "notice_organization"),
            (
                "SELECT organization, state, held, count(*), min(created) FROM record WHERE ended IS NULL \
                 GROUP BY organization, state, held",
                "USING COVERING INDEX record_figures",
            ),
            ("SELECT coalesce(sum(size), 0) FROM message WHERE octets IS NULL", "USING COVERING INDEX message_files"),
            ("SELECT rowid FROM record WHERE state = 'acked' AND ended IS NOT NULL AND ended < 1", "record_ended"),
        ] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
            let lines: Vec<String> =
                plan.query_map([], |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
            let plan = lines.join("; ");
            let whole = plan.contains("SCAN record") && !plan.contains("record_figures");
            assert!(plan.contains(index) && !whole, "{question}: {plan}");
        }
    }
}
