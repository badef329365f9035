//! SIGHUP: the whole new file takes effect with the next transaction, or none of it and the log says why.
//!
//! Sockets, their names and the spool's directory can't change under a running daemon yet: a file that changes them is
//! rejected whole.

use super::StartError;
use crate::config::{Config, Listener};
use crate::forward::NextHop;
use crate::receive::Setup;
use crate::telemetry::Telemetry;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What a reload reaches.
pub(super) struct Reloader {
    pub(super) file: PathBuf,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) setups: Vec<watch::Sender<Arc<Setup>>>,
    pub(super) telemetry: Telemetry,
}

impl Reloader {
    /// Reads the file anew and applies it.
    pub(super) fn reload(&mut self) {
        match self.prepare() {
            Ok((config, setups)) => {
                self.telemetry.reconfigure(&config.log);
                self.log_switches(&config);
                for (sender, setup) in self.setups.iter().zip(setups) {
                    sender.send_replace(Arc::new(setup));
                }
                self.config.send_replace(config);
                tracing::info!(event = "config.reloaded", file = %self.file.display(), "the new configuration is in effect");
            }
            Err(error) => {
                tracing::error!(event = "config.rejected", file = %self.file.display(), error = %error, "the old configuration stays in effect");
            }
        }
    }

    /// Ends the idle conversations with the next hops in order.
    pub(super) async fn close_idle(&self) {
        for setup in &self.setups {
            let next_hop = Arc::clone(&setup.borrow().next_hop);
            next_hop.close_idle().await;
        }
    }

    fn prepare(&self) -> Result<(Arc<Config>, Vec<Setup>), String> {
        let config = Arc::new(Config::load(&self.file).map_err(|errors| errors.to_string())?);
        let old = self.config.borrow();
        if config.spool != old.spool {
            return Err("[spool] can't change while the daemon runs: restart it".to_owned());
        }
        let sockets = |config: &Config| -> Vec<_> {
            config.listeners.iter().map(|listener| (listener.name.clone(), listener.address)).collect()
        };
        if sockets(&config) != sockets(&old) {
            return Err("names and addresses of listeners can't change while the daemon runs: restart it".to_owned());
        }
        let mut setups = Vec::with_capacity(self.setups.len());
        for (sender, listener) in self.setups.iter().zip(&config.listeners) {
            let current = sender.borrow();
            // An unchanged next hop keeps its connections.
            let same = current.listener.next_hop == listener.next_hop && current.config.hostname == config.hostname;
            let next_hop = if same {
                Arc::clone(&current.next_hop)
            } else {
                next_hop(&config, listener).map_err(|error| error.to_string())?
            };
            setups.push(Setup { config: Arc::clone(&config), listener: listener.clone(), next_hop });
        }
        Ok((config, setups))
    }

    fn log_switches(&self, config: &Config) {
        let old = self.config.borrow();
        for organization in &config.organizations {
            let before = old.organizations.iter().find(|other| other.name == organization.name);
            if before.is_some_and(|before| before.journaling != organization.journaling) {
                tracing::warn!(
                    event = "organization.switched",
                    organization = %organization.name,
                    journaling = organization.journaling,
                    "the switch of an organization was turned"
                );
            }
        }
    }
}

/// The next hop of a listener.
pub(super) fn next_hop(config: &Config, listener: &Listener) -> Result<Arc<NextHop>, StartError> {
    NextHop::new(listener.next_hop.clone(), config.hostname.clone())
        .map_err(|error| StartError::NextHop { name: listener.name.clone(), error })
}
