//! A message and how it is brought, made out of a seed and a number: whoever knows both knows every octet, so that nobody
//! needs to keep it.

use super::chance::Chance;
use super::organization_of;

/// The most recipients of a message; a set of them is a mask of 64 bits.
const MOST_RECIPIENTS: u64 = 40;
/// What every Message-ID begins with; the number follows.
const MESSAGE_ID: &[u8] = b"\r\nMessage-ID: <trial-";

/// The plan of a message.
#[derive(Debug, Clone)]
pub struct Letter {
    pub number: u64,
    pub from: String,
    /// Everybody, each once. The next hop knows nobody whose name begins with `nobody`.
    pub recipients: Vec<String>,
    /// The recipients of each transaction, as places in `recipients`. One who stands in two is sent the message twice.
    pub transactions: Vec<Vec<usize>>,
    size: u64,
    chance: Chance,
}

impl Letter {
    /// The message `number` of the trial `seed`, of at most `largest` octets or a little more.
    pub fn new(seed: u64, number: u64, largest: u64) -> Self {
        let mut chance = Chance(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let from = match chance.next(100) {
            0..45 => person(&mut chance, "example.org"),
            45..70 => person(&mut chance, "beta.example"),
            _ => person(&mut chance, "example.net"),
        };
        let count = if chance.hits(2) { chance.between(20, MOST_RECIPIENTS) } else { chance.between(1, 7) };
        let mut recipients: Vec<String> = (0..count)
            .map(|_| {
                let domain =
                    ["example.org", "beta.example", "example.net", "elsewhere.example"][chance.next(4) as usize];
                person(&mut chance, domain)
            })
            .collect();
        if chance.hits(5) {
            recipients.push(format!("nobody{}@example.net", chance.next(9)));
        }
        recipients.sort();
        recipients.dedup();
        let transactions = split(&mut chance, recipients.len());
        let size = match chance.next(100) {
            0..70 => chance.between(1 << 10, 8 << 10),
            70..95 => chance.between(8 << 10, 128 << 10),
            _ => chance.between(128 << 10, 2 << 20),
        };
        Self { number, from, recipients, transactions, size: size.min(largest), chance }
    }

    /// The octets as the transaction at that place brings them: transactions differ in a trace field, as those of a message
    /// that came by several ways do.
    pub fn octets(&self, transaction: usize) -> Vec<u8> {
        let mut octets = String::with_capacity(self.size as usize + 1024);
        octets.push_str(&format!("Received: from origin.example by mx{transaction}.example.com; t{transaction}\r\n"));
        let (listed, hidden) = self.recipients.split_at(self.recipients.len().div_ceil(2));
        octets.push_str(&format!(
            "From: <{}>\r\nTo: {}\r\nSubject: trial {}, {} hidden\r\nDate: Tue, 10 Nov 2026 10:00:00 +0000\r\nMessage-ID: <trial-{}@{}>\r\n\r\n",
            self.from,
            listed.join(",\r\n "),
            self.number,
            hidden.len(),
            self.number,
            self.from.rsplit('@').next().unwrap_or_default(),
        ));
        const TEXT: &str = "..The quick brown fox. .jumps over = the lazy dog;\t--_and the relay_ keeps it all From start to end, 0123456789.";
        let mut chance = self.chance.clone();
        while (octets.len() as u64) < self.size {
            let start = chance.next(60) as usize;
            let end = start + chance.next((TEXT.len() - start) as u64) as usize;
            octets.push_str(&TEXT[start..end]);
            octets.push_str("\r\n");
        }
        octets.into_bytes()
    }

    /// The set of those recipients; none when one of them is not the letter's.
    pub fn mask(&self, addresses: &[&str]) -> Option<u64> {
        addresses.iter().try_fold(0, |mask, address| {
            let place = self.recipients.iter().position(|known| known == address)?;
            Some(mask | 1 << place)
        })
    }

    /// The addresses of a set.
    pub fn names(&self, mask: u64) -> Vec<&str> {
        let places = self.recipients.iter().enumerate().filter(|(place, _)| mask >> place & 1 == 1);
        places.map(|(_, address)| address.as_str()).collect()
    }

    /// Whether an organization has a part in a transaction with those recipients.
    pub fn concerns(&self, organization: usize, mask: u64) -> bool {
        let is_own = |address: &&str| organization_of(address) == Some(organization);
        is_own(&self.from.as_str()) || self.names(mask).iter().any(is_own)
    }

    /// The number of the letter that those octets are.
    pub fn number_in(octets: &[u8]) -> Option<u64> {
        let behind = octets.get(memchr::memmem::find(octets, MESSAGE_ID)? + MESSAGE_ID.len()..)?;
        let digits = behind.get(..memchr::memchr(b'@', behind)?)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

fn person(chance: &mut Chance, domain: &str) -> String {
    format!("user{}@{domain}", chance.next(50))
}

/// Most messages take one transaction; some are split over two or three, some are sent once more to some of their
/// recipients.
fn split(chance: &mut Chance, recipients: usize) -> Vec<Vec<usize>> {
    let mut transactions = vec![Vec::new(); if chance.hits(15) { chance.between(2, 4) as usize } else { 1 }];
    let count = transactions.len() as u64;
    for place in 0..recipients {
        transactions[chance.next(count) as usize].push(place);
    }
    transactions.retain(|transaction| !transaction.is_empty());
    if chance.hits(5) {
        let again = transactions[chance.next(transactions.len() as u64) as usize].clone();
        transactions.push(again);
    }
    transactions
}
