//! The limit of open files: the common soft limit of 1,024 would end at some hundreds of sessions. The hard limit is what the
//! administrator allows.

use crate::receive::Allowance;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files of one transaction, beside its client's connection: the next hop's, and a file of octets.
const FILES_OF_A_TRANSACTION: u64 = 2;
/// What the daemon needs besides: the spool, listeners, archives.
const FILES_BESIDES: u64 = 300;
/// The share of sessions, of twenty parts; the rest is for transactions.
const SHARE_OF_SESSIONS: u64 = 11;

/// Raises the soft limit to the hard one, logs where it stands, and gives what it has room for. A
/// refusal is no reason not to start.
pub(super) fn raise_limit() -> Allowance {
    let found = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum });
    let limit = getrlimit(Resource::Nofile).current;
    match raised {
        // None is no limit.
        Ok(()) => tracing::info!(event = "files.limit", limit, before = found.current, "open files allowed"),
        Err(error) => {
            tracing::warn!(event = "files.limit", limit, %error, "the limit of open files can't be raised to the hard limit");
        }
    }
    allowance_within(limit)
}

/// What a limit of open files has room for; something, however low it is.
fn allowance_within(limit: Option<u64>) -> Allowance {
    let Some(limit) = limit else { return Allowance::ENDLESS };
    let room = limit.saturating_sub(FILES_BESIDES);
    let sessions = (room / 20).saturating_mul(SHARE_OF_SESSIONS);
    let transactions = room.saturating_sub(sessions) / FILES_OF_A_TRANSACTION;
    let some = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Allowance {
        sessions: some(sessions.max(limit / 8).max(1)),
        transactions: some(transactions.max(limit / 16).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_files_lets_fewer_in_and_never_none() {
        let allowed = [Some(1_000_000), Some(20_000), Some(1_024), Some(256), Some(1)].map(|limit| {
            let Allowance { sessions, transactions } = allowance_within(limit);
            (sessions, transactions)
        });
        assert_eq!(allowed, [(549_835, 224_932), (10_835, 4_432), (396, 164), (32, 16), (1, 1)]);
        assert_eq!(allowance_within(None), Allowance::ENDLESS);
    }
}
