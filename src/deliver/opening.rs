//! How a conversation with a server begins: connection, greeting, EHLO, STARTTLS, AUTH.
//!
//! Carries out RFC 5321, sections 3.1 and 3.2 (client side), RFC 3207 (STARTTLS), RFC 7435 (opportunistic TLS) and RFC 4954
//! (AUTH PLAIN and LOGIN); lettre reads the greeting and says EHLO. What is said afterwards is left to
//! [`Connection`](super::connection).

use super::connection::{COMMAND, Connection, broken, expect};
use super::line::{Line, is_negative};
use super::offers::Offers;
use super::resolver::{MAX_ADDRESSES, Resolver, Unresolved};
use super::target::Target;
use super::tls::TlsClients;
use super::verdict::{Cause, Failure, Stage};
use crate::config::{Protocol, SmtpRoute, Tls};
use crate::mail::ReplyClass;
use crate::net::{Network, Stream, connect_by};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

/// How long connecting to one address may take.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the greeting may take (RFC 5321, section 4.5.3.2.1).
const GREETING: Duration = Duration::from_secs(5 * 60);

/// What opening a connection needs.
pub(super) struct Opener<'a> {
    pub(super) resolver: &'a dyn Resolver,
    pub(super) network: &'a dyn Network,
    pub(super) tls: &'a TlsClients,
    /// Our name in EHLO.
    pub(super) hostname: &'a str,
    /// When no other address is tried any more.
    pub(super) until: Instant,
    /// Told in words what was reached, where somebody wants to know.
    pub(super) tell: Option<&'a (dyn Fn(String) + Sync)>,
}

impl Opener<'_> {
    /// Lets who wants to know hear it.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(tell) = self.tell {
            tell(what());
        }
    }
}

impl Connection {
    /// Connects to the first address of `target` that answers.
    pub(super) async fn open(target: &Target, opener: &Opener<'_>) -> Result<Self, Failure> {
        let server = &target.server;
        let addresses = opener.resolver.addresses(&server.host, server.port).await.map_err(|error| {
            let (Unresolved::Never(what) | Unresolved::NotNow(what)) = error;
            Failure::lost(Stage::Connect, what)
        })?;
        let mut last = None;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            if last.is_some() && Instant::now() >= opener.until {
                break;
            }
            match Self::open_at(address, target, opener).await {
                Err(failure) if failure.stage <= Stage::Greeting => last = Some(failure),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Failure::lost(Stage::Connect, format!("{}: no address", server.host))))
    }

    async fn open_at(address: SocketAddr, target: &Target, opener: &Opener<'_>) -> Result<Self, Failure> {
        let mut connection = Self::greet(address, target, opener).await?;
        let is_offered = connection.offers.extensions.starttls;
        match target.server.tls {
            Tls::None | Tls::Implicit => {}
            _ if target.demands_tls() && is_offered => connection.start_tls(target, opener).await?,
            _ if target.demands_tls() => {
                let who = target.who_demands_tls();
                return Err(Failure::lost(Stage::Tls, format!("the server offers no STARTTLS, which {who} requires")));
            }
            _ if is_offered => {
                if let Err(failure) = connection.start_tls(target, opener).await {
                    tracing::debug!(event = "route.state", route = %target, state = "tls_failed", cause = ?failure.cause, "no TLS, going on in plain text");
                    // RFC 7435: what fails must not do worse than no attempt at all. The old line may be in any state.
                    connection = Self::greet(address, target, opener).await?;
                }
            }
            _ => {}
        }
        let verified = if target.is_verified() { ", certificate verified" } else { "" };
        opener.tell(|| format!("{address}, {}{verified}", connection.line.protection()));
        connection.authenticate(&target.server).await?;
        Ok(connection)
    }

    /// Connects, with TLS when that comes first, reads the greeting and says EHLO.
    async fn greet(address: SocketAddr, target: &Target, opener: &Opener<'_>) -> Result<Self, Failure> {
        let server = &target.server;
        let connect_failed = |what: String| Failure::lost(Stage::Connect, format!("{address}: {what}"));
        let stream = timeout(CONNECT, connect_by(opener.network, &server.source, address))
            .await
            .map_err(|_| connect_failed(format!("no connection within {} s", CONNECT.as_secs())))?
            .map_err(|error| connect_failed(error.to_string()))?;
        let line = if server.tls == Tls::Implicit {
            Line::tls(handshake(target, opener, stream).await?, address, GREETING)
        } else {
            Line::plain(stream, address, GREETING)
        };
        if server.protocol == Protocol::Lmtp {
            line.speak_lmtp();
        }
        let client = ClientId::Domain(opener.hostname.to_owned());
        let opened = AsyncSmtpConnection::connect_with_transport(Box::new(line.clone()), &client).await;
        let reply = line.take_reply();
        let stage = match &reply {
            None => Stage::Greeting,
            Some(reply) if line.replies_read() == 1 && is_negative(reply) => Stage::Greeting,
            Some(_) => Stage::Hello,
        };
        match (opened, reply) {
            (Ok(_), Some(reply)) => Ok(Self::over(line, Offers::of(&reply))),
            (_, Some(reply)) if is_negative(&reply) => Err(Failure { stage, cause: Cause::Reply(reply) }),
            (Err(error), _) => Err(broken(stage, &line, &error)),
            (Ok(_), None) => Err(broken(stage, &line, &"the conversation broke off")),
        }
    }

    async fn start_tls(&mut self, target: &Target, opener: &Opener<'_>) -> Result<(), Failure> {
        self.say(Stage::Tls, "STARTTLS", COMMAND).await?;
        // RFC 3207, section 6: what came in plain text behind the reply would be read as if TLS had protected it.
        if let Some(said) = self.line.spoke_early() {
            return Err(Failure::lost(Stage::Tls, said));
        }
        let Some(stream) = self.line.take_plain() else {
            return Err(Failure::lost(Stage::Tls, "the line is not plain"));
        };
        self.line.put_tls(handshake(target, opener, stream).await?);
        // RFC 3207, section 4.2: what was offered before counts no more.
        let hello = target.server.protocol.hello();
        let reply = self.say(Stage::Hello, &format!("{hello} {}", opener.hostname), COMMAND).await?;
        self.offers = Offers::of(&reply);
        Ok(())
    }

    async fn authenticate(&mut self, route: &SmtpRoute) -> Result<(), Failure> {
        let Some((user, password)) = &route.credentials else { return Ok(()) };
        // A password is not for whoever listens; only a route that says so sends it in plain text beyond this machine.
        if !self.line.is_tls() && route.tls != Tls::None && !self.line.peer().ip().is_loopback() {
            return Err(Failure::lost(
                Stage::Auth,
                "the server offers no TLS, and the password is not sent in plain text",
            ));
        }
        if self.offers.plain {
            let response = BASE64.encode(format!("\0{user}\0{password}"));
            self.say_done(Stage::Auth, &format!("AUTH PLAIN {response}"), COMMAND).await?;
        } else if self.offers.login {
            for words in ["AUTH LOGIN", &BASE64.encode(user)] {
                let reply = self.say(Stage::Auth, words, COMMAND).await?;
                expect(Stage::Auth, reply, ReplyClass::Intermediate)?;
            }
            self.say_done(Stage::Auth, &BASE64.encode(password), COMMAND).await?;
        } else {
            return Err(Failure::lost(Stage::Auth, "the server offers neither AUTH PLAIN nor AUTH LOGIN"));
        }
        Ok(())
    }
}

/// Shakes hands as `target` asks for it, over `stream`.
async fn handshake(target: &Target, opener: &Opener<'_>, stream: Stream) -> Result<TlsStream<Stream>, Failure> {
    opener.tls.handshake(&target.trust(), target.tls_name(), stream).await.map_err(|what| {
        let what =
            if target.demands_tls() { format!("{what}, as {} requires", target.who_demands_tls()) } else { what };
        Failure::lost(Stage::Tls, what)
    })
}
