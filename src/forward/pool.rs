//! Connections that wait for their next transaction.
//!
//! Most recently used first, so that the others may grow old and go. Bounded in number and age by `Settings`.

use super::connection::Connection;
use super::identity::ClientFacts;
use super::settings::Settings;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// The idle connections of one next hop.
pub(super) struct Pool {
    settings: Arc<Settings>,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// The oldest first.
    idle: VecDeque<(Instant, Box<Connection>)>,
    /// Nothing is kept any more.
    closed: bool,
}

impl Pool {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, shelf: Mutex::default() }
    }

    /// Keeps a connection that is ready for another transaction, or says QUIT where there is no room.
    pub(super) fn put(&self, connection: Box<Connection>) {
        let mut shelf = self.lock();
        let mut leaving = self.take_old(&mut shelf);
        if shelf.closed || self.settings.max_idle == 0 {
            leaving.push(*connection);
        } else {
            if shelf.idle.len() >= self.settings.max_idle {
                leaving.extend(shelf.idle.pop_front().map(|(_, oldest)| *oldest));
            }
            shelf.idle.push_back((Instant::now(), connection));
        }
        drop(shelf);
        leaving.iter_mut().for_each(Connection::say_quit);
    }

    /// The most recently used connection that still stands, of those that speak for `client`, or for nobody.
    pub(super) fn take(&self, client: Option<&ClientFacts>) -> Option<Box<Connection>> {
        self.expire();
        loop {
            let mut shelf = self.lock();
            let place = shelf.idle.iter().rposition(|(_, connection)| connection.speaks_for.as_deref() == client)?;
            let (_, mut connection) = shelf.idle.remove(place)?;
            drop(shelf);
            if connection.is_alive() {
                return Some(connection);
            }
        }
    }

    /// Says QUIT on connections that have idled too long.
    pub(super) fn expire(&self) {
        let mut leaving = self.take_old(&mut self.lock());
        leaving.iter_mut().for_each(Connection::say_quit);
    }

    /// All that speak for the client at `address`.
    pub(super) fn take_all_of(&self, address: SocketAddr) -> Vec<Connection> {
        let mut shelf = self.lock();
        let is_its = |(_, connection): &(Instant, Box<Connection>)| {
            connection.speaks_for.as_ref().is_some_and(|client| client.address == address)
        };
        let (its, others): (VecDeque<_>, VecDeque<_>) = shelf.idle.drain(..).partition(is_its);
        shelf.idle = others;
        its.into_iter().map(|(_, connection)| *connection).collect()
    }

    /// Keeps nothing from now on; gives what there is.
    pub(super) fn close(&self) -> Vec<Connection> {
        let mut shelf = self.lock();
        shelf.closed = true;
        shelf.idle.drain(..).map(|(_, connection)| *connection).collect()
    }

    fn take_old(&self, shelf: &mut Shelf) -> Vec<Connection> {
        let old = |(since, _): &&(Instant, Box<Connection>)| since.elapsed() >= self.settings.idle_time;
        let number = shelf.idle.iter().take_while(old).count();
        shelf.idle.drain(..number).map(|(_, connection)| *connection).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
