//! What holds for every conversation, sensible or not: cut anywhere it goes the same way, memory has a bound, and nothing
//! stops the world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

use journal_relay::mail::Reply;
use journal_relay::smtp::Extensions;
use journal_relay::smtp::session::{
    CloseReason, MAX_AUTH_LINE, MAX_COMMAND_LINE, MAX_FEED, MAX_IDLE_COMMANDS, MAX_OUTSTANDING, Session, Settings, Step,
};
use proptest::prelude::*;

// The driver of whole conversations, which the fuzz target of the session has, too.
#[allow(dead_code, unreachable_pub, missing_docs, reason = "the other targets' oracles are not called here")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

#[allow(dead_code, unreachable_pub, reason = "the streets use the rest")]
#[path = "smuggling/strict.rs"]
mod strict;

use targets::pieces;
use targets::session::{converse, offers};

/// Things clients send, good and bad; a whole conversation happens to come of it often enough.
const FRAGMENTS: &[&[u8]] = &[
    b"EHLO client.example.org\r\n",
    b"HELO client.example.org\r\n",
    b"EHLO client.example.org\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n",
    b"MAIL FROM:<alice@example.org>\r\n",
    b"MAIL FROM:<refuse@example.org>\r\n",
    b"MAIL FROM:<> SIZE=100 BODY=8BITMIME\r\n",
    b"MAIL FROM:<alice@example.org> SIZE=1001\r\n",
    b"MAIL FROM:<j\xc3\xbcrgen@example.org> SMTPUTF8\r\n",
    b"RCPT TO:<bob@example.net>\r\n",
    b"RCPT TO:<bob@example.net>\r\nRCPT TO:<refuse@example.net>\r\nRCPT TO:<carol@example.net>\r\n",
    b"RCPT TO:<refuse@example.net>\r\n",
    b"RCPT TO:<leaving@example.net>\r\n",
    b"RCPT TO:<bob>\r\n",
    b"DATA\r\n",
    b"DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n",
    b"Subject: x\r\n\r\n..dot\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"\n.\r\n",
    b"\r.\r",
    b"BDAT 4\r\nab\r\n",
    b"BDAT 3 LAST\r\nQUI",
    b"BDAT 0 LAST\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"VRFY bob\r\n",
    b"HELP\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"auth login\r\n",
    b"AUTH LOGIN YQ==\r\nYg==\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"AUTH PLAIN a b\r\n",
    b"YQ==\r\n",
    b"Yg==\r\n",
    b"*\r\n",
    b"\r\n",
    b"MAIL FROM:<alice@example.org> AUTH=<>\r\n",
    b"GET / HTTP/1.1\r\n",
    b"FOO\r\n",
    b"\r",
    b"\n",
    b"\0",
];

fn conversations() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        30 => prop::sample::select(FRAGMENTS).prop_map(<[u8]>::to_vec),
        2 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (MAX_COMMAND_LINE - 3..MAX_COMMAND_LINE + 3).prop_map(|length| [b"x".repeat(length), b"\r\n".to_vec()].concat()),
        1 => (any::<bool>(), MAX_AUTH_LINE - 13..MAX_AUTH_LINE + 3).prop_map(|(command, length)| {
            let start: &[u8] = if command { b"AUTH PLAIN " } else { b"" };
            [start, &b"x".repeat(length), b"\r\n"].concat()
        }),
    ];
    prop::collection::vec(fragment, 0..40).prop_map(|fragments| fragments.concat())
}

/// One in two begins as it should.
fn likely_conversations() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), conversations()).prop_map(|(sensible, rest)| {
        if sensible { [b"EHLO client.example.org\r\n".to_vec(), rest].concat() } else { rest }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_conversation_cut_anywhere_goes_the_same_way(
        wire in likely_conversations(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        at_once in any::<bool>(),
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        places.extend([0, wire.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
        let singly: Vec<&[u8]> = wire.chunks(1).collect();
        let whole = converse(&[&wire], at_once);
        prop_assert_eq!(&whole, &converse(&pieces, at_once));
        prop_assert_eq!(&whole, &converse(&singly, at_once));
    }

    #[test]
    fn each_line_of_garbage_has_one_reply_until_there_are_too_many(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..30),
    ) {
        // No CR within a line, as it could end it, and a first octet that no command has.
        let line = |line: &Vec<u8>| {
            let inner = line.iter().map(|octet| if *octet == b'\r' { b'\n' } else { *octet });
            b"?".iter().copied().chain(inner).chain(*b"\r\n").collect::<Vec<u8>>()
        };
        let wire = lines.iter().map(line).collect::<Vec<_>>().concat();
        let seen = converse(&[&wire], true);
        let replies = seen.output.split(|octet| *octet == b'\n').count() - 2;
        prop_assert!(seen.steps.is_empty());
        prop_assert_eq!(replies, if lines.len() < 20 { lines.len() } else { 21 });
        prop_assert_eq!(seen.closed, (lines.len() >= 20).then_some(CloseReason::TooManyErrors));
    }
}

fn introduced() -> Session {
    let mut session = Session::new(Settings {
        hostname: "relay.example.org".into(),
        max_recipients: 1000,
        max_errors: 20,
        requires_tls: false,
    });
    session.greet(Reply::new(220, "relay.example.org ESMTP"));
    session.feed(b"EHLO client.example.org\r\n");
    assert!(matches!(session.step(), Step::Hello { .. }));
    session.announce(&offers());
    session.output().clear();
    session
}

#[test]
fn no_more_asks_than_the_maximum_are_outstanding() {
    let mut session = introduced();
    session.feed(b"MAIL FROM:<alice@example.org>\r\n");
    session.feed(&b"RCPT TO:<bob@example.net>\r\n".repeat(MAX_OUTSTANDING));
    assert!(matches!(session.step(), Step::Mail(_)));
    for _ in 1..MAX_OUTSTANDING {
        assert!(matches!(session.step(), Step::Rcpt(_)));
    }
    assert_eq!(session.step(), Step::AwaitAnswers);
    session.answered(Reply::new(250, "2.1.0 Ok"));
    assert!(matches!(session.step(), Step::Rcpt(_)));
    assert_eq!(session.step(), Step::AwaitAnswers);
}

#[test]
fn replies_of_our_own_that_wait_behind_an_ask_are_bounded_too() {
    let mut session = introduced();
    session.feed(b"MAIL FROM:<alice@example.org>\r\n");
    session.feed(&b"NOOP\r\n".repeat(MAX_OUTSTANDING));
    assert!(matches!(session.step(), Step::Mail(_)));
    assert_eq!(session.step(), Step::AwaitAnswers);
    assert!(session.output().is_empty());
    session.answered(Reply::new(250, "2.1.0 Ok"));
    assert_eq!(session.step(), Step::NeedInput);
    assert_eq!(session.output().split(|octet| *octet == b'\n').count() - 1, 1 + MAX_OUTSTANDING);
}

#[test]
fn commands_without_end_that_bring_no_mail_end_the_session_with_little_output() {
    for command in [&b"NOOP\r\n"[..], b"HELP\r\n", b"RSET\r\n", b"VRFY a\r\n", b"FOO\r\n", b"\r\n", b"EXPN a\r\n"] {
        let mut session = introduced();
        session.feed(&command.repeat(MAX_FEED / command.len()));
        assert_eq!(session.step(), Step::Close(CloseReason::TooManyErrors), "{:?}", command.escape_ascii());
        assert!(session.output().len() < MAX_FEED / 4);
        assert!(session.output().ends_with(b"421 4.7.0 relay.example.org Error: too many errors\r\n"));
    }
}

#[test]
fn ehlo_without_end_ends_the_session() {
    let mut session = introduced();
    session.feed(&b"EHLO a\r\n".repeat(1000));
    let mut count = 1;
    while matches!(session.step(), Step::Hello { .. }) {
        session.announce(&offers());
        count += 1;
    }
    assert_eq!(session.step(), Step::Close(CloseReason::TooManyErrors));
    assert!(count <= MAX_IDLE_COMMANDS + 20, "{count}");
}

#[test]
fn content_is_given_out_in_slices_as_large_as_what_was_fed() {
    let mut session = introduced();
    session.feed(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n");
    for code in [250, 250, 354] {
        session.step();
        session.answered(Reply::new(code, "Ok"));
    }
    assert!(session.in_data());
    let lines = b"a line of text\r\n".repeat(MAX_FEED / 16);
    for _ in 0..3 {
        session.feed(&lines);
        assert_eq!(session.step(), Step::Content(&lines, Default::default()));
        assert_eq!(session.step(), Step::NeedInput);
    }
    session.feed(b".\r\n");
    assert!(matches!(session.step(), Step::EndOfData(_)));
    assert!(!session.in_data() && session.has_outstanding());
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut session = introduced();
    session.answered(Reply::new(250, "2.0.0 Ok"));
    session.announce(&offers());
    assert!(session.output().is_empty());
    assert_eq!(session.step(), Step::NeedInput);
}

#[test]
fn a_chunk_that_the_driver_refuses_passes_unread_and_only_the_last_one_waits_for_the_end() {
    let mut session = introduced();
    session.feed(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 6\r\nQU");
    for code in [250, 250, 354] {
        session.step();
        session.answered(Reply::new(code, "Ok"));
    }
    assert_eq!(session.step(), Step::Content(b"QU", Default::default()));
    let reply = Reply::new(552, "5.3.4 too large");
    assert!(session.refuse_chunk(&reply) && !session.refuse_chunk(&reply));
    session.output().clear();
    session.feed(b"IT\r\nBDAT 6 LAST\r\nQUIT\r\n");
    assert_eq!(session.step(), Step::NeedInput);
    assert_eq!(
        session.output().as_slice(),
        b"552 5.3.4 too large\r\n503 5.5.1 Error: a chunk of the message was refused\r\n"
    );
    session.feed(b"RSET\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nBDAT 2 LAST\r\na");
    assert_eq!(session.step(), Step::Reset);
    for code in [250, 250, 354] {
        session.step();
        session.answered(Reply::new(code, "Ok"));
    }
    assert_eq!(session.step(), Step::Content(b"a", Default::default()));
    assert!(!session.refuse_chunk(&reply), "the last chunk is answered at the end");
    session.feed(b"\n");
    assert!(matches!(session.step(), Step::Content(b"\n", flaws) if flaws.bare_lf), "flaws come with their octets");
    assert!(matches!(session.step(), Step::EndOfData(flaws) if flaws.bare_lf && flaws.unended));
}

#[test]
fn challenges_without_end_end_the_session() {
    let mut session = introduced();
    session.feed(b"AUTH LOGIN\r\n");
    assert!(matches!(session.step(), Step::Auth(_)));
    session.feed(&b"YQ==\r\n".repeat(1000));
    let mut count = 0;
    while !matches!(session.step(), Step::Close(CloseReason::TooManyErrors)) {
        session.answered(Reply::new(334, "again"));
        count += 1;
    }
    assert!(count <= MAX_IDLE_COMMANDS + 20, "{count}");
}

/// The messages that a session finds, and what each was answered; a message with a flaw is refused, as the driver does.
fn found_by_session(pieces: &[&[u8]], announced: &Extensions) -> Vec<strict::Said> {
    let mut session = Session::new(Settings {
        hostname: "relay.example.org".into(),
        max_recipients: 5,
        max_errors: 20,
        requires_tls: false,
    });
    session.greet(Reply::new(220, "relay.example.org"));
    let (mut found, mut open) = (Vec::new(), strict::Said { from: String::new(), to: Vec::new(), octets: Vec::new() });
    for piece in pieces {
        session.feed(piece);
        loop {
            let code = match session.step() {
                Step::NeedInput => break,
                Step::Hello { .. } => {
                    session.announce(announced);
                    continue;
                }
                Step::Mail(mail) => {
                    let from = format!("<{}>", mail.reverse_path.as_str());
                    open = strict::Said { from, to: Vec::new(), octets: Vec::new() };
                    250
                }
                Step::Rcpt(rcpt) => {
                    open.to.push(format!("<{}>", rcpt.forward_path));
                    250
                }
                Step::Data { .. } => 354,
                Step::Content(octets, _) => {
                    open.octets.extend_from_slice(octets);
                    continue;
                }
                Step::EndOfData(flaws) => {
                    assert_eq!(flaws.bare_cr || flaws.bare_lf || flaws.nul, open.is_flawed(), "{open:?}");
                    found.push(open.clone());
                    if open.is_flawed() { 550 } else { 250 }
                }
                Step::Reset => continue,
                Step::Close(_) => return found,
                step => panic!("nobody said what leads to {step:?}"),
            };
            session.answered(Reply::new(code, "as it should be"));
        }
    }
    found
}

#[test]
fn no_sequence_around_a_dot_begins_another_message_than_a_strict_reader_finds() {
    let mut seen = [0; 3];
    for length in 0..=5 {
        for (number, (before, behind)) in strict::surroundings(length).into_iter().enumerate() {
            let wire =
                [b"EHLO a.example\r\n".to_vec(), strict::attempt(number, &before, &behind), b"QUIT\r\n".to_vec()]
                    .concat();
            let expected = strict::messages(&wire);
            seen[expected.len()] += 1;
            let dot = wire.len() / 2;
            let singly = if length < 5 { wire.chunks(1).collect() } else { wire.chunks(7).collect() };
            for pieces in [vec![&wire[..]], singly, vec![&wire[..dot], &wire[dot..]]] {
                let found = found_by_session(&pieces, &Extensions::default());
                assert_eq!(found, expected, "{} . {}", before.escape_ascii(), behind.escape_ascii());
            }
        }
    }
    assert!(seen[0] == 0 && seen[1] > 10_000 && seen[2] > 5, "{seen:?}: both kinds were there");
}

#[test]
fn in_chunks_no_sequence_around_a_dot_means_anything() {
    let offers = Extensions { chunking: true, ..Extensions::default() };
    for length in 0..=4 {
        for (number, (before, behind)) in strict::surroundings(length).into_iter().enumerate() {
            let attempt = strict::attempt(number, &before, &behind);
            let split = attempt.windows(6).position(|window| window == b"DATA\r\n").unwrap();
            let (envelope, content) = (&attempt[..split], &attempt[split + 6..]);
            // One chunk, and two with the dot at the seam.
            for first in [content.len(), content.iter().position(|octet| *octet == b'.').unwrap()] {
                let (one, other) = content.split_at(first);
                let last = format!("BDAT {} LAST\r\n", other.len());
                let chunks = format!("BDAT {first}\r\n");
                let wire =
                    [b"EHLO a.example\r\n", envelope, chunks.as_bytes(), one, last.as_bytes(), other, b"QUIT\r\n"]
                        .concat();
                for pieces in [vec![&wire[..]], wire.chunks(1).collect()] {
                    let found = found_by_session(&pieces, &offers);
                    assert_eq!(found.len(), 1, "{} . {}", before.escape_ascii(), behind.escape_ascii());
                    assert_eq!(found[0].octets, content);
                }
            }
        }
    }
}
