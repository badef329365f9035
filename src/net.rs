//! The one place where sockets are made: connections out, listeners in, addresses of names, and the service manager's.
//!
//! Everything below the top floor is handed a [`Network`], so that a whole relay can run in one process over a simulated
//! one. A [`Stream`] of the machine's own network is a plain TCP socket without a detour; only another network's streams are
//! behind a pointer.

mod client_tls;
mod control;
mod dane;
mod judged;
mod manager;
mod passed;
mod transport;

pub use client_tls::{Fingerprint, Trust, server_name};
pub use control::{CONTROL, ControlSocket, connect_control};
pub use dane::{Dane, Tlsa};
pub use manager::Manager;
pub use passed::{Passed, PassedError};
pub use transport::{Agreed, Transport};

use crate::config::Source;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A network that is handed around.
pub type SharedNetwork = Arc<dyn Network>;

/// A network.
pub trait Network: Send + Sync + 'static {
    /// Where `host` (a name or an IP address) is found; fails, or gives none, when it isn't.
    fn resolve(&self, host: &str, port: u16) -> Later<'static, Vec<SocketAddr>>;

    /// Connects. Who calls sets the time limit.
    fn connect(&self, address: SocketAddr) -> Later<'static, Stream>;

    /// The same from this address of the machine, of the server's family. A network in which nobody can choose where he comes
    /// from connects all the same.
    fn connect_from(&self, _source: IpAddr, address: SocketAddr) -> Later<'static, Stream> {
        self.connect(address)
    }

    /// Takes an address to listen on; with port 0 any free one.
    fn listen(&self, address: SocketAddr) -> Later<'static, Box<dyn Listen>>;
}

/// A socket that listens; dropped, it listens no more.
pub trait Listen: Send + Sync {
    /// Where: with the port the system chose, when it was asked for any.
    fn address(&self) -> SocketAddr;

    /// The next connection, and whose it is. May be dropped before its end; no connection is lost then.
    fn accept(&self) -> Later<'_, (Stream, SocketAddr)>;
}

/// What a connection of another network must be able to do.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection.
pub enum Stream {
    /// A TCP socket of this machine. Small writes leave at once.
    Tcp(TcpStream),
    /// A connection of another network.
    Other(Box<dyn Duplex>),
}

impl Stream {
    fn tcp(stream: TcpStream) -> Self {
        // Replies and commands are written whole; waiting for more to send along would only delay them. Where the option
        // can't be set the connection is slower, nothing else.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }

    /// This side's address, where the network tells.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(stream) => stream.fmt(f),
            Self::Other(_) => f.write_str("Stream::Other"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Other(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Other(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Other(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }
}

/// Connects to `address` from where `source` says, or from where the system chooses.
pub fn connect_by(network: &dyn Network, source: &Source, address: SocketAddr) -> Later<'static, Stream> {
    match source.towards(address.ip()) {
        Some(source) => network.connect_from(source, address),
        None => network.connect(address),
    }
}

/// The machine's own network, with the names that its system library knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

/// The machine's own network, to be handed around.
pub fn system() -> SharedNetwork {
    Arc::new(SystemNetwork)
}

impl Network for SystemNetwork {
    fn resolve(&self, host: &str, port: u16) -> Later<'static, Vec<SocketAddr>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) })
    }

    fn connect(&self, address: SocketAddr) -> Later<'static, Stream> {
        Box::pin(async move { TcpStream::connect(address).await.map(Stream::tcp) })
    }

    fn connect_from(&self, source: IpAddr, address: SocketAddr) -> Later<'static, Stream> {
        Box::pin(async move {
            let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            let unbound = |error: io::Error| io::Error::new(error.kind(), format!("from {source}: {error}"));
            socket.bind(SocketAddr::new(source, 0)).map_err(unbound)?;
            socket.connect(address).await.map(Stream::tcp)
        })
    }

    fn listen(&self, address: SocketAddr) -> Later<'static, Box<dyn Listen>> {
        Box::pin(async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A restart must not wait for connections of the former process to time out.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let socket = socket.listen(BACKLOG)?;
            Ok(Box::new(SystemListener { address: socket.local_addr()?, socket }) as Box<dyn Listen>)
        })
    }
}

/// A socket of this machine that listens.
#[derive(Debug)]
struct SystemListener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listen for SystemListener {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> Later<'_, (Stream, SocketAddr)> {
        Box::pin(async move { self.socket.accept().await.map(|(stream, peer)| (Stream::tcp(stream), peer)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_connection_reaches_the_listener_that_was_given_any_port() {
        let network = system();
        let listener = network.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(listener.address().port(), 0);
        let found = network.resolve("127.0.0.1", listener.address().port()).await.unwrap();
        assert_eq!(found, [listener.address()]);
        let mut client = network.connect(listener.address()).await.unwrap();
        let (mut server, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().is_loopback());
        client.write_all(b"octets").await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = Vec::new();
        server.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"octets");
    }

    #[tokio::test]
    async fn streams_of_another_network_carry_octets_both_ways() {
        let (one, two) = tokio::io::duplex(64);
        let (mut one, mut two) = (Stream::Other(Box::new(one)), Stream::Other(Box::new(two)));
        one.write_all(b"there").await.unwrap();
        two.write_all(b"back").await.unwrap();
        drop((one.flush().await, two.flush().await));
        let (mut there, mut back) = ([0; 5], [0; 4]);
        two.read_exact(&mut there).await.unwrap();
        one.read_exact(&mut back).await.unwrap();
        assert_eq!((&there, &back), (b"there", b"back"));
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_source_of_its_family_and_from_no_address_of_others() {
        let network = system();
        let listener = network.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let from = |v4: [u8; 4]| Source { v4: Some(v4.into()), v6: Some([0, 0, 0, 0, 0, 0, 0, 1].into()) };
        let _client = connect_by(&*network, &from([127, 0, 0, 2]), listener.address()).await.unwrap();
        let (_server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 2]));
        // TEST-NET-1 (RFC 5737) is nobody's.
        let refused = connect_by(&*network, &from([192, 0, 2, 1]), listener.address()).await.unwrap_err();
        assert!(refused.to_string().starts_with("from 192.0.2.1: "), "{refused}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_refused() {
        let network = system();
        let taken = network.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let refused = network.listen(taken.address()).await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
