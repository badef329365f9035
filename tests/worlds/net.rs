//! The relay's network over turmoil's. Every octet of the relay goes through here: into the trace, and nowhere once the
//! power is gone.

use super::history::Peer;
use super::trace::Trace;
use journal_relay::deliver::{Answer, Exchangers, Resolver};
use journal_relay::net::{Later, Listen, Network, Stream};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether the relay's machine has power. Without it nothing leaves it, whatever its program still does.
#[derive(Debug, Clone, Default)]
pub struct Power(Arc<AtomicBool>);

impl Power {
    pub fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn switch_off(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn switch_on(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A connection's stream; none when it is closed.
type Slot = Arc<Mutex<Option<turmoil::net::TcpStream>>>;

/// A connection that may still be open.
struct Open {
    with: Option<Peer>,
    cut: Weak<Cut>,
    slot: Slot,
}

/// The network of the relay's host.
#[derive(Clone)]
pub struct SimNetwork {
    pub trace: Trace,
    pub power: Power,
    lines: Arc<Mutex<Vec<Open>>>,
    count: Arc<AtomicU64>,
    /// The program is ending without a word: its connections are closed by the system, all together.
    ending: Arc<AtomicBool>,
}

impl SimNetwork {
    pub fn new(trace: Trace, power: Power) -> Self {
        Self { trace, power, lines: Arc::default(), count: Arc::default(), ending: Arc::default() }
    }

    /// Breaks every connection with `peer` there is now: what the system does when it has sent again and again in vain.
    pub fn cut_lines(&self, peer: Peer) {
        let mut lines = self.lines.lock().unwrap();
        lines.retain(|line| line.cut.strong_count() > 0);
        for line in lines.iter().filter(|line| line.with == Some(peer)) {
            if let Some(cut) = line.cut.upgrade() {
                cut.fall();
            }
        }
    }

    /// From now on connections stay until [`close_all`](Self::close_all): a runtime drops its tasks in an order that is not
    /// the same in every run.
    pub fn begin_to_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Closes every connection there is, in their order; without power nobody hears of it.
    pub fn close_all(&self) {
        for line in std::mem::take(&mut *self.lines.lock().unwrap()) {
            let stream = line.slot.lock().unwrap().take();
            if self.power.is_off() {
                std::mem::forget(stream);
            }
        }
        self.ending.store(false, Ordering::Relaxed);
    }

    fn wrap(&self, stream: turmoil::net::TcpStream, way: &str, peer: SocketAddr) -> Stream {
        let of = turmoil::reverse_lookup(peer.ip())
            .and_then(|name| Peer::ALL.into_iter().find(|candidate| candidate.host() == name));
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = of.map_or_else(|| peer.to_string(), |of| of.to_string());
        let cut = Arc::new(Cut::default());
        let slot = Arc::new(Mutex::new(Some(stream)));
        self.lines.lock().unwrap().push(Open { with: of, cut: Arc::downgrade(&cut), slot: Arc::clone(&slot) });
        self.trace.note(format!("line {number} {way} {name}"));
        Stream::Other(Box::new(Line { slot, number, name, cut, network: self.clone() }))
    }
}

impl Network for SimNetwork {
    fn resolve(&self, host: &str, port: u16) -> Later<'static, Vec<SocketAddr>> {
        let address = SocketAddr::new(turmoil::lookup(host), port);
        Box::pin(async move { Ok(vec![address]) })
    }

    fn connect(&self, address: SocketAddr) -> Later<'static, Stream> {
        let network = self.clone();
        Box::pin(async move {
            if network.power.is_off() {
                std::future::pending::<()>().await;
            }
            let stream = turmoil::net::TcpStream::connect(address).await?;
            Ok(network.wrap(stream, "to", address))
        })
    }

    fn listen(&self, address: SocketAddr) -> Later<'static, Box<dyn Listen>> {
        let network = self.clone();
        Box::pin(async move {
            let socket = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(SimListener { socket, network, address }) as Box<dyn Listen>)
        })
    }
}

impl Resolver for SimNetwork {
    fn exchangers(&self, _domain: &str) -> Answer<Exchangers> {
        Box::pin(async { Ok(Exchangers::default()) })
    }

    fn addresses(&self, host: &str, port: u16) -> Answer<Vec<SocketAddr>> {
        let address = SocketAddr::new(turmoil::lookup(host), port);
        Box::pin(async move { Ok(vec![address]) })
    }
}

struct SimListener {
    socket: turmoil::net::TcpListener,
    network: SimNetwork,
    address: SocketAddr,
}

impl Listen for SimListener {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> Later<'_, (Stream, SocketAddr)> {
        Box::pin(async move {
            let (stream, peer) = self.socket.accept().await?;
            Ok((self.network.wrap(stream, "from", peer), peer))
        })
    }
}

/// A connection that can be broken from outside.
#[derive(Default)]
struct Cut {
    fallen: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Cut {
    fn fall(&self) {
        self.fallen.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

struct Line {
    slot: Slot,
    number: u64,
    name: String,
    cut: Arc<Cut>,
    network: SimNetwork,
}

impl Line {
    /// Does something with the stream, where it can be used.
    fn with_stream<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut turmoil::net::TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.network.power.is_off() {
            return Poll::Pending;
        }
        *self.cut.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.cut.fallen.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match self.slot.lock().unwrap().as_mut() {
            Some(stream) => act(Pin::new(stream), cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        let before = buffer.filled().len();
        let read = line.with_stream(cx, |stream, cx| stream.poll_read(cx, buffer));
        match &read {
            Poll::Ready(Ok(())) => {
                line.network
                    .trace
                    .octets(&format!("line {} {} says", line.number, line.name), &buffer.filled()[before..]);
            }
            Poll::Ready(Err(error)) => line.network.trace.note(format!("line {} {}: {error}", line.number, line.name)),
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        let written = line.with_stream(cx, |stream, cx| stream.poll_write(cx, octets));
        if let Poll::Ready(Ok(count)) = &written {
            line.network.trace.octets(&format!("line {} {} hears", line.number, line.name), &octets[..*count]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        line.network.trace.note(format!("line {} {} is shut", line.number, line.name));
        line.with_stream(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A machine without power says no farewell.
        if !self.network.power.is_off() && !self.network.ending.load(Ordering::Relaxed) {
            self.slot.lock().unwrap().take();
            self.network.trace.note(format!("line {} {} is gone", self.number, self.name));
        }
    }
}
