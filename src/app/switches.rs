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
use std::collections::{BTreeMap, VecDeque};
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

/// What stands behind a reason that was there before.
const AS_BEFORE: &str = " (switch_reason is that of the turn before)";

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
                None if organization.journaling => self.note(organization, at, organization.switch_reason.clone()),
                Some(before) => self.turned(organization, at, before.switch_reason.as_ref()),
                None => self.turned(organization, at, None),
            }
        }
    }

    /// `before` is the reason of the turn before this one.
    fn turned(&self, organization: &Organization, at: Timestamp, before: Option<&String>) {
        let Organization { name, journaling, .. } = organization;
        let reason = reason_of(organization, before);
        tracing::warn!(
            event = "organization.switched",
            organization = %name,
            journaling,
            generation = self.book().generation,
            reason = reason.as_deref().unwrap_or("none given"),
            "the switch of an organization was turned"
        );
        self.note(organization, at, reason);
    }

    fn note(&self, organization: &Organization, at: Timestamp, reason: Option<String>) {
        let Organization { name, journaling, .. } = organization;
        let mut book = self.book();
        let turn = Turn { at, generation: book.generation, reason };
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
        // Of each organization the last turn that is known: whether it is off since, and why.
        let mut last: BTreeMap<String, (bool, Option<String>)> = BTreeMap::new();
        for pause in pauses {
            let turn = pause.on.as_ref().unwrap_or(&pause.off);
            last.insert(pause.organization.clone(), (pause.on.is_none(), turn.reason.clone()));
        }
        let config = Arc::clone(&self.book().current);
        for organization in &config.organizations {
            let (is_off, reason) = last.get(&organization.name).cloned().unwrap_or_default();
            if organization.journaling == is_off {
                self.turned(organization, clock.now(), reason.as_ref());
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

/// What is said of a turn. A reason that stands in the file from the turn before may be somebody else's: whoever turns the
/// switch by hand need not touch it.
fn reason_of(organization: &Organization, before: Option<&String>) -> Option<String> {
    let reason = organization.switch_reason.as_ref()?;
    let before = before.map(|before| before.strip_suffix(AS_BEFORE).unwrap_or(before));
    Some(if before == Some(reason.as_str()) { format!("{reason}{AS_BEFORE}") } else { reason.clone() })
}
