//! What may be overheard of a session, and what may not.

use super::*;
use crate::smtp::session::{Settings, Step};
use crate::smtp::{Extensions, Mechanism};
use proptest::prelude::*;

const SECRETS: [&str; 6] = ["s3cret", "c2VjcmV0", "Subject", "the body", "alice@example", "bob"];

fn session() -> Session {
    let mut session = unheard();
    session.listen_in();
    session.greet(Reply::new(220, "relay.example ESMTP"));
    session
}

fn unheard() -> Session {
    let settings =
        Settings { hostname: "relay.example".into(), max_recipients: 100, max_errors: 1_000, requires_tls: false };
    Session::new(settings)
}

fn offers() -> Extensions {
    Extensions {
        pipelining: true,
        size: Some(1_000),
        eight_bit_mime: true,
        dsn: true,
        chunking: true,
        auth: vec![Mechanism::Plain, Mechanism::Login],
        ..Extensions::default()
    }
}

/// Feeds everything and answers whatever is asked; DATA with `data`.
fn converse(session: &mut Session, input: &[u8], data: u16) -> Vec<String> {
    session.feed(input);
    let mut asks = Vec::new();
    for _ in 0..100_000 {
        match session.step() {
            Step::NeedInput if asks.is_empty() => break,
            Step::NeedInput | Step::AwaitAnswers => {
                if asks.is_empty() {
                    break;
                }
                let code = asks.remove(0);
                let enhanced = code / 100;
                session.answered(Reply::new(code, format!("{enhanced}.0.0 said")));
            }
            Step::Hello { .. } => session.announce(&offers()),
            Step::Mail(_) | Step::Rcpt(_) | Step::EndOfData(_) => asks.push(250),
            Step::Data { .. } => asks.push(data),
            Step::Auth(auth) => asks.push(if auth.initial.is_some() { 535 } else { 334 }),
            Step::AuthResponse(_) => asks.push(535),
            Step::Content(..) | Step::AuthAbort | Step::Reset => {}
            Step::StartTls | Step::Close(_) => break,
        }
    }
    session.overheard().into_iter().map(|spoken| format!("{} {}", spoken.by.as_str(), spoken.line)).collect()
}

#[test]
fn a_dialogue_is_heard_in_its_order_and_without_its_message() {
    let said = converse(
        &mut session(),
        b"EHLO client.example\r\nMAIL FROM:<alice@example.org> SIZE=100\r\nRCPT TO:<bob@example.net> NOTIFY=NEVER \
          ORCPT=rfc822;bob+40example.net\r\nDATA\r\nSubject: s3cret\r\n\r\nthe body\r\n.\r\nQUIT\r\n",
        354,
    );
    let expected = [
        "relay 220 relay.example ESMTP",
        "client EHLO client.example",
        "relay 250-relay.example greets client.example",
        "relay 250-PIPELINING",
        "relay 250-SIZE 1000",
        "relay 250-8BITMIME",
        "relay 250-AUTH PLAIN LOGIN",
        "relay 250-DSN",
        "relay 250 CHUNKING",
        "client MAIL FROM:<alice@example.org> SIZE=100",
        "client RCPT TO:<bob@example.net> NOTIFY=NEVER ORCPT=***",
        "client DATA",
        "relay 250 2.0.0 said",
        "relay 250 2.0.0 said",
        "relay 354 3.0.0 said",
        "client (the message, and its final dot)",
        "relay 250 2.0.0 said",
        "client QUIT",
        "relay 221 2.0.0 Bye",
    ];
    assert_eq!(said, expected);
}

#[test]
fn chunks_pass_unheard_wherever_their_octets_look_like_commands() {
    let said = converse(
        &mut session(),
        b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 15\r\nSubject: s3cret\
          BDAT 23 LAST\r\n\r\n\r\nMAIL FROM:<bob@x.y>NOOP\r\n",
        354,
    );
    let from_client: Vec<_> = said.iter().filter(|line| line.starts_with("client ")).collect();
    assert_eq!(from_client.len(), 6, "{said:?}");
    assert!(from_client[3..].iter().map(|line| line.as_str()).eq([
        "client BDAT 15",
        "client BDAT 23 LAST",
        "client NOOP"
    ]));
    assert!(!said.concat().contains("s3cret") && !said.concat().contains("bob@"), "{said:?}");
}

#[test]
fn who_goes_on_behind_a_refusal_tells_no_secret() {
    let input = b"EHLO alice@example.org\r\nAUTH PLAIN AGEAc2VjcmV0\r\nAUTH LOGIN\r\nc2VjcmV0\r\nc2VjcmV0\r\nAUTH s3cret\r\n\
                  s3cret\r\nMAIL FROM:alice@example.org\r\nMAIL FROM:<a@b.example> AUTH=alice+40example.org ENVID=s3cret\r\n\
                  RCPT TO:<c@d.example>\r\nDATA\r\nSubject: s3cret\r\n\r\nthe body of bob\r\nVRFY bob\r\nHELP bob\r\n.\r\n";
    let said = converse(&mut session(), input, 550).concat();
    for secret in SECRETS.iter().chain(&["alice"]) {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
    for told in ["EHLO ***", "greets ***", "AUTH PLAIN ***", "AUTH LOGIN ***", "334 ***", "(a response)", "AUTH ? ***"]
    {
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[test]
fn what_gathers_is_bounded_and_what_is_left_out_is_counted() {
    let mut session = session();
    converse(&mut session, b"EHLO c.example\r\n", 354);
    for _ in 0..20 {
        session.feed(&b"FOO\r\n".repeat(100));
        while !matches!(session.step(), Step::NeedInput | Step::Close(_)) {}
    }
    let heard = session.overheard();
    assert_eq!(heard.len(), MAX_TRACE + 1);
    assert!(heard[MAX_TRACE].line.ends_with("more lines were said)"), "{:?}", heard[MAX_TRACE]);
    assert!(session.overheard().is_empty());
}

#[test]
fn nobody_listens_in_unless_asked() {
    let settings = Settings { hostname: "r.example".into(), max_recipients: 1, max_errors: 9, requires_tls: false };
    let mut session = Session::new(settings);
    session.greet(Reply::new(220, "r.example"));
    assert!(session.overheard().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A marked word in a place where a message, a password or a line that is no command stands is never heard, wherever the
    /// input is cut, whether DATA is taken or not.
    #[test]
    fn no_octet_of_a_message_or_a_password_is_heard(
        parts in prop::collection::vec(prop::sample::select(vec![
            "EHLO c.example\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n", "DATA\r\n", "BDAT 9\r\nq7q7q7q7q",
            "BDAT 9 LAST\r\nq7q7q7q7q", "q7q7q7\r\n", "Subject: q7q7q7\r\n\r\nq7q7q7\r\n", ".\r\n", "AUTH PLAIN q7q7q7q7\r\n",
            "AUTH LOGIN\r\n", "q7q7q7q7\r\n", "RSET\r\n", "NOOP q7q7q7\r\n", "MAIL q7q7q7\r\n", "BDAT q7q7\r\n", "*\r\n", "q7q7",
        ]), 0..30),
        taken in any::<bool>(),
        cut in 1_usize..40,
    ) {
        let input = parts.concat();
        let mut session = session();
        for piece in input.as_bytes().chunks(cut) {
            for line in converse(&mut session, piece, if taken { 354 } else { 450 }) {
                prop_assert!(!line.contains("q7"), "{} in {:?}", line, input);
            }
        }
    }

    /// Whoever listens in changes nothing of what the client hears.
    #[test]
    fn a_session_says_the_same_whether_it_is_overheard_or_not(
        parts in prop::collection::vec(prop::sample::select(vec![
            "EHLO c.example\r\n", "EHLO a@b\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\nRSET\r\n", "DATA\r\n", "x\r\n.\r\n",
            "RCPT TO:<c@d.example>\r\n", "BDAT 3\r\nabc", "BDAT 3 LAST\r\nabc", "AUTH LOGIN\r\n", "YQ==\r\n", "QUIT\r\n", "FOO\r\n", "BDAT x\r\n",
        ]), 0..30),
        taken in any::<bool>(),
    ) {
        let (mut heard, mut unheard) = (session(), unheard());
        unheard.greet(Reply::new(220, "relay.example ESMTP"));
        let data = if taken { 354 } else { 450 };
        converse(&mut heard, parts.concat().as_bytes(), data);
        prop_assert!(converse(&mut unheard, parts.concat().as_bytes(), data).is_empty());
        prop_assert_eq!(heard.output(), unheard.output());
    }
}
