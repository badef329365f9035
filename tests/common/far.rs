//! A link that takes its time: passes connections on, each octet so much later than it came, in both directions. Nothing is
//! slower for it than the link: there is no bound on what is under way but what both ends' windows allow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What is read at once.
const BLOCK: usize = 64 * 1024;
/// Connections that one link carries in its life.
const MOST: usize = 10_000;

/// One end of the link; the other one is the server. It ends with the process.
#[derive(Debug, Clone, Copy)]
pub struct FarLink {
    address: SocketAddr,
}

impl FarLink {
    /// A link to `server` with that much time for one direction.
    pub fn to(server: SocketAddr, one_way: Duration) -> Self {
        let listener = TcpListener::bind((super::own_loopback_address(), 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for near in listener.incoming().take(MOST) {
                let Ok(near) = near else { return };
                // A server that is not there is a connection that ends at once.
                let Ok(far) = TcpStream::connect(server) else { continue };
                for stream in [&near, &far] {
                    let _ = stream.set_nodelay(true);
                }
                let twice = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                carry(twice(&near), twice(&far), one_way);
                carry(far, near, one_way);
            }
        });
        Self { address }
    }

    pub fn address(self) -> SocketAddr {
        self.address
    }
}

fn carry(from: TcpStream, to: TcpStream, one_way: Duration) {
    let (sender, receiver) = channel();
    std::thread::spawn(move || read(from, &sender, one_way));
    std::thread::spawn(move || write(to, &receiver));
}

fn read(mut from: TcpStream, sender: &Sender<(Instant, Vec<u8>)>, one_way: Duration) {
    let mut block = vec![0; BLOCK];
    while let Ok(count @ 1..) = from.read(&mut block) {
        if sender.send((Instant::now() + one_way, block[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn write(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, octets)) = receiver.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&octets).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
