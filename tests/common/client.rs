//! A client that sends exactly the octets it is given and reads replies as they stand.

use super::wire::Wire;
use super::{Authority, PATIENCE};
use std::fmt;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// A reply as it stood on the wire: the lines without their line ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    pub lines: Vec<String>,
}

impl Reply {
    /// The three digits; 0 when there are none.
    pub fn code(&self) -> u16 {
        self.lines.last().and_then(|line| line.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// All lines, with `\n` between them.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    pub fn is_taken(&self) -> bool {
        self.code() / 100 == 2
    }

    /// Ends the test unless the reply starts so.
    #[track_caller]
    pub fn starts(&self, expected: &str) -> &Self {
        assert!(self.text().starts_with(expected), "expected a reply {expected:?}, got {self:?}");
        self
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// One connection.
pub struct Client {
    wire: Wire,
    /// What the server said first.
    pub greeting: Reply,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address, PATIENCE).unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// The same, where a refusal is an answer too.
    pub fn try_connect(address: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        let mut client = Self { wire: Wire::new(stream, patience)?, greeting: Reply { lines: Vec::new() } };
        client.greeting = client.try_reply()?;
        Ok(client)
    }

    /// Connects and says EHLO.
    pub fn ehlo(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.greeting.starts("220");
        client.command("EHLO client.example.com").starts("250");
        client
    }

    /// STARTTLS, the handshake, EHLO; gives the certificate that was shown, and what is offered now.
    #[track_caller]
    pub fn start_tls(&mut self, authority: &Authority, name: &str) -> (Vec<u8>, Reply) {
        self.command("STARTTLS").starts("220");
        let shown = self.encrypt(authority, name).unwrap_or_else(|error| panic!("the handshake failed: {error}"));
        let offers = self.command("EHLO client.example.com");
        offers.starts("250");
        (shown, offers)
    }

    /// The handshake alone.
    pub fn encrypt(&mut self, authority: &Authority, name: &str) -> std::io::Result<Vec<u8>> {
        self.wire.encrypt(authority.client(), name)
    }

    /// Connects to a listener that is encrypted from the first octet.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, authority: &Authority, name: &str) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        let wire = Wire::new(stream, PATIENCE).expect("a socket");
        let mut client = Self { wire, greeting: Reply { lines: Vec::new() } };
        client.encrypt(authority, name).unwrap_or_else(|error| panic!("the handshake failed: {error}"));
        client.greeting = client.reply();
        client
    }

    /// A client whose connection comes from `source`, an address of this machine; nothing is read or said yet.
    #[track_caller]
    pub fn from(source: Ipv4Addr, address: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddrV4::new(source, 0)).expect("an address of this machine");
        connect(&socket, &address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
        let wire = Wire::new(TcpStream::from(socket), PATIENCE).expect("a socket");
        Self { wire, greeting: Reply { lines: Vec::new() } }
    }

    /// The greeting, and EHLO.
    #[track_caller]
    pub fn greeted(mut self) -> Self {
        self.greeting = self.reply();
        self.greeting.starts("220");
        self.command("EHLO client.example.com").starts("250");
        self
    }

    /// Sends the octets as they are.
    pub fn send(&mut self, octets: &[u8]) {
        self.wire.write(octets).unwrap_or_else(|error| panic!("sending failed: {error}"));
    }

    /// The same, where a failure is an answer too.
    pub fn try_send(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.wire.write(octets)
    }

    /// The next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    pub fn try_reply(&mut self) -> std::io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.wire.line()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return Ok(Reply { lines });
            }
        }
    }

    /// Sends one command line and reads its reply.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends the message's octets, dot-stuffed and with the final dot, and reads the reply; needs a 354 before.
    #[track_caller]
    pub fn data(&mut self, octets: &[u8]) -> Reply {
        self.send(&stuff(octets));
        self.reply()
    }

    /// One whole transaction: the reply to the end of data, or the first refusal.
    #[track_caller]
    pub fn mail(&mut self, from: &str, to: &[&str], octets: &[u8]) -> Reply {
        self.try_mail(from, to, octets).unwrap_or_else(|error| panic!("the connection ended: {error}"))
    }

    /// The same, where a lost connection is an answer too.
    pub fn try_mail(&mut self, from: &str, to: &[&str], octets: &[u8]) -> std::io::Result<Reply> {
        let mut lines = vec![format!("MAIL FROM:<{from}>")];
        lines.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        lines.push("DATA".into());
        for line in lines {
            self.try_send(format!("{line}\r\n").as_bytes())?;
            let reply = self.try_reply()?;
            if reply.code() >= 400 {
                return Ok(reply);
            }
        }
        self.try_send(&stuff(octets))?;
        self.try_reply()
    }

    /// Goes away in the middle of whatever there is.
    pub fn hang_up(self) {
        let _ = self.wire.stream().shutdown(Shutdown::Both);
    }

    /// Says no more, but listens on; everything that still comes.
    pub fn rest(mut self) -> Vec<u8> {
        let _ = self.wire.stream().shutdown(Shutdown::Write);
        self.wire.rest()
    }
}

/// The message's octets as DATA wants them: dots doubled at the start of lines, and the line with the final dot behind. Where
/// the octets do not end in CRLF one is added, since DATA can't say it otherwise (RFC 5321, section 4.1.1.4).
pub fn stuff(octets: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(octets.len() + octets.len() / 64 + 8);
    let mut at_line_start = true;
    let mut rest = octets;
    while !rest.is_empty() {
        if at_line_start && rest[0] == b'.' {
            stuffed.push(b'.');
        }
        let end = memchr::memmem::find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
        stuffed.extend_from_slice(&rest[..end]);
        at_line_start = rest[..end].ends_with(b"\r\n");
        rest = &rest[end..];
    }
    if !at_line_start {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}
