//! Connections that wait for their next letter, and how many there may be on a route.
//!
//! A route has as many slots as its `connections=` says, which all organizations share; whoever sends holds one. A connection
//! that did its work waits for [`IDLE`] and is then taken leave of.

use super::connection::Connection;
use super::target::Target;
use crate::config::MAX_CONNECTIONS;
use crate::drain::Drain;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long a connection may wait for its next letter.
const IDLE: Duration = Duration::from_secs(60);

/// How long a server that did not take an envelope ahead is sent none.
const SHYNESS: Duration = Duration::from_secs(60 * 60);

/// Slots by route, idle connections by server.
#[derive(Default)]
pub(super) struct Pool {
    slots: Mutex<BTreeMap<(String, usize), Arc<Semaphore>>>,
    idle: Mutex<BTreeMap<Target, Vec<(Instant, Connection)>>>,
    came: Notify,
    /// Servers that are sent no envelope ahead, until then; some few, since a route is one server.
    shy: Mutex<BTreeMap<Target, Instant>>,
}

impl Pool {
    /// The slots, `count` of them, of the route called `label`; routes that differ in their number share none.
    pub(super) fn slots(&self, label: &str, count: usize) -> Arc<Semaphore> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let route = (label.to_owned(), count);
        if let Some(found) = slots.get(&route) {
            return Arc::clone(found);
        }
        // Routes that a former configuration had and nobody uses any more.
        slots.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let made = Arc::new(Semaphore::new(count));
        slots.insert(route, Arc::clone(&made));
        made
    }

    /// A connection to `server` that seems alive: the one used last.
    pub(super) fn take(&self, server: &Target) -> Option<Connection> {
        let mut idle = self.idle();
        let waiting = idle.get_mut(server)?;
        while let Some((until, connection)) = waiting.pop() {
            if until > Instant::now() && connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next letter; one of no further use comes back.
    pub(super) fn put(&self, server: &Target, connection: Connection) -> Option<Connection> {
        if !connection.is_usable() {
            return Some(connection);
        }
        let mut idle = self.idle();
        let waiting = idle.entry(server.clone()).or_default();
        if waiting.len() >= MAX_CONNECTIONS {
            return Some(connection);
        }
        waiting.push((Instant::now() + IDLE, connection));
        self.came.notify_one();
        None
    }

    /// Whether the envelope of the next letter may be sent to `server` along with the end of one.
    pub(super) fn takes_ahead(&self, server: &Target) -> bool {
        let mut shy = self.shy.lock().unwrap_or_else(PoisonError::into_inner);
        match shy.get(server) {
            None => true,
            Some(until) if *until > Instant::now() => false,
            Some(_) => shy.remove(server).is_some(),
        }
    }

    /// Sees to it that `server` is sent no envelope ahead for some time.
    pub(super) fn send_nothing_ahead(&self, server: &Target) {
        let mut shy = self.shy.lock().unwrap_or_else(PoisonError::into_inner);
        shy.retain(|_, until| *until > Instant::now());
        shy.insert(server.clone(), Instant::now() + SHYNESS);
    }

    /// Takes leave of connections whose time is over, and of all when the end begins.
    pub(super) async fn keep(&self, drain: &Drain) {
        while !drain.has_begun() {
            let next = self.idle().values().flatten().map(|(until, _)| *until).min();
            tokio::select! {
                biased;
                () = drain.begun() => {}
                () = self.came.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            self.leave_those_older_than(Some(Instant::now())).await;
        }
        self.leave_those_older_than(None).await;
    }

    async fn leave_those_older_than(&self, now: Option<Instant>) {
        let mut over = Vec::new();
        {
            let mut idle = self.idle();
            for waiting in idle.values_mut() {
                over.extend(waiting.extract_if(.., |(until, _)| now.is_none_or(|now| *until <= now)));
            }
            idle.retain(|_, waiting| !waiting.is_empty());
        }
        let mut leaving = JoinSet::new();
        for (_, connection) in over {
            leaving.spawn(connection.quit());
        }
        while leaving.join_next().await.is_some() {}
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<Target, Vec<(Instant, Connection)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
