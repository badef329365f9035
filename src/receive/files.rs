//! What sessions may open: a limit of open files that idle clients can't use up.
//!
//! Promises: a session that waits for its client holds one file, its connection. The next hop's connection and the file of
//! octets are of a transaction, or of a client that authenticates, and come out of a share of their own: clients who do
//! nothing leave room for those who send.

use crate::mail::Reply;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may be open at a time, over all listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Sessions.
    pub sessions: usize,
    /// Transactions under way, and clients that have authenticated.
    pub transactions: usize,
}

impl Allowance {
    /// As much as there is memory for.
    pub const ENDLESS: Self = Self { sessions: usize::MAX, transactions: usize::MAX };
}

/// The shares as they are taken. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    sessions: Arc<Semaphore>,
    transactions: Arc<Semaphore>,
}

/// A piece of a share; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Piece {
    _permit: OwnedSemaphorePermit,
}

impl Files {
    /// Nothing is taken yet.
    pub fn new(allowance: Allowance) -> Self {
        let share = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { sessions: share(allowance.sessions), transactions: share(allowance.transactions) }
    }

    /// For one more session; the last word to its client when there is no room.
    pub(super) fn session(&self) -> Result<Piece, Reply> {
        take(&self.sessions).ok_or_else(|| Reply::new(421, "4.3.2 too many connections, try again later"))
    }

    /// For one more transaction, or client that authenticates; the refusal when there is no room.
    pub(super) fn transaction(&self) -> Result<Piece, Reply> {
        take(&self.transactions).ok_or_else(|| Reply::new(451, "4.3.2 too much mail at a time, try again later"))
    }
}

fn take(share: &Arc<Semaphore>) -> Option<Piece> {
    Arc::clone(share).try_acquire_owned().ok().map(|permit| Piece { _permit: permit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_sessions_leave_the_transactions_their_share() {
        let files = Files::new(Allowance { sessions: 2, transactions: 1 });
        let idle = [files.session().unwrap(), files.session().unwrap()];
        assert_eq!(files.session().unwrap_err().code(), 421);
        let busy = files.transaction().unwrap();
        assert_eq!(files.transaction().unwrap_err().code(), 451);
        drop((idle, busy));
        assert!(files.session().is_ok() && files.transaction().is_ok());
    }
}
