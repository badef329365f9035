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
#[derive(Debug, Clone, Default)]
pub(super) struct Switches {
    waiting: Arc<Mutex<VecDeque<Switched>>>,
    came: Arc<Notify>,
}

impl Switches {
    /// A new configuration takes effect: its number, and when.
    pub(super) fn compare(&self, old: &Config, new: &Config, generation: u64, at: Timestamp) {
        for organization in &new.organizations {
            let before = old.organizations.iter().find(|other| other.name == organization.name);
            // One that is new and off has a pause from now on, too.
            if before.is_none_or(|before| before.journaling != organization.journaling)
                && (before.is_some() || !organization.journaling)
            {
                self.turned(organization, generation, at);
            }
        }
    }

    fn turned(&self, organization: &Organization, generation: u64, at: Timestamp) {
        let Organization { name, journaling, switch_reason, .. } = organization;
        tracing::warn!(
            event = "organization.switched",
            organization = %name,
            journaling,
            generation,
            reason = switch_reason.as_deref().unwrap_or("none given"),
            "the switch of an organization was turned"
        );
        let turn = Turn { at, generation, reason: switch_reason.clone() };
        let mut waiting = self.waiting();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(Switched { organization: name.clone(), turn, journaling: *journaling });
        }
        self.came.notify_one();
    }

    /// Finds out what was turned while no daemon ran, then has the spool note what comes, until the end begins.
    pub(super) async fn keep(self, config: Arc<Config>, spool: Arc<dyn Spool>, clock: SharedClock, drain: Drain) {
        let work = async {
            while let Err(error) = self.look_back(&config, &*spool, &clock).await {
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

    /// What the spool knows of the switches, held against the configuration that the daemon starts with.
    async fn look_back(&self, config: &Config, spool: &dyn Spool, clock: &SharedClock) -> Result<(), SpoolError> {
        let pauses = spool.pauses(MAX_PAUSES).await?;
        let open: BTreeSet<String> =
            pauses.into_iter().filter(|pause| pause.on.is_none()).map(|pause| pause.organization).collect();
        for organization in &config.organizations {
            if organization.journaling == open.contains(&organization.name) {
                self.turned(organization, 1, clock.now());
            }
        }
        Ok(())
    }

    /// Has the spool note all that waits, in its order.
    pub(super) async fn write(&self, spool: &dyn Spool) -> Result<(), SpoolError> {
        loop {
            let Some(first) = self.waiting().front().cloned() else { return Ok(()) };
            spool.switched(first.clone()).await.inspect_err(|error| {
                tracing::debug!(event = "spool.pressure", %error, "the turn of a switch can't be noted yet");
            })?;
            let mut waiting = self.waiting();
            if waiting.front() == Some(&first) {
                waiting.pop_front();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Switched>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
