//! The relay as one value: every part built from the configuration and started, reconfigured, drained.
//!
//! What surrounds it (spool, network, time, chance, names) is handed in, and nothing here knows of signals or files: a
//! simulation starts the same relay that the daemon does.

use super::StartError;
use super::certificates;
use super::entrances::Entrances;
use super::switches::Switches;
use crate::admin::{self, Door, Watched};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::deliver::{self, Delivery, PolicyMemory, Resolver};
use crate::drain::Drain;
use crate::journal::MacKey;
use crate::mail::Entropy;
use crate::net::SharedNetwork;
use crate::receive::{self, Allowance, Files, Gaps, Parts, Places};
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
pub(super) const IDLE_CHECK: Duration = Duration::from_secs(15);

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
    entrances: Entrances,
    parts: Parts,
    delivery: Delivery,
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
        let mut entrances = Entrances::new(Arc::clone(&surroundings.network));
        let plan = entrances.plan(&config).await?;
        let secret = surroundings.spool.secret(MacKey::draw(&*surroundings.entropy)).await?;
        let mac_key = MacKey::from_bytes(secret);
        let pressure = Pressure::new(largest_message(&config));
        drain.spawn("room of the spool", pressure.clone().watch(Arc::clone(&surroundings.spool), drain.clone()));
        let parts = Parts {
            spool: Arc::clone(&surroundings.spool),
            pressure,
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
        entrances.carry_out(plan, &config, &parts);
        let (config, configuration) = watch::channel(config);
        let clock = Arc::clone(&surroundings.clock);
        drain.spawn("certificates' dates", certificates::watch_over(config.subscribe(), clock, drain.clone()));
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
        Ok(Self { surroundings, drain, config, entrances, parts, delivery, switches })
    }

    /// The configuration in effect.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The listeners' names, and where each listens.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.entrances.addresses()
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
            entrances: self.entrances.shown(),
            delivery: self.delivery.clone(),
            spool: Arc::clone(&self.surroundings.spool),
            commit_seconds,
            pressure: self.parts.pressure.clone(),
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
    /// Why it can't be, for people: a socket that can't be bound; the spool's directory and the address of `[admin]`, which need
    /// a restart.
    pub async fn reconfigure(&mut self, config: Arc<Config>) -> Result<(), String> {
        receive::prove_closed(&config).map_err(|open| StartError::from(open).to_string())?;
        self.require_same_places(&config)?;
        let plan = self.entrances.plan(&config).await.map_err(|error| error.to_string())?;
        self.switches.compare(&config, self.surroundings.clock.now());
        self.entrances.carry_out(plan, &config, &self.parts);
        self.parts.pressure.set_largest_message(largest_message(&config));
        self.config.send_replace(config);
        Ok(())
    }

    fn require_same_places(&self, config: &Config) -> Result<(), String> {
        let old = self.config.borrow();
        let place = |config: &Config| (config.spool.path.clone(), config.spool.allow_volatile);
        if place(config) != place(&old) {
            return Err("path and allow_volatile of [spool] can't change while the daemon runs: restart it".to_owned());
        }
        let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
        if admin(config) != admin(&old) {
            return Err("the address of [admin] can't change while the daemon runs: restart it".to_owned());
        }
        Ok(())
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
        let _ = tokio::time::timeout(CLOSE, self.entrances.close_idle()).await;
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
        let _ = tokio::time::timeout(CLOSE, self.parts.gaps.close(&**spool, clock, &**entropy)).await;
        let messages = self.parts.gaps.messages();
        if messages > 0 {
            tracing::error!(
                event = "spool.pressure",
                messages,
                "messages were relayed without a record and the spool could not note it: the log alone names them (record.bypassed)"
            );
        }
    }
}

fn largest_message(config: &Config) -> u64 {
    config.listeners.iter().map(|listener| listener.max_message_size).max().unwrap_or(0)
}
