//! The secret that records are sealed with. It is a row like any other: as durable, and readable by the owner of the
//! database's file (mode 0600) alone.

use super::steps::StepError;
use crate::spool::SpoolError;
use rusqlite::{Connection, params};

/// The only one there is so far.
const MAC: &str = "mac";

/// Keeps `proposal` unless there is a secret; gives the one that is kept.
pub(super) fn keep(db: &Connection, proposal: [u8; 32]) -> Result<[u8; 32], StepError> {
    db.prepare_cached("INSERT INTO secret (name, octets) VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![MAC, proposal.as_slice()])?;
    let octets: Vec<u8> =
        db.prepare_cached("SELECT octets FROM secret WHERE name = ?")?.query_row([MAC], |row| row.get(0))?;
    octets.try_into().map_err(|_| SpoolError::Failing("the spool's secret is damaged".to_owned()).into())
}
