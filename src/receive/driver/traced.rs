//! Sessions that an operator listens in to (`log.trace_sessions`, `run --trace-session`): their dialogue in the log.
//!
//! What may be told of it at all says `smtp::session`: no octet of a message and no password. What of addresses is told says
//! `log.addresses`, as everywhere in the log. Whether a session is traced is decided when it begins.

use crate::config::TlsMode;
use crate::mail::SessionId;
use crate::receive::Setup;
use crate::smtp::{Session, session::Settings};
use crate::telemetry::TRACED;
use std::net::{IpAddr, SocketAddr};

/// A session for `client` as its listener's configuration says.
pub(super) fn session(setup: &Setup, client: IpAddr) -> Session {
    let limits = &setup.listener.limits;
    let mut session = Session::new(Settings {
        hostname: setup.config.hostname.clone(),
        max_recipients: limits.recipients.get() as usize,
        max_errors: limits.errors.get(),
        requires_tls: setup.tls.as_ref().is_some_and(|tls| tls.mode() == TlsMode::Required),
    });
    // A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d.
    let client = client.to_canonical();
    if setup.config.trace_sessions.iter().any(|network| network.contains(&client)) {
        session.listen_in();
    }
    session
}

/// Writes what was said since the last call.
pub(super) fn tell(session: &mut Session, id: SessionId, client: SocketAddr) {
    for spoken in session.overheard() {
        let (by, line) = (spoken.by.as_str(), spoken.line);
        tracing::info!(target: TRACED, event = "session.trace", session = %id, %client, by, line, "said in a session");
    }
}
