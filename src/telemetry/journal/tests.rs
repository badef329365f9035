//! What journald reads: priorities, and the native protocol, at a socket of the test's own.

use super::super::{HashKey, Telemetry};
use super::*;
use crate::config::{Log, LogAddresses, LogFormat};
use std::sync::{Arc, Mutex};
use tracing::{error, info, warn};

const LOG: Log = Log { format: LogFormat::Journald, level: Level::INFO, addresses: LogAddresses::Full };

#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What stderr gets of `events`, with a journal at `socket`.
fn written(log: Log, socket: &Path, reads_stderr: bool, events: impl FnOnce()) -> String {
    let sink = Sink::default();
    let key = HashKey::from_bytes([1; 32]);
    let telemetry = Telemetry::beside(
        Box::new(sink.clone()),
        &log,
        &key,
        crate::clock::system(),
        (Journal::at(socket), reads_stderr),
    );
    tracing::subscriber::with_default(telemetry.subscriber(), events);
    String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
}

/// The fields of an entry, read as journald reads them.
fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|octet| b"=\n".contains(octet)).unwrap();
        let name = String::from_utf8(entry[..end].to_vec()).unwrap();
        let binary = entry[end] == b'\n';
        entry = &entry[end + 1..];
        let length = if binary {
            let (length, rest) = entry.split_first_chunk::<8>().unwrap();
            entry = rest;
            usize::try_from(u64::from_le_bytes(*length)).unwrap()
        } else {
            entry.iter().position(|octet| *octet == b'\n').unwrap()
        };
        fields.push((name, String::from_utf8(entry[..length].to_vec()).unwrap()));
        assert_eq!(entry[length], b'\n');
        entry = &entry[length + 1..];
    }
    fields
}

#[test]
fn an_event_is_one_datagram_with_its_fields_and_nothing_on_stderr() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let stderr = written(LOG, &path, true, || {
        warn!(
            event = "record.deferred", reply = %"451 later\nPRIORITY=0", attempt = 2,
            recipients = ?vec!["a@example.org", "b@example.org"], "the archive said not now"
        );
    });
    assert_eq!(stderr, "");
    let mut room = [0; 4096];
    let length = journald.recv(&mut room).unwrap();
    let read = fields(&room[..length]);
    let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        read,
        [
            (
                "MESSAGE",
                "record.deferred reply=\"451 later\\nPRIORITY=0\" attempt=2 recipients=a@example.org,b@example.org \
                 message=\"the archive said not now\""
            ),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "journal-relay"),
            ("JOURNAL_RELAY_EVENT", "record.deferred"),
            ("JOURNAL_RELAY_TEXT", "the archive said not now"),
            ("JOURNAL_RELAY_REPLY", "451 later\nPRIORITY=0"),
            ("JOURNAL_RELAY_ATTEMPT", "2"),
            ("JOURNAL_RELAY_RECIPIENTS", "a@example.org"),
            ("JOURNAL_RELAY_RECIPIENTS", "b@example.org"),
        ]
    );
}

#[test]
fn addresses_are_redacted_in_each_form() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let speak = || info!(event = "x", sender = %"alice@example.org", reply = %"550 <alice@example.org> unknown");
    let none = Log { addresses: LogAddresses::None, ..LOG };
    assert_eq!(written(none, &path, true, speak), "");
    let mut room = [0; 4096];
    let length = journald.recv(&mut room).unwrap();
    let text = String::from_utf8_lossy(&room[..length]).into_owned();
    assert!(!text.contains("alice") && text.contains("JOURNAL_RELAY_SENDER=*\n"), "{text}");
    let stderr = written(Log { format: LogFormat::Json, ..none }, &path, true, speak);
    assert!(stderr.starts_with("<6>{") && !stderr.contains("alice"), "{stderr}");
}

#[test]
fn a_line_has_its_priority_where_the_journal_reads_it_and_only_there() {
    let speak = || {
        error!(event = "bad");
        warn!(event = "odd");
        info!(event = "plain");
    };
    let nowhere = Path::new("/nonexistent/socket");
    for format in [LogFormat::Json, LogFormat::Text] {
        let read = written(Log { format, ..LOG }, nowhere, true, speak);
        let starts: Vec<_> = read.lines().map(|line| line.get(..3).unwrap()).collect();
        assert_eq!(starts, ["<3>", "<4>", "<6>"], "{read}");
        assert!(!written(Log { format, ..LOG }, nowhere, false, speak).contains("<3>"));
    }
}

#[test]
fn without_a_journal_the_line_is_json_on_stderr_and_a_new_journal_is_found() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let stderr = written(LOG, &path, false, || info!(event = "alone"));
    assert!(stderr.starts_with('{') && stderr.contains("\"event\":\"alone\""), "{stderr}");
    let mut journal = Journal::at(&path);
    for _ in 0..2 {
        let journald = UnixDatagram::bind(&path).unwrap();
        journal.send(b"MESSAGE=x\n").unwrap();
        let mut room = [0; 16];
        assert_eq!(journald.recv(&mut room).unwrap(), 10);
        drop(journald);
        std::fs::remove_file(&path).unwrap();
        assert!(journal.send(b"MESSAGE=y\n").is_err());
    }
}

#[test]
fn the_longest_line_fits_into_a_datagram() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let stderr = written(LOG, &path, true, || {
        let recipients: Vec<_> = (0..50_000).map(|number| format!("user{number:05}@example.org")).collect();
        info!(event = "x", recipients = ?recipients, reply = "\n".repeat(100_000), "done");
    });
    assert_eq!(stderr, "");
    let mut room = vec![0; 1 << 20];
    assert!(journald.recv(&mut room).unwrap() > 32 * 1024);
}

#[test]
fn the_stream_is_known_by_device_and_inode() {
    assert!(names("8:1234", 8, 1234));
    for other in ["8:1235", "9:1234", "", "8", "8:", ":1234", "8:1234:1", "x:y"] {
        assert!(!names(other, 8, 1234), "{other:?}");
    }
}
