//! The commands of our client side as values, and their lines on the wire (RFC 5321, section 4.1.1).

use super::{Attributes, Offer};
use crate::smtp::{Auth, Mail, Parameter, Rcpt, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::Zeroizing;

/// A command to be sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO with this name; HELO when the server does not know EHLO.
    Hello(String),
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH PLAIN with an initial response (RFC 4954, RFC 4616).
    AuthPlain {
        /// The authentication identity.
        user: String,
        /// Its password.
        password: String,
    },
    /// XCLIENT: the connection is a client's from here on.
    Xclient(Attributes),
    /// XFORWARD: the next transaction is a client's.
    Xforward(Attributes),
    /// AUTH as a client of ours said it (RFC 4954).
    Auth(Auth),
    /// That client's answer to a 334.
    AuthResponse(Secret),
    /// MAIL
    Mail(Mail),
    /// RCPT
    Rcpt(Rcpt),
    /// DATA
    Data,
    /// RSET
    Reset,
    /// QUIT
    Quit,
}

/// What a reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The connection: the server speaks first.
    Greeting,
    /// EHLO
    Ehlo,
    /// HELO
    Helo,
    /// STARTTLS
    StartTls,
    /// AUTH
    Auth,
    /// XCLIENT
    Xclient,
    /// XFORWARD
    Xforward,
    /// MAIL
    Mail,
    /// RCPT
    Rcpt,
    /// DATA
    Data,
    /// A chunk that is not the last (RFC 3030, section 2).
    Chunk,
    /// The final dot, or the last chunk.
    EndOfData,
    /// RSET
    Reset,
    /// QUIT
    Quit,
}

impl Verb {
    /// Whether a further command may be sent before the reply has come (RFC 2920, section 3.1), when the server offers it.
    pub(super) fn may_be_followed(self) -> bool {
        matches!(self, Self::Xforward | Self::Mail | Self::Rcpt | Self::EndOfData | Self::Reset)
    }

    /// Whether a 3yz reply makes sense.
    pub(super) fn may_go_on(self) -> bool {
        matches!(self, Self::Data | Self::Auth)
    }
}

/// As logs name it.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the connection",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Xclient => "XCLIENT",
            Self::Xforward => "XFORWARD",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Chunk => "BDAT",
            Self::EndOfData => "the end of data",
            Self::Reset => "RSET",
            Self::Quit => "QUIT",
        })
    }
}

impl Command {
    /// What its reply answers.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Hello(_) => Verb::Ehlo,
            Self::StartTls => Verb::StartTls,
            Self::Xclient(_) => Verb::Xclient,
            Self::Xforward(_) => Verb::Xforward,
            Self::AuthPlain { .. } | Self::Auth(_) | Self::AuthResponse(_) => Verb::Auth,
            Self::Mail(_) => Verb::Mail,
            Self::Rcpt(_) => Verb::Rcpt,
            Self::Data => Verb::Data,
            Self::Reset => Verb::Reset,
            Self::Quit => Verb::Quit,
        }
    }

    /// Appends the line; of MAIL's parameters those that pass by `offer`.
    pub(super) fn write_to(&self, offer: &Offer, output: &mut Vec<u8>) {
        let line = Zeroizing::new(match self {
            Self::Mail(mail) => {
                let passing = mail.parameters.iter().filter(|parameter| offer.passes(parameter));
                return write_path("MAIL FROM:<", mail.reverse_path.as_str(), passing, output);
            }
            Self::Rcpt(rcpt) => return write_path("RCPT TO:<", rcpt.forward_path.as_str(), &rcpt.parameters, output),
            Self::Hello(name) => format!("EHLO {name}"),
            Self::StartTls => "STARTTLS".to_owned(),
            Self::AuthPlain { user, password } => {
                format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{user}\0{password}")))
            }
            Self::Xclient(attributes) => attributes.line("XCLIENT", offer),
            Self::Xforward(attributes) => attributes.line("XFORWARD", offer),
            Self::Auth(Auth { mechanism, initial }) => {
                let initial = initial.as_ref().map(|secret| format!(" {}", secret.as_str()));
                format!("AUTH {}{}", mechanism.as_str(), Zeroizing::new(initial.unwrap_or_default()).as_str())
            }
            Self::AuthResponse(response) => response.as_str().to_owned(),
            Self::Data => "DATA".to_owned(),
            Self::Reset => "RSET".to_owned(),
            Self::Quit => "QUIT".to_owned(),
        });
        // Where there is room for all of it no half of a password is left behind in memory.
        output.reserve(line.len() + 2);
        write_line(&line, output);
    }
}

/// Never shows the password.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({})", self.verb())
    }
}

/// Appends a line.
pub(super) fn write_line(line: &str, output: &mut Vec<u8>) {
    write_text(line, output);
    output.extend_from_slice(b"\r\n");
}

/// Appends a part of a line. A control character is left out: whatever a value holds, one command stays one line.
fn write_text(text: &str, output: &mut Vec<u8>) {
    // Nearly every text is one that needs no look at its letters.
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        output.extend_from_slice(text.as_bytes());
    } else {
        let mut buffer = [0; 4];
        for letter in text.chars().filter(|letter| !letter.is_control()) {
            output.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

/// Appends a line with a path and its parameters.
fn write_path<'a>(verb: &str, path: &str, parameters: impl IntoIterator<Item = &'a Parameter>, output: &mut Vec<u8>) {
    write_text(verb, output);
    write_text(path, output);
    output.push(b'>');
    for Parameter { keyword, value } in parameters {
        output.push(b' ');
        write_text(keyword, output);
        if let Some(value) = value {
            output.push(b'=');
            write_text(value, output);
        }
    }
    output.extend_from_slice(b"\r\n");
}
