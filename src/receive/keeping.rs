//! What the spool does for one transaction: it promises room at MAIL, takes the octets as they come, and makes message and
//! records durable at the end of data. Each wait has a limit, and each failure makes somebody look at the room.
//!
//! Where the configuration says `bypass`, a failure is no answer to the client: from then on the message goes on without the
//! spool, and [`Keeping::prepare`] says which organizations it has no record for.

use super::listener::Parts;
use crate::config::OnFailure;
use crate::mail::{QueueId, Reply};
use crate::spool::{Draft, Intake, Receipt, Reservation, Returned, SpoolError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For the spool to take octets or make a message durable; a disk that hangs for longer is a failing one.
const SPOOL_TIMEOUT: Duration = Duration::from_secs(120);

/// One message's part of the spool.
pub(super) struct Keeping {
    parts: Arc<Parts>,
    /// Held until the message is over.
    reservation: Option<Reservation>,
    intake: Option<Intake>,
    on_failure: OnFailure,
    /// Why the message goes on without the spool.
    bypassed: Option<String>,
}

/// The records that a message should have had.
#[derive(Debug)]
pub(super) struct Unrecorded {
    /// Whose.
    pub(super) organizations: Vec<String>,
    /// Why they can't be kept.
    pub(super) reason: String,
}

impl Keeping {
    pub(super) fn new(parts: &Arc<Parts>, on_failure: OnFailure) -> Self {
        Self { parts: Arc::clone(parts), reservation: None, intake: None, on_failure, bypassed: None }
    }

    /// Asks for room for a message of the size that the client declared.
    ///
    /// # Errors
    /// The answer to MAIL.
    pub(super) fn admit(&mut self, declared: Option<u64>) -> Result<(), Reply> {
        let error = match self.parts.pressure.admit(declared) {
            Ok(reservation) => {
                self.reservation = Some(reservation);
                return Ok(());
            }
            Err(error) => error,
        };
        if self.on_failure == OnFailure::Bypass {
            self.bypassed = Some(error.to_string());
            return Ok(());
        }
        // The pressure itself is an event, once.
        tracing::debug!(event = "spool.pressure", %error, "a message has to wait for room");
        Err(reply_to(&error))
    }

    /// The octets will come, as many as the client declared if it did.
    pub(super) fn begin(&mut self, queue_id: QueueId, declared: Option<u64>) {
        if self.bypassed.is_some() {
            return;
        }
        let mut intake = self.parts.spool.begin(queue_id);
        if let Some(octets) = declared {
            intake.announce(octets);
        }
        self.intake = Some(intake);
    }

    /// Nothing of the message will be kept: its octets and its room are free at once, however long the client goes on.
    pub(super) fn let_go(&mut self) {
        (self.intake, self.reservation) = (None, None);
    }

    /// Takes more octets.
    ///
    /// # Errors
    /// The answer to the end of data; nothing is kept then.
    pub(super) async fn append(&mut self, octets: &[u8]) -> Result<(), Reply> {
        if self.bypassed.is_some() {
            return Ok(());
        }
        let Some(intake) = &mut self.intake else { return self.fail(&not_begun()) };
        let length = intake.len().saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if let Some(reservation) = &mut self.reservation
            && let Err(error) = reservation.reach(length)
        {
            return self.fail(&error);
        }
        let kept = timeout(SPOOL_TIMEOUT, intake.append(octets)).await;
        kept.unwrap_or_else(|_| Err(hung())).or_else(|error| self.fail(&error))
    }

    /// Makes the message and its records durable. Where it goes on without the spool, gives the records that it should
    /// have had, if any; then nobody may take a verdict on it to the spool: a wait that was given up is undone there, and
    /// a verdict could come in between and make it count.
    ///
    /// # Errors
    /// The answer to the end of data; nothing is kept then, also where the wait was given up.
    pub(super) async fn prepare(&mut self, draft: Draft) -> Result<Option<Unrecorded>, Reply> {
        // A message is missing in an organization's journal once, however many archives that has.
        let first = draft.records.iter().filter(|record| record.fields.copy_of.is_none());
        let organizations: Vec<_> = first.map(|record| record.fields.organization.clone()).collect();
        if self.bypassed.is_none() {
            let prepared = match self.intake.take() {
                Some(intake) => timeout(SPOOL_TIMEOUT, self.parts.spool.prepare(intake, draft)).await,
                None => Ok(Err(not_begun())),
            };
            match prepared.unwrap_or_else(|_| Err(hung())) {
                Ok(()) => {
                    // What it has on the disk is seen there.
                    self.reservation = None;
                    return Ok(None);
                }
                Err(error) => self.fail(&error)?,
            }
        }
        let reason = self.bypassed.take().filter(|_| !organizations.is_empty());
        Ok(reason.map(|reason| Unrecorded { organizations, reason }))
    }

    /// Takes what a bounce says of a record.
    ///
    /// # Errors
    /// The answer to the end of data; nothing has changed then.
    pub(super) async fn take_back(&self, returned: Returned) -> Result<Receipt, Reply> {
        let kept = timeout(SPOOL_TIMEOUT, self.parts.spool.returned(returned)).await;
        kept.unwrap_or_else(|_| Err(hung())).map_err(|error| match error {
            SpoolError::NotNow(_) => Reply::new(451, "4.3.0 the record is being sent right now, try again later"),
            error => self.refuse(&error),
        })
    }

    /// The spool can't go on with the message: the message goes on without it, or is refused.
    fn fail(&mut self, error: &SpoolError) -> Result<(), Reply> {
        let refusal = self.refuse(error);
        if self.on_failure == OnFailure::Tempfail {
            return Err(refusal);
        }
        self.bypassed = Some(error.to_string());
        self.let_go();
        Ok(())
    }

    fn refuse(&self, error: &SpoolError) -> Reply {
        tracing::error!(event = "spool.pressure", %error, "the spool does not take a message");
        self.parts.pressure.look_soon();
        reply_to(error)
    }
}

fn reply_to(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full(_) => Reply::new(452, "4.3.1 no room to keep the message, try again later"),
        _ => Reply::new(451, "4.3.0 the message can't be kept now, try again later"),
    }
}

fn hung() -> SpoolError {
    SpoolError::Failing(format!("no answer within {} s", SPOOL_TIMEOUT.as_secs()))
}

fn not_begun() -> SpoolError {
    SpoolError::Failing("no octets were expected".to_owned())
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod tests;
