//! The switches of organizations: each turn is an event at once and an entry of the spool as soon as that takes a write.
//!
//! Promises: a pause of the journal has an entry with its start and, once it is over, its end, also where the switch was turned
//! while no daemon ran, or while the spool failed. A turn that the spool has not taken before the end is noted at the next
//! start, with that time.

use crate::clock::SharedClock;
use crate::config::{Config, Organization};
use crate::drain::Drain;
use crate::mail::Timestamp;
use crate::spool::{Spool, SpoolError, Switched, Turn};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a spool that fails is left alone.
const REST: Duration = Duration::from_secs(5);
/// Turns that wait for the spool; those beyond are in the log alone.
const MAX_WAITING: usize = 10_000;
/// Entries of the spool that are looked at when the daemon starts.
const MAX_PAUSES: usize = 100_000;

/// Turns that the spool has not noted yet. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Switches {
    book: Arc<Mutex<Book>>,
    came: Arc<Notify>,
}

#[derive(Debug)]
struct Book {
    /// The configuration in effect, and its number.
    current: Arc<Config>,
    generation: u64,
    turns: VecDeque<Switched>,
}

impl Switches {
    /// Switches as a daemon finds them that starts with this configuration.
    pub(super) fn of(config: Arc<Config>) -> Self {
        let book = Book { current: config, generation: 1, turns: VecDeque::new() };
        Self { book: Arc::new(Mutex::new(book)), came: Arc::default() }
    }

    /// A new configuration takes effect: when, and its number since the start.
    pub(super) fn compare(&self, new: &Arc<Config>, at: Timestamp) {
        let old = {
            let mut book = self.book();
            book.generation = book.generation.saturating_add(1);
            std::mem::replace(&mut book.current, Arc::clone(new))
        };
        for organization in &new.organizations {
            let before = old.organizations.iter().find(|other| other.name == organization.name);
            match before {
                Some(before) if before.journaling == organization.journaling => {}
                // One that is new and on may have been here before, and off: then its pause ends, unknown to the log.
                None if organization.journaling => self.note(organization, at),
                _ => self.turned(organization, at),
            }
        }
    }

    fn turned(&self, organization: &Organization, at: Timestamp) {
        let Organization { name, journaling, switch_reason, .. } = organization;
        tracing::warn!(
            event = "organization.switched",
            organization = %name,
            journaling,
            generation = self.book().generation,
            reason = switch_reason.as_deref().unwrap_or("none given"),
            "the switch of an organization was turned"
        );
        self.note(organization, at);
    }

    fn note(&self, organization: &Organization, at: Timestamp) {
        let Organization { name, journaling, switch_reason, .. } = organization;
        let mut book = self.book();
        let turn = Turn { at, generation: book.generation, reason: switch_reason.clone() };
        if book.turns.len() < MAX_WAITING {
            book.turns.push_back(Switched { organization: name.clone(), turn, journaling: *journaling });
        }
        self.came.notify_one();
    }

    /// Finds out what was turned while no daemon ran, then has the spool note what comes, until the end begins.
    pub(super) async fn keep(self, spool: Arc<dyn Spool>, clock: SharedClock, drain: Drain) {
        let work = async {
            while let Err(error) = self.look_back(&*spool, &clock).await {
                tracing::debug!(event = "spool.pressure", %error, "the switches can't be looked up yet");
                sleep(REST).await;
            }
            loop {
                if self.write(&*spool).await.is_err() {
                    sleep(REST).await;
                } else {
                    self.came.notified().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = drain.begun() => {}
            () = work => {}
        }
    }

    /// What the spool knows of the switches, held against the configuration in effect.
    async fn look_back(&self, spool: &dyn Spool, clock: &SharedClock) -> Result<(), SpoolError> {
        let pauses = spool.pauses(MAX_PAUSES).await?;
        let open: BTreeSet<String> =
            pauses.into_iter().filter(|pause| pause.on.is_none()).map(|pause| pause.organization).collect();
        let config = Arc::clone(&self.book().current);
        for organization in &config.organizations {
            if organization.journaling == open.contains(&organization.name) {
                self.turned(organization, clock.now());
            }
        }
        Ok(())
    }

    /// Has the spool note all that waits, in its order.
    pub(super) async fn write(&self, spool: &dyn Spool) -> Result<(), SpoolError> {
        loop {
            let Some(first) = self.book().turns.front().cloned() else { return Ok(()) };
            spool.switched(first.clone()).await.inspect_err(|error| {
                tracing::debug!(event = "spool.pressure", %error, "the turn of a switch can't be noted yet");
            })?;
            let mut book = self.book();
            if book.turns.front() == Some(&first) {
                book.turns.pop_front();
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
