//! A connection for one client of ours alone, who authenticates on it (RFC 4954).
//!
//! Promises: what the client sent is passed on over an encrypted connection or to this very host, and nowhere else; nobody
//! else ever uses the connection; once it is lost it stays lost, since only the client could authenticate again.

use super::connection::{CLOSING, Connection};
use super::error::{Lost, Unreachable};
use super::leg::Leg;
use super::{ClientFacts, NextHop, lock};
use crate::mail::Reply;
use crate::smtp::client::{Command, ReplyError, Verb};
use crate::smtp::{Auth, Extensions, Secret};
use std::sync::{Arc, Mutex};

/// The connection, also while a transaction has it.
pub struct Private {
    next_hop: Arc<NextHop>,
    /// None while a transaction has it, and for good once it is lost.
    connection: Mutex<Option<Box<Connection>>>,
}

impl NextHop {
    /// A new connection on which `client` may authenticate; it speaks for that client where connections do.
    pub async fn open_private(self: &Arc<Self>, client: ClientFacts) -> Result<Arc<Private>, Unreachable> {
        let client = self.settings.identity.is_exclusive().then(|| Arc::new(client));
        let connection = self.dial(client.as_ref()).await?;
        Ok(Arc::new(Private { next_hop: self.clone(), connection: Mutex::new(Some(connection)) }))
    }

    /// What `connection` offers to be passed on: no AUTH where a password could be overheard, or where the route has one of
    /// its own.
    pub(super) fn passable(&self, connection: &Connection) -> Extensions {
        let mut extensions = connection.offer().extensions().clone();
        if self.has_credentials() || !is_safe(connection) {
            extensions.auth.clear();
        }
        extensions
    }
}

impl Private {
    /// Says AUTH and gives the reply; none, and nothing is said, when this connection does not offer the mechanism.
    pub async fn authenticate(&self, auth: Auth) -> Result<Option<Reply>, Lost> {
        let offers = |connection: &Connection| self.next_hop.passable(connection).auth.contains(&auth.mechanism);
        if !lock(&self.connection).as_deref().is_some_and(offers) {
            return Ok(None);
        }
        self.say(Command::Auth(auth)).await.map(Some)
    }

    /// Passes the client's response to a 334 on, and gives the reply.
    pub async fn respond(&self, response: Secret) -> Result<Reply, Lost> {
        self.say(Command::AuthResponse(response)).await
    }

    /// Whether this is a connection to `next_hop`, and not to one that was configured before.
    pub fn leads_to(&self, next_hop: &Arc<NextHop>) -> bool {
        Arc::ptr_eq(&self.next_hop, next_hop)
    }

    /// A conversation for one transaction of `client`, whose message is called `ident`; its [`Leg::release`] brings the
    /// connection back. None when it is lost, or in use.
    pub async fn open(self: &Arc<Self>, client: ClientFacts, ident: &str) -> Option<Leg> {
        let mut connection = lock(&self.connection).take()?;
        // The reply to a RSET is still to come. Taken now, the connection is clean whatever becomes of the transaction.
        if connection.settle_down().await.is_err() || !connection.is_alive() {
            return None;
        }
        Some(self.next_hop.naming(Leg::over_private(self.clone(), connection), &client, ident))
    }

    /// Says QUIT without waiting for the reply.
    pub fn quit(&self) {
        if let Some(mut connection) = lock(&self.connection).take() {
            connection.say_quit();
        }
    }

    pub(super) fn keep(&self, connection: Box<Connection>) {
        *lock(&self.connection) = Some(connection);
    }

    pub(super) fn next_hop(&self) -> &Arc<NextHop> {
        &self.next_hop
    }

    async fn say(&self, command: Command) -> Result<Reply, Lost> {
        let connection = lock(&self.connection).take();
        let mut connection = connection.ok_or(Lost::OutOfOrder("the connection is lost"))?;
        connection.queue(command);
        let reply = connection.reply().await?;
        // RFC 4954, section 4: 334 with a single challenge, 235, or a refusal. Anything else would mislead the client.
        let sound = match reply.code() {
            334 => reply.lines().len() == 1,
            235 | 400..=599 => true,
            _ => false,
        };
        if !sound {
            return Err(ReplyError::OutOfPlace(Verb::Auth, reply).into());
        }
        if reply.code() != CLOSING {
            self.keep(connection);
        }
        Ok(reply)
    }
}

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Private({})", self.next_hop.label())
    }
}

/// Whether nobody can listen (RFC 4954, section 4).
fn is_safe(connection: &Connection) -> bool {
    connection.is_encrypted() || connection.address().ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Settings;
    use crate::net::Transport;
    use std::net::SocketAddr;

    #[tokio::test]
    async fn a_client_s_password_is_not_sent_where_others_may_listen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (address, safe) in [("192.0.2.1:25", false), ("127.0.0.2:25", true), ("[::ffff:127.0.0.1]:25", true)] {
            // The stream is as good as one to elsewhere: its address alone decides.
            let stream = crate::net::system().connect(listener.local_addr().unwrap()).await.unwrap();
            let address: SocketAddr = address.parse().unwrap();
            let connection = Connection::new(Transport::Plain(stream), address, Arc::new(Settings::default()));
            assert_eq!(is_safe(&connection), safe, "{address}");
        }
    }
}
