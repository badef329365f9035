//! Which connections carry a second transaction, and what happens to those that can't.

use super::*;
use tokio::sync::oneshot::{Sender, channel};

const PIPELINED: &str = "PIPELINING";

/// Opens a leg, sends a message that the server takes, and lets the connection go.
async fn relay(next_hop: &Arc<NextHop>) -> Result<Reply, Lost> {
    let mut leg = next_hop.open().await.unwrap();
    let reply = send_message(&mut leg, b"x\r\n").await;
    leg.release();
    reply
}

#[tokio::test]
async fn a_second_transaction_uses_the_same_connection() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        for _ in 0..3 {
            relay(&next_hop).await.unwrap();
        }
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        for _ in 0..3 {
            peer.take_message("x\r\n.\r\n").await;
        }
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_connection_is_left_before_the_server_may_have_had_enough_of_it() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop_with(Settings { max_mails: 2, ..settings() });
    let client = async {
        for _ in 0..3 {
            relay(&next_hop).await.unwrap();
        }
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        for _ in 0..2 {
            peer.take_message("x\r\n.\r\n").await;
        }
        assert_eq!(peer.line().await, "QUIT");
        fake.accept_greeted(PIPELINED).await.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn an_open_transaction_is_reset_before_the_next() {
    for offer in ["", PIPELINED] {
        let fake = Fake::new().await;
        let next_hop = fake.next_hop();
        let client = async {
            let mut leg = next_hop.open().await.unwrap();
            leg.mail(&mail());
            leg.rcpt(&rcpt());
            assert_eq!(leg.reply().await.unwrap().code(), 250);
            assert_eq!(leg.reply().await.unwrap().code(), 550);
            leg.release();
            relay(&next_hop).await.unwrap();
        };
        let server = async {
            let mut peer = fake.accept_greeted(offer).await;
            peer.answer(MAIL, "250 Ok").await;
            peer.answer(RCPT, "550 no").await;
            peer.answer("RSET", "250 forgotten").await;
            peer.take_message("x\r\n.\r\n").await;
        };
        both(client, server).await;
    }
}

#[tokio::test]
async fn the_reset_does_not_wait_for_the_next_transaction() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let (read, was_read) = channel();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        leg.mail(&mail());
        leg.reply().await.unwrap();
        leg.release();
        was_read.await.unwrap();
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.answer(MAIL, "250 Ok").await;
        assert_eq!(peer.line().await, "RSET");
        read.send(()).unwrap();
    };
    both(client, server).await;
}

/// A first transaction makes an idle connection; `end` is what its server does then, and it says when the client shall go
/// on. The next message goes over a new connection.
async fn replaced(end: impl AsyncFnOnce(Peer, Sender<()>)) {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let (go_on, may_go_on) = channel();
    let client = async {
        relay(&next_hop).await.unwrap();
        may_go_on.await.unwrap();
        assert_eq!(relay(&next_hop).await.unwrap(), Reply::new(250, "2.0.0 taken"));
    };
    let server = async {
        let mut peer = fake.accept_greeted(PIPELINED).await;
        peer.take_message("x\r\n.\r\n").await;
        end(peer, go_on).await;
        fake.accept_greeted(PIPELINED).await.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    replaced(async |peer, go_on| {
        drop(peer);
        go_on.send(()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_connection_closed_with_421_while_idle_is_replaced() {
    replaced(async |mut peer, go_on| {
        peer.send("421 4.4.2 timeout\r\n").await;
        drop(peer);
        go_on.send(()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_connection_closed_when_mail_comes_is_replaced() {
    replaced(async |mut peer, go_on| {
        go_on.send(()).unwrap();
        assert_eq!(peer.line().await, MAIL);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_answers_mail_with_421_is_replaced() {
    replaced(async |mut peer, go_on| {
        go_on.send(()).unwrap();
        peer.answer(MAIL, "421 4.3.2 going down").await;
    })
    .await;
}

#[tokio::test]
async fn a_reset_connection_is_replaced() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        relay(&next_hop).await.unwrap();
        relay(&next_hop).await.unwrap();
    };
    let server = async {
        let stream = fake.listener.accept().await.unwrap().0;
        stream.set_zero_linger().unwrap();
        let mut peer = Peer::over(stream);
        peer.greet("").await;
        peer.take_message("x\r\n.\r\n").await;
        assert_eq!(peer.line().await, MAIL);
        drop(peer);
        fake.accept_greeted("").await.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_connection_is_not_replaced_once_a_reply_was_given_out() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        relay(&next_hop).await.unwrap();
        relay(&next_hop).await.unwrap_err()
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.take_message("x\r\n.\r\n").await;
        peer.answer(MAIL, "250 Ok").await;
        assert_eq!(peer.line().await, RCPT);
    };
    let lost = both(client, server).await;
    assert!(matches!(lost, Lost::Closed(_)), "{lost}");
}

#[tokio::test]
async fn a_connection_is_replaced_once_and_not_again() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        relay(&next_hop).await.unwrap();
        relay(&next_hop).await.unwrap_err()
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.take_message("x\r\n.\r\n").await;
        assert_eq!(peer.line().await, MAIL);
        drop(peer);
        let mut peer = fake.accept_greeted("").await;
        assert_eq!(peer.line().await, MAIL);
    };
    let lost = both(client, server).await;
    assert!(matches!(lost, Lost::Closed(_)), "{lost}");
}

#[tokio::test]
async fn a_replacement_that_is_refused_is_told() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        relay(&next_hop).await.unwrap();
        relay(&next_hop).await.unwrap_err()
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.take_message("x\r\n.\r\n").await;
        assert_eq!(peer.line().await, MAIL);
        drop(peer);
        fake.accept().await.send("421 too busy\r\n").await;
    };
    let lost = both(client, server).await;
    assert_eq!(lost.reply(), Some(&Reply::new(421, "too busy")));
    assert!(lost.to_string().starts_with("had closed the connection, and then: 127.0.0.1:"), "{lost}");
}

#[tokio::test]
async fn a_replacement_that_offers_less_is_told() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        relay(&next_hop).await.unwrap();
        let mut leg = next_hop.open().await.unwrap();
        leg.mail(&mail_with(&[("SMTPUTF8", None)]));
        leg.reply().await.unwrap_err()
    };
    let server = async {
        let mut peer = fake.accept_greeted("SMTPUTF8").await;
        peer.take_message("x\r\n.\r\n").await;
        peer.line().await;
        drop(peer);
        let mut peer = fake.accept_greeted("").await;
        assert_eq!(peer.rest().await, "");
    };
    assert_eq!(both(client, server).await.to_string(), "offered SMTPUTF8 before and does not any more");
}

/// What the client does with its first leg; the server answers MAIL with 250 and then sees the connection end.
async fn not_reused(reply: &str, end: impl AsyncFnOnce(Leg)) {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        leg.mail(&mail());
        leg.rcpt(&rcpt());
        leg.reply().await.unwrap();
        end(leg).await;
        relay(&next_hop).await.unwrap();
    };
    let server = async {
        let mut first = fake.accept_greeted(PIPELINED).await;
        first.answer(MAIL, reply).await;
        let mut second = fake.accept_greeted(PIPELINED).await;
        second.take_message("x\r\n.\r\n").await;
        assert_eq!(first.rest().await, format!("{RCPT}\r\n"));
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_dropped_leg_closes_its_connection() {
    not_reused("250 Ok", async |leg| drop(leg)).await;
}

#[tokio::test]
async fn a_leg_with_unanswered_commands_is_not_reused() {
    not_reused("250 Ok", async |leg| leg.release()).await;
}

#[tokio::test]
async fn a_connection_whose_server_said_421_is_not_reused() {
    not_reused("250 Ok\r\n421 going down", async |mut leg| {
        assert_eq!(leg.reply().await.unwrap().code(), 421);
        leg.release();
    })
    .await;
}

#[tokio::test]
async fn an_old_idle_connection_gets_a_quit() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop_with(Settings { idle_time: Duration::ZERO, ..settings() });
    let client = async {
        relay(&next_hop).await.unwrap();
        relay(&next_hop).await.unwrap();
        next_hop.expire_idle();
    };
    let server = async {
        for _ in 0..2 {
            let mut peer = fake.accept_greeted("").await;
            peer.take_message("x\r\n.\r\n").await;
            assert_eq!(peer.rest().await, "QUIT\r\n");
        }
    };
    both(client, server).await;
}

#[tokio::test]
async fn the_oldest_goes_when_too_many_idle_and_the_newest_is_used_first() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop_with(Settings { max_idle: 2, ..settings() });
    let client = async {
        let mut legs = Vec::new();
        for _ in 0..3 {
            legs.push(next_hop.open().await.unwrap());
        }
        legs.into_iter().for_each(Leg::release);
        relay(&next_hop).await.unwrap();
        next_hop.close_idle().await;
    };
    let server = async {
        let (mut first, mut second, mut third) =
            (fake.accept_greeted("").await, fake.accept_greeted("").await, fake.accept_greeted("").await);
        assert_eq!(first.rest().await, "QUIT\r\n");
        third.take_message("x\r\n.\r\n").await;
        second.answer("QUIT", "221 bye").await;
        third.answer("QUIT", "221 bye").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn after_the_farewell_nothing_is_kept() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let leg = next_hop.open().await.unwrap();
        next_hop.close_idle().await;
        leg.release();
    };
    let server = async { assert_eq!(fake.accept_greeted("").await.rest().await, "QUIT\r\n") };
    both(client, server).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_quit_is_not_waited_for_long() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop_with(Settings { quit: Duration::from_millis(20), ..settings() });
    let (done, end) = channel::<()>();
    let client = async {
        next_hop.learn().await.unwrap();
        next_hop.close_idle().await;
        done.send(()).unwrap();
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        assert_eq!(peer.line().await, "QUIT");
        end.await.unwrap();
    };
    both(client, server).await;
}

#[tokio::test]
async fn an_offer_that_has_grown_is_learnt_and_no_idle_connection_hides_it() {
    let fake = Fake::new().await;
    let settings = Settings { offer_holds: Duration::ZERO, ..settings() };
    let next_hop = NextHop::with_settings(Route::Smtp(fake.route(Tls::None)), settings).unwrap();
    let client = async {
        assert!(!next_hop.learn().await.unwrap().eight_bit_mime);
        assert!(next_hop.learn().await.unwrap().eight_bit_mime);
        let newer = next_hop.open().await.unwrap();
        // The one that is left was greeted before.
        let newest = next_hop.open().await.unwrap();
        assert!(newer.extensions().eight_bit_mime && newest.extensions().eight_bit_mime);
        (newer, newest)
    };
    let server = async {
        let mut older = fake.accept_greeted("").await;
        let newer = fake.accept_greeted("8BITMIME").await;
        let newest = fake.accept_greeted("8BITMIME").await;
        assert_eq!(older.rest().await, "QUIT\r\n");
        drop((newer, newest));
    };
    both(client, server).await;
}

#[tokio::test]
async fn while_a_slow_server_is_asked_anew_its_latest_offer_stands_for_the_others() {
    let fake = Fake::new().await;
    let settings = Settings { offer_holds: Duration::ZERO, ..settings() };
    let next_hop = NextHop::with_settings(Route::Smtp(fake.route(Tls::None)), settings).unwrap();
    let (asked, slow) = channel::<()>();
    let (told, go_on) = channel::<()>();
    let client = async {
        assert!(!next_hop.learn().await.unwrap().eight_bit_mime);
        let first = next_hop.learn();
        let others = async {
            slow.await.unwrap();
            for _ in 0..3 {
                assert!(!next_hop.learn().await.unwrap().eight_bit_mime, "known from before");
            }
            told.send(()).unwrap();
        };
        let (first, ()) = tokio::join!(first, others);
        assert!(first.unwrap().eight_bit_mime);
    };
    let server = async {
        let older = fake.accept_greeted("").await;
        let mut newer = fake.accept().await;
        asked.send(()).unwrap();
        go_on.await.unwrap();
        newer.greet("8BITMIME").await;
        drop((older, newer));
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_connection_carries_no_more_transactions_than_its_server_allows() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        for _ in 0..3 {
            relay(&next_hop).await.unwrap();
        }
    };
    let server = async {
        for count in [2, 1] {
            let mut peer = fake.accept_greeted("PIPELINING LIMITS_MAILMAX=2").await;
            for _ in 0..count {
                peer.take_message("x\r\n.\r\n").await;
            }
            if count == 2 {
                assert_eq!(peer.line().await, "QUIT");
            }
        }
    };
    both(client, server).await;
}
