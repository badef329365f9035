//! Servers that refuse, fall silent, go away or break the protocol, and what the administrator is told.

use super::*;

async fn open_error(next_hop: &Arc<NextHop>, server: impl Future<Output = ()>) -> Unreachable {
    both(next_hop.open(), server).await.unwrap_err()
}

#[tokio::test]
async fn a_closed_port_is_told() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    drop(fake);
    let error = open_error(&next_hop, async {}).await;
    assert!(matches!(error, Unreachable::Connect { .. }), "{error}");
    assert!(error.to_string().starts_with("can't connect to 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_refused_greeting_is_told_with_its_words() {
    let fake = Fake::new().await;
    let server = async { fake.accept().await.send("554-go\r\n554 away\r\n").await };
    let error = open_error(&fake.next_hop(), server).await;
    assert_eq!(error.reply().map(Reply::code), Some(554));
    assert!(error.to_string().ends_with(" answered the connection with `554 go away`"), "{error}");
}

#[tokio::test]
async fn a_refused_hello_is_told_with_its_words() {
    let fake = Fake::new().await;
    let server = async {
        let mut peer = fake.accept().await;
        peer.send("220 mx\r\n").await;
        peer.answer("EHLO relay.example", "550 not you").await;
        peer.answer("HELO relay.example", "550 nor you").await;
    };
    let error = open_error(&fake.next_hop(), server).await;
    assert!(error.to_string().ends_with("answered EHLO with `550 nor you`"), "{error}");
}

#[tokio::test]
async fn a_refused_password_is_told_without_it() {
    let fake = Fake::new().await;
    let route = SmtpRoute { credentials: Some(("user".into(), "secret".into())), ..fake.route(Tls::None) };
    let next_hop = NextHop::with_settings(Route::Smtp(route), settings()).unwrap();
    let server = async {
        let mut peer = fake.accept_greeted("AUTH_PLAIN").await;
        peer.line().await;
        peer.send("535 5.7.8 no\r\n").await;
    };
    let error = open_error(&next_hop, server).await;
    assert!(error.to_string().ends_with("answered AUTH with `535 5.7.8 no`"), "{error}");
    let error = open_error(&next_hop, async { drop(fake.accept_greeted("AUTH_LOGIN").await) }).await;
    assert!(error.to_string().ends_with("can't be given the password: it does not offer AUTH PLAIN"), "{error}");
}

#[tokio::test]
async fn what_speaks_no_smtp_is_told() {
    let fake = Fake::new().await;
    let server = async { fake.accept().await.send("SSH-2.0-OpenSSH_9.9\r\n").await };
    let error = open_error(&fake.next_hop(), server).await;
    assert!(
        error.to_string().ends_with("broke the protocol: this line is no reply: \"SSH-2.0-OpenSSH_9.9\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_reply_before_its_command_is_told() {
    let fake = Fake::new().await;
    let server = async { fake.accept().await.send("220 mx\r\n250 early\r\n").await };
    let error = open_error(&fake.next_hop(), server).await;
    assert!(error.to_string().ends_with("gave up the conversation with `250 early`"), "{error}");
}

#[tokio::test]
async fn silence_ends_after_the_wait_for_that_command() {
    let fake = Fake::new().await;
    let short = Duration::from_millis(20);
    let next_hop = fake.next_hop_with(Settings { greeting: short, ..settings() });
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let client = async {
        let error = next_hop.open().await.unwrap_err();
        done.send(()).unwrap();
        error
    };
    let server = async {
        let _peer = fake.accept().await;
        end.await.unwrap();
    };
    let error = both(client, server).await;
    assert!(error.to_string().ends_with("sent no greeting within 0.02 s"), "{error}");

    let next_hop = fake.next_hop_with(Settings { end_of_data: short, ..settings() });
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        let error = send_message(&mut leg, b"x\r\n").await.unwrap_err();
        assert!(matches!(leg.reply().await, Err(Lost::OutOfOrder(_))), "no reply can be trusted any more");
        done.send(()).unwrap();
        error
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        for (line, reply) in [(MAIL, "250 Ok"), (RCPT, "250 Ok"), ("DATA", "354 go")] {
            peer.answer(line, reply).await;
        }
        end.await.unwrap();
    };
    let error = both(client, server).await;
    assert_eq!(error.to_string(), "did not answer the end of data within 0.02 s");
}

#[tokio::test]
async fn a_server_that_takes_no_octets_is_given_up() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop_with(Settings { data_block: Duration::from_millis(20), ..settings() });
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        let block = vec![b'x'; GATHER];
        let error = loop {
            if let Err(error) = leg.content(&block).await {
                break error;
            }
        };
        done.send(()).unwrap();
        error
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        for (line, reply) in [(MAIL, "250 Ok"), (RCPT, "250 Ok"), ("DATA", "354 go")] {
            peer.answer(line, reply).await;
        }
        end.await.unwrap();
    };
    let error = both(client, server).await;
    assert_eq!(error.to_string(), "took no octets of the message for 0.02 s");
}

/// What a client says and gets back in one transaction, with the words for the connection's end after so many replies.
#[tokio::test]
async fn a_connection_lost_at_any_point_is_told() {
    let turns = [(MAIL, "250 Ok"), (RCPT, "250 Ok"), ("DATA", "354 go"), ("x", "")];
    let words = [
        "closed the connection before its reply to MAIL",
        "closed the connection before its reply to RCPT",
        "closed the connection before its reply to DATA",
        "closed the connection before its reply to the end of data",
    ];
    for (point, expected) in words.iter().enumerate() {
        let fake = Fake::new().await;
        let next_hop = fake.next_hop();
        let client = async {
            let mut leg = next_hop.open().await.unwrap();
            let error = send_message(&mut leg, b"x\r\n").await.unwrap_err();
            leg.release();
            error
        };
        let server = async {
            let mut peer = fake.accept_greeted("").await;
            for (line, reply) in turns.into_iter().take(point) {
                peer.answer(line, reply).await;
            }
            assert_eq!(peer.line().await, turns[point].0);
            if point == 3 {
                // Unread octets would make the end a reset.
                peer.expect(".\r\n").await;
            }
            drop(peer);
        };
        let lost = both(client, server).await;
        assert_eq!(lost.to_string(), *expected);
        // The connection is not offered to anybody again.
        let server = async { drop(fake.accept_greeted("").await) };
        assert!(both(next_hop.open(), server).await.is_ok());
    }
    for (greeting, expected) in [("", "before its greeting"), ("220 mx\r\n", "before its reply to EHLO")] {
        let fake = Fake::new().await;
        let server = async {
            let mut peer = fake.accept().await;
            peer.send(greeting).await;
            if !greeting.is_empty() {
                peer.line().await;
            }
        };
        let error = open_error(&fake.next_hop(), server).await;
        assert!(error.to_string().ends_with(&format!("closed the connection {expected}")), "{error}");
    }
}

#[tokio::test]
async fn why_a_server_gives_up_amid_the_message_is_heard() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        let block = vec![b'x'; GATHER];
        loop {
            if let Err(error) = leg.content(&block).await {
                break error;
            }
        }
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        for (line, reply) in [(MAIL, "250 Ok"), (RCPT, "250 Ok"), ("DATA", "354 go")] {
            peer.answer(line, reply).await;
        }
        peer.expect("xxx").await;
        peer.send("421 4.3.2 going down\r\n").await;
        peer.rest().await;
    };
    let error = both(client, server).await;
    assert_eq!(error.to_string(), "gave up the conversation with `421 4.3.2 going down`");
    assert_eq!(error.reply().map(Reply::code), Some(421));
}

#[tokio::test]
async fn an_abandoned_message_gets_no_dot() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        leg.content(b"half a mess").await.unwrap();
        leg.abandon_data().await;
        assert!(matches!(leg.finish().await, Err(Lost::OutOfOrder(_))));
        leg.release();
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        for (line, reply) in [(MAIL, "250 Ok"), (RCPT, "250 Ok"), ("DATA", "354 go")] {
            peer.answer(line, reply).await;
        }
        assert!(!peer.rest().await.contains("\r\n"));
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_message_nobody_asked_for_is_not_sent() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        assert!(matches!(leg.reply().await, Err(Lost::OutOfOrder(_))));
        leg.data();
        assert_eq!(leg.reply().await.unwrap().code(), 503);
        assert!(matches!(leg.content(b"RSET\r\n").await, Err(Lost::OutOfOrder(_))));
        assert!(matches!(leg.finish().await, Err(Lost::OutOfOrder(_))));
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.answer("DATA", "503 MAIL first").await;
        assert_eq!(peer.rest().await, "");
    };
    both(client, server).await;
}

#[tokio::test]
async fn replies_behind_a_421_are_still_heard() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        leg.mail(&mail());
        leg.rcpt(&rcpt());
        assert_eq!(leg.reply().await.unwrap().code(), 421);
        assert_eq!(leg.reply().await.unwrap_err().to_string(), "closed the connection before its reply to RCPT");
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING").await;
        peer.expect(&format!("{MAIL}\r\n{RCPT}\r\n")).await;
        peer.send("421 going down\r\n").await;
    };
    both(client, server).await;
}
