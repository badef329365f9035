//! The load: many sessions on one event loop, as a good client sends. Envelopes are one group of commands (RFC 2920); content
//! goes with its final dot, and with the next envelope, in one call, once the server has said 354.
//!
//! Sessions are open and have greeted before the clock starts; each takes the next message when it has room for one. The end
//! of a round is everybody's last reply.

use crate::wire::{END, Gather, Replies};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is read at once: replies are short.
const BLOCK: usize = 16 * 1024;
/// Sessions that are being opened at a time.
const OPENING: usize = 100;

/// What kind of load.
#[derive(Debug, Clone)]
pub struct Shape {
    pub sessions: usize,
    /// Octets of a message.
    pub size: usize,
    pub recipients: usize,
    /// Whether a connection carries one message alone.
    pub is_single_use: bool,
    /// Whether the next envelope goes along with content.
    pub is_ahead: bool,
    /// Connections more that greet and then say nothing.
    pub idle: usize,
}

/// What the clients saw of a round.
#[derive(Debug)]
pub struct Outcome {
    pub start: Instant,
    /// Until the last reply.
    pub accepted: Duration,
    /// Of each message, from its content's first octet to its reply.
    pub waits: Vec<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    /// Nothing is under way.
    Rest,
    /// So many replies of the envelope are to come, the last one to DATA.
    Envelope(usize),
    Content(Instant),
    Bye,
    /// The server has taken leave.
    Gone,
}

struct Session {
    stream: TcpStream,
    replies: Replies,
    out: Gather,
    step: Step,
    /// Whether it never sends a message.
    is_idle: bool,
    /// The message whose envelope is out, and the one whose envelope went along with that one's content.
    number: u64,
    ahead: Option<u64>,
}

pub struct Load {
    server: SocketAddr,
    shape: Shape,
    poll: Poll,
    sessions: Vec<Session>,
    envelope: Vec<u8>,
    body: Rc<Vec<u8>>,
    /// Numbers given out in this round, and how many there are.
    next: u64,
    end: u64,
    done: u64,
    /// Given out in all rounds: no two messages are the same.
    numbers: u64,
    waits: Vec<Duration>,
    block: Vec<u8>,
    codes: Vec<u16>,
}

impl Load {
    /// Opens the sessions and waits until all have greeted.
    pub fn open(server: SocketAddr, shape: &Shape, until: Instant) -> Self {
        let recipients = (0..shape.recipients).map(|number| match number {
            0 => "RCPT TO:<bob@example.net>\r\n".to_owned(),
            number => format!("RCPT TO:<bob-{number}@example.net>\r\n"),
        });
        let recipients: String = recipients.collect();
        let envelope = format!("MAIL FROM:<alice@example.org> SIZE={}\r\n{recipients}DATA\r\n", shape.size);
        let mut load = Self {
            server,
            shape: shape.clone(),
            poll: Poll::new().expect("an event queue"),
            sessions: Vec::new(),
            envelope: envelope.into_bytes(),
            body: Rc::new(body(shape.size)),
            next: 0,
            end: 0,
            done: 0,
            numbers: 0,
            waits: Vec::new(),
            block: vec![0; BLOCK],
            codes: Vec::new(),
        };
        let wanted = shape.idle + if shape.is_single_use { 0 } else { shape.sessions };
        while load.sessions.len() < wanted {
            for _ in 0..OPENING.min(wanted - load.sessions.len()) {
                let is_idle = load.sessions.len() < shape.idle;
                load.connect(None, is_idle);
            }
            load.turn_until(until, |load| load.sessions.iter().all(|session| session.step == Step::Rest));
        }
        load
    }

    /// Sends so many messages.
    pub fn send(&mut self, count: u64, until: Instant) -> Outcome {
        (self.next, self.end, self.done) = (self.numbers, self.numbers + count, 0);
        self.numbers += count;
        self.waits.clear();
        self.waits.reserve(usize::try_from(count).expect("a moderate number"));
        let start = Instant::now();
        if self.shape.is_single_use {
            for place in 0..self.shape.sessions {
                let place = self.shape.idle + place;
                self.connect((place < self.sessions.len()).then_some(place), false);
            }
        } else {
            for number in self.shape.idle..self.sessions.len() {
                self.begin(number);
            }
        }
        self.turn_until(until, |load| load.done >= count);
        let accepted = start.elapsed();
        Outcome { start, accepted, waits: std::mem::take(&mut self.waits) }
    }

    /// A connection in the place of that one, or one more.
    fn connect(&mut self, place: Option<usize>, is_idle: bool) {
        let mut stream = TcpStream::connect(self.server).expect("a socket");
        let number = place.unwrap_or(self.sessions.len());
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), both).expect("a stream can be watched");
        let (replies, out) = (Replies::default(), Gather::default());
        let session = Session { stream, replies, out, step: Step::Greeting, is_idle, number: 0, ahead: None };
        match place {
            Some(place) => self.sessions[place] = session,
            None => self.sessions.push(session),
        }
    }

    fn turn_until(&mut self, until: Instant, is_done: impl Fn(&Self) -> bool) {
        let mut events = Events::with_capacity(1_024);
        while !is_done(self) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let steps: Vec<_> = self.sessions.iter().skip(self.shape.idle).map(|session| session.step).collect();
                panic!("the time of a round is over; {} messages are taken, and sessions are at {steps:?}", self.done);
            }
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.expect("events"),
            }
            for event in &events {
                self.serve(event.token().0, event);
            }
        }
    }

    fn serve(&mut self, number: usize, event: &Event) {
        if event.is_writable() {
            // What is not connected yet has nothing to write.
            self.sessions[number].flush();
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        loop {
            let session = &mut self.sessions[number];
            match session.stream.read(&mut self.block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) if session.step == Step::Bye => return self.anew(number),
                Ok(0) if session.step == Step::Gone => return,
                Ok(0) => panic!("the server ended a session in {:?}", session.step),
                Err(error) => panic!("a session in {:?}: {error}", session.step),
                Ok(count) => {
                    session.replies.take(&self.block[..count], &mut self.codes);
                    let mut codes = std::mem::take(&mut self.codes);
                    codes.drain(..).for_each(|code| self.answered(number, code));
                    self.codes = codes;
                    self.sessions[number].flush();
                    if self.sessions[number].step == Step::Gone {
                        return self.anew(number);
                    }
                    if count < BLOCK {
                        return;
                    }
                }
            }
        }
    }

    /// A session that carried its message makes room for the next one.
    fn anew(&mut self, number: usize) {
        if self.next < self.end {
            self.connect(Some(number), false);
        }
    }

    fn answered(&mut self, number: usize, code: u16) {
        let session = &mut self.sessions[number];
        match (session.step, code) {
            (Step::Greeting, 220) => {
                session.out.head.extend_from_slice(b"EHLO client.example.com\r\n");
                session.step = Step::Hello;
            }
            (Step::Hello, 250) => {
                session.step = Step::Rest;
                if self.shape.is_single_use && !session.is_idle {
                    self.begin(number);
                }
            }
            (Step::Envelope(1), 354) => self.content(number),
            (Step::Envelope(left @ 2..), 250) => session.step = Step::Envelope(left - 1),
            (Step::Content(since), 250) => {
                self.waits.push(since.elapsed());
                self.done += 1;
                if self.shape.is_single_use {
                    session.step = Step::Bye;
                } else if let Some(ahead) = session.ahead.take() {
                    session.number = ahead;
                    session.step = Step::Envelope(self.shape.recipients + 2);
                } else {
                    session.step = Step::Rest;
                    self.begin(number);
                }
            }
            (Step::Bye, 221) => session.step = Step::Gone,
            (step, code) => panic!("the server answers {code} in {step:?}"),
        }
    }

    /// The next message's envelope, if there is a message left.
    fn begin(&mut self, number: usize) {
        let Some(next) = self.next_number() else { return };
        let session = &mut self.sessions[number];
        session.number = next;
        session.out.head.extend_from_slice(&self.envelope);
        session.step = Step::Envelope(self.shape.recipients + 2);
        session.flush();
    }

    fn next_number(&mut self) -> Option<u64> {
        (self.next < self.end).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn content(&mut self, number: usize) {
        let ahead = if self.shape.is_ahead && !self.shape.is_single_use { self.next_number() } else { None };
        let session = &mut self.sessions[number];
        let message = session.number;
        write!(
            session.out.head,
            "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: load {message}\r\n\
             Date: Tue, 10 Nov 2026 10:00:00 +0000\r\nMessage-ID: <load-{message}@example.org>\r\nX-Number: {message:0100}\r\n\r\n"
        )
        .expect("a vector takes all");
        session.out.body = Some((Rc::clone(&self.body), self.body.len()));
        if self.shape.is_single_use {
            session.out.foot.extend_from_slice(b"QUIT\r\n");
        } else if ahead.is_some() {
            session.out.foot.extend_from_slice(&self.envelope);
        }
        session.ahead = ahead;
        session.step = Step::Content(Instant::now());
        session.flush();
    }
}

impl Session {
    fn flush(&mut self) {
        if !self.out.is_empty()
            && let Err(error) = self.out.write(&mut self.stream)
        {
            panic!("a session in {:?}: {error}", self.step);
        }
    }
}

/// Lines of text that, with a header of some 300 octets before them, make a message of that size; its final dot too.
fn body(size: usize) -> Vec<u8> {
    let line = b"The quick brown fox jumps over the lazy dog, and the relay keeps it all.\r\n";
    let lines = size.saturating_sub(300) / line.len() + 1;
    let mut body = line.repeat(lines);
    body.extend_from_slice(&END[2..]);
    body
}
