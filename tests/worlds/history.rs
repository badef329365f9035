//! All that happened in a world, as the checker needs it. Times are milliseconds since the beginning.

use super::mail::Mail;
use super::operator::Wish;
use super::returns::Kind;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// Who there is beside the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    Clients,
    NextHop,
    One,
    Two,
    Reports,
}

impl Peer {
    pub const ALL: [Self; 5] = [Self::Clients, Self::NextHop, Self::One, Self::Two, Self::Reports];
    pub const SERVERS: [Self; 4] = [Self::NextHop, Self::One, Self::Two, Self::Reports];

    pub fn host(self) -> &'static str {
        match self {
            Self::Clients => "clients.example",
            Self::NextHop => "next-hop.example",
            Self::One => "one.example",
            Self::Two => "two.example",
            Self::Reports => "reports.example",
        }
    }

    pub fn is_archive(self) -> bool {
        matches!(self, Self::One | Self::Two)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host().trim_end_matches(".example"))
    }
}

/// How far an SMTP conversation got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// BDAT without LAST.
    Chunk,
    /// The final dot, or the last chunk.
    Dot,
    Other,
}

/// One transaction that a client tried.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub client: usize,
    pub mail: usize,
    pub began: u64,
    pub ended: u64,
    /// Every reply, with its stage.
    pub replies: Vec<(Stage, String)>,
    /// Recipients whose RCPT was answered 2yz.
    pub accepted: Vec<String>,
    /// The final dot was written.
    pub dot_sent: bool,
    /// The reply to the dot.
    pub end: Option<String>,
}

impl Attempt {
    /// The message went without a DATA.
    pub fn is_in_chunks(&self) -> bool {
        self.replies.iter().all(|(stage, _)| *stage != Stage::Data)
    }
}

/// A message whose final dot reached a server.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub at: Peer,
    pub when: u64,
    pub from: String,
    pub recipients: Vec<String>,
    /// Without dot-stuffing.
    pub octets: Arc<Vec<u8>>,
    /// The server keeps it.
    pub taken: bool,
    /// The number of its reply.
    pub number: u64,
    pub reply: String,
    /// Whether the reply was sent, once and as it should be. Whether it came through is another question.
    pub replied: bool,
    /// When the reply left.
    pub replied_at: u64,
    pub eight_bit_mime: bool,
}

/// A reply of a server.
#[derive(Debug, Clone)]
pub struct Said {
    pub at: Peer,
    pub stage: Stage,
    pub text: String,
    /// It was said once more behind itself: whoever hears it can't know what the second one answers.
    pub twice: bool,
}

/// A time in which something was wrong that excuses something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub what: Wrong,
    pub from: u64,
    pub until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The relay ended without warning; `until` is when it was back.
    Crash,
    /// The power went.
    Power,
    /// Drained and started again.
    Restart,
    /// Octets to or from the peer were lost or late.
    Line(Peer),
    /// The peer was down.
    Down(Peer),
    /// The disk failed or was full.
    Disk,
}

/// A line of the relay's log.
#[derive(Debug, Clone)]
pub struct Logged {
    pub when: u64,
    pub event: String,
    pub fields: BTreeMap<String, String>,
}

impl Logged {
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

/// An entry of the spool as `queue list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub id: String,
    pub state: String,
    pub organization: String,
    /// The key of the archive that it goes to.
    pub archive: String,
    pub shown: Shown,
}

/// What else `queue show` tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub message_id: String,
    pub recipients: Vec<String>,
    pub supplements: Option<String>,
    /// Why it was discarded.
    pub reason: String,
    pub last_reply: String,
}

/// Messages that were relayed without a record, as `queue gaps` tells of them.
#[derive(Debug, Clone)]
pub struct Gap {
    pub organization: String,
    pub messages: u64,
    pub queue_ids: Vec<String>,
}

/// A mail to the address that records come from.
#[derive(Debug, Clone)]
pub struct Returned {
    pub at: Peer,
    pub kind: Kind,
    /// The record that came back.
    pub about: String,
    /// Why, as the notification says.
    pub diagnostic: String,
    pub octets: Arc<Vec<u8>>,
    pub began: u64,
    pub ended: u64,
    /// 2yz or 5yz; none: it is not known.
    pub reply: Option<String>,
}

/// A queue command for one entry.
#[derive(Debug, Clone)]
pub struct Operated {
    pub id: String,
    pub wish: Wish,
    pub asked: u64,
    /// When it was done; none: it was refused, or nobody knows.
    pub answered: Option<u64>,
    /// Where the entry was then, or `refused`.
    pub state: String,
    /// With which it was discarded.
    pub reason: String,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub mails: Vec<Mail>,
    pub attempts: Vec<Attempt>,
    /// Jobs that clients gave up.
    pub given_up: u64,
    pub arrivals: Vec<Arrival>,
    /// By number.
    pub said: BTreeMap<u64, Said>,
    pub troubles: Vec<Trouble>,
    pub log: Vec<Logged>,
    /// What the spool had at the very end, history included.
    pub spool: Vec<Entry>,
    pub gaps: Vec<Gap>,
    /// The spool's failures are no reason to refuse mail.
    pub bypass: bool,
    /// Whether an organization has a second archive.
    pub also: bool,
    pub operated: Vec<Operated>,
    pub returned: Vec<Returned>,
    /// By record: the original of what was to be discarded.
    pub originals: BTreeMap<String, Arc<Vec<u8>>>,
    /// What start-up found after the last drain: records, unknown ones.
    pub recovered: (u64, u64),
    pub disk_operations: u64,
    /// When the last drains began.
    pub ends_from: u64,
    /// What could not go on; each is a failure by itself.
    pub broken: Vec<String>,
    /// Faults injected, by name.
    pub faults: BTreeMap<&'static str, u64>,
}

/// A history that is being written. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Chronicle(Arc<Mutex<History>>);

impl Chronicle {
    pub fn write(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap()
    }

    pub fn count_fault(&self, name: &'static str) {
        *self.write().faults.entry(name).or_default() += 1;
    }

    /// The number of the next reply.
    pub fn next_number(&self) -> u64 {
        self.write().said.last_key_value().map_or(1, |(last, _)| last + 1)
    }
}
