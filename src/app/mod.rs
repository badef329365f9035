//! The daemon: builds every part from the configuration, starts it, waits for signals, drains.
//!
//! Floor 6. SIGTERM and SIGINT drain: the sockets close, open transactions end (30 s at most), running attempts at the
//! archives end, the spool is closed. A second signal stops at once; what is durable stays so. SIGHUP reloads.

mod reload;
mod signals;

use crate::clock::{self, SharedClock};
use crate::config::{Config, ConfigErrors};
use crate::deliver::{self, SystemResolver};
use crate::drain::Drain;
use crate::forward::{ForwardError, NextHop};
use crate::mail::{Entropy, OsEntropy};
use crate::receive::{self, Parts, Setup};
use crate::spool::{EmbeddedSpool, Spool, SpoolError};
use crate::telemetry::{self, HashKey, Telemetry};
use reload::Reloader;
use signals::{Signal, Signals};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long open transactions may take once the daemon drains.
const GRACE: Duration = Duration::from_secs(30);
/// How long closing connections, the spool, and what still runs in the system may take each.
const CLOSE: Duration = Duration::from_secs(10);
/// How often idle connections to next hops are looked at.
const IDLE_CHECK: Duration = Duration::from_secs(15);

/// Why the daemon did not start; by what the administrator must do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mend the configuration (exit status 78).
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// Mend the spool's directory.
    #[error("{0}")]
    Spool(#[from] SpoolError),
    /// Free the address, or give the privilege to use it.
    #[error("listener {name:?}: can't listen on {address}: {error}")]
    Listen {
        /// The listener's name.
        name: String,
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Mend what a route needs (a CA file, say).
    #[error("next hop of listener {name:?}: {error}")]
    NextHop {
        /// The listener's name.
        name: String,
        /// What is wrong.
        error: ForwardError,
    },
    /// The system refused what every daemon needs.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`StartError`]; nothing was started then, and nothing is lost.
pub fn run(file: &Path) -> Result<(), StartError> {
    let config = Arc::new(Config::load(file)?);
    let telemetry = telemetry::start(&config.log, &HashKey::draw(&OsEntropy));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(file.to_owned(), config, telemetry));
    // A look-up or a write that hangs in the system must not hold up the end.
    runtime.shutdown_timeout(CLOSE);
    served
}

async fn serve(file: PathBuf, config: Arc<Config>, telemetry: Telemetry) -> Result<(), StartError> {
    let clock = clock::system();
    let signals = Signals::listen()?;
    let (spool, recovered) = open_spool(&config, &clock).await?;
    tracing::info!(
        event = "spool.recovered",
        records = recovered.records,
        unknown = recovered.unknown,
        path = %config.spool.path.display(),
        "the spool is open"
    );
    let drain = Drain::default();
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let parts = Parts {
        spool: Arc::clone(&spool),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        drain: drain.clone(),
    };
    let setups = start_listeners(&config, &parts)?;
    let (config_changes, configuration) = watch::channel(Arc::clone(&config));
    deliver::start(deliver::Deliver {
        spool: Arc::clone(&spool),
        config: configuration,
        clock,
        entropy,
        drain: drain.clone(),
        resolver: Arc::new(SystemResolver),
    });
    let mut reloader = Reloader { file, config: config_changes, setups, telemetry };
    wait(signals, &mut reloader, &drain).await;
    // Cut short, it loses nothing: connections close by themselves, and start-up puts the spool in order.
    let _ = tokio::time::timeout(CLOSE, reloader.close_idle()).await;
    match tokio::time::timeout(CLOSE, spool.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(event = "spool.pressure", %error, "the spool did not close in order; start-up will mend it")
        }
        Err(_) => {
            tracing::error!(event = "spool.pressure", "the spool did not close in time; start-up will put it in order")
        }
    }
    tracing::info!(event = "daemon.stopped", "stopped");
    Ok(())
}

async fn open_spool(
    config: &Config,
    clock: &SharedClock,
) -> Result<(Arc<dyn Spool>, crate::spool::Recovered), StartError> {
    let options = crate::spool::Options {
        clock: Arc::clone(clock),
        message_uuid: crate::journal::message_uuid,
        keep_history: config.retry.give_up,
    };
    let path = config.spool.path.clone();
    let opened = tokio::task::spawn_blocking(move || EmbeddedSpool::open(&path, options)).await;
    let (spool, recovered) = opened.map_err(std::io::Error::other)??;
    Ok((Arc::new(spool), recovered))
}

/// Binds every socket before any of them serves: a daemon that can't have one of them does not start.
fn start_listeners(config: &Arc<Config>, parts: &Parts) -> Result<Vec<watch::Sender<Arc<Setup>>>, StartError> {
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let next_hop = reload::next_hop(config, listener)?;
        let listening = receive::listen(listener.address).map_err(|error| StartError::Listen {
            name: listener.name.clone(),
            address: listener.address,
            error,
        })?;
        bound.push((listening, Setup { config: Arc::clone(config), listener: listener.clone(), next_hop }));
    }
    Ok(bound.into_iter().map(|(listening, setup)| start_listener(listening, setup, parts)).collect())
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
    parts.drain.spawn(format!("listener on {}", listening.address), listening.serve(receiver, parts.clone()));
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

/// Serves signals until the end, then waits for what is open.
async fn wait(mut signals: Signals, reloader: &mut Reloader, drain: &Drain) {
    while let Signal::Reload = signals.next().await {
        reloader.reload();
    }
    tracing::info!(event = "daemon.draining", grace_s = GRACE.as_secs(), "no new work; open transactions end");
    drain.begin();
    let over = tokio::select! {
        () = drain.done() => return,
        () = tokio::time::sleep(GRACE) => "the grace period is over",
        () = signals.stop() => "a second signal",
    };
    tracing::warn!(event = "daemon.draining", open = ?drain.open_labels(), reason = over, "stopping with work still open");
}
