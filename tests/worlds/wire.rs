//! SMTP as the peers speak it: lines, dot-stuffed data, replies; over turmoil's connections.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use turmoil::net::TcpStream;

/// One connection of a peer.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How long octets are waited for.
    patience: Duration,
    /// For a client: the other side has announced 8BITMIME.
    pub takes_eight_bit: bool,
    /// For a client: the other side has announced CHUNKING.
    pub takes_chunks: bool,
    /// For a client: it has said the envelope of its next message.
    pub is_ahead: bool,
}

impl Wire {
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, buffer: Vec::new(), patience, takes_eight_bit: false, takes_chunks: false, is_ahead: false }
    }

    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        timeout(self.patience, self.stream.write_all(octets)).await?
    }

    /// The next line without its end.
    pub async fn line(&mut self) -> io::Result<String> {
        let end = self.find(b"\r\n").await?;
        let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 2);
        Ok(line)
    }

    /// What stands before the line with the single dot, without dot-stuffing.
    pub async fn data(&mut self) -> io::Result<Vec<u8>> {
        // As if a line end had come before (RFC 5321, section 4.5.2): a message may be empty or start with a dot.
        self.buffer.splice(..0, *b"\r\n");
        let end = self.find(b"\r\n.\r\n").await?;
        let stuffed: Vec<u8> = self.buffer.drain(..end + 5).collect();
        let mut octets = Vec::with_capacity(stuffed.len());
        let mut rest = &stuffed[..end + 2];
        while let Some(at) = memchr::memmem::find(rest, b"\r\n.") {
            octets.extend_from_slice(&rest[..at + 2]);
            rest = &rest[at + 3..];
        }
        octets.extend_from_slice(rest);
        octets.drain(..2);
        Ok(octets)
    }

    /// So many octets.
    pub async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// A whole reply, its lines joined by `\n`.
    pub async fn reply(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            text.push_str(&line);
            if is_last {
                return Ok(text);
            }
            text.push('\n');
        }
    }

    async fn find(&mut self, what: &[u8]) -> io::Result<usize> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer[searched..], what) {
                return Ok(searched + at);
            }
            searched = self.buffer.len().saturating_sub(what.len() - 1);
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match timeout(self.patience, self.stream.read_buf(&mut self.buffer)).await?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A message in chunks of that many octets (RFC 3030, section 2), the last one marked, each with its command.
pub fn chunks(octets: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = octets.len().div_ceil(size).max(1);
    let chunk = |number: usize| {
        let chunk = &octets[number * size..octets.len().min((number + 1) * size)];
        let last = if number + 1 == count { " LAST" } else { "" };
        [format!("BDAT {}{last}\r\n", chunk.len()).as_bytes(), chunk].concat()
    };
    (0..count).map(chunk).collect()
}

/// A message as DATA wants it, with the final dot.
pub fn stuffed(octets: &[u8]) -> Vec<u8> {
    super::common::stuff(octets)
}
