//! A step that fails after it has written: its writes go, everybody else's are there once, in one transaction.

use super::super::front::Place;
use super::super::steps::Step;
use super::super::writer::Writer;
use crate::spool::fixtures::{HandClock, options};
use crate::spool::{EmbeddedSpool, Pending, SpoolError};
use std::sync::mpsc;

/// Writes a line, and fails afterwards if it is told to.
fn line(writer: &Writer, name: &'static str, fails: bool) -> Pending<()> {
    let step = move |step: &mut Step<'_>| {
        step.db.execute("INSERT INTO line VALUES (?)", [name])?;
        if fails { Err(SpoolError::NotNow(name.to_owned()).into()) } else { Ok(()) }
    };
    writer.post(|_| Ok(Place::Behind), step)
}

#[tokio::test]
async fn a_step_that_fails_after_it_has_written_leaves_nothing_and_the_others_are_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _) = EmbeddedSpool::open(&directory.path().join("spool"), options(&HandClock::new())).unwrap();
    let table = |step: &mut Step<'_>| Ok(step.db.execute_batch("CREATE TABLE line (name TEXT)")?);
    spool.writer.call(0, table, |_, ()| {}).await.unwrap();
    // Everything gathers behind a step that waits.
    let (go, gate) = mpsc::channel::<()>();
    let waits = spool.writer.post(
        |_| Ok(Place::Behind),
        move |_| {
            let _ = gate.recv();
            Ok(())
        },
    );
    let before = line(&spool.writer, "before", false);
    let fails = line(&spool.writer, "fails", true);
    let after = line(&spool.writer, "after", false);
    drop(go);
    let (waits, before, fails, after) = (waits.await, before.await, fails.await, after.await);
    assert!(waits.is_ok() && before.is_ok() && after.is_ok());
    assert!(matches!(fails, Err(SpoolError::NotNow(name)) if name == "fails"));
    let names = |step: &mut Step<'_>| {
        let mut lines = step.db.prepare("SELECT name FROM line ORDER BY rowid")?;
        Ok(lines.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?)
    };
    let names = spool.writer.call(0, names, |_, _| {}).await.unwrap();
    assert_eq!(names, ["before", "after"]);
}
