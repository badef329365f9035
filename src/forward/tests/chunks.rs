//! Messages in chunks (RFC 3030).

use super::*;
use crate::smtp::client::CHUNK;

async fn begin_chunks(leg: &mut Leg) {
    leg.mail(&mail());
    leg.rcpt(&rcpt());
    for _ in 0..2 {
        assert_eq!(leg.reply().await.unwrap().code(), 250);
    }
    assert_eq!(leg.begin_chunks().await.unwrap().code(), 354);
}

#[tokio::test]
async fn a_small_message_is_one_chunk_in_one_write() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_chunks(&mut leg).await;
        let before = leg.writes();
        leg.content(b"a: b\r\n\r\n.\r\n").await.unwrap();
        leg.content(b".no end").await.unwrap();
        assert_eq!(leg.writes(), before, "nothing goes out before the end");
        let reply = leg.finish().await.unwrap();
        assert_eq!(leg.writes() - before, 1);
        reply
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
        peer.answer(MAIL, "250 Ok").await;
        peer.answer(RCPT, "250 Ok").await;
        peer.expect("BDAT 18 LAST\r\na: b\r\n\r\n.\r\n.no end").await;
        peer.send("250 2.0.0 taken\r\n").await;
    };
    assert_eq!(both(client, server).await, Reply::new(250, "2.0.0 taken"));
}

#[tokio::test]
async fn without_pipelining_each_chunk_waits_for_the_reply_before() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let piece = "x".repeat(CHUNK);
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_chunks(&mut leg).await;
        for _ in 0..2 {
            leg.content(piece.as_bytes()).await.unwrap();
        }
        leg.hear_of_chunks().await.unwrap();
        leg.finish().await.unwrap().code()
    };
    let server = async {
        let mut peer = fake.accept_greeted("CHUNKING").await;
        peer.answer(MAIL, "250 Ok").await;
        peer.answer(RCPT, "250 Ok").await;
        for _ in 0..2 {
            peer.expect(&format!("BDAT {CHUNK}\r\n{piece}")).await;
            assert_eq!(peer.pending(), b"");
            peer.send("250 Ok\r\n").await;
        }
        peer.answer("BDAT 0 LAST", "250 taken").await;
    };
    assert_eq!(both(client, server).await, 250);
}

#[tokio::test]
async fn a_chunk_that_is_refused_ends_the_message_before_its_last_chunk() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_chunks(&mut leg).await;
        let piece = vec![b'x'; CHUNK];
        let lost = loop {
            let heard = leg.content(&piece).await.and(leg.hear_of_chunks().await);
            if let Err(lost) = heard {
                break lost;
            }
        };
        assert!(leg.finish().await.is_err());
        leg.release();
        lost.to_string()
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
        peer.answer(MAIL, "250 Ok").await;
        peer.answer(RCPT, "250 Ok").await;
        let chunk = format!("BDAT {CHUNK}\r\n{}", "x".repeat(CHUNK));
        peer.expect(&chunk).await;
        peer.send("250 Ok\r\n").await;
        peer.expect(&chunk).await;
        peer.send("552 5.3.4 too large\r\n").await;
        assert!(!peer.rest().await.contains("LAST"));
    };
    assert_eq!(both(client, server).await, "refused a chunk of the message with `552 5.3.4 too large`");
}

#[tokio::test]
async fn a_message_refused_at_its_last_chunk_is_the_last_one_of_its_connection() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        for _ in 0..2 {
            let mut leg = next_hop.open().await.unwrap();
            begin_chunks(&mut leg).await;
            leg.content(b"x").await.unwrap();
            assert_eq!(leg.finish().await.unwrap().code(), 554);
            leg.release();
        }
    };
    let server = async {
        for farewell in ["221 2.0.0 bye\r\n", ""] {
            let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
            peer.answer(MAIL, "250 Ok").await;
            peer.answer(RCPT, "250 Ok").await;
            peer.expect("BDAT 1 LAST\r\nx").await;
            peer.send("554 5.6.0 no\r\n").await;
            assert_eq!(peer.line().await, "QUIT");
            peer.send(farewell).await;
        }
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_refusal_that_was_to_something_else_is_not_taken_for_the_message_s() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_chunks(&mut leg).await;
        leg.content(b"x").await.unwrap();
        let lost = leg.finish().await.unwrap_err();
        assert!(!lost.left_nothing(), "{lost}");
        lost.to_string()
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
        peer.answer(MAIL, "250 Ok").await;
        peer.answer(RCPT, "250 Ok").await;
        // A refusal too many, late enough to be taken for that of the chunk; the chunk itself is taken.
        peer.expect("BDAT 1 LAST\r\nx").await;
        peer.send("550 5.1.1 nobody\r\n").await;
        peer.answer("QUIT", "250 2.0.0 taken").await;
    };
    let said = both(client, server).await;
    assert!(said.contains("answered more often than it was asked"), "{said}");
}

#[tokio::test]
async fn a_reply_too_many_before_the_first_chunk_or_before_the_end_leaves_nothing_behind() {
    for early in [true, false] {
        let fake = Fake::new().await;
        let next_hop = fake.next_hop();
        let (go_on, told) = tokio::sync::oneshot::channel();
        let client = async {
            let mut leg = next_hop.open().await.unwrap();
            if early {
                leg.mail(&mail());
                leg.rcpt(&rcpt());
                for _ in 0..2 {
                    assert_eq!(leg.reply().await.unwrap().code(), 250);
                }
            } else {
                begin_chunks(&mut leg).await;
                leg.content(b"x").await.unwrap();
            }
            go_on.send(()).unwrap();
            leg.hears_something().await;
            let lost = if early { leg.begin_chunks().await.map(drop) } else { leg.finish().await.map(drop) };
            let lost = lost.unwrap_err();
            assert!(early || lost.left_nothing(), "{lost}");
            leg.release();
            lost.to_string()
        };
        let server = async {
            let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
            peer.answer(MAIL, "250 Ok").await;
            peer.answer(RCPT, "250 Ok").await;
            told.await.unwrap();
            peer.send("250 once more\r\n").await;
            assert!(!peer.rest().await.contains("BDAT"));
        };
        assert!(both(client, server).await.contains("once more"));
    }
}

#[tokio::test]
async fn a_reply_behind_the_354_ends_the_message_before_its_dot() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        leg.content(b"x\r\n").await.unwrap();
        leg.hears_something().await;
        let lost = leg.finish().await.unwrap_err();
        assert!(lost.left_nothing(), "{lost}");
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.answer(MAIL, "250 Ok").await;
        peer.answer(RCPT, "250 Ok").await;
        peer.answer("DATA", "354 go on").await;
        peer.send("250 early\r\n").await;
        assert_eq!(peer.rest().await, "");
    };
    both(client, server).await;
}
