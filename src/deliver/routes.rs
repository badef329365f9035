//! Routes as whoever looks at them sees them: which the configuration has, and what is known of those that were tried.

use super::circuits::Circuits;
use super::post;
use crate::config::Config;
use crate::mail::Timestamp;
use std::collections::BTreeMap;

/// Whether attempts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Up,
    /// It answers, and takes nothing at the moment: it is probed.
    Busy,
    /// It is only probed.
    Down,
}

impl Health {
    /// The word of logs and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Busy => "busy",
            Self::Down => "down",
        }
    }
}

/// What is known of a route that was tried, or of one line on it that is shut by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteState {
    /// By URL without password, or `mx:` and domain.
    pub route: String,
    /// Whose line, such as `records of acme`; none: the route as a whole.
    pub line: Option<String>,
    /// Whether attempts are made.
    pub health: Health,
    /// Since when they are not.
    pub since: Option<Timestamp>,
    /// When they are tried next, where they are not made.
    pub next_probe: Option<Timestamp>,
    /// What was said last, and when.
    pub last_reply: Option<(Timestamp, String)>,
}

/// The routes of a configuration by their labels, each with what it is used for, such as `records of acme`.
pub fn routes_of(config: &Config) -> BTreeMap<String, Vec<String>> {
    let mut routes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for organization in &config.organizations {
        let records = organization.archives().map(|(address, route)| (route, address, "records"));
        let reports = (&organization.report_route, &organization.report_address, "reports");
        for (route, address, freight) in records.chain([reports]) {
            routes.entry(post::label(route, address)).or_default().push(format!("{freight} of {}", organization.name));
        }
    }
    routes
}

impl super::Delivery {
    /// What is known of routes, in the order of their labels.
    pub fn routes(&self) -> Vec<RouteState> {
        let circuits: &Circuits = &self.office.circuits;
        circuits.survey()
    }
}
