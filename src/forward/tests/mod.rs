//! Conversations with a scripted server on the loopback.

mod ahead;
mod chunks;
mod conversation;
mod identity;
mod local;
mod pooling;
mod private;
mod tls;
mod trouble;

use super::*;
use crate::config::{MxRoute, SmtpRoute, Source, Tls};
use crate::mail::{Address, Reply, ReversePath};
use crate::smtp::{Body, Mail, Parameter, Rcpt};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
const MAIL: &str = "MAIL FROM:<a@example.org>";
const RCPT: &str = "RCPT TO:<b@example.net>";

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A server that says what the test says.
struct Fake {
    listener: TcpListener,
}

impl Fake {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn route(&self, tls: Tls) -> SmtpRoute {
        let port = self.listener.local_addr().unwrap().port();
        SmtpRoute::to("127.0.0.1", port, tls)
    }

    /// A next hop without TLS.
    fn next_hop(&self) -> Arc<NextHop> {
        self.next_hop_with(settings())
    }

    fn next_hop_with(&self, settings: Settings) -> Arc<NextHop> {
        NextHop::with_settings(Route::Smtp(self.route(Tls::None)), settings).unwrap()
    }

    async fn accept(&self) -> Peer {
        Peer::over(self.listener.accept().await.unwrap().0)
    }

    /// A connection whose EHLO was answered with `offer`, its keywords between spaces.
    async fn accept_greeted(&self, offer: &str) -> Peer {
        let mut peer = self.accept().await;
        peer.greet(offer).await;
        peer
    }
}

/// The server's end of one connection.
struct Peer {
    stream: BufReader<Box<dyn Io>>,
}

impl Peer {
    fn over(stream: impl Io + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads these octets and no others.
    async fn expect(&mut self, octets: &str) {
        let mut found = vec![0; octets.len()];
        self.stream.read_exact(&mut found).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&found), octets);
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line.trim_end_matches("\r\n").to_owned()
    }

    /// Reads a line, and says the reply.
    async fn answer(&mut self, line: &str, reply: &str) {
        assert_eq!(self.line().await, line);
        self.send(&format!("{reply}\r\n")).await;
    }

    async fn greet(&mut self, offer: &str) {
        self.send("220 mx.example ESMTP\r\n").await;
        self.hello(offer).await;
    }

    async fn hello(&mut self, offer: &str) {
        assert_eq!(self.line().await, "EHLO relay.example");
        let offer: String =
            offer.split(' ').filter(|word| !word.is_empty()).map(|word| format!("250-{word}\r\n")).collect();
        self.send(&format!("250-mx.example\r\n{}250 HELP\r\n", offer.replace('_', " "))).await;
    }

    /// MAIL, RCPT and DATA, all accepted.
    async fn take_envelope(&mut self) {
        self.answer(MAIL, "250 Ok").await;
        self.answer(RCPT, "250 Ok").await;
        self.answer("DATA", "354 go on").await;
    }

    /// A whole transaction with one message.
    async fn take_message(&mut self, octets: &str) {
        self.take_envelope().await;
        self.expect(octets).await;
        self.send("250 2.0.0 taken\r\n").await;
    }

    /// All that the client still says, until it closes.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end like another.
        let _ = self.stream.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }

    /// Octets that have come beyond those that were read.
    fn pending(&self) -> &[u8] {
        self.stream.buffer()
    }
}

/// Both sides at once; what the client's side gives.
async fn both<T>(client: impl Future<Output = T>, server: impl Future<Output = ()>) -> T {
    let (result, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(client, server) }).await.expect("it hangs");
    result
}

fn settings() -> Settings {
    Settings { hello_name: "relay.example".into(), ..Settings::default() }
}

fn mail_with(parameters: &[(&str, Option<&str>)]) -> Mail {
    let parameter = |(keyword, value): &(&str, Option<&str>)| Parameter {
        keyword: (*keyword).to_owned(),
        value: value.map(str::to_owned),
    };
    Mail {
        reverse_path: ReversePath::Address(Address::parse("a@example.org").unwrap()),
        size: None,
        body: Body::SevenBit,
        smtp_utf8: false,
        parameters: parameters.iter().map(parameter).collect(),
    }
}

fn mail() -> Mail {
    mail_with(&[])
}

fn rcpt() -> Rcpt {
    Rcpt { forward_path: Address::parse("b@example.net").unwrap(), parameters: Vec::new() }
}

/// Envelope and DATA, all accepted.
async fn begin_message(leg: &mut Leg) -> Result<(), Lost> {
    leg.mail(&mail());
    leg.rcpt(&rcpt());
    leg.data();
    for code in [250, 250, 354] {
        assert_eq!(leg.reply().await?.code(), code);
    }
    Ok(())
}

/// A whole transaction.
async fn send_message(leg: &mut Leg, octets: &[u8]) -> Result<Reply, Lost> {
    begin_message(leg).await?;
    leg.content(octets).await?;
    leg.finish().await
}

#[test]
fn a_leg_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn check(next_hop: &Arc<NextHop>) {
        is_send(next_hop);
        is_send(&next_hop.open());
        is_send(&async {
            let mut leg = next_hop.open().await.unwrap();
            let _ = send_message(&mut leg, b"").await;
            leg.abandon_data().await;
        });
    }
    let _ = check;
}
