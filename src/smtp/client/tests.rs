//! Conversations of the client side, told as the octets of both sides.

use super::*;
use crate::mail::{Address, ReversePath};
use crate::smtp::{Body, Mail, Parameter, Rcpt};
use proptest::prelude::*;

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn mail(parameters: &[(&str, Option<&str>)]) -> Command {
    let parameter = |(keyword, value): &(&str, Option<&str>)| Parameter {
        keyword: (*keyword).to_owned(),
        value: value.map(str::to_owned),
    };
    Command::Mail(Mail {
        reverse_path: ReversePath::Address(address("a@example.org")),
        size: None,
        body: Body::SevenBit,
        smtp_utf8: false,
        parameters: parameters.iter().map(parameter).collect(),
    })
}

fn rcpt(text: &str) -> Command {
    Command::Rcpt(Rcpt { forward_path: address(text), parameters: Vec::new() })
}

fn take(client: &mut Client) -> String {
    let output = String::from_utf8(client.output().to_vec()).unwrap();
    client.note_sent(output.len());
    output
}

fn code(client: &mut Client) -> Option<u16> {
    client.next_reply().unwrap().map(|reply| reply.code())
}

/// Greeted, and answered to EHLO with `offer`.
fn greeted(offer: &str) -> Client {
    let mut client = Client::new();
    client.queue(Command::Hello("relay.example".into()));
    assert_eq!(take(&mut client), "", "the server speaks first");
    client.feed(b"220 mx.example ESMTP\r\n");
    assert_eq!(code(&mut client), Some(220));
    assert_eq!(take(&mut client), "EHLO relay.example\r\n");
    client.feed(format!("250-mx.example\r\n{offer}250 HELP\r\n").as_bytes());
    assert_eq!(code(&mut client), Some(250));
    assert!(client.is_settled());
    client
}

#[test]
fn without_pipelining_each_command_waits_for_the_reply_before() {
    let mut client = greeted("");
    for command in [mail(&[]), rcpt("b@example.net"), Command::Data] {
        client.queue(command);
    }
    assert_eq!(take(&mut client), "MAIL FROM:<a@example.org>\r\n");
    assert_eq!(code(&mut client), None);
    client.feed(b"250 Ok\r\n");
    assert_eq!(take(&mut client), "", "released when the reply is taken");
    assert_eq!(code(&mut client), Some(250));
    assert_eq!(take(&mut client), "RCPT TO:<b@example.net>\r\n");
    client.feed(b"250 Ok\r\n");
    assert_eq!(code(&mut client), Some(250));
    assert_eq!(take(&mut client), "DATA\r\n");
}

#[test]
fn with_pipelining_a_group_ends_with_data_and_begins_with_the_end_of_a_message() {
    let mut client = greeted("250-PIPELINING\r\n");
    for command in [Command::Reset, mail(&[]), rcpt("b@example.net"), Command::Data] {
        client.queue(command);
    }
    assert_eq!(take(&mut client), "RSET\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n");
    client.feed(b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n");
    for expected in [250, 250, 250, 354] {
        assert_eq!(code(&mut client), Some(expected));
    }
    assert!(client.is_in_data());
    client.queue(mail(&[]));
    assert_eq!(take(&mut client), "", "MAIL would be a line of the message");
    assert!(client.content(b".a\r\n") && client.content(b".b"));
    assert!(client.end_of_data());
    assert_eq!(take(&mut client), "..a\r\n..b\r\n.\r\nMAIL FROM:<a@example.org>\r\n");
    client.feed(b"250 taken\r\n");
    assert_eq!(code(&mut client), Some(250));
    assert!(!client.has_open_transaction());
    client.feed(b"250 a\r\n");
    assert_eq!(code(&mut client), Some(250));
    assert!(client.has_open_transaction());
}

#[test]
fn content_outside_of_data_is_not_taken() {
    let mut client = greeted("");
    assert!(!client.content(b"QUIT\r\n") && !client.end_of_data());
    client.queue(Command::Data);
    take(&mut client);
    assert!(!client.content(b"x"), "no 354 yet");
    client.feed(b"554 no valid recipients\r\n");
    assert_eq!(code(&mut client), Some(554));
    assert!(!client.content(b"x"));
    assert_eq!(client.output(), b"");
}

#[test]
fn helo_follows_an_ehlo_that_is_refused() {
    let mut client = Client::new();
    client.queue(Command::Hello("relay.example".into()));
    client.queue(mail(&[("SIZE", Some("5")), ("BODY", Some("7bit"))]));
    client.feed(b"220 mx\r\n");
    assert_eq!(code(&mut client), Some(220));
    assert_eq!(take(&mut client), "EHLO relay.example\r\n");
    client.feed(b"502 what?\r\n");
    assert_eq!(code(&mut client), None);
    assert_eq!(take(&mut client), "HELO relay.example\r\n");
    client.feed(b"250 mx\r\n");
    assert_eq!(code(&mut client), Some(250));
    assert_eq!(client.offer(), &Offer::default());
    assert_eq!(take(&mut client), "MAIL FROM:<a@example.org>\r\n");
}

#[test]
fn an_ehlo_that_is_deferred_stays_so() {
    let mut client = Client::new();
    client.queue(Command::Hello("relay.example".into()));
    client.feed(b"220 mx\r\n");
    assert_eq!(code(&mut client), Some(220));
    take(&mut client);
    client.feed(b"421 busy\r\n");
    assert_eq!(code(&mut client), Some(421));
    assert_eq!(take(&mut client), "");
}

#[test]
fn parameters_pass_unchanged_in_their_order() {
    let mut client = greeted("250-SIZE\r\n250-8BITMIME\r\n");
    client.queue(mail(&[("X-Odd", Some("a=b")), ("size", Some("007")), ("Body", Some("7Bit")), ("SMTPUTF8", None)]));
    assert_eq!(take(&mut client), "MAIL FROM:<a@example.org> X-Odd=a=b size=007 Body=7Bit SMTPUTF8\r\n");
}

#[test]
fn a_value_cannot_make_a_second_command() {
    let mut client = greeted("");
    client.queue(mail(&[("ENVID", Some("x\r\nRCPT TO:<evil@example.com>"))]));
    assert_eq!(take(&mut client), "MAIL FROM:<a@example.org> ENVID=xRCPT TO:<evil@example.com>\r\n");
}

#[test]
fn a_password_is_encoded_and_never_shown() {
    let mut client = greeted("250-AUTH PLAIN\r\n");
    let command = Command::AuthPlain { user: "user".into(), password: "secret".into() };
    assert!(!format!("{command:?}").contains("secret"));
    client.queue(command);
    assert_eq!(take(&mut client), "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n");
}

#[test]
fn a_reply_before_its_command_is_an_error() {
    let mut client = greeted("");
    client.queue(mail(&[]));
    // Queued, and not sent.
    client.feed(b"250 early\r\n");
    assert_eq!(client.next_reply(), Err(ReplyError::Unasked(Reply::new(250, "early"))));
    take(&mut client);
    client.feed(b"250 Ok\r\n");
    assert!(client.next_reply().is_err(), "the error stays");
}

#[test]
fn a_reply_that_began_before_its_command_is_an_error() {
    let mut client = greeted("");
    client.feed(b"25");
    client.queue(mail(&[]));
    take(&mut client);
    client.feed(b"0 early\r\n");
    assert_eq!(client.next_reply(), Err(ReplyError::Unasked(Reply::new(250, "early"))));
}

#[test]
fn a_command_half_sent_has_no_reply_yet() {
    let mut client = greeted("");
    client.queue(mail(&[]));
    client.note_sent(client.output().len() - 1);
    client.feed(b"250 early\r\n");
    assert!(client.next_reply().is_err());
}

#[test]
fn a_reply_while_the_message_is_sent_is_an_error_that_carries_it() {
    let mut client = greeted("");
    client.queue(Command::Data);
    take(&mut client);
    client.feed(b"354 go\r\n");
    assert_eq!(code(&mut client), Some(354));
    assert!(client.content(b"a\r\n"));
    take(&mut client);
    client.feed(b"421 too slow\r\n");
    let error = client.next_reply().unwrap_err();
    assert_eq!(error.reply(), Some(&Reply::new(421, "too slow")));
}

#[test]
fn sound_replies_come_before_the_error() {
    let mut client = greeted("250-PIPELINING\r\n");
    client.queue(mail(&[]));
    take(&mut client);
    client.feed(b"250 Ok\r\n250 more\r\n");
    assert_eq!(code(&mut client), Some(250));
    assert!(client.next_reply().is_err());
    assert!(!client.is_settled());
}

#[test]
fn nothing_said_in_plain_text_survives_the_handshake() {
    let mut client = greeted("250-STARTTLS\r\n250-PIPELINING\r\n");
    client.queue(Command::StartTls);
    take(&mut client);
    client.feed(b"220 go\r\n");
    assert_eq!(code(&mut client), Some(220));
    assert_eq!(client.start_tls(), Ok(()));
    assert_eq!(client.offer(), &Offer::default());
    for injected in [&b"220 go\r\n250 injected\r\n"[..], b"220 go\r\n2", b"220 go\r\n\0"] {
        let mut client = greeted("250-STARTTLS\r\n");
        client.queue(Command::StartTls);
        take(&mut client);
        client.feed(injected);
        assert_eq!(code(&mut client), Some(220));
        assert_eq!(client.start_tls(), Err(ReplyError::BeforeTls), "{injected:?}");
    }
}

#[test]
fn a_reply_of_the_wrong_class_is_an_error() {
    for (command, line) in [
        (mail(&[]), &b"354 go on\r\n"[..]),
        (rcpt("b@example.net"), b"354 go on\r\n"),
        (Command::Data, b"250 Ok\r\n"),
        (Command::Reset, b"334 \r\n"),
    ] {
        let mut client = greeted("");
        let verb = command.verb();
        client.queue(command);
        take(&mut client);
        client.feed(line);
        assert!(matches!(client.next_reply(), Err(ReplyError::OutOfPlace(at, _)) if at == verb), "{verb}");
    }
}

#[test]
fn a_transaction_is_open_from_mail_until_it_is_over() {
    let mut client = greeted("250-PIPELINING\r\n");
    let mut say = |command: Command, reply: &[u8]| {
        client.queue(command);
        take(&mut client);
        client.feed(reply);
        assert!(code(&mut client).is_some());
        client.has_open_transaction()
    };
    assert!(!say(mail(&[]), b"550 no\r\n"));
    assert!(say(mail(&[]), b"250 yes\r\n"));
    assert!(say(rcpt("b@example.net"), b"550 no\r\n"));
    assert!(say(Command::Data, b"554 no\r\n"));
    assert!(!say(Command::Reset, b"250 Ok\r\n"));
}

/// Plays a transaction against a server that answers each line it gets, in pieces cut at `cuts`; gives everything sent and
/// every reply.
fn play(pipelining: bool, recipients: usize, cuts: &[usize]) -> (String, Vec<Reply>) {
    let mut client = greeted(if pipelining { "250-PIPELINING\r\n" } else { "" });
    client.queue(mail(&[]));
    (0..recipients).for_each(|number| client.queue(rcpt(&format!("u{number}@example.net"))));
    client.queue(Command::Data);
    let (mut sent, mut replies, mut cuts) = (String::new(), Vec::new(), cuts.iter().copied().cycle());
    while replies.len() < recipients + 2 {
        let output = take(&mut client);
        let mut wire = Vec::new();
        for line in output.lines() {
            let code = if line == "DATA" { 354 } else { 250 };
            Reply::multiline(code, vec!["to".into(), line.into()]).write_to(&mut wire);
        }
        sent.push_str(&output);
        while !wire.is_empty() {
            let rest = wire.split_off(cuts.next().unwrap_or(1).min(wire.len()));
            client.feed(&wire);
            wire = rest;
        }
        while let Some(reply) = client.next_reply().unwrap() {
            replies.push(reply);
        }
    }
    (sent, replies)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn pieces_and_pipelining_change_neither_commands_nor_replies(
        recipients in 0usize..12, cuts in proptest::collection::vec(1usize..40, 1..6),
    ) {
        let whole = play(false, recipients, &[usize::MAX]);
        prop_assert_eq!(&play(false, recipients, &cuts), &whole);
        prop_assert_eq!(&play(true, recipients, &cuts), &whole);
    }

    #[test]
    fn no_octets_of_a_server_make_a_reply_to_a_command_that_was_not_sent(octets in any::<Vec<u8>>()) {
        let mut client = greeted("");
        client.feed(&octets);
        client.feed(b"250 Ok\r\n");
        client.queue(mail(&[]));
        take(&mut client);
        client.feed(b"250 Ok\r\n");
        prop_assert!(client.next_reply().is_err());
    }
}
