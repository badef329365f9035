//! The books of a trial: what clients were promised, what the next hop took, what the archives took, and every fault that
//! may explain a repeat. Contents are kept as SHA-256 alone.
//!
//! What is wrong at once is noted at once: octets that no client sent, a repeat of a record that differs from its first
//! attempt or that nothing explains. What only the end can tell is left to [`check`](super::check).

use super::ORGANIZATIONS;
use super::letter::Letter;
use crate::common::{Record, Transaction, strip_received};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after a reply the daemon may still have to write it down, on a busy disk; until then a crash swallows it: the
/// next hop's verdict is then unknown, the archive's acknowledgement forgotten.
const FRESH: Duration = Duration::from_secs(5);
/// Violations that are kept in words; more are counted.
const MOST_TOLD: usize = 100;

/// What was violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A message that was taken has no record, or the record does not name everybody.
    Lost,
    /// A message or record is not what it was.
    Altered,
    /// A record more than there may be.
    Doubled,
    /// Anything else that must not be.
    Wrong,
}

/// What is known of one message.
#[derive(Debug, Clone, Default)]
pub struct MessageBook {
    /// The octets of each transaction; none before it was begun.
    pub sent: Vec<Option<[u8; 32]>>,
    /// Recipients for whom a client was told 2yz.
    pub promised: u64,
    /// Recipients for whom the next hop said 2yz.
    pub taken: u64,
    /// Whom each organization's records have to name.
    pub needed: [u64; ORGANIZATIONS.len()],
    /// Recipients whose transaction once ended without a word from the next hop, as its client saw it.
    pub doubtful: u64,
}

/// What is known of one record.
#[derive(Debug, Clone)]
pub struct RecordBook {
    pub number: u64,
    pub organization: usize,
    pub sha256: [u8; 32],
    /// Whom it names.
    pub named: u64,
    pub unknown: bool,
    pub supplement: bool,
    /// How often an archive had it whole, and how often it meant to keep it.
    pub ends: u32,
    pub takings: u32,
    last: Option<Taking>,
    /// When the daemon logged that the archive acknowledged it; it is written down a little later.
    pub acked: Option<Instant>,
}

/// What explains that a record is taken once more.
#[derive(Debug, Clone, Copy)]
struct Taking {
    /// The archive hung up in place of its reply.
    reply_lost: bool,
    /// How many lives of the daemon and of the archive had ended when its connection began.
    deaths: (usize, usize),
}

/// Why repeats came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repeats {
    pub reply_lost: u64,
    pub archive_down: u64,
    pub daemon_killed: u64,
}

impl Repeats {
    pub fn all(self) -> u64 {
        self.reply_lost + self.archive_down + self.daemon_killed
    }
}

#[derive(Default)]
pub struct Books {
    pub messages: BTreeMap<u64, MessageBook>,
    pub records: BTreeMap<String, RecordBook>,
    pub violations: Vec<(Kind, String)>,
    pub untold: u64,
    pub repeats: Repeats,
    /// Counts by what they count.
    pub counts: BTreeMap<&'static str, u64>,
    /// Answers to the end of data that a killed daemon may not have written down yet.
    fresh_answers: VecDeque<(Instant, u64, u64)>,
    daemon_deaths: Vec<Instant>,
    archive_deaths: [Vec<Instant>; ORGANIZATIONS.len()],
}

/// The books; everybody writes into them.
pub struct Ledger {
    seed: u64,
    largest: u64,
    books: Mutex<Books>,
}

impl Ledger {
    /// For the letters of that seed and size.
    pub fn new(seed: u64, largest: u64) -> Self {
        Self { seed, largest, books: Mutex::default() }
    }

    pub fn letter(&self, number: u64) -> Letter {
        Letter::new(self.seed, number, self.largest)
    }

    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a client sent those octets.
    pub fn knows(&self, octets: &[u8]) -> bool {
        let sha256 = Some(digest(octets));
        let number = Letter::number_in(octets);
        number.is_some_and(|number| self.books().messages.get(&number).is_some_and(|book| book.sent.contains(&sha256)))
    }

    /// One more of something.
    pub fn count(&self, what: &'static str) {
        *self.books().counts.entry(what).or_default() += 1;
    }

    pub fn violation(&self, kind: Kind, what: String) {
        self.books().violation(kind, what);
    }

    /// A client is about to send.
    pub fn begun(&self, letter: &Letter, transaction: usize, octets: &[u8]) {
        let mut books = self.books();
        let message = books.messages.entry(letter.number).or_default();
        message.sent.resize(letter.transactions.len(), None);
        message.sent[transaction] = Some(digest(octets));
    }

    /// A client was told 2yz at the end of data.
    pub fn promised(&self, number: u64, mask: u64) {
        let mut books = self.books();
        *books.counts.entry("transactions answered 250").or_default() += 1;
        books.messages.entry(number).or_default().promised |= mask;
    }

    /// A client's transaction ended without the next hop's word.
    pub fn doubtful(&self, number: u64, mask: u64) {
        self.books().messages.entry(number).or_default().doubtful |= mask;
    }

    /// A client's transaction was answered at the end of data.
    pub fn answered(&self, number: u64, mask: u64) {
        let mut books = self.books();
        let now = Instant::now();
        books.fresh_answers.retain(|(then, _, _)| now.duration_since(*then) < FRESH);
        books.fresh_answers.push_back((now, number, mask));
    }

    /// The daemon died so that what it did last may be forgotten.
    pub fn daemon_died(&self) {
        let mut books = self.books();
        let now = Instant::now();
        books.daemon_deaths.push(now);
        for (then, number, mask) in std::mem::take(&mut books.fresh_answers) {
            if now.duration_since(then) < FRESH {
                books.messages.entry(number).or_default().doubtful |= mask;
            }
        }
    }

    /// An archive closed all its connections.
    pub fn archive_died(&self, organization: usize) {
        self.books().archive_deaths[organization].push(Instant::now());
    }

    /// A whole message came to the next hop, which takes it or does not.
    pub fn at_next_hop(&self, transaction: &Transaction, taken: bool) {
        let octets = strip_received(&transaction.octets).1;
        let recipients = transaction.forward_paths();
        let found = Letter::number_in(octets).map(|number| (self.letter(number), digest(octets)));
        let mut books = self.books();
        let mask = found.as_ref().and_then(|(letter, sha256)| {
            let book = books.messages.get(&letter.number)?;
            let known = book.sent.contains(&Some(*sha256)) && letter.from == transaction.reverse_path();
            if known { letter.mask(&recipients) } else { None }
        });
        let Some(((letter, _), mask)) = found.zip(mask) else {
            let what = format!("the next hop got what no client sent: {} to {recipients:?}", transaction.mail);
            return books.violation(Kind::Altered, what);
        };
        if taken {
            *books.counts.entry("transactions that the next hop took").or_default() += 1;
            let message = books.messages.entry(letter.number).or_default();
            message.taken |= mask;
            for (organization, needed) in message.needed.iter_mut().enumerate() {
                if letter.concerns(organization, mask) {
                    *needed |= mask;
                }
            }
        }
    }

    /// A whole record came to an archive, which takes it or does not, and then answers or hangs up.
    pub fn at_archive(&self, organization: usize, transaction: &Transaction, taken: bool, reply_lost: bool) {
        let book = self.read(organization, &transaction.octets);
        let mut books = self.books();
        let (id, original, new) = match book {
            Ok(found) => found,
            Err(why) => return books.violation(Kind::Altered, why),
        };
        if !books.messages.get(&new.number).is_some_and(|message| message.sent.contains(&Some(original))) {
            let what = format!("record {id}: no client sent the original of message {}", new.number);
            return books.violation(Kind::Altered, what);
        }
        let seen = |deaths: &[Instant]| deaths.iter().filter(|death| **death <= transaction.connected).count();
        let deaths = (seen(&books.daemon_deaths), seen(&books.archive_deaths[organization]));
        let book = books.records.entry(id.clone()).or_insert_with(|| new.clone());
        book.ends += 1;
        if (book.sha256, book.number) != (new.sha256, new.number) {
            let what = format!("record {id} of message {}: an attempt that differs from the first", new.number);
            return books.violation(Kind::Altered, what);
        }
        if taken {
            book.takings += 1;
            let before = book.last.replace(Taking { reply_lost, deaths });
            let (acked, takings) = (book.acked, book.takings);
            books.repeat(&id, before, deaths, acked, takings);
        }
    }

    /// What a record says: its id, the SHA-256 of its original, and the rest.
    fn read(&self, organization: usize, octets: &[u8]) -> Result<(String, [u8; 32], RecordBook), String> {
        let record = Record::try_read(octets)?;
        let id = record.id().to_owned();
        let name = ORGANIZATIONS[organization].0;
        let from = record.field("From").unwrap_or_default();
        if !from.contains(&format!("amazonjournaling@{name}.awsapps.com")) {
            return Err(format!("record {id} of {from} came to the archive of {name}"));
        }
        let number = Letter::number_in(&record.original).ok_or_else(|| format!("record {id}: of what message?"))?;
        let letter = self.letter(number);
        let recipients = record.recipients();
        let named = letter.mask(&recipients).ok_or_else(|| {
            format!("record {id}: message {number} was sent to {:?}, it names {recipients:?}", letter.recipients)
        })?;
        if recipients.len() as u32 != named.count_ones() || recipients.iter().any(|name| name.starts_with("nobody")) {
            return Err(format!("record {id} of message {number} names {recipients:?}"));
        }
        let said = record.field("X-Journal-Original-SHA256").unwrap_or_default();
        let original = digest(&record.original);
        if said != hex(&original) {
            return Err(format!("record {id} of message {number}: its SHA-256 is another's"));
        }
        let book = RecordBook {
            number,
            organization,
            sha256: digest(octets),
            named,
            unknown: record.field("X-Journal-Outcome") == Some("unknown"),
            supplement: record.field("X-Journal-Supplement").is_some(),
            ends: 0,
            takings: 0,
            last: None,
            acked: None,
        };
        Ok((id, original, book))
    }

    /// The daemon has logged that the record is acknowledged.
    pub fn acked(&self, id: &str) {
        if let Some(record) = self.books().records.get_mut(id) {
            record.acked = Some(Instant::now());
        }
    }
}

impl Books {
    pub fn violation(&mut self, kind: Kind, what: String) {
        println!("VIOLATION ({kind:?}): {what}");
        if self.violations.len() < MOST_TOLD {
            self.violations.push((kind, what));
        } else {
            self.untold += 1;
        }
    }

    /// A record was taken; `before` says how it was taken the last time.
    fn repeat(
        &mut self,
        id: &str,
        before: Option<Taking>,
        deaths: (usize, usize),
        acked: Option<Instant>,
        takings: u32,
    ) {
        let Some(before) = before else { return };
        // What a connection of an earlier life brings late is no news.
        let late = deaths.0 < before.deaths.0 || deaths.1 < before.deaths.1;
        if let Some(acked) = acked.filter(|_| !late) {
            let swallowed = |death: &Instant| *death >= acked && death.duration_since(acked) < FRESH;
            if !self.daemon_deaths.iter().take(deaths.0).any(swallowed) {
                let what = format!("record {id} was sent again after its acknowledgement was kept");
                return self.violation(Kind::Doubled, what);
            }
        }
        if before.reply_lost {
            self.repeats.reply_lost += 1;
        } else if deaths.1 != before.deaths.1 {
            self.repeats.archive_down += 1;
        } else if deaths.0 != before.deaths.0 {
            self.repeats.daemon_killed += 1;
        } else {
            let what = format!("record {id} was taken {takings} times, and no reply was lost");
            self.violation(Kind::Doubled, what);
        }
    }
}

pub fn digest(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
