//! Next hop and archive: two servers that take everything and count it, on one thread with one event loop, so that they leave
//! the machine to who is measured.
//!
//! They answer exactly and at once, or a while later: a server that is 20 ms away is one whose answers come 20 ms later, which
//! is what a dialogue sees of distance. They can be taken down and come back at their address. They end when they are dropped.

use crate::wire::{Gather, Inbound, Seen};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is read at once.
const BLOCK: usize = 256 * 1024;
/// Connections are numbered from here; below are the listeners and the waker.
const FIRST: usize = 8;
const WAKE: Token = Token(7);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    NextHop = 0,
    Archive = 1,
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    is_down: AtomicBool,
    /// When the last message came, and the first one since the server came up: nanoseconds since the start.
    last: AtomicU64,
    first: AtomicU64,
    /// When the first connection came since then.
    probed: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    sides: [Counter; 2],
    is_over: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Tells that it is now, unless it is told already. Only the sinks' own thread does.
    fn mark(&self, told: &AtomicU64) {
        if told.load(Ordering::Relaxed) == 0 {
            told.store(self.now(), Ordering::Release);
        }
    }
}

/// Both of them.
#[derive(Debug)]
pub struct Sinks {
    addresses: [SocketAddr; 2],
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    thread: crate::measure::Thread,
}

impl Sinks {
    /// Starts them at these addresses; answers of each come so much later.
    pub fn start(addresses: [SocketAddr; 2], away: [Duration; 2]) -> Self {
        let shared =
            Arc::new(Shared { start: Instant::now(), sides: Default::default(), is_over: AtomicBool::new(false) });
        let poll = Poll::new().expect("an event queue");
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).expect("a waker"));
        let (sender, receiver) = std::sync::mpsc::channel();
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut served = Served::new(poll, addresses, away, theirs);
            sender.send(crate::measure::Thread::current()).expect("who asked");
            served.run();
        });
        let thread = receiver.recv().expect("the sinks listen");
        Self { addresses, shared, waker, thread }
    }

    pub fn address(&self, side: Side) -> SocketAddr {
        self.addresses[side as usize]
    }

    pub fn count(&self, side: Side) -> u64 {
        self.counter(side).messages.load(Ordering::Acquire)
    }

    /// When the last message came.
    pub fn last(&self, side: Side) -> Instant {
        self.shared.start + Duration::from_nanos(self.counter(side).last.load(Ordering::Acquire))
    }

    /// When the first message came since the server was down.
    pub fn first(&self, side: Side) -> Option<Instant> {
        self.since_up(&self.counter(side).first)
    }

    /// When the first connection came since then.
    pub fn probed(&self, side: Side) -> Option<Instant> {
        self.since_up(&self.counter(side).probed)
    }

    fn since_up(&self, told: &AtomicU64) -> Option<Instant> {
        let told = told.load(Ordering::Acquire);
        (told > 0).then(|| self.shared.start + Duration::from_nanos(told))
    }

    /// Waits for so many messages; whether they came.
    pub fn wait(&self, side: Side, count: u64, until: Instant) -> bool {
        while self.count(side) < count {
            if Instant::now() > until {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        true
    }

    /// Takes the server down with all its connections, or up again.
    pub fn turn(&self, side: Side, is_down: bool) {
        self.counter(side).is_down.store(is_down, Ordering::Release);
        self.waker.wake().expect("the sinks run");
    }

    /// CPU time of both so far.
    pub fn cpu(&self) -> Duration {
        self.thread.cpu()
    }

    fn counter(&self, side: Side) -> &Counter {
        &self.shared.sides[side as usize]
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

struct Connection {
    stream: TcpStream,
    side: usize,
    inbound: Inbound,
    out: Gather,
    /// Whether it ends once everything is written.
    is_ending: bool,
}

/// A reply on its way from afar.
struct Late {
    due: Instant,
    connection: usize,
    /// Connections' numbers are used again; their streams' births are not.
    birth: u64,
    reply: Vec<u8>,
}

struct Served {
    poll: Poll,
    addresses: [SocketAddr; 2],
    listeners: [Option<TcpListener>; 2],
    away: [Duration; 2],
    late: [VecDeque<Late>; 2],
    connections: Vec<Option<(u64, Connection)>>,
    free: Vec<usize>,
    births: u64,
    shared: Arc<Shared>,
    block: Vec<u8>,
    replies: Vec<u8>,
}

impl Served {
    fn new(poll: Poll, addresses: [SocketAddr; 2], away: [Duration; 2], shared: Arc<Shared>) -> Self {
        let mut served = Self {
            poll,
            addresses,
            listeners: [None, None],
            away,
            late: Default::default(),
            connections: Vec::new(),
            free: Vec::new(),
            births: 0,
            shared,
            block: vec![0; BLOCK],
            replies: Vec::new(),
        };
        served.listen(0);
        served.listen(1);
        served
    }

    fn listen(&mut self, side: usize) {
        let mut listener = TcpListener::bind(self.addresses[side]).expect("the sink's address is free");
        self.poll
            .registry()
            .register(&mut listener, Token(side), Interest::READABLE)
            .expect("a listener can be watched");
        self.listeners[side] = Some(listener);
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(1_024);
        while !self.shared.is_over.load(Ordering::Acquire) {
            let next = self.late.iter().filter_map(VecDeque::front).map(|late| late.due).min();
            let patience = next.map(|due| due.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.expect("events"),
            }
            for event in &events {
                match event.token() {
                    WAKE => self.turn(),
                    Token(side @ 0..=1) => self.accept(side),
                    Token(number) => self.serve(number - FIRST, event),
                }
            }
            self.send_late();
        }
    }

    /// Servers that were taken down go, those that were brought up come back.
    fn turn(&mut self) {
        for side in 0..2 {
            let is_down = self.shared.sides[side].is_down.load(Ordering::Acquire);
            if is_down && self.listeners[side].take().is_some() {
                for number in 0..self.connections.len() {
                    if self.connections[number].as_ref().is_some_and(|(_, connection)| connection.side == side) {
                        self.end(number);
                    }
                }
            } else if !is_down && self.listeners[side].is_none() {
                self.shared.sides[side].first.store(0, Ordering::Release);
                self.shared.sides[side].probed.store(0, Ordering::Release);
                self.listen(side);
            }
        }
    }

    fn accept(&mut self, side: usize) {
        while let Some(Ok((mut stream, _))) = self.listeners[side].as_ref().map(TcpListener::accept) {
            let _ = stream.set_nodelay(true);
            let number = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(number + FIRST), both).expect("a stream can be watched");
            self.births += 1;
            let (inbound, out) = (Inbound::default(), Gather::default());
            self.connections[number] = Some((self.births, Connection { stream, side, inbound, out, is_ending: false }));
            self.shared.mark(&self.shared.sides[side].probed);
            Inbound::greet(&mut self.replies);
            self.answer(number);
        }
    }

    fn serve(&mut self, number: usize, event: &Event) {
        if event.is_writable() {
            self.flush(number);
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        loop {
            let Some(Some((_, connection))) = self.connections.get_mut(number) else { return };
            let count = match connection.stream.read(&mut self.block) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return self.end(number),
                Ok(count) => count,
            };
            let (mut from, mut messages) = (0, 0);
            while from < count {
                let (used, seen) = connection.inbound.take(&self.block[from..count], &mut self.replies, |_| {});
                from += used;
                match seen {
                    Seen::Used => {}
                    Seen::Message => {
                        messages += 1;
                        connection.inbound.reset();
                        self.replies.extend_from_slice(b"250 2.0.0 Ok: queued as 4d2XyZ0aBcz1\r\n");
                    }
                    Seen::Quit => {
                        connection.is_ending = true;
                        break;
                    }
                }
            }
            if messages > 0 {
                let counter = &self.shared.sides[connection.side];
                self.shared.mark(&counter.first);
                counter.last.store(self.shared.now(), Ordering::Release);
                counter.messages.fetch_add(messages, Ordering::AcqRel);
            }
            self.answer(number);
            // Less than was asked for is all that there is; the next octet makes an event.
            if count < BLOCK {
                return;
            }
        }
    }

    /// Sends the replies that have been made, or has them on their way for a while.
    fn answer(&mut self, number: usize) {
        let Some(Some((birth, connection))) = self.connections.get_mut(number) else { return };
        if self.replies.is_empty() {
            return;
        }
        let away = self.away[connection.side];
        if away.is_zero() {
            connection.out.head.extend_from_slice(&self.replies);
            self.replies.clear();
            self.flush(number);
        } else {
            let reply = std::mem::take(&mut self.replies);
            let late = Late { due: Instant::now() + away, connection: number, birth: *birth, reply };
            self.late[connection.side].push_back(late);
        }
    }

    fn send_late(&mut self) {
        for side in 0..2 {
            while self.late[side].front().is_some_and(|late| late.due <= Instant::now()) {
                let Some(late) = self.late[side].pop_front() else { return };
                if let Some(Some((birth, connection))) = self.connections.get_mut(late.connection)
                    && *birth == late.birth
                {
                    connection.out.head.extend_from_slice(&late.reply);
                    self.flush(late.connection);
                }
            }
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(Some((_, connection))) = self.connections.get_mut(number) else { return };
        if connection.out.is_empty() {
            return;
        }
        match connection.out.write(&mut connection.stream) {
            Ok(true) if connection.is_ending => self.end(number),
            Ok(_) => {}
            Err(_) => self.end(number),
        }
    }

    fn end(&mut self, number: usize) {
        if let Some((_, mut connection)) = self.connections[number].take() {
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.free.push(number);
        }
    }
}
