//! Octets over a TCP connection, read line by line or up to the end of data (RFC 5321, sections 2.3.8 and 4.1.1.4).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

/// The longest line that is taken for a command or reply.
const LONGEST_LINE: usize = 1 << 20;

/// What carries the octets.
enum Channel {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection with what has been read but not used yet.
pub(super) struct Wire {
    stream: Option<Channel>,
    buffer: Vec<u8>,
    used: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: Some(Channel::Plain(stream)), buffer: Vec::with_capacity(64 * 1024), used: 0 })
    }

    /// A client's handshake; gives the certificate that was shown. What came in plain text before it stays to be read.
    pub(super) fn encrypt(&mut self, config: Arc<ClientConfig>, name: &str) -> io::Result<Vec<u8>> {
        let Some(Channel::Plain(mut stream)) = self.stream.take() else {
            return Err(io::Error::other("no plain text"));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let shown = session.peer_certificates().and_then(<[_]>::first).map(|shown| shown.to_vec());
        self.stream = Some(Channel::Tls(Box::new(StreamOwned::new(session, stream))));
        Ok(shown.unwrap_or_default())
    }

    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self.stream.as_mut() {
            Some(Channel::Plain(stream)) => stream.write_all(octets),
            Some(Channel::Tls(stream)) => stream.write_all(octets).and_then(|()| stream.flush()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        match self.stream.as_ref().expect("the handshake did not fail") {
            Channel::Plain(stream) => stream,
            Channel::Tls(stream) => stream.get_ref(),
        }
    }

    fn read(&mut self, from: usize) -> io::Result<usize> {
        match self.stream.as_mut() {
            Some(Channel::Plain(stream)) => stream.read(&mut self.buffer[from..]),
            Some(Channel::Tls(stream)) => stream.read(&mut self.buffer[from..]),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether more has been read than used: the other side did not wait for our answer.
    pub(super) fn has_more(&self) -> bool {
        self.buffer.len() > self.used
    }

    /// The next line without its line end; `None` when the connection ended.
    pub(super) fn line(&mut self) -> io::Result<Option<String>> {
        let mut searched = self.used;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let end = searched + at;
                let line = String::from_utf8_lossy(&self.buffer[self.used..end]).trim_end_matches('\r').to_owned();
                self.used = end + 1;
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched - self.used > LONGEST_LINE {
                return Err(io::Error::other("a line without end"));
            }
            let before = self.used;
            if !self.fill()? {
                return Ok(None);
            }
            searched -= before - self.used;
        }
    }

    /// Exactly `length` octets (BDAT); `None` when the connection ended before.
    pub(super) fn exactly(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        while self.buffer.len() - self.used < length {
            if !self.fill()? {
                return Ok(None);
            }
        }
        let octets = self.buffer[self.used..self.used + length].to_vec();
        self.used += length;
        Ok(Some(octets))
    }

    /// What stands before the line that holds a single dot, still dot-stuffed; `None` when the connection ended before.
    pub(super) fn stuffed_data(&mut self) -> io::Result<Option<Vec<u8>>> {
        const END: &[u8] = b"\r\n.\r\n";
        let finder = memchr::memmem::Finder::new(END);
        let mut searched = self.used;
        loop {
            if self.buffer[self.used..].starts_with(&END[2..]) {
                self.used += END.len() - 2;
                return Ok(Some(Vec::new()));
            }
            if let Some(at) = finder.find(&self.buffer[searched..]) {
                let end = searched + at + 2;
                let octets = self.buffer[self.used..end].to_vec();
                self.used = end + END.len() - 2;
                return Ok(Some(octets));
            }
            searched = self.buffer.len().saturating_sub(END.len() - 1).max(self.used);
            let before = self.used;
            if !self.fill()? {
                return Ok(None);
            }
            searched -= before - self.used;
        }
    }

    /// Everything until the other side closes.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        while matches!(self.fill(), Ok(true)) {}
        self.buffer.split_off(self.used)
    }

    /// Reads more; `false` at the end of the connection. What has been used is thrown away first.
    fn fill(&mut self) -> io::Result<bool> {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        } else if self.used > 256 * 1024 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let filled = self.buffer.len();
        let step = filled.clamp(16 * 1024, 1 << 20);
        self.buffer.resize(filled + step, 0);
        let read = loop {
            match self.read(filled) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }
}

/// Takes the dots away that keep data transparent (RFC 5321, section 4.5.2). Only CRLF ends a line here.
pub(super) fn unstuff(stuffed: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(stuffed.len());
    let mut rest = stuffed.strip_prefix(b".").unwrap_or(stuffed);
    while let Some(at) = memchr::memmem::find(rest, b"\r\n.") {
        octets.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    octets.extend_from_slice(rest);
    octets
}
