//! The listeners of a relay: opened at its start, and again where a new configuration has others.
//!
//! Promises: a listener whose address stays keeps its socket and its connections, whatever else of it changes, its name
//! included; one that is new accepts from then on; one that is gone accepts nobody any more, and the sessions that it has end as
//! they would have, by the configuration in effect. Every socket is bound before anything changes.

use super::StartError;
use super::relay::IDLE_CHECK;
use crate::admin::Entry;
use crate::config::{Config, Listener};
use crate::drain::Drain;
use crate::forward::{NextHop, Settings};
use crate::net::SharedNetwork;
use crate::receive::{self, Listening, Parts, Setup, TlsServer};
use crate::watch;
use std::net::SocketAddr;
use std::sync::Arc;

/// A listener at work.
struct Entrance {
    /// What the configuration says; port 0 is any.
    configured: SocketAddr,
    /// Where it listens.
    address: SocketAddr,
    setup: watch::Sender<Arc<Setup>>,
    /// When it is dropped nobody is accepted any more.
    end: watch::Sender<()>,
}

/// A listener to be.
enum Step {
    /// The one of this number goes on, with this setup.
    Keep(usize, Setup),
    /// A new socket.
    Open(Listening, Setup),
}

/// What a configuration makes of the listeners; nothing has changed yet.
pub(super) struct Plan(Vec<Step>);

/// All listeners.
pub(super) struct Entrances {
    network: SharedNetwork,
    open: Vec<Entrance>,
    /// Sessions of listeners that are gone.
    left: Vec<watch::Sender<Arc<Setup>>>,
    shown: watch::Sender<Vec<Entry>>,
}

impl Entrances {
    /// None yet.
    pub(super) fn new(network: SharedNetwork) -> Self {
        Self { network, open: Vec::new(), left: Vec::new(), shown: watch::Sender::new(Vec::new()) }
    }

    /// Prepares everything that `config` asks for, and binds what is new.
    ///
    /// # Errors
    /// [`StartError::Listen`], [`StartError::NextHop`], [`StartError::Tls`]; nothing has changed then.
    pub(super) async fn plan(&self, config: &Arc<Config>) -> Result<Plan, StartError> {
        let mut steps: Vec<Step> = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let taken = |number: usize| steps.iter().any(|step| matches!(step, Step::Keep(kept, _) if *kept == number));
            let found = self.open.iter().enumerate().find(|(number, open)| open.is(listener) && !taken(*number));
            let next_hop = match found.map(|(_, open)| Arc::clone(&open.setup.borrow())) {
                // An unchanged next hop keeps its connections.
                Some(current) if has_same_next_hop(&current, config, listener) => Arc::clone(&current.next_hop),
                _ => next_hop(config, listener, &self.network)?,
            };
            let setup = setup(config, listener, next_hop)?;
            let step = match found {
                Some((number, _)) => Step::Keep(number, setup),
                None => Step::Open(self.bind(listener).await?, setup),
            };
            steps.push(step);
        }
        Ok(Plan(steps))
    }

    async fn bind(&self, listener: &Listener) -> Result<Listening, StartError> {
        receive::listen(&self.network, listener.address).await.map_err(|error| StartError::Listen {
            name: listener.name.clone(),
            address: listener.address,
            error,
        })
    }

    /// Carries a plan out.
    pub(super) fn carry_out(&mut self, Plan(steps): Plan, config: &Arc<Config>, parts: &Parts) {
        let mut old: Vec<_> = std::mem::take(&mut self.open).into_iter().map(Some).collect();
        for step in steps {
            match step {
                Step::Keep(number, setup) => {
                    let Some(kept) = old.get_mut(number).and_then(Option::take) else { continue };
                    kept.setup.send_replace(Arc::new(setup));
                    self.open.push(kept);
                }
                Step::Open(listening, setup) => self.open.push(start(listening, setup, parts)),
            }
        }
        for gone in old.into_iter().flatten() {
            let Entrance { address, setup, end, .. } = gone;
            drop(end);
            let listener = setup.borrow().listener.name.clone();
            tracing::info!(event = "listener.stopped", listener, %address, "no more connections; its sessions go on to their end");
            self.left.push(setup);
        }
        self.left.retain(watch::Sender::is_watched);
        for setup in &self.left {
            let current = Arc::clone(&setup.borrow());
            let Setup { listener, next_hop, tls, .. } = &*current;
            let (listener, next_hop, tls) = (listener.clone(), Arc::clone(next_hop), tls.clone());
            setup.send_replace(Arc::new(Setup { config: Arc::clone(config), listener, next_hop, tls }));
        }
        self.shown.send_replace(self.open.iter().map(Entrance::entry).collect());
    }

    /// The listeners' names, and where each listens.
    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.open.iter().map(|open| (open.setup.borrow().listener.name.clone(), open.address)).collect()
    }

    /// For who watches over them.
    pub(super) fn shown(&self) -> watch::Receiver<Vec<Entry>> {
        self.shown.subscribe()
    }

    /// Ends the idle conversations with the next hops in order.
    pub(super) async fn close_idle(&self) {
        for setup in self.open.iter().map(|open| &open.setup).chain(&self.left) {
            let next_hop = Arc::clone(&setup.borrow().next_hop);
            next_hop.close_idle().await;
        }
    }
}

impl Entrance {
    /// Whether it is the one that `listener` means: any free port is had by one of the same name.
    fn is(&self, listener: &Listener) -> bool {
        let same_name = || self.setup.borrow().listener.name == listener.name;
        self.configured == listener.address && (listener.address.port() != 0 || same_name())
    }

    fn entry(&self) -> Entry {
        Entry { address: self.address, setup: self.setup.subscribe() }
    }
}

fn has_same_next_hop(current: &Setup, config: &Config, listener: &Listener) -> bool {
    current.listener.next_hop == listener.next_hop
        && current.listener.client_identity == listener.client_identity
        && current.config.hostname == config.hostname
}

fn next_hop(config: &Config, listener: &Listener, network: &SharedNetwork) -> Result<Arc<NextHop>, StartError> {
    let settings = Settings {
        network: Arc::clone(network),
        hello_name: config.hostname.clone(),
        identity: listener.client_identity,
        ..Settings::default()
    };
    NextHop::with_settings(listener.next_hop.clone(), settings)
        .map_err(|error| StartError::NextHop { name: listener.name.clone(), error })
}

fn setup(config: &Arc<Config>, listener: &Listener, next_hop: Arc<NextHop>) -> Result<Setup, StartError> {
    let refused = |why| StartError::Tls { name: listener.name.clone(), why };
    let tls = listener.tls.as_ref().map(TlsServer::new).transpose().map_err(refused)?;
    Ok(Setup { config: Arc::clone(config), listener: listener.clone(), next_hop, tls })
}

fn start(listening: Listening, setup: Setup, parts: &Parts) -> Entrance {
    tracing::info!(
        event = "listener.started",
        listener = %setup.listener.name,
        address = %listening.address,
        next_hop = %setup.next_hop.label(),
        "listening"
    );
    parts.drain.spawn(
        format!("first look at {}", setup.next_hop.label()),
        learn(Arc::clone(&setup.next_hop), parts.drain.clone()),
    );
    let (configured, address) = (setup.listener.address, listening.address);
    let setup = watch::Sender::new(Arc::new(setup));
    let end = watch::Sender::new(());
    parts
        .drain
        .spawn("idle connections of a next hop", expire_idle(setup.subscribe(), end.subscribe(), parts.drain.clone()));
    let serve = listening.serve(setup.subscribe(), end.subscribe(), parts.clone());
    parts.drain.spawn(receive::listener_label(address), serve);
    Entrance { configured, address, setup, end }
}

/// Learns what the next hop offers before the first client asks.
async fn learn(next_hop: Arc<NextHop>, drain: Drain) {
    tokio::select! {
        biased;
        () = drain.begun() => {}
        learnt = next_hop.learn() => if let Err(error) = learnt {
            tracing::warn!(event = "route.state", route = %next_hop.label(), state = "down", %error, "the next hop can't be reached yet");
        },
    }
}

/// Lets connections go that no session has used for long, also when no session comes.
async fn expire_idle(setup: watch::Receiver<Arc<Setup>>, mut end: watch::Receiver<()>, drain: Drain) {
    let mut ticks = tokio::time::interval(IDLE_CHECK);
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            _ = end.changed() => return,
            _ = ticks.tick() => setup.borrow().next_hop.expire_idle(),
        }
    }
}
