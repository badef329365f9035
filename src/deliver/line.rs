//! The line to a server: what is said over it and what is heard, and a stream in lettre's eyes, who opens the conversation.
//!
//! lettre reads the greeting and says EHLO; what it lacks for that is done here, below it. The transactions are said over
//! the line itself ([`Line::gather`], [`Line::hear`]):
//!
//! * *Replies are kept whole.* lettre drops the greeting, joins the lines of refusals, and takes a reply in Latin-1, or one
//!   without text, for a lost connection. Here replies are read generously and kept ([`Line::take_reply`]);
//!   lettre is told the class alone, by one short line it surely understands.
//! * *A poisoned line takes no further octet* ([`Line::poison`]): where the original can't be read to its end, nothing may
//!   write a final dot below half a record. Every write fails from then on.
//! * *What belongs together leaves together.* Octets gather until a reply is waited for or [`GATHER`] of them are there, so
//!   that a small record goes out in one write with its final dot.
//! * *Every wait ends.* A reply has until the limit set before; a block of data has [`BLOCK`] to move on.
//! * *Nobody speaks out of turn.* Octets that came before they were asked for are found ([`Line::spoke_early`]): an injected
//!   or late reply is never taken for the answer to something said afterwards (RFC 3207, section 6).

use super::replies::ReplyReader;
use super::verdict::Cause;
use crate::mail::{Reply, ReplyClass};
use crate::net::{Stream, Transport};
use lettre::transport::smtp::client::AsyncTokioStream;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

/// How long a block of data may fail to move on (RFC 5321, section 4.5.3.2.5).
pub(super) const BLOCK: Duration = Duration::from_secs(3 * 60);
/// How long lettre may wait for an answer to its own QUIT.
const FAREWELL: Duration = Duration::from_secs(10);
/// Octets read from the server at a time.
const READ: usize = 2_048;
/// Octets that gather before they are written.
const GATHER: usize = 64 * 1024;
/// Octets for which a line keeps room while it is idle; there are some twenty lines a route.
const KEPT: usize = 16 * 1024;

/// A handle on the line; lettre holds another.
#[derive(Debug, Clone)]
pub(super) struct Line {
    inner: Arc<Mutex<Inner>>,
    peer: SocketAddr,
}

#[derive(Debug)]
struct Inner {
    transport: Transport,
    /// Octets lettre has written and the server has not got yet.
    gathered: Vec<u8>,
    replies: ReplyReader,
    /// The last reply, until it is taken; a negative one stays.
    reply: Option<Reply>,
    replies_read: u32,
    /// The server speaks LMTP: lettre, which doesn't, greets with EHLO, and LHLO is sent (RFC 2033, section 4.1).
    speaks_lmtp: bool,
    /// What lettre is to read: the class of the last reply as a line.
    told: &'static [u8],
    /// Why no octet may be written any more.
    poison: Option<Cause>,
    /// How long the next reply may take, from the first look for it.
    limit: Duration,
    waiting_for_reply: Option<Pin<Box<Sleep>>>,
    waiting_to_write: Option<Pin<Box<Sleep>>>,
    /// The server took no more octets.
    write_failed: bool,
    /// The two sides are out of step: nothing that comes now answers anything. lettre says QUIT behind a failure by itself
    /// and would wait for the answer.
    out_of_step: bool,
    /// The last failure: lettre's errors say "network error" in front of it.
    failure: Option<String>,
}

impl Line {
    /// A line over `stream`, whose greeting has `limit` to come.
    pub(super) fn plain(stream: Stream, peer: SocketAddr, limit: Duration) -> Self {
        Self::over(Transport::Plain(stream), peer, limit)
    }

    /// The same over TLS.
    pub(super) fn tls(stream: TlsStream<Stream>, peer: SocketAddr, limit: Duration) -> Self {
        Self::over(Transport::Tls(Box::new(stream.into())), peer, limit)
    }

    fn over(transport: Transport, peer: SocketAddr, limit: Duration) -> Self {
        let inner = Inner {
            transport,
            gathered: Vec::new(),
            replies: ReplyReader::default(),
            reply: None,
            replies_read: 0,
            speaks_lmtp: false,
            told: b"",
            poison: None,
            limit,
            waiting_for_reply: None,
            waiting_to_write: None,
            write_failed: false,
            out_of_step: false,
            failure: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)), peer }
    }

    /// The server at its end speaks LMTP.
    pub(super) fn speak_lmtp(&self) {
        self.lock().speaks_lmtp = true;
    }

    /// The server's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Gives the next reply `limit` to come, and forgets the one before.
    pub(super) fn expect_reply_within(&self, limit: Duration) {
        let mut inner = self.lock();
        inner.limit = limit;
        inner.waiting_for_reply = None;
        inner.reply = None;
    }

    /// Lets `add` append octets to those that leave when the next reply is waited for; tells whether so many have gathered
    /// that they should leave [before](Self::drain).
    ///
    /// # Errors
    /// The line is poisoned.
    pub(super) fn gather(&self, add: impl FnOnce(&mut Vec<u8>)) -> io::Result<bool> {
        let mut inner = self.lock();
        if inner.poison.is_some() {
            return Err(poisoned());
        }
        add(&mut inner.gathered);
        Ok(inner.gathered.len() >= GATHER)
    }

    /// Sends what has gathered.
    ///
    /// # Errors
    /// The line is poisoned, or broke, or took nothing for [`BLOCK`].
    pub(super) async fn drain(&self) -> io::Result<()> {
        poll_fn(|context| self.lock().poll_drain(context)).await
    }

    /// Sends what has gathered and waits for the next reply.
    ///
    /// # Errors
    /// As [`drain`](Self::drain); what came is no reply, or none came in time.
    pub(super) async fn hear(&self) -> io::Result<Reply> {
        poll_fn(|context| self.lock().poll_reply(context)).await
    }

    /// The last reply, when one came.
    pub(super) fn take_reply(&self) -> Option<Reply> {
        self.lock().reply.take()
    }

    /// How many replies were read so far, the greeting counted.
    pub(super) fn replies_read(&self) -> u32 {
        self.lock().replies_read
    }

    /// What went wrong with the line, when something has.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Whether the server took no more octets; it may have said why.
    pub(super) fn write_failed(&self) -> bool {
        self.lock().write_failed
    }

    /// Lets no further octet out, for this reason. There is no way back.
    pub(super) fn poison(&self, cause: Cause) {
        let mut inner = self.lock();
        inner.poison.get_or_insert(cause);
        inner.gathered = Vec::new();
    }

    /// Why the line was poisoned, when it was.
    pub(super) fn poisoned(&self) -> Option<Cause> {
        self.lock().poison.clone()
    }

    /// What the server has said though nobody asked it, or that it has gone; none while it keeps silent, as it should.
    pub(super) fn spoke_early(&self) -> Option<String> {
        let mut inner = self.lock();
        let mut context = Context::from_waker(Waker::noop());
        if inner.replies.is_empty() {
            match inner.poll_octets(&mut context) {
                Poll::Pending => return None,
                Poll::Ready(Err(error)) => return Some(error.to_string()),
                Poll::Ready(Ok(())) => {}
            }
        }
        Some(match inner.replies.take() {
            Ok(Some(reply)) => format!("the server spoke out of turn: {reply}"),
            Ok(None) => "the server spoke out of turn".to_owned(),
            Err(error) => error.to_string(),
        })
    }

    /// Takes the plain stream out for a TLS handshake; none when it was taken, or is TLS already.
    pub(super) fn take_plain(&self) -> Option<Stream> {
        let mut inner = self.lock();
        match std::mem::replace(&mut inner.transport, Transport::Gone) {
            Transport::Plain(stream) => Some(stream),
            other => {
                inner.transport = other;
                None
            }
        }
    }

    /// Goes on over TLS.
    pub(super) fn put_tls(&self, stream: TlsStream<Stream>) {
        self.lock().transport = Transport::Tls(Box::new(stream.into()));
    }

    /// Whether TLS protects the line.
    pub(super) fn is_tls(&self) -> bool {
        self.lock().transport.is_encrypted()
    }

    /// How the line is protected, in words.
    pub(super) fn protection(&self) -> String {
        self.lock().transport.agreed().map_or_else(|| "plain text".to_owned(), |agreed| agreed.to_string())
    }

    // A panic in here leaves no half-done change that would matter more than the line, which fails by itself.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn fail<T>(&mut self, error: io::Error) -> Poll<io::Result<T>> {
        self.failure.get_or_insert_with(|| error.to_string());
        Poll::Ready(Err(error))
    }

    /// Reads once from the server into the reply reader; an end counts as an error.
    fn poll_octets(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; READ];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"))
            }
            Poll::Ready(Ok(())) => {
                self.replies.push(buffer.filled());
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes what has gathered.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut written = 0;
        let polled = loop {
            let Some(rest) = gathered.get(written..).filter(|rest| !rest.is_empty()) else {
                break self.poll_send(context, |transport, context| Pin::new(transport).poll_flush(context));
            };
            match self.poll_send(context, |transport, context| Pin::new(transport).poll_write(context, rest)) {
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        match &polled {
            // An idle line keeps no more room than a small record takes.
            Poll::Ready(Ok(())) if gathered.capacity() > KEPT => gathered = Vec::new(),
            Poll::Ready(_) => gathered.clear(),
            Poll::Pending => drop(gathered.drain(..written)),
        }
        self.gathered = gathered;
        polled
    }

    /// Sends what has gathered and waits for a reply.
    fn poll_reply(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Reply>> {
        if self.out_of_step {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the two sides are out of step")));
        }
        std::task::ready!(self.poll_drain(context))?;
        loop {
            match self.replies.take() {
                Ok(Some(reply)) => {
                    self.replies_read += 1;
                    self.waiting_for_reply = None;
                    return Poll::Ready(Ok(reply));
                }
                Ok(None) => match self.poll_octets(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.poll_reply_limit(context),
                },
                Err(error) => {
                    self.out_of_step = true;
                    return self.fail(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// The same as lettre reads it.
    fn poll_told(&mut self, context: &mut Context<'_>, output: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.told.is_empty() {
            let reply = std::task::ready!(self.poll_reply(context))?;
            self.told = told(reply.code());
            // Behind a refused EHLO lettre says QUIT by itself; the answer to that is no news.
            if !self.reply.as_ref().is_some_and(is_negative) {
                self.reply = Some(reply);
            }
        }
        let (now, later) = self.told.split_at(self.told.len().min(output.remaining()));
        output.put_slice(now);
        self.told = later;
        Poll::Ready(Ok(()))
    }

    fn poll_reply_limit<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = if self.reply.as_ref().is_some_and(is_negative) { FAREWELL } else { self.limit };
        let sleep = self.waiting_for_reply.get_or_insert_with(|| sleep_for(limit));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.fail(late(format!("no reply within {} s", limit.as_secs())))
    }

    fn poll_send<T>(
        &mut self,
        context: &mut Context<'_>,
        send: impl FnOnce(&mut Transport, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.poison.is_some() {
            return Poll::Ready(Err(poisoned()));
        }
        match send(&mut self.transport, context) {
            Poll::Ready(Ok(done)) => {
                self.waiting_to_write = None;
                Poll::Ready(Ok(done))
            }
            Poll::Ready(Err(error)) => {
                self.write_failed = true;
                self.fail(error)
            }
            Poll::Pending => {
                let sleep = self.waiting_to_write.get_or_insert_with(|| sleep_for(BLOCK));
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.fail(late(format!("the server took no data for {} s", BLOCK.as_secs())))
            }
        }
    }
}

/// 4yz or 5yz.
pub(super) fn is_negative(reply: &Reply) -> bool {
    matches!(reply.class(), ReplyClass::Transient | ReplyClass::Permanent)
}

/// What lettre is told of a reply: its first digit. Its parser knows few codes, and the reply itself is in our hands.
fn told(code: u16) -> &'static [u8] {
    match code / 100 {
        2 => b"250 .\r\n",
        3 => b"350 .\r\n",
        4 => b"450 .\r\n",
        _ => b"550 .\r\n",
    }
}

fn sleep_for(limit: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep_until(Instant::now() + limit))
}

fn late(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

fn poisoned() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the line is poisoned")
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, output: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_told(context, output)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.gathered.len() >= GATHER {
            std::task::ready!(inner.poll_drain(context))?;
        }
        if inner.poison.is_some() {
            return Poll::Ready(Err(poisoned()));
        }
        match octets.strip_prefix(b"EHLO ") {
            // lettre's first command, and no other: a message may have such a line, too.
            Some(name) if inner.speaks_lmtp && inner.replies_read == 1 => {
                inner.gathered.extend_from_slice(b"LHLO ");
                inner.gathered.extend_from_slice(name);
            }
            _ => inner.gathered.extend_from_slice(octets),
        }
        Poll::Ready(Ok(octets.len()))
    }

    /// Does nothing: what has gathered leaves when a reply to it is waited for.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        std::task::ready!(inner.poll_drain(context))?;
        inner.poll_send(context, |transport, context| Pin::new(transport).poll_shutdown(context))
    }
}

impl AsyncTokioStream for Line {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
