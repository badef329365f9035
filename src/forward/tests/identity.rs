//! What a next hop is told of clients, and whose a connection is.

use super::*;
use crate::config::ClientIdentity;
use crate::smtp::proxy::{write_v1, write_v2};

const ANNOUNCED: &str =
    "PIPELINING XCLIENT_NAME_ADDR_PORT_PROTO_HELO_DESTADDR_DESTPORT XFORWARD_NAME_ADDR_PORT_PROTO_HELO_IDENT_SOURCE";
const TOLD: &str = "XCLIENT HELO=client.example PROTO=ESMTP PORT=5 DESTADDR=198.51.100.1 DESTPORT=25 NAME=[UNAVAILABLE] ADDR=192.0.2.7";
const FORWARDED: &str =
    "XFORWARD HELO=client.example PROTO=ESMTP PORT=5 NAME=[UNAVAILABLE] ADDR=192.0.2.7 IDENT=queue1 SOURCE=REMOTE";

fn client(address: &str) -> ClientFacts {
    ClientFacts {
        address: address.parse().unwrap(),
        destination: "198.51.100.1:25".parse().unwrap(),
        name: "client.example".to_owned(),
        extended: true,
    }
}

fn next_hop(fake: &Fake, identity: ClientIdentity) -> Arc<NextHop> {
    fake.next_hop_with(Settings { identity, ..settings() })
}

async fn relay_for(next_hop: &Arc<NextHop>, address: &str) -> Result<Reply, Lost> {
    let mut leg = next_hop.open_for(client(address), "queue1").await.unwrap();
    let reply = send_message(&mut leg, b"x\r\n").await;
    leg.release();
    reply
}

impl Peer {
    /// XCLIENT, which begins anew, and the client's own EHLO.
    async fn take_xclient(&mut self, line: &str) {
        self.greet(ANNOUNCED).await;
        self.answer(line, "220 mx.example again").await;
        self.answer("EHLO client.example", "250-mx.example\r\n250-8BITMIME\r\n250 PIPELINING").await;
    }
}

#[tokio::test]
async fn xclient_makes_a_connection_one_client_s_and_nobody_else_s() {
    let fake = Fake::new().await;
    let next_hop = next_hop(&fake, ClientIdentity::Xclient);
    let client = async {
        relay_for(&next_hop, "192.0.2.7:5").await.unwrap();
        relay_for(&next_hop, "[2001:db8::8]:6").await.unwrap();
        relay_for(&next_hop, "192.0.2.7:5").await.unwrap();
        assert!(next_hop.extensions().is_none(), "what one client is offered is not what others are");
        next_hop.part_with("[::ffff:192.0.2.7]:5".parse().unwrap());
        relay_for(&next_hop, "[2001:db8::8]:6").await.unwrap();
    };
    let server = async {
        let mut one = fake.accept().await;
        one.take_xclient(TOLD).await;
        one.take_message("x\r\n.\r\n").await;
        let mut other = fake.accept().await;
        let told = TOLD.replace("PORT=5 ", "PORT=6 ").replace("192.0.2.7", "IPV6:2001:db8::8");
        other.take_xclient(&told).await;
        other.take_message("x\r\n.\r\n").await;
        one.take_message("x\r\n.\r\n").await;
        assert_eq!(one.line().await, "QUIT");
        other.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_client_whom_the_next_hop_would_not_know_is_asked_to_come_again() {
    for (offer, reply) in [("XFORWARD", None), ("XCLIENT_NAME_PORT", None), (ANNOUNCED, Some("550 5.7.0 not you"))] {
        let fake = Fake::new().await;
        let next_hop = next_hop(&fake, ClientIdentity::Xclient);
        let client = async {
            let error = next_hop.open_for(client("192.0.2.7:5"), "queue1").await.unwrap_err();
            let answer = error.for_client().unwrap();
            assert_eq!((answer.code(), answer.lines()[0].get(..5)), (451, Some("4.3.5")), "{error}");
        };
        let server = async {
            let mut peer = fake.accept_greeted(offer).await;
            if let Some(reply) = reply {
                peer.answer(TOLD, reply).await;
            }
            assert_eq!(peer.rest().await, "", "nothing is sent in our own name");
        };
        both(client, server).await;
    }
}

#[tokio::test]
async fn a_proxy_header_comes_first_and_what_is_refused_then_is_the_client() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\0\x05\0\x19".to_vec();
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 5 25\r\n".to_vec();
    for (identity, header) in [(ClientIdentity::ProxyV1, v1), (ClientIdentity::ProxyV2, v2)] {
        let fake = Fake::new().await;
        let next_hop = next_hop(&fake, identity);
        let client = async {
            for _ in 0..2 {
                relay_for(&next_hop, "192.0.2.7:5").await.unwrap();
            }
            let error = next_hop.open_for(client("192.0.2.9:5"), "queue1").await.unwrap_err();
            assert_eq!(error.for_client(), Some(Reply::new(554, "5.7.1 you are listed")));
            assert_eq!(next_hop.is_up(), Some(true));
        };
        let server = async {
            let mut peer = fake.accept().await;
            let mut found = vec![0; header.len()];
            peer.stream.read_exact(&mut found).await.unwrap();
            assert_eq!(found, header);
            peer.send("220 mx.example\r\n").await;
            peer.answer("EHLO client.example", "250-mx.example\r\n250 PIPELINING").await;
            for _ in 0..2 {
                peer.take_message("x\r\n.\r\n").await;
            }
            fake.accept().await.send("554 5.7.1 you are listed\r\n").await;
        };
        both(client, server).await;
    }
}

#[tokio::test]
async fn a_connection_of_our_own_is_named_so_and_kept_for_nobody() {
    for identity in [ClientIdentity::ProxyV1, ClientIdentity::ProxyV2, ClientIdentity::Xclient] {
        let fake = Fake::new().await;
        let next_hop = next_hop(&fake, identity);
        let client = async {
            assert!(next_hop.learn().await.unwrap().pipelining);
            next_hop.check().await.unwrap();
        };
        let server = async {
            let (stream, from) = fake.listener.accept().await.unwrap();
            let own = Some((from, stream.local_addr().unwrap()));
            let header = match identity {
                ClientIdentity::ProxyV1 => write_v1(own),
                ClientIdentity::ProxyV2 => write_v2(own),
                _ => Vec::new(),
            };
            let mut peer = Peer::over(stream);
            let mut found = vec![0; header.len()];
            peer.stream.read_exact(&mut found).await.unwrap();
            assert_eq!(found, header);
            peer.greet(ANNOUNCED).await;
            assert_eq!(peer.line().await, "QUIT");
        };
        both(client, server).await;
    }
}

#[tokio::test]
async fn xforward_goes_with_each_transaction_and_its_refusal_stops_nothing() {
    let fake = Fake::new().await;
    let next_hop = next_hop(&fake, ClientIdentity::Xforward);
    let client = async {
        relay_for(&next_hop, "192.0.2.7:5").await.unwrap();
        relay_for(&next_hop, "192.0.2.8:5").await.unwrap();
        // The idle connection is gone: the new one hears of the client, too, or offers no more to hear of it.
        relay_for(&next_hop, "192.0.2.7:5").await.unwrap();
        relay_for(&next_hop, "192.0.2.7:5").await.unwrap();
    };
    let server = async {
        let mut peer = fake.accept_greeted(ANNOUNCED).await;
        peer.answer(FORWARDED, "250 Ok").await;
        peer.take_message("x\r\n.\r\n").await;
        peer.answer(&FORWARDED.replace("192.0.2.7", "192.0.2.8"), "550 5.7.0 not you").await;
        peer.take_message("x\r\n.\r\n").await;
        assert_eq!(peer.line().await, FORWARDED);
        drop(peer);
        let mut peer = fake.accept_greeted(ANNOUNCED).await;
        peer.answer(FORWARDED, "250 Ok").await;
        peer.take_message("x\r\n.\r\n").await;
        assert_eq!(peer.line().await, FORWARDED);
        drop(peer);
        fake.accept_greeted("PIPELINING").await.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn xforward_is_pipelined_with_the_envelope() {
    let fake = Fake::new().await;
    let next_hop = next_hop(&fake, ClientIdentity::Xforward);
    let client = async {
        let mut leg = next_hop.open_for(client("192.0.2.7:5"), "queue1").await.unwrap();
        let before = leg.writes();
        begin_message(&mut leg).await.unwrap();
        assert_eq!(leg.writes() - before, 1);
    };
    let server = async {
        let mut peer = fake.accept_greeted(ANNOUNCED).await;
        peer.expect(&format!("{FORWARDED}\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n")).await;
        peer.send("250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go on\r\n").await;
        peer.rest().await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_name_of_any_octets_makes_no_second_command_and_no_second_attribute() {
    let name = format!("a\r\nRCPT TO:<x@y>\u{7f}\u{e9} ADDR=10.0.0.1+{}", "z".repeat(600));
    let hostile = ClientFacts { name, ..client("192.0.2.7:5") };
    let fake = Fake::new().await;
    let next_hop = next_hop(&fake, ClientIdentity::Xclient);
    let client = async { next_hop.open_for(hostile, "queue1").await.unwrap() };
    let server = async {
        let mut peer = fake.accept_greeted(ANNOUNCED).await;
        let line = peer.line().await;
        assert!(line.len() <= 510, "{line}");
        assert_eq!(line.matches("ADDR=").count(), 2, "DESTADDR and ADDR: {line}");
        assert!(line.ends_with(" ADDR=192.0.2.7"), "{line}");
        peer.send("220 again\r\n").await;
        let hello = peer.line().await;
        assert_eq!(hello.split(' ').count(), 2, "{hello}");
        assert!(hello.len() <= 260 && hello.is_ascii(), "{hello}");
        peer.send("250 mx.example\r\n").await;
    };
    both(client, server).await;
}
