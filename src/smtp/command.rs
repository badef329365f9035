//! The commands of a client as values, and how their lines are read (RFC 5321, section 4.1; SIZE: RFC 1870; 8BITMIME:
//! RFC 6152; SMTPUTF8: RFC 6531; DSN: RFC 3461; CHUNKING: RFC 3030).
//!
//! Promises: a line is read by its syntax alone, and whatever is wrong with it becomes the reply that says so, with its
//! enhanced code. Tolerated as Postfix does: any case of letters, blanks after `FROM:` and `TO:`, more than one blank
//! between words, blanks at the end, dots in odd places of a local part. Nothing else is: no missing angle brackets,
//! no control octets.
//!
//! Left to others: whether a command may come now, and whether its extension was announced, which the session asks
//! [`Mail::check`] and [`Rcpt::check`].

mod parameters;
mod path;

use crate::mail::{Address, MAX_DOMAIN, Reply, ReversePath};
use std::fmt;
use zeroize::Zeroizing;

/// `BODY=` of MAIL (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Not given, or `7BIT`.
    #[default]
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
}

/// `KEYWORD=value` behind a path, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The keyword.
    pub keyword: String,
    /// What stands behind the `=`, when there is one.
    pub value: Option<String>,
}

/// `MAIL FROM:<reverse-path> parameters`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Who sent.
    pub reverse_path: ReversePath,
    /// `SIZE=`: the octets the client expects to send.
    pub size: Option<u64>,
    /// `BODY=`
    pub body: Body,
    /// `SMTPUTF8` was given.
    pub smtp_utf8: bool,
    /// All parameters in their order, those above included.
    pub parameters: Vec<Parameter>,
}

/// `RCPT TO:<forward-path> parameters`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// Who shall get it; a source route is gone (RFC 5321, section 4.1.1.3).
    pub forward_path: Address,
    /// All parameters in their order.
    pub parameters: Vec<Parameter>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO name`; the name as [`Command::parse`] makes it harmless.
    Helo(String),
    /// `EHLO name`, likewise.
    Ehlo(String),
    /// `MAIL FROM:<…>`
    Mail(Mail),
    /// `RCPT TO:<…>`
    Rcpt(Rcpt),
    /// `DATA`
    Data,
    /// `BDAT size [LAST]` (RFC 3030, section 2); as many octets follow the line.
    Bdat {
        /// The octets of the chunk.
        size: u64,
        /// Whether it is the message's last chunk.
        last: bool,
    },
    /// `RSET`
    Rset,
    /// `NOOP`, with or without a word.
    Noop,
    /// `VRFY` of somebody.
    Vrfy,
    /// `EXPN` of something.
    Expn,
    /// `HELP`, with or without a topic.
    Help,
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `AUTH` (RFC 4954).
    Auth(AuthArguments),
    /// `QUIT`
    Quit,
}

/// What stands behind AUTH. It may hold a password, so no output for people shows it, and it is overwritten in the end.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthArguments(Zeroizing<String>);

impl AuthArguments {
    /// The text, as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthArguments(…)")
    }
}

/// First words of requests that a browser can be made to send to a mail server; a mail client never does.
const HTTP_METHODS: [&[u8]; 9] =
    [b"GET", b"POST", b"CONNECT", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"];

/// Whether a line, or its beginning, is a request of HTTP: somebody uses a browser to speak through it.
pub fn is_http_request(line: &[u8]) -> bool {
    line.split_first_chunk::<8>().map_or(line, |(first, _)| first).split(|octet| *octet == b' ').next().is_some_and(
        |word| word.len() < line.len() && HTTP_METHODS.iter().any(|method| word.eq_ignore_ascii_case(method)),
    )
}

impl Command {
    /// Reads one line, which comes without its CRLF. The error is the reply to it.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        // RFC 5321, section 2.3.8: CR and LF stand for nothing but a line end together. A blank of any kind will do.
        if line.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t') {
            return Err(Reply::new(500, "5.5.2 Error: control octets in a command"));
        }
        let end = line.iter().rposition(|octet| !is_blank(*octet)).map_or(0, |place| place + 1);
        let line = line.get(..end).unwrap_or(line);
        let (verb, rest) =
            line.split_at_checked(line.iter().position(|octet| is_blank(*octet)).unwrap_or(end)).unwrap_or((line, &[]));
        // In capitals, cut one behind the length of the longest there is.
        let mut capitals = [0; 9];
        for (capital, letter) in capitals.iter_mut().zip(verb) {
            *capital = letter.to_ascii_uppercase();
        }
        let verb = capitals.get(..verb.len()).unwrap_or(&capitals);
        let text = std::str::from_utf8(rest).map(|text| text.trim_start_matches(BLANKS));
        match (verb, text) {
            (b"HELO", Ok(name)) => read_name("HELO", name).map(Self::Helo),
            (b"EHLO", Ok(name)) => read_name("EHLO", name).map(Self::Ehlo),
            (b"HELO" | b"EHLO", Err(_)) => Err(Reply::new(501, "Error: the name is not UTF-8")),
            (b"MAIL", Ok(text)) => read_mail(text).map(Self::Mail),
            (b"MAIL", Err(_)) => Err(Reply::new(501, "5.1.7 Bad sender address syntax: not UTF-8")),
            (b"RCPT", Ok(text)) => read_rcpt(text).map(Self::Rcpt),
            (b"RCPT", Err(_)) => Err(Reply::new(501, "5.1.3 Bad recipient address syntax: not UTF-8")),
            (b"DATA", text) => alone("DATA", text, Self::Data),
            (b"RSET", text) => alone("RSET", text, Self::Rset),
            (b"STARTTLS", text) => alone("STARTTLS", text, Self::StartTls),
            (b"BDAT", text) => read_bdat(text.unwrap_or_default()),
            (b"VRFY", text) => about_something("VRFY", text, Self::Vrfy),
            (b"EXPN", text) => about_something("EXPN", text, Self::Expn),
            (b"NOOP", Ok(_)) => Ok(Self::Noop),
            (b"HELP", Ok(_)) => Ok(Self::Help),
            (b"AUTH", Ok(arguments)) => Ok(Self::Auth(AuthArguments(Zeroizing::new(arguments.to_owned())))),
            (b"NOOP" | b"HELP" | b"AUTH", Err(_)) => Err(syntax("the argument is not UTF-8")),
            // Whoever wants to leave is let go, whatever else stands there.
            (b"QUIT", _) => Ok(Self::Quit),
            _ => Err(Reply::new(500, "5.5.2 Error: command not recognized")),
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

fn syntax(what: &str) -> Reply {
    Reply::new(501, format!("5.5.4 Syntax: {what}"))
}

type Text<'a> = Result<&'a str, std::str::Utf8Error>;

fn alone(verb: &str, text: Text<'_>, command: Command) -> Result<Command, Reply> {
    if text == Ok("") { Ok(command) } else { Err(syntax(&format!("{verb} takes no parameters"))) }
}

fn about_something(verb: &str, text: Text<'_>, command: Command) -> Result<Command, Reply> {
    match text {
        Ok("") => Err(syntax(&format!("{verb} address"))),
        Ok(_) => Ok(command),
        Err(_) => Err(syntax("the argument is not UTF-8")),
    }
}

/// The name of HELO and EHLO. It is meant for Received: lines and logs, so what is special there or not ASCII becomes
/// a `?`, as in Postfix. The replies have no enhanced code (RFC 2034, section 4).
fn read_name(verb: &str, name: &str) -> Result<String, Reply> {
    if name.is_empty() {
        return Err(Reply::new(501, format!("Syntax: {verb} hostname")));
    }
    if name.len() > MAX_DOMAIN {
        return Err(Reply::new(501, "Error: the name is too long"));
    }
    let harmless = |letter: char| letter.is_ascii_graphic() && !"<>()\\\";@".contains(letter);
    Ok(name.chars().map(|letter| if harmless(letter) { letter } else { '?' }).collect())
}

fn read_mail(text: &str) -> Result<Mail, Reply> {
    let usage = || syntax("MAIL FROM:<address>");
    let (path, rest) = path::split(path::behind_label(text, "FROM:").ok_or_else(usage)?).ok_or_else(usage)?;
    let reverse_path = match path {
        "" => ReversePath::Null,
        _ => path::read(path)
            .map(ReversePath::Address)
            .map_err(|error| Reply::new(501, format!("5.1.7 Bad sender address syntax: {error}")))?,
    };
    parameters::read_mail(reverse_path, parameters::split(rest)?)
}

fn read_rcpt(text: &str) -> Result<Rcpt, Reply> {
    let usage = || syntax("RCPT TO:<address>");
    let (path, rest) = path::split(path::behind_label(text, "TO:").ok_or_else(usage)?).ok_or_else(usage)?;
    let forward_path =
        path::read(path).map_err(|error| Reply::new(501, format!("5.1.3 Bad recipient address syntax: {error}")))?;
    parameters::read_rcpt(forward_path, parameters::split(rest)?)
}

/// Whether a line, or its beginning, is BDAT, readable or not.
pub fn is_bdat(line: &[u8]) -> bool {
    line.split_first_chunk::<4>().is_some_and(|(verb, rest)| {
        verb.eq_ignore_ascii_case(b"BDAT") && rest.first().is_none_or(|octet| !octet.is_ascii_graphic())
    })
}

/// The refusal of a BDAT that can't be read: how many octets of a chunk follow is not known, so none can be read as commands, and
/// the conversation can't go on. 521 says that it doesn't (RFC 7504).
pub fn unreadable_bdat() -> Reply {
    Reply::new(521, "5.5.4 Syntax: BDAT size [LAST]; where the chunk ends is not known, closing the connection")
}

fn read_bdat(text: &str) -> Result<Command, Reply> {
    let mut words = text.split(BLANKS).filter(|word| !word.is_empty());
    let size = words.next().and_then(parameters::number);
    let last = words.next().map(|word| word.eq_ignore_ascii_case("LAST"));
    match (size, last, words.next()) {
        (Some(size), None | Some(true), None) => Ok(Command::Bdat { size, last: last.is_some() }),
        _ => Err(unreadable_bdat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mail(parameters: &str) -> Mail {
        match Command::parse(format!("MAIL FROM:<alice@example.org>{parameters}").as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_of_mail_are_read_and_kept_as_they_were_written() {
        let read = mail(" SIZE=100 Body=8bitMIME SMTPUTF8 ENVID=x");
        assert_eq!((read.size, read.body, read.smtp_utf8), (Some(100), Body::EightBitMime, true));
        let kept: Vec<_> = read.parameters.iter().map(|one| (one.keyword.as_str(), one.value.as_deref())).collect();
        assert_eq!(kept, [("SIZE", Some("100")), ("Body", Some("8bitMIME")), ("SMTPUTF8", None), ("ENVID", Some("x"))]);
        let read = mail(" body=7bit");
        assert_eq!((read.size, read.body, read.smtp_utf8), (None, Body::SevenBit, false));
        assert!(mail("").parameters.is_empty());
    }

    #[test]
    fn a_password_is_not_shown() {
        let command = Command::parse(b"AUTH PLAIN c2VjcmV0").unwrap();
        assert!(!format!("{command:?}").contains("c2VjcmV0"));
        assert!(matches!(command, Command::Auth(arguments) if arguments.as_str() == "PLAIN c2VjcmV0"));
    }

    #[test]
    fn requests_of_http_are_known_by_their_first_word() {
        for line in ["GET / HTTP/1.1", "post /x", "CONNECT a:25", "OPTIONS *", "DELETE /", "GET "] {
            assert!(is_http_request(line.as_bytes()), "{line}");
        }
        for line in ["", "GET", "GETS /", "HELP GET", " GET /", "NOOP POST /", "OPTIONSX *", "CONNECT"] {
            assert!(!is_http_request(line.as_bytes()), "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_line_is_a_command_or_has_a_refusal(
            verb in prop::sample::select(vec!["MAIL FROM:<", "RCPT TO:<", "EHLO ", "BDAT ", "NOOP ", "AUTH ", ""]),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Err(reply) = Command::parse(&[verb.as_bytes(), &rest].concat()) {
                prop_assert!(reply.is_permanent());
            }
        }

        #[test]
        fn an_address_in_brackets_is_read_as_it_stands(local in "[a-z.!#%+_-]{1,20}", domain in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}") {
            let line = format!("RCPT TO:<{local}@{domain}>");
            let Ok(Command::Rcpt(rcpt)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
            prop_assert_eq!(rcpt.forward_path.as_str(), format!("{local}@{domain}"));
        }
    }
}
