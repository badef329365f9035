//! Injects the faults of a plan when their time comes, and ends them.

use super::client::RELAY;
use super::disk;
use super::history::{Chronicle, Peer, Trouble, Wrong};
use super::net::SimNetwork;
use super::plan::{Fault, Plan};
use super::relay::{Control, Order, Shape, config};
use super::server::Server;
use super::store::Store;
use super::trace::Trace;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use turmoil::Sim;

/// How long the relay stays away when nobody has said it.
const DOWN: u64 = 700;

/// How long a spool whose disk has failed is left alone.
const MEND: u64 = 6_000;
/// How long the relay may take to see that there is room again.
const AFTER_FULL: u64 = 10_000;

/// Where the relay is in its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Up,
    /// Told to drain; back so long after it has.
    Draining(u64),
    /// Without power; its last octets are still on their way until then, and it is away for so long.
    Dying(u64, u64),
    /// Away until then.
    Down(u64),
}

/// The faults of one world.
pub struct Injector {
    faults: VecDeque<(u64, Fault)>,
    servers: Vec<(Peer, Server)>,
    network: SimNetwork,
    store: Store,
    control: Control,
    chronicle: Chronicle,
    trace: Trace,
    life: Life,
    /// The relay ends without power, not by a kill.
    is_dark: bool,
    was_killed: bool,
    /// The disk is full until then.
    full_until: Option<u64>,
    /// The relay is restarted for its disk then.
    mend_at: Option<u64>,
    /// When the relay drains: drains so far.
    drained: u64,
    /// What is wrong with the line to a peer, and until when.
    lines: BTreeMap<Peer, (Fault, u64)>,
    /// Servers that are down, and until when.
    down: BTreeMap<Peer, u64>,
    /// The latency of a quiet line, and of a power cut's last octets.
    latency: Duration,
    reloads: u64,
    shape: Shape,
    /// Broken lines are noticed when they are mended; otherwise only the waits of the protocol end them.
    lines_are_cut: bool,
}

impl Injector {
    pub fn new(
        plan: &Plan,
        servers: Vec<(Peer, Server)>,
        network: SimNetwork,
        store: Store,
        control: Control,
        chronicle: Chronicle,
        trace: Trace,
    ) -> Self {
        Self {
            faults: plan.faults.iter().cloned().collect(),
            servers,
            network,
            store,
            control,
            chronicle,
            trace,
            life: Life::Up,
            is_dark: false,
            was_killed: false,
            full_until: None,
            mend_at: None,
            drained: 0,
            lines: BTreeMap::new(),
            down: BTreeMap::new(),
            latency: plan.max_latency + 2 * plan.tick,
            reloads: 0,
            shape: plan.shape,
            lines_are_cut: plan.seed % 64 != 3,
        }
    }

    /// Does what is due; called between two ticks.
    pub fn inject(&mut self, sim: &mut Sim<'_>, now: u64) {
        self.watch(sim, now);
        while self.faults.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, fault)) = self.faults.pop_front() {
                self.begin(sim, now, fault);
            }
        }
    }

    /// Ends everything that is wrong.
    pub fn calm(&mut self, sim: &mut Sim<'_>) {
        self.faults.clear();
        self.servers.iter().for_each(|(_, server)| server.disarm());
        self.end_full();
        for peer in Peer::ALL {
            self.mend(sim, peer);
            self.bring_up(sim, peer);
        }
    }

    /// Whether the relay is up, and nothing is left to be done for its disk.
    pub fn is_over(&self) -> bool {
        self.mend_at.is_none() && self.life == Life::Up
    }

    fn watch(&mut self, sim: &mut Sim<'_>, now: u64) {
        for peer in Peer::ALL {
            if self.lines.get(&peer).is_some_and(|(_, until)| *until <= now) {
                self.mend(sim, peer);
            }
            if self.down.get(&peer).is_some_and(|until| *until <= now) {
                self.bring_up(sim, peer);
            }
        }
        if self.store.has_no_power() && matches!(self.life, Life::Up | Life::Draining(_)) {
            self.network.power.switch_off();
        }
        if self.full_until.is_some_and(|until| until <= now) {
            self.end_full();
        }
        if self.mend_at.is_some_and(|at| at <= now) && self.life == Life::Up {
            self.kill(sim, now, DOWN);
        }
        if self.store.is_stopped() && self.life == Life::Up && self.mend_at.is_none() {
            // It stopped while the relay started, which it can't before the machine is started again.
            self.mend_at = Some(now + MEND);
            self.trouble(Wrong::Disk, now, now + MEND);
        }
        if self.network.power.is_off() && matches!(self.life, Life::Up | Life::Draining(_)) {
            self.die(now, DOWN);
        }
        match self.life {
            Life::Up => {}
            Life::Draining(back) if self.control.seen().drained > self.drained => self.life = Life::Down(now + back),
            Life::Draining(_) => {}
            Life::Dying(at, down) if at <= now => {
                Peer::ALL.into_iter().for_each(|peer| sim.partition(RELAY, peer.host()));
                self.crash(sim, now, down);
            }
            Life::Dying(..) => {}
            Life::Down(until) if until <= now => self.start(sim),
            Life::Down(_) => {}
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: u64, fault: Fault) {
        let is_up = self.life == Life::Up && self.control.seen().is_up;
        match &fault {
            Fault::Down(peer, long) if !self.down.contains_key(peer) => {
                sim.crash(peer.host());
                self.down.insert(*peer, now + long);
                self.trouble(Wrong::Down(*peer), now, now + long);
            }
            Fault::Partition(peer, long)
            | Fault::Mute(peer, long)
            | Fault::Deaf(peer, long)
            | Fault::Hold(peer, long)
            | Fault::Slow(peer, _, long)
                if !self.lines.contains_key(peer) =>
            {
                self.lines.insert(*peer, (fault.clone(), now + long));
                self.trouble(Wrong::Line(*peer), now, now + long);
                self.apply(sim, *peer);
            }
            Fault::Power(down) if is_up || matches!(self.life, Life::Draining(_)) => {
                self.network.power.switch_off();
                self.die(now, *down);
            }
            Fault::Armed(peer, fuse) => {
                self.servers.iter().filter(|(of, _)| of == peer).for_each(|(_, server)| server.arm(*fuse));
            }
            Fault::Kill(down) if is_up || matches!(self.life, Life::Draining(_)) => {
                return self.kill(sim, now, *down);
            }
            Fault::Full(long) if self.full_until.is_none() => {
                self.store.set_full(true);
                self.full_until = Some(now + long);
                self.trouble(Wrong::Disk, now, now + long + AFTER_FULL);
            }
            Fault::Disk(after, what) if is_up => {
                self.store.plan(*after, *what);
                if *what != disk::Fault::PowerCut {
                    // A spool that has failed for good is helped by a new start alone.
                    self.mend_at = Some(now + MEND);
                    self.trouble(Wrong::Disk, now, now + MEND);
                }
            }
            Fault::Restart(back) if is_up => {
                self.drained = self.control.seen().drained;
                self.control.order(Order::Drain);
                self.life = Life::Draining(*back);
                self.trouble(Wrong::Restart, now, now + back);
            }
            Fault::Reload if is_up => {
                self.reloads += 1;
                self.control.order(Order::Reload(config(self.shape, self.reloads)));
            }
            Fault::Queue(wish, which) if is_up => self.control.order(Order::Wish(*wish, *which)),
            // Nobody is there for it, or something like it is going on already.
            _ => return,
        }
        self.trace.note(format!("fault: {fault:?}"));
        self.chronicle.count_fault(fault.name());
    }

    fn end_full(&mut self) {
        if self.full_until.take().is_some() {
            self.trace.note("the disk has room again");
            self.store.set_full(false);
        }
    }

    /// The power is gone; the last octets are still on their way.
    fn die(&mut self, now: u64, down: u64) {
        let dead = now + u64::try_from(self.latency.as_millis()).unwrap();
        self.trouble(Wrong::Power, now, dead + down);
        self.store.cut_power();
        self.is_dark = true;
        self.life = Life::Dying(dead, down);
    }

    fn kill(&mut self, sim: &mut Sim<'_>, now: u64, down: u64) {
        self.trouble(Wrong::Crash, now, now + down);
        self.crash(sim, now, down);
        let fault = Fault::Kill(down);
        self.trace.note(format!("fault: {fault:?}"));
        self.chronicle.count_fault(fault.name());
    }

    fn crash(&mut self, sim: &mut Sim<'_>, now: u64, down: u64) {
        self.trace.note("the relay's program is gone");
        self.network.begin_to_end();
        // What is dropped now does nothing more to the disk: nothing is dropped in a program that is killed.
        self.store.cut_power();
        sim.crash(RELAY);
        self.control.gone();
        self.was_killed = true;
        self.mend_at = None;
        self.life = Life::Down(now + down);
    }

    fn start(&mut self, sim: &mut Sim<'_>) {
        self.trace.note("the relay starts");
        if self.full_until.is_none() {
            // A fault that was planned for a busier disk, and has not come: trouble that nobody has been told of any more.
            self.store.set_full(false);
        }
        if self.is_dark || self.store.is_stopped() {
            // A file system that could not keep its names takes nothing more before the machine is started again.
            self.store.after_power_cut();
        } else if self.was_killed {
            self.store.after_kill();
        } else {
            self.store.after_end();
        }
        (self.is_dark, self.was_killed) = (false, false);
        self.network.power.switch_on();
        self.life = Life::Up;
        Peer::ALL.into_iter().for_each(|peer| self.apply(sim, peer));
        sim.bounce(RELAY);
    }

    fn bring_up(&mut self, sim: &mut Sim<'_>, peer: Peer) {
        if self.down.remove(&peer).is_some() {
            self.trace.note(format!("{peer} is up again"));
            sim.bounce(peer.host());
        }
    }

    fn mend(&mut self, sim: &mut Sim<'_>, peer: Peer) {
        let Some((fault, _)) = self.lines.remove(&peer) else { return };
        self.trace.note(format!("the line to {peer} is mended"));
        match fault {
            Fault::Hold(..) => sim.release(RELAY, peer.host()),
            Fault::Slow(..) => sim.set_link_max_message_latency(RELAY, peer.host(), self.latency),
            _ if self.lines_are_cut => self.network.cut_lines(peer),
            _ => {}
        }
        self.apply(sim, peer);
    }

    /// Makes the line to a peer what it should be now.
    fn apply(&self, sim: &Sim<'_>, peer: Peer) {
        let (relay, host) = (RELAY, peer.host());
        if matches!(self.life, Life::Down(_)) && self.network.power.is_off() {
            return sim.partition(relay, host);
        }
        match self.lines.get(&peer).map(|(fault, _)| fault) {
            Some(Fault::Hold(..)) => sim.hold(relay, host),
            Some(Fault::Partition(..)) => sim.partition(relay, host),
            other => {
                sim.repair(relay, host);
                match other {
                    Some(Fault::Mute(..)) => sim.partition_oneway(relay, host),
                    Some(Fault::Deaf(..)) => sim.partition_oneway(host, relay),
                    Some(Fault::Slow(_, each, _)) => {
                        sim.set_link_max_message_latency(relay, host, Duration::from_millis(*each));
                    }
                    _ => {}
                }
            }
        }
    }

    fn trouble(&self, what: Wrong, from: u64, until: u64) {
        self.chronicle.write().troubles.push(Trouble { what, from, until });
    }
}
