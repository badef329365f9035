//! Whether mail would be taken now, and why not.

use super::Watched;
use crate::config::OnFailure;
use crate::receive::listener_label;
use crate::spool::SpoolError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long an answer of the spool or of a next hop holds: whoever asks more often causes no more work.
const HOLDS: Duration = Duration::from_secs(5);
/// For each of them to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Behind what the spool lacks, where mail does not wait for it.
pub(super) const BYPASS: &str = " (on_failure = \"bypass\": mail is relayed without records)";

/// A reason and when it was found; none: all is well.
type Found = Option<(Instant, Option<String>)>;

/// What was found last.
#[derive(Default)]
pub(super) struct Health {
    spool: Mutex<Found>,
    next_hops: Mutex<Found>,
}

impl Health {
    /// Why mail would not be taken; none when it would.
    pub(super) async fn reasons(&self, watched: &Watched) -> Vec<String> {
        let mut reasons = Vec::new();
        if watched.drain.has_begun() {
            reasons.push("draining".to_owned());
            return reasons;
        }
        let open = watched.drain.open_labels();
        for (address, setup) in watched.listeners() {
            if !open.contains(&listener_label(address)) {
                let name = &setup.listener.name;
                reasons.push(format!("listener {name} does not accept"));
            }
        }
        let (found_of_spool, found_of_next_hops) =
            tokio::join!(fresh(&self.spool, spool(watched)), fresh(&self.next_hops, next_hops(watched)));
        let mut of_spool = Vec::new();
        if let (Some(room), true) = watched.pressure.state() {
            of_spool.push(format!("spool: too little room, {} octets free", room.free_octets));
        }
        of_spool.extend(found_of_spool);
        // Ready is who journals: with bypass mail goes on, and whoever asks must be able to tell.
        let note = if bypasses(watched) { BYPASS } else { "" };
        reasons.extend(of_spool.into_iter().map(|reason| reason + note));
        reasons.extend(found_of_next_hops);
        reasons
    }
}

fn bypasses(watched: &Watched) -> bool {
    watched.config().is_some_and(|config| config.spool.on_failure == OnFailure::Bypass)
}

/// What was found a moment ago, or is found now.
async fn fresh(found: &Mutex<Found>, look: impl Future<Output = Option<String>>) -> Option<String> {
    // One look at a time: those who come meanwhile get what it finds.
    let mut found = found.lock().await;
    if let Some((at, reason)) = found.as_ref().filter(|(at, _)| at.elapsed() < HOLDS) {
        let _ = at;
        return reason.clone();
    }
    let reason = look.await;
    *found = Some((Instant::now(), reason.clone()));
    reason
}

/// A real write, small and synced.
async fn spool(watched: &Watched) -> Option<String> {
    match timeout(ANSWER_TIMEOUT, watched.spool.probe(watched.clock.now())).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            watched.pressure.look_soon();
            Some(if matches!(error, SpoolError::Full(_)) { error.to_string() } else { format!("spool: {error}") })
        }
        Err(_) => Some(format!("spool: no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

/// One that answers is enough; every silent one is named when none does. All are asked at once, so that this takes no longer than
/// one of them may.
async fn next_hops(watched: &Watched) -> Option<String> {
    let mut asked = JoinSet::new();
    for (number, (_, setup)) in watched.listeners().into_iter().enumerate() {
        let next_hop = Arc::clone(&setup.next_hop);
        asked.spawn(async move {
            let why = match timeout(ANSWER_TIMEOUT, next_hop.check()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
            };
            (number, why.map(|why| format!("{}: {why}", next_hop.label())))
        });
    }
    let mut silent = Vec::new();
    while let Some(answered) = asked.join_next().await {
        match answered {
            Ok((_, None)) => return None,
            Ok((number, Some(why))) => silent.push((number, why)),
            Err(failed) => silent.push((usize::MAX, failed.to_string())),
        }
    }
    silent.sort();
    let silent: Vec<_> = silent.into_iter().map(|(_, why)| why).collect();
    Some(format!("no next hop answers: {}", silent.join("; ")))
}
