//! Reads dialogue files into lines that mean something.

use journal_relay::mail::Reply;
use journal_relay::smtp::{Extensions, Mechanism};

/// One conversation.
pub(crate) struct Dialogue {
    pub(crate) title: String,
    pub(crate) after: String,
    pub(crate) max_recipients: usize,
    pub(crate) max_errors: u32,
    pub(crate) requires_tls: bool,
    pub(crate) offers: Extensions,
    /// Each with its line in the file.
    pub(crate) turns: Vec<(usize, Turn)>,
}

/// One line of a conversation.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
    /// `ask:` and `tell:` but `CONTENT`, as text.
    Step(String),
    Content(Vec<u8>),
    Wait,
    Announce,
    Answer(Reply),
    Greet(Reply),
    Say(Reply),
    Refuse(Reply),
    TlsStarted,
}

/// What is offered unless a dialogue says otherwise.
pub(crate) const OFFERS: &str = "PIPELINING SIZE=1000000 8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES DSN";

/// All conversations of a file. A line that can't be read stops the test.
pub(crate) fn read(text: &str) -> Vec<Dialogue> {
    let mut dialogues: Vec<Dialogue> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line)) {
        if let Some(title) = line.strip_prefix("== ") {
            dialogues.push(Dialogue {
                title: title.to_owned(),
                after: "greeting".into(),
                max_recipients: 100,
                max_errors: 10,
                requires_tls: false,
                offers: offers(OFFERS),
                turns: Vec::new(),
            });
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let dialogue = dialogues.last_mut().unwrap_or_else(|| panic!("line {number} stands before any `== `"));
            read_line(dialogue, number, line);
        }
    }
    dialogues
}

fn read_line(dialogue: &mut Dialogue, number: usize, line: &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let turn = match (word, rest) {
        ("after:", state) => return dialogue.after = state.to_owned(),
        ("offers:", words) => return dialogue.offers = offers(words),
        ("limit:", words) => return words.split(' ').for_each(|word| limit(dialogue, word)),
        ("C:", text) => Turn::Client([octets(text), b"\r\n".to_vec()].concat()),
        ("C+", text) => Turn::Client(octets(text)),
        ("S:", text) => Turn::Server([octets(text), b"\r\n".to_vec()].concat()),
        ("ask:" | "tell:", text) => match text.strip_prefix("CONTENT ") {
            Some(content) => Turn::Content(octets(content)),
            None => Turn::Step(String::from_utf8(octets(text)).unwrap()),
        },
        ("wait", "") => Turn::Wait,
        ("->", "announce") => Turn::Announce,
        ("->", "tls") => Turn::TlsStarted,
        ("->", text) => match text.split_once(' ') {
            Some(("greet", text)) => Turn::Greet(reply(text)),
            Some(("refuse", text)) => Turn::Refuse(reply(text)),
            Some(("say", text)) => Turn::Say(reply(text)),
            _ => Turn::Answer(reply(text)),
        },
        _ => panic!("line {number} has no meaning: {line}"),
    };
    dialogue.turns.push((number, turn));
}

fn limit(dialogue: &mut Dialogue, word: &str) {
    match word.split_once('=').unwrap() {
        ("recipients", number) => dialogue.max_recipients = number.parse().unwrap(),
        ("errors", number) => dialogue.max_errors = number.parse().unwrap(),
        ("tls", "required") => dialogue.requires_tls = true,
        _ => panic!("no such limit: {word}"),
    }
}

/// `250 text`
pub(crate) fn reply(text: &str) -> Reply {
    let (code, text) = text.split_once(' ').unwrap_or((text, ""));
    Reply::new(code.parse().unwrap(), text)
}

pub(crate) fn offers(words: &str) -> Extensions {
    let mut offers = Extensions::default();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("PIPELINING", _) => offers.pipelining = true,
            ("SIZE", limit) => offers.size = Some(limit.parse().unwrap_or(0)),
            ("8BITMIME", _) => offers.eight_bit_mime = true,
            ("SMTPUTF8", _) => offers.smtp_utf8 = true,
            ("ENHANCEDSTATUSCODES", _) => offers.enhanced_status_codes = true,
            ("STARTTLS", _) => offers.starttls = true,
            ("DSN", _) => offers.dsn = true,
            ("CHUNKING", _) => offers.chunking = true,
            ("BINARYMIME", _) => offers.binary_mime = true,
            ("REQUIRETLS", _) => offers.require_tls = true,
            ("RCPTMAX", limit) => offers.limits.rcpt_max = limit.parse().ok(),
            ("AUTH", names) => offers.auth = names.split(',').map(|name| Mechanism::parse(name).unwrap()).collect(),
            _ => panic!("no such extension: {word}"),
        }
    }
    offers
}

/// Octets of a text with its escapes and `{N*text}`.
pub(crate) fn octets(text: &str) -> Vec<u8> {
    let repeated = text.split_once('{').and_then(|(before, rest)| {
        let (inside, behind) = rest.split_once('}')?;
        Some((before, inside.split_once('*')?, behind))
    });
    if let Some((before, (times, what), behind)) = repeated {
        return [octets(before), octets(what).repeat(times.parse().unwrap()), octets(behind)].concat();
    }
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (octet, length) = match (first, behind) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'x', one, two, ..]) => {
                (u8::from_str_radix(std::str::from_utf8(&[*one, *two]).unwrap(), 16).unwrap(), 4)
            }
            (b'\\', _) => panic!("no such escape in {text}"),
            (other, _) => (*other, 1),
        };
        octets.push(octet);
        rest = &rest[length..];
    }
    octets
}
