//! The lanes: two for each organization, one for its records and one for its reports.
//!
//! A lane sleeps until something may be due, takes slots on its route, claims as much as it has slots for, and starts a task
//! for each piece. Organizations that a new configuration brings get lanes, those that it lacks lose theirs; their records
//! stay. When the end begins nothing more is claimed.

use super::office::{Freight, Office};
use super::pool::MAX_CONNECTIONS_PER_ROUTE;
use crate::mail::Timestamp;
use crate::spool::SpoolError;
use crate::watch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// The longest sleep of a lane: the clock may be set, and another process may change the spool unseen.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The sleep when something is due that could not be claimed: another lane has it.
const SHORT_SLEEP: Duration = Duration::from_secs(1);
/// How long a spool that fails is left alone.
const SPOOL_REST: Duration = Duration::from_secs(5);

/// Starts and ends lanes as the configuration says, until the end begins.
pub(super) async fn supervise(office: Arc<Office>) {
    let mut config = office.config.clone();
    // A lane ends when its sender is dropped.
    let mut lanes: BTreeMap<String, watch::Sender<()>> = BTreeMap::new();
    while !office.drain.has_begun() {
        let current = Arc::clone(&config.borrow_and_update());
        lanes.retain(|name, _| current.organizations.iter().any(|organization| organization.name == *name));
        for organization in &current.organizations {
            lanes.entry(organization.name.clone()).or_insert_with(|| open(&office, &organization.name));
        }
        tokio::select! {
            biased;
            () = office.drain.begun() => {}
            () = changed(&mut config) => {}
        }
    }
}

fn open(office: &Arc<Office>, organization: &str) -> watch::Sender<()> {
    let end = watch::Sender::new(());
    for (freight, label) in [(Freight::Records, "records"), (Freight::Reports, "reports")] {
        let lane = Lane { office: Arc::clone(office), organization: organization.to_owned(), freight };
        office.drain.spawn(format!("{label} of {organization}"), lane.run(end.subscribe()));
    }
    end
}

struct Lane {
    office: Arc<Office>,
    organization: String,
    freight: Freight,
}

impl Lane {
    /// Ends when the end begins, with the supervisor's sender, or with the spool. Waits alone are cut short by that, never a
    /// claim: what it gives out must get a task, or nobody would have it.
    async fn run(self, mut end: watch::Receiver<()>) {
        let mut changes = self.office.spool.changes();
        let mut config = self.office.config.clone();
        loop {
            changes.borrow_and_update();
            config.borrow_and_update();
            let Some(slots) = self.office.slots(&self.organization, self.freight) else { return };
            let permits = tokio::select! {
                biased;
                () = self.over(&mut end) => return,
                // The route may be another one now.
                () = changed(&mut config) => continue,
                permits = take_permits(slots, self.moment()) => permits,
            };
            let now = self.office.clock.now();
            let wait = match self.claim_and_start(now, permits).await {
                Ok(0) => self.until_due(now).await,
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let wait = wait.unwrap_or_else(|error| {
                tracing::warn!(event = "deliver.stalled", organization = self.organization, %error, "the spool does not give out what is due");
                SPOOL_REST
            });
            tokio::select! {
                biased;
                () = self.over(&mut end) => return,
                more = changes.changed() => if more.is_err() { return },
                () = changed(&mut config) => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// How long slots and due entries gather before a claim. Reports are rare and in no hurry.
    fn moment(&self) -> Duration {
        match self.freight {
            Freight::Records => Duration::from_millis(2),
            Freight::Reports => Duration::from_millis(50),
        }
    }

    async fn over(&self, end: &mut watch::Receiver<()>) {
        tokio::select! {
            biased;
            () = self.office.drain.begun() => {}
            // Only ever an error: the supervisor has dropped its half.
            _ = end.changed() => {}
        }
    }

    /// Starts a task for each piece that is due; tells how many.
    async fn claim_and_start(&self, now: Timestamp, permits: Vec<OwnedSemaphorePermit>) -> Result<usize, SpoolError> {
        let parcels = self.office.claim(&self.organization, self.freight, now, permits.len()).await?;
        let count = parcels.len();
        for (parcel, permit) in parcels.into_iter().zip(permits) {
            let office = Arc::clone(&self.office);
            self.office.drain.spawn(parcel.label(), async move { office.carry(parcel, permit).await });
        }
        Ok(count)
    }

    async fn until_due(&self, now: Timestamp) -> Result<Duration, SpoolError> {
        Ok(match self.office.spool.next_due(&self.organization).await? {
            Some(due) if due > now => due.since(self.office.clock.now()).min(LONGEST_SLEEP),
            Some(_) => SHORT_SLEEP,
            None => LONGEST_SLEEP,
        })
    }
}

/// One slot at least, and as many more as are free a moment later: a claim is a synced write of the spool, and one for
/// many records costs no more than one for a single record.
async fn take_permits(slots: Arc<Semaphore>, moment: Duration) -> Vec<OwnedSemaphorePermit> {
    let mut permits = Vec::new();
    permits.extend(Arc::clone(&slots).acquire_owned().await.ok());
    sleep(moment).await;
    while permits.len() < MAX_CONNECTIONS_PER_ROUTE
        && let Ok(permit) = Arc::clone(&slots).try_acquire_owned()
    {
        permits.push(permit);
    }
    permits
}

/// Ends when there is a new configuration; never when nobody can make one any more.
async fn changed<T>(config: &mut watch::Receiver<T>) {
    if config.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
