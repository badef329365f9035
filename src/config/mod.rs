//! The configuration as values: what every key of the TOML file means once it is read, checked and filled with defaults.
//!
//! `load` (reading and checking the file) makes a [`Config`]; nobody else does. A whole `Config` is handed around behind an
//! `Arc` and never changed: a reload makes a new one. Keys whose feature this version lacks are errors in `load`, so that
//! no option does nothing.

use crate::mail::{Address, DomainPattern};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod admin;
mod auth;
mod limits;
mod load;
mod lookup;
mod route;
mod tls;

pub use admin::{Admin, Token};
pub use auth::ListenerAuth;
pub use limits::Limits;
pub use load::{ConfigError, ConfigErrors, MAX_FILE, Machine, Place, duration};
pub use route::{DEFAULT_CONNECTIONS, MAX_CONNECTIONS, MxRoute, Protocol, Route, SMTP_PORT, SmtpRoute, Source, Tls};
pub use tls::{CERTIFICATE_WARNING, Identity, ListenerTls, TlsMode};

/// Everything one file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The EHLO name, and `by` in `Received:`.
    pub hostname: String,
    /// Where entries are kept.
    pub spool: Spool,
    /// Where mail comes in; at least one.
    pub listeners: Vec<Listener>,
    /// Whose mail is journaled; at least one.
    pub organizations: Vec<Organization>,
    /// How often records and reports are tried.
    pub retry: Retry,
    /// Where status, health and metrics are served; none: on the control socket alone.
    pub admin: Option<Admin>,
    /// What is written to stderr.
    pub log: Log,
    /// Clients whose whole dialogue is written, without content.
    pub trace_sessions: Vec<IpNet>,
}

/// `[spool]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// The directory, made at the first start with mode 0700.
    pub path: PathBuf,
    /// It may be on a file system that loses its content with the machine's memory or a container.
    pub allow_volatile: bool,
    /// What happens to mail that it can't take.
    pub on_failure: OnFailure,
}

/// `spool.on_failure`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It is answered 4xx, and the client tries again.
    #[default]
    Tempfail,
    /// It is relayed without a record, and the gap is reported.
    Bypass,
}

/// `[[listener]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// In logs and metrics; unique.
    pub name: String,
    /// Where it listens; port 0 is any free port.
    pub address: SocketAddr,
    /// Where mail goes on to: [`Route::Smtp`] or [`Route::Maildir`].
    pub next_hop: Route,
    /// Clients that may send to any domain.
    pub trusted_networks: Vec<IpNet>,
    /// Load balancers, whose connections start with a PROXY header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// How the next hop learns who the client is.
    pub client_identity: ClientIdentity,
    /// Octets of a message; more is refused.
    pub max_message_size: u64,
    /// Whether clients may authenticate at the next hop.
    pub auth: ListenerAuth,
    /// How it encrypts; none: plain text alone.
    pub tls: Option<ListenerTls>,
    /// What clients may ask of it.
    pub limits: Limits,
}

/// `client_identity`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientIdentity {
    /// It does not.
    #[default]
    None,
    /// By XCLIENT: to the next hop the connection is the client's.
    Xclient,
    /// By XFORWARD: the next hop logs the client and judges the relay.
    Xforward,
    /// By a header of version 1 of the PROXY protocol: the connection is the client's.
    ProxyV1,
    /// By a header of version 2.
    ProxyV2,
}

impl ClientIdentity {
    /// Whether a connection speaks for one client, so that no other may have it.
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Xclient | Self::ProxyV1 | Self::ProxyV2)
    }
}

/// `[[organization]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Organization {
    /// In logs, metrics and the default sender; unique, letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its users' domains; no other organization has them.
    pub domains: Vec<DomainPattern>,
    /// The switch.
    pub journaling: bool,
    /// What whoever turned it last says: for the log, and for the gap.
    pub switch_reason: Option<String>,
    /// Where records go.
    pub journaling_address: Address,
    /// Further archives, each with its own copy of every record.
    pub also: Vec<AlsoArchive>,
    /// When a record counts as delivered, where there are several archives.
    pub delivered_when: DeliveredWhen,
    /// How long the octets of delivered records are kept to be sent again; none: not at all.
    pub retention: Option<Duration>,
    /// Where notifications go.
    pub report_address: Address,
    /// How records get there: [`Route::Smtp`], [`Route::Mx`] or [`Route::Maildir`].
    pub journaling_route: Route,
    /// How notifications get there; the same three.
    pub report_route: Route,
    /// MAIL FROM and From of records: `amazonjournaling@<name>.awsapps.com` unless set.
    pub sender: Address,
    /// How a recipient that no header field lists is called.
    pub unlisted_recipients: UnlistedRecipients,
    /// Which recipients its records name.
    pub recipients: NamedRecipients,
    /// How long a record waits for the same message's other transactions.
    pub coalesce: Duration,
    /// Whose mail and which directions are journaled.
    pub scope: Scope,
}

/// One of `also`
#[derive(Debug, Clone, PartialEq)]
pub struct AlsoArchive {
    /// Where copies go.
    pub journaling_address: Address,
    /// How they get there, as [`Organization::journaling_route`].
    pub journaling_route: Route,
}

/// `delivered_when`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveredWhen {
    /// Each archive has taken it.
    #[default]
    All,
    /// One archive has taken it.
    Any,
}

/// `unlisted_recipients`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlistedRecipients {
    /// `Bcc:` where the rules of the record format say so.
    Bcc,
    /// `Recipient:` always, as strict Exchange readers expect.
    Recipient,
}

/// `recipients`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamedRecipients {
    /// All of a message.
    #[default]
    All,
    /// Of a message that comes to the organization, those alone that are its users.
    Own,
}

/// `scope`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The directions journaled, from the organization's view.
    pub directions: Vec<Direction>,
    /// A message is journaled when one of its addresses (sender or recipients) of the organization is meant here …
    pub include: Vec<AddressPattern>,
    /// … and not meant here.
    pub exclude: Vec<AddressPattern>,
}

/// Which way a message goes, from the organization's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To its users, from elsewhere.
    Incoming,
    /// From its users, to somebody elsewhere at least.
    Outgoing,
    /// From its users to its users alone.
    Internal,
}

impl Direction {
    /// The word of the configuration, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
            Self::Internal => "internal",
        }
    }
}

/// `*`, `*@domain` or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressPattern {
    /// `*`
    Any,
    /// `*@example.org`, `*@*.example.org`
    Domain(DomainPattern),
    /// One mailbox, compared without case.
    Address(Address),
}

/// `[retry]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Before the second attempt; each further wait is twice the one before …
    pub first: Duration,
    /// … up to this one.
    pub longest: Duration,
    /// After this long without success a record is failed.
    pub give_up: Duration,
    /// After this long without success a record is reported as delayed, once.
    pub report_after: Duration,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is worth a line.
    pub level: tracing::Level,
    /// What of mail addresses is written.
    pub addresses: LogAddresses,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
    /// Fields of systemd's journal; JSON where there is none.
    Journald,
}

/// `log.addresses`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAddresses {
    /// As they are.
    Full,
    /// The domain alone.
    Domain,
    /// A keyed hash of the local part, and the domain.
    Hash,
    /// Nothing.
    None,
}
