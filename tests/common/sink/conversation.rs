//! One conversation of a [`Sink`](super::Sink): commands read, the script asked, replies written.

use super::super::PATIENCE;
use super::super::wire::{Wire, unstuff};
use super::{Answer, EXTENSIONS, Keep, Shared, Stage, Transaction, lock};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// What comes next in a conversation.
#[derive(PartialEq)]
enum Next {
    On,
    Close,
}

pub(super) struct Conversation<'a> {
    wire: Wire,
    shared: &'a Shared,
    current: Transaction,
    replies: Vec<u8>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(stream: TcpStream, connection: usize, shared: &'a Shared) -> io::Result<Self> {
        let wire = Wire::new(stream, PATIENCE * 10)?;
        let current = Transaction {
            connection,
            connected: Instant::now(),
            ehlo: String::new(),
            mail: String::new(),
            rcpts: Vec::new(),
            octets: Vec::new(),
            size: 0,
            taken: false,
        };
        Ok(Self { wire, shared, current, replies: Vec::new() })
    }

    pub(super) fn hold(&mut self) -> io::Result<()> {
        if self.answer(&Stage::Greeting, "220 sink.example ESMTP")?.1 == Next::Close {
            return Ok(());
        }
        loop {
            if !self.wire.has_more() {
                self.flush()?;
            }
            let Some(line) = self.wire.line()? else { return Ok(()) };
            if self.shared.keep == Keep::All {
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
        if self.shared.keep != Keep::Nothing {
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
        if self.shared.keep != Keep::Nothing {
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
            if self.shared.keep == Keep::All {
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
        if matches!(answer, Answer::Hold(..)) {
            self.flush()?;
        }
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
