//! An HAProxy of our own: its configuration in one directory, ended by its process id.

use super::program::{Program, pause};
use super::{PATIENCE, free_port, gave_up, own_loopback_address};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An HAProxy at work; it ends when this is dropped.
pub struct HaProxy {
    _program: Program,
    /// Where it takes connections.
    pub address: SocketAddr,
}

impl HaProxy {
    /// Passes every connection on to `server`; `options` are those of the server's line, such as `send-proxy-v2`.
    pub fn start(home: &Path, server: SocketAddr, options: &str) -> Self {
        Self::listen(home, free_port(own_loopback_address()), "", server, options)
    }

    /// The same at an address of the caller's choice, encrypted from the first octet; `pem` is the certificate and its key.
    pub fn start_encrypted(home: &Path, address: SocketAddr, pem: &str, server: SocketAddr) -> Self {
        let file = home.join("haproxy.pem");
        std::fs::write(&file, pem).expect("a writable directory");
        Self::listen(home, address, &format!("ssl crt {}", file.display()), server, "")
    }

    fn listen(home: &Path, address: SocketAddr, bind: &str, server: SocketAddr, options: &str) -> Self {
        let file = home.join("haproxy.cfg");
        let config = format!(
            "global\n    maxconn 200\n\ndefaults\n    mode tcp\n    timeout connect 10s\n    timeout client 6m\n    \
             timeout server 6m\n\nlisten smtp\n    bind {address} {bind}\n    server relay {server} {options}\n"
        );
        std::fs::write(&file, config).expect("a writable directory");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null());
        let haproxy = Self { _program: Program::start(&mut command), address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if Instant::now() > deadline {
                gave_up("HAProxy to listen", &address);
            }
            pause();
        }
        haproxy
    }
}
