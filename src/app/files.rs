//! The limit of open files: a session has two connections and a file at most, so the common soft limit of 1,024 would end
//! at some five hundred sessions. The hard limit is what the administrator allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files of one session: its connection, the next hop's, and a file of octets.
const FILES_OF_A_SESSION: u64 = 3;
/// What the daemon needs besides: the spool, listeners, archives.
const FILES_BESIDES: u64 = 300;

/// Raises the soft limit to the hard one, logs where it stands, and gives the number of sessions that it has room for. A
/// refusal is no reason not to start.
pub(super) fn raise_limit() -> usize {
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
    sessions_within(limit)
}

/// Sessions that a limit of open files has room for; some, however low it is.
fn sessions_within(limit: Option<u64>) -> usize {
    let room = |limit: u64| (limit.saturating_sub(FILES_BESIDES) / FILES_OF_A_SESSION).max(limit / 8).max(1);
    limit.map_or(usize::MAX, |limit| usize::try_from(room(limit)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_files_lets_fewer_sessions_in_and_never_none() {
        let sessions = [None, Some(1_000_000), Some(1_024), Some(256), Some(1)].map(sessions_within);
        assert_eq!(sessions, [usize::MAX, 333_233, 241, 32, 1]);
    }
}
