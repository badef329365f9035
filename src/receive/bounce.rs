//! Mail to a journaling sender: bounces of records, taken by the relay itself and judged at the end of data.
//!
//! Promises: `250` means that what the bounce says is durable; whatever is no bounce of a record of ours is refused with
//! `550 5.1.1`; no mail ever goes back to whoever sent it; what it costs is bounded, whatever its size or shape.

use super::keeping::Keeping;
use super::listener::{Parts, Setup};
use super::places::Place;
use super::transaction::too_large;
use crate::journal::{Action, Bounce};
use crate::mail::{Address, QueueId, Reply, SessionId};
use crate::spool::{Archive, Receipt, Returned};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Octets of a bounce that are kept: 8 MiB. What is behind them is taken and not looked at; a record that comes back longer
/// can't be restored.
pub const MAX_BOUNCE: usize = 8 * 1024 * 1024;
/// Bounces of which octets are kept at a time ([`Places`](super::places::Places)); the next one is asked to come again.
pub const MAX_BOUNCES: usize = 8;
/// How long one may take, also where nobody else wants its place.
pub(super) const BOUNCE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// A bounce on its way in.
pub(super) struct BounceMail {
    forward_path: Address,
    /// The organizations whose records come from the address, …
    organizations: Vec<String>,
    /// … and how those get to their archives.
    routes: BTreeMap<Archive, String>,
    client: IpAddr,
    size: u64,
    /// Has the octets, since the first of them came.
    place: Option<Place>,
    /// When its octets began.
    since: Option<Instant>,
}

impl BounceMail {
    pub(super) fn new(setup: &Setup, forward_path: &Address, client: IpAddr) -> Self {
        let of_it = setup.config.organizations.iter();
        let of_it = of_it.filter(|organization| organization.sender.same_mailbox_ignoring_case(forward_path));
        let (mut organizations, mut routes) = (Vec::new(), BTreeMap::new());
        for organization in of_it {
            organizations.push(organization.name.clone());
            for (address, route) in organization.archives() {
                let archive = Archive { organization: organization.name.clone(), key: address.mailbox_key() };
                routes.insert(archive, route.to_string());
            }
        }
        Self { forward_path: forward_path.clone(), organizations, routes, client, size: 0, place: None, since: None }
    }

    /// Whether it is to that address already.
    pub(super) fn is_to(&self, forward_path: &Address) -> bool {
        self.forward_path.same_mailbox_ignoring_case(forward_path)
    }

    /// The answer to DATA. No place is taken yet: to open DATA costs a client nothing.
    pub(super) fn begin(&mut self, parts: &Parts) -> Reply {
        if !parts.bounces.has_one_for(self.client) {
            return too_many();
        }
        self.since = Some(Instant::now());
        Reply::new(354, "send the bounce, end with a dot on a line by itself")
    }

    /// Takes octets of at most `limit` in all.
    ///
    /// # Errors
    /// The answer to the end of data; the bounce is to be let go, and its place with it.
    pub(super) fn take(&mut self, octets: &[u8], limit: u64, parts: &Parts) -> Result<(), Reply> {
        if octets.is_empty() {
            return Ok(());
        }
        self.size = self.size.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if self.size > limit {
            return Err(too_large(limit));
        }
        if self.since.is_some_and(|since| since.elapsed() >= BOUNCE_TIMEOUT) {
            return Err(Reply::new(451, "4.4.2 the bounce takes too long, try again later"));
        }
        if self.place.is_none() {
            self.place = Some(parts.bounces.take(self.client).ok_or_else(too_many)?);
        }
        if self.place.as_ref().is_some_and(|place| place.keep(octets)) { Ok(()) } else { Err(too_many()) }
    }

    /// The answer to the end of data. The place is held until then.
    pub(super) async fn judge(
        self,
        keeping: &Keeping,
        parts: &Parts,
        (session, queue_id): (SessionId, QueueId),
    ) -> Reply {
        let octets = match &self.place {
            Some(place) => match place.judge() {
                Some(octets) => Bytes::from(octets),
                None => return too_many(),
            },
            None => Bytes::new(),
        };
        let Some(bounce) = Bounce::read(&octets) else { return unknown() };
        let (action, reply) = (bounce.action.as_str(), format!("bounced: {}", bounce.diagnostic));
        let returned = self.returned(parts, &octets, bounce, &reply);
        match keeping.take_back(returned).await {
            Ok(Receipt::Unknown) => unknown(),
            Ok(Receipt::Unchanged(record)) => {
                tracing::info!(event = "bounce.received", %session, %queue_id, %record, action, reply, "a notification about a record changes nothing");
                Reply::new(250, "2.0.0 noted")
            }
            Ok(Receipt::Failed { record, organization, attempts, whole }) => {
                tracing::error!(event = "record.failed", %session, %queue_id, %record, organization, reply, attempts, whole, reason = "bounced", "a server gave the record back; it is kept as failed");
                Reply::new(250, "2.0.0 the record is kept as failed")
            }
            Err(later) => later,
        }
    }

    /// What the spool is told.
    fn returned(&self, parts: &Parts, octets: &Bytes, bounce: Bounce, reply: &str) -> Returned {
        // A cut message has no whole original, whatever it looks like.
        let whole = self.size == u64::try_from(octets.len()).unwrap_or(u64::MAX);
        Returned {
            record: bounce.record,
            message_uuid: bounce.message_uuid,
            boundary: bounce.boundary,
            organizations: self.organizations.clone(),
            reply: (bounce.action == Action::Failed).then(|| reply.to_owned()),
            original: bounce.original.filter(|_| whole).map(|place| octets.slice(place)),
            routes: self.routes.clone(),
            at: parts.clock.now(),
        }
    }
}

fn too_many() -> Reply {
    Reply::new(451, "4.3.2 too many bounces at a time, try again later")
}

fn unknown() -> Reply {
    Reply::new(550, "5.1.1 this address has no mailbox: it takes bounces of journal records it knows, and nothing else")
}

#[cfg(test)]
#[path = "bounce_tests.rs"]
mod tests;
