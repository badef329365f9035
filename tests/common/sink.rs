//! A server that takes mail and answers as it is told, as next hop or archive, and keeps what it was given octet for
//! octet.
//!
//! A script is asked at every stage of a conversation; where it has nothing to say the server behaves as a plain, willing
//! one. A [`Gate`] lets a test hold an answer back until something else has happened.

use super::wire::{Wire, unstuff};
use super::{PATIENCE, gave_up, own_loopback_address};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a willing server offers.
const EXTENSIONS: &str = "250-sink.example\n250-PIPELINING\n250-SIZE 104857600\n250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-SMTPUTF8\n250 DSN";

/// Where a conversation stands, and what the other side just said.
#[derive(Debug)]
pub enum Stage<'a> {
    /// Connected; the greeting is next.
    Greeting,
    /// The word behind EHLO or HELO.
    Ehlo(&'a str),
    /// What stands behind `MAIL FROM:`.
    Mail(&'a str),
    /// What stands behind `RCPT TO:`.
    Rcpt(&'a str),
    /// DATA was said.
    Data,
    /// The final dot (or the last chunk) has come.
    End(&'a Transaction),
    /// Any other command line.
    Other(&'a str),
}

/// What the server does at a stage.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Says this: whole reply lines with `\n` between them, sent with CRLF.
    Say(String),
    /// Closes the connection without a word.
    Drop,
    /// Says this and closes the connection.
    SayAndDrop(String),
    /// Waits for the gate, then does the other thing.
    Hold(Gate, Box<Answer>),
}

/// [`Answer::Say`], as a script's answer.
#[allow(clippy::unnecessary_wraps, reason = "scripts answer with an Option")]
pub fn say(text: &str) -> Option<Answer> {
    Some(Answer::Say(text.to_owned()))
}

/// [`Answer::Drop`], as a script's answer.
#[allow(clippy::unnecessary_wraps, reason = "scripts answer with an Option")]
pub fn drop_line() -> Option<Answer> {
    Some(Answer::Drop)
}

/// Closed until it is opened; then open for ever.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    waiting: usize,
}

impl Gate {
    pub fn open(&self) {
        lock(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    /// Waits until `count` stand before the gate.
    pub fn wait_for_arrivals(&self, count: usize) {
        let (state, changed) = &*self.0;
        let (state, timeout) = changed
            .wait_timeout_while(lock(state), PATIENCE, |state| state.waiting < count)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            gave_up("somebody at the gate", &state.waiting);
        }
    }

    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        state.waiting += 1;
        changed.notify_all();
        let _ =
            changed.wait_timeout_while(state, PATIENCE, |state| !state.open).unwrap_or_else(PoisonError::into_inner);
    }
}

/// One transaction that came to its end of data.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The number of the connection, from 1.
    pub connection: usize,
    /// The word behind EHLO or HELO.
    pub ehlo: String,
    /// What stood behind `MAIL FROM:`.
    pub mail: String,
    /// What stood behind each accepted `RCPT TO:`.
    pub rcpts: Vec<String>,
    /// The message, without the dots that DATA adds; empty when the server keeps none.
    pub octets: Vec<u8>,
    /// How many octets there were.
    pub size: usize,
    /// Whether it was answered with 2yz.
    pub taken: bool,
}

impl Transaction {
    /// The address in MAIL FROM, without brackets.
    pub fn reverse_path(&self) -> &str {
        path(&self.mail)
    }

    /// The addresses of the accepted recipients, without brackets.
    pub fn forward_paths(&self) -> Vec<&str> {
        self.rcpts.iter().map(|rcpt| path(rcpt)).collect()
    }
}

fn path(argument: &str) -> &str {
    argument.trim_start().strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(argument, |(path, _)| path)
}

type Script = dyn Fn(&Stage<'_>) -> Option<Answer> + Send + Sync;

struct State {
    transactions: Vec<Transaction>,
    commands: Vec<String>,
    connections: usize,
    open: usize,
    taken: usize,
    script: Arc<Script>,
    listening: bool,
    streams: Vec<(usize, TcpStream)>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    keep: bool,
}

/// The server; it stops when it is dropped.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Sink {
    /// A willing server that keeps everything.
    pub fn start() -> Self {
        Self::scripted(|_| None)
    }

    /// A server with a script.
    pub fn scripted(script: impl Fn(&Stage<'_>) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::build(true, script)
    }

    /// A willing server that only counts: for loads.
    pub fn counting() -> Self {
        Self::build(false, |_| None)
    }

    fn build(keep: bool, script: impl Fn(&Stage<'_>) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                transactions: Vec::new(),
                commands: Vec::new(),
                connections: 0,
                open: 0,
                taken: 0,
                script: Arc::new(script),
                listening: false,
                streams: Vec::new(),
            }),
            changed: Condvar::new(),
            keep,
        });
        let mut sink = Self { address: (own_loopback_address(), 0).into(), shared, listener: None };
        sink.up();
        sink
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The route URL that leads here, without TLS.
    pub fn route(&self) -> String {
        format!("smtp://{}?tls=none", self.address)
    }

    /// Changes what it answers from now on.
    pub fn script(&self, script: impl Fn(&Stage<'_>) -> Option<Answer> + Send + Sync + 'static) {
        lock(&self.shared.state).script = Arc::new(script);
    }

    /// Stops listening and closes every connection.
    pub fn down(&mut self) {
        {
            let mut state = lock(&self.shared.state);
            state.listening = false;
            for (_, stream) in &state.streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        if let Some(listener) = self.listener.take() {
            // The listener waits in accept; one connection makes it look.
            let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5));
            let _ = listener.join();
        }
        self.wait("all its connections closed", |state| (state.open == 0).then_some(()));
    }

    /// Listens, at the address it had before.
    pub fn up(&mut self) {
        let listener = listen(self.address).unwrap_or_else(|error| panic!("{}: {error}", self.address));
        self.address = listener.local_addr().unwrap_or(self.address);
        lock(&self.shared.state).listening = true;
        let shared = Arc::clone(&self.shared);
        self.listener = Some(std::thread::spawn(move || accept(&listener, &shared)));
    }

    /// Every transaction that came to its end of data, taken or not.
    pub fn transactions(&self) -> Vec<Transaction> {
        lock(&self.shared.state).transactions.clone()
    }

    /// The transactions answered with 2yz.
    pub fn taken(&self) -> Vec<Transaction> {
        let mut all = self.transactions();
        all.retain(|transaction| transaction.taken);
        all
    }

    /// How many were answered with 2yz.
    pub fn count(&self) -> usize {
        lock(&self.shared.state).taken
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        lock(&self.shared.state).connections
    }

    /// Every command line so far, of all connections.
    pub fn commands(&self) -> Vec<String> {
        lock(&self.shared.state).commands.clone()
    }

    /// Waits until `count` transactions were answered with 2yz; all of those.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Transaction> {
        self.wait(&format!("{count} messages taken"), |state| (state.taken >= count).then_some(()));
        self.taken()
    }

    /// Waits until `count` transactions came to their end of data, whatever they were answered; all of those.
    #[track_caller]
    pub fn wait_for_ends(&self, count: usize) -> Vec<Transaction> {
        self.wait(&format!("{count} ends of data"), |state| (state.transactions.len() >= count).then_some(()));
        self.transactions()
    }

    /// The same as [`Sink::wait_for`] with another end of patience; whether it came so far.
    pub fn wait_for_within(&self, count: usize, patience: Duration) -> bool {
        let state = lock(&self.shared.state);
        let result = self.shared.changed.wait_timeout_while(state, patience, |state| state.taken < count);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits until `count` command lines start with `word`.
    #[track_caller]
    pub fn wait_for_commands(&self, word: &str, count: usize) {
        self.wait(&format!("{count} times {word}"), |state| {
            (state.commands.iter().filter(|line| line.starts_with(word)).count() >= count).then_some(())
        });
    }

    #[track_caller]
    fn wait<T>(&self, awaited: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let found = format!("{} taken, {:?}", state.taken, state.commands);
                drop(state);
                gave_up(&format!("{awaited} at {}", self.address), &found);
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.listening = false;
        for (_, stream) in &state.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        if self.listener.take().is_some() {
            let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(5));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The standard library's queue of 128 overflows when hundreds connect at once; the kernel then answers with SYN cookies, a
/// lost third packet leaves the client alone with a connection that the server knows nothing of, and, since the server
/// speaks first in SMTP, both wait.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, 4_096)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        // Out of file descriptors, say: the next look may find one.
        let Ok((stream, _)) = listener.accept() else {
            super::program::pause();
            continue;
        };
        let number = {
            let mut state = lock(&shared.state);
            if !state.listening {
                return;
            }
            state.connections += 1;
            state.open += 1;
            let number = state.connections;
            if let Ok(copy) = stream.try_clone() {
                state.streams.push((number, copy));
            }
            number
        };
        let conversation = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = Conversation::new(stream, number, &conversation).and_then(|mut conversation| conversation.hold());
            let mut state = lock(&conversation.state);
            state.open -= 1;
            state.streams.retain(|(other, _)| *other != number);
            conversation.changed.notify_all();
        });
    }
}

/// What comes next in a conversation.
#[derive(PartialEq)]
enum Next {
    On,
    Close,
}

struct Conversation<'a> {
    wire: Wire,
    shared: &'a Shared,
    current: Transaction,
    replies: Vec<u8>,
}

impl<'a> Conversation<'a> {
    fn new(stream: TcpStream, connection: usize, shared: &'a Shared) -> io::Result<Self> {
        let wire = Wire::new(stream, PATIENCE * 10)?;
        let current = Transaction {
            connection,
            ehlo: String::new(),
            mail: String::new(),
            rcpts: Vec::new(),
            octets: Vec::new(),
            size: 0,
            taken: false,
        };
        Ok(Self { wire, shared, current, replies: Vec::new() })
    }

    fn hold(&mut self) -> io::Result<()> {
        if self.answer(&Stage::Greeting, "220 sink.example ESMTP")?.1 == Next::Close {
            return Ok(());
        }
        loop {
            if !self.wire.has_more() {
                self.flush()?;
            }
            let Some(line) = self.wire.line()? else { return Ok(()) };
            if self.shared.keep {
                lock(&self.shared.state).commands.push(line.clone());
                self.shared.changed.notify_all();
            }
            if self.obey(&line)? == Next::Close {
                return self.flush();
            }
        }
    }

    fn obey(&mut self, line: &str) -> io::Result<Next> {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let behind = |prefix: usize| line.get(prefix..).unwrap_or_default().to_owned();
        match verb.as_str() {
            "EHLO" | "HELO" => {
                let word = behind(5);
                self.current.ehlo.clone_from(&word);
                let willing = if verb == "EHLO" { EXTENSIONS } else { "250 sink.example" };
                Ok(self.answer(&Stage::Ehlo(&word), willing)?.1)
            }
            "MAIL" => {
                self.reset();
                let argument = behind("MAIL FROM:".len());
                let (taken, next) = self.answer(&Stage::Mail(&argument), "250 2.1.0 sender ok")?;
                if taken {
                    self.current.mail = argument;
                }
                Ok(next)
            }
            "RCPT" => {
                let argument = behind("RCPT TO:".len());
                let (taken, next) = self.answer(&Stage::Rcpt(&argument), "250 2.1.5 recipient ok")?;
                if taken {
                    self.current.rcpts.push(argument);
                }
                Ok(next)
            }
            "DATA" => self.data(),
            "BDAT" => self.bdat(line),
            "RSET" => {
                self.reset();
                Ok(self.answer(&Stage::Other(line), "250 2.0.0 forgotten")?.1)
            }
            "QUIT" => {
                self.answer(&Stage::Other(line), "221 2.0.0 bye")?;
                Ok(Next::Close)
            }
            "NOOP" => Ok(self.answer(&Stage::Other(line), "250 2.0.0 ok")?.1),
            _ => Ok(self.answer(&Stage::Other(line), "500 5.5.1 unknown command")?.1),
        }
    }

    fn data(&mut self) -> io::Result<Next> {
        if self.current.rcpts.is_empty() {
            self.say("554 5.5.1 no valid recipients")?;
            return Ok(Next::On);
        }
        let (_, next) = self.answer(&Stage::Data, "354 go ahead")?;
        let asked = self.replies.ends_with(b"\r\n") && last_line(&self.replies).starts_with(b"3");
        self.flush()?;
        if next == Next::Close || !asked {
            return Ok(next);
        }
        let Some(stuffed) = self.wire.stuffed_data()? else { return Ok(Next::Close) };
        self.current.size = stuffed.len();
        if self.shared.keep {
            self.current.octets = unstuff(&stuffed);
            self.current.size = self.current.octets.len();
        }
        self.end()
    }

    fn bdat(&mut self, line: &str) -> io::Result<Next> {
        let mut words = line.split(' ').skip(1);
        let length = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let Some(octets) = self.wire.exactly(length)? else { return Ok(Next::Close) };
        self.current.size += octets.len();
        if self.shared.keep {
            self.current.octets.extend_from_slice(&octets);
        }
        if last {
            return self.end();
        }
        self.say("250 2.0.0 chunk ok")?;
        Ok(Next::On)
    }

    /// The end of data: the transaction is noted before the answer goes out, so that whoever has read the answer finds it.
    fn end(&mut self) -> io::Result<Next> {
        let mut transaction = self.current.clone();
        self.reset();
        let script = Arc::clone(&lock(&self.shared.state).script);
        let answer = script(&Stage::End(&transaction)).unwrap_or_else(|| Answer::Say("250 2.0.0 taken".into()));
        let held = held(answer);
        transaction.taken = matches!(&held, Answer::Say(text) | Answer::SayAndDrop(text) if text.starts_with('2'));
        {
            let mut state = lock(&self.shared.state);
            state.taken += usize::from(transaction.taken);
            if self.shared.keep {
                state.transactions.push(transaction);
            }
            self.shared.changed.notify_all();
        }
        self.perform(held).map(|(_, next)| next)
    }

    fn reset(&mut self) {
        self.current.mail.clear();
        self.current.rcpts.clear();
        self.current.octets = Vec::new();
        self.current.size = 0;
    }

    /// Asks the script, else says `willing`; whether that was a 2yz.
    fn answer(&mut self, stage: &Stage<'_>, willing: &str) -> io::Result<(bool, Next)> {
        let script = Arc::clone(&lock(&self.shared.state).script);
        let answer = script(stage).unwrap_or_else(|| Answer::Say(willing.to_owned()));
        self.perform(held(answer))
    }

    fn perform(&mut self, answer: Answer) -> io::Result<(bool, Next)> {
        match answer {
            Answer::Say(text) => {
                self.say(&text)?;
                Ok((text.starts_with('2'), Next::On))
            }
            Answer::SayAndDrop(text) => {
                self.say(&text)?;
                self.flush()?;
                Ok((text.starts_with('2'), Next::Close))
            }
            Answer::Drop => {
                self.flush()?;
                let _ = self.wire.stream().shutdown(Shutdown::Both);
                Ok((false, Next::Close))
            }
            Answer::Hold(_, answer) => self.perform(*answer),
        }
    }

    /// Keeps the reply until the other side waits for it (RFC 2920, section 3.2).
    fn say(&mut self, text: &str) -> io::Result<()> {
        for line in text.split('\n') {
            self.replies.extend_from_slice(line.as_bytes());
            self.replies.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let replies = std::mem::take(&mut self.replies);
        if replies.is_empty() { Ok(()) } else { self.wire.write(&replies) }
    }
}

/// Waits at the gates of an answer; what is behind them.
fn held(answer: Answer) -> Answer {
    match answer {
        Answer::Hold(gate, answer) => {
            gate.pass();
            held(*answer)
        }
        other => other,
    }
}

fn last_line(replies: &[u8]) -> &[u8] {
    let body = replies.strip_suffix(b"\r\n").unwrap_or(replies);
    body.rsplit(|octet| *octet == b'\n').next().unwrap_or(body)
}
