//! The messages of a world: small and large, 8-bit, with dots at line starts, without body, without Message-ID.

use super::dice::Dice;
use super::disk::work::{INLINE, MIDDLING};

/// Users of the two organizations, and of neither.
pub const USERS: [&str; 12] = [
    "alice@north.example",
    "anna@north.example",
    "ada@north.example",
    "amos@north.example",
    "sam@south.example",
    "sue@south.example",
    "sid@south.example",
    "sol@south.example",
    "eve@elsewhere.example",
    "edgar@elsewhere.example",
    "emil@elsewhere.example",
    "ella@elsewhere.example",
];

/// One content, as the client has it.
#[derive(Debug, Clone)]
pub struct Mail {
    /// MAIL FROM; none is the null reverse-path.
    pub sender: Option<String>,
    /// The header's From.
    pub author: String,
    pub octets: Vec<u8>,
    /// Contents of the same identity differ in trace fields alone: for the relay they are one message.
    pub identity: usize,
    pub has_message_id: bool,
    /// Wants BODY=8BITMIME.
    pub is_eight_bit: bool,
}

impl Mail {
    /// The organizations it concerns when these recipients were accepted.
    pub fn concerns(&self, recipients: &[String]) -> Vec<&'static str> {
        let sender = self.sender.as_deref().unwrap_or(&self.author);
        ["north", "south"]
            .into_iter()
            .filter(|name| {
                let domain = format!("@{name}.example");
                sender.ends_with(&domain) || recipients.iter().any(|recipient| recipient.ends_with(&domain))
            })
            .collect()
    }
}

/// The mails of a world. Some are another's twins.
pub fn mails(dice: &mut Dice, count: usize) -> Vec<Mail> {
    let mut mails: Vec<Mail> = Vec::with_capacity(count);
    while mails.len() < count {
        let number = mails.len();
        let twin = mails.last().filter(|mail| mail.has_message_id && dice.chance(8));
        let mail = match twin {
            Some(other) => {
                let trace =
                    format!("Received: from relay{number}.elsewhere.example by hub.elsewhere.example; today\r\n");
                Mail { octets: [trace.as_bytes(), &other.octets].concat(), ..other.clone() }
            }
            None => fresh(dice, number),
        };
        mails.push(mail);
    }
    mails
}

fn fresh(dice: &mut Dice, number: usize) -> Mail {
    let author = (*dice.pick(&USERS)).to_owned();
    let has_message_id = !dice.chance(12);
    let is_eight_bit = dice.chance(25);
    let mut text = String::new();
    text.push_str(&format!("From: <{author}>\r\nTo: {}, <{}>\r\n", dice.pick(&USERS), dice.pick(&USERS)));
    if dice.chance(30) {
        text.push_str(&format!("Cc: <{}>\r\n", dice.pick(&USERS)));
    }
    let subject = if is_eight_bit && dice.chance(50) { "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" } else { "greetings" };
    text.push_str(&format!("Subject: {subject} {number}\r\nDate: Tue, 10 Nov 2026 10:00:00 +0000\r\n"));
    if has_message_id {
        text.push_str(&format!("Message-ID: <m{number}@{}>\r\n", author.split('@').nth(1).unwrap()));
    }
    let mut octets = text.into_bytes();
    body(dice, number, is_eight_bit, &mut octets);
    let sender = if dice.chance(6) { None } else { Some(author.clone()) };
    Mail { sender, author, octets, identity: number, has_message_id, is_eight_bit }
}

fn body(dice: &mut Dice, number: usize, is_eight_bit: bool, octets: &mut Vec<u8>) {
    let length = match dice.between(0, 99) {
        // A header alone, and an empty body.
        0..=3 => return,
        4..=7 => return octets.extend_from_slice(b"\r\n"),
        8..=71 => dice.size(20, 1_500),
        72..=79 => dice.size(INLINE - 600, MIDDLING - 600),
        80..=95 => dice.size(MIDDLING - 600, MIDDLING + 18 * 1024),
        _ => dice.size(2 * MIDDLING, 3 * MIDDLING),
    };
    octets.extend_from_slice(format!("\r\nThis is message {number}.\r\n").as_bytes());
    let end = octets.len() + length;
    while octets.len() < end {
        match dice.between(0, 9) {
            0 => octets.extend_from_slice(b".\r\n"),
            1 => octets.extend_from_slice(b"..two dots and more\r\n"),
            2 if is_eight_bit => octets.extend_from_slice(b"Gr\xc3\xbc\xc3\x9fe, \xff\xfe nothing valid\r\n"),
            3 => octets.extend_from_slice(b"\r\n"),
            _ => {
                let letter = b'a' + u8::try_from(dice.between(0, 25)).unwrap();
                octets.resize(octets.len() + dice.size(10, 300), letter);
                octets.extend_from_slice(b"\r\n");
            }
        }
    }
}
