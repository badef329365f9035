//! One connection to an SMTP server: the client's state machine of `smtp::client`, moved over a socket.
//!
//! Writing and reading go hand in hand, so that a server which answers while we still write can't block both sides
//! (RFC 2920, section 3.1), and so that what it says while it gives up is heard. Every wait ends: see `Settings`.

use super::error::Lost;
use super::identity::ClientFacts;
use super::settings::Settings;
use super::tls::TlsClient;
use crate::mail::Reply;
use crate::net::{Agreed, Stream, Transport};
use crate::smtp::Extensions;
use crate::smtp::client::{Client, Command, Offer, ReplyError, Verb};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// Octets of a message that gather before they are written: a smaller message goes out in one write with its final dot.
pub const GATHER: usize = 64 * 1024;
/// Chunks that may be on their way before the reply to the first of them (RFC 3030, section 4.2), where the server takes
/// commands in a row: with the smallest of them a megabyte.
const MAX_CHUNKS_AHEAD: usize = 16;
/// Octets read at once.
const READ: usize = 4096;
/// "Service closing transmission channel": to QUIT (RFC 5321, section 4.2.3).
const BYE: u16 = 221;
/// "Service not available, closing transmission channel" (RFC 5321, section 4.2.3).
pub(super) const CLOSING: u16 = 421;

/// A conversation over a socket.
pub(super) struct Connection {
    stream: Transport,
    client: Client,
    settings: Arc<Settings>,
    address: SocketAddr,
    /// Whom it speaks for, and nobody else.
    pub(super) speaks_for: Option<Arc<ClientFacts>>,
    input: Box<[u8]>,
    /// Octets were written that a TLS layer may still hold.
    needs_flush: bool,
    /// How often MAIL was said.
    mails: u64,
    /// What XFORWARD was refused with, until somebody is told.
    pub(super) xforward_refusal: Option<Reply>,
    /// The conversation is over: it broke, or was ended here.
    shut: bool,
    /// The server said that it closes; replies to earlier commands may still come.
    closing: bool,
    /// How often the socket was written to.
    #[cfg(test)]
    pub(super) writes: usize,
}

impl Connection {
    pub(super) fn new(stream: Transport, address: SocketAddr, settings: Arc<Settings>) -> Self {
        Self {
            stream,
            client: Client::new(),
            settings,
            address,
            speaks_for: None,
            input: vec![0; READ].into_boxed_slice(),
            needs_flush: false,
            mails: 0,
            xforward_refusal: None,
            shut: false,
            closing: false,
            #[cfg(test)]
            writes: 0,
        }
    }

    pub(super) fn offer(&self) -> &Offer {
        self.client.offer()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// What TLS was agreed on.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.stream.agreed()
    }

    /// See [`Client::forget_require_tls`].
    pub(super) fn forget_require_tls(&mut self) {
        self.client.forget_require_tls();
    }

    /// How often MAIL was said.
    pub(super) fn mails(&self) -> u64 {
        self.mails
    }

    pub(super) fn queue(&mut self, command: Command) {
        self.mails += u64::from(command.verb() == Verb::Mail);
        self.client.queue(command);
    }

    /// Sends what may be sent and gives the reply to the oldest unanswered command, RSET and XFORWARD left aside.
    pub(super) async fn reply(&mut self) -> Result<Reply, Lost> {
        self.reply_within(Duration::MAX).await
    }

    /// The same, where it takes no longer than `most`.
    pub(super) async fn reply_within(&mut self, most: Duration) -> Result<Reply, Lost> {
        let Some(verb) = self.client.awaited().filter(|_| !self.shut) else {
            return Err(Lost::OutOfOrder("no command is unanswered"));
        };
        let wait = self.settings.wait_for(verb).min(most);
        let reply = match timeout(wait, poll_fn(|cx| self.poll_reply(cx))).await {
            Ok(reply) => reply,
            Err(_) => Err(Lost::Silent { verb: self.client.awaited().unwrap_or(verb), wait }),
        };
        self.shut |= reply.is_err();
        reply
    }

    /// Octets of the message; written when enough have gathered.
    pub(super) async fn content(&mut self, octets: &[u8]) -> Result<(), Lost> {
        for part in octets.chunks(GATHER) {
            if self.shut || !self.client.content(part) {
                return Err(Lost::OutOfOrder("the server does not wait for a message"));
            }
            // Beyond this the next part could make it more than twice as much.
            if self.client.output().len() > GATHER {
                self.write_out().await?;
            }
            let ahead = if self.offer().extensions().pipelining { MAX_CHUNKS_AHEAD } else { 0 };
            self.hear_of_chunks(ahead).await?;
        }
        Ok(())
    }

    /// Begins a message in chunks, where all that was asked is answered, and nothing else.
    pub(super) fn begin_chunks(&mut self) -> Result<(), Lost> {
        if self.shut {
            return Err(Lost::OutOfOrder("the conversation is over"));
        }
        self.hear_nothing()?;
        self.client.begin_chunks().then_some(()).ok_or(Lost::OutOfOrder("no message is waited for"))
    }

    /// Sees that the server has said nothing that it was not asked. A reply too many would be taken for the one to what is
    /// said next; behind DATA the 354 tells them apart, behind chunks nothing does.
    fn hear_nothing(&mut self) -> Result<(), Lost> {
        let mut cx = Context::from_waker(Waker::noop());
        let heard = loop {
            match self.poll_read_in(&mut cx) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => {
                    break self.take_reply().and_then(|said| said.map_or(Ok(()), |said| Err(Lost::Spoke(said))));
                }
                Err(lost) => break Err(lost),
            }
        };
        self.shut |= heard.is_err();
        heard
    }

    /// Waits until no more than `ahead` chunks are unanswered, the last one left aside.
    pub(super) async fn hear_of_chunks(&mut self, ahead: usize) -> Result<(), Lost> {
        while self.client.unanswered_chunks() > ahead {
            let reply = self.reply().await?;
            if !reply.is_completion() {
                self.shut = true;
                return Err(Lost::ChunkRefused(reply));
            }
        }
        Ok(())
    }

    /// The final dot or the last chunk; it leaves when its [`verdict`](Self::verdict) is waited for.
    pub(super) fn end(&mut self) -> Result<(), Lost> {
        let no_message = Lost::OutOfOrder("the server does not wait for a message");
        if self.shut || !self.client.is_in_data() {
            return Err(no_message);
        }
        self.hear_nothing().map_err(|lost| Lost::BeforeEnd(Box::new(lost)))?;
        self.client.end_of_data().then_some(()).ok_or(no_message)
    }

    /// Whether the next transaction may be begun along with the end of the message (RFC 2920, section 3.1), which is not said.
    pub(super) fn may_go_on(&self) -> bool {
        let Extensions { pipelining, limits, .. } = self.offer().extensions();
        let most = limits.mail_max.unwrap_or(u64::MAX).min(self.settings.max_mails);
        let is_in_order = !self.shut && !self.closing && self.client.is_in_data() && !self.client.is_chunked();
        is_in_order && *pipelining && self.mails < most
    }

    /// The reply to the final dot, or the last chunk.
    pub(super) async fn verdict(&mut self) -> Result<Reply, Lost> {
        let reply = self.reply().await?;
        if self.client.is_chunked() && !reply.is_completion() {
            self.see_that_it_is_in_step().await?;
        }
        Ok(reply)
    }

    /// Takes leave of a server that has refused a message in chunks. Its 221 is like no other reply: where another one comes
    /// first, one was said too often before, and the refusal may have been to something else.
    async fn see_that_it_is_in_step(&mut self) -> Result<(), Lost> {
        self.queue(Command::Quit);
        let last = self.reply().await;
        self.shut = true;
        match last {
            Ok(reply) if reply.code() != BYE && reply.code() != CLOSING => Err(Lost::OutOfStep(reply)),
            Err(Lost::Protocol(error)) => Err(Lost::Protocol(error)),
            // Who closes without a word has no other reply to give.
            _ => Ok(()),
        }
    }

    /// Ends the connection. What was not written stays unwritten.
    pub(super) async fn close(&mut self) {
        self.shut = true;
        // Not through the TLS layer: it would write on first.
        let _ = timeout(self.settings.quit, self.stream.cut()).await;
    }

    /// Does the handshake; the reply to STARTTLS has come. Gives nothing back when it fails: the stream is in disorder.
    pub(super) async fn encrypt(mut self, tls: &TlsClient) -> Result<Self, HandshakeError> {
        self.client.start_tls()?;
        let Transport::Plain(stream) = self.stream else { return Ok(self) };
        self.stream = handshake(stream, tls, &self.settings).await?;
        Ok(self)
    }

    /// Makes the connection ready for another transaction; tells whether it can have one. Waits for nothing: a RSET that
    /// is needed goes out now if it can, its reply is read later.
    pub(super) fn settle(&mut self) -> bool {
        if self.shut || self.closing || !self.client.is_settled() {
            return false;
        }
        // RFC 9422, section 4.1: it has carried as many transactions as it may.
        if self.offer().extensions().limits.mail_max.is_some_and(|limit| self.mails >= limit) {
            self.say_quit();
            return false;
        }
        if self.client.has_open_transaction() {
            self.queue(Command::Reset);
        }
        self.is_alive()
    }

    /// Takes the replies to RSET that are still to come.
    pub(super) async fn settle_down(&mut self) -> Result<(), Lost> {
        while self.client.awaited() == Some(Verb::Reset) {
            let wait = self.settings.wait_for(Verb::Reset);
            let taken = timeout(wait, poll_fn(|cx| self.poll_reset(cx))).await;
            let taken = taken.unwrap_or(Err(Lost::Silent { verb: Verb::Reset, wait }));
            self.shut |= taken.is_err();
            taken?;
        }
        Ok(())
    }

    /// Whether an idle connection still stands, as far as can be told without waiting.
    pub(super) fn is_alive(&mut self) -> bool {
        if !self.shut && self.poll_idle().is_err() {
            self.shut = true;
        }
        !self.shut && !self.closing
    }

    /// Says QUIT without waiting for the reply.
    pub(super) fn say_quit(&mut self) {
        self.queue(Command::Quit);
        let _ = self.poll_write_out(&mut Context::from_waker(Waker::noop()));
    }

    fn poll_idle(&mut self) -> Result<(), Lost> {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(Err(error)) = self.poll_write_out(&mut cx) {
                return Err(self.broken(&error));
            }
            if let Some(reply) = self.take_reply()? {
                return Err(Lost::Spoke(reply));
            }
            if self.poll_read_in(&mut cx)?.is_pending() {
                return Ok(());
            }
        }
    }

    async fn write_out(&mut self) -> Result<(), Lost> {
        let wait = self.settings.data_block;
        let written = timeout(wait, poll_fn(|cx| self.poll_block(cx))).await.unwrap_or(Err(Lost::Stuck(wait)));
        self.shut |= written.is_err();
        written
    }

    /// Ready with a reply, or when there can be none.
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Lost>> {
        loop {
            let written = self.poll_write_out(cx);
            if let Some(reply) = self.take_reply()? {
                return Poll::Ready(Ok(reply));
            }
            let released_more = !self.client.output().is_empty();
            if released_more && matches!(written, Poll::Ready(Ok(()))) {
                continue;
            }
            if self.poll_read_in(cx)?.is_ready() {
                continue;
            }
            // Only now: a server that gave up may have said why.
            if let Poll::Ready(Err(error)) = written {
                return Poll::Ready(Err(self.broken(&error)));
            }
            return Poll::Pending;
        }
    }

    /// Ready when no RSET waits for its reply.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_write_out(cx) {
                return Poll::Ready(Err(self.broken(&error)));
            }
            if let Some(reply) = self.take_reply()? {
                return Poll::Ready(Err(Lost::Spoke(reply)));
            }
            if self.client.awaited() != Some(Verb::Reset) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_read_in(cx)?);
        }
    }

    /// Ready when all output is written. The server may say meanwhile what it thinks of earlier chunks, and nothing else.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        loop {
            let written = self.poll_write_out(cx);
            if self.poll_read_in(cx)?.is_ready() {
                while let Some(reply) = self.client.next_reply()? {
                    if !reply.is_completion() {
                        return Poll::Ready(Err(Lost::ChunkRefused(reply)));
                    }
                }
                continue;
            }
            return written.map(|result| result.map_err(|error| self.broken(&error)));
        }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.client.output().is_empty() {
            let octets = ready!(Pin::new(&mut self.stream).poll_write(cx, self.client.output()))?;
            if octets == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.client.note_sent(octets);
            self.needs_flush = true;
            #[cfg(test)]
            {
                self.writes += 1;
            }
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when octets were read and fed; an error at the end of the connection.
    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Lost> {
        let mut buffer = ReadBuf::new(&mut self.input);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Err(Lost::Closed(self.client.awaited())),
            Poll::Ready(Ok(())) => {
                self.client.feed(buffer.filled());
                Ok(Poll::Ready(()))
            }
            // Servers that close without the farewell of TLS are common, and replies say themselves where they end.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Lost::Closed(self.client.awaited()))
            }
            Poll::Ready(Err(error)) => Err(self.broken(&error)),
        }
    }

    /// The next reply that is not one to RSET or XFORWARD.
    fn take_reply(&mut self) -> Result<Option<Reply>, Lost> {
        loop {
            let verb = self.client.awaited();
            let Some(reply) = self.client.next_reply()? else { return Ok(None) };
            self.closing |= reply.code() == CLOSING;
            match verb {
                Some(Verb::Reset) if !reply.is_completion() => return Err(Lost::ResetRefused(reply)),
                Some(Verb::Xforward) if !reply.is_completion() => self.xforward_refusal = Some(reply),
                Some(Verb::Reset | Verb::Xforward) => {}
                _ => return Ok(Some(reply)),
            }
        }
    }

    #[cfg(test)]
    pub(super) async fn hears_something(&self) {
        let Transport::Plain(Stream::Tcp(stream)) = &self.stream else { return };
        stream.readable().await.unwrap();
    }

    fn broken(&self, error: &io::Error) -> Lost {
        Lost::Broken { verb: self.client.awaited(), why: error.to_string() }
    }

    /// The server's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The handshake itself.
    #[error("{0}")]
    Failed(String),
    /// What came before it.
    #[error(transparent)]
    Protocol(#[from] ReplyError),
}

/// TLS on a fresh or an agreed stream.
pub(super) async fn handshake(
    stream: Stream,
    tls: &TlsClient,
    settings: &Settings,
) -> Result<Transport, HandshakeError> {
    match timeout(settings.handshake, tls.connector.connect(tls.name.clone(), stream)).await {
        Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream.into()))),
        Ok(Err(error)) => Err(HandshakeError::Failed(error.to_string())),
        Err(_) => Err(HandshakeError::Failed(format!("no end within {} s", settings.handshake.as_secs_f32()))),
    }
}
