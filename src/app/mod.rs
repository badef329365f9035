//! The daemon: opens what a relay lives in, starts it, serves signals, drains.
//!
//! Floor 6. SIGTERM and SIGINT drain: the sockets close, open transactions end (30 s at most), running attempts at the
//! archives end, the spool is closed. A second signal stops at once; what is durable stays so. SIGHUP, or a changed file,
//! reloads: the whole new file takes effect with the next transaction, or none of it and the log says why. Signals are caught
//! before anything else is done: one that comes while the configuration is read or the spool opens waits, or ends the start in
//! order.
//!
//! A service manager that started it hears when everything serves, when a configuration is read, that the daemon is alive, and when
//! it ends; sockets that it has bound are used. See [`Manager`] and [`Passed`].
//!
//! A spool that is lost for the process ends the daemon, so that whoever watches it starts it anew; see [`StartError::Broken`].

mod certificates;
mod changes;
mod ending;
mod entrances;
mod files;
mod relay;
mod signals;
mod switches;

pub use relay::{CLOSE, GRACE, Relay, Surroundings};

use crate::admin::Door;
use crate::clock::{self, SharedClock};
use crate::config::{Config, ConfigErrors, OnFailure};
use crate::deliver::{FileMemory, SystemResolver};
use crate::drain::Drain;
use crate::forward::ForwardError;
use crate::mail::OsEntropy;
use crate::net::{CONTROL, ControlSocket, Manager, Passed, PassedError};
use crate::receive::{Allowance, OpenRelay};
use crate::spool::{
    CHECKPOINT_PAGES, EmbeddedSpool, FrontBounds, INLINE_LIMIT, Options, Recovered, SpoolError, Volatile, disk,
    require_lasting,
};
use crate::telemetry::{self, HashKey, Metrics, Telemetry};
use changes::Changes;
use ipnet::IpNet;
use signals::{Signal, Signals};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::time::Instant;

/// Why the daemon did not start, or ended by itself; by what the administrator must do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mend the configuration (exit status 78).
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// Give the spool another place, or allow this one (exit status 78).
    #[error("{0}")]
    Volatile(#[from] Volatile),
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
    /// Free the address of `[admin]`, or give the privilege to use it.
    #[error("[admin]: can't listen on {address}: {error}")]
    Admin {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Have the service manager's socket units and the configuration say the same (exit status 78).
    #[error("{0}")]
    Passed(#[from] PassedError),
    /// Mend what a route needs (a CA file, say).
    #[error("next hop of listener {name:?}: {error}")]
    NextHop {
        /// The listener's name.
        name: String,
        /// What is wrong.
        error: ForwardError,
    },
    /// Start it again (exit status 74): a sync of the spool failed or its database is damaged. What was promised is on the
    /// disk; what else is there, only opening it anew finds out.
    #[error("the spool can't be trusted any more before it is opened anew: start the daemon again")]
    Broken,
    /// Mend certificate or key of a listener.
    #[error("[listener.tls] of listener {name:?}: {why}")]
    Tls {
        /// The listener's name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Mend what would let strangers send anywhere (exit status 78).
    #[error("this configuration makes an open relay: {0}")]
    OpenRelay(#[from] OpenRelay),
    /// The system refused what every daemon needs.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

/// Runs the daemon until it is told to stop; sessions of `traced` are traced besides those of the configuration.
///
/// # Errors
/// [`StartError::Broken`] at the end; every other one at the start, when nothing was started, and nothing is lost.
pub fn run(file: &Path, traced: &[IpNet]) -> Result<(), StartError> {
    let passed = Passed::from_environment()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let signals = {
        let _within = runtime.enter();
        Signals::listen()?
    };
    let mut changes = Changes::of(file);
    let config = Arc::new(load(file, traced)?);
    changes.note_files(&config);
    let metrics = Metrics::new();
    metrics.expect(&config);
    let telemetry = telemetry::start_counting(&config.log, &HashKey::draw(&OsEntropy), Some(&metrics));
    let allowance = files::raise_limit();
    let manager = {
        let _within = runtime.enter();
        manager()
    };
    let given = Given { changes, telemetry, metrics, signals, allowance, passed, manager, traced: traced.to_vec() };
    let served = runtime.block_on(serve(file, config, given));
    // A look-up or a write that hangs in the system must not hold up the end.
    runtime.shutdown_timeout(CLOSE);
    served
}

/// What was made before the runtime began its work.
struct Given {
    changes: Changes,
    telemetry: Telemetry,
    metrics: Metrics,
    signals: Signals,
    /// What there are open files for.
    allowance: Allowance,
    passed: Passed,
    manager: Arc<Manager>,
    /// Clients whose sessions are traced whatever the file says.
    traced: Vec<IpNet>,
}

/// Whoever started this process and wants to hear of it. Mail passes without one.
fn manager() -> Arc<Manager> {
    Arc::new(Manager::from_environment().unwrap_or_else(|error| {
        tracing::warn!(event = "manager.failed", %error, "can't reach the service manager that NOTIFY_SOCKET names");
        Manager::default()
    }))
}

/// Every address to listen on, with its name.
fn sockets(config: &Config) -> Vec<(String, SocketAddr)> {
    let admin = config.admin.as_ref().map(|admin| ("admin".to_owned(), admin.address));
    config.listeners.iter().map(|listener| (listener.name.clone(), listener.address)).chain(admin).collect()
}

/// Where it listens, in one line.
fn listening(relay: &Relay) -> String {
    let places: Vec<_> = relay.addresses().iter().map(|(name, address)| format!("{name} {address}")).collect();
    format!("listening: {}", places.join(", "))
}

async fn serve(file: &Path, config: Arc<Config>, given: Given) -> Result<(), StartError> {
    let Given { mut changes, telemetry, metrics, mut signals, allowance, passed, manager, traced } = given;
    let clock = clock::system();
    let begun = Instant::now();
    let network = passed.network_for(&sockets(&config))?;
    let telling = Arc::clone(&manager);
    Drain::default().spawn_unawaited(async move { telling.keep_telling_alive().await });
    manager.status("opening the spool").await;
    let opened = tokio::select! {
        biased;
        opened = open_spool(&config, &clock) => Some(opened?),
        () = signals.stop() => None,
    };
    let Some((spool, recovered)) = opened else {
        manager.stopping("stopped before the spool was open").await;
        // As after a crash: the next start opens it from where it is.
        tracing::info!(event = "daemon.stopped", "stopped before the spool was open");
        return Ok(());
    };
    tracing::info!(
        event = "spool.recovered",
        records = recovered.records,
        unknown = recovered.unknown,
        path = %config.spool.path.display(),
        "the spool is open"
    );
    let (commit_seconds, broken) = (spool.commit_seconds(), spool.broken());
    let surroundings = Surroundings {
        spool: Arc::new(spool),
        clock,
        entropy: Arc::new(OsEntropy),
        resolver: Arc::new(SystemResolver::new(Arc::clone(&network))),
        network,
        policies: Arc::new(FileMemory::within(&config.spool.path)),
        allowance,
    };
    let doors = doors(&config, &surroundings).await?;
    let mut relay = Relay::start(config, surroundings).await?;
    relay.start_admin(doors, metrics.clone(), telemetry.clone(), commit_seconds);
    manager.ready(&listening(&relay)).await;
    let ended = loop {
        let bypass = relay.config().spool.on_failure == OnFailure::Bypass;
        let asked = tokio::select! {
            biased;
            signal = signals.next() => signal,
            () = ending::given_up(broken.clone(), begun, bypass) => break Err(StartError::Broken),
            () = changes.next() => Signal::Reload,
        };
        if asked == Signal::Stop {
            break Ok(());
        }
        manager.reloading().await;
        changes.begin_reading();
        let counted = (&telemetry, &metrics);
        if reload(file, &traced, &mut relay, counted).await {
            changes.note_files(&relay.config());
            manager.ready(&listening(&relay)).await;
        } else {
            manager
                .ready("the changed configuration was rejected (the log says why), the former one is in effect")
                .await;
        }
    };
    if let Err(broken) = &ended {
        tracing::error!(event = "spool.pressure", state = "failed", error = %broken, "the daemon ends, to be started anew");
    }
    manager.stopping(&format!("no new work; open transactions end, {} s at most", GRACE.as_secs())).await;
    relay.drain(signals.stop()).await;
    tracing::info!(event = "daemon.stopped", "stopped");
    ended
}

/// Where the daemon's state can be asked for. Without a control socket it runs all the same: commands tell that they can't ask.
async fn doors(config: &Config, surroundings: &Surroundings) -> Result<Vec<Door>, StartError> {
    let mut doors = Vec::new();
    if let Some(address) = config.admin.as_ref().map(|admin| admin.address) {
        let bound = surroundings.network.listen(address).await;
        doors.push(Door::Network(bound.map_err(|error| StartError::Admin { address, error })?));
    }
    match ControlSocket::listen(&config.spool.path) {
        Ok(socket) => doors.push(Door::Control(socket)),
        Err(error) => {
            let address = config.spool.path.join(CONTROL).display().to_string();
            tracing::warn!(event = "listener.failed", address, %error, "journal-relay status can't ask this daemon");
        }
    }
    Ok(doors)
}

async fn open_spool(config: &Config, clock: &SharedClock) -> Result<(EmbeddedSpool, Recovered), StartError> {
    let options = Options {
        disk: disk::system(),
        checkpoint_pages: CHECKPOINT_PAGES,
        inline_limit: INLINE_LIMIT,
        front: FrontBounds::default(),
        clock: Arc::clone(clock),
        message_uuid: crate::journal::message_uuid,
        keep_history: config.retry.give_up,
    };
    let (path, allow_volatile) = (config.spool.path.clone(), config.spool.allow_volatile);
    let opened = tokio::task::spawn_blocking(move || {
        if !allow_volatile {
            require_lasting(&path)?;
        }
        Ok::<_, StartError>(EmbeddedSpool::open(&path, options)?)
    })
    .await;
    opened.map_err(std::io::Error::other)?
}

fn load(file: &Path, traced: &[IpNet]) -> Result<Config, ConfigErrors> {
    let mut config = Config::load(file)?;
    config.trace_sessions.extend(traced);
    Ok(config)
}

/// Reads the file anew and applies it; whether it is in effect.
async fn reload(
    file: &Path,
    traced: &[IpNet],
    relay: &mut Relay,
    (telemetry, metrics): (&Telemetry, &Metrics),
) -> bool {
    let applied = match load(file, traced) {
        Ok(config) => relay.reconfigure(Arc::new(config)).await,
        Err(errors) => Err(errors.to_string()),
    };
    match applied {
        Ok(()) => {
            let config = relay.config();
            telemetry.reconfigure(&config.log);
            metrics.expect(&config);
            tracing::info!(event = "config.reloaded", file = %file.display(), "the new configuration is in effect");
            true
        }
        Err(error) => {
            tracing::error!(event = "config.rejected", file = %file.display(), error, "the old configuration stays in effect");
            false
        }
    }
}
