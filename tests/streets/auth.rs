//! Clients that authenticate at the next hop, through the relay.

use crate::common::{
    Answer, Authority, Client, Dovecot, Event, Postfix, Record, Relay, Running, Setup, Sink, Stage, free_port,
    installed, open_to_others, own_loopback_address, say,
};
use crate::message;
use std::path::Path;
use std::process::Command;

const OFFER: &str = "250-sink.example\n250-PIPELINING\n250-SIZE 1000000\n\
                     250-AUTH PLAIN LOGIN XOAUTH2 SCRAM-SHA-256 SCRAM-SHA-256-PLUS GSSAPI\n250 8BITMIME";
/// `\0alice\0s3cret-word`
const PLAIN: &str = "AUTH PLAIN AGFsaWNlAHMzY3JldC13b3Jk";
/// Each of them as it could come up in a log.
const SECRETS: [&str; 3] = ["AGFsaWNlAHMzY3JldC13b3Jk", "s3cret-word", "czNjcmV0LXdvcmQ="];

/// What a next hop says that knows one password.
fn judge(stage: &Stage<'_>) -> Option<Answer> {
    match stage {
        Stage::Ehlo(_) => say(OFFER),
        Stage::Other(PLAIN) => say("235 2.7.0 it is you"),
        Stage::Other("AUTH LOGIN") => say("334 VXNlcm5hbWU6"),
        Stage::Other("YWxpY2VAZXhhbXBsZS5vcmc=") => say("334 UGFzc3dvcmQ6"),
        Stage::Other("czNjcmV0LXdvcmQ=") => say("235 2.7.0 it is you"),
        Stage::Other("*") => say("501 5.7.0 as you like"),
        Stage::Other(line) if line.starts_with("AUTH ") => say("535 5.7.8 it is not you"),
        _ => None,
    }
}

struct Street {
    authority: Authority,
    next_hop: Sink,
    archive: Sink,
    relay: Relay,
    _place: tempfile::TempDir,
}

/// A listener with STARTTLS that trusts nobody's address and logs everything.
fn street(more: &str, script: impl Fn(&Stage<'_>) -> Option<Answer> + Send + Sync + 'static) -> Street {
    let (next_hop, archive) = (Sink::scripted(script), Sink::start());
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    let mut setup = Setup::new(&next_hop, &archive).trusting_nobody();
    setup.log_level = "trace".into();
    setup.listener = format!("{more}\n{}", tls_table(&authority, place.path()));
    Street { authority, relay: setup.start(), next_hop, archive, _place: place }
}

fn tls_table(authority: &Authority, place: &Path) -> String {
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(place, "relay");
    format!("[listener.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")
}

impl Street {
    /// A client that is encrypted; what it is offered.
    fn client(&self) -> (Client, String) {
        let mut client = Client::ehlo(self.relay.address());
        let (_, offers) = client.start_tls(&self.authority, "relay.example.org");
        (client, offers.text())
    }

    /// No password is in the log, at any level.
    fn check_log(&self) {
        let log = self.relay.everything();
        for secret in SECRETS {
            assert!(!log.iter().any(|line| line.contains(secret)), "{secret} is in the log");
        }
    }
}

fn login(event: &Event) -> Option<&str> {
    event.0["login"].as_str()
}

#[test]
fn an_authenticated_client_sends_anywhere_and_its_name_is_in_log_and_record() {
    let mut street = street("", judge);
    let (mut client, offers) = street.client();
    let offered = |line: &str| line.get(4..) == Some("AUTH PLAIN LOGIN XOAUTH2 SCRAM-SHA-256");
    assert!(offers.lines().any(offered), "{offers}");
    client.mail("alice@example.org", &["far@elsewhere.example"], &message("denied")).starts("554 5.7.1");
    client.command("RSET").starts("250");
    client.command(PLAIN).starts("235 2.7.0 it is you");
    client.command(PLAIN).starts("503");
    for mark in ["one", "two"] {
        client.mail("alice@example.org", &["far@elsewhere.example"], &message(mark)).starts("250 2.0.0 taken");
    }
    client.command("QUIT").starts("221");
    let relayed = street.next_hop.wait_for(2);
    assert_eq!(relayed[0].connection, relayed[1].connection, "it is the client's own");
    let received = String::from_utf8_lossy(&relayed[0].octets).lines().next().unwrap().to_owned();
    assert!(received.contains(" with ESMTPSA (TLSv1.3 ") && !received.contains("alice"), "{received}");
    for record in street.archive.wait_for(2) {
        assert_eq!(Record::read(&record.octets).field("X-Journal-Auth"), Some("alice"));
    }
    let authenticated = street.relay.wait_event("session.authenticated", |_| true);
    assert_eq!((authenticated.text("mechanism"), login(&authenticated)), ("PLAIN", Some("alice")));
    assert_eq!((authenticated.text("tls"), authenticated.text("listener")), ("TLSv1.3", "incoming"));
    assert_eq!(login(&street.relay.wait_event("message.accepted", |_| true)), Some("alice"));
    // Another client is not alice, and her connection is not there for it.
    let (mut other, _) = street.client();
    other.mail("eve@example.org", &["bob@example.org"], &message("three")).starts("250");
    other.mail("eve@example.org", &["far@elsewhere.example"], &message("four")).starts("554 5.7.1");
    drop(other);
    let third = street.next_hop.wait_for(3).remove(2);
    assert_ne!(third.connection, relayed[0].connection);
    let record = street.archive.wait_for(3).remove(2);
    assert_eq!(Record::read(&record.octets).field("X-Journal-Auth"), None);
    street.relay.finish_clean(3);
    street.check_log();
}

#[test]
fn a_wrong_password_opens_nothing_and_a_second_try_may_succeed() {
    let mut street = street("", judge);
    let (mut client, _) = street.client();
    client.command("AUTH PLAIN AGFsaWNlAHdyb25n").starts("535 5.7.8 it is not you");
    client.command("AUTH EXTERNAL =").starts("504");
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RCPT TO:<far@elsewhere.example>").starts("554 5.7.1");
    client.command("RSET").starts("250");
    client.command("AUTH LOGIN").starts("334 VXNlcm5hbWU6");
    client.command("*").starts("501 5.7.0 as you like");
    client.command("AUTH LOGIN").starts("334 VXNlcm5hbWU6");
    client.command("YWxpY2VAZXhhbXBsZS5vcmc=").starts("334 UGFzc3dvcmQ6");
    client.command("czNjcmV0LXdvcmQ=").starts("235");
    client.mail("alice@example.org", &["far@elsewhere.example"], &message("login")).starts("250");
    drop(client);
    let record = Record::read(&street.archive.wait_for(1)[0].octets);
    assert_eq!(record.field("X-Journal-Auth"), Some("alice@example.org"));
    let failed = street.relay.events("session.authentication_failed");
    assert_eq!(failed.iter().map(|event| event.text("mechanism")).collect::<Vec<_>>(), ["PLAIN", "LOGIN"]);
    assert!(failed.iter().all(|event| login(event).is_none()), "people type passwords there");
    street.relay.finish_clean(1);
    street.check_log();
}

#[test]
fn a_stranger_can_not_say_who_submitted_a_message_and_others_can() {
    let sent = |street: &Street, log_in: bool| {
        let (mut client, _) = street.client();
        if log_in {
            client.command(PLAIN).starts("235");
        }
        client.command("MAIL FROM:<a@example.org> BODY=8BITMIME auth=Ceo@example.org SIZE=100").starts("250");
        client.command("QUIT").starts("221");
    };
    let mut street = street("", judge);
    sent(&street, false);
    sent(&street, true);
    let mut mails: Vec<_> = street.next_hop.commands();
    mails.retain(|line| line.starts_with("MAIL"));
    let [stranger, alice] = &mails[..] else { panic!("{mails:?}") };
    assert!(stranger.contains(" auth=<> ") && !stranger.contains("Ceo"), "{stranger}");
    assert!(alice.contains(" auth=Ceo@example.org "), "{alice}");
    street.relay.finish_clean(0);
}

#[test]
fn the_word_of_a_trusted_network_about_who_submitted_a_message_passes() {
    let (next_hop, archive) = (Sink::scripted(judge), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive);
    setup.listener = "auth = \"always\"".into();
    let mut relay = setup.start();
    let mut client = Client::ehlo(relay.address());
    client.command("MAIL FROM:<a@example.org> AUTH=ceo@example.org").starts("250");
    assert!(
        next_hop.commands().iter().any(|line| line.ends_with(" AUTH=ceo@example.org")),
        "{:?}",
        next_hop.commands()
    );
    drop(client);
    relay.finish_clean(0);
}

#[test]
fn a_client_that_guesses_passwords_is_sent_away_within_its_session_whatever_it_sends_between() {
    let limits = "auth = \"always\"\n[listener.limits]\nerrors = 5\nerrors_per_minute = 7";
    let (next_hop, archive) = (Sink::scripted(judge), Sink::start());
    let mut setup = Setup::new(&next_hop, &archive).trusting_nobody();
    setup.listener = limits.into();
    let mut relay = setup.start();
    let guess = |client: &mut Client| client.command("AUTH PLAIN AGFsaWNlAHdyb25n");
    let mut client = Client::ehlo(relay.address());
    for mark in ["one", "two"] {
        guess(&mut client).starts("535");
        guess(&mut client).starts("535");
        client.mail("eve@example.net", &["bob@example.org"], &message(mark)).starts("250");
    }
    guess(&mut client).starts("535");
    client.reply().starts("421 4.7.0");
    // Two errors are left of the minute, and are counted while the session goes on.
    let [mut second, mut third] = [(); 2].map(|()| Client::ehlo(relay.address()));
    guess(&mut second).starts("535");
    guess(&mut second).starts("535");
    second.reply().starts("421 4.7.0");
    guess(&mut third).starts("421 4.7.0");
    Client::connect(relay.address()).greeting.starts("421 4.7.0");
    assert_eq!(next_hop.commands().iter().filter(|line| line.starts_with("AUTH")).count(), 7);
    let ends = relay.wait_events("session.closed", 4);
    assert_eq!(ends.iter().filter(|end| end.text("reason") == "too_many_errors").count(), 3, "{ends:?}");
    relay.finish_clean(2);
}

#[test]
fn mechanisms_of_several_steps_pass_line_by_line() {
    let script = |stage: &Stage<'_>| match stage {
        // RFC 7677, section 3.
        Stage::Other("AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=") => say(
            "334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=",
        ),
        Stage::Other(line) if line.starts_with("Yz1iaXdz") => {
            say("334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==")
        }
        Stage::Other("") => say("235 2.7.0 welcome"),
        // The server says what is wrong, the client nothing, and the server gives up.
        Stage::Other("AUTH XOAUTH2 dXNlcj1hQGIBYXV0aD1CZWFyZXIgeAEB") => say("334 eyJzdGF0dXMiOiI0MDEifQ=="),
        Stage::Other("=") => say("535 5.7.8 the token is old"),
        _ => judge(stage),
    };
    let mut street = street("", script);
    let (mut client, _) = street.client();
    client.command("AUTH XOAUTH2 dXNlcj1hQGIBYXV0aD1CZWFyZXIgeAEB").starts("334 eyJzdGF0dXMiOiI0MDEifQ==");
    client.command("=").starts("535 5.7.8 the token is old");
    client.command("AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=").starts("334 cj1yT3");
    client.command("Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8=").starts("334 dj02");
    client.command("").starts("235 2.7.0 welcome");
    client.mail("a@example.org", &["far@elsewhere.example"], &message("scram")).starts("250");
    drop(client);
    let record = Record::read(&street.archive.wait_for(1)[0].octets);
    assert_eq!(record.field("X-Journal-Auth"), Some("user"));
    street.relay.finish_clean(1);
}

#[test]
fn a_connection_lost_behind_the_235_sends_the_client_away() {
    let drop_mail = |stage: &Stage<'_>| match stage {
        Stage::Mail(from) if from.contains("lost@") => Some(Answer::Drop),
        _ => judge(stage),
    };
    let mut street = street("", drop_mail);
    let (mut client, _) = street.client();
    client.command(PLAIN).starts("235");
    client.command("MAIL FROM:<lost@example.org>").starts("421 4.4.2");
    let end = client.try_reply().unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "the session is over at once");
    // While it idles, too.
    let (mut client, _) = street.client();
    client.command(PLAIN).starts("235");
    street.next_hop.down();
    street.next_hop.up();
    client.command("NOOP").starts("250");
    client.command("MAIL FROM:<alice@example.org>").starts("421 4.4.2");
    // A message that is broken off breaks the conversation with it.
    let (mut client, _) = street.client();
    client.command(PLAIN).starts("235");
    client.mail("alice@example.org", &["bob@example.org"], b"Subject: x\r\n\r\na\nb\r\n").starts("550 5.6.11");
    client.command("MAIL FROM:<alice@example.org>").starts("421 4.4.2");
    // What is refused does not.
    let (mut client, _) = street.client();
    client.command(PLAIN).starts("235");
    client.command("MAIL FROM:<alice@example.org>").starts("250");
    client.command("RSET").starts("250");
    client.command("MAIL FROM:<alice@example.org> SIZE=2000000").starts("552");
    client.mail("alice@example.org", &["far@elsewhere.example"], &message("kept")).starts("250");
    drop(client);
    assert_eq!(street.next_hop.taken().len(), 1);
    street.relay.finish_clean(1);
}

#[test]
fn auth_is_offered_under_tls_unless_the_listener_says_otherwise() {
    for (more, plain, tls) in [("", false, true), ("auth = \"always\"", true, true), ("auth = \"off\"", false, false)] {
        let mut street = street(more, judge);
        let mut client = Client::connect(street.relay.address());
        let offers = client.command("EHLO client.example.com").text();
        assert_eq!(offers.contains("AUTH"), plain, "{more}: {offers}");
        client.command(PLAIN).starts(if plain { "235" } else { "502" });
        assert_eq!(street.client().1.contains("AUTH"), tls, "{more}");
        drop(client);
        assert_eq!(street.relay.events("session.authenticated").len(), usize::from(plain));
        street.relay.finish_clean(0);
        street.check_log();
    }
}

#[test]
fn a_client_that_encrypts_after_it_authenticated_has_to_do_it_again() {
    let mut street = street("auth = \"always\"", judge);
    let mut client = Client::ehlo(street.relay.address());
    client.command(PLAIN).starts("235");
    client.start_tls(&street.authority, "relay.example.org");
    client.mail("alice@example.org", &["far@elsewhere.example"], &message("denied")).starts("554 5.7.1");
    client.command("RSET").starts("250");
    client.command(PLAIN).starts("235");
    client.mail("alice@example.org", &["far@elsewhere.example"], &message("again")).starts("250");
    drop(client);
    street.relay.finish_clean(1);
}

/// Postfix as docs/topology-submission.md has it, and the Dovecot that it asks.
fn submission(home: &Path, relay_host: &Sink) -> (Running, Dovecot) {
    open_to_others(home);
    let dovecot = Dovecot::start(&home.join("dovecot"), "alice", "s3cret-word");
    let postfix = Postfix::new(free_port(own_loopback_address()), relay_host.address())
        .with("smtpd_sasl_auth_enable", "yes")
        .with("smtpd_sasl_type", "dovecot")
        .with("smtpd_sasl_path", &dovecot.socket.display().to_string())
        .with("smtpd_relay_restrictions", "permit_sasl_authenticated, reject")
        .start(&home.join("postfix"));
    (postfix, dovecot)
}

#[test]
fn a_real_submission_server_judges_passwords_through_the_relay() {
    if !installed(&["postfix", "dovecot", "swaks"]) {
        return;
    }
    let (outside, archive) = (Sink::start(), Sink::start());
    let (authority, place) = (Authority::new(), tempfile::tempdir().unwrap());
    let (postfix, _dovecot) = submission(place.path(), &outside);
    let next_hop = format!("smtp://{}", postfix.address);
    let mut setup = Setup::with_routes(&next_hop, &archive.route()).trusting_nobody();
    setup.log_level = "trace".into();
    setup.listener = tls_table(&authority, place.path());
    let mut relay = setup.start();
    let swaks = |mechanism: &str, password: &str| {
        let mut swaks = Command::new("swaks");
        swaks.args(["--server", &relay.address().to_string(), "--tls", "--auth", mechanism, "--timeout", "60"]);
        swaks.args(["--auth-user", "alice", "--auth-password", password, "--header", "Subject: submitted"]);
        swaks.args(["--from", "alice@example.org", "--to", "far@elsewhere.example"]);
        let output = swaks.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for mechanism in ["PLAIN", "LOGIN"] {
        let (status, said) = swaks(mechanism, "s3cret-word");
        assert_eq!(status, Some(0), "{mechanism}: {said}");
        assert!(said.contains("235 2.7.0"), "{said}");
        let (status, said) = swaks(mechanism, "wrong");
        assert_eq!(status, Some(28), "swaks: authentication failed; {said}");
        assert!(said.contains("535 5.7.8"), "{said}");
    }
    // Without a password Postfix itself refuses what the relay lets pass.
    let mut client = Client::ehlo(relay.address());
    client.start_tls(&authority, "relay.example.org");
    client.mail("eve@example.net", &["bob@example.org"], &message("none")).starts("554 5.7.1");
    drop(client);
    assert_eq!(outside.wait_for(2).len(), 2);
    for record in archive.wait_for(2) {
        assert_eq!(Record::read(&record.octets).field("X-Journal-Auth"), Some("alice"));
    }
    assert_eq!(relay.events("session.authenticated").len(), 2);
    assert_eq!(relay.events("session.authentication_failed").len(), 2);
    relay.finish_clean(2);
    for secret in SECRETS {
        assert!(!relay.everything().iter().any(|line| line.contains(secret)), "{secret} is in the log");
    }
}
