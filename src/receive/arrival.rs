//! A connection before its session: who the client is, and whether it is let in.
//!
//! A load balancer of `proxy_protocol_from` says first, before TLS and before the greeting, whose connection it passes on
//! (`smtp::proxy`). From there on that client is meant by everything: its limits, its trust, `Received:`, the log. Nobody
//! else is asked for a header; what a client says of itself makes it nobody else.

use super::crowd::Crowd;
use super::driver;
use super::is_trusted;
use super::listener::{Parts, Setup, refuse};
use super::peer::Peer;
use super::policy::is_load_balancer;
use crate::mail::{Reply, SessionId};
use crate::net::Stream;
use crate::smtp::proxy::{HeaderError, HeaderReader, Origin};
use crate::watch;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// For a header; its senders have it ready when they connect.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets read at once.
const READ: usize = 512;

/// Serves a connection that was just accepted, until it ends.
pub(super) async fn enter(
    mut stream: Stream,
    mut peer: Peer,
    id: SessionId,
    crowd: &Crowd,
    setup: watch::Receiver<Arc<Setup>>,
    parts: Arc<Parts>,
) {
    let current = Arc::clone(&setup.borrow());
    if is_load_balancer(&current.listener, peer.address.ip()) {
        let Some(awaited) = crowd.headers.begin(peer.address.ip()) else {
            let reply = Reply::new(421, "4.3.2 too many connections, try again later");
            return refuse(stream, peer.address, reply, "too many connections without a PROXY header").await;
        };
        let origin = tokio::select! {
            biased;
            () = parts.drain.begun() => return,
            origin = origin_of(&mut stream) => origin,
        };
        drop(awaited);
        match origin {
            Ok(origin) => peer.is_passed_on(origin),
            Err(why) => return tell(&peer, id, &current.listener.name, &why),
        }
    }
    // A load balancer's own connections are no client's.
    let uncounted = is_trusted(&current.listener, peer.address.ip()) || peer.is_load_balancer();
    let place = crowd.admit(peer.address.ip(), uncounted, &current.listener.limits);
    drop(current);
    match place {
        Ok(place) => driver::serve(stream, peer, id, setup, parts, place).await,
        Err((reply, why)) => refuse(stream, peer.address, reply, why).await,
    }
}

/// Why a load balancer's connection is of no use.
#[derive(Debug, thiserror::Error)]
enum NoHeader {
    #[error("the connection ended before its PROXY header")]
    Closed {
        /// Something had been said.
        midway: bool,
    },
    #[error("no PROXY header within {} s", HEADER_TIMEOUT.as_secs())]
    TooLate,
    #[error("{0}")]
    Broken(io::Error),
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Whose connection it is, as the header says that it must begin with.
async fn origin_of(stream: &mut Stream) -> Result<Origin, NoHeader> {
    timeout(HEADER_TIMEOUT, read_header(stream)).await.unwrap_or(Err(NoHeader::TooLate))
}

/// Reads the header and nothing behind it: what follows may be a handshake's.
async fn read_header(stream: &mut Stream) -> Result<Origin, NoHeader> {
    let (mut reader, mut room, mut midway) = (HeaderReader::default(), [0; READ], false);
    loop {
        let wanted = reader.wanted().min(READ);
        let octets = stream.read(room.get_mut(..wanted).unwrap_or_default()).await.map_err(NoHeader::Broken)?;
        if octets == 0 {
            return Err(NoHeader::Closed { midway });
        }
        midway = true;
        let (_, origin) = reader.feed(room.get(..octets).unwrap_or_default())?;
        if let Some(origin) = origin {
            return Ok(origin);
        }
    }
}

fn tell(peer: &Peer, session: SessionId, listener: &str, why: &NoHeader) {
    let (proxy, reason) = (peer.address, "proxy_header");
    if matches!(why, NoHeader::Closed { midway: false }) {
        // As load balancers do every few seconds to see whether somebody listens.
        tracing::debug!(event = "session.closed", %session, listener, %proxy, reason, error = %why, "a load balancer looked in");
    } else {
        tracing::warn!(event = "session.closed", %session, listener, %proxy, reason, error = %why, "a load balancer of proxy_protocol_from did not say whose connection it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    fn pair() -> (DuplexStream, Stream) {
        let (balancer, relay) = duplex(1024);
        (balancer, Stream::Other(Box::new(relay)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_may_come_late_but_not_too_late_however_it_trickles() {
        let (mut balancer, mut stream) = pair();
        let late = async {
            sleep(HEADER_TIMEOUT - Duration::from_secs(1)).await;
            balancer.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
        };
        let (origin, ()) = tokio::join!(origin_of(&mut stream), late);
        assert_eq!(origin.unwrap(), Origin::Own);

        let (mut balancer, mut stream) = pair();
        let begin = Instant::now();
        let trickle = async {
            for octet in b"PROXY TCP4 192.0.2.7" {
                balancer.write_all(&[*octet]).await.unwrap();
                sleep(Duration::from_secs(2)).await;
            }
        };
        tokio::select! {
            biased;
            origin = origin_of(&mut stream) => assert!(matches!(origin, Err(NoHeader::TooLate)), "{origin:?}"),
            () = trickle => panic!("still waiting"),
        }
        assert_eq!(begin.elapsed(), HEADER_TIMEOUT);
    }

    #[tokio::test]
    async fn what_follows_the_header_stays_to_be_read() {
        for header in [&b"PROXY TCP4 192.0.2.7 198.51.100.1 5 25\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x03abc"] {
            let (mut balancer, mut stream) = pair();
            balancer.write_all(&[header, b"\x16\x03\x01"].concat()).await.unwrap();
            origin_of(&mut stream).await.unwrap();
            let mut rest = [0; 3];
            stream.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"\x16\x03\x01");
        }
    }

    #[tokio::test]
    async fn an_end_is_told_from_another_protocol() {
        let (balancer, mut stream) = pair();
        drop(balancer);
        assert!(matches!(origin_of(&mut stream).await, Err(NoHeader::Closed { midway: false })));
        let (mut balancer, mut stream) = pair();
        balancer.write_all(b"EHLO x\r\n").await.unwrap();
        assert!(matches!(origin_of(&mut stream).await, Err(NoHeader::Header(HeaderError::Missing))));
    }
}
