//! The exposition: what was counted, and what is asked of the rooms at this moment.

use super::Watched;
use super::health::Health;
use crate::queue::State;
use crate::spool::Figures;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::timeout;

/// For the spool to say what waits, and for what readiness is found by: together, so that a scrape (10 s, as Prometheus has it)
/// gets an answer when it matters most.
const PATIENCE: Duration = Duration::from_secs(6);

type Labels = Vec<(&'static str, String)>;

/// The text of OpenMetrics 1.0.
pub(super) async fn exposition(watched: &Watched, health: &Health) -> Result<String, String> {
    let mut now = Registry::with_prefix("journal_relay");
    routes(&mut now, watched);
    certificates(&mut now, watched);
    let (figures, reasons) =
        tokio::join!(timeout(PATIENCE, watched.spool.figures()), timeout(PATIENCE, health.reasons(watched)));
    let ready: Gauge = Gauge::default();
    ready.set(i64::from(reasons.is_ok_and(|reasons| reasons.is_empty())));
    now.register("ready", "Whether mail would be taken and journaled, as /readyz tells", ready);
    // A spool that can't answer hides nothing else.
    match figures {
        Ok(Ok(figures)) => spool(&mut now, watched, &figures),
        Ok(Err(error)) => tracing::warn!(event = "admin.incomplete", %error, "the spool's figures are missing"),
        Err(_) => tracing::warn!(event = "admin.incomplete", error = "no answer", "the spool's figures are missing"),
    }
    now.register("spool_commit_seconds", "Transactions of the spool, sync included", watched.commit_seconds.clone());
    if let (Some(room), _) = watched.pressure.state() {
        let free: Gauge = Gauge::default();
        free.set(whole(room.free_octets));
        now.register("spool_free_bytes", "Octets free on the spool's file system, at the last look", free);
    }
    let mut text = String::new();
    encode_registry(&mut text, watched.metrics.registry())
        .and_then(|()| encode_registry(&mut text, &now))
        .and_then(|()| encode_eof(&mut text))
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// States of records that are no history: each has a series for every organization, at 0 where nothing waits.
const LIVE: [State; 6] = [State::Prepared, State::Waiting, State::Sending, State::Deferred, State::Failed, State::Held];

fn spool(registry: &mut Registry, watched: &Watched, figures: &Figures) {
    let time = watched.clock.now();
    let waiting = gauges(registry, "records_waiting", "Records in the spool");
    let oldest: Family<Labels, Gauge<f64, AtomicU64>> = Family::default();
    registry.register(
        "oldest_waiting_seconds",
        "Age of the oldest record that waits for the archive, failed and held ones left out; 0: none waits",
        oldest.clone(),
    );
    let of = |organization: &str| ("organization", organization.to_owned());
    for organization in watched.config().iter().flat_map(|config| &config.organizations) {
        drop(oldest.get_or_create(&vec![of(&organization.name)]));
        for state in LIVE {
            drop(waiting.get_or_create(&vec![of(&organization.name), ("state", state.to_string())]));
        }
    }
    for group in &figures.waiting {
        let labels = vec![of(&group.organization), ("state", group.state.to_string())];
        waiting.get_or_create(&labels).inc_by(whole(group.count));
        if matches!(group.state, State::Failed | State::Held) {
            continue;
        }
        let gauge = oldest.get_or_create_owned(&vec![of(&group.organization)]);
        gauge.set(gauge.get().max(time.since(group.oldest).as_secs_f64()));
    }
    let octets: Gauge = Gauge::default();
    octets.set(whole(figures.octets));
    registry.register("spool_bytes", "Octets that the spool takes", octets);
}

fn routes(registry: &mut Registry, watched: &Watched) {
    let next_hops = gauges(registry, "next_hop_up", "Whether the next hop answered at the last connection");
    for (_, setup) in watched.listeners() {
        let next_hop = &setup.next_hop;
        if let Some(up) = next_hop.is_up() {
            next_hops.get_or_create(&vec![("next_hop", next_hop.label())]).set(i64::from(up));
        }
    }
    let archives = gauges(registry, "archive_up", "Whether the route worked at its last attempt");
    for (route, up) in watched.delivery.route_states() {
        archives.get_or_create(&vec![("route", route)]).set(i64::from(up));
    }
}

/// When the certificate of a listener that expires first does; one whose date can't be read has none.
fn certificates(registry: &mut Registry, watched: &Watched) {
    let help = "When the listener's certificate expires, in seconds since 1970; of several the first to expire";
    let expiry = gauges(registry, "certificate_expiry_timestamp_seconds", help);
    for (_, setup) in watched.listeners() {
        if let Some((_, at)) = setup.listener.tls.as_ref().and_then(|tls| tls.first_to_expire()) {
            let labels = vec![("listener", setup.listener.name.clone())];
            expiry.get_or_create(&labels).set(at.as_millis().div_euclid(1_000));
        }
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Gauge> {
    let family: Family<Labels, Gauge> = Family::default();
    registry.register(name, help, family.clone());
    family
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
