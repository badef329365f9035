//! What the history says, put in order: which message an arrival is, which records there are.

use super::super::common::Record;
use super::super::history::{Arrival, Entry, History, Peer, Trouble, Wrong};
use super::super::mail::Mail;
use super::super::relay::{ALSO, ALSO_OF};
use std::collections::BTreeMap;
use std::ops::Deref;

/// How long after an archive's reply the relay may not have made it durable yet, beside the time on the line.
const SETTLING: u64 = 3_000;

pub struct Facts<'h> {
    pub history: &'h History,
    /// By content: which mail it is.
    contents: BTreeMap<&'h [u8], usize>,
    /// Every record whose last octet reached an archive.
    pub records: Vec<Received<'h>>,
    /// Every record that an operator has given up.
    pub discarded: Vec<Named>,
}

/// A record at an archive.
pub struct Received<'h> {
    pub arrival: &'h Arrival,
    pub record: Named,
}

impl Deref for Received<'_> {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.record
    }
}

/// What a record says.
#[derive(Debug, Clone)]
pub struct Named {
    pub id: String,
    pub message_id: String,
    pub organization: String,
    /// Of the attached original.
    pub identity: usize,
    pub recipients: Vec<String>,
    pub is_unknown: bool,
    pub supplements: Option<String>,
}

impl<'h> Facts<'h> {
    /// What can't be read at all is a complaint of its own.
    pub fn of(history: &'h History) -> Result<Self, Vec<String>> {
        let contents =
            history.mails.iter().enumerate().map(|(number, mail)| (mail.octets.as_slice(), number)).collect();
        let mut facts = Self { history, contents, records: Vec::new(), discarded: Vec::new() };
        let mut wrong = Vec::new();
        for arrival in history.arrivals.iter().filter(|arrival| arrival.at.is_archive()) {
            match facts.read(arrival) {
                Ok(record) => facts.records.push(record),
                Err(why) => wrong.push(format!(
                    "4 exact: what {} got at {} ms is no record of a message there is: {why}",
                    arrival.at, arrival.when
                )),
            }
        }
        facts.discarded = facts.find_discarded();
        if wrong.is_empty() { Ok(facts) } else { Err(wrong) }
    }

    fn read(&self, arrival: &'h Arrival) -> Result<Received<'h>, String> {
        let record = Record::try_read(&arrival.octets)?;
        let original = record.original.as_slice();
        let mail = self.mail(original).ok_or_else(|| {
            format!("its original is nobody's: {:?}", String::from_utf8_lossy(&original[..original.len().min(300)]))
        })?;
        let organization = arrival
            .from
            .strip_prefix("amazonjournaling@")
            .and_then(|rest| rest.strip_suffix(".awsapps.com"))
            .ok_or_else(|| format!("it comes from {:?}", arrival.from))?;
        let archive = arrival.recipients.first().map_or("", String::as_str);
        let record = Named {
            id: record.id().to_owned(),
            message_id: record.message_id().to_owned(),
            organization: whose(organization, archive),
            identity: self.history.mails[mail].identity,
            recipients: record.recipients().into_iter().map(str::to_owned).collect(),
            is_unknown: record.field("X-Journal-Outcome") == Some("unknown"),
            supplements: record.field("X-Journal-Supplement").map(str::to_owned),
        };
        Ok(Received { arrival, record })
    }

    /// What the spool remembers of them; which mail it was an archive knows, or the operator, who looked before.
    fn find_discarded(&self) -> Vec<Named> {
        let is_discarded = |entry: &&Entry| entry.state == "discarded";
        let named = |entry: &Entry| {
            let sent = self.records.iter().find(|record| record.id == entry.id).map(|record| record.identity);
            let seen = || self.history.originals.get(&entry.id).and_then(|octets| self.mail(octets));
            Some(Named {
                id: entry.id.clone(),
                message_id: entry.shown.message_id.clone(),
                organization: whose(&entry.organization, &entry.archive),
                identity: sent.or_else(|| seen().map(|mail| self.history.mails[mail].identity))?,
                recipients: entry.shown.recipients.clone(),
                is_unknown: false,
                supplements: entry.shown.supplements.clone(),
            })
        };
        self.history.spool.iter().filter(is_discarded).filter_map(named).collect()
    }

    /// The organizations that a mail concerns, as records know them, when these recipients were accepted.
    pub fn concerned(&self, mail: &Mail, recipients: &[String]) -> Vec<&'static str> {
        let mut concerned = mail.concerns(recipients);
        if self.history.also && concerned.contains(&ALSO_OF) {
            concerned.push(ALSO.0);
        }
        concerned
    }

    /// Which mail these octets are.
    pub fn mail(&self, octets: &[u8]) -> Option<usize> {
        self.contents.get(octets).copied()
    }

    /// Which mail a next hop got, behind the relay's own line; and the relay's id of it.
    pub fn relayed(&self, arrival: &Arrival) -> Option<(usize, &'h Mail)> {
        let octets = arrival.octets.as_slice();
        let end = memchr::memmem::find(octets, b"\r\n")?;
        if !octets.starts_with(b"Received: from ") {
            return None;
        }
        let number = self.mail(&octets[end + 2..])?;
        Some((number, &self.history.mails[number]))
    }

    /// The relay's id of what the next hop got.
    pub fn queue_id<'a>(&self, arrival: &'a Arrival) -> &'a str {
        let line = arrival.octets.split(|octet| *octet == b'\r').next().unwrap_or_default();
        let line = std::str::from_utf8(line).unwrap_or_default();
        line.rsplit_once(" id ").and_then(|(_, id)| id.split(';').next()).unwrap_or_default()
    }

    /// Whether the disk fails then.
    pub fn disk_fails_at(&self, when: u64) -> bool {
        let covers = |trouble: &Trouble| (trouble.from..=trouble.until).contains(&when);
        self.history.troubles.iter().any(|trouble| trouble.what == Wrong::Disk && covers(trouble))
    }

    /// What reached the next hop's end of data.
    pub fn at_next_hop(&self) -> impl Iterator<Item = &'h Arrival> {
        self.history.arrivals.iter().filter(|arrival| arrival.at == Peer::NextHop)
    }

    pub fn is_discarded(&self, id: &str) -> bool {
        self.discarded.iter().any(|record| record.id == id)
    }

    /// Every record that counts: an archive took it, or an operator has given it up with a reason.
    pub fn counted(&self) -> impl Iterator<Item = &Named> {
        self.taken().map(|record| &record.record).chain(&self.discarded)
    }

    /// Records that an archive took.
    pub fn taken(&self) -> impl Iterator<Item = &Received<'h>> {
        self.records.iter().filter(|record| record.arrival.taken)
    }

    /// Whether what the next hop said from `from` to `until` may not have become durable: the relay ended without order, or
    /// its disk failed.
    pub fn may_be_forgotten(&self, from: u64, until: u64) -> bool {
        self.history.troubles.iter().any(|trouble| match trouble.what {
            Wrong::Crash | Wrong::Power => (from..=until).contains(&trouble.from),
            Wrong::Disk => trouble.from <= until && trouble.until >= from,
            _ => false,
        })
    }
}

/// As whose a record counts: copies for a second archive are a journal of their own.
fn whose(organization: &str, archive: &str) -> String {
    let is_second = organization == ALSO_OF && archive == format!("archive@{}.example", ALSO.1);
    if is_second { ALSO.0.to_owned() } else { organization.to_owned() }
}

/// Why what a server took may still be there at a later moment; none when it may not.
pub fn excuse(history: &History, first: &Arrival, later: u64) -> Option<&'static str> {
    if !first.replied {
        return Some("the reply was not sent as it should be");
    }
    let known = first.replied_at.saturating_add(SETTLING);
    history.troubles.iter().find_map(|trouble| {
        let began = (first.when..=known).contains(&trouble.from);
        let overlaps = trouble.from <= known && trouble.until >= first.when;
        // What was on the line when the relay ended arrives all the same.
        let was_gone = (trouble.from..=trouble.until).contains(&first.when);
        match trouble.what {
            Wrong::Crash | Wrong::Power if began || was_gone => Some("the relay ended before the reply was durable"),
            Wrong::Line(peer) if peer == first.at && overlaps => Some("the reply was lost on the line"),
            Wrong::Down(peer) if peer == first.at && began => Some("the reply was lost with the server"),
            Wrong::Restart if began => Some("the relay was told to end before the reply came"),
            Wrong::Disk if trouble.from <= later && trouble.until >= first.when => {
                Some("the reply could not be made durable")
            }
            _ => None,
        }
    })
}
