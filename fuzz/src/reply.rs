//! What a server says to fifty commands. The first octet says how many of the following cut the rest, which is the replies.
//! Cut anywhere they are the same, and up to the first thing that is wrong they are what a naive reader of lines finds.

use crate::pieces;
use journal_relay::mail::Reply;
use journal_relay::smtp::client::{Client, Command, MAX_REPLY_LINE, MAX_REPLY_LINES, ReplyError};

const COMMANDS: usize = 50;

/// Stops where it doesn't hold.
pub fn check(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (seed, octets) = rest.split_at(rest.len().min(usize::from(count % 8)));
    let (replies, error) = read(&[octets]);
    let cut = read(&pieces(seed, octets));
    assert_eq!((&replies, &error), (&cut.0, &cut.1));
    let expected = read_lines(octets);
    assert_eq!(replies, expected);
    for reply in &replies {
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        assert_eq!(read(&[&wire]), (vec![reply.clone()], None), "what is passed on means the same");
    }
}

fn read(pieces: &[&[u8]]) -> (Vec<Reply>, Option<ReplyError>) {
    let mut client = Client::new();
    client.feed(b"220 a.example\r\n");
    assert!(matches!(client.next_reply(), Ok(Some(_))));
    client.queue(Command::Hello("b.example".to_owned()));
    client.note_sent(client.output().len());
    client.feed(b"250-a.example\r\n250 PIPELINING\r\n");
    assert!(matches!(client.next_reply(), Ok(Some(_))));
    (0..COMMANDS).for_each(|_| client.queue(Command::Reset));
    client.note_sent(client.output().len());
    let mut replies = Vec::new();
    for piece in pieces {
        client.feed(piece);
        loop {
            match client.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

/// The replies to commands that have no 3yz, up to what is none.
fn read_lines(octets: &[u8]) -> Vec<Reply> {
    let (mut replies, mut lines, mut code) = (Vec::new(), Vec::new(), None);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let sound = line.len() <= MAX_REPLY_LINE && line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit);
        if !sound || !(b'2'..=b'5').contains(&line[0]) || !matches!(line.get(3), None | Some(b' ' | b'-')) {
            break;
        }
        let found: u16 = std::str::from_utf8(&line[..3]).expect("digits").parse().expect("digits");
        if code.is_some_and(|code| code != found) || lines.len() >= MAX_REPLY_LINES {
            break;
        }
        lines.push(read_text(line.get(4..).unwrap_or_default()));
        code = Some(found);
        if line.get(3) != Some(&b'-') {
            code = None;
            if found / 100 == 3 || replies.len() == COMMANDS {
                break;
            }
            replies.push(Reply::multiline(found, std::mem::take(&mut lines)));
        }
    }
    replies
}

/// A question mark for each octet that is no letter.
fn read_text(mut octets: &[u8]) -> String {
    let mut text = String::new();
    while let Some(first) = octets.first() {
        let letter = (1..=octets.len().min(4)).find_map(|length| std::str::from_utf8(&octets[..length]).ok());
        match letter.and_then(|letter| letter.chars().next()) {
            Some(letter) if *first == b'\t' || !letter.is_control() => text.push(letter),
            _ => text.push('?'),
        }
        octets = &octets[letter.map_or(1, str::len)..];
    }
    text
}
