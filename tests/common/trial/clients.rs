//! Clients that behave as a mail server's queue does: what is not answered with 2yz or 5yz is brought again, octet for
//! octet, to those recipients who have not been promised it yet.

use super::chance::Chance;
use super::ledger::Ledger;
use super::letter::Letter;
use crate::common::{Client, PATIENCE, stuff};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How clients behave.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Messages a second of all clients together; 0: as fast as they can.
    pub rate: u64,
    /// How often in a hundred a client hangs up in the middle of a message or before its reply.
    pub hangs_up: u64,
    /// The longest wait before a message is brought again.
    pub longest_wait: Duration,
    /// How long a client goes on once it was told to stop.
    pub patience: Duration,
}

/// What all clients share.
pub struct Load {
    pub address: SocketAddr,
    pub ledger: Arc<Ledger>,
    pub manners: Manners,
    next: AtomicU64,
    /// Promises so far.
    promises: AtomicU64,
    stopping: AtomicBool,
    start: Instant,
}

struct StopAtEnd<'a>(&'a Load);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// How one attempt ended for its recipients.
enum Outcome {
    /// 2yz for those; those are to be tried again.
    Taken { promised: u64, later: u64 },
    /// Everybody is to be tried again.
    Later,
    /// Nobody is.
    Never,
}

impl Load {
    pub fn new(address: SocketAddr, ledger: &Arc<Ledger>, manners: Manners) -> Arc<Self> {
        Arc::new(Self {
            address,
            ledger: Arc::clone(ledger),
            manners,
            next: AtomicU64::new(0),
            promises: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            start: Instant::now(),
        })
    }

    /// Waits, where there is nothing to wait for but time.
    pub fn pause(wait: Duration) {
        let end = Instant::now() + wait;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }

    /// Messages begun.
    pub fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Transactions that were answered with 2yz.
    pub fn promises(&self) -> u64 {
        self.promises.load(Ordering::Relaxed)
    }

    /// No further message begins.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Stops when what this gives is dropped, also by a panic.
    pub fn stop_at_end(&self) -> impl Drop + '_ {
        StopAtEnd(self)
    }

    /// One client, until it is told to stop and has brought its last message.
    pub fn run(&self, mut chance: Chance) {
        let mut connection = None;
        while !self.stopping.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if let Some(due) = (number * 1_000).checked_div(self.manners.rate) {
                // Let go while waiting for its turn: other clients then find a session free.
                Self::pause((self.start + Duration::from_millis(due)).saturating_duration_since(Instant::now()));
            }
            let letter = self.ledger.letter(number);
            for transaction in 0..letter.transactions.len() {
                self.bring(&letter, transaction, &mut connection, &mut chance);
            }
            if chance.hits(20) {
                connection = None;
            }
        }
    }

    /// Brings one transaction until nobody is left to bring it to.
    fn bring(&self, letter: &Letter, transaction: usize, connection: &mut Option<Client>, chance: &mut Chance) {
        let octets = letter.octets(transaction);
        self.ledger.begun(letter, transaction, &octets);
        let mut left = letter.transactions[transaction].iter().fold(0_u64, |mask, place| mask | 1 << place);
        let mut give_up = None;
        while left != 0 {
            match self.attempt(letter, left, &octets, connection, chance) {
                Ok(Outcome::Taken { promised, later }) => {
                    self.promises.fetch_add(1, Ordering::Relaxed);
                    self.ledger.promised(letter.number, promised);
                    left = later;
                }
                Ok(Outcome::Never) => {
                    self.ledger.count("transactions refused by the next hop");
                    return;
                }
                Ok(Outcome::Later) => self.ledger.count("attempts answered 4yz"),
                Err(_) => {
                    self.ledger.count("attempts whose connection was lost");
                    *connection = None;
                }
            }
            if left != 0 {
                if self.stopping.load(Ordering::Relaxed) {
                    let end = *give_up.get_or_insert_with(|| Instant::now() + self.manners.patience);
                    if Instant::now() > end {
                        self.ledger.count("transactions given up by their client");
                        return;
                    }
                }
                let longest = u64::try_from(self.manners.longest_wait.as_millis()).unwrap_or(u64::MAX);
                Self::pause(Duration::from_millis(chance.next(longest)));
            }
        }
    }

    fn attempt(
        &self,
        letter: &Letter,
        wanted: u64,
        octets: &[u8],
        connection: &mut Option<Client>,
        chance: &mut Chance,
    ) -> io::Result<Outcome> {
        let client = match connection {
            Some(client) => client,
            None => connection.insert(self.connect()?),
        };
        let names = letter.names(wanted);
        let pipelined = chance.hits(50);
        let mut lines = vec![format!("MAIL FROM:<{}>\r\n", letter.from)];
        lines.extend(names.iter().map(|name| format!("RCPT TO:<{name}>\r\n")));
        let mut replies = Vec::with_capacity(lines.len());
        if pipelined {
            client.try_send(lines.concat().as_bytes())?;
        }
        for line in &lines {
            if !pipelined {
                client.try_send(line.as_bytes())?;
            }
            replies.push(client.try_reply()?.code());
        }
        let of = |kind: u16| {
            let chosen = names.iter().zip(&replies[1..]).filter(|(_, code)| *code / 100 == kind);
            letter.mask(&chosen.map(|(name, _)| *name).collect::<Vec<_>>()).unwrap_or(0)
        };
        let (accepted, later) = (of(2), of(4));
        if replies[0] != 250 || accepted == 0 {
            // A server that drains, or is full of sessions, says so and goes.
            if replies.contains(&421) {
                *connection = None;
            } else {
                client.try_send(b"RSET\r\n")?;
                client.try_reply()?;
            }
            return Ok(if replies[0] != 250 || later != 0 { Outcome::Later } else { Outcome::Never });
        }
        self.data(letter, accepted, later, octets, connection, chance)
    }

    fn data(
        &self,
        letter: &Letter,
        accepted: u64,
        later: u64,
        octets: &[u8],
        connection: &mut Option<Client>,
        chance: &mut Chance,
    ) -> io::Result<Outcome> {
        let Some(client) = connection else { return Err(io::ErrorKind::NotConnected.into()) };
        client.try_send(b"DATA\r\n")?;
        let reply = client.try_reply()?;
        if reply.code() != 354 {
            *connection = None;
            return Ok(Outcome::Later);
        }
        let stuffed = stuff(octets);
        if chance.hits(self.manners.hangs_up) {
            self.ledger.count("hang-ups of clients in the middle of a message");
            let cut = chance.next(stuffed.len() as u64 - 4) as usize;
            client.try_send(&stuffed[..cut])?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Err(error) = client.try_send(&stuffed) {
            self.ledger.doubtful(letter.number, accepted);
            return Err(error);
        }
        if chance.hits(self.manners.hangs_up) {
            self.ledger.count("hang-ups of clients before the reply");
            self.ledger.doubtful(letter.number, accepted);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let reply = client.try_reply().inspect_err(|_| self.ledger.doubtful(letter.number, accepted))?;
        self.ledger.answered(letter.number, accepted);
        match reply.code() {
            code if code / 100 == 2 => Ok(Outcome::Taken { promised: accepted, later }),
            code if code / 100 == 5 && later == 0 => Ok(Outcome::Never),
            421 => {
                self.ledger.doubtful(letter.number, accepted);
                *connection = None;
                Ok(Outcome::Later)
            }
            _ => {
                // The relay's own words for a verdict that was lost, and for a spool that does not know what it holds.
                if ["451 4.4.1", "451 4.3.0"].iter().any(|own| reply.text().starts_with(own)) {
                    self.ledger.doubtful(letter.number, accepted);
                }
                Ok(Outcome::Later)
            }
        }
    }

    fn connect(&self) -> io::Result<Client> {
        let mut client = Client::try_connect(self.address, PATIENCE)?;
        if !client.greeting.is_taken() {
            return Err(io::Error::other(client.greeting.text()));
        }
        client.try_send(b"EHLO client.example.com\r\n")?;
        let reply = client.try_reply()?;
        if reply.is_taken() { Ok(client) } else { Err(io::Error::other(reply.text())) }
    }
}
