//! Connections that only read, for questions that must not wait behind the writer. On a simulated disk the database has one
//! connection only, and the writer answers.

use super::schema;
use super::steps::StepError;
use super::view;
use super::writer::{Writer, closed};
use crate::spool::disk::SharedDisk;
use crate::spool::{Agenda, Archive, Pending, SpoolError};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Questions answered at a time; more wait.
const READERS: usize = 4;

/// The connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    disk: SharedDisk,
    directory: PathBuf,
    writer: Writer,
    /// Nobody else moves what is due, unseen by the writer.
    is_daemon: bool,
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
    /// What the database said last, and how it stood then. Archives that a configuration had stay: there are few.
    agendas: Arc<Mutex<BTreeMap<Archive, (u64, Agenda)>>>,
}

impl Readers {
    /// Connections to the database in `directory`, opened when they are needed.
    pub(super) fn new(disk: SharedDisk, directory: PathBuf, writer: Writer, is_daemon: bool) -> Self {
        Self {
            disk,
            directory,
            writer,
            is_daemon,
            idle: Arc::default(),
            places: Arc::new(Semaphore::new(READERS)),
            agendas: Arc::default(),
        }
    }

    /// Asks a question where blocking is allowed, behind all that was written before. Needs tokio's runtime.
    pub(super) fn ask<T, F>(&self, question: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StepError> + Send + 'static,
    {
        let readers = self.clone();
        Box::pin(async move {
            // Of a spool that can't be written what the database has can still be read.
            let _ = readers.writer.complete().await;
            readers.look(question).await
        })
    }

    /// When something is due next. The database is asked only when something has been written to it since.
    pub(super) fn agenda(&self, archive: &Archive) -> Pending<Agenda> {
        let (readers, archive) = (self.clone(), archive.clone());
        Box::pin(async move {
            // Looked at first: what leaves the front meanwhile is in the database by then.
            let (in_front, database) = readers.writer.glance(&archive);
            let known = readers
                .agendas()
                .get(&archive)
                .filter(|(of, _)| readers.is_daemon && *of == database)
                .map(|(_, agenda)| *agenda);
            let agenda = match known {
                Some(agenda) => agenda,
                None => {
                    let asked = archive.clone();
                    let agenda = readers.look(move |db| view::agenda(db, &asked)).await?;
                    readers.agendas().insert(archive, (database, agenda));
                    agenda
                }
            };
            let records = [agenda.records, in_front].into_iter().flatten().min();
            Ok(Agenda { records, ..agenda })
        })
    }

    /// Asks a question of the database as it is.
    fn look<T, F>(&self, question: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StepError> + Send + 'static,
    {
        if self.disk.vfs().is_some() {
            return self.writer.ask(question);
        }
        let readers = self.clone();
        Box::pin(async move {
            let place = Arc::clone(&readers.places).acquire_owned().await.map_err(|_| closed())?;
            let ask = move || {
                // Freed when the question is over, also where nobody waits for its answer any more.
                let _place = place;
                let db = readers.take()?;
                let answer = question(&db).map_err(SpoolError::from);
                readers.give_back(db);
                answer
            };
            tokio::task::spawn_blocking(ask).await.map_err(|_| closed())?
        })
    }

    /// Octets of the write-ahead log's file, where there is one.
    pub(super) fn log_octets(&self) -> u64 {
        self.disk.length(&self.directory.join(format!("{}-wal", schema::DATABASE))).unwrap_or(0)
    }

    /// Closes all; what is asked afterwards fails.
    pub(super) fn close(&self) {
        self.places.close();
        self.idle().clear();
    }

    fn take(&self) -> Result<Connection, SpoolError> {
        if let Some(db) = self.idle().pop() {
            return Ok(db);
        }
        schema::open_readable(&*self.disk, &self.directory).map_err(|error| StepError::from(error).into())
    }

    fn give_back(&self, db: Connection) {
        if !self.places.is_closed() {
            self.idle().push(db);
        }
    }

    fn agendas(&self) -> std::sync::MutexGuard<'_, BTreeMap<Archive, (u64, Agenda)>> {
        self.agendas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
