//! One listening socket: accepts connections, bounds their number, and starts a session for each.
//!
//! A session takes the [`Setup`] of its listener anew at every transaction, so that a reload applies to the next message
//! and not to one under way. When the daemon drains, the socket is closed first.

use super::arrival;
use super::crowd::Crowd;
use super::files::Files;
use super::gaps::Gaps;
use super::peer::Peer;
use super::places::Places;
use super::tls::TlsServer;
use crate::clock::SharedClock;
use crate::config::{Config, Listener};
use crate::drain::Drain;
use crate::forward::NextHop;
use crate::journal::MacKey;
use crate::mail::{Entropy, Reply, SessionId};
use crate::net::{Listen, SharedNetwork, Stream};
use crate::spool::{Pressure, Spool};
use crate::watch;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Rest after a failed accept (no file descriptor left, say), so that the loop can't spin.
const REST: Duration = Duration::from_millis(100);

/// What a session works with for one transaction: one generation of the configuration.
#[derive(Clone)]
pub struct Setup {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// This listener's part of it.
    pub listener: Listener,
    /// Where its mail goes on to.
    pub next_hop: Arc<NextHop>,
    /// How it encrypts.
    pub tls: Option<TlsServer>,
}

/// What all sessions of a daemon share.
#[derive(Clone)]
pub struct Parts {
    /// Where messages and records are kept.
    pub spool: Arc<dyn Spool>,
    /// Whether there is room for more.
    pub pressure: Pressure,
    /// What was relayed without a record.
    pub gaps: Gaps,
    /// The time.
    pub clock: SharedClock,
    /// Chance, for ids.
    pub entropy: Arc<dyn Entropy>,
    /// What our own records and reports are known by.
    pub mac_key: MacKey,
    /// Places for bounces of records under way.
    pub bounces: Places,
    /// What sessions may open.
    pub files: Files,
    /// The end.
    pub drain: Drain,
}

/// A socket that listens.
pub struct Listening {
    socket: Box<dyn Listen>,
    /// Where: with the port the system chose, when the configuration says 0.
    pub address: SocketAddr,
}

/// What the task of a listener is called while it accepts.
pub fn listener_label(address: SocketAddr) -> String {
    format!("listener on {address}")
}

/// Binds a listener's socket.
///
/// # Errors
/// The network's, when the address is in use, needs a privilege, or isn't one of this machine.
pub async fn listen(network: &SharedNetwork, address: SocketAddr) -> io::Result<Listening> {
    let socket = network.listen(address).await?;
    Ok(Listening { address: socket.address(), socket })
}

impl Listening {
    /// Accepts until the daemon drains, or until nobody holds the sender of `end` any more.
    pub async fn serve(self, setup: watch::Receiver<Arc<Setup>>, mut end: watch::Receiver<()>, parts: Parts) {
        let (crowd, parts) = (Crowd::default(), Arc::new(parts));
        loop {
            let accepted = tokio::select! {
                biased;
                () = parts.drain.begun() => return,
                _ = end.changed() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &crowd, &setup, &parts),
                Err(error) => {
                    tracing::warn!(event = "listener.failed", address = %self.address, %error, "can't accept a connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn admit(
        &self,
        stream: Stream,
        peer: SocketAddr,
        crowd: &Crowd,
        setup: &watch::Receiver<Arc<Setup>>,
        parts: &Arc<Parts>,
    ) {
        let id = SessionId::new(parts.clock.now(), parts.entropy.as_ref());
        let file = match parts.files.session() {
            Ok(file) => file,
            Err(reply) => {
                parts
                    .drain
                    .spawn("refusal of a session", refuse(stream, peer, reply, "too few open files are allowed"));
                return;
            }
        };
        let peer = Peer::new(peer, stream.local_address().unwrap_or(self.address));
        let (crowd, setup, shared) = (crowd.clone(), setup.clone(), Arc::clone(parts));
        parts.drain.spawn(format!("session {id} of {}", peer.address), async move {
            arrival::enter(stream, peer, id, &crowd, setup, shared).await;
            drop(file);
        });
    }
}

/// The last and only word to a client that is not let in.
pub(super) async fn refuse(mut stream: Stream, peer: SocketAddr, reply: Reply, reason: &'static str) {
    tracing::warn!(event = "session.closed", client = %peer, reason, "refused a connection");
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    let _ = tokio::time::timeout(REST, stream.write_all(&wire)).await;
}
