//! Records and reports outward: what is due is claimed from the spool, sent by the organization's route, and settled.
//!
//! The story, in its order: [`start`] opens two *lanes* for each organization (`lane`); a lane looks when something is due,
//! asks the *circuits* whether its route may be tried (`circuits`, `breaker`), claims what is due and gives
//! each piece a task (`office`), which puts a *letter* together (`letter`) from the current configuration and hands it to the
//! *post* (`post`); that finds the way (`resolver`, `dns`, `sts`, `target`), takes a connection (`pool`, `connection`, `tls`) and ends with a
//! *verdict* (`verdict`), from which it follows what becomes of the record (`next`) and of the route's circuit: equal
//! failures in a row open it, and then one probe at a time goes out, at growing distances, until one succeeds and all that
//! waits is due at once.
//!
//! What an organization is told: a failed record leaves a *notice* in the spool, in the transaction that fails it; notices
//! gather there (`queue::Pace` says how long) and the lane of reports makes one report of them. A *watch* for each
//! organization (`delays`) tells once for a route and period that records are late, or that the route refuses us, and when it
//! has been over for a while; a route that comes and goes is told of at growing distances. Reports go the same way as
//! records; one that fails is remembered and logged, and causes nothing.
//!
//! Promises: a record leaves by the archive's final 2yz alone; whatever can't be read to its end never gets a final dot;
//! every attempt at a record sends the same octets as long as the configuration stays; a report never causes a report;
//! every wait, retry and list has a named maximum.
//!
//! Floor 4. lettre reads greetings and says EHLO, on a line that this room keeps a hand on (`line`, `replies`, `offers`); the rest
//! is said here (`opening`, `connection`).

mod breaker;
mod circuits;
mod connection;
mod courier;
mod delays;
mod dns;
mod lane;
mod letter;
mod line;
mod next;
mod offers;
mod office;
mod opening;
mod pool;
mod post;
mod replies;
mod resolver;
mod routes;
mod sts;
mod target;
mod tls;
mod trial;
mod verdict;
mod way;

#[cfg(test)]
mod tests;

pub use breaker::{BUSY_AFTER, BUSY_FIRST, BUSY_LONGEST, DOWN_AFTER, SHUT_AFTER};
pub use delays::{HEALTHY_FOR, SHUT_FOR};
pub use resolver::{
    Answer, Exchanger, Exchangers, MAX_ADDRESSES, MAX_EXCHANGERS, Resolver, SystemResolver, Unresolved,
};
pub use routes::{Health, RouteState, routes_of};
pub use sts::{FileMemory, NoMemory, PolicyMemory, Saved};
pub use trial::try_out;
pub use verdict::{Fault, Said, Verdict};

use crate::clock::SharedClock;
use crate::config::Config;
use crate::drain::Drain;
use crate::journal::MacKey;
use crate::mail::Entropy;
use crate::net::SharedNetwork;
use crate::spool::Spool;
use crate::watch;
use circuits::Circuits;
use office::Office;
use post::Post;
use std::sync::Arc;

/// What delivery needs.
pub struct Deliver {
    /// Where records and reports wait.
    pub spool: Arc<dyn Spool>,
    /// Where they go: looked up for each attempt.
    pub config: watch::Receiver<Arc<Config>>,
    /// When they are due.
    pub clock: SharedClock,
    /// Where ids and boundaries of reports come from.
    pub entropy: Arc<dyn Entropy>,
    /// Seals records and reports.
    pub mac_key: MacKey,
    /// When it begins nothing more is claimed; it waits for the attempts under way.
    pub drain: Drain,
    /// Who knows where servers are; [`SystemResolver`] outside tests.
    pub resolver: Arc<dyn Resolver>,
    /// Where connections are made.
    pub network: SharedNetwork,
    /// Where domains' MTA-STS policies are kept.
    pub policies: Arc<dyn PolicyMemory>,
}

/// Delivery under way. Dropping it stops nothing.
#[derive(Clone)]
pub struct Delivery {
    office: Arc<Office>,
}

impl Delivery {
    /// The routes tried so far, by URL or `mx:` and domain, and whether attempts are made on each: false while its circuit
    /// is open and it is only probed.
    pub fn route_states(&self) -> Vec<(String, bool)> {
        self.office.circuits.states()
    }
}

/// Starts delivery. Its tasks run until the drain begins, and those under way until they have ended.
pub fn start(deliver: Deliver) -> Delivery {
    let Deliver { spool, config, clock, entropy, mac_key, drain, resolver, network, policies } = deliver;
    let post = Post::new(resolver, network, policies, Arc::clone(&clock), drain.clone());
    let circuits = Arc::new(Circuits::default());
    let ways = Default::default();
    let office =
        Arc::new(Office { spool, config, clock, entropy, mac_key, drain: drain.clone(), post, circuits, ways });
    drain.spawn("delivery", lane::supervise(Arc::clone(&office)));
    let keeper = Arc::clone(&office);
    drain.spawn("idle connections", async move { keeper.post.keep_connections().await });
    Delivery { office }
}
