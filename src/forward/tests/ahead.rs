//! A transaction that begins along with the end of the one before, on its connection.

use super::*;

const PIPELINED: &str = "PIPELINING";
const ENVELOPE: &str = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n";

fn say_envelope(leg: &mut Leg) {
    leg.mail(&mail());
    leg.rcpt(&rcpt());
    leg.data();
}

/// A first message whose end is said with the envelope of a second one.
async fn two(next_hop: &Arc<NextHop>) -> Leg {
    let mut leg = next_hop.open().await.unwrap();
    begin_message(&mut leg).await.unwrap();
    leg.content(b"x\r\n").await.unwrap();
    assert!(leg.may_go_on(next_hop, &mail()));
    let mut leg = leg.go_on().unwrap();
    say_envelope(&mut leg);
    leg
}

/// The second message, from its replies on.
async fn second(mut leg: Leg) -> Reply {
    for code in [250, 250, 354] {
        assert_eq!(leg.reply().await.unwrap().code(), code);
    }
    leg.content(b"y\r\n").await.unwrap();
    let reply = leg.finish().await.unwrap();
    leg.release();
    reply
}

/// The server's side of a first message, up to what is said with its end.
async fn hear_two(peer: &mut Peer) {
    peer.take_envelope().await;
    peer.expect(&format!("x\r\n.\r\n{ENVELOPE}")).await;
}

#[tokio::test]
async fn end_and_next_envelope_are_one_write_and_the_replies_come_in_order() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        let writes = leg.writes();
        assert_eq!(leg.verdict().await.unwrap(), Reply::new(250, "2.0.0 first"));
        assert_eq!(leg.writes(), writes + 1);
        assert_eq!(second(leg).await, Reply::new(250, "2.0.0 second"));
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        hear_two(&mut peer).await;
        peer.send("250 2.0.0 first\r\n250 Ok\r\n250 Ok\r\n354 go on\r\n").await;
        peer.expect("y\r\n.\r\n").await;
        peer.send("250 2.0.0 second\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_refused_message_is_no_obstacle_to_the_next_one() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        assert_eq!(leg.verdict().await.unwrap().code(), 554);
        assert_eq!(second(leg).await.code(), 250);
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        assert!(leg.may_go_on(&next_hop, &mail()), "and no reason to send nothing along");
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        hear_two(&mut peer).await;
        peer.send("554 no\r\n250 Ok\r\n250 Ok\r\n354 go on\r\n").await;
        peer.expect("y\r\n.\r\n").await;
        peer.send("250 2.0.0 second\r\n").await;
        peer.take_envelope().await;
    };
    both(client, server).await;
}

/// The first connection answers with `replies`, and is closed then; the envelope is said again on a second one.
async fn said_again(replies: &str, verdict: Option<u16>, takes_more_ahead: bool) {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        assert_eq!(leg.verdict().await.ok().map(|reply| reply.code()), verdict, "{replies}");
        assert_eq!(second(leg).await, Reply::new(250, "2.0.0 taken"), "{replies}");
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        assert_eq!(leg.may_go_on(&next_hop, &mail()), takes_more_ahead, "{replies}");
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        hear_two(&mut peer).await;
        peer.send(replies).await;
        drop(peer);
        let mut peer = fake.accept_greeted(PIPELINED).await;
        peer.take_message("y\r\n.\r\n").await;
        peer.take_envelope().await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn what_went_along_with_an_end_is_said_again_where_the_server_is_gone() {
    said_again("", None, false).await;
    said_again("250 2.0.0 first\r\n", Some(250), true).await;
    said_again("250 2.0.0 first\r\n421 4.3.2 enough\r\n", Some(250), true).await;
    said_again("421 4.3.2 enough\r\n", Some(421), true).await;
}

#[tokio::test]
async fn a_server_that_minds_is_sent_nothing_along_for_a_while() {
    let minds = "250 2.0.0 first\r\n503 5.5.1 too early\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n";
    said_again(minds, Some(250), false).await;
    said_again("250 2.0.0 first\r\n554 5.5.0 synchronization error\r\n", Some(250), false).await;
    said_again("250 2.0.0 first\r\n554 too early\r\n", Some(250), false).await;
    said_again("250 2.0.0 first\r\n500 5.5.2 what\r\n", Some(250), false).await;
    said_again("503 5.5.0 too much\r\n", Some(503), false).await;
    said_again("554 5.7.1 spam\r\n", Some(554), true).await;
}

#[tokio::test]
async fn a_server_that_throws_away_what_went_along_is_not_waited_for_as_for_others() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        assert_eq!(leg.verdict().await.unwrap().code(), 250);
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let silent = async { assert_eq!(leg.reply().await.unwrap().code(), 250) };
        silent.await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        tokio::time::resume();
        let mut other = next_hop.open().await.unwrap();
        begin_message(&mut other).await.unwrap();
        assert!(!other.may_go_on(&next_hop, &mail()));
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        hear_two(&mut peer).await;
        peer.send("250 2.0.0 first\r\n").await;
        let mut second = fake.accept_greeted(PIPELINED).await;
        second.answer(MAIL, "250 Ok").await;
        let mut third = fake.accept_greeted(PIPELINED).await;
        third.take_envelope().await;
        drop((peer, second));
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_refusal_that_may_be_about_the_place_is_never_the_last_word() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        assert_eq!(leg.verdict().await.unwrap().code(), 250);
        assert!(matches!(leg.reply().await.unwrap_err(), Lost::Unreachable(_)), "the client comes again");
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        assert!(!leg.may_go_on(&next_hop, &mail()));
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        hear_two(&mut peer).await;
        peer.send("250 2.0.0 first\r\n503 5.5.1 not now\r\n").await;
        let mut second = fake.accept().await;
        assert_eq!(peer.rest().await, "", "the first one is closed before");
        second.send("421 4.3.2 too many\r\n").await;
        assert_eq!(second.rest().await, "");
        let mut third = fake.accept_greeted(PIPELINED).await;
        third.take_envelope().await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_refusal_that_is_about_the_sender_stands() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        assert_eq!(leg.verdict().await.unwrap().code(), 250);
        assert_eq!(leg.reply().await.unwrap(), Reply::new(554, "5.7.1 not from you"));
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        hear_two(&mut peer).await;
        peer.send("250 2.0.0 first\r\n554 5.7.1 not from you\r\n503 no\r\n503 no\r\n").await;
        assert_eq!(peer.rest().await, "", "nothing is said again");
    };
    both(client, server).await;
}

#[tokio::test]
async fn an_end_that_may_not_be_said_relays_nothing() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        leg.content(b"x\r\n").await.unwrap();
        begun.send(()).unwrap();
        leg.hears_something().await;
        assert!(leg.go_on().is_err_and(|lost| lost.left_nothing()));
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        peer.take_envelope().await;
        has_begun.await.unwrap();
        peer.send("250 out of turn\r\n").await;
        assert_eq!(peer.rest().await, "");
    };
    both(client, server).await;
}

/// Whether a second transaction may go along at a server with this offer.
async fn may_go_on(offer: &str, settings: Settings) -> bool {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop_with(settings);
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        leg.may_go_on(&next_hop, &mail())
    };
    let server = async {
        let mut peer = fake.accept_greeted(offer).await;
        peer.take_envelope().await;
    };
    both(client, server).await
}

#[tokio::test]
async fn nothing_goes_along_where_it_may_not() {
    assert!(may_go_on(PIPELINED, settings()).await);
    assert!(!may_go_on("", settings()).await, "commands one by one");
    assert!(!may_go_on(PIPELINED, Settings { max_mails: 1, ..settings() }).await, "our own limit");
    assert!(!may_go_on("PIPELINING LIMITS_MAILMAX=1", settings()).await, "the server's limit");
    let identity = ClientIdentity::Xforward;
    assert!(!may_go_on(PIPELINED, Settings { identity, ..settings() }).await, "it hears who clients are");
}

#[tokio::test]
async fn only_a_message_s_end_takes_others_along_and_only_to_the_same_next_hop() {
    let fake = Fake::new().await;
    let (next_hop, other) = (fake.next_hop(), fake.next_hop());
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        assert!(!leg.may_go_on(&next_hop, &mail()), "no message has begun");
        assert!(leg.verdict().await.is_err(), "no end was said");
        begin_message(&mut leg).await.unwrap();
        assert!(leg.may_go_on(&next_hop, &mail()));
        assert!(!leg.may_go_on(&other, &mail()), "a new configuration leads elsewhere");
        let more = mail_with(&[("X-UNHEARD-OF", None)]);
        assert!(!leg.may_go_on(&next_hop, &more), "this connection does not offer it");
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        peer.take_envelope().await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn what_went_along_does_not_go_on_in_chunks() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = two(&next_hop).await;
        assert_eq!(leg.verdict().await.unwrap().code(), 250);
        assert!(leg.extensions().chunking && !leg.takes_chunks());
        assert!(next_hop.open().await.unwrap().takes_chunks());
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING CHUNKING").await;
        hear_two(&mut peer).await;
        peer.send("250 2.0.0 first\r\n").await;
        drop(fake.accept_greeted("PIPELINING CHUNKING").await);
    };
    both(client, server).await;
}
