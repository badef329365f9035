//! Faults: one every few seconds, chosen by chance, some of which last a while before they are undone.

use crate::common::trial::{ArchiveMood, Chance, Daemon, Ending, Ends, Ledger, NextHopMood, ORGANIZATIONS};
use crate::disk::Disk;
use crate::{LONGEST_END, operator};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two faults, milliseconds.
const BETWEEN_MS: (u64, u64) = (500, 4_000);
/// How long a fault lasts, milliseconds.
const LASTS_MS: (u64, u64) = (200, 8_000);
/// Longer than any fault: an archive that is away for so long makes a backlog.
const LONG_OUTAGE_MS: (u64, u64) = (15_000, 40_000);

const NEXT_HOP: [(NextHopMood, &str); 7] = [
    (NextHopMood::LaterAtRcpt, "next hop: 4yz to recipients"),
    (NextHopMood::LaterAtEnd, "next hop: 4yz to messages"),
    (NextHopMood::NeverAtEnd, "next hop: 5yz to messages"),
    (NextHopMood::TakesAndLeaves, "next hop: takes messages, loses its reply"),
    (NextHopMood::LeavesAtEnd, "next hop: leaves after the final dot"),
    (NextHopMood::LeavesAtMail, "next hop: leaves at MAIL"),
    (NextHopMood::Slow, "next hop: slow"),
];
const ARCHIVE: [(ArchiveMood, &str); 6] = [
    (ArchiveMood::LaterAtMail, "archive: 4yz at MAIL"),
    (ArchiveMood::LaterAtEnd, "archive: 4yz to records"),
    (ArchiveMood::NeverAtEnd, "archive: 5yz to records"),
    (ArchiveMood::TakesAndLeaves, "archive: takes records, loses its reply"),
    (ArchiveMood::LeavesAtEnd, "archive: leaves after the final dot"),
    (ArchiveMood::Slow, "archive: slow"),
];

/// What ends a fault that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    NextHopUp,
    NextHopWilling,
    ArchiveUp(usize),
    ArchiveWilling(usize),
    Release(usize),
    DiskEmpty,
}

/// Everything that can fail, and what is failing.
pub struct Faults {
    chance: Chance,
    pub ends: Ends,
    pub daemon: Daemon,
    disk: Option<Disk>,
    ledger: Arc<Ledger>,
    pending: Vec<(Instant, Undo)>,
    next: Instant,
    counts: BTreeMap<&'static str, u64>,
    longest_end: Duration,
}

impl Faults {
    pub fn new(chance: Chance, ends: Ends, daemon: Daemon, disk: Option<Disk>, ledger: Arc<Ledger>) -> Self {
        Self {
            chance,
            ends,
            daemon,
            disk,
            ledger,
            pending: Vec::new(),
            next: Instant::now(),
            counts: BTreeMap::new(),
            longest_end: Duration::ZERO,
        }
    }

    /// Undoes what is over and, when it is time, does the next thing; `spares_the_daemon` leaves out what ends it.
    pub fn look(&mut self, spares_the_daemon: bool) {
        let now = Instant::now();
        let (over, pending): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|(end, _)| *end <= now);
        self.pending = pending;
        over.into_iter().for_each(|(_, undo)| self.undo(undo));
        if now >= self.next {
            self.strike(spares_the_daemon);
            self.next = Instant::now() + self.span(BETWEEN_MS);
        }
    }

    /// Everything that is failing is mended.
    pub fn end(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        pending.into_iter().for_each(|(_, undo)| self.undo(undo));
        self.ends.calm();
        (0..ORGANIZATIONS.len()).for_each(|organization| self.undo(Undo::Release(organization)));
    }

    fn span(&mut self, (low, high): (u64, u64)) -> Duration {
        Duration::from_millis(self.chance.between(low, high))
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn strike(&mut self, spares_the_daemon: bool) {
        let organization = self.chance.next(ORGANIZATIONS.len() as u64) as usize;
        match self.chance.next(100) {
            0..15 if spares_the_daemon => self.reload(),
            0..9 => self.kill(),
            9..15 => self.terminate(),
            15..20 => self.reload(),
            20..26 => {
                if self.lasts(LASTS_MS, Undo::NextHopUp) {
                    self.ends.next_hop_down();
                    self.count("next hop: down");
                }
            }
            26..48 => {
                let (mood, what) = NEXT_HOP[self.chance.next(NEXT_HOP.len() as u64) as usize];
                if self.lasts(LASTS_MS, Undo::NextHopWilling) {
                    self.ends.set_next_hop(mood);
                    self.count(what);
                }
            }
            48..56 => {
                let span = if self.chance.hits(15) { LONG_OUTAGE_MS } else { LASTS_MS };
                if self.lasts(span, Undo::ArchiveUp(organization)) {
                    self.ends.archive_down(organization);
                    self.count("archive: down");
                }
            }
            56..84 => {
                let (mood, what) = ARCHIVE[self.chance.next(ARCHIVE.len() as u64) as usize];
                if self.lasts(LASTS_MS, Undo::ArchiveWilling(organization)) {
                    self.ends.set_archive(organization, mood);
                    self.count(what);
                }
            }
            84..90 => {
                operator::retry_all(&self.daemon, &self.ledger);
                self.count("operator: queue retry --all");
            }
            90..94 => {
                if self.lasts(LASTS_MS, Undo::Release(organization)) {
                    operator::steer(&self.daemon, "hold", ORGANIZATIONS[organization].0, &self.ledger);
                    self.count("operator: queue hold and release");
                }
            }
            94..97 => {
                operator::look(&self.daemon, &self.ledger);
                self.count("operator: queue show --record");
            }
            _ if self.disk.is_some() => {
                if self.lasts(LASTS_MS, Undo::DiskEmpty) {
                    self.disk.iter().for_each(Disk::fill);
                    self.count("disk: full");
                }
            }
            _ => self.reload(),
        }
    }

    /// Whether that fault begins now; not when it lasts already.
    fn lasts(&mut self, span: (u64, u64), undo: Undo) -> bool {
        if self.pending.iter().any(|(_, pending)| *pending == undo) {
            return false;
        }
        let end = Instant::now() + self.span(span);
        self.pending.push((end, undo));
        true
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::NextHopUp => self.ends.next_hop_up(),
            Undo::NextHopWilling => self.ends.set_next_hop(NextHopMood::Willing),
            Undo::ArchiveUp(organization) => self.ends.archive_up(organization),
            Undo::ArchiveWilling(organization) => self.ends.set_archive(organization, ArchiveMood::Willing),
            Undo::Release(organization) => {
                operator::steer(&self.daemon, "release", ORGANIZATIONS[organization].0, &self.ledger);
            }
            Undo::DiskEmpty => self.disk.iter().for_each(Disk::empty),
        }
    }

    fn kill(&mut self) {
        self.daemon.kill9();
        self.count("relay: kill -9");
        if self.chance.hits(20) {
            self.daemon.begin();
            let wait = Duration::from_micros(self.chance.next(40_000));
            crate::common::trial::Load::pause(wait);
            self.daemon.kill9();
            self.count("relay: kill -9 while it starts");
        }
        self.start();
    }

    fn terminate(&mut self) {
        let Ending { took, cut_short } = self.daemon.terminate(LONGEST_END);
        self.longest_end = self.longest_end.max(took);
        self.count(if cut_short { "relay: SIGTERM, work left open" } else { "relay: SIGTERM" });
        self.start();
    }

    /// A start needs room.
    fn start(&mut self) {
        if let Some(place) = self.pending.iter().position(|(_, undo)| *undo == Undo::DiskEmpty) {
            self.pending.remove(place);
            self.undo(Undo::DiskEmpty);
        }
        self.daemon.launch();
    }

    /// Harmless settings change.
    fn reload(&mut self) {
        let level = ["info", "debug"][self.chance.next(2) as usize];
        let coalesce = ["0s", "500ms", "2s"][self.chance.next(3) as usize];
        let longest = ["2s", "5s"][self.chance.next(2) as usize];
        let setup = &mut self.daemon.setup;
        level.clone_into(&mut setup.log_level);
        longest.clone_into(&mut setup.retry_longest);
        setup.organizations[0].more = format!("coalesce = \"{coalesce}\"");
        self.daemon.reload();
        self.count("relay: SIGHUP with another configuration");
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9}  faults", self.counts.values().sum::<u64>())?;
        for (what, count) in &self.counts {
            writeln!(f, "{count:>9}  {what}")?;
        }
        writeln!(f, "{:>9.1}  seconds for the slowest end after SIGTERM", self.longest_end.as_secs_f64())
    }
}
