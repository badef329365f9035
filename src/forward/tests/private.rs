//! Connections on which a client of ours authenticates.

use super::*;
use crate::smtp::{Auth, Mechanism, Secret};

const OFFER: &str = "AUTH_PLAIN_LOGIN_GSSAPI_SCRAM-SHA-256-PLUS PIPELINING";
const PLAIN: &str = "AUTH PLAIN AGEAYg==";

fn secret(text: &str) -> Secret {
    Secret::read(text.as_bytes()).unwrap()
}

fn plain() -> Auth {
    Auth { mechanism: Mechanism::Plain, initial: Some(secret("AGEAYg==")) }
}

fn facts() -> ClientFacts {
    let address = "192.0.2.7:1025".parse().unwrap();
    ClientFacts { address, destination: address, name: "client.example".into(), extended: true }
}

/// A connection on which the server has said 235.
async fn authenticated(next_hop: &Arc<NextHop>) -> Arc<Private> {
    let private = next_hop.open_private(facts()).await.unwrap();
    assert_eq!(private.authenticate(plain()).await.unwrap().unwrap().code(), 235);
    private
}

#[tokio::test]
async fn what_can_be_passed_on_is_offered() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let server = async { drop(fake.accept_greeted(OFFER).await) };
    let offered = both(next_hop.learn(), server).await.unwrap();
    assert_eq!(offered.auth, [Mechanism::Plain, Mechanism::Login]);
}

#[tokio::test]
async fn a_route_with_a_password_of_its_own_offers_none() {
    let fake = Fake::new().await;
    let credentials = Some(("a".to_owned(), "b".to_owned()));
    let route = Route::Smtp(SmtpRoute { credentials, ..fake.route(Tls::None) });
    let next_hop = NextHop::with_settings(route, settings()).unwrap();
    let server = async {
        let mut peer = fake.accept_greeted(OFFER).await;
        peer.answer(PLAIN, "235 ok").await;
    };
    assert_eq!(both(next_hop.learn(), server).await.unwrap().auth, []);
    assert_eq!(next_hop.extensions().unwrap().auth, []);
}

#[tokio::test]
async fn all_transactions_go_over_the_connection_and_nobody_else_gets_it() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let private = authenticated(&next_hop).await;
        for _ in 0..2 {
            let mut leg = private.open(facts(), "id").await.unwrap();
            assert!(private.open(facts(), "id").await.is_none(), "it is in use");
            send_message(&mut leg, b"x\r\n").await.unwrap();
            leg.release();
        }
        let mut other = next_hop.open().await.unwrap();
        send_message(&mut other, b"other\r\n").await.unwrap();
        private.quit();
        assert!(private.open(facts(), "id").await.is_none());
    };
    let server = async {
        let mut own = fake.accept_greeted(OFFER).await;
        own.answer(PLAIN, "235 ok").await;
        own.take_message("x\r\n.\r\n").await;
        own.take_message("x\r\n.\r\n").await;
        fake.accept_greeted(OFFER).await.take_message("other\r\n.\r\n").await;
        assert_eq!(own.rest().await, "QUIT\r\n");
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_transaction_that_is_reset_or_given_back_at_once_keeps_the_connection() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let private = authenticated(&next_hop).await;
        let mut leg = private.open(facts(), "id").await.unwrap();
        leg.mail(&mail());
        assert_eq!(leg.reply().await.unwrap().code(), 250);
        leg.release();
        // The RSET is not answered yet.
        private.open(facts(), "id").await.unwrap().release();
        private.open(facts(), "id").await.unwrap().release();
        send_message(&mut private.open(facts(), "id").await.unwrap(), b"x\r\n").await.unwrap();
    };
    let server = async {
        let mut own = fake.accept_greeted(OFFER).await;
        own.answer(PLAIN, "235 ok").await;
        own.answer(MAIL, "250 ok").await;
        own.answer("RSET", "250 forgotten").await;
        own.take_message("x\r\n.\r\n").await;
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_is_not_replaced() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let private = authenticated(&next_hop).await;
        let mut leg = private.open(facts(), "id").await.unwrap();
        leg.mail(&mail());
        assert!(matches!(leg.reply().await, Err(Lost::Closed(_))));
        leg.release();
        assert!(private.open(facts(), "id").await.is_none());
        assert!(private.respond(secret("x")).await.is_err());
    };
    let server = async {
        let mut own = fake.accept_greeted(OFFER).await;
        own.answer(PLAIN, "235 ok").await;
        assert_eq!(own.line().await, MAIL);
    };
    both(client, server).await;
}

#[tokio::test]
async fn a_mechanism_that_this_connection_does_not_offer_is_not_said() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let private = next_hop.open_private(facts()).await.unwrap();
        assert_eq!(private.authenticate(plain()).await.unwrap(), None);
    };
    let server = async { assert_eq!(fake.accept_greeted("AUTH_LOGIN").await.rest().await, "") };
    both(client, server).await;
}

#[tokio::test]
async fn what_is_no_reply_to_auth_ends_the_connection() {
    for reply in ["250 ok", "354 go on", "334-a\r\n334 b", "200 ok", "235 ok\r\n235 and again"] {
        let fake = Fake::new().await;
        let next_hop = fake.next_hop();
        let client = async {
            let private = next_hop.open_private(facts()).await.unwrap();
            let said = private.authenticate(plain()).await;
            // What comes on top may be seen only later.
            assert!(said.is_err() || private.open(facts(), "id").await.is_none(), "{reply}");
        };
        let server = async {
            let mut own = fake.accept_greeted(OFFER).await;
            own.answer(PLAIN, reply).await;
            own.rest().await;
        };
        both(client, server).await;
    }
}

#[tokio::test]
async fn challenges_and_responses_pass_as_they_are() {
    let fake = Fake::new().await;
    let next_hop = fake.next_hop();
    let client = async {
        let private = next_hop.open_private(facts()).await.unwrap();
        let login = Auth { mechanism: Mechanism::Login, initial: None };
        let reply = private.authenticate(login).await.unwrap().unwrap();
        assert_eq!(reply, Reply::new(334, "VXNlcm5hbWU6"));
        assert_eq!(private.respond(secret("YQ==")).await.unwrap(), Reply::new(334, ""));
        assert_eq!(private.respond(secret("")).await.unwrap(), Reply::new(535, "5.7.8 no"));
        assert_eq!(private.authenticate(plain()).await.unwrap().unwrap().code(), 235);
    };
    let server = async {
        let mut own = fake.accept_greeted(OFFER).await;
        own.answer("AUTH LOGIN", "334 VXNlcm5hbWU6").await;
        own.answer("YQ==", "334 ").await;
        own.answer("", "535 5.7.8 no").await;
        own.answer(PLAIN, "235 ok").await;
    };
    both(client, server).await;
}
