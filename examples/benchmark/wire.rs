//! SMTP as the benchmark's own ends speak it, as values without sockets: what a server makes of the octets that come
//! ([`Inbound`]), what a client makes of replies ([`Replies`]), and octets on their way out in few calls ([`Gather`]).
//!
//! Nothing is allocated for a line or a message but buffers that are used again, and content is looked at for its end alone.
//! It serves clients that keep to RFC 5321 and RFC 2920; whoever does not is told so by a reply, or ends the measurement.

use memchr::memchr;
use memchr::memmem::Finder;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::LazyLock;

/// What ends a message's content, the end of its last line before it.
pub const END: &[u8] = b"\r\n.\r\n";
/// A line of a command that is longer is none.
const LONGEST_LINE: usize = 4_096;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));

/// What came of octets that a server was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// All of them are used, and more are needed.
    Used,
    /// A message is complete; what follows it is not looked at yet, and its reply is the caller's.
    Message,
    /// The client has said QUIT.
    Quit,
}

/// A server's side of a session.
#[derive(Debug, Default)]
pub struct Inbound {
    /// The beginning of a command line.
    line: Vec<u8>,
    /// The last octets of content, four at most, when content comes.
    tail: Option<Tail>,
    has_sender: bool,
    /// Recipients of the transaction.
    pub recipients: u32,
    /// The lines MAIL and RCPT of the transaction, for who wants to pass them on.
    pub envelope: Vec<u8>,
    keeps_envelope: bool,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    octets: [u8; 4],
    length: usize,
}

impl Tail {
    /// Content begins at the beginning of a line.
    const FIRST: Self = Self { octets: *b"\r\n\0\0", length: 2 };

    fn of(before: Self, chunk: &[u8]) -> Self {
        let mut joined = [0; 8];
        let (old, new) = (&before.octets[..before.length], &chunk[chunk.len().saturating_sub(4)..]);
        joined[..old.len()].copy_from_slice(old);
        joined[old.len()..old.len() + new.len()].copy_from_slice(new);
        let all = &joined[..old.len() + new.len()];
        let last = &all[all.len().saturating_sub(4)..];
        let mut octets = [0; 4];
        octets[..last.len()].copy_from_slice(last);
        Self { octets, length: last.len() }
    }

    /// Where in the chunk the content's end lies behind its last octet.
    fn end(self, chunk: &[u8]) -> Option<usize> {
        let mut joined = [0; 8];
        let few = &chunk[..chunk.len().min(4)];
        joined[..self.length].copy_from_slice(&self.octets[..self.length]);
        joined[self.length..self.length + few.len()].copy_from_slice(few);
        let crossing = joined[..self.length + few.len()].windows(END.len()).position(|window| window == END);
        crossing
            .map(|place| place + END.len() - self.length)
            .or_else(|| FINDER.find(chunk).map(|place| place + END.len()))
    }
}

impl Inbound {
    /// One that keeps each transaction's lines.
    pub fn keeping() -> Self {
        Self { keeps_envelope: true, ..Self::default() }
    }

    pub fn greet(out: &mut Vec<u8>) {
        out.extend_from_slice(b"220 sink.example ESMTP\r\n");
    }

    /// Takes octets up to a message's end or all of them; tells how many, appends replies, and hands on content with its
    /// final dot.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>, mut content: impl FnMut(&[u8])) -> (usize, Seen) {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            if let Some(tail) = self.tail {
                let Some(end) = tail.end(rest) else {
                    content(rest);
                    self.tail = Some(Tail::of(tail, rest));
                    return (input.len(), Seen::Used);
                };
                content(&rest[..end]);
                self.tail = None;
                return (used + end, Seen::Message);
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                assert!(self.line.len() <= LONGEST_LINE, "a line without end");
                return (input.len(), Seen::Used);
            };
            used += end + 1;
            let is_over = if self.line.is_empty() {
                self.command(&rest[..=end], out)
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..=end]);
                let is_over = self.command(&line, out);
                line.clear();
                self.line = line;
                is_over
            };
            if is_over {
                return (used, Seen::Quit);
            }
        }
        (used, Seen::Used)
    }

    /// Forgets the transaction, after a message too.
    pub fn reset(&mut self) {
        self.has_sender = false;
        self.recipients = 0;
        self.envelope.clear();
    }

    /// One command; whether it was QUIT.
    fn command(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let mut verb = [0; 4];
        let few = line.len().min(4);
        verb[..few].copy_from_slice(&line[..few]);
        verb.make_ascii_uppercase();
        let reply: &[u8] = match &verb {
            b"MAIL" if self.has_sender => b"503 5.5.1 a transaction is under way\r\n",
            b"MAIL" => {
                self.has_sender = true;
                self.keep(line);
                b"250 2.1.0 Ok\r\n"
            }
            b"RCPT" if !self.has_sender => b"503 5.5.1 MAIL first\r\n",
            b"RCPT" => {
                self.recipients += 1;
                self.keep(line);
                b"250 2.1.5 Ok\r\n"
            }
            b"DATA" if self.recipients == 0 => b"503 5.5.1 RCPT first\r\n",
            b"DATA" => {
                self.tail = Some(Tail::FIRST);
                b"354 go ahead\r\n"
            }
            b"EHLO" => {
                self.reset();
                b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n250-SMTPUTF8\r\n\
                  250 ENHANCEDSTATUSCODES\r\n"
            }
            b"HELO" | b"RSET" => {
                self.reset();
                b"250 2.0.0 Ok\r\n"
            }
            b"NOOP" => b"250 2.0.0 Ok\r\n",
            b"QUIT" => b"221 2.0.0 Bye\r\n",
            _ => b"500 5.5.2 unknown\r\n",
        };
        out.extend_from_slice(reply);
        &verb == b"QUIT"
    }

    fn keep(&mut self, line: &[u8]) {
        if self.keeps_envelope {
            self.envelope.extend_from_slice(line);
        }
    }
}

/// Reads replies (RFC 5321, section 4.2).
#[derive(Debug, Default)]
pub struct Replies {
    line: Vec<u8>,
}

impl Replies {
    /// Appends the code of each reply that is complete.
    pub fn take(&mut self, input: &[u8], codes: &mut Vec<u16>) {
        let mut rest = input;
        while let Some(end) = memchr(b'\n', rest) {
            if self.line.is_empty() {
                Self::line(&rest[..=end], codes);
            } else {
                self.line.extend_from_slice(&rest[..=end]);
                Self::line(&self.line, codes);
                self.line.clear();
            }
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        assert!(self.line.len() <= LONGEST_LINE, "a reply without end");
    }

    fn line(line: &[u8], codes: &mut Vec<u16>) {
        // Only a reply's last line has a blank, or nothing, behind its code.
        match line {
            [_, _, _, b'-', ..] => {}
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                codes.push([a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(**digit - b'0')));
            }
            _ => panic!("no reply: {:?}", String::from_utf8_lossy(line)),
        }
    }
}

/// Octets that leave in as few calls as the socket allows: three parts, the middle one shared.
#[derive(Debug, Default)]
pub struct Gather {
    /// Before the shared part; it may grow while there is none.
    pub head: Vec<u8>,
    /// The shared part, and how many of its octets.
    pub body: Option<(Rc<Vec<u8>>, usize)>,
    pub foot: Vec<u8>,
    /// How many octets are gone.
    done: usize,
}

impl Gather {
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_none() && self.foot.is_empty()
    }

    /// Writes what there is; whether all of it is gone.
    pub fn write(&mut self, to: &mut impl Write) -> io::Result<bool> {
        loop {
            let body = self.body.as_ref().map_or(&[][..], |(body, length)| &body[..*length]);
            let mut skip = self.done;
            let parts = [&self.head[..], body, &self.foot].map(|part| {
                let from = skip.min(part.len());
                skip -= from;
                &part[from..]
            });
            let left: usize = parts.iter().map(|part| part.len()).sum();
            if left == 0 {
                self.head.clear();
                self.body = None;
                self.foot.clear();
                self.done = 0;
                return Ok(true);
            }
            let written = match parts {
                [one, [], []] => to.write(one),
                parts => to.write_vectored(&parts.map(IoSlice::new)),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
