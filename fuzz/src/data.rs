//! The octets of a message. The first octet says how many of the following cut the rest; the rest is what stands behind DATA,
//! and also a message of its own.
//!
//! * What stands behind DATA means to the decoder what it means to a reader of lines that knows nothing of speed.
//! * A message that our client side says, by DATA or in chunks, is the message that our server side reads.

use crate::pieces;
use journal_relay::mail::Reply;
use journal_relay::smtp::client::{Client, Command};
use journal_relay::smtp::data::Chunk;
use journal_relay::smtp::session::{Session, Settings, Step};
use journal_relay::smtp::{Decoder, Extensions, Flaws, Mail, Rcpt};

/// Stops where it doesn't hold.
pub fn check(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (seed, octets) = rest.split_at(rest.len().min(usize::from(count % 8)));
    let pieces = pieces(seed, octets);
    check_decoder(octets, &pieces);
    check_round_trip(octets, &pieces, false);
    check_round_trip(octets, &pieces, true);
}

fn check_decoder(wire: &[u8], pieces: &[&[u8]]) {
    let (mut decoder, mut message, mut used, mut ended) = (Decoder::new(), Vec::new(), 0, false);
    'all: for piece in pieces {
        let mut rest = *piece;
        loop {
            let (count, chunk) = decoder.decode(rest);
            (rest, used) = (&rest[count..], used + count);
            match chunk {
                Chunk::Content(content) => message.extend_from_slice(content),
                Chunk::NeedInput => break,
                Chunk::End => {
                    ended = true;
                    break 'all;
                }
            }
        }
    }
    match read_lines(wire) {
        Some((expected, length)) => {
            assert!(ended, "the end was not seen");
            assert_eq!((used, decoder.flaws()), (length, flaws_of(&expected, false)));
            assert_eq!(message, expected);
        }
        None => assert!(!ended, "an end where none is"),
    }
}

/// RFC 5321, section 4.5.2, line by line: the message, and how long it is on the wire; none without its end.
fn read_lines(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut message, mut at) = (Vec::new(), 0);
    loop {
        if wire[at..].starts_with(b".\r\n") {
            return Some((message, at + 3));
        }
        let start = at + usize::from(wire[at..].starts_with(b"."));
        let end = start + wire[start..].windows(2).position(|pair| pair == b"\r\n")? + 2;
        message.extend_from_slice(&wire[start..end]);
        at = end;
    }
}

fn flaws_of(message: &[u8], chunked: bool) -> Flaws {
    let cr_before = |at: usize| at > 0 && message[at - 1] == b'\r';
    Flaws {
        bare_cr: (0..message.len()).any(|at| message[at] == b'\r' && message.get(at + 1) != Some(&b'\n')),
        bare_lf: (0..message.len()).any(|at| message[at] == b'\n' && !cr_before(at)),
        nul: message.contains(&0),
        unended: chunked && !message.is_empty() && !message.ends_with(b"\r\n"),
    }
}

/// A client that has been told everything, and a server that has told it.
fn introduced() -> (Client, Session) {
    let settings = Settings { hostname: "a.example".to_owned(), max_recipients: 9, max_errors: 9, requires_tls: false };
    let (mut client, mut session) = (Client::new(), Session::new(settings));
    session.greet(Reply::new(220, "a.example"));
    hear(&mut client, &mut session);
    client.queue(Command::Hello("b.example".to_owned()));
    say(&mut client, &mut session);
    assert!(matches!(session.step(), Step::Hello { .. }));
    session.announce(&Extensions { pipelining: true, chunking: true, ..Extensions::default() });
    hear(&mut client, &mut session);
    (client, session)
}

fn say(client: &mut Client, session: &mut Session) {
    session.feed(client.output());
    client.note_sent(client.output().len());
}

fn hear(client: &mut Client, session: &mut Session) {
    client.feed(session.output());
    session.output().clear();
    while client.next_reply().expect("the server keeps to the protocol").is_some() {}
}

fn check_round_trip(message: &[u8], pieces: &[&[u8]], chunked: bool) {
    let (mut client, mut session) = introduced();
    client.queue(Command::Mail(mail()));
    client.queue(Command::Rcpt(rcpt()));
    if !chunked {
        client.queue(Command::Data);
    }
    say(&mut client, &mut session);
    let (mut read, mut ended) = (Vec::new(), None);
    go_on(&mut session, &mut read, &mut ended);
    hear(&mut client, &mut session);
    assert!(!chunked || client.begin_chunks());
    for piece in pieces {
        assert!(client.content(piece));
        say(&mut client, &mut session);
        go_on(&mut session, &mut read, &mut ended);
    }
    assert_eq!(ended, None, "an end before the end");
    assert!(client.end_of_data());
    say(&mut client, &mut session);
    go_on(&mut session, &mut read, &mut ended);
    let mut expected = message.to_vec();
    if !chunked && !message.is_empty() && !message.ends_with(b"\r\n") {
        expected.extend_from_slice(b"\r\n");
    }
    assert_eq!(ended, Some(flaws_of(&expected, chunked)));
    assert_eq!(read, expected);
    hear(&mut client, &mut session);
    assert!(client.is_settled() && !client.has_open_transaction() && !session.has_outstanding());
}

/// Whatever the session asks is answered with yes.
fn go_on(session: &mut Session, read: &mut Vec<u8>, ended: &mut Option<Flaws>) {
    loop {
        let code = match session.step() {
            Step::NeedInput => return,
            Step::Content(octets, _) => {
                read.extend_from_slice(octets);
                continue;
            }
            Step::Mail(_) | Step::Rcpt(_) => 250,
            Step::Data { .. } => 354,
            Step::EndOfData(flaws) => {
                *ended = Some(flaws);
                250
            }
            step => panic!("nobody said what leads to {step:?}"),
        };
        session.answered(Reply::new(code, "2.0.0 yes"));
    }
}

fn mail() -> Mail {
    match journal_relay::smtp::command::Command::parse(b"MAIL FROM:<a@a.example>") {
        Ok(journal_relay::smtp::command::Command::Mail(mail)) => mail,
        other => panic!("{other:?}"),
    }
}

fn rcpt() -> Rcpt {
    match journal_relay::smtp::command::Command::parse(b"RCPT TO:<b@b.example>") {
        Ok(journal_relay::smtp::command::Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{other:?}"),
    }
}
