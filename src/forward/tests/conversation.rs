//! What goes over the wire when all is well.

use super::*;

#[tokio::test]
async fn a_pipelined_transaction_needs_three_turns() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        let before = leg.writes();
        let reply = send_message(&mut leg, b"a: b\r\n\r\nc\r\n").await.unwrap();
        assert_eq!(leg.writes() - before, 2, "one for the envelope, one for the message with its dot");
        assert_eq!(reply, Reply::new(250, "2.0.0 taken"));
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING").await;
        peer.expect(&format!("{MAIL}\r\n{RCPT}\r\nDATA\r\n")).await;
        peer.send("250 Ok\r\n250 Ok\r\n354 go on\r\n").await;
        peer.expect("a: b\r\n\r\nc\r\n.\r\n").await;
        peer.send("250 2.0.0 taken\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_the_reply_before() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        assert!(!leg.extensions().pipelining);
        send_message(&mut leg, b"c\r\n").await.unwrap()
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        for (line, reply) in [(MAIL, "250 Ok"), (RCPT, "250 Ok"), ("DATA", "354 go on")] {
            assert_eq!(peer.line().await, line);
            assert_eq!(peer.pending(), b"", "nothing may stand behind {line}");
            peer.send(&format!("{reply}\r\n")).await;
        }
        peer.expect("c\r\n.\r\n").await;
        peer.send("250 Ok\r\n").await;
    };
    assert_eq!(both(client, server).await.code(), 250);
}

#[tokio::test]
async fn replies_are_the_server_s_to_the_letter() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        leg.mail(&mail());
        leg.rcpt(&rcpt());
        leg.rcpt(&rcpt());
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.push(leg.reply().await.unwrap());
        }
        replies
    };
    let server = async {
        let mut peer = fake.accept_greeted("PIPELINING").await;
        peer.answer(MAIL, "250 2.1.0 Ok").await;
        peer.answer(RCPT, "550-5.1.1 No such user\r\n550-5.1.1 Ask somebody\r\n550 5.1.1 else").await;
        peer.answer(RCPT, "452 4.5.3 Enough").await;
    };
    let lines = ["5.1.1 No such user", "5.1.1 Ask somebody", "5.1.1 else"].map(str::to_owned).to_vec();
    let expected = [Reply::new(250, "2.1.0 Ok"), Reply::multiline(550, lines), Reply::new(452, "4.5.3 Enough")];
    assert_eq!(both(client, server).await, expected);
}

#[tokio::test]
async fn a_reply_may_come_octet_by_octet() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        leg.mail(&mail());
        leg.reply().await.unwrap()
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        assert_eq!(peer.line().await, MAIL);
        for octet in "250-2.1.0 Sender\r\n250-2.1.0\n250 2.1.0 Ok\r\n".chars() {
            peer.send(&octet.to_string()).await;
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(both(client, server).await.lines(), ["2.1.0 Sender", "2.1.0", "2.1.0 Ok"]);
}

#[tokio::test]
async fn helo_follows_an_ehlo_that_is_refused() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        assert_eq!(leg.extensions(), &Extensions::default());
        assert_eq!(leg.lacks(&mail_with(&[("SIZE", Some("9")), ("BODY", Some("8BITMIME"))])), Some("8BITMIME"));
        leg.mail(&mail_with(&[("SIZE", Some("9")), ("BODY", Some("7BIT"))]));
        leg.reply().await.unwrap()
    };
    let server = async {
        let mut peer = fake.accept().await;
        peer.send("220 old.example\r\n").await;
        peer.answer("EHLO relay.example", "500 what?").await;
        peer.answer("HELO relay.example", "250 old.example").await;
        peer.answer(MAIL, "250 Ok").await;
    };
    assert_eq!(both(client, server).await.code(), 250);
}

#[tokio::test]
async fn parameters_reach_the_server_unchanged() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        let mail =
            mail_with(&[("Ret", Some("HDRS")), ("SIZE", Some("042")), ("ENVID", Some("a+2Bb")), ("SMTPUTF8", None)]);
        assert_eq!(leg.lacks(&mail), None);
        leg.mail(&mail);
        let orcpt = Parameter { keyword: "orcpt".into(), value: Some("rfc822;B@example.net".into()) };
        let rcpt = Rcpt { parameters: vec![orcpt], ..rcpt() };
        assert_eq!(leg.lacks_for_rcpt(&rcpt), None);
        leg.rcpt(&rcpt);
        leg.reply().await.unwrap();
        leg.reply().await.unwrap();
        assert_eq!(next_hop.extensions().as_ref(), Some(leg.extensions()));
    };
    let server = async {
        let mut peer = fake.accept_greeted("SIZE_1000 SMTPUTF8 DSN").await;
        peer.answer(&format!("{MAIL} Ret=HDRS SIZE=042 ENVID=a+2Bb SMTPUTF8"), "250 Ok").await;
        peer.answer(&format!("{RCPT} orcpt=rfc822;B@example.net"), "250 Ok").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn dots_at_the_start_of_lines_are_doubled_on_the_wire() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        for part in [&b".first\r"[..], b"\n", b".", b"\r\n..two\r\n a.b", b"\r\n.end"] {
            leg.content(part).await.unwrap();
        }
        leg.finish().await.unwrap();
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.take_message("..first\r\n..\r\n...two\r\n a.b\r\n..end\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_message_without_octets_is_a_dot_alone() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        leg.finish().await.unwrap();
    };
    let server = async { fake.accept_greeted("").await.take_message(".\r\n").await };
    both(client, server).await;
}

#[tokio::test]
async fn a_small_message_goes_out_in_one_write_with_its_dot() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        let before = leg.writes();
        for _ in 0..100 {
            leg.content(b"a line of it\r\n").await.unwrap();
        }
        assert_eq!(leg.writes(), before);
        leg.finish().await.unwrap();
        assert_eq!(leg.writes(), before + 1);
    };
    let server = async {
        fake.accept_greeted("").await.take_message(&format!("{}.\r\n", "a line of it\r\n".repeat(100))).await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_large_message_streams() {
    const LINE: &str = "a line of a message that is larger than what is gathered\r\n";
    let times = 8 * GATHER / LINE.len();
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let (first_part, part_came) = tokio::sync::oneshot::channel();
    let client = async {
        let mut leg = next_hop.open().await.unwrap();
        begin_message(&mut leg).await.unwrap();
        leg.content(LINE.repeat(times).as_bytes()).await.unwrap();
        // The server has a part although there is no end yet.
        part_came.await.unwrap();
        leg.finish().await.unwrap();
    };
    let server = async {
        let mut peer = fake.accept_greeted("").await;
        peer.take_envelope().await;
        peer.expect(&LINE.repeat(times / 2)).await;
        first_part.send(()).unwrap();
        peer.expect(&LINE.repeat(times - times / 2)).await;
        peer.expect(".\r\n").await;
        peer.send("250 taken\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_password_is_given_over_the_loopback() {
    let fake = Fake::new().await;
    let route = SmtpRoute { credentials: Some(("user".into(), "secret".into())), ..fake.route(Tls::None) };
    let next_hop = NextHop::with_settings(Route::Smtp(route), settings()).unwrap();
    let server = async {
        let mut peer = fake.accept_greeted("AUTH_LOGIN_PLAIN").await;
        peer.answer("AUTH PLAIN AHVzZXIAc2VjcmV0", "235 welcome").await;
    };
    assert!(both(next_hop.open(), server).await.is_ok());
}

#[tokio::test]
async fn what_is_offered_is_learnt_once_and_the_connection_kept() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        assert_eq!(next_hop.extensions(), None);
        let learnt = next_hop.learn().await.unwrap();
        assert!(learnt.dsn && !learnt.chunking);
        assert_eq!(next_hop.learn().await.unwrap(), learnt);
        send_message(&mut next_hop.open().await.unwrap(), b"x\r\n").await.unwrap();
    };
    let server = async {
        let mut peer = fake.accept_greeted("DSN").await;
        peer.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[test]
fn a_next_hop_is_named_without_its_password() {
    let credentials = Some(("user".into(), "secret".into()));
    let route = SmtpRoute { credentials, ..SmtpRoute::to("::1", 10025, Tls::Opportunistic) };
    let next_hop = NextHop::new(Route::Smtp(route), "relay.example".into()).unwrap();
    assert_eq!(next_hop.label(), "smtp://[::1]:10025");
    let mx = Route::Mx(MxRoute::default());
    assert!(matches!(NextHop::new(mx, "relay.example".into()), Err(ForwardError::Mx)));
}

#[tokio::test]
async fn a_next_hop_is_reached_from_the_source_of_its_route() {
    let fake = Fake::new().await;
    let source = Source { v4: Some([127, 0, 0, 3].into()), v6: None };
    let route = Route::Smtp(SmtpRoute { source, ..fake.route(Tls::None) });
    let next_hop = NextHop::with_settings(route, settings()).unwrap();
    let client = async { next_hop.learn().await };
    let server = async {
        let (socket, peer) = fake.listener.accept().await.unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.3");
        drop(socket);
    };
    assert!(both(client, server).await.is_err(), "the connection was closed at once");
}
