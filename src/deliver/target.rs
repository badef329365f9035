//! One server as an attempt sees it: the route's settings, and what the domain's policies ask for on top of them.

use crate::config::{DEFAULT_CONNECTIONS, SmtpRoute, Tls};
use crate::net::{Dane, Trust};
use std::fmt;

/// A server, and how it must encrypt. Connections to equal ones are shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) server: SmtpRoute,
    /// What its TLSA records say.
    dane: Option<Dane>,
    /// Who asks for TLS.
    demand: Demand,
}

/// Who asks for TLS, where it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Demand {
    Route,
    Sts,
    Dane,
}

impl From<SmtpRoute> for Target {
    fn from(server: SmtpRoute) -> Self {
        // How many there may be makes no other connection of it.
        let server = SmtpRoute { connections: DEFAULT_CONNECTIONS, ..server };
        Self { server, dane: None, demand: Demand::Route }
    }
}

impl Target {
    /// The same server, which the domain's MTA-STS policy names: its name and chain must be verified (RFC 8461, section 4.1).
    pub(super) fn under_sts(self) -> Self {
        if self.server.tls != Tls::Opportunistic {
            return self;
        }
        Self { server: SmtpRoute { tls: Tls::Required, ..self.server }, demand: Demand::Sts, ..self }
    }

    /// The same server, which has TLSA records: TLS is a must, and its certificate one of theirs (RFC 7672, section 2.2).
    pub(super) fn under_dane(self, dane: Dane) -> Self {
        let demand = if self.server.tls == Tls::Opportunistic { Demand::Dane } else { self.demand };
        Self { dane: Some(dane), demand, ..self }
    }

    /// Whether nothing may be sent without TLS.
    pub(super) fn demands_tls(&self) -> bool {
        self.server.is_verified() || self.dane.is_some()
    }

    /// Whether somebody vouches for the server's certificate.
    pub(super) fn is_verified(&self) -> bool {
        self.server.is_verified() || self.dane.as_ref().is_some_and(|dane| !dane.records.is_empty())
    }

    /// Whose certificate is good.
    pub(super) fn trust(&self) -> Trust {
        Trust::of(&self.server).with_dane(self.dane.clone())
    }

    /// The name that is asked for in the handshake.
    pub(super) fn tls_name(&self) -> &str {
        let by_dane = self.dane.as_ref().filter(|_| self.server.tls == Tls::Opportunistic);
        by_dane.and_then(|dane| dane.names.first()).unwrap_or(&self.server.host)
    }

    /// Who asks for TLS, for people.
    pub(super) fn who_demands_tls(&self) -> &'static str {
        match self.demand {
            Demand::Route => "the route",
            Demand::Sts => "the domain's MTA-STS policy",
            Demand::Dane => "the server's TLSA record",
        }
    }
}

/// The server's URL.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}
