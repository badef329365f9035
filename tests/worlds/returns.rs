//! What servers send to the relay itself, some time after they have taken a record: delivery status notifications with the
//! record whole, with its header, cut off, or without it; about records that never were; twice; and strangers' mail to the
//! address that records come from. Records and reports also come back as they are, on a wrong way.

use super::client::RELAY;
use super::dice::Dice;
use super::history::{Chronicle, Peer, Returned};
use super::mail::USERS;
use super::trace::Trace;
use super::wire::{Wire, stuffed};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

/// Attempts at one mail.
const TRIES: u32 = 40;
/// How long the relay's reply is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// With the record as it was sent.
    Whole,
    /// With the record's header alone.
    Header,
    /// With the record cut off somewhere.
    Cut,
    /// A delay, which is no failure.
    Delay,
    /// Without a word about which record is meant.
    Nothing,
    /// About a record that never was.
    Foreign,
    /// No notification, with a null reverse-path.
    Stranger,
    /// Ordinary mail to the address.
    Letter,
    /// The record itself, or a report, forwarded to a user: our own mail comes back through the listener.
    Loop,
}

const KINDS: [Kind; 15] = [
    Kind::Whole,
    Kind::Whole,
    Kind::Whole,
    Kind::Whole,
    Kind::Header,
    Kind::Header,
    Kind::Cut,
    Kind::Delay,
    Kind::Nothing,
    Kind::Foreign,
    Kind::Stranger,
    Kind::Letter,
    Kind::Loop,
    Kind::Loop,
    Kind::Loop,
];

/// How a server sends back. Cheap to clone.
#[derive(Clone)]
pub struct Returns {
    /// How many of 100 records come back.
    pub percent: u64,
    /// When the last one may.
    pub until: u64,
    pub dice: Rc<RefCell<Dice>>,
    pub chronicle: Chronicle,
    pub trace: Trace,
    /// Jobs that are not done, those of clients counted.
    pub open: Rc<Cell<usize>>,
}

impl Returns {
    /// A server has taken a message; perhaps something comes of it.
    pub fn consider(&self, at: Peer, sender: &str, octets: &Arc<Vec<u8>>) {
        let mut dice = self.dice.borrow_mut();
        if now() >= self.until || !dice.chance(self.percent) {
            return;
        }
        let kind = match at {
            Peer::NextHop | Peer::Clients => return,
            Peer::Reports => Kind::Loop,
            Peer::One | Peer::Two => *dice.pick(&KINDS),
        };
        let times = if dice.chance(20) { 2 } else { 1 };
        let number = dice.draw();
        let to = if kind == Kind::Loop { (*dice.pick(&USERS)).to_owned() } else { sender.to_owned() };
        let octets_back = compose(kind, at, sender, octets, number);
        let letter = Letter { kind, at, sender: sender.to_owned(), to, octets: Arc::new(octets_back) };
        let about = field(octets, "X-Journal-Record");
        for _ in 0..times {
            let wait = Duration::from_millis(dice.between(200, 8_000));
            let (returns, letter, about) = (self.clone(), letter.clone(), about.clone());
            // Also when the host ends before the mail is sent.
            let job = Job::begin(&self.open);
            #[allow(clippy::disallowed_methods, reason = "a peer is no part of the relay")]
            tokio::task::spawn_local(async move {
                sleep(wait).await;
                returns.send(letter, about).await;
                drop(job);
            });
        }
    }

    async fn send(&self, letter: Letter, about: String) {
        let place = {
            let mut history = self.chronicle.write();
            let diagnostic = diagnostic(letter.at);
            let (at, kind) = (letter.at, letter.kind);
            let octets = Arc::clone(&letter.octets);
            let returned = Returned { at, kind, about, diagnostic, octets, began: now(), ended: u64::MAX, reply: None };
            history.returned.push(returned);
            history.returned.len() - 1
        };
        for _ in 0..TRIES {
            let wait = Duration::from_millis(self.dice.borrow_mut().between(500, 4_000));
            // A reply that is lost: perhaps it is kept, and the next attempt changes nothing.
            if let Ok(reply) = letter.converse().await
                && !reply.starts_with('4')
            {
                self.trace.note(format!("{} returns {:?}: {reply}", letter.at, letter.kind));
                let mut history = self.chronicle.write();
                history.returned[place].reply = Some(reply);
                history.returned[place].ended = now();
                return;
            }
            sleep(wait).await;
        }
    }
}

/// One job that is not done.
struct Job(Rc<Cell<usize>>);

impl Job {
    fn begin(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A mail to the relay itself.
#[derive(Clone)]
struct Letter {
    kind: Kind,
    at: Peer,
    /// Where records come from; nobody for reports.
    sender: String,
    to: String,
    octets: Arc<Vec<u8>>,
}

impl Letter {
    /// The reply that decides.
    async fn converse(&self) -> io::Result<String> {
        let stream = timeout(PATIENCE, TcpStream::connect((RELAY, 25))).await??;
        let mut wire = Wire::new(stream, PATIENCE);
        wire.reply().await?;
        let from = match self.kind {
            Kind::Letter => "eve@elsewhere.example",
            Kind::Loop => &self.sender,
            _ => "",
        };
        let lines = [
            format!("EHLO {}", self.at.host()),
            format!("MAIL FROM:<{from}>"),
            format!("RCPT TO:<{}>", self.to),
            "DATA".to_owned(),
        ];
        for line in lines {
            wire.write(format!("{line}\r\n").as_bytes()).await?;
            let reply = wire.reply().await?;
            if !reply.starts_with(['2', '3']) {
                return Ok(reply);
            }
        }
        wire.write(&stuffed(&self.octets)).await?;
        wire.reply().await
    }
}

/// Why, in a server's words.
fn diagnostic(at: Peer) -> String {
    format!("552 5.2.2 the mailbox at {at} is full")
}

fn compose(kind: Kind, at: Peer, sender: &str, octets: &[u8], number: u64) -> Vec<u8> {
    if matches!(kind, Kind::Stranger | Kind::Letter) {
        return format!("From: <eve@elsewhere.example>\r\nTo: <{sender}>\r\nSubject: hello\r\n\r\nWho are you?\r\n")
            .into();
    }
    if kind == Kind::Loop {
        let trace = format!("Received: from relay.example by {} with ESMTP; {number}\r\n", at.host());
        return [trace.as_bytes(), octets].concat();
    }
    let end = memchr::memmem::find(octets, b"\r\n\r\n").map_or(octets.len(), |end| end + 4);
    let (part, returned) = match kind {
        Kind::Whole | Kind::Delay => ("message/rfc822", octets.to_vec()),
        Kind::Header => ("text/rfc822-headers", octets[..end].to_vec()),
        Kind::Cut => {
            let room = u64::try_from(octets.len() - end).unwrap();
            let mut kept = octets[..end + usize::try_from(number % room.max(1)).unwrap()].to_vec();
            // Between CR and LF nobody cuts: the rest of the bounce would be no message to anybody.
            if kept.last() == Some(&b'\r') {
                kept.pop();
            }
            ("message/rfc822", kept)
        }
        Kind::Foreign => ("message/rfc822", foreign(octets, number)),
        _ => ("text/plain", b"It was too long ago.\r\n".to_vec()),
    };
    let action = if kind == Kind::Delay { "delayed" } else { "failed" };
    let head = format!(
        "From: <MAILER-DAEMON@{host}>\r\nTo: <{sender}>\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"=b{number}\"\r\n\r\n--=b{number}\r\n\
         Content-Type: text/plain\r\n\r\nThis is the mail system at {host}.\r\n\r\n--=b{number}\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {host}\r\n\r\n\
         Final-Recipient: rfc822; archive@{host}\r\nAction: {action}\r\nStatus: 5.2.2\r\n\
         Diagnostic-Code: smtp; {}\r\n\r\n--=b{number}\r\nContent-Type: {part}\r\n\r\n",
        diagnostic(at),
        host = at.host(),
    );
    [head.as_bytes(), &returned, format!("\r\n--=b{number}--\r\n").as_bytes()].concat()
}

/// The same record under another name, which was never given.
fn foreign(octets: &[u8], number: u64) -> Vec<u8> {
    let id = field(octets, "X-Journal-Record");
    let other = format!("{:0>16}", number % 1_000_000_000);
    let mut octets = octets.to_vec();
    if let Some(at) = memchr::memmem::find(&octets, id.as_bytes()).filter(|_| !id.is_empty()) {
        octets.splice(at..at + id.len(), other.into_bytes());
    }
    octets
}

/// The value of a header field.
pub fn field(octets: &[u8], name: &str) -> String {
    let start = format!("\r\n{name}: ");
    let Some(at) = memchr::memmem::find(octets, start.as_bytes()) else { return String::new() };
    let rest = &octets[at + start.len()..];
    let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
    String::from_utf8_lossy(&rest[..end]).into_owned()
}

fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap())
}
