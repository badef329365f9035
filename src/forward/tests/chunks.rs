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
async fn a_message_refused_at_its_last_chunk_is_followed_by_rset() {
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
        let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
        for _ in 0..2 {
            peer.answer(MAIL, "250 Ok").await;
            peer.answer(RCPT, "250 Ok").await;
            peer.expect("BDAT 1 LAST\r\nx").await;
            peer.send("554 5.6.0 no\r\n").await;
            peer.answer("RSET", "250 Ok").await;
        }
    };
    both(client, server).await;
}

#[tokio::test]
async fn chunks_are_begun_only_where_they_are_offered_and_recipients_are_answered() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        assert!(leg.begin_chunks().await.is_err(), "there is no transaction");
        leg.mail(&mail());
        leg.reply().await.unwrap();
        assert!(leg.begin_chunks().await.is_err(), "CHUNKING is not offered");
        assert!(leg.content(b"x").await.is_err());
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING").await;
        peer.answer(MAIL, "250 Ok").await;
    };
    both(client, server).await;
}
