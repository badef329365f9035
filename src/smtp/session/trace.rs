//! What a session says and hears, for whoever looks for a fault: one line for each command and each line of a reply.
//!
//! Promises: no octet of a message, no password and no answer to a challenge is ever in it. A command is shown as it was
//! understood, never as it came: of a line that is no command nothing but its length is known, since a client that goes on
//! where it should have stopped may have sent part of a message, or a password. Values of parameters that may hold an address
//! in another writing (RFC 3461, section 4) are left out; addresses themselves are written as they are, for the log to take out
//! what it must. What gathers is bounded by [`MAX_TRACE`]; what is more is counted.
//!
//! A session that nobody listens in to spends nothing on it.

use super::Session;
use crate::mail::{Address, Reply};
use crate::smtp::command::{Command, Parameter};
use crate::smtp::{MAX_FEED, Mechanism};

/// Lines that may gather until they are taken. A feed of [`MAX_FEED`] octets has fewer commands than a client may send without
/// an error.
pub const MAX_TRACE: usize = MAX_FEED / 64;
/// What stands for something left out.
const LEFT_OUT: &str = "***";

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The client.
    Client,
    /// The relay, or the next hop through it.
    Relay,
}

impl Speaker {
    /// The word of the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Relay => "relay",
        }
    }
}

/// A line of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Who said it.
    pub by: Speaker,
    /// What; of bounded length, and without the line's end.
    pub line: String,
}

/// What was said since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Vec<Spoken>,
    skipped: usize,
}

impl Trace {
    fn note(&mut self, by: Speaker, line: String) {
        if self.lines.len() < MAX_TRACE {
            self.lines.push(Spoken { by, line });
        } else {
            self.skipped = self.skipped.saturating_add(1);
        }
    }
}

impl Session {
    /// From here on every command and reply is kept for [`overheard`](Self::overheard).
    pub fn listen_in(&mut self) {
        self.trace.get_or_insert_default();
    }

    /// What was said since the last call; nothing where nobody listens in.
    pub fn overheard(&mut self) -> Vec<Spoken> {
        let Some(trace) = &mut self.trace else { return Vec::new() };
        let Trace { mut lines, skipped } = std::mem::take(trace);
        if skipped > 0 {
            lines.push(Spoken { by: Speaker::Relay, line: format!("({skipped} more lines were said)") });
        }
        lines
    }

    /// A line of the client was read whole.
    pub(super) fn hear(&mut self, command: &Result<Command, Reply>, octets: usize) {
        if let Some(trace) = &mut self.trace {
            let line = command.as_ref().map_or_else(|_| unreadable(octets), shown);
            trace.note(Speaker::Client, line);
        }
    }

    /// It will be read again.
    pub(super) fn unhear(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.lines.pop();
        }
    }

    /// Something of the client that is no command.
    pub(super) fn hear_of(&mut self, what: &str) {
        if let Some(trace) = &mut self.trace {
            trace.note(Speaker::Client, format!("({what})"));
        }
    }

    /// Puts a reply into the output.
    pub(super) fn put(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
        let Some(trace) = &mut self.trace else { return };
        // A challenge may be made of what the client said, and holds a name and a moment.
        if reply.code() == 334 {
            trace.note(Speaker::Relay, format!("334 {LEFT_OUT}"));
            return;
        }
        let last = reply.lines().len().saturating_sub(1);
        for (number, text) in reply.lines().iter().enumerate() {
            let mark = if number == last { ' ' } else { '-' };
            let text = if is_plain(&self.name) { text.clone() } else { text.replace(&self.name, LEFT_OUT) };
            trace.note(Speaker::Relay, format!("{}{mark}{text}", reply.code()));
        }
    }
}

/// A message behind DATA has come to its end.
pub(super) fn hear_message(trace: &mut Option<Trace>) {
    if let Some(trace) = trace {
        trace.note(Speaker::Client, "(the message, and its final dot)".to_owned());
    }
}

fn unreadable(octets: usize) -> String {
    format!("({octets} octets that are no command)")
}

/// A command as it was understood.
fn shown(command: &Command) -> String {
    match command {
        Command::Helo(name) => format!("HELO {}", if is_plain(name) { name } else { LEFT_OUT }),
        Command::Ehlo(name) => format!("EHLO {}", if is_plain(name) { name } else { LEFT_OUT }),
        Command::Mail(mail) => {
            let path = mail.reverse_path.address().map_or("", path);
            format!("MAIL FROM:<{path}>{}", parameters(&mail.parameters))
        }
        Command::Rcpt(rcpt) => format!("RCPT TO:<{}>{}", path(&rcpt.forward_path), parameters(&rcpt.parameters)),
        Command::Data => "DATA".to_owned(),
        Command::Bdat { size, last } => format!("BDAT {size}{}", if *last { " LAST" } else { "" }),
        Command::Rset => "RSET".to_owned(),
        Command::Noop => "NOOP".to_owned(),
        Command::Vrfy => format!("VRFY {LEFT_OUT}"),
        Command::Expn => format!("EXPN {LEFT_OUT}"),
        Command::Help => "HELP".to_owned(),
        Command::StartTls => "STARTTLS".to_owned(),
        Command::Auth(arguments) => {
            let first = arguments.as_str().split([' ', '\t']).next().and_then(Mechanism::parse);
            format!("AUTH {} {LEFT_OUT}", first.map_or("?", Mechanism::as_str))
        }
        Command::Quit => "QUIT".to_owned(),
    }
}

/// An address without `@` would be taken for no address by whoever takes addresses out.
fn path(address: &Address) -> &str {
    let is_known = address.domain().is_some() || address.as_str().eq_ignore_ascii_case("postmaster");
    if is_known { address.as_str() } else { LEFT_OUT }
}

fn parameters(parameters: &[Parameter]) -> String {
    let one = |Parameter { keyword, value }: &Parameter| match (keyword.to_ascii_uppercase(), value) {
        (name, None) => format!(" {name}"),
        (name, Some(value)) if matches!(name.as_str(), "SIZE" | "BODY" | "RET" | "NOTIFY") => {
            format!(" {name}={value}")
        }
        (name, Some(_)) => format!(" {name}={LEFT_OUT}"),
    };
    parameters.iter().map(one).collect()
}

/// Whether a name is a domain or an address literal by its letters, and no address in another writing.
fn is_plain(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-.:[]".contains(letter))
}

#[cfg(test)]
mod tests;
