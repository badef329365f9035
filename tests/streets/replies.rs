//! The next hop's replies are the client's; what both sides can is announced; pipelining and reuse.

use crate::common::{Client, Record, Relay, Setup, Sink, Stage, drop_line, say, strip_received, stuff};
use crate::message;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

#[test]
fn the_next_hops_replies_reach_the_client_as_they_are() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Mail(from) if from.contains("banned") => say("553-5.1.8 not\n553-\n553 5.1.8 you"),
        Stage::Mail(_) => say("250-2.1.0 a sender\n250 2.1.0 of many words   "),
        Stage::Rcpt(to) if to.contains("moved") => say("251 2.1.5 will forward"),
        Stage::Rcpt(to) if to.contains("odd") => say("599 what"),
        Stage::Rcpt(to) if to.contains("bare") => say("450"),
        Stage::Rcpt(_) => say("250-2.1.5 yes\n250 2.1.5 please"),
        Stage::End(_) => say("250-2.0.0 kept\n250 2.0.0 as 4711"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    assert_eq!(client.command("MAIL FROM:<banned@example.org>").text(), "553-5.1.8 not\n553-\n553 5.1.8 you");
    let expected = "250-2.1.0 a sender\n250 2.1.0 of many words   ";
    assert_eq!(client.command("MAIL FROM:<alice@example.org>").text(), expected);
    assert_eq!(client.command("RCPT TO:<bob@example.net>").text(), "250-2.1.5 yes\n250 2.1.5 please");
    assert_eq!(client.command("RCPT TO:<moved@example.net>").text(), "251 2.1.5 will forward");
    assert_eq!(client.command("RCPT TO:<odd@example.net>").text(), "599 what");
    assert_eq!(client.command("RCPT TO:<bare@example.net>").text().trim_end(), "450");
    client.command("DATA").starts("354");
    assert_eq!(client.data(&message("mirror")).text(), "250-2.0.0 kept\n250 2.0.0 as 4711");
    let record = Record::read(&archive.wait_for(1)[0].octets);
    assert_eq!(record.recipients(), ["bob@example.net", "moved@example.net"]);
    relay.finish_clean(1);
}

#[test]
fn parameters_reach_the_next_hop_as_the_client_gave_them() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org> BODY=8BITMIME RET=HDRS ENVID=QQ314159").starts("250");
    client.command("RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@example.net").starts("250");
    client.command("DATA").starts("354");
    client.data(&message("dsn")).starts("250");
    let relayed = next_hop.wait_for(1).remove(0);
    for parameter in ["BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159"] {
        assert!(relayed.mail.contains(parameter), "{}", relayed.mail);
    }
    assert_eq!(relayed.rcpts, ["<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@example.net"]);
    relay.finish_clean(1);
}

#[test]
fn ehlo_announces_what_relay_and_next_hop_can_both_do() {
    let archive = Sink::start();
    let (plain, able) = (
        Sink::scripted(|stage| match stage {
            Stage::Ehlo(_) => say("250-plain.example\n250-SIZE 50000\n250-X-UNHEARD-OF\n250 PIPELINING"),
            _ => None,
        }),
        Sink::start(),
    );
    for (next_hop, there, absent) in [
        (&plain, &["SIZE 50000"][..], &["8BITMIME", "SMTPUTF8", "DSN", "X-UNHEARD-OF", "STARTTLS", "CHUNKING"][..]),
        (
            &able,
            &["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "SIZE 67108864"][..],
            &["STARTTLS"][..],
        ),
    ] {
        let mut relay = Setup::new(next_hop, &archive).start();
        let mut client = Client::connect(relay.address());
        assert!(client.greeting.text().starts_with("220 relay.example.org"), "{:?}", client.greeting);
        let reply = client.command("EHLO client.example.com");
        let words: Vec<_> = reply.lines.iter().skip(1).map(|line| line.get(4..).unwrap_or_default()).collect();
        for keyword in there {
            assert!(words.contains(keyword), "{keyword} in {words:?}");
        }
        for keyword in absent {
            assert!(!words.iter().any(|word| word.starts_with(keyword)), "no {keyword} in {words:?}");
        }
        client.command("QUIT").starts("221");
        relay.finish_clean(0);
    }
}

#[test]
fn pipelined_commands_are_answered_in_order_and_the_next_message_may_follow_the_dot() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::Rcpt(to) if to.contains("carol") => say("550 5.1.1 no carol"),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    let group = |mark: &str| {
        format!(
            "MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob-{mark}@example.net>\r\nRCPT TO:<carol@example.net>\r\nRCPT TO:<eve@example.net>\r\nDATA\r\n"
        )
    };
    let expect = |client: &mut Client| {
        for expected in ["250", "250", "550 5.1.1 no carol", "250", "354"] {
            client.reply().starts(expected);
        }
    };
    client.send(group("one").as_bytes());
    expect(&mut client);
    client.send(&[&stuff(&message("one"))[..], group("two").as_bytes()].concat());
    client.reply().starts("250");
    expect(&mut client);
    client.send(&[&stuff(&message("two"))[..], b"NOOP\r\nQUIT\r\n"].concat());
    client.reply().starts("250");
    client.reply().starts("250");
    client.reply().starts("221");
    assert_eq!(client.rest(), b"");
    let relayed = next_hop.wait_for(2);
    for (copy, mark) in relayed.iter().zip(["one", "two"]) {
        assert_eq!(strip_received(&copy.octets).1, message(mark));
        assert_eq!(copy.forward_paths(), [&format!("bob-{mark}@example.net"), "eve@example.net"]);
    }
    relay.finish_clean(2);
}

/// One message whose envelope is answered, for its end to be sent along with the envelope of another.
fn begun(relay: &Relay, mark: &str) -> Client {
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command(&format!("RCPT TO:<bob-{mark}@example.net>")).starts("250");
    client.command("DATA").starts("354");
    client
}

/// That message, and behind its dot the envelope of another.
fn one_and_the_next_envelope() -> Vec<u8> {
    let envelope = b"MAIL FROM:<eve@example.org>\r\nRCPT TO:<bob-two@example.net>\r\nDATA\r\n";
    [&stuff(&message("one"))[..], envelope].concat()
}

/// A next hop that says what it thinks of a message only once it has heard what comes behind it.
fn curious_next_hop() -> (std::net::SocketAddr, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (mut stream, mut lines) = (stream.try_clone().unwrap(), BufReader::new(stream).lines());
        let mut until = |start: &str, replies: &str| {
            stream.write_all(replies.as_bytes()).unwrap();
            loop {
                let line = lines.next().unwrap().unwrap();
                if line.starts_with(start) {
                    return line;
                }
            }
        };
        until("EHLO", "220 curious.example\r\n");
        until("MAIL", "250-curious.example\r\n250 PIPELINING\r\n");
        until("RCPT", "250 one\r\n");
        until("DATA", "250 one\r\n");
        until(".", "354 one\r\n");
        let behind = until("MAIL", "");
        until("DATA", "");
        until(".", "250 one\r\n250 two\r\n250 two\r\n354 two\r\n");
        stream.write_all(b"250 two\r\n").unwrap();
        // Until the relay goes.
        lines.by_ref().take_while(Result::is_ok).for_each(drop);
        behind
    });
    (address, heard)
}

#[test]
fn what_a_client_says_behind_its_dot_reaches_the_next_hop_with_it() {
    let archive = Sink::start();
    let (address, heard) = curious_next_hop();
    let mut relay = Setup::with_routes(&format!("smtp://{address}?tls=none"), &archive.route()).start();
    let mut client = begun(&relay, "one");
    client.send(&one_and_the_next_envelope());
    for expected in ["250 one", "250 two", "250 two", "354 two"] {
        client.reply().starts(expected);
    }
    client.data(&message("two")).starts("250 two");
    relay.finish_clean(2);
    assert_eq!(heard.join().unwrap(), "MAIL FROM:<eve@example.org>");
}

#[test]
fn a_message_goes_on_though_its_client_is_gone_behind_it_and_the_next_envelope() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = begun(&relay, "one");
    client.send(&one_and_the_next_envelope());
    client.hang_up();
    assert_eq!(strip_received(&next_hop.wait_for(1)[0].octets).1, message("one"));
    assert_eq!(Record::read(&archive.wait_for(1)[0].octets).recipients(), ["bob-one@example.net"]);
    relay.finish_clean(1);
    assert_eq!(next_hop.taken().len(), 1);
}

#[test]
fn a_message_that_is_lost_at_its_end_does_not_take_the_next_one_with_it() {
    let next_hop = Sink::scripted(|stage| match stage {
        Stage::End(taken) if memchr::memmem::find(&taken.octets, b"one").is_some() => drop_line(),
        _ => None,
    });
    let archive = Sink::start();
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = begun(&relay, "one");
    client.send(&one_and_the_next_envelope());
    for expected in ["451 4.4.1", "250", "250", "354"] {
        client.reply().starts(expected);
    }
    client.data(&message("two")).starts("250");
    assert_eq!(strip_received(&next_hop.wait_for(1)[0].octets).1, message("two"), "over another connection");
    let mut journaled: Vec<_> = archive.wait_for(2).iter().map(|taken| Record::read(&taken.octets).original).collect();
    journaled.sort();
    assert_eq!(journaled, [message("one"), message("two")], "perhaps the next hop has the first one");
    relay.finish_clean(2);
}

#[test]
fn a_conversation_may_arrive_octet_by_octet() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::connect(relay.address());
    let mut trickle = |octets: &[u8], expected: &str| {
        octets.iter().for_each(|octet| client.send(&[*octet]));
        client.reply().starts(expected);
    };
    trickle(b"EHLO client.example.com\r\n", "250");
    trickle(b"MAIL FROM:<alice@example.org>\r\n", "250");
    trickle(b"RCPT TO:<bob@example.net>\r\n", "250");
    trickle(b"DATA\r\n", "354");
    trickle(&stuff(&message("trickle")), "250");
    assert_eq!(strip_received(&next_hop.wait_for(1)[0].octets).1, message("trickle"));
    relay.finish_clean(1);
}

#[test]
fn one_session_uses_one_connection_to_the_next_hop() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::ehlo(relay.address());
    for number in 0..5 {
        client.mail("alice@example.org", &["bob@example.net"], &message(&format!("reuse-{number}"))).starts("250");
    }
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<forgotten@example.net>").starts("250");
    client.command("RSET").starts("250");
    client.mail("albert@example.org", &["bert@example.net"], &message("after-rset")).starts("250");
    let last = next_hop.wait_for(6).pop().unwrap();
    assert_eq!((last.reverse_path(), last.forward_paths()), ("albert@example.org", vec!["bert@example.net"]));
    assert_eq!(next_hop.connections(), 1);
    relay.finish_clean(6);
}

#[test]
fn commands_out_of_order_and_unknown_ones_are_refused_and_the_session_goes_on() {
    let (next_hop, archive) = (Sink::start(), Sink::start());
    let mut relay = Setup::new(&next_hop, &archive).start();
    let mut client = Client::connect(relay.address());
    assert_eq!(client.command("FROBNICATE now").code() / 100, 5);
    assert_eq!(client.command("RCPT TO:<bob@example.net>").code(), 503);
    assert_eq!(client.command("DATA").code(), 503);
    client.command("EHLO client.example.com").starts("250");
    assert_eq!(client.command("RCPT TO:<bob@example.net>").code(), 503);
    assert_eq!(client.command("MAIL FROM:alice").code(), 501);
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    assert_eq!(client.command("MAIL FROM:<alice@example.org>").code(), 503);
    assert!(matches!(client.command("DATA").code(), 503 | 554));
    assert_eq!(client.command("VRFY bob").code() / 100, 2);
    client.command("RSET").starts("250");
    client.mail("alice@example.org", &["bob@example.net"], &message("late")).starts("250");
    relay.finish_clean(1);
}
