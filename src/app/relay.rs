//! The relay as one value: every part built from the configuration and started, reconfigured, drained.
//!
//! What surrounds it (spool, network, time, chance, names) is handed in, and nothing here knows of signals or files: a
//! simulation starts the same relay that the daemon does.

use super::StartError;
use super::switches::Switches;
use crate::admin::{self, Door, Watched};
use crate::clock::SharedClock;
use crate::config::{Config, Listener};
use crate::deliver::{self, Delivery, PolicyMemory, Resolver};
use crate::drain::Drain;
use crate::forward::{NextHop, Settings};
use crate::journal::MacKey;
use crate::mail::Entropy;
use crate::net::SharedNetwork;
use crate::receive::{self, Allowance, Files, Gaps, Parts, Places, Setup, TlsServer};
use crate::spool::{Pressure, Spool};
use crate::telemetry::{Metrics, Telemetry};
use crate::watch;
use prometheus_client::metrics::histogram::Histogram;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long open transactions may take once the relay drains.
pub const GRACE: Duration = Duration::from_secs(30);
/// How long closing connections, and the spool, may take each.
pub const CLOSE: Duration = Duration::from_secs(10);
/// How often whoever waits for the end is told what is still open.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How often idle connections to next hops are looked at.
const IDLE_CHECK: Duration = Duration::from_secs(15);

/// What a relay lives in.
#[derive(Clone)]
pub struct Surroundings {
    /// Where messages and records are kept; open.
    pub spool: Arc<dyn Spool>,
    /// The time.
    pub clock: SharedClock,
    /// Chance, for ids.
    pub entropy: Arc<dyn Entropy>,
    /// Where connections come from and go to.
    pub network: SharedNetwork,
    /// Who knows where archives are.
    pub resolver: Arc<dyn Resolver>,
    /// Where archives' MTA-STS policies are kept.
    pub policies: Arc<dyn PolicyMemory>,
    /// Sessions and transactions that may be open at a time: as many as the limit of open files has room for.
    pub allowance: Allowance,
}

/// A relay at work. Dropping it stops nothing: see [`drain`](Self::drain).
pub struct Relay {
    surroundings: Surroundings,
    drain: Drain,
    config: watch::Sender<Arc<Config>>,
    setups: Vec<watch::Sender<Arc<Setup>>>,
    addresses: Vec<(String, SocketAddr)>,
    delivery: Delivery,
    pressure: Pressure,
    gaps: Gaps,
    switches: Switches,
}

impl Relay {
    /// Binds every socket before any of them serves (a relay that can't have one of them does not start), then starts all.
    ///
    /// # Errors
    /// [`StartError::OpenRelay`], [`StartError::Listen`], [`StartError::NextHop`], [`StartError::Tls`],
    /// [`StartError::Spool`]; nothing was started then.
    pub async fn start(config: Arc<Config>, surroundings: Surroundings) -> Result<Self, StartError> {
        let tries = receive::prove_closed(&config)?;
        tracing::debug!(
            event = "config.proved",
            tries,
            "tried as a stranger: nobody but the organizations' domains can be reached"
        );
        let drain = Drain::default();
        let mut bound = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let next_hop = next_hop(&config, listener, &surroundings.network)?;
            let listening = receive::listen(&surroundings.network, listener.address).await;
            let listening = listening.map_err(|error| StartError::Listen {
                name: listener.name.clone(),
                address: listener.address,
                error,
            })?;
            bound.push((listening, setup(&config, listener, next_hop)?));
        }
        let secret = surroundings.spool.secret(MacKey::draw(&*surroundings.entropy)).await?;
        let mac_key = MacKey::from_bytes(secret);
        let pressure = Pressure::new(largest_message(&config));
        drain.spawn("room of the spool", pressure.clone().watch(Arc::clone(&surroundings.spool), drain.clone()));
        let parts = Parts {
            spool: Arc::clone(&surroundings.spool),
            pressure: pressure.clone(),
            gaps: Gaps::default(),
            clock: Arc::clone(&surroundings.clock),
            entropy: Arc::clone(&surroundings.entropy),
            mac_key,
            bounces: Places::default(),
            files: Files::new(surroundings.allowance),
            drain: drain.clone(),
        };
        let Surroundings { spool, clock, entropy, .. } = surroundings.clone();
        drain.spawn("gaps in the journal", parts.gaps.clone().keep(spool, clock, entropy, drain.clone()));
        let switches = Switches::of(Arc::clone(&config));
        let Surroundings { spool, clock, .. } = surroundings.clone();
        drain.spawn("switches", switches.clone().keep(spool, clock, drain.clone()));
        let addresses =
            bound.iter().map(|(listening, setup)| (setup.listener.name.clone(), listening.address)).collect();
        let setups = bound.into_iter().map(|(listening, setup)| start_listener(listening, setup, &parts)).collect();
        let (config, configuration) = watch::channel(config);
        let delivery = deliver::start(deliver::Deliver {
            spool: Arc::clone(&surroundings.spool),
            config: configuration,
            clock: Arc::clone(&surroundings.clock),
            entropy: Arc::clone(&surroundings.entropy),
            mac_key,
            drain: drain.clone(),
            resolver: Arc::clone(&surroundings.resolver),
            network: Arc::clone(&surroundings.network),
            policies: Arc::clone(&surroundings.policies),
        });
        Ok(Self { surroundings, drain, config, setups, addresses, delivery, pressure, gaps: parts.gaps, switches })
    }

    /// The configuration in effect.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The listeners' names, and where each listens.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Delivery under way.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Tells its state at these doors until the end.
    pub fn start_admin(&self, doors: Vec<Door>, metrics: Metrics, telemetry: Telemetry, commit_seconds: Histogram) {
        for door in &doors {
            if let Door::Network(socket) = door {
                tracing::info!(event = "listener.started", listener = "admin", address = %socket.address(), "serving /, /status, /livez, /readyz, /metrics");
            }
        }
        let watched = Watched {
            setups: self.setups.iter().map(watch::Sender::subscribe).collect(),
            listeners: self.addresses.clone(),
            delivery: self.delivery.clone(),
            spool: Arc::clone(&self.surroundings.spool),
            commit_seconds,
            pressure: self.pressure.clone(),
            clock: Arc::clone(&self.surroundings.clock),
            drain: self.drain.clone(),
            metrics,
            telemetry,
            started: self.surroundings.clock.now(),
        };
        admin::open(doors, watched);
    }

    /// Makes `config` the configuration of the next transaction and the next attempt, whole, or not at all.
    ///
    /// # Errors
    /// Why it can't be, for people: sockets, their names and the spool's directory need a restart.
    pub fn reconfigure(&mut self, config: Arc<Config>) -> Result<(), String> {
        let setups = self.prepare(&config)?;
        self.switches.compare(&config, self.surroundings.clock.now());
        for (sender, setup) in self.setups.iter().zip(setups) {
            sender.send_replace(Arc::new(setup));
        }
        self.pressure.set_largest_message(largest_message(&config));
        self.config.send_replace(config);
        Ok(())
    }

    fn prepare(&self, config: &Arc<Config>) -> Result<Vec<Setup>, String> {
        receive::prove_closed(config).map_err(|open| StartError::from(open).to_string())?;
        let old = self.config.borrow();
        let place = |config: &Config| (config.spool.path.clone(), config.spool.allow_volatile);
        if place(config) != place(&old) {
            return Err("path and allow_volatile of [spool] can't change while the daemon runs: restart it".to_owned());
        }
        let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
        if admin(config) != admin(&old) {
            return Err("the address of [admin] can't change while the daemon runs: restart it".to_owned());
        }
        let sockets = |config: &Config| -> Vec<_> {
            config.listeners.iter().map(|listener| (listener.name.clone(), listener.address)).collect()
        };
        if sockets(config) != sockets(&old) {
            return Err("names and addresses of listeners can't change while the daemon runs: restart it".to_owned());
        }
        let mut setups = Vec::with_capacity(self.setups.len());
        for (sender, listener) in self.setups.iter().zip(&config.listeners) {
            let current = sender.borrow();
            // An unchanged next hop keeps its connections.
            let same = current.listener.next_hop == listener.next_hop
                && current.listener.client_identity == listener.client_identity
                && current.config.hostname == config.hostname;
            let next_hop = if same {
                Arc::clone(&current.next_hop)
            } else {
                next_hop(config, listener, &self.surroundings.network).map_err(|error| error.to_string())?
            };
            setups.push(setup(config, listener, next_hop).map_err(|error| error.to_string())?);
        }
        Ok(setups)
    }

    /// Ends: no new work, what is open ends within [`GRACE`] or until `hurry` does, then connections and the spool are
    /// closed. What does not end in time is named in the log and abandoned; what is durable stays so.
    pub async fn drain(self, hurry: impl Future<Output = ()>) {
        tracing::info!(event = "daemon.draining", grace_s = GRACE.as_secs(), "no new work; open transactions end");
        self.drain.begin();
        let over = tokio::select! {
            biased;
            () = self.done() => None,
            () = hurry => Some("a second signal"),
            () = tokio::time::sleep(GRACE) => Some("the grace period is over"),
        };
        if let Some(reason) = over {
            tracing::warn!(event = "daemon.draining", open = ?self.drain.open_labels(), reason, "stopping with work still open");
        }
        // Cut short, it loses nothing: connections close by themselves, and start-up puts the spool in order.
        let _ = tokio::time::timeout(CLOSE, self.close_idle()).await;
        let _ = tokio::time::timeout(CLOSE, self.switches.write(&*self.surroundings.spool)).await;
        self.close_gaps().await;
        match tokio::time::timeout(CLOSE, self.surroundings.spool.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(event = "spool.pressure", %error, "the spool did not close in order; start-up will mend it");
            }
            Err(_) => {
                tracing::error!(
                    event = "spool.pressure",
                    "the spool did not close in time; start-up will put it in order"
                );
            }
        }
    }

    /// Ends when no work is open; says now and then what is.
    async fn done(&self) {
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + TELL_EVERY, TELL_EVERY);
        loop {
            tokio::select! {
                biased;
                () = self.drain.done() => return,
                _ = looks.tick() => {
                    tracing::info!(event = "daemon.draining", open = ?self.drain.open_labels(), "work is still open");
                }
            }
        }
    }

    /// Gaps that the spool has not noted are in the log alone from here on.
    async fn close_gaps(&self) {
        let Surroundings { spool, clock, entropy, .. } = &self.surroundings;
        let _ = tokio::time::timeout(CLOSE, self.gaps.close(&**spool, clock, &**entropy)).await;
        let messages = self.gaps.messages();
        if messages > 0 {
            tracing::error!(
                event = "spool.pressure",
                messages,
                "messages were relayed without a record and the spool could not note it: the log alone names them (record.bypassed)"
            );
        }
    }

    /// Ends the idle conversations with the next hops in order.
    async fn close_idle(&self) {
        for setup in &self.setups {
            let next_hop = Arc::clone(&setup.borrow().next_hop);
            next_hop.close_idle().await;
        }
    }
}

fn largest_message(config: &Config) -> u64 {
    config.listeners.iter().map(|listener| listener.max_message_size).max().unwrap_or(0)
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

fn start_listener(listening: receive::Listening, setup: Setup, parts: &Parts) -> watch::Sender<Arc<Setup>> {
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
    let (sender, receiver) = watch::channel(Arc::new(setup));
    parts.drain.spawn("idle connections of a next hop", expire_idle(receiver.clone(), parts.drain.clone()));
    parts.drain.spawn(receive::listener_label(listening.address), listening.serve(receiver, parts.clone()));
    sender
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
async fn expire_idle(setup: watch::Receiver<Arc<Setup>>, drain: Drain) {
    let mut ticks = tokio::time::interval(IDLE_CHECK);
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            _ = ticks.tick() => setup.borrow().next_hop.expire_idle(),
        }
    }
}
