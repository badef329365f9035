//! Records and messages as rows: the one place that knows the columns.

use super::news;
use super::steps::{Step, StepError};
use crate::journal::{Cause, Notice};
use crate::mail::{QueueId, RecordId, Timestamp};
use crate::queue::Standing;
use crate::spool::files::OctetStore;
use crate::spool::life::{Event, Kept};
use crate::spool::{Archive, Copies, Octets, SpoolError};
use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, ToSql, params};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The columns that [`read`] expects, in its order.
const COLUMNS: &str = "id, state, before, held, sealed, attempts, next_attempt, last_reply, urged, \
     reason, ended, window, fields, archive, copies";

/// The columns that say where a record stands, each with `behind` behind it.
macro_rules! standing_columns {
    ($behind:literal) => {
        standing_columns!($behind; "state", ", before", ", held", ", sealed", ", attempts", ", next_attempt", ", due",
            ", last_reply", ", urged", ", reason", ", ended")
    };
    ($behind:literal; $($column:literal),*) => { concat!($($column, $behind),*) };
}

/// How a record becomes a row.
macro_rules! into_record {
    () => {
        concat!(
            " INTO record (id, queue_id, organization, identity, created, window, archive, copies, replay_of, ",
            "fields, message_uuid, owes, ",
            standing_columns!(""),
            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
    };
}

/// How far a record's id and the arrival of its message may lie apart.
pub(super) const ID_MARGIN: Duration = Duration::from_secs(60);

/// A record's row.
pub(super) struct RecordRow {
    pub(super) id: RecordId,
    pub(super) standing: Standing,
    window: Duration,
    fields: String,
    pub(super) archive: String,
    pub(super) copies: Copies,
}

impl RecordRow {
    /// The record, unless its fields can't be read.
    pub(super) fn kept(self) -> Result<Kept, SpoolError> {
        match serde_json::from_str(&self.fields) {
            Ok(fields) => {
                let fields = Arc::new(fields);
                let Self { standing, window, archive, copies, .. } = self;
                Ok(Kept { fields, standing, window, archive, copies })
            }
            Err(error) => {
                Err(SpoolError::Failing(format!("the spool's entry of record {} can't be read: {error}", self.id)))
            }
        }
    }
}

/// Reads a row of [`COLUMNS`].
fn read(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    let window = Duration::from_millis(row.get::<_, i64>(11)?.unsigned_abs());
    let (fields, archive, copies) = (row.get(12)?, row.get(13)?, copies(row, 14)?);
    Ok(RecordRow { id: word(row, 0)?, standing: standing(row)?, window, fields, archive, copies })
}

fn copies(row: &Row<'_>, column: usize) -> rusqlite::Result<Copies> {
    Ok(match row.get::<_, i64>(column)? {
        0 => Copies::Alone,
        2 => Copies::OneIsEnough,
        _ => Copies::EachIsNeeded,
    })
}

fn copies_number(copies: Copies) -> i64 {
    match copies {
        Copies::Alone => 0,
        Copies::EachIsNeeded => 1,
        Copies::OneIsEnough => 2,
    }
}

/// The part of [`COLUMNS`] that says where a record stands.
fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    Ok(Standing {
        state: word(row, 1)?,
        before: word(row, 2)?,
        held: row.get(3)?,
        sealed: row.get(4)?,
        attempts: row.get(5)?,
        next_attempt: moment(row, 6)?,
        last_reply: row.get(7)?,
        urged: row.get(8)?,
        reason: row.get(9)?,
        ended: moment(row, 10)?,
    })
}

/// Whose record it is.
pub(super) fn organization(db: &Connection, id: RecordId) -> rusqlite::Result<String> {
    db.prepare_cached("SELECT organization FROM record WHERE id = ?")?.query_row([id.as_str()], |row| row.get(0))
}

/// Whose record it is, and the key of its archive.
pub(super) fn whose(db: &Connection, id: RecordId) -> rusqlite::Result<(String, String)> {
    let mut statement = db.prepare_cached("SELECT organization, archive FROM record WHERE id = ?")?;
    statement.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The records that `condition` (what stands behind `FROM record`) finds.
pub(super) fn select(db: &Connection, condition: &str, params: impl Params) -> rusqlite::Result<Vec<RecordRow>> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM record {condition}"))?;
    statement.query_map(params, read)?.collect()
}

/// Up to `limit` records for `archive` that wait for an attempt and were made at `until` or before, oldest first.
pub(super) fn waiting(
    db: &Connection,
    archive: &Archive,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<RecordRow>> {
    // Ids sort by age: the index alone finds the few that may be old enough. The margin is for an id and a time of arrival
    // that were not taken from one look at the clock.
    let beyond = RecordId::first_of(until.plus(ID_MARGIN));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let wanted = params![archive.organization, until.as_millis(), beyond.as_str(), limit, archive.key];
    const WAITING: &str = "WHERE organization = ?1 AND archive = ?5 AND due IS NOT NULL AND id < ?3 AND created <= ?2 \
                           ORDER BY id LIMIT ?4";
    select(db, WAITING, wanted)
}

/// The other records of the same transaction and organization, decided or not; of one that is sent again, the others that are and
/// are not over: a former replay is no answer to the wish for this one.
pub(super) fn others(db: &Connection, id: RecordId) -> rusqlite::Result<Vec<RecordRow>> {
    const OTHERS: &str = "WHERE queue_id = (SELECT queue_id FROM record WHERE id = ?1) AND id <> ?1 \
         AND organization = (SELECT organization FROM record WHERE id = ?1) \
         AND (replay_of IS NULL) = (SELECT replay_of IS NULL FROM record WHERE id = ?1) \
         AND (replay_of IS NULL OR ended IS NULL) ORDER BY id";
    select(db, OTHERS, [id.as_str()])
}

/// Sends a record to another archive.
pub(super) fn redirect(db: &Connection, id: RecordId, archive: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE record SET archive = ? WHERE id = ?")?.execute(params![archive, id.as_str()])?;
    Ok(())
}

/// Keeps the octets of a delivered record, or not any more.
pub(super) fn retain(db: &Connection, id: RecordId, retained: bool) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE record SET retained = ? WHERE id = ?")?.execute(params![retained, id.as_str()])?;
    Ok(())
}

/// One record.
pub(super) fn find(db: &Connection, id: RecordId) -> Result<Kept, StepError> {
    let row = select(db, "WHERE id = ?", [id.as_str()])?.pop().ok_or(SpoolError::NotFound(id))?;
    Ok(row.kept()?)
}

/// Where one record stands, whose message it is of and whether it has copies, without what it says: most moves need no more.
pub(super) fn find_standing(db: &Connection, id: RecordId) -> Result<(Standing, QueueId, Copies), StepError> {
    let mut statement = db.prepare_cached(
        "SELECT queue_id, state, before, held, sealed, attempts, next_attempt, last_reply, urged, reason, \
         ended, copies FROM record WHERE id = ?",
    )?;
    let row =
        statement.query_row([id.as_str()], |row| Ok((standing(row)?, word(row, 0)?, copies(row, 11)?))).optional()?;
    row.ok_or_else(|| SpoolError::NotFound(id).into())
}

/// Whether there is no such record.
pub(super) fn lacks(db: &Connection, id: RecordId) -> rusqlite::Result<bool> {
    let mut found = db.prepare_cached("SELECT 1 FROM record WHERE id = ?")?;
    found.exists([id.as_str()]).map(|is_there| !is_there)
}

/// Whether no octets are stored for that message.
pub(super) fn lacks_message(db: &Connection, queue_id: QueueId) -> rusqlite::Result<bool> {
    let mut found = db.prepare_cached("SELECT 1 FROM message WHERE queue_id = ?")?;
    found.exists([queue_id.as_str()]).map(|is_there| !is_there)
}

/// A new record.
pub(super) fn insert(db: &Connection, kept: &Kept) -> Result<(), StepError> {
    put(db, concat!("INSERT", into_record!()), kept)
}

/// A record as it is, in whatever place it finds.
pub(super) fn store(db: &Connection, kept: &Kept) -> Result<(), StepError> {
    put(db, concat!("INSERT OR REPLACE", into_record!()), kept)
}

fn put(db: &Connection, statement: &str, kept: &Kept) -> Result<(), StepError> {
    let fields = &kept.fields;
    let mut statement = db.prepare_cached(statement)?;
    let mut values = Values::of(&mut statement);
    values.bind(fields.id.as_str())?;
    values.bind(fields.original.queue_id.as_str())?;
    values.bind(&fields.organization)?;
    values.bind(fields.original.identity.as_slice())?;
    values.bind(fields.since().as_millis())?;
    values.bind(i64::try_from(kept.window.as_millis()).unwrap_or(i64::MAX))?;
    values.bind(&kept.archive)?;
    values.bind(copies_number(kept.copies))?;
    values.bind(fields.replay.as_ref().map(|replay| replay.of.to_string()))?;
    values.bind_fields(kept)?;
    values.bind_standing(&kept.standing)?;
    Ok(values.execute()?)
}

/// Stores where a record stands.
pub(super) fn save_standing(db: &Connection, id: RecordId, standing: &Standing) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(concat!("UPDATE record SET ", standing_columns!(" = ?"), " WHERE id = ?"))?;
    let mut values = Values::of(&mut statement);
    values.bind_standing(standing)?;
    values.bind(id.as_str())?;
    values.execute()
}

/// Stores where a record stands and what it says.
pub(super) fn save(db: &Connection, kept: &Kept) -> Result<(), StepError> {
    let mut statement = db.prepare_cached(concat!(
        "UPDATE record SET fields = ?, message_uuid = ?, owes = ?, ",
        standing_columns!(" = ?"),
        " WHERE id = ?"
    ))?;
    let mut values = Values::of(&mut statement);
    values.bind_fields(kept)?;
    values.bind_standing(&kept.standing)?;
    values.bind(kept.fields.id.as_str())?;
    Ok(values.execute()?)
}

/// Values bound one after another, in the order of the columns: names would be looked up for each row.
struct Values<'a, 'c> {
    statement: &'a mut Statement<'c>,
    bound: usize,
}

impl<'a, 'c> Values<'a, 'c> {
    fn of(statement: &'a mut Statement<'c>) -> Self {
        Self { statement, bound: 0 }
    }

    fn execute(self) -> rusqlite::Result<()> {
        debug_assert_eq!(self.bound, self.statement.parameter_count(), "a value for each place");
        self.statement.raw_execute().map(drop)
    }

    fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }

    /// `fields, message_uuid, owes`
    fn bind_fields(&mut self, kept: &Kept) -> Result<(), StepError> {
        let (fields, is_replay) = (&kept.fields, kept.fields.replay.is_some());
        self.bind(json(&**fields)?)?;
        // Of a record and its replays, which are one Message-ID's, the record is found first.
        self.bind(kept.standing.sealed.then(|| fields.message_uuid.to_string()))?;
        Ok(self.bind(!is_replay && kept.owes_retry())?)
    }

    /// The [`standing_columns`].
    fn bind_standing(&mut self, standing: &Standing) -> rusqlite::Result<()> {
        self.bind(standing.state.as_str())?;
        self.bind(standing.before.as_str())?;
        self.bind(standing.held)?;
        self.bind(standing.sealed)?;
        self.bind(standing.attempts)?;
        self.bind(standing.next_attempt.map(Timestamp::as_millis))?;
        self.bind(standing.due().map(Timestamp::as_millis))?;
        self.bind(&standing.last_reply)?;
        self.bind(standing.urged)?;
        self.bind(&standing.reason)?;
        self.bind(standing.ended.map(Timestamp::as_millis))
    }
}

/// Forgets a record that never was.
pub(super) fn delete(db: &Connection, id: RecordId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM record WHERE id = ?")?.execute([id.as_str()])?;
    Ok(())
}

/// A new message; without `octets` they are in its file.
pub(super) fn insert_message(
    db: &Connection,
    queue_id: QueueId,
    received: Timestamp,
    size: u64,
    octets: Option<&[u8]>,
) -> rusqlite::Result<()> {
    put_message(db, "INSERT", (queue_id, received, size), octets)
}

/// A message as it is, in whatever place it finds.
pub(super) fn store_message(
    db: &Connection,
    queue_id: QueueId,
    received: Timestamp,
    size: u64,
    octets: Option<&[u8]>,
) -> rusqlite::Result<()> {
    put_message(db, "INSERT OR REPLACE", (queue_id, received, size), octets)
}

/// Where a record's message is lost one without octets, which may be in a file; where they are not, a start finds that out.
pub(super) fn supply_message(
    db: &Connection,
    queue_id: QueueId,
    received: Timestamp,
    size: u64,
) -> rusqlite::Result<()> {
    put_message(db, "INSERT OR IGNORE", (queue_id, received, size), None)
}

fn put_message(
    db: &Connection,
    verb: &str,
    (queue_id, received, size): (QueueId, Timestamp, u64),
    octets: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let mut statement =
        db.prepare_cached(&format!("{verb} INTO message (queue_id, received, size, octets) VALUES (?, ?, ?, ?)"))?;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    statement.execute(params![queue_id.as_str(), received.as_millis(), size, octets])?;
    Ok(())
}

/// The octets of a message, when they are still there.
pub(super) fn octets(db: &Connection, store: &OctetStore, queue_id: QueueId) -> rusqlite::Result<Option<Octets>> {
    let mut statement = db.prepare_cached("SELECT size, octets FROM message WHERE queue_id = ?")?;
    let row =
        statement.query_row([queue_id.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?)));
    Ok(row.optional()?.map(|(size, octets)| match octets {
        Some(octets) => Octets::Inline(Bytes::from(octets)),
        None => store.octets(queue_id, size.unsigned_abs()),
    }))
}

/// Forgets the octets of a message that no record refers to which is live, or kept to be sent again; tells whether they were in a file.
pub(super) fn forget_message(db: &Connection, queue_id: QueueId) -> rusqlite::Result<Option<bool>> {
    let mut statement = db.prepare_cached(
        "DELETE FROM message WHERE queue_id = ?1 AND NOT EXISTS \
         (SELECT 1 FROM record WHERE queue_id = ?1 AND (ended IS NULL OR retained)) \
         RETURNING octets IS NULL",
    )?;
    // Every row has to be asked for, or the statement does not come to its end.
    let gone: rusqlite::Result<Vec<bool>> = statement.query_map([queue_id.as_str()], |row| row.get(0))?.collect();
    Ok(gone?.pop())
}

/// A column that is written as a word: a state or an id.
pub(super) fn word<T: FromStr<Err = String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: String| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// What most records' fields are shorter than.
const FIELDS_OCTETS: usize = 2_048;

/// Fields as they are stored.
pub(super) fn json(fields: &impl serde::Serialize) -> Result<String, SpoolError> {
    let failed = |error: &dyn std::fmt::Display| SpoolError::Failing(format!("fields can't be stored: {error}"));
    let mut text = Vec::with_capacity(FIELDS_OCTETS);
    serde_json::to_writer(&mut text, fields).map_err(|error| failed(&error))?;
    String::from_utf8(text).map_err(|error| failed(&error))
}

/// Marks a record as failed whose entry or octets can't be read, so that people see it and the others go on.
pub(super) fn fail_damaged(
    step: &mut Step<'_>,
    id: RecordId,
    mut standing: Standing,
    why: &str,
    now: Timestamp,
) -> Result<(), StepError> {
    standing.damaged(why.to_owned());
    save_standing(step.db, id, &standing)?;
    let mut statement =
        step.db.prepare_cached("SELECT organization, created, fields, archive FROM record WHERE id = ?")?;
    let (organization, created, fields, archive): (String, i64, String, String) =
        statement.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let (attempts, reason) = (standing.attempts, why.to_owned());
    step.effects.log(Event::Damaged { record: id, organization: organization.clone(), attempts, why: reason });
    let notice = match serde_json::from_str(&fields) {
        Ok(fields) => Notice::about(&fields, Cause::Damaged, now),
        Err(_) => Notice::of_unreadable(id, Timestamp::from_millis(created), now),
    };
    let notice = Notice { attempts, ..notice }.at_archive(&archive).with_reply("", why, false);
    news::keep(step, &organization, &notice, now)
}
