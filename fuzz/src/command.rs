//! A command line: the whole input. It is a command, or has a permanent refusal in one line of printable text. A MAIL or RCPT
//! that our client side says again is one line, and means the same to whoever reads it.

use journal_relay::mail::Reply;
use journal_relay::smtp::client::{Client, Command as Saying};
use journal_relay::smtp::command::{Command, is_http_request};

const OFFER: &[u8] = b"220 a.example\r\n";
const HELLO: &[u8] =
    b"250-a.example\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-REQUIRETLS\r\n250 CHUNKING\r\n";

/// Stops where it doesn't hold.
pub fn check(line: &[u8]) {
    let _ = is_http_request(line);
    match Command::parse(line) {
        Err(reply) => check_refusal(&reply),
        Ok(Command::Mail(mail)) => {
            let again = said(Saying::Mail(mail.clone()));
            assert_eq!(Command::parse(&again), Ok(Command::Mail(mail)), "{}", again.escape_ascii());
        }
        Ok(Command::Rcpt(rcpt)) => {
            let again = said(Saying::Rcpt(rcpt.clone()));
            assert_eq!(Command::parse(&again), Ok(Command::Rcpt(rcpt)), "{}", again.escape_ascii());
        }
        Ok(Command::Ehlo(name) | Command::Helo(name)) => {
            assert!(name.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>()\\\";@".contains(&octet)), "{name}");
        }
        Ok(_) => {}
    }
}

fn check_refusal(reply: &Reply) {
    assert!(reply.is_permanent() && reply.lines().len() == 1, "{reply}");
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    let text = wire.strip_suffix(b"\r\n").expect("a line");
    assert!(!text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)), "{}", wire.escape_ascii());
}

/// The line, without its CRLF.
fn said(command: Saying) -> Vec<u8> {
    let mut client = Client::new();
    client.feed(OFFER);
    assert!(matches!(client.next_reply(), Ok(Some(_))));
    client.queue(Saying::Hello("b.example".to_owned()));
    client.note_sent(client.output().len());
    client.feed(HELLO);
    assert!(matches!(client.next_reply(), Ok(Some(_))));
    client.queue(command);
    let line = client.output().strip_suffix(b"\r\n").expect("a line").to_vec();
    assert!(!line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)), "{}", line.escape_ascii());
    line
}
