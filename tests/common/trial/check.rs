//! What the books must say once every fault is over and the spool is empty.

use super::ORGANIZATIONS;
use super::ledger::{Books, Kind, Ledger, MessageBook, RecordBook};
use super::letter::Letter;
use std::collections::BTreeMap;
use std::fmt;

/// The outcome of a trial.
#[derive(Debug, Default)]
pub struct Findings {
    pub rows: Vec<(&'static str, u64)>,
    pub violations: Vec<(Kind, String)>,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.rows {
            writeln!(f, "{count:>9}  {what}")?;
        }
        for (kind, what) in &self.violations {
            writeln!(f, "{kind:?}: {what}")?;
        }
        Ok(())
    }
}

/// Compares the books with what is promised.
///
/// *Lost*: an accepted recipient of a message that the next hop took and that no taken record of each organization
/// concerned names. *Doubled*: two records of one organization name the same recipient of the same message. *Wrong*: a
/// promise to a client that the next hop knows nothing of; a record of nobody's message, of recipients whose transaction
/// was refused, or one that says `unknown` where nothing was.
pub fn check(ledger: &Ledger) -> Findings {
    let mut books = ledger.books();
    let mut records: BTreeMap<(u64, usize), Vec<(String, RecordBook)>> = BTreeMap::new();
    for (id, record) in &books.records {
        records.entry((record.number, record.organization)).or_default().push((id.clone(), record.clone()));
    }
    let mut found = Vec::new();
    for (number, message) in &books.messages {
        let letter = ledger.letter(*number);
        let promised = message.promised & !message.taken;
        if promised != 0 {
            let names = letter.names(promised);
            found.push((Kind::Wrong, format!("message {number} was promised, the next hop has it not for {names:?}")));
        }
        for organization in 0..ORGANIZATIONS.len() {
            let of_message = records.get(&(*number, organization)).map(Vec::as_slice).unwrap_or_default();
            check_records(&letter, message, organization, of_message, &mut found);
        }
    }
    for (kind, what) in found {
        books.violation(kind, what);
    }
    Findings { rows: rows(&books), violations: books.violations.clone() }
}

fn check_records(
    letter: &Letter,
    message: &MessageBook,
    organization: usize,
    records: &[(String, RecordBook)],
    found: &mut Vec<(Kind, String)>,
) {
    let name = ORGANIZATIONS[organization].0;
    let tell = |mask: u64| format!("message {} of {name}, for {:?}", letter.number, letter.names(mask));
    let ids = || records.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ");
    let (mut named, mut twice) = (0, 0);
    for (id, record) in records.iter().filter(|(_, record)| record.takings > 0) {
        twice |= named & record.named;
        named |= record.named;
        if record.unknown && record.named & message.doubtful == 0 {
            found.push((Kind::Wrong, format!("record {id} says unknown, and nothing was: {}", tell(record.named))));
        }
    }
    let missing = message.needed[organization] & !named;
    if missing != 0 {
        found.push((Kind::Lost, format!("no record: {}; there are [{}]", tell(missing), ids())));
    }
    if twice != 0 {
        found.push((Kind::Doubled, format!("two records: {}; {}", tell(twice), ids())));
    }
    let never = named & !message.taken & !message.doubtful;
    if never != 0 {
        found.push((Kind::Wrong, format!("the next hop did not take it: {}; {}", tell(never), ids())));
    }
    if named != 0 && !letter.concerns(organization, message.taken | message.doubtful) {
        found.push((Kind::Wrong, format!("a record of nobody's message: {}; {}", tell(named), ids())));
    }
}

fn rows(books: &Books) -> Vec<(&'static str, u64)> {
    let taken = |wanted: fn(&RecordBook) -> bool| {
        books.records.values().filter(|record| record.takings > 0 && wanted(record)).count() as u64
    };
    let violations = |wanted: Kind| books.violations.iter().filter(|(kind, _)| *kind == wanted).count() as u64;
    let mut rows = vec![
        ("messages", books.messages.len() as u64),
        ("of them taken by the next hop", books.messages.values().filter(|message| message.taken != 0).count() as u64),
    ];
    rows.extend(books.counts.iter().map(|(what, count)| (*what, *count)));
    rows.extend([
        ("records taken by the archives", taken(|_| true)),
        ("of them supplements", taken(|record| record.supplement)),
        ("of them with an unknown outcome", taken(|record| record.unknown)),
        ("attempts that an archive had whole", books.records.values().map(|record| u64::from(record.ends)).sum()),
        ("repeats: the archive's reply was lost", books.repeats.reply_lost),
        ("repeats: the archive went down", books.repeats.archive_down),
        ("repeats: the relay was killed", books.repeats.daemon_killed),
        ("records lost", violations(Kind::Lost)),
        ("records or messages altered", violations(Kind::Altered)),
        ("records doubled without explanation", violations(Kind::Doubled)),
        ("anything else wrong", violations(Kind::Wrong) + books.untold),
    ]);
    rows
}
