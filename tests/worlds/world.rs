//! One world from its plan: builds the hosts, lets time pass, injects the faults, calms down, and waits until everything is
//! delivered and drained.

use super::client::{Client, RELAY};
use super::clock::{SimClock, SimEntropy};
use super::dice::Dice;
use super::faults::Injector;
use super::history::{Chronicle, History, Peer};
use super::log::{LogSink, keep_lines_wanted, take_panics, watch_panics};
use super::net::{Power, SimNetwork};
use super::plan::Plan;
use super::relay::{Control, House, Order, config};
use super::returns::Returns;
use super::server::{Server, Setup};
use super::store::Store;
use super::trace::Trace;
use journal_relay::config::{Log, LogAddresses, LogFormat};
use journal_relay::telemetry::{HashKey, Telemetry};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turmoil::Sim;

/// How long after the last fault everything may take: the longest waits of the protocol, and some.
const LONG: u64 = 45 * 60 * 1_000;
/// How often the spool is looked at.
const LOOK_EVERY: u64 = 1_000;

/// What came of a world.
pub struct Outcome {
    pub history: History,
    /// How much happened, and its hash.
    pub sum: (u64, u64),
    pub lines: Vec<String>,
    /// Simulated milliseconds.
    pub lasted: u64,
}

/// Runs a world to its end.
pub fn run(plan: &Plan) -> Outcome {
    watch_panics();
    take_panics();
    let clock = SimClock::default();
    let (trace, chronicle, power) = (Trace::new(clock.clone()), Chronicle::default(), Power::default());
    chronicle.write().mails.clone_from(&plan.mails);
    chronicle.write().bypass = plan.shape.bypass;
    chronicle.write().also = plan.shape.also;
    let sink =
        LogSink { chronicle: chronicle.clone(), trace: trace.clone(), power: power.clone(), clock: clock.clone() };
    let log = Log { format: LogFormat::Json, level: tracing::Level::INFO, addresses: LogAddresses::Full };
    let telemetry = Telemetry::to(Box::new(sink), &log, &HashKey::from_bytes([7; 32]), Arc::new(clock.clone()));
    keep_lines_wanted(&log);
    let lasted = tracing::subscriber::with_default(telemetry.subscriber(), || {
        let mut world = World::build(plan, clock, trace.clone(), chronicle.clone(), power);
        world.run();
        let mut history = world.chronicle.write();
        history.disk_operations = world.store.finish();
        history.broken.extend(
            world.store.synced_again().iter().map(|file| format!("{file} was synced again after a failed sync")),
        );
        drop(history);
        world.now()
    });
    let mut history = chronicle.write().clone();
    history.broken.extend(take_panics());
    Outcome { history, sum: trace.sum(), lines: trace.lines(), lasted }
}

struct World<'a> {
    sim: Sim<'a>,
    plan: &'a Plan,
    clock: SimClock,
    trace: Trace,
    chronicle: Chronicle,
    control: Control,
    store: Store,
    injector: Injector,
    /// Jobs of clients that are not done.
    open: Rc<Cell<usize>>,
}

impl<'a> World<'a> {
    fn build(plan: &'a Plan, clock: SimClock, trace: Trace, chronicle: Chronicle, power: Power) -> Self {
        let dice = Dice::new(plan.seed).fork("world");
        let mut sim = turmoil::Builder::new()
            .tick_duration(plan.tick)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(plan.max_latency)
            .simulation_duration(Duration::from_secs(1 << 24))
            .epoch(std::time::UNIX_EPOCH)
            .tcp_capacity(256)
            .rng_seed(plan.seed)
            .build();
        let network = SimNetwork::new(trace.clone(), power.clone());
        let control = Control::default();
        let store = Store::new(dice.fork("disk"), trace.clone());
        let house = House {
            control: control.clone(),
            network: network.clone(),
            clock: clock.clone(),
            entropy: Arc::new(SimEntropy::new(dice.fork("entropy"))),
            chronicle: chronicle.clone(),
            trace: trace.clone(),
            config: Arc::new(Mutex::new(config(plan.shape, 0))),
            spool: store.clone(),
        };
        sim.host(RELAY, move || house.clone().live());
        let open = Rc::new(Cell::new(plan.jobs.iter().map(Vec::len).sum()));
        let returns = Returns {
            percent: plan.returns,
            until: plan.calm_from,
            dice: Rc::new(RefCell::new(dice.fork("returns"))),
            chronicle: chronicle.clone(),
            trace: trace.clone(),
            open: Rc::clone(&open),
        };
        let servers: Vec<_> = Peer::SERVERS
            .into_iter()
            .enumerate()
            .map(|(place, peer)| {
                let setup = Setup {
                    peer,
                    moods: plan.moods[place].clone(),
                    offers: plan.offers[place].clone(),
                    eight_bit_mime: plan.eight_bit_mime[place],
                    pipelining: plan.pipelining[place],
                    chunking: plan.chunking && peer == Peer::NextHop,
                    dice: dice.fork(peer.host()),
                    returns: returns.clone(),
                };
                let server = Server::new(setup, chronicle.clone(), trace.clone(), power.clone());
                let host = server.clone();
                sim.host(peer.host(), move || host.clone().run());
                (peer, server)
            })
            .collect();
        clients(&mut sim, plan, &dice, &chronicle, &trace, &open);
        let injector =
            Injector::new(plan, servers, network, store.clone(), control.clone(), chronicle.clone(), trace.clone());
        Self { sim, plan, clock, trace, chronicle, control, store, injector, open }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_millis()).unwrap()
    }

    fn run(&mut self) {
        while self.now() < self.plan.calm_from {
            self.step();
        }
        self.trace.note("the faults stop");
        self.injector.calm(&mut self.sim);
        if self.wait("the relay is not started again for its disk", |world| world.injector.is_over())
            && self.until_empty()
            && self.until_retried()
            && self.end()
        {
            // What the spool has when the relay starts once more is what was durable.
            self.store.after_end();
            self.sim.bounce(RELAY);
            let looks = self.control.seen().looks;
            self.control.order(Order::Look);
            self.wait("the relay does not start again", |world| world.control.seen().looks > looks);
            self.chronicle.write().recovered = self.control.seen().recovered;
            self.end();
        }
    }

    /// One tick.
    fn step(&mut self) {
        let now = self.now();
        self.clock.set(self.sim.elapsed());
        self.injector.inject(&mut self.sim, now);
        if let Err(error) = self.sim.step() {
            self.chronicle.write().broken.push(format!("a host ended: {error}"));
        }
        self.clock.set(self.sim.elapsed());
    }

    /// Waits for an event; notes that it did not come.
    fn wait(&mut self, failure: &str, is_done: impl Fn(&Self) -> bool) -> bool {
        let limit = self.now() + LONG;
        while !is_done(self) {
            if self.now() > limit {
                let seen = self.control.seen();
                let text = format!("{failure}; open jobs: {}; {seen:?}", self.open.get());
                self.chronicle.write().broken.push(text);
                return false;
            }
            self.step();
        }
        true
    }

    /// Records that failed were refused by their archives; tried again by hand they are taken now, and held ones are let go.
    fn until_retried(&mut self) -> bool {
        while !self.control.seen().live.is_empty() {
            self.control.order(Order::TidyUp);
            if !self.until_empty() {
                return false;
            }
        }
        true
    }

    fn until_empty(&mut self) -> bool {
        let next = Cell::new(0);
        let looks = Cell::new(self.control.seen().looks);
        // A look tells of what was done before it was asked for.
        let was_done = Cell::new(false);
        self.wait("2 kept: the spool does not empty", |world| {
            if world.now() < next.get() {
                return false;
            }
            let seen = world.control.seen();
            let is_empty =
                !seen.is_due && seen.live.iter().all(|entry| matches!(entry.state.as_str(), "failed" | "held"));
            let is_new = seen.looks > looks.replace(seen.looks);
            if is_new && seen.is_up && is_empty && was_done.get() {
                return true;
            }
            was_done.set(world.open.get() == 0);
            next.set(world.now() + LOOK_EVERY);
            world.control.order(Order::Look);
            false
        })
    }

    fn end(&mut self) -> bool {
        // What was planned for a busier disk, and has not come, doesn't any more: nobody would hear the order again.
        self.store.set_full(false);
        let drained = self.control.seen().drained;
        let now = self.now();
        self.chronicle.write().ends_from = now;
        self.control.order(Order::Drain);
        self.wait("7 bounded: the drain does not end", |world| world.control.seen().drained > drained)
    }
}

fn clients(sim: &mut Sim<'_>, plan: &Plan, dice: &Dice, chronicle: &Chronicle, trace: &Trace, open: &Rc<Cell<usize>>) {
    let mails = Rc::new(plan.mails.clone());
    let all: Vec<_> = plan
        .jobs
        .iter()
        .enumerate()
        .map(|(number, jobs)| Client {
            number,
            jobs: jobs.clone(),
            mails: Rc::clone(&mails),
            patience: plan.patience,
            dice: dice.fork(&format!("client {number}")),
            chronicle: chronicle.clone(),
            trace: trace.clone(),
            open: Rc::clone(open),
        })
        .collect();
    let all = RefCell::new(all);
    sim.host(Peer::Clients.host(), move || {
        let all = all.take();
        async move {
            for client in all {
                #[allow(clippy::disallowed_methods, reason = "a peer is no part of the relay")]
                tokio::task::spawn_local(client.run());
            }
            std::future::pending().await
        }
    });
}
