//! The limit of open files: a session has two connections and a file at most, so the common soft limit of 1,024 would end
//! at some five hundred sessions. The hard limit is what the administrator allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and logs where it stands. A refusal is no reason not to start.
pub(super) fn raise_limit() {
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
}
