//! A conversation with a client. The first octet of the input says whether each ask is answered at once (1), whether EHLO
//! stands before the rest (2), and, from the third bit on, how many of the following octets cut the rest, which is what the
//! client sends. Cut anywhere, and octet by octet, the steps and the output are the same; what waits has a bound.

use crate::pieces;
use journal_relay::mail::Reply;
use journal_relay::smtp::session::{CloseReason, MAX_FEED, MAX_OUTSTANDING, Session, Settings, Step};
use journal_relay::smtp::{Extensions, Mechanism};
use std::collections::VecDeque;

/// Stops where it doesn't hold.
pub fn check(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (seed, sent) = rest.split_at(rest.len().min(usize::from(flags >> 2) % 8));
    let hello: &[u8] = if flags & 2 == 0 { b"" } else { b"EHLO client.example.org\r\n" };
    let wire = [hello, sent].concat();
    let at_once = flags & 1 != 0;
    let largest: Vec<&[u8]> = wire.chunks(MAX_FEED).collect();
    let whole = converse(&largest, at_once);
    assert_eq!(whole, converse(&pieces(seed, &wire), at_once));
    let singly: Vec<&[u8]> = wire.chunks(1).collect();
    assert_eq!(whole, converse(&singly, at_once));
}

/// Answers come by what was asked alone, so that they don't depend on time.
fn answer_to(ask: &str) -> Reply {
    let refused = ask.contains("refuse");
    match ask.split(' ').next().unwrap_or_default() {
        "DATA" => Reply::new(354, "go"),
        "AUTH" if ask.ends_with("PLAIN AGEAYg==") => Reply::new(235, "2.7.0 yes"),
        "AUTH" => Reply::new(334, "VXNlcm5hbWU6"),
        "RESPONSE" => match ask.split(' ').nth(1).unwrap() {
            "YQ==" => Reply::new(334, "UGFzc3dvcmQ6"),
            "Yg==" => Reply::new(235, "2.7.0 yes"),
            "" => Reply::new(454, "4.7.0 not now"),
            _ => Reply::new(535, "5.7.8 no"),
        },
        "RCPT" if ask.contains("leaving") => Reply::new(421, "4.3.2 going down"),
        "END" | "MAIL" | "RCPT" if refused => Reply::new(550, "5.1.1 no"),
        _ => Reply::new(250, "2.0.0 yes"),
    }
}

/// What came of a conversation.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// As it is named.
    pub steps: Vec<String>,
    /// As it is named.
    pub content: Vec<u8>,
    /// As it is named.
    pub output: Vec<u8>,
    /// As it is named.
    pub closed: Option<CloseReason>,
}

/// A driver that answers each ask at once, or only when it must.
pub fn converse(pieces: &[&[u8]], at_once: bool) -> Seen {
    let mut session = Session::new(Settings {
        hostname: "relay.example.org".into(),
        max_recipients: 5,
        max_errors: 20,
        requires_tls: false,
    });
    session.greet(Reply::new(220, "relay.example.org ESMTP"));
    let (mut seen, mut asks) = (Seen::default(), VecDeque::new());
    for piece in pieces {
        session.feed(piece);
        while step_once(&mut session, &mut seen, &mut asks, at_once) {}
        assert!(asks.len() <= MAX_OUTSTANDING);
        if seen.closed.is_some() {
            break;
        }
    }
    settle(&mut session, &mut asks);
    while seen.closed.is_none() && step_once(&mut session, &mut seen, &mut asks, at_once) {
        settle(&mut session, &mut asks);
    }
    settle(&mut session, &mut asks);
    assert!(!session.has_outstanding());
    seen.output.append(session.output());
    seen
}

/// False when input is needed or the session is closed.
fn step_once(session: &mut Session, seen: &mut Seen, asks: &mut VecDeque<String>, at_once: bool) -> bool {
    let (mut starttls, mut hello) = (false, false);
    let text = match session.step() {
        Step::NeedInput => return false,
        Step::AwaitAnswers => {
            assert!(!asks.is_empty(), "the session waits for answers that nobody owes");
            settle(session, asks);
            return true;
        }
        Step::Content(content, _) => {
            assert!(!content.is_empty());
            seen.content.extend_from_slice(content);
            return true;
        }
        Step::Close(reason) => {
            seen.closed = Some(reason);
            return false;
        }
        Step::Reset => {
            seen.steps.push("RESET".into());
            return true;
        }
        Step::StartTls => {
            starttls = true;
            "STARTTLS".into()
        }
        Step::Hello { name, extended } => {
            hello = true;
            format!("HELLO {name} {extended}")
        }
        Step::Mail(mail) => format!("MAIL {mail:?}"),
        Step::Rcpt(rcpt) => format!("RCPT {rcpt:?}"),
        Step::Data { .. } => "DATA".into(),
        Step::Auth(auth) => {
            let initial = auth.initial.as_ref().map(|initial| initial.as_str().to_owned());
            format!("AUTH {} {}", auth.mechanism.as_str(), initial.unwrap_or_default())
        }
        Step::AuthResponse(response) => format!("RESPONSE {}", response.as_str()),
        Step::AuthAbort => {
            seen.steps.push("ABORT".into());
            return true;
        }
        Step::EndOfData(flaws) => format!("END {flaws:?} after {}", seen.content.len()),
    };
    seen.output.append(session.output());
    seen.steps.push(text.clone());
    match (starttls, hello) {
        // What was sent along in plain text is forgotten, and how much that is depends on the cut: a client that is
        // honest sends nothing. So the test ends here, as if the handshake had failed.
        (true, _) => session.say(Reply::new(421, "4.7.0 no handshake")),
        (_, true) => session.announce(&offers()),
        _ => {
            asks.push_back(text);
            if at_once {
                settle(session, asks);
            }
        }
    }
    true
}

fn settle(session: &mut Session, asks: &mut VecDeque<String>) {
    for ask in asks.drain(..) {
        session.answered(answer_to(&ask));
    }
}

/// What the session is told to announce.
pub fn offers() -> Extensions {
    Extensions {
        pipelining: true,
        size: Some(1000),
        eight_bit_mime: true,
        smtp_utf8: true,
        enhanced_status_codes: true,
        starttls: true,
        chunking: true,
        binary_mime: false,
        dsn: true,
        require_tls: true,
        limits: Default::default(),
        auth: vec![Mechanism::Plain, Mechanism::Login],
    }
}
