//! The daemon's control socket: a Unix socket in the spool's directory, for whoever may read the spool anyway.
//!
//! It is made under another name, given its rights (mode 0600), and then put in the place of one that an earlier daemon left:
//! at no moment can anybody else connect. It stays behind when the daemon ends; a socket at which nobody listens refuses, which
//! is what a command learns from. The lock of the spool sees to it that there is one daemon.

use super::Stream;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the spool's directory.
pub const CONTROL: &str = "control.sock";
/// Its name until it has its rights.
const UNFINISHED: &str = "control.sock.new";

/// The control socket of this process.
#[derive(Debug)]
pub struct ControlSocket(UnixListener);

impl ControlSocket {
    /// Listens in `directory`, which is this daemon's. Within a runtime; a path too long for a socket (107 octets) is refused.
    pub fn listen(directory: &Path) -> io::Result<Self> {
        let unfinished = directory.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
        fs::rename(&unfinished, directory.join(CONTROL))?;
        Ok(Self(socket))
    }

    /// The next connection. May be dropped before its end; no connection is lost then.
    pub async fn accept(&self) -> io::Result<Stream> {
        let (stream, _) = self.0.accept().await?;
        Ok(Stream::Other(Box::new(stream)))
    }
}

/// Connects to the daemon whose spool is in `directory`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused`: no daemon has been there, or it has ended.
pub async fn connect_control(directory: &Path) -> io::Result<Stream> {
    Ok(Stream::Other(Box::new(UnixStream::connect(directory.join(CONTROL)).await?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_takes_the_place_of_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(connect_control(directory.path()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        for _ in 0..2 {
            let socket = ControlSocket::listen(directory.path()).unwrap();
            let mode = fs::metadata(directory.path().join(CONTROL)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            let mut client = connect_control(directory.path()).await.unwrap();
            let mut server = socket.accept().await.unwrap();
            client.write_all(b"asked").await.unwrap();
            client.shutdown().await.unwrap();
            let mut said = String::new();
            server.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "asked");
            drop(socket);
            assert_eq!(connect_control(directory.path()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
