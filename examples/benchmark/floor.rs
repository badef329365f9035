//! The floor: a bare program that does the work as cheaply as sockets and disk allow, to compare with. It is no mail server.
//!
//! One event loop on one thread; one log that is as long as it will ever be before it starts, written in a ring; every
//! message that has come since the last time is in the log and on the disk (`fdatasync`) before any of them goes on. Then it
//! goes to the next hop over connections that stay open, its client is answered as the next hop answers, and the archive gets
//! it in a record. There is no recovery, no limit, no log for people, no retry, and whatever goes wrong ends it.

use crate::wire::{END, Gather, Inbound, Replies, Seen};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

/// Octets of the log, written before the first message.
const LOG: u64 = 128 << 20;
/// Content that is larger is written from where it lies.
const GATHERED: usize = 64 * 1024;
/// What is read at once.
const BLOCK: usize = 256 * 1024;
/// Tokens: the listener, the links, the clients.
const LISTENER: usize = 0;
const CLIENTS: usize = 1_000;
/// The record's parts around the message.
const BEFORE: &str = "From: journal@relay.example.org\r\nTo: archive@vault.example\r\nSubject: load\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=\"=_floor_0123456789abcdef\"\r\n\r\n--=_floor_0123456789abcdef\r\n\
    Content-Type: text/plain; charset=us-ascii\r\n\r\n";
const BETWEEN: &str = "\r\n--=_floor_0123456789abcdef\r\nContent-Type: message/rfc822\r\n\r\n";
const AFTER: &[u8] = b"\r\n--=_floor_0123456789abcdef--\r\n.\r\n";
const RECORD_ENVELOPE: &[u8] = b"MAIL FROM:<journal@relay.example.org>\r\nRCPT TO:<archive@vault.example>\r\nDATA\r\n";

/// The floor's own command line; the benchmark starts it.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    next_hop: SocketAddr,
    #[arg(long)]
    archive: SocketAddr,
    /// The log's file
    #[arg(long)]
    log: PathBuf,
    /// Connections to each of next hop and archive
    #[arg(long, default_value_t = 8)]
    links: usize,
}

/// A message on its way.
struct Message {
    client: usize,
    recipients: u32,
    envelope: Vec<u8>,
    /// With dots as they came, and the final one.
    content: Rc<Vec<u8>>,
}

struct Client {
    stream: TcpStream,
    inbound: Inbound,
    content: Vec<u8>,
    /// What came behind a message that is not answered yet.
    behind: Vec<u8>,
    is_waiting: bool,
    out: Gather,
    is_ending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    Rest,
    /// So many replies of the envelope are to come.
    Envelope(u32),
    Content,
}

/// A connection to the next hop or the archive.
struct Link {
    stream: TcpStream,
    replies: Replies,
    out: Gather,
    step: Step,
    /// What is under way, and what follows it at once.
    now: Option<Message>,
    ahead: Option<Message>,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// The next hop's, then the archive's.
    links: Vec<Link>,
    each: usize,
    /// For next hop and archive.
    waiting: [VecDeque<Message>; 2],
    log: File,
    at: u64,
    /// Written together at the end of a turn.
    gathered: Vec<u8>,
    arrived: Vec<Message>,
    block: Vec<u8>,
    codes: Vec<u16>,
}

/// Serves until it is ended.
pub fn run(place: &Place) -> ! {
    let log = File::create(&place.log).expect("the log");
    let zeros = vec![0; 1 << 20];
    (0..LOG / zeros.len() as u64).for_each(|part| log.write_all_at(&zeros, part * zeros.len() as u64).expect("room"));
    log.sync_all().expect("a disk");
    let poll = Poll::new().expect("an event queue");
    let mut links: Vec<_> = (0..2 * place.links)
        .map(|number| Link::open(if number < place.links { place.next_hop } else { place.archive }))
        .collect();
    let both = Interest::READABLE | Interest::WRITABLE;
    for (number, link) in links.iter_mut().enumerate() {
        poll.registry().register(&mut link.stream, Token(1 + number), both).expect("a stream can be watched");
    }
    let mut listener = TcpListener::bind(place.listen).expect("the address is free");
    poll.registry().register(&mut listener, Token(LISTENER), Interest::READABLE).expect("a listener can be watched");
    let mut floor = Floor {
        poll,
        listener,
        clients: Vec::new(),
        free: Vec::new(),
        links,
        each: place.links,
        waiting: Default::default(),
        log,
        at: 0,
        gathered: Vec::new(),
        arrived: Vec::new(),
        block: vec![0; BLOCK],
        codes: Vec::new(),
    };
    let mut events = Events::with_capacity(1_024);
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.expect("events"),
        }
        for event in &events {
            match event.token().0 {
                LISTENER => floor.accept(),
                number if number < CLIENTS => floor.serve_link(number - 1, event),
                number => floor.serve_client(number - CLIENTS, event),
            }
        }
        floor.commit();
    }
}

impl Floor {
    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            let number = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(CLIENTS + number), both).expect("a stream can be watched");
            let inbound = Inbound::keeping();
            let mut out = Gather::default();
            Inbound::greet(&mut out.head);
            let (content, behind) = (Vec::new(), Vec::new());
            let client = Client { stream, inbound, content, behind, is_waiting: false, out, is_ending: false };
            self.clients[number] = Some(client);
            self.flush(number);
        }
    }

    fn serve_client(&mut self, number: usize, event: &Event) {
        if event.is_writable() {
            self.flush(number);
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        loop {
            let Some(Some(client)) = self.clients.get_mut(number) else { return };
            let count = match client.stream.read(&mut self.block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return self.end(number),
                Ok(count) => count,
            };
            let block = std::mem::take(&mut self.block);
            self.take(number, &block[..count]);
            self.block = block;
            if count < BLOCK {
                return;
            }
        }
    }

    /// Octets of a client, up to a message that has to be answered first.
    fn take(&mut self, number: usize, octets: &[u8]) {
        let Some(Some(client)) = self.clients.get_mut(number) else { return };
        if client.is_waiting {
            client.behind.extend_from_slice(octets);
            return;
        }
        let content = &mut client.content;
        let (used, seen) = client.inbound.take(octets, &mut client.out.head, |part| content.extend_from_slice(part));
        match seen {
            Seen::Used => {}
            Seen::Quit => client.is_ending = true,
            Seen::Message => {
                client.is_waiting = true;
                client.behind.extend_from_slice(&octets[used..]);
                let (recipients, envelope) = (client.inbound.recipients, std::mem::take(&mut client.inbound.envelope));
                client.inbound.reset();
                let content = Rc::new(std::mem::take(&mut client.content));
                self.gathered.extend_from_slice(&envelope);
                if content.len() <= GATHERED {
                    self.gathered.extend_from_slice(&content);
                }
                self.arrived.push(Message { client: number, recipients, envelope, content });
            }
        }
        self.flush(number);
    }

    /// What has arrived in this turn is on the disk before it goes on.
    fn commit(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.write(&gathered);
        self.gathered = gathered;
        self.gathered.clear();
        for number in 0..self.arrived.len() {
            let content = Rc::clone(&self.arrived[number].content);
            if content.len() > GATHERED {
                self.write(&content);
            }
        }
        self.log.sync_data().expect("a disk");
        self.waiting[0].extend(self.arrived.drain(..));
        self.fill(0);
    }

    fn write(&mut self, octets: &[u8]) {
        if self.at + octets.len() as u64 > LOG {
            self.at = 0;
        }
        self.log.write_all_at(octets, self.at).expect("a disk");
        self.at += octets.len() as u64;
    }

    /// Messages that wait go to links that have room.
    fn fill(&mut self, side: usize) {
        for number in side * self.each..(side + 1) * self.each {
            if self.waiting[side].is_empty() {
                return;
            }
            if self.links[number].step == Step::Rest {
                self.links[number].now = self.waiting[side].pop_front();
                self.links[number].envelope(side);
                self.links[number].flush();
            }
        }
    }

    fn serve_link(&mut self, number: usize, event: &Event) {
        if event.is_writable() {
            self.links[number].flush();
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        loop {
            let link = &mut self.links[number];
            let count = match link.stream.read(&mut self.block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A round ends with its servers, and so does this.
                Ok(0) | Err(_) => std::process::exit(0),
                Ok(count) => count,
            };
            link.replies.take(&self.block[..count], &mut self.codes);
            let mut codes = std::mem::take(&mut self.codes);
            codes.drain(..).for_each(|code| self.answered(number, code));
            self.codes = codes;
            self.links[number].flush();
            if count < BLOCK {
                return;
            }
        }
    }

    fn answered(&mut self, number: usize, code: u16) {
        let side = number / self.each;
        let link = &mut self.links[number];
        match (link.step, code) {
            (Step::Greeting, 220) => {
                link.out.head.extend_from_slice(b"EHLO floor.example.org\r\n");
                link.step = Step::Hello;
            }
            (Step::Hello, 250) => {
                link.step = Step::Rest;
                self.fill(side);
            }
            (Step::Envelope(1), 354) => {
                link.ahead = self.waiting[side].pop_front();
                link.content(side);
            }
            (Step::Envelope(left @ 2..), 250) => link.step = Step::Envelope(left - 1),
            (Step::Content, 250) => {
                let message = link.now.take().expect("what was sent");
                link.step = Step::Rest;
                if let Some(ahead) = link.ahead.take() {
                    link.step = Step::Envelope(ahead.replies(side));
                    link.now = Some(ahead);
                }
                if side == 0 {
                    self.answer(message.client);
                    self.waiting[1].push_back(message);
                    self.fill(1);
                }
                self.fill(side);
            }
            (step, code) => panic!("a server answers {code} in {step:?}"),
        }
    }

    /// A client's message is taken; what it sent meanwhile is looked at.
    fn answer(&mut self, number: usize) {
        let Some(Some(client)) = self.clients.get_mut(number) else { return };
        client.out.head.extend_from_slice(b"250 2.0.0 Ok: queued as 4d2XyZ0aBcz1\r\n");
        client.is_waiting = false;
        let behind = std::mem::take(&mut client.behind);
        self.take(number, &behind);
        self.flush(number);
        if let Some(Some(client)) = self.clients.get_mut(number)
            && client.behind.is_empty()
        {
            client.behind = behind;
            client.behind.clear();
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(Some(client)) = self.clients.get_mut(number) else { return };
        if client.out.is_empty() {
            return;
        }
        match client.out.write(&mut client.stream) {
            Ok(true) if client.is_ending => self.end(number),
            Ok(_) => {}
            Err(_) => self.end(number),
        }
    }

    fn end(&mut self, number: usize) {
        if let Some(mut client) = self.clients[number].take() {
            let _ = self.poll.registry().deregister(&mut client.stream);
            // A client that left before its answer keeps its number, so that the answer goes to nobody else.
            if !client.is_waiting {
                self.free.push(number);
            }
        }
    }
}

impl Message {
    /// Replies to its envelope.
    fn replies(&self, side: usize) -> u32 {
        if side == 0 { self.recipients + 2 } else { 3 }
    }
}

impl Link {
    fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("a server");
        let (replies, out) = (Replies::default(), Gather::default());
        Self { stream, replies, out, step: Step::Greeting, now: None, ahead: None }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.out.write(&mut self.stream).expect("a connection that works");
        }
    }

    fn envelope(&mut self, side: usize) {
        let Some(message) = &self.now else { return };
        self.step = Step::Envelope(message.replies(side));
        Self::write_envelope(message, side, &mut self.out.head);
    }

    fn write_envelope(message: &Message, side: usize, out: &mut Vec<u8>) {
        if side == 0 {
            out.extend_from_slice(&message.envelope);
            out.extend_from_slice(b"DATA\r\n");
        } else {
            out.extend_from_slice(RECORD_ENVELOPE);
        }
    }

    /// The message, or the record that holds it, and the next envelope.
    fn content(&mut self, side: usize) {
        let message = self.now.as_ref().expect("its envelope was sent");
        self.step = Step::Content;
        if side == 0 {
            self.out.body = Some((Rc::clone(&message.content), message.content.len()));
        } else {
            write!(self.out.head, "{BEFORE}").expect("a vector takes all");
            self.out.head.extend_from_slice(&message.envelope);
            self.out.head.extend_from_slice(BETWEEN.as_bytes());
            // Its last line's end and the final dot stay behind; what follows begins with a line's end.
            let length = message.content.len().saturating_sub(END.len());
            self.out.body = Some((Rc::clone(&message.content), length));
            self.out.foot.extend_from_slice(AFTER);
        }
        if let Some(ahead) = &self.ahead {
            Self::write_envelope(ahead, side, &mut self.out.foot);
        }
    }
}
