//! The next hop, an archive for each organization, and the mailbox for reports: servers of this process whose moods change
//! while they serve, and who write what they take into the books.

use super::chance::Chance;
use super::ledger::{Kind, Ledger};
use super::{Load, ORGANIZATIONS};
use crate::common::{Answer, Report, Sink, Stage, Transaction, say};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How the next hop behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHopMood {
    Willing,
    /// 4yz to some recipients.
    LaterAtRcpt,
    /// 4yz to some messages.
    LaterAtEnd,
    /// 5yz to some messages.
    NeverAtEnd,
    /// Takes some messages and hangs up in place of its reply.
    TakesAndLeaves,
    /// Hangs up after some final dots without having taken anything.
    LeavesAtEnd,
    /// Hangs up at some MAIL.
    LeavesAtMail,
    /// Answers late.
    Slow,
}

/// How an archive behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveMood {
    Willing,
    /// 4yz at MAIL, to everything: the route's fault.
    LaterAtMail,
    /// 4yz to some records.
    LaterAtEnd,
    /// 5yz to some records: they fail and stay until somebody tries them again.
    NeverAtEnd,
    /// Takes some records and hangs up in place of its reply.
    TakesAndLeaves,
    /// Hangs up after some final dots without having taken anything.
    LeavesAtEnd,
    /// Answers late.
    Slow,
}

/// How often a mood that is not for everybody shows, in a hundred.
const PERCENT: u64 = 30;
/// The longest that a slow server takes for one answer, milliseconds.
const SLOWEST_MS: u64 = 1_500;

struct Mood<M> {
    now: M,
    chance: Chance,
}

type Shared<M> = Arc<Mutex<Mood<M>>>;

/// The four servers.
pub struct Ends {
    pub next_hop: Sink,
    pub archives: [Sink; ORGANIZATIONS.len()],
    pub reports: Sink,
    ledger: Arc<Ledger>,
    next_hop_mood: Shared<NextHopMood>,
    archive_moods: [Shared<ArchiveMood>; ORGANIZATIONS.len()],
}

impl Ends {
    pub fn start(ledger: &Arc<Ledger>, chance: &mut Chance) -> Self {
        let next_hop_mood = mood(NextHopMood::Willing, chance);
        let archive_moods = std::array::from_fn(|_| mood(ArchiveMood::Willing, chance));
        let (books, shared) = (Arc::clone(ledger), Arc::clone(&next_hop_mood));
        let next_hop = Sink::passing(move |stage| next_hop(stage, &shared, &books));
        let archives = std::array::from_fn(|organization| {
            let (books, shared) = (Arc::clone(ledger), Arc::clone(&archive_moods[organization]));
            Sink::passing(move |stage| archive(stage, organization, &shared, &books))
        });
        let books = Arc::clone(ledger);
        let reports = Sink::passing(move |stage| mailbox(stage, &books));
        Self { next_hop, archives, reports, ledger: Arc::clone(ledger), next_hop_mood, archive_moods }
    }

    pub fn set_next_hop(&self, mood: NextHopMood) {
        lock(&self.next_hop_mood).now = mood;
    }

    pub fn set_archive(&self, organization: usize, mood: ArchiveMood) {
        lock(&self.archive_moods[organization]).now = mood;
    }

    /// Everybody is willing again.
    pub fn calm(&self) {
        self.set_next_hop(NextHopMood::Willing);
        (0..ORGANIZATIONS.len()).for_each(|organization| self.set_archive(organization, ArchiveMood::Willing));
    }

    /// The next hop dies.
    pub fn next_hop_down(&mut self) {
        self.next_hop.down();
    }

    pub fn next_hop_up(&mut self) {
        self.next_hop.up();
    }

    /// An archive dies.
    pub fn archive_down(&mut self, organization: usize) {
        // Noted before the first of its connections closes, and once more for one that came in between.
        self.ledger.archive_died(organization);
        self.archives[organization].down();
        self.ledger.archive_died(organization);
    }

    pub fn archive_up(&mut self, organization: usize) {
        self.archives[organization].up();
    }
}

fn next_hop(stage: &Stage<'_>, shared: &Shared<NextHopMood>, books: &Ledger) -> Option<Answer> {
    if let Stage::Rcpt(to) = stage
        && to.starts_with("<nobody")
    {
        return say("550 5.1.1 nobody of that name");
    }
    let (mood, shows) = look(shared);
    if mood == NextHopMood::Slow {
        slow(shared);
    }
    match (stage, mood) {
        (Stage::Mail(_), NextHopMood::LeavesAtMail) if shows => Some(Answer::Drop),
        (Stage::Rcpt(_), NextHopMood::LaterAtRcpt) if shows => say("450 4.2.1 that mailbox is busy"),
        (Stage::End(transaction), _) => Some(end_at_next_hop(transaction, mood, shows, books)),
        _ => None,
    }
}

fn end_at_next_hop(transaction: &Transaction, mood: NextHopMood, shows: bool, books: &Ledger) -> Answer {
    let (taken, answer) = match mood {
        NextHopMood::LaterAtEnd if shows => (false, Answer::Say("451 4.3.0 not this one, not now".into())),
        NextHopMood::NeverAtEnd if shows => (false, Answer::Say("554 5.6.0 never this one".into())),
        NextHopMood::TakesAndLeaves if shows => (true, Answer::Drop),
        NextHopMood::LeavesAtEnd if shows => (false, Answer::Drop),
        _ => (true, Answer::Say("250 2.0.0 taken".into())),
    };
    books.at_next_hop(transaction, taken);
    answer
}

fn archive(stage: &Stage<'_>, organization: usize, shared: &Shared<ArchiveMood>, books: &Ledger) -> Option<Answer> {
    let (mood, shows) = look(shared);
    if mood == ArchiveMood::Slow && matches!(stage, Stage::End(_) | Stage::Mail(_)) {
        slow(shared);
    }
    match stage {
        Stage::Mail(_) if mood == ArchiveMood::LaterAtMail => say("451 4.3.2 the archive is being served"),
        Stage::End(transaction) => {
            let (taken, reply_lost, answer) = match mood {
                ArchiveMood::LaterAtEnd if shows => (false, false, Answer::Say("452 4.3.1 no room".into())),
                ArchiveMood::NeverAtEnd if shows => (false, false, Answer::Say("554 5.6.0 I don't like it".into())),
                ArchiveMood::TakesAndLeaves if shows => (true, true, Answer::Drop),
                ArchiveMood::LeavesAtEnd if shows => (false, true, Answer::Drop),
                _ => (true, false, Answer::Say("250 2.0.0 kept".into())),
            };
            books.at_archive(organization, transaction, taken, reply_lost);
            Some(answer)
        }
        _ => None,
    }
}

fn mailbox(stage: &Stage<'_>, books: &Ledger) -> Option<Answer> {
    if let Stage::End(transaction) = stage {
        match Report::try_read(&transaction.octets) {
            Ok(_) if transaction.reverse_path().is_empty() => books.count("reports"),
            Ok(_) => books.violation(Kind::Wrong, format!("a report from {}", transaction.mail)),
            Err(why) => books.violation(Kind::Wrong, format!("what is no report came to the report address: {why}")),
        }
    }
    None
}

fn mood<M>(now: M, chance: &mut Chance) -> Shared<M> {
    Arc::new(Mutex::new(Mood { now, chance: chance.fork() }))
}

fn look<M: Copy>(shared: &Shared<M>) -> (M, bool) {
    let mut mood = lock(shared);
    let shows = mood.chance.hits(PERCENT);
    (mood.now, shows)
}

fn slow<M>(shared: &Shared<M>) {
    let wait = lock(shared).chance.next(SLOWEST_MS);
    Load::pause(Duration::from_millis(wait));
}

fn lock<M>(shared: &Shared<M>) -> std::sync::MutexGuard<'_, Mood<M>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
