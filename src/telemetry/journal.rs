//! systemd's journal, where it reads what the daemon says.
//!
//! Where stderr is connected to the journal (`JOURNAL_STREAM`, systemd.exec(5)) each line begins with its priority, `<6>`
//! (sd-daemon(3)), so that `journalctl -p warning` finds what it should. With `log.format = "journald"` an event goes to the
//! journal's own socket as one datagram with a field for each field of the event (systemd.io/JOURNAL_NATIVE_PROTOCOL); what can't
//! be sent there goes to stderr as JSON. Both have been redacted and bounded before: a datagram has room for every line.

use super::value::{Line, Value};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use tracing::Level;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// What stands before the name of an event's own field.
const PREFIX: &str = "JOURNAL_RELAY_";
/// Octets of a field's name; journald takes no longer one.
const MAX_NAME: usize = 64;

/// Whether this process's stderr goes to the journal.
pub(super) fn has_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr();
    let Ok(found) = rustix::fs::fstat(&stderr) else { return false };
    names(&stream, found.st_dev, found.st_ino)
}

/// Whether `stream`, device and inode with a colon between them, means this file.
fn names(stream: &str, device: u64, inode: u64) -> bool {
    let numbers = stream.split_once(':').and_then(|(left, right)| Some((left.parse().ok()?, right.parse().ok()?)));
    numbers == Some((device, inode))
}

/// syslog's number for a level (RFC 5424, section 6.2.1).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The journal's socket; connected when something is to be sent, and anew when it was closed.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Journal {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    /// Sends an entry. Never waits: a journal that does not read is no reason to hold mail up.
    pub(super) fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        // journald is started anew now and then, and its socket with it.
        if self.socket.as_ref().is_some_and(|socket| socket.send(entry).is_ok()) {
            return Ok(());
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        socket.send(entry)?;
        self.socket = Some(socket);
        Ok(())
    }
}

/// The entry's octets; `shown` is what `journalctl` shows.
pub(super) fn entry(line: &Line, shown: &str) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "MESSAGE", shown);
    put(&mut entry, "PRIORITY", &priority(line.level).to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", "journal-relay");
    put(&mut entry, &name("event"), &line.event);
    put(&mut entry, &name("text"), &line.message);
    for (field, value) in &line.fields {
        match value {
            // A name may stand several times.
            Value::List(items) => items.iter().for_each(|item| put(&mut entry, &name(field), item)),
            other => put(&mut entry, &name(field), &other.to_string()),
        }
    }
    entry
}

/// A name as journald takes it: capitals, digits and underscores.
fn name(field: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let name: String = PREFIX.chars().chain(field.chars().map(letter)).collect();
    name.chars().take(MAX_NAME).collect()
}

/// One field, with its length before a value that has line feeds. Nothing that somebody sent can pass for another field.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// A line with its priority before it.
pub(super) fn prefixed(level: Level, octets: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(octets.len() + 3);
    let _ = write!(line, "<{}>", priority(level));
    line.extend_from_slice(octets);
    line
}

#[cfg(test)]
mod tests;
