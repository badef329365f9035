//! A warning before a listener's certificate expires: at the start, with a configuration that brings such a one, when it
//! expires, and once a day until another has taken its place.

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
    let mut told: BTreeMap<(Certificate, bool), Instant> = BTreeMap::new();
    loop {
        let time = clock.now();
        let found = expiring(&config.borrow(), time);
        // What is not there any more is forgotten, so that this is bounded by the configuration.
        told.retain(|certificate, _| found.contains(certificate));
        let now = Instant::now();
        for certificate in found {
            if told.get(&certificate).is_none_or(|at| now.duration_since(*at) >= EVERY) {
                tell(&certificate.0, time);
                told.insert(certificate, now);
            }
        }
        let wait = until_next(&told, now, time);
        tokio::select! {
            biased;
            () = drain.begun() => return,
            changed = config.changed() => if changed.is_err() { return },
            () = sleep(wait) => {}
        }
    }
}

/// When to look again: a day behind the last word on a certificate, or when one expires.
fn until_next(told: &BTreeMap<(Certificate, bool), Instant>, now: Instant, time: Timestamp) -> Duration {
    let since = told.values().min().map_or(Duration::ZERO, |at| now.duration_since(*at));
    let ahead = told.keys().filter(|(_, is_over)| !is_over);
    let expires = ahead.map(|((_, _, at), _)| at.since(time) + Duration::from_millis(1)).min();
    expires.map_or(EVERY, |expires| expires.min(EVERY)).min(EVERY.saturating_sub(since))
}

/// Each listener's first to expire, where that is soon, and whether it has: that is told once more.
fn expiring(config: &Config, now: Timestamp) -> Vec<(Certificate, bool)> {
    let soon = now.plus(CERTIFICATE_WARNING);
    let of_listener = |listener: &crate::config::Listener| {
        let (identity, at) = listener.tls.as_ref()?.first_to_expire()?;
        (at < soon).then(|| ((listener.name.clone(), identity.certificate.clone(), at), at <= now))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_look_is_a_day_later_or_when_a_certificate_expires() {
        let time = Timestamp::from_millis(1_794_304_800_000);
        let certificate = |after: Duration| ("incoming".to_owned(), PathBuf::from("cert.pem"), time.plus(after));
        let told = |after: Duration, is_over| BTreeMap::from([((certificate(after), is_over), Instant::now())]);
        let (minute, week) = (Duration::from_secs(60), 7 * EVERY);
        let next = |told: &_| until_next(told, Instant::now(), time);
        assert_eq!(next(&told(week, false)), EVERY);
        assert_eq!(next(&told(minute, false)), minute + Duration::from_millis(1));
        assert_eq!(next(&told(Duration::ZERO, true)), EVERY);
        let an_hour_ago = told(week, false);
        tokio::time::advance(60 * minute).await;
        assert_eq!(next(&an_hour_ago), EVERY - 60 * minute);
    }
}
