//! What can go wrong on the way to a next hop, in words for the administrator.

use crate::mail::Reply;
use crate::smtp::client::{ReplyError, Verb};
use std::net::SocketAddr;
use std::time::Duration;

/// Why a route can't be used at all: a fault of the configuration, found before any connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ForwardError {
    /// `mx` names no single server.
    #[error("a next hop must be one server or a maildir, not mx")]
    Mx,
    /// The host can't be the name in a certificate.
    #[error("{0:?} is no host name or address")]
    Host(String),
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// Why no conversation could be begun. Nothing was relayed; another time may do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unreachable {
    /// The host name has no address.
    #[error("{host} can't be resolved: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// No connection.
    #[error("can't connect to {address}: {why}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// The server does not want to talk, or not as the route asks: greeting, EHLO, STARTTLS or AUTH was refused.
    #[error("{address} answered {verb} with `{reply}`")]
    Refused {
        /// The server.
        address: SocketAddr,
        /// What it refused.
        verb: Verb,
        /// What it said.
        reply: Reply,
    },
    /// The handshake failed, or the certificate is not what the route asks for.
    #[error("TLS with {address} failed: {why}")]
    Tls {
        /// The server.
        address: SocketAddr,
        /// What went wrong.
        why: String,
    },
    /// The route asks for TLS and the server does not offer it.
    #[error("{address} does not offer STARTTLS, which the route requires")]
    NoTls {
        /// The server.
        address: SocketAddr,
    },
    /// The route has a password that can't be used here.
    #[error("{address} can't be given the password: {why}")]
    NoAuth {
        /// The server.
        address: SocketAddr,
        /// Why not.
        why: &'static str,
    },
    /// It does not offer to hear who the client is, which it would therefore judge by our address.
    #[error("{address} does not offer XCLIENT, which client_identity asks for")]
    NoXclient {
        /// The server.
        address: SocketAddr,
    },
    /// It knows who the client is and does not want it.
    #[error("{address} answered {verb} for the client with `{reply}`")]
    RefusedClient {
        /// The server.
        address: SocketAddr,
        /// What it refused.
        verb: Verb,
        /// What it said.
        reply: Reply,
    },
    /// The conversation broke before it could carry a message.
    #[error("{address} {lost}")]
    Lost {
        /// The server.
        address: SocketAddr,
        /// How.
        lost: Box<Lost>,
    },
}

impl Unreachable {
    /// What the server said, when it said something.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused { reply, .. } | Self::RefusedClient { reply, .. } => Some(reply),
            Self::Lost { lost, .. } => lost.reply(),
            _ => None,
        }
    }

    /// What the client is answered; none where all that concerns it is that there is no next hop now.
    pub fn for_client(&self) -> Option<Reply> {
        match self {
            Self::RefusedClient { reply, .. } => Some(reply.clone()),
            Self::NoXclient { .. } | Self::Refused { verb: Verb::Xclient, .. } => {
                Some(Reply::new(451, "4.3.5 the next hop can't be told who you are, try again later"))
            }
            _ => None,
        }
    }

    /// Whether another address of the same host may fare better.
    pub(super) fn concerns_one_address(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Tls { .. } | Self::Lost { .. } => true,
            Self::Refused { verb, .. } => *verb != Verb::Auth,
            Self::Resolve { .. } | Self::NoTls { .. } | Self::NoAuth { .. } => false,
            Self::NoXclient { .. } | Self::RefusedClient { .. } => false,
        }
    }
}

/// How a conversation broke off. Reads on behind the server's name: "192.0.2.1:25 closed the connection …".
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// End of file.
    #[error("closed the connection{}", while_awaiting(*.0))]
    Closed(Option<Verb>),
    /// An error of the connection.
    #[error("was lost{}: {why}", while_awaiting(*.verb))]
    Broken {
        /// What was being waited for.
        verb: Option<Verb>,
        /// What the system said.
        why: String,
    },
    /// No reply in time.
    #[error("{} within {} s", unanswered(*.verb), wait.as_secs_f32())]
    Silent {
        /// What was not answered.
        verb: Verb,
        /// How long we waited.
        wait: Duration,
    },
    /// The message could not be written in time.
    #[error("took no octets of the message for {} s", .0.as_secs_f32())]
    Stuck(Duration),
    /// It said something without being asked, most likely why it gives up.
    #[error("gave up the conversation with `{0}`")]
    Spoke(Reply),
    /// It refused a chunk of the message, so that it keeps nothing of it.
    #[error("refused a chunk of the message with `{0}`")]
    ChunkRefused(Reply),
    /// It answered RSET with a refusal.
    #[error("refused RSET with `{0}`")]
    ResetRefused(Reply),
    /// It broke the protocol.
    #[error("broke the protocol: {0}")]
    Protocol(ReplyError),
    /// A connection that was to go on had been closed, and a new one could not be made.
    #[error("had closed the connection, and then: {0}")]
    Unreachable(Box<Unreachable>),
    /// A connection that was to go on had been closed, and a new one offers less than the transaction needs.
    #[error("offered {0} before and does not any more")]
    OffersLess(&'static str),
    /// The conversation was over, or out of step, before the end of the message was said: the server keeps nothing.
    #[error("{0}, before the end of the message was said")]
    BeforeEnd(Box<Lost>),
    /// It has answered more often than it was asked, so that nobody knows which reply was to the message.
    #[error("answered more often than it was asked: `{0}` was the reply to QUIT")]
    OutOfStep(Reply),
    /// What was asked for does not fit into the conversation: a reply without a command, content without a 354.
    #[error("can't be asked for this now: {0}")]
    OutOfOrder(&'static str),
}

impl Lost {
    /// Whether the end of the message was surely not said, so that nothing of it was relayed.
    pub fn left_nothing(&self) -> bool {
        matches!(self, Self::BeforeEnd(_) | Self::OutOfOrder(_))
    }

    /// What the server said, when it said something.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::BeforeEnd(lost) => lost.reply(),
            Self::Spoke(reply) | Self::ResetRefused(reply) | Self::ChunkRefused(reply) | Self::OutOfStep(reply) => {
                Some(reply)
            }
            Self::Protocol(error) => error.reply(),
            Self::Unreachable(unreachable) => unreachable.reply(),
            _ => None,
        }
    }

    /// Whether an idle connection that ends so had simply been given up by the server.
    pub(super) fn is_end_of_idling(&self) -> bool {
        matches!(self, Self::Closed(_) | Self::Broken { .. } | Self::Spoke(_) | Self::ResetRefused(_))
    }
}

impl From<ReplyError> for Lost {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Unasked(reply) => Self::Spoke(reply),
            other => Self::Protocol(other),
        }
    }
}

fn unanswered(verb: Verb) -> String {
    match verb {
        Verb::Greeting => "sent no greeting".to_owned(),
        verb => format!("did not answer {verb}"),
    }
}

fn while_awaiting(verb: Option<Verb>) -> String {
    match verb {
        Some(Verb::Greeting) => " before its greeting".to_owned(),
        Some(verb) => format!(" before its reply to {verb}"),
        None => String::new(),
    }
}
