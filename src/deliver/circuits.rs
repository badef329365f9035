//! The circuits of all routes: who may try what, what is known of a route, `route.state` in the log.
//!
//! A route has one circuit for all who use it, by its label: whether anybody is there and lets us in. Each organization's
//! records and reports have another one behind it: whether their sender, and what they bring, is taken at the moment. So an
//! organization whose sender an archive refuses does not keep others from it.
//!
//! The state lives in memory; after a restart, or behind a changed label, it is found out by trying.

use super::breaker::{Breaker, Gate, Kind};
use super::routes::{Health as Standing, RouteState};
use super::verdict::{Fault, Said, Verdict};
use crate::config::Retry;
use crate::mail::{RecordId, Timestamp};
use crate::watch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Circuits that are remembered.
const MAX_CIRCUITS: usize = 4_096;

/// The way of one organization's records or reports, as circuits know it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Whose it is.
    organization: String,
    /// `records` or `reports`.
    freight: &'static str,
    /// What the route's circuit is called, and the line's own.
    names: [Name; 2],
}

/// A route's label, and for the circuit of one line what tells it from the others of that route.
type Name = (String, String);

impl Line {
    /// The line of an organization's records or reports on the route called `route`.
    pub(super) fn new(route: String, organization: &str, freight: &'static str) -> Self {
        let own = format!("{freight} of {organization}");
        let names = [(route.clone(), String::new()), (route, own)];
        Self(Arc::new(Parts { organization: organization.to_owned(), freight, names }))
    }

    /// The route's label.
    pub(super) fn route(&self) -> &str {
        let [(route, _), _] = self.names();
        route
    }

    fn names(&self) -> &[Name; 2] {
        &self.0.names
    }
}

/// What is known of a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Health {
    /// That nothing is tried, and why.
    pub(super) down: Option<Down>,
    /// That it takes what comes; none before something of this line was taken since the last failure that shut it.
    pub(super) taking: Option<Taking>,
}

/// A line on which things are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taking {
    /// Since when nothing has shut it: the first thing taken behind that.
    pub(super) since: Timestamp,
    /// When something was taken last.
    pub(super) last: Timestamp,
}

/// A line on which nothing is tried but probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Down {
    /// The first failure.
    pub(super) since: Timestamp,
    /// What was said last.
    pub(super) reply: Said,
    /// It refuses us for good.
    pub(super) shut: bool,
    /// When it is tried next.
    pub(super) next_probe: Timestamp,
}

/// Whether something may be tried on a line.
pub(super) enum Admission {
    /// As much as there is.
    Flow,
    /// One piece.
    Probe(Pass),
    /// Nothing until then, or until the circuits change.
    Shut(Option<Timestamp>),
}

#[derive(Debug, Default)]
struct Circuit {
    breaker: Breaker,
    /// What was said at its last failure.
    reply: Option<Said>,
    /// What was said last, and when; of routes alone.
    last: Option<(Timestamp, String)>,
    /// When something was taken first since it was shut, and last.
    taking: Option<Taking>,
    /// How often it has closed.
    closings: u64,
    /// The route worked or failed: its state is known.
    is_known: bool,
}

impl Circuit {
    /// An attempt ended so; whether that turns the circuit.
    fn taken(
        &mut self,
        name: &Name,
        result: Option<Result<(), Kind>>,
        attempt: &Attempt<'_>,
        retry: &Retry,
        now: Timestamp,
    ) -> Option<Turn> {
        match result {
            None => {
                if attempt.is_probe {
                    self.breaker.end_probe();
                }
                None
            }
            Some(Ok(())) => {
                if matches!(attempt.verdict, Verdict::Accepted { .. }) {
                    let since = self.taking.map_or(now, |taking| taking.since);
                    self.taking = Some(Taking { since, last: now });
                }
                let closed = self.breaker.succeeded();
                self.closings += u64::from(closed);
                // The first word about a route is news, too.
                let is_heard = !matches!(attempt.verdict, Verdict::Deferred { fault: Fault::Sender { .. }, .. });
                let is_first = is_heard && !attempt.is_own && !self.is_known;
                self.is_known |= is_heard || closed;
                (closed || is_first).then_some(Turn::Up)
            }
            Some(Err(kind)) => {
                self.reply = Some(attempt.verdict.reply().clone());
                let opened = self.breaker.failed(
                    kind,
                    attempt.record,
                    attempt.is_probe,
                    &[name.0.as_str(), &name.1].concat(),
                    retry,
                    now,
                );
                self.is_known |= opened;
                if opened {
                    self.taking = None;
                }
                self.breaker.open().filter(|_| opened).map(|(_, _, next)| Turn::Down(kind, next))
            }
        }
    }
}

/// All circuits.
#[derive(Debug)]
pub(super) struct Circuits {
    circuits: Mutex<BTreeMap<Name, Circuit>>,
    changes: watch::Sender<u64>,
}

impl Default for Circuits {
    fn default() -> Self {
        Self { circuits: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Circuits {
    /// A number that grows whenever something may be tried again, or no more.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether something may be tried on `line` at `now`.
    pub(super) fn admit(self: &Arc<Self>, line: &Line, now: Timestamp) -> Admission {
        let gates = {
            let circuits = self.lock();
            line.names().each_ref().map(|name| circuits.get(name).map_or(Gate::Open, |found| found.breaker.gate(now)))
        };
        let mut until = None;
        for gate in gates {
            match gate {
                Gate::Open | Gate::Probe => {}
                Gate::Probing => return Admission::Shut(None),
                Gate::Shut(next) => until = until.max(Some(next)),
            }
        }
        match until {
            Some(until) => Admission::Shut(Some(until)),
            None if gates == [Gate::Open; 2] => Admission::Flow,
            None => Admission::Probe(self.probe(line)),
        }
    }

    /// A pass for one attempt on `line`, whatever its state: where that is not known to be good the attempt is a probe.
    pub(super) fn probe(self: &Arc<Self>, line: &Line) -> Pass {
        let mut circuits = self.lock();
        let begin = |name: &Name| circuits.get_mut(name).is_some_and(|circuit| circuit.breaker.begin_probe());
        let probes = line.names().each_ref().map(begin);
        Pass { circuits: Arc::clone(self), line: line.clone(), probes }
    }

    /// A pass for one attempt on a line that was found to flow.
    pub(super) fn pass(self: &Arc<Self>, line: &Line) -> Pass {
        Pass { circuits: Arc::clone(self), line: line.clone(), probes: [false; 2] }
    }

    /// What is known of `line`.
    pub(super) fn health(&self, line: &Line) -> Health {
        let circuits = self.lock();
        let found = line.names().each_ref().map(|name| circuits.get(name));
        let down = |circuit: &Circuit| {
            let (kind, since, next_probe) = circuit.breaker.open()?;
            Some(Down { since, reply: circuit.reply.clone()?, shut: kind == Kind::Shut, next_probe })
        };
        Health { down: found.into_iter().flatten().find_map(down), taking: taking(found) }
    }

    /// How often something that waited on `line` became free to go.
    pub(super) fn closings(&self, line: &Line) -> u64 {
        let circuits = self.lock();
        let closings = line.names().each_ref().map(|name| circuits.get(name).map_or(0, |circuit| circuit.closings));
        closings.into_iter().fold(0, u64::wrapping_add)
    }

    /// The configuration has changed: what is shut is tried at once.
    pub(super) fn hasten(&self, now: Timestamp) {
        self.lock().values_mut().for_each(|circuit| circuit.breaker.hasten(now));
        self.change();
    }

    /// The routes tried so far, and whether attempts are made on each.
    pub(super) fn states(&self) -> Vec<(String, bool)> {
        let mut states: BTreeMap<String, bool> = BTreeMap::new();
        for ((route, _), circuit) in self.lock().iter().filter(|(_, circuit)| circuit.is_known) {
            // An archive that is busy is there.
            let is_up = circuit.breaker.open().is_none_or(|(kind, _, _)| kind == Kind::Busy);
            *states.entry(route.clone()).or_insert(true) &= is_up;
        }
        states.into_iter().collect()
    }

    /// What is known of every route that was tried, and of lines that are shut by themselves.
    pub(super) fn survey(&self) -> Vec<RouteState> {
        let state = |((route, own), circuit): (&Name, &Circuit)| {
            let open = circuit.breaker.open();
            let is_line = !own.is_empty();
            if is_line && open.is_none() || !is_line && !circuit.is_known && circuit.last.is_none() {
                return None;
            }
            let health = match open {
                None => Standing::Up,
                Some((Kind::Busy, _, _)) => Standing::Busy,
                Some(_) => Standing::Down,
            };
            let failed = || Some((open?.1, circuit.reply.as_ref()?.text.clone()));
            Some(RouteState {
                route: route.clone(),
                line: is_line.then(|| own.clone()),
                health,
                since: open.map(|(_, since, _)| since),
                next_probe: open.map(|(_, _, next)| next),
                last_reply: circuit.last.clone().or_else(failed),
            })
        };
        self.lock().iter().filter_map(state).collect()
    }

    /// Wakes the lanes: something was put back that may be tried elsewhere.
    pub(super) fn change(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the circuit called `name`; nothing when there are too many.
    fn with<T>(&self, name: &Name, act: impl FnOnce(&mut Circuit) -> T) -> Option<T> {
        let mut circuits = self.lock();
        if circuits.len() >= MAX_CIRCUITS && !circuits.contains_key(name) {
            // Those of routes that nobody uses any more are the first to be of no interest.
            circuits.retain(|_, circuit| circuit.breaker.open().is_some());
            if circuits.len() >= MAX_CIRCUITS {
                return None;
            }
        }
        Some(act(circuits.entry(name.clone()).or_default()))
    }
}

/// The right to make one attempt. Dropped without a result, a probe leaves its place to another.
#[derive(Debug)]
pub(super) struct Pass {
    circuits: Arc<Circuits>,
    line: Line,
    /// Whether it is a probe of the route's circuit, and of the line's own.
    probes: [bool; 2],
}

impl Pass {
    /// The same for another line, if it is one now.
    pub(super) fn on(self, line: &Line) -> Self {
        if self.line == *line { self } else { self.circuits.pass(line) }
    }

    /// Whether the line is tried out with it.
    pub(super) fn is_probe(&self) -> bool {
        self.probes != [false; 2]
    }

    /// Whether the line was shut since it was given out.
    pub(super) fn is_void(&self, now: Timestamp) -> bool {
        !self.is_probe() && !matches!(self.circuits.admit(&self.line, now), Admission::Flow)
    }

    /// The attempt at `record` ended so. Where the line waits for a probe now, tells when that is.
    pub(super) fn ended(
        mut self,
        verdict: &Verdict,
        record: RecordId,
        retry: &Retry,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let [route, own] = match verdict {
            Verdict::Accepted { .. } => [Some(Ok(())), Some(Ok(()))],
            Verdict::Refused { reply } if reply.is_smtp => [Some(Ok(())), Some(Ok(()))],
            // Found out without asking anybody.
            Verdict::Refused { .. } | Verdict::Deferred { fault: Fault::Ours, .. } => [None, None],
            Verdict::Deferred { fault: Fault::Record, .. } => [Some(Ok(())), Some(Err(Kind::Busy))],
            Verdict::Deferred { fault: Fault::Sender { shut }, .. } => [Some(Ok(())), Some(Err(kind(*shut)))],
            Verdict::Deferred { fault: Fault::Route { shut }, .. } => [Some(Err(kind(*shut))), None],
        };
        let probes = std::mem::take(&mut self.probes);
        let names = self.line.names();
        for (((result, name), is_probe), is_own) in [route, own].into_iter().zip(names).zip(probes).zip([false, true]) {
            let attempt = Attempt { verdict, record, is_probe, is_own };
            self.note(name, result, attempt, retry, now);
        }
        let verdict_is_the_route_s = !matches!(verdict, Verdict::Deferred { fault: Fault::Record | Fault::Ours, .. });
        self.circuits.health(&self.line).down.map(|down| down.next_probe).filter(|_| verdict_is_the_route_s)
    }

    fn note(&self, name: &Name, result: Option<Result<(), Kind>>, attempt: Attempt<'_>, retry: &Retry, now: Timestamp) {
        let reply = attempt.verdict.reply();
        let last = (!attempt.is_own).then(|| (now, reply.text.clone()));
        let turned = self.circuits.with(name, |circuit| {
            circuit.last = last.or(circuit.last.take());
            circuit.taken(name, result, &attempt, retry, now)
        });
        if let Some(turn) = turned.flatten() {
            self.log(&turn, reply, attempt.is_own);
        } else if !attempt.is_probe {
            return;
        }
        self.circuits.change();
    }

    fn log(&self, turn: &Turn, reply: &Said, is_own: bool) {
        let route = self.line.route();
        let organization = is_own.then_some(self.line.0.organization.as_str());
        let freight = is_own.then_some(self.line.0.freight);
        match turn {
            Turn::Up => {
                tracing::info!(event = "route.state", route, state = "up", organization, freight, "the route works");
            }
            Turn::Down(kind, next) => {
                let state = if *kind == Kind::Busy { "busy" } else { "down" };
                let next_probe = next.rfc3339();
                tracing::warn!(event = "route.state", route, state, organization, freight, %reply, next_probe, "the route does not work; it is probed from time to time");
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probes == [false; 2] {
            return;
        }
        for (name, is_probe) in self.line.names().iter().zip(self.probes) {
            if is_probe {
                self.circuits.with(name, |circuit| circuit.breaker.end_probe());
            }
        }
        self.circuits.change();
    }
}

struct Attempt<'a> {
    verdict: &'a Verdict,
    record: RecordId,
    is_probe: bool,
    is_own: bool,
}

enum Turn {
    Up,
    Down(Kind, Timestamp),
}

/// The route is the business of all who use it; what is taken on it counts for the line it came by.
fn taking([route, own]: [Option<&Circuit>; 2]) -> Option<Taking> {
    let (route, own) = (route?.taking?, own?.taking?);
    let since = route.since.max(own.since);
    (own.last >= since).then_some(Taking { since, last: own.last })
}

fn kind(shut: bool) -> Kind {
    if shut { Kind::Shut } else { Kind::Down }
}
