//! From a route to a conversation that can carry a message: resolve, connect, greeting, EHLO, TLS, AUTH.

use super::connection::{CLOSING, Connection, HandshakeError, handshake};
use super::error::{ForwardError, Lost, Unreachable};
use super::identity::{self, ClientFacts, about_client};
use super::settings::Settings;
use super::tls::TlsClient;
use crate::config::{ClientIdentity, SmtpRoute, Tls};
use crate::mail::Reply;
use crate::net::{Transport, connect_by};
use crate::smtp::client::{Command, Verb};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

/// Addresses of one host that are tried in turn.
const MAX_ADDRESSES: usize = 8;

/// Makes connections to one server.
pub(super) struct Dialer {
    route: SmtpRoute,
    tls: Option<TlsClient>,
    settings: Arc<Settings>,
}

impl Dialer {
    pub(super) fn new(route: SmtpRoute, settings: Arc<Settings>) -> Result<Self, ForwardError> {
        Ok(Self { tls: TlsClient::for_route(&route)?, route, settings })
    }

    /// Whether a connection made here has authenticated.
    pub(super) fn has_credentials(&self) -> bool {
        self.route.credentials.is_some()
    }

    /// A connection that waits for MAIL, to the first address that gives one; for a client, where it speaks for one.
    pub(super) async fn dial(&self, client: Option<&Arc<ClientFacts>>) -> Result<Connection, Unreachable> {
        let mut last = self.unresolved("it has no address");
        for address in self.resolve().await? {
            match self.dial_address(address, client).await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.concerns_one_address() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, Unreachable> {
        match timeout(self.settings.connect, self.settings.network.resolve(&self.route.host, self.route.port)).await {
            Ok(Ok(addresses)) => Ok(addresses.into_iter().take(MAX_ADDRESSES).collect()),
            Ok(Err(error)) => Err(self.unresolved(&error.to_string())),
            Err(_) => Err(self.unresolved("the resolver does not answer")),
        }
    }

    async fn dial_address(
        &self,
        address: SocketAddr,
        client: Option<&Arc<ClientFacts>>,
    ) -> Result<Connection, Unreachable> {
        match self.establish(address, self.route.tls, client).await {
            // RFC 7435, section 3: better in plain text than not at all, where the route allows it.
            Err(Unreachable::Tls { why, .. }) if self.route.tls == Tls::Opportunistic => {
                tracing::info!(event = "route.state", route = %self.route, state = "tls_failed", %address, %why, "TLS failed, going on in plain text");
                self.establish(address, Tls::None, client).await
            }
            other => other,
        }
    }

    async fn establish(
        &self,
        address: SocketAddr,
        mode: Tls,
        client: Option<&Arc<ClientFacts>>,
    ) -> Result<Connection, Unreachable> {
        let unconnected = |why: String| Unreachable::Connect { address, why };
        let connecting = connect_by(&*self.settings.network, &self.route.source, address);
        let mut stream = match timeout(self.settings.connect, connecting).await {
            Ok(connected) => connected.map_err(|error| unconnected(error.to_string()))?,
            Err(_) => return Err(unconnected(format!("no answer within {} s", self.settings.connect.as_secs_f32()))),
        };
        let own = stream.local_address().map(|local| (local, address));
        let header = identity::header(self.settings.identity, client.map(AsRef::as_ref), own);
        if let Some(header) = &header {
            let written = timeout(self.settings.connect, stream.write_all(header)).await;
            written
                .map_err(|_| unconnected("it takes no PROXY header".to_owned()))?
                .map_err(|error| unconnected(error.to_string()))?;
        }
        let stream = match &self.tls {
            Some(tls) if mode == Tls::Implicit => {
                handshake(stream, tls, &self.settings).await.map_err(|error| failed(address, error))?
            }
            _ => Transport::Plain(stream),
        };
        let mut connection = Connection::new(stream, address, self.settings.clone());
        // Behind a header all that the server says is about the client.
        let announced = client.filter(|_| header.is_some());
        connection.speaks_for = announced.cloned();
        let greeted = async {
            accepted(&mut connection, Verb::Greeting).await?;
            self.say_hello(&mut connection).await
        };
        greeted.await.map_err(|error| if announced.is_some() { about_client(error) } else { error })?;
        if let (Some(tls), Tls::Opportunistic | Tls::Required) = (&self.tls, mode) {
            connection = self.start_tls(connection, tls, mode).await?;
        }
        // RFC 8689, section 4.2.1: only to a server whose certificate is verified.
        if !(connection.is_encrypted() && matches!(self.route.tls, Tls::Required | Tls::Implicit)) {
            connection.forget_require_tls();
        }
        self.authenticate(&mut connection).await?;
        if let Some(client) = client.filter(|_| self.settings.identity == ClientIdentity::Xclient) {
            self.introduce(&mut connection, client).await?;
        }
        Ok(connection)
    }

    /// XCLIENT, after which the server greets anew, and EHLO in the client's name.
    async fn introduce(&self, connection: &mut Connection, client: &Arc<ClientFacts>) -> Result<(), Unreachable> {
        if !connection.offer().attributes("XCLIENT").any(|attribute| attribute.eq_ignore_ascii_case("ADDR")) {
            return Err(Unreachable::NoXclient { address: connection.address() });
        }
        connection.queue(client.for_xclient());
        accepted(connection, Verb::Xclient).await?;
        connection.speaks_for = Some(Arc::clone(client));
        self.say_hello(connection).await.map_err(about_client)
    }

    async fn say_hello(&self, connection: &mut Connection) -> Result<(), Unreachable> {
        let own = || self.settings.hello_name.clone();
        let name = connection.speaks_for.as_ref().map_or_else(own, |client| client.hello_name());
        connection.queue(Command::Hello(name));
        accepted(connection, Verb::Ehlo).await.map(drop)
    }

    /// STARTTLS (RFC 3207), and EHLO again behind it.
    async fn start_tls(
        &self,
        mut connection: Connection,
        tls: &TlsClient,
        mode: Tls,
    ) -> Result<Connection, Unreachable> {
        let address = connection.address();
        if !connection.offer().extensions().starttls {
            return if mode == Tls::Required { Err(Unreachable::NoTls { address }) } else { Ok(connection) };
        }
        connection.queue(Command::StartTls);
        match accepted(&mut connection, Verb::StartTls).await {
            Ok(_) => {}
            // It offers TLS and can't do it now; the conversation goes on (RFC 3207, section 4).
            Err(Unreachable::Refused { reply, .. }) if mode == Tls::Opportunistic && reply.code() != CLOSING => {
                return Ok(connection);
            }
            Err(error) => return Err(error),
        }
        let mut connection = connection.encrypt(tls).await.map_err(|error| failed(address, error))?;
        self.say_hello(&mut connection).await?;
        Ok(connection)
    }

    /// AUTH PLAIN (RFC 4954), when the route has a password.
    async fn authenticate(&self, connection: &mut Connection) -> Result<(), Unreachable> {
        let Some((user, password)) = self.route.credentials.clone() else { return Ok(()) };
        let address = connection.address();
        // RFC 4954, section 4: PLAIN only where nobody listens.
        if !connection.is_encrypted() && !address.ip().to_canonical().is_loopback() {
            return Err(Unreachable::NoAuth { address, why: "the connection is not encrypted" });
        }
        if !connection.offer().has_auth_plain() {
            return Err(Unreachable::NoAuth { address, why: "it does not offer AUTH PLAIN" });
        }
        connection.queue(Command::AuthPlain { user, password });
        accepted(connection, Verb::Auth).await.map(drop)
    }

    fn unresolved(&self, why: &str) -> Unreachable {
        Unreachable::Resolve { host: self.route.host.clone(), why: why.to_owned() }
    }
}

/// The reply, if it is 2yz.
async fn accepted(connection: &mut Connection, verb: Verb) -> Result<Reply, Unreachable> {
    let address = connection.address();
    match connection.reply().await {
        Ok(reply) if reply.is_completion() => Ok(reply),
        Ok(reply) => Err(Unreachable::Refused { address, verb, reply }),
        Err(lost) => Err(Unreachable::Lost { address, lost: Box::new(lost) }),
    }
}

fn failed(address: SocketAddr, error: HandshakeError) -> Unreachable {
    match error {
        HandshakeError::Failed(why) => Unreachable::Tls { address, why },
        HandshakeError::Protocol(error) => Unreachable::Lost { address, lost: Box::new(Lost::Protocol(error)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_password_is_not_sent_where_others_may_listen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = crate::net::system().connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = listener.accept().await.unwrap().0;
        let settings = Arc::new(Settings::default());
        let credentials = Some(("user".to_owned(), "secret".to_owned()));
        let route = SmtpRoute { credentials, ..SmtpRoute::to("mx.example", 25, Tls::None) };
        // The stream is as good as one to elsewhere: its address alone decides.
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 25));
        let mut connection = Connection::new(Transport::Plain(stream), elsewhere, settings.clone());
        let dialer = Dialer::new(route, settings).unwrap();
        let error = dialer.authenticate(&mut connection).await.unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.1:25 can't be given the password: the connection is not encrypted");
        drop(connection);
        let mut said = Vec::new();
        server.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"");
    }
}
