//! A server of a world: the next hop, an archive, or the report mailbox. It takes everything in quiet times; in others it
//! refuses, is late, breaks off, repeats itself or talks nonsense, at every stage of the protocol, as its dice say.

use super::dice::Dice;
use super::history::{Arrival, Chronicle, Peer, Said, Stage};
use super::net::Power;
use super::returns::Returns;
use super::trace::Trace;
use super::wire::Wire;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How long a server waits for the other side.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a server behaves from one moment to another.
#[derive(Debug, Clone, Default)]
pub struct Mood {
    pub from: u64,
    pub until: u64,
    /// How many of 100 answers are not as they should be.
    pub bad: u64,
    /// What the bad ones are, each as often as it stands here.
    pub kinds: Vec<Bad>,
}

/// What a server offers from one moment to another.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    pub from: u64,
    pub until: u64,
    /// It knows EHLO; else it refuses it, and HELO is what it knows (RFC 5321, section 4.1.1.1).
    pub extended: bool,
    pub eight_bit_mime: bool,
    pub chunking: bool,
}

/// An answer that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    NotNow,
    Never,
    /// The connection ends instead of the reply.
    Drop,
    /// The connection ends behind the reply.
    ReplyAndDrop,
    Late(u64),
    Twice,
    Nonsense,
    /// Nothing comes.
    Silence,
    /// 421 and the end.
    Closing,
}

/// What happens at the next end of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuse {
    /// Before the message is decided on.
    BeforeVerdict,
    /// When the reply has been written.
    BehindReply,
}

/// A server, shared by its connections.
#[derive(Clone)]
pub struct Server(Rc<Inner>);

struct Inner {
    peer: Peer,
    moods: Vec<Mood>,
    offers: Vec<Offer>,
    eight_bit_mime: bool,
    pipelining: bool,
    chunking: bool,
    dice: RefCell<Dice>,
    returns: Returns,
    chronicle: Chronicle,
    trace: Trace,
    power: Power,
    fuses: RefCell<Vec<Fuse>>,
}

/// How a server is made.
pub struct Setup {
    pub peer: Peer,
    pub moods: Vec<Mood>,
    /// What it offers at times; else all that it can.
    pub offers: Vec<Offer>,
    pub eight_bit_mime: bool,
    pub pipelining: bool,
    pub chunking: bool,
    pub dice: Dice,
    pub returns: Returns,
}

impl Server {
    pub fn new(setup: Setup, chronicle: Chronicle, trace: Trace, power: Power) -> Self {
        let Setup { peer, moods, offers, eight_bit_mime, pipelining, chunking, dice, returns } = setup;
        Self(Rc::new(Inner {
            peer,
            moods,
            offers,
            eight_bit_mime,
            pipelining,
            chunking,
            dice: RefCell::new(dice),
            returns,
            chronicle,
            trace,
            power,
            fuses: RefCell::default(),
        }))
    }

    /// The next end of data costs the relay its power.
    pub fn arm(&self, fuse: Fuse) {
        self.0.fuses.borrow_mut().push(fuse);
    }

    /// No end of data costs it any more.
    pub fn disarm(&self) {
        self.0.fuses.borrow_mut().clear();
    }

    /// Listens until the host ends.
    pub async fn run(self) -> turmoil::Result {
        let listener = turmoil::net::TcpListener::bind("0.0.0.0:25").await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let server = self.clone();
            #[allow(clippy::disallowed_methods, reason = "a peer is no part of the relay")]
            tokio::task::spawn_local(async move {
                let mut talk = Talk::over(server, Wire::new(stream, PATIENCE));
                // However a conversation ends, its end is all that follows.
                let _ = talk.hold().await;
            });
        }
    }

    fn bad(&self, now: u64) -> Option<Bad> {
        let mood = self.0.moods.iter().find(|mood| (mood.from..mood.until).contains(&now))?;
        let mut dice = self.0.dice.borrow_mut();
        if dice.chance(mood.bad) { Some(*dice.pick(&mood.kinds)) } else { None }
    }

    fn burn(&self, at: Fuse) {
        let mut fuses = self.0.fuses.borrow_mut();
        if let Some(place) = fuses.iter().position(|fuse| *fuse == at) {
            fuses.remove(place);
            self.0.trace.note(format!("the relay loses its power, {at:?} of {}", self.0.peer));
            self.0.power.switch_off();
        }
    }
}

struct Talk {
    server: Server,
    wire: Wire,
    /// MAIL, and the recipients.
    transaction: Option<(String, Vec<String>)>,
    /// It was offered here.
    eight_bit_mime: bool,
    /// What came in chunks so far.
    chunks: Vec<u8>,
}

/// How an answer went.
#[derive(PartialEq)]
struct Answered {
    /// The reply was positive as intended.
    good: bool,
    /// It was sent once and whole.
    whole: bool,
    /// The connection ends here.
    last: bool,
    number: u64,
    text: String,
}

impl Talk {
    fn over(server: Server, wire: Wire) -> Self {
        Self { server, wire, transaction: None, eight_bit_mime: false, chunks: Vec::new() }
    }

    async fn hold(&mut self) -> io::Result<()> {
        self.answer(Stage::Greeting, "220 ready").await?;
        loop {
            let line = self.wire.line().await?;
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.hello().await?,
                "HELO" => {
                    self.eight_bit_mime = false;
                    self.answer(Stage::Other, "250 2.0.0 hello").await?;
                }
                "MAIL" => {
                    self.transaction = None;
                    self.chunks.clear();
                    if self.answer(Stage::Mail, "250 2.1.0 sender ok").await?.good {
                        self.transaction = Some((path(&line), Vec::new()));
                    }
                }
                "RCPT" => {
                    let good = self.answer(Stage::Rcpt, "250 2.1.5 recipient ok").await?.good;
                    if let Some((_, recipients)) = self.transaction.as_mut().filter(|_| good) {
                        recipients.push(path(&line));
                    }
                }
                "DATA" => self.data().await?,
                "BDAT" => self.chunk(&line).await?,
                "QUIT" => {
                    self.answer(Stage::Other, "221 2.0.0 bye").await?;
                    return Ok(());
                }
                _ => {
                    self.transaction = None;
                    self.chunks.clear();
                    self.answer(Stage::Other, "250 2.0.0 ok").await?;
                }
            }
        }
    }

    async fn hello(&mut self) -> io::Result<()> {
        let inner = &self.server.0;
        let now = now();
        let offer = inner.offers.iter().find(|offer| (offer.from..offer.until).contains(&now));
        if offer.is_some_and(|offer| !offer.extended) {
            self.say(Stage::Ehlo, "502 5.5.1 what is EHLO?", "").await?;
            return Ok(());
        }
        self.eight_bit_mime = offer.map_or(inner.eight_bit_mime, |offer| offer.eight_bit_mime);
        let mut text =
            format!("250-{}\r\n250-SIZE 10000000\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n", inner.peer.host());
        if self.eight_bit_mime {
            text.push_str("250-8BITMIME\r\n");
        }
        if offer.map_or(inner.chunking, |offer| offer.chunking && inner.chunking) {
            text.push_str("250-CHUNKING\r\n");
        }
        if inner.pipelining {
            text.push_str("250-PIPELINING\r\n");
        }
        text.push_str("250 SMTPUTF8");
        self.answer(Stage::Ehlo, &text).await.map(drop)
    }

    async fn data(&mut self) -> io::Result<()> {
        let Some((from, recipients)) = self.transaction.take().filter(|(_, recipients)| !recipients.is_empty()) else {
            self.say(Stage::Data, "554 5.5.1 no valid recipients", "").await?;
            return Ok(());
        };
        if !self.answer(Stage::Data, "354 go ahead").await?.good {
            return Ok(());
        }
        let octets = self.wire.data().await?;
        self.arrived(from, recipients, octets).await
    }

    /// BDAT (RFC 3030, section 2): the octets come whatever is thought of them.
    async fn chunk(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split(' ').skip(1);
        let size = words.next().and_then(|size| size.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let is_last = words.next() == Some("LAST");
        let octets = self.wire.exactly(size).await?;
        if self.transaction.as_ref().is_none_or(|(_, recipients)| recipients.is_empty()) {
            self.say(Stage::Chunk, "503 5.5.1 no valid recipients", "").await?;
            return Ok(());
        }
        self.chunks.extend_from_slice(&octets);
        if is_last {
            let (from, recipients) = self.transaction.take().unwrap_or_default();
            let octets = std::mem::take(&mut self.chunks);
            return self.arrived(from, recipients, octets).await;
        }
        // One that says 250 once more is misunderstood by whoever has sent the last chunk, and nobody can know better.
        let bad = self.server.bad(now()).filter(|bad| *bad != Bad::Twice);
        let answered = self.answer_as(Stage::Chunk, &format!("250 2.0.0 {size} octets"), bad).await?;
        if !answered.good {
            self.transaction = None;
            self.chunks.clear();
        }
        if answered.last { Err(gone()) } else { Ok(()) }
    }

    /// The whole message is there.
    async fn arrived(&mut self, from: String, recipients: Vec<String>, octets: Vec<u8>) -> io::Result<()> {
        let octets = Arc::new(octets);
        self.server.burn(Fuse::BeforeVerdict);
        let inner = &self.server.0;
        let arrival = Arrival {
            at: inner.peer,
            when: now(),
            from,
            recipients,
            octets,
            taken: false,
            number: 0,
            reply: String::new(),
            replied: false,
            replied_at: u64::MAX,
            eight_bit_mime: self.eight_bit_mime,
        };
        let place = {
            let mut history = inner.chronicle.write();
            history.arrivals.push(arrival);
            history.arrivals.len() - 1
        };
        self.end(place).await
    }

    /// Decides on a message, notes the decision, and only then answers.
    async fn end(&mut self, place: usize) -> io::Result<()> {
        let bad = self.server.bad(now());
        let refuses = matches!(bad, Some(Bad::NotNow | Bad::Never | Bad::Closing));
        // What comes of it when the reply is lost is a matter of chance.
        let taken = !refuses
            && match bad {
                Some(Bad::Drop | Bad::Nonsense | Bad::Silence) => self.server.0.dice.borrow_mut().chance(50),
                _ => true,
            };
        let chronicle = self.server.0.chronicle.clone();
        chronicle.write().arrivals[place].taken = taken;
        self.server.0.trace.note(format!(
            "{} {} a message",
            self.server.0.peer,
            if taken { "takes" } else { "leaves" }
        ));
        if taken {
            let (from, octets) = {
                let history = chronicle.write();
                (history.arrivals[place].from.clone(), Arc::clone(&history.arrivals[place].octets))
            };
            self.server.0.returns.consider(self.server.0.peer, &from, &octets);
        }
        let answered = self.answer_as(Stage::Dot, "250 2.0.0 taken", bad).await;
        if let Ok(answered) = &answered {
            let mut history = chronicle.write();
            let arrival = &mut history.arrivals[place];
            arrival.number = answered.number;
            arrival.reply.clone_from(&answered.text);
            arrival.replied = answered.whole;
            arrival.replied_at = now();
        }
        self.server.burn(Fuse::BehindReply);
        if answered?.last { Err(gone()) } else { Ok(()) }
    }

    async fn answer(&mut self, stage: Stage, good: &str) -> io::Result<Answered> {
        let bad = self.server.bad(now());
        let answered = self.answer_as(stage, good, bad).await?;
        if answered.last { Err(gone()) } else { Ok(answered) }
    }

    async fn answer_as(&mut self, stage: Stage, good: &str, bad: Option<Bad>) -> io::Result<Answered> {
        if let Some(bad) = bad {
            self.server.0.trace.note(format!("{}: {bad:?} at {stage:?}", self.server.0.peer));
        }
        match bad {
            None => self.say(stage, good, "").await.map(|said| said.good(true)),
            Some(Bad::Late(millis)) => {
                sleep(Duration::from_millis(millis)).await;
                self.say(stage, good, "").await.map(|said| said.good(true))
            }
            Some(Bad::NotNow) => self.say(stage, "451 4.7.1 not now", "").await,
            // Nobody refuses QUIT or RSET for good.
            // And one that refuses EHLO is taken for a server that knows HELO alone.
            Some(Bad::Never) if matches!(stage, Stage::Other | Stage::Ehlo) => {
                self.say(stage, good, "").await.map(|said| said.good(true))
            }
            Some(Bad::Never) => self.say(stage, "550 5.7.1 never", "").await,
            Some(Bad::Closing) => {
                let said = self.say(stage, "421 4.3.2 closing", "").await?;
                Ok(Answered { last: true, ..said })
            }
            Some(Bad::ReplyAndDrop) => {
                let said = self.say(stage, good, "").await?;
                Ok(Answered { last: true, ..said.good(true) })
            }
            Some(Bad::Drop) => Err(gone()),
            Some(Bad::Twice) => {
                let said = self.say(stage, good, good).await?;
                Ok(Answered { whole: false, ..said.good(true) })
            }
            Some(Bad::Nonsense) => {
                self.wire.write(b"what do you mean?\r\n").await?;
                Err(gone())
            }
            Some(Bad::Silence) => {
                sleep(Duration::from_secs(3_600)).await;
                Err(gone())
            }
        }
    }

    /// Writes a reply with its number, and another text behind it.
    async fn say(&mut self, stage: Stage, text: &str, behind: &str) -> io::Result<Answered> {
        let number = {
            let number = self.server.0.chronicle.next_number();
            let said =
                Said { at: self.server.0.peer, stage, text: format!("{text} #{number}"), twice: !behind.is_empty() };
            self.server.0.chronicle.write().said.insert(number, said);
            number
        };
        // EHLO's last line is an extension, and takes no number.
        let text = if stage == Stage::Ehlo { text.to_owned() } else { format!("{text} #{number}") };
        let mut octets = format!("{text}\r\n");
        if !behind.is_empty() {
            octets.push_str(&format!("{behind} #{number}\r\n"));
        }
        self.wire.write(octets.as_bytes()).await?;
        Ok(Answered { good: false, whole: true, last: false, number, text })
    }
}

impl Answered {
    fn good(self, good: bool) -> Self {
        Self { good, ..self }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn path(line: &str) -> String {
    let behind = line.split_once('<').map_or("", |(_, behind)| behind);
    behind.split('>').next().unwrap_or_default().to_owned()
}

fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap())
}
