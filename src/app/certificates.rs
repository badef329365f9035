//! A warning before a listener's certificate expires: at the start, with a configuration that brings such a one, and once a day
//! until another has taken its place.

use crate::clock::SharedClock;
use crate::config::{CERTIFICATE_WARNING, Config};
use crate::drain::Drain;
use crate::mail::Timestamp;
use crate::watch;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two warnings of one certificate.
const EVERY: Duration = Duration::from_secs(86_400);

/// A listener, its certificate, and when that expires.
type Certificate = (String, PathBuf, Timestamp);

/// Warns until the end begins.
pub(super) async fn watch_over(mut config: watch::Receiver<Arc<Config>>, clock: SharedClock, drain: Drain) {
    let mut told: BTreeMap<Certificate, Instant> = BTreeMap::new();
    loop {
        let found = expiring(&config.borrow(), clock.now());
        // What is not there any more is forgotten, so that this is bounded by the configuration.
        told.retain(|certificate, _| found.contains(certificate));
        let now = Instant::now();
        for certificate in found {
            if told.get(&certificate).is_none_or(|at| now.duration_since(*at) >= EVERY) {
                tell(&certificate, clock.now());
                told.insert(certificate, now);
            }
        }
        let since = told.values().min().map_or(Duration::ZERO, |at| now.duration_since(*at));
        tokio::select! {
            biased;
            () = drain.begun() => return,
            changed = config.changed() => if changed.is_err() { return },
            () = sleep(EVERY.saturating_sub(since)) => {}
        }
    }
}

/// Each listener's first to expire, where that is soon.
fn expiring(config: &Config, now: Timestamp) -> Vec<Certificate> {
    let soon = now.plus(CERTIFICATE_WARNING);
    let of_listener = |listener: &crate::config::Listener| {
        let (identity, at) = listener.tls.as_ref()?.first_to_expire()?;
        (at < soon).then(|| (listener.name.clone(), identity.certificate.clone(), at))
    };
    config.listeners.iter().filter_map(of_listener).collect()
}

fn tell((listener, certificate, at): &Certificate, now: Timestamp) {
    let (certificate, expires) = (certificate.display(), at.rfc3339());
    if *at <= now {
        tracing::error!(event = "certificate.expires", listener, %certificate, expires, days = 0, "the listener's certificate has expired");
        return;
    }
    let days = at.since(now).as_secs() / 86_400;
    tracing::warn!(event = "certificate.expires", listener, %certificate, expires, days, "the listener's certificate expires soon");
}
