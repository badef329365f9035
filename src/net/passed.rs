//! Sockets that were bound before this process began, and passed to it: socket activation (`sd_listen_fds(3)`).
//!
//! Promises: a socket is used by the listener it is named after, or else by the one whose address it has; both have to say the
//! same address, since what the configuration says is what loops and open relays are looked for by. A socket that nobody can
//! use is an error that says so. What is passed to another process (`LISTEN_PID`) is let alone.
//! Leaves to `listenfd` to make a socket of a number.

use super::{Later, Listen, Network, SharedNetwork, Stream, SystemListener, SystemNetwork};
use listenfd::ListenFd;
use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// Sockets that are taken.
const MOST_SOCKETS: usize = 256;

/// What is wrong with the sockets that were passed.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// The environment does not say how many there are.
    #[error("the service manager passed sockets, but LISTEN_FDS={0:?} is no number from 0 to {MOST_SOCKETS}")]
    Number(String),
    /// Not a TCP socket that listens.
    #[error("the service manager passed a socket, {socket}, that can't be used: {why}")]
    Unusable {
        /// Its name, or which of them it is.
        socket: String,
        /// What was found.
        why: String,
    },
    /// The socket's unit and the configuration say different addresses.
    #[error(
        "the service manager passed socket {name:?} on {found}, but the configuration says {wanted}: \
         ListenStream= and address have to be the same"
    )]
    Elsewhere {
        /// The socket's name, and the listener's.
        name: String,
        /// Where the socket listens.
        found: SocketAddr,
        /// Where the listener should.
        wanted: SocketAddr,
    },
    /// No listener has this name or address.
    #[error(
        "the service manager passed socket {name:?} on {found}, and no listener has that name (FileDescriptorName=) or that address"
    )]
    Unknown {
        /// The socket's name.
        name: String,
        /// Where it listens.
        found: SocketAddr,
    },
}

/// Sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct Passed {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    name: String,
    address: SocketAddr,
    socket: StdListener,
}

impl Passed {
    /// Those of the environment. Before any thread is started, and once.
    ///
    /// # Errors
    /// [`PassedError::Number`], [`PassedError::Unusable`].
    pub fn from_environment() -> Result<Self, PassedError> {
        if env::var("LISTEN_PID").ok() != Some(std::process::id().to_string()) {
            return Ok(Self::default());
        }
        let number = env::var("LISTEN_FDS").unwrap_or_default();
        if !number.parse::<usize>().is_ok_and(|number| number <= MOST_SOCKETS) {
            return Err(PassedError::Number(number));
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let unusable = |why| PassedError::Unusable { socket: format!("number {place}, named {name:?}"), why };
            let taken = passed.take_tcp_listener(place).map_err(|error| unusable(error.to_string()))?;
            let Some(socket) = taken else { continue };
            match rustix::net::sockopt::socket_acceptconn(&socket) {
                Ok(true) => {}
                Ok(false) => return Err(unusable("it does not listen (Accept=yes?)".to_owned())),
                Err(error) => return Err(unusable(error.to_string())),
            }
            let address = socket.local_addr().map_err(|error| unusable(error.to_string()))?;
            sockets.push(Socket { name, address, socket });
        }
        Ok(Self { sockets })
    }

    /// The machine's own network, where these sockets are used for the listeners that `wanted` names with their addresses.
    ///
    /// # Errors
    /// [`PassedError::Elsewhere`], [`PassedError::Unknown`]; also for a second socket of one listener.
    pub fn network_for(self, wanted: &[(String, SocketAddr)]) -> Result<SharedNetwork, PassedError> {
        let mut ready: BTreeMap<SocketAddr, StdListener> = BTreeMap::new();
        for Socket { name, address, socket } in self.sockets {
            let by_name = wanted.iter().find(|(listener, _)| *listener == name);
            let listener = by_name.or_else(|| wanted.iter().find(|(_, wanted)| *wanted == address));
            match listener {
                Some((_, wanted)) if *wanted != address => {
                    return Err(PassedError::Elsewhere { name, found: address, wanted: *wanted });
                }
                Some((listener, _)) if ready.contains_key(&address) => {
                    let why = format!("listener {listener:?} has one already");
                    return Err(PassedError::Unusable { socket: format!("{name:?} on {address}"), why });
                }
                Some((listener, _)) => {
                    tracing::info!(event = "listener.passed", listener, %address, "the service manager has bound this socket");
                    ready.insert(address, socket);
                }
                None => return Err(PassedError::Unknown { name, found: address }),
            }
        }
        Ok(Arc::new(PreparedNetwork { ready: Mutex::new(ready) }))
    }
}

/// The machine's own network, some of whose addresses are bound already.
struct PreparedNetwork {
    ready: Mutex<BTreeMap<SocketAddr, StdListener>>,
}

impl Network for PreparedNetwork {
    fn resolve(&self, host: &str, port: u16) -> Later<'static, Vec<SocketAddr>> {
        SystemNetwork.resolve(host, port)
    }

    fn connect(&self, address: SocketAddr) -> Later<'static, Stream> {
        SystemNetwork.connect(address)
    }

    fn connect_from(&self, source: IpAddr, address: SocketAddr) -> Later<'static, Stream> {
        SystemNetwork.connect_from(source, address)
    }

    fn listen(&self, address: SocketAddr) -> Later<'static, Box<dyn Listen>> {
        match self.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(&address) {
            Some(socket) => Box::pin(async move { adopt(socket) }),
            None => SystemNetwork.listen(address),
        }
    }
}

fn adopt(socket: StdListener) -> io::Result<Box<dyn Listen>> {
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from_std(socket)?;
    Ok(Box::new(SystemListener { address: socket.local_addr()?, socket }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(names: &[&str]) -> (Passed, Vec<SocketAddr>) {
        let socket = |name: &&str| {
            let socket = StdListener::bind("127.0.0.1:0").unwrap();
            Socket { name: (*name).to_owned(), address: socket.local_addr().unwrap(), socket }
        };
        let sockets: Vec<_> = names.iter().map(socket).collect();
        let addresses = sockets.iter().map(|socket| socket.address).collect();
        (Passed { sockets }, addresses)
    }

    #[tokio::test]
    async fn a_passed_socket_serves_its_name_or_its_address_and_others_are_bound() {
        let (passed, addresses) = passed(&["incoming", "journal-relay.socket"]);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let wanted =
            [("incoming".to_owned(), addresses[0]), ("second".to_owned(), addresses[1]), ("third".to_owned(), any)];
        let network = passed.network_for(&wanted).unwrap();
        for address in addresses {
            let listening = network.listen(address).await.unwrap();
            let (client, server) = tokio::join!(network.connect(address), listening.accept());
            assert_eq!((listening.address(), client.is_ok(), server.is_ok()), (address, true, true));
        }
        assert_ne!(network.listen(any).await.unwrap().address().port(), 0);
    }

    #[test]
    fn a_socket_that_fits_no_listener_is_an_error_that_says_why() {
        let elsewhere: SocketAddr = "127.0.0.1:25".parse().unwrap();
        let (one, _) = passed(&["incoming"]);
        let said = one.network_for(&[("incoming".to_owned(), elsewhere)]).err().unwrap().to_string();
        assert!(said.contains("the configuration says 127.0.0.1:25"), "{said}");
        let (one, _) = passed(&["unknown"]);
        let said = one.network_for(&[("incoming".to_owned(), elsewhere)]).err().unwrap().to_string();
        assert!(said.contains("no listener has that name"), "{said}");
    }
}
