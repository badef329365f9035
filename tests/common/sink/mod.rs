//! A server that takes mail and answers as it is told, as next hop or archive, and keeps what it was given octet for
//! octet.
//!
//! A script is asked at every stage of a conversation; where it has nothing to say the server behaves as a plain, willing
//! one. A [`Gate`] lets a test hold an answer back until something else has happened.

mod conversation;

use super::{PATIENCE, gave_up, own_loopback_address};
use conversation::Conversation;
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
    /// When it began.
    pub connected: Instant,
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
    keep: Keep,
}

/// What becomes of what a server is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// It stays.
    All,
    /// The script sees it, then it is gone.
    ForScript,
    /// It is counted.
    Nothing,
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
        Self::build(Keep::All, script)
    }

    /// A willing server that only counts: for loads.
    pub fn counting() -> Self {
        Self::build(Keep::Nothing, |_| None)
    }

    /// A server whose script sees everything and which keeps nothing: for long trials.
    pub fn passing(script: impl Fn(&Stage<'_>) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::build(Keep::ForScript, script)
    }

    fn build(keep: Keep, script: impl Fn(&Stage<'_>) -> Option<Answer> + Send + Sync + 'static) -> Self {
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
                // A child that is just being started holds a copy of the socket until it runs; closed here alone, it would go on
                // taking connections for a moment.
                let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
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
