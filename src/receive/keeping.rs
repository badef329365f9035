//! What the spool does for one transaction: it promises room at MAIL, takes the octets as they come, and makes message and
//! records durable at the end of data. Each wait has a limit, and each failure makes somebody look at the room.

use super::listener::Parts;
use crate::mail::{QueueId, Reply};
use crate::spool::{Draft, Intake, Receipt, Reservation, Returned, SpoolError};
use std::time::Duration;
use tokio::time::timeout;

/// For the spool to take octets or make a message durable; a disk that hangs for longer is a failing one.
const SPOOL_TIMEOUT: Duration = Duration::from_secs(120);

/// One message's part of the spool.
pub(super) struct Keeping {
    parts: Parts,
    /// Held until the message is over.
    reservation: Option<Reservation>,
    intake: Option<Intake>,
}

impl Keeping {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), reservation: None, intake: None }
    }

    /// Asks for room for a message of the size that the client declared.
    ///
    /// # Errors
    /// The answer to MAIL.
    pub(super) fn admit(&mut self, declared: Option<u64>) -> Result<(), Reply> {
        let admitted = self.parts.pressure.admit(declared);
        self.reservation = Some(admitted.map_err(|error| {
            // The pressure itself is an event, once.
            tracing::debug!(event = "spool.pressure", %error, "a message has to wait for room");
            reply_to(&error)
        })?);
        Ok(())
    }

    /// The octets will come.
    pub(super) fn begin(&mut self, queue_id: QueueId) {
        self.intake = Some(self.parts.spool.begin(queue_id));
    }

    /// Takes more octets.
    ///
    /// # Errors
    /// The answer to the end of data; nothing is kept then.
    pub(super) async fn append(&mut self, octets: &[u8]) -> Result<(), Reply> {
        let Some(intake) = &mut self.intake else { return Err(self.refuse(&not_begun())) };
        let kept = timeout(SPOOL_TIMEOUT, intake.append(octets)).await;
        if let Some(reservation) = &mut self.reservation {
            reservation.reach(intake.len());
        }
        kept.unwrap_or_else(|_| Err(hung())).map_err(|error| self.refuse(&error))
    }

    /// Makes the message and its records durable.
    ///
    /// # Errors
    /// The answer to the end of data; nothing is kept then, also where the wait was given up.
    pub(super) async fn prepare(&mut self, draft: Draft) -> Result<(), Reply> {
        let Some(intake) = self.intake.take() else { return Err(self.refuse(&not_begun())) };
        let prepared = timeout(SPOOL_TIMEOUT, self.parts.spool.prepare(intake, draft)).await;
        prepared.unwrap_or_else(|_| Err(hung())).map_err(|error| self.refuse(&error))
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
