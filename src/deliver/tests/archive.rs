//! An archive that says what a test tells it to, on a loopback port, and remembers every octet it heard.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What the archive does when a command comes.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Says these octets; closes after a 421.
    Say(&'static str),
    /// Closes without a word.
    Hang,
    /// Says nothing and waits until the client goes.
    Wait,
    /// Does as usual, once this says so.
    Once(watch::Receiver<bool>),
}

/// What has been heard.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Connections made.
    pub(super) connections: usize,
    /// Those open now, and the most there ever were.
    pub(super) open: usize,
    pub(super) most_open: usize,
    /// Every command line, STARTTLS and AUTH included, with the number of its connection.
    pub(super) lines: Vec<(usize, String)>,
    /// Letters that were ended by the dot, as octets after dot-unstuffing, accepted or not.
    pub(super) letters: Vec<Vec<u8>>,
    /// Data that broke off: the octets on the wire.
    pub(super) broken: Vec<Vec<u8>>,
    /// Conversations that went on over TLS.
    pub(super) tls: usize,
}

impl Heard {
    /// The command lines that start with `verb`.
    pub(super) fn of(&self, verb: &str) -> Vec<&str> {
        self.lines.iter().map(|(_, line)| line.as_str()).filter(|line| line.starts_with(verb)).collect()
    }
}

/// The archive, until it is dropped.
pub(super) struct Archive {
    pub(super) address: SocketAddr,
    heard: watch::Sender<Heard>,
    task: tokio::task::JoinHandle<()>,
}

/// How an archive behaves.
#[derive(Clone, Default)]
pub(super) struct Script {
    acts: HashMap<&'static str, VecDeque<Act>>,
    /// Keywords in the reply to EHLO.
    offers: Vec<&'static str>,
    tls: Option<TlsAcceptor>,
    implicit_tls: bool,
    speaks_lmtp: bool,
}

impl Script {
    /// Takes LHLO and no EHLO.
    pub(super) fn speaking_lmtp(self) -> Self {
        Self { speaks_lmtp: true, ..self }
    }

    pub(super) fn offering(offers: &[&'static str]) -> Self {
        Self { offers: offers.to_vec(), ..Self::default() }
    }

    /// With a certificate; from the first octet, or behind STARTTLS.
    pub(super) fn with_tls(self, acceptor: TlsAcceptor, implicit_tls: bool) -> Self {
        Self { tls: Some(acceptor), implicit_tls, ..self }
    }

    /// Does `act` at the next `verb` that has no act yet. `greeting` and `.` count as verbs.
    pub(super) fn on(mut self, verb: &'static str, act: Act) -> Self {
        self.acts.entry(verb).or_default().push_back(act);
        self
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Wire = BufReader<Box<dyn Stream>>;

impl Archive {
    #[allow(clippy::disallowed_methods, reason = "a test's own task, ended with the archive")]
    pub(super) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = watch::Sender::new(Heard::default());
        let (told, script) = (heard.clone(), Arc::new(Mutex::new(script)));
        let task = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (told, script) = (told.clone(), Arc::clone(&script));
                conversations.spawn(async move {
                    let mut number = 0;
                    told.send_modify(|heard| {
                        heard.connections += 1;
                        heard.open += 1;
                        heard.most_open = heard.most_open.max(heard.open);
                        number = heard.connections;
                    });
                    let mut conversation = Conversation { script, told: told.clone(), number };
                    let _ = conversation.hold(Box::new(stream)).await;
                    told.send_modify(|heard| heard.open -= 1);
                });
            }
        });
        Self { address, heard, task }
    }

    /// Everything heard so far.
    pub(super) fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits until what was heard is as wanted.
    pub(super) async fn hears(&self, wanted: impl FnMut(&Heard) -> bool) -> Heard {
        self.heard.subscribe().wait_for(wanted).await.unwrap().clone()
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Conversation {
    script: Arc<Mutex<Script>>,
    told: watch::Sender<Heard>,
    number: usize,
}

/// The conversation is over.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl Conversation {
    async fn hold(&mut self, stream: Box<dyn Stream>) -> Result<(), Over> {
        let script = self.script.lock().unwrap().clone();
        let mut wire = BufReader::new(stream);
        if script.implicit_tls {
            wire = self.encrypt(wire, &script).await?;
        }
        self.act(&mut wire, "greeting", "220 archive.example ESMTP\r\n").await?;
        loop {
            let mut line = Vec::new();
            if wire.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let line = String::from_utf8(line).unwrap();
            let line = line.strip_suffix("\r\n").expect("commands end in CRLF").to_owned();
            let verb = line.split(' ').next().unwrap().to_owned();
            self.told.send_modify(|heard| heard.lines.push((self.number, line)));
            match verb.as_str() {
                "EHLO" | "LHLO" if script.speaks_lmtp == (verb == "LHLO") => {
                    let mut reply = "250-archive.example greets you\r\n".to_owned();
                    script.offers.iter().for_each(|offer| reply.push_str(&format!("250-{offer}\r\n")));
                    self.act(&mut wire, "EHLO", &format!("{reply}250 HELP\r\n")).await?;
                }
                "STARTTLS" => {
                    self.act(&mut wire, "STARTTLS", "220 go ahead\r\n").await?;
                    wire = self.encrypt(wire, &script).await?;
                }
                "AUTH" => drop(self.act(&mut wire, "AUTH", "235 2.7.0 welcome\r\n").await?),
                "MAIL" => drop(self.act(&mut wire, "MAIL", "250 2.1.0 sender\r\n").await?),
                "RCPT" => drop(self.act(&mut wire, "RCPT", "250 2.1.5 recipient\r\n").await?),
                "RSET" => drop(self.act(&mut wire, "RSET", "250 2.0.0 reset\r\n").await?),
                "DATA" => {
                    if self.act(&mut wire, "DATA", "354 go on\r\n").await?.starts_with('3') {
                        self.take_data(&mut wire).await?;
                        self.act(&mut wire, ".", "250 2.0.0 kept\r\n").await?;
                    }
                }
                "QUIT" => {
                    self.act(&mut wire, "QUIT", "221 2.0.0 bye\r\n").await?;
                    return Ok(());
                }
                _ => {
                    // The lines of AUTH LOGIN.
                    self.act(&mut wire, "", "500 5.5.1 what?\r\n").await?;
                }
            }
        }
    }

    async fn act(&self, wire: &mut Wire, verb: &'static str, usual: &str) -> Result<String, Over> {
        let act = self.script.lock().unwrap().acts.get_mut(verb).and_then(VecDeque::pop_front);
        let reply = match act {
            None => usual.to_owned(),
            Some(Act::Say(reply)) => reply.to_owned(),
            Some(Act::Hang) => return Err(Over),
            Some(Act::Once(mut open)) => {
                open.wait_for(|open| *open).await.map_err(|_| Over)?;
                usual.to_owned()
            }
            Some(Act::Wait) => {
                let mut rest = Vec::new();
                let _ = tokio::io::AsyncReadExt::read_to_end(wire, &mut rest).await;
                return Err(Over);
            }
        };
        wire.write_all(reply.as_bytes()).await?;
        wire.flush().await?;
        if reply.starts_with("421") { Err(Over) } else { Ok(reply) }
    }

    async fn encrypt(&self, wire: Wire, script: &Script) -> Result<Wire, Over> {
        let acceptor = script.tls.clone().ok_or(Over)?;
        let stream = acceptor.accept(wire.into_inner()).await?;
        self.told.send_modify(|heard| heard.tls += 1);
        Ok(BufReader::new(Box::new(stream)))
    }

    /// Reads to the final dot (RFC 5321, section 4.1.1.4), octet for octet.
    async fn take_data(&self, wire: &mut Wire) -> Result<(), Over> {
        let mut octets = Vec::new();
        while octets != b".\r\n" && !octets.ends_with(b"\r\n.\r\n") {
            if wire.read_until(b'\n', &mut octets).await.unwrap_or(0) == 0 {
                self.told.send_modify(|heard| heard.broken.push(octets));
                return Err(Over);
            }
        }
        octets.truncate(octets.len() - 3);
        self.told.send_modify(|heard| heard.letters.push(unstuffed(&octets)));
        Ok(())
    }
}

/// Takes the dot away that stands for itself at the start of a line (RFC 5321, section 4.5.2). Only CRLF ends a line.
fn unstuffed(octets: &[u8]) -> Vec<u8> {
    let mut plain: Vec<u8> = Vec::new();
    for (place, octet) in octets.iter().enumerate() {
        let starts_line = place == 0 || octets[..place].ends_with(b"\r\n");
        if !(starts_line && *octet == b'.') {
            plain.push(*octet);
        }
    }
    plain
}
