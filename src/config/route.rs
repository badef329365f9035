//! Where a message goes and how: the route URLs of the configuration.

use super::Identity;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Where mail exchangers listen (RFC 5321, section 4.5.4.2).
pub const SMTP_PORT: u16 = 25;

/// Connections to one server at a time, unless `connections=` says otherwise: what Postfix has for a destination, and what an
/// Exchange server takes of one client.
pub const DEFAULT_CONNECTIONS: usize = 20;
/// The most that `connections=` allows.
pub const MAX_CONNECTIONS: usize = 200;

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// `smtp://host:port`, `smtps://host:port`, `lmtp://host:port`
    Smtp(SmtpRoute),
    /// `maildir:/path`: octets as they are (CRLF).
    Maildir(PathBuf),
    /// `mx`: the mail exchangers of the address's domain (RFC 5321, section 5.1).
    Mx(MxRoute),
}

/// What is asked of a domain's mail exchangers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MxRoute {
    /// Each of them, but for its name: the options of an `smtp://` route.
    pub server: SmtpRoute,
    /// Whether the domain's MTA-STS policy is looked up and kept (RFC 8461). Default: yes.
    pub sts: bool,
    /// Whether TLSA records are looked up and kept, where DNSSEC vouches for them (RFC 7672). Default: yes.
    pub dane: bool,
}

/// `mx` without options.
impl Default for MxRoute {
    fn default() -> Self {
        Self { server: SmtpRoute::to("", SMTP_PORT, Tls::Opportunistic), sts: true, dane: true }
    }
}

/// One SMTP server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SmtpRoute {
    /// What is spoken there.
    pub protocol: Protocol,
    /// A name, or an IP address without brackets.
    pub host: String,
    /// 25 for `smtp`, 465 for `smtps`, 24 for `lmtp`, unless given.
    pub port: u16,
    /// What is asked of TLS.
    pub tls: Tls,
    /// User and password, when given.
    pub credentials: Option<(String, String)>,
    /// A PEM file of the authorities to trust instead of the system's store.
    pub ca_file: Option<PathBuf>,
    /// The certificates that are taken, and no others, when there are any.
    pub fingerprints: Vec<[u8; 32]>,
    /// What is shown to a server that asks who its client is.
    pub identity: Option<Identity>,
    /// Where connections to it come from.
    pub source: Source,
    /// Records and reports that are on their way to it at a time, each over a connection of its own; 1 to [`MAX_CONNECTIONS`]. A
    /// next hop has as many as clients have sessions.
    pub connections: usize,
}

impl Route {
    /// How many records and reports are on this way at a time.
    pub fn connections(&self) -> usize {
        match self {
            Self::Smtp(server) | Self::Mx(MxRoute { server, .. }) => server.connections,
            Self::Maildir(_) => DEFAULT_CONNECTIONS,
        }
    }
}

/// Addresses of this machine that connections of a route come from; of a family without one, the system's choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Towards IPv4 addresses.
    pub v4: Option<Ipv4Addr>,
    /// Towards IPv6 addresses.
    pub v6: Option<Ipv6Addr>,
}

impl Source {
    /// Where a connection to `server` comes from; none where the system chooses.
    pub fn towards(&self, server: IpAddr) -> Option<IpAddr> {
        match server {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

impl SmtpRoute {
    /// Whether its certificate has to be good.
    pub fn is_verified(&self) -> bool {
        matches!(self.tls, Tls::Required | Tls::Implicit)
    }

    /// A server without anything that a URL may add.
    pub fn to(host: impl Into<String>, port: u16, tls: Tls) -> Self {
        Self {
            protocol: Protocol::Smtp,
            host: host.into(),
            port,
            tls,
            credentials: None,
            ca_file: None,
            fingerprints: Vec::new(),
            identity: None,
            source: Source::default(),
            connections: DEFAULT_CONNECTIONS,
        }
    }
}

/// What is spoken to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 5321
    Smtp,
    /// `lmtp://`: RFC 2033. Records and reports have one recipient each, so its reply for each recipient is one reply.
    Lmtp,
}

impl Protocol {
    /// The command that greets a server.
    pub fn hello(self) -> &'static str {
        match self {
            Self::Smtp => "EHLO",
            Self::Lmtp => "LHLO",
        }
    }
}

/// What is asked of TLS on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tls {
    /// `tls=none`: plain text.
    None,
    /// `tls=opportunistic` (default): STARTTLS when offered, certificate not verified.
    Opportunistic,
    /// `tls=required`: STARTTLS, name and chain verified.
    Required,
    /// `smtps://`: TLS from the first octet, name and chain verified.
    Implicit,
}

/// The URL without the password.
impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Smtp(smtp) => smtp.fmt(f),
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Mx(_) => f.write_str("mx"),
        }
    }
}

impl std::fmt::Display for SmtpRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match (self.protocol, self.tls) {
            (Protocol::Lmtp, _) => "lmtp",
            (Protocol::Smtp, Tls::Implicit) => "smtps",
            (Protocol::Smtp, _) => "smtp",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Never shows the password.
impl std::fmt::Debug for SmtpRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self} tls={:?} credentials={}", self.tls, self.credentials.is_some())
    }
}
