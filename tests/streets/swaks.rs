//! swaks with each of its ways to encrypt and to authenticate, through the relay to a real Postfix and Dovecot.

use crate::common::{
    Authority, Dovecot, Postfix, Record, Relay, Setup, Sink, free_port, installed, open_to_others, own_loopback_address,
};
use std::process::{Command, Stdio};

/// What swaks ends with where the server offers no TLS, where TLS fails, where it offers no mechanism that was asked for,
/// and where it refuses the password.
const NO_TLS: i32 = 29;
const NO_MECHANISM: i32 = 28;
const WRONG_PASSWORD: i32 = 28;
const MAIL_REFUSED: i32 = 23;

struct Street {
    postfix: crate::common::Running,
    world: Sink,
    archive: Sink,
    relay: Relay,
    _dovecot: Dovecot,
    _home: tempfile::TempDir,
}

/// A listener of that mode in front of a Postfix that lets who has authenticated send.
fn street(mode: &str, mechanisms: &str) -> Street {
    let (world, archive, home, authority) =
        (Sink::start(), Sink::start(), tempfile::tempdir().unwrap(), Authority::new());
    open_to_others(home.path());
    let dovecot = Dovecot::start_with(&home.path().join("dovecot"), "alice", "s3cret-word", mechanisms);
    let postfix = Postfix::new(free_port(own_loopback_address()), world.address())
        .with("smtpd_sasl_auth_enable", "yes")
        .with("smtpd_sasl_type", "dovecot")
        .with("smtpd_sasl_path", &dovecot.socket.display().to_string())
        .with("smtpd_relay_restrictions", "permit_sasl_authenticated, reject")
        .start(&home.path().join("postfix"));
    let mut setup = Setup::with_routes(&format!("smtp://{}", postfix.address), &archive.route()).trusting_nobody();
    let (certificate, key) = authority.certify(&["relay.example.org"]).write(home.path(), "relay");
    setup.listener = match mode {
        "none" => "auth = \"always\"\n".to_owned(),
        mode => format!("[listener.tls]\nmode = {mode:?}\ncertificate = {certificate:?}\nkey = {key:?}\n"),
    };
    Street { relay: setup.start(), postfix, world, archive, _dovecot: dovecot, _home: home }
}

impl Street {
    /// swaks' exit status, and what it prints.
    fn swaks(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut swaks = Command::new("swaks");
        swaks.args(["--server", &self.relay.address().to_string(), "--timeout", "60"]);
        swaks.args(["--from", "alice@example.org", "--to", "far@elsewhere.example"]);
        let output = swaks.args(arguments).stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

#[test]
fn each_of_its_ways_to_encrypt_meets_each_mode_of_a_listener() {
    if !installed(&["postfix", "dovecot", "swaks"]) {
        return;
    }
    let password = ["--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "s3cret-word"];
    // What it says, and whether it comes through, encrypted or not.
    let ways = ["", "--tls", "--tls-optional", "--tls-optional-strict", "--tls-on-connect"];
    for (mode, outcomes) in [
        ("none", [Ok("ESMTPA"), Err(NO_TLS), Ok("ESMTPA"), Ok("ESMTPA"), Err(NO_TLS)]),
        ("starttls", [Err(NO_MECHANISM), Ok("ESMTPSA"), Ok("ESMTPSA"), Ok("ESMTPSA"), Err(NO_TLS)]),
        ("required", [Err(NO_MECHANISM), Ok("ESMTPSA"), Ok("ESMTPSA"), Ok("ESMTPSA"), Err(NO_TLS)]),
        ("implicit", [Err(0), Err(0), Err(0), Err(0), Ok("ESMTPSA")]),
    ] {
        let mut street = street(mode, "plain login");
        let mut sent = 0;
        for (way, outcome) in ways.iter().zip(outcomes) {
            // A client that waits for a greeting where TLS is waited for would do so for as long as it likes.
            if outcome == Err(0) {
                continue;
            }
            let arguments: Vec<_> = [*way].into_iter().filter(|way| !way.is_empty()).chain(password).collect();
            let (status, said) = street.swaks(&arguments);
            match outcome {
                Err(expected) => assert_eq!(status, Some(expected), "{mode}, {way}: {said}"),
                Ok(protocol) => {
                    assert_eq!(status, Some(0), "{mode}, {way}: {said}");
                    sent += 1;
                    let copy = street.world.wait_for(sent).remove(sent - 1);
                    let text = String::from_utf8_lossy(&copy.octets).into_owned();
                    assert!(text.contains(&format!("by relay.example.org with {protocol} ")), "{mode}, {way}: {text}");
                }
            }
        }
        if mode == "required" {
            let (status, said) = street.swaks(&[]);
            assert_eq!(status, Some(MAIL_REFUSED), "{said}");
            assert!(said.contains("<** 530 5.7.0 "), "{said}");
        }
        assert_eq!(street.archive.wait_for(sent).len(), sent);
        street.relay.finish_clean(sent);
    }
}

#[test]
fn each_mechanism_that_postfix_and_the_relay_both_know_is_judged_by_postfix() {
    if !installed(&["postfix", "dovecot", "swaks"]) {
        return;
    }
    let mut street = street("required", "plain login cram-md5 digest-md5 scram-sha-1 scram-sha-256");
    let login = |mechanism: &str, password: &str| {
        street.swaks(&["--tls", "--auth", mechanism, "--auth-user", "alice", "--auth-password", password])
    };
    for (number, mechanism) in ["PLAIN", "LOGIN", "CRAM-MD5"].into_iter().enumerate() {
        let (status, said) = login(mechanism, "wrong");
        assert_eq!(status, Some(WRONG_PASSWORD), "{mechanism}: {said}");
        assert!(said.contains("<~* 535 5.7.8 "), "{mechanism}: {said}");
        let (status, said) = login(mechanism, "s3cret-word");
        assert_eq!(status, Some(0), "{mechanism}: {said}");
        assert!(said.contains("<~  235 2.7.0 ") && said.contains("CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256"), "{said}");
        let record = Record::read(&street.archive.wait_for(number + 1)[number].octets);
        assert_eq!(record.field("X-Journal-Auth"), Some("alice"), "{mechanism}");
        assert!(street.postfix.log().contains(&format!("sasl_method={mechanism}, sasl_username=alice")));
    }
    // It names the server or the connection in its digest, so a relay in between would break it: it is not offered.
    for mechanism in ["DIGEST-MD5", "NTLM", "CRAM-SHA1"] {
        let (status, said) = login(mechanism, "s3cret-word");
        assert_ne!(status, Some(0), "{mechanism}: {said}");
        assert!(!said.contains(&format!("~> AUTH {mechanism}")), "{mechanism}: {said}");
    }
    assert_eq!(street.world.wait_for(3).len(), 3);
    street.relay.finish_clean(3);
    for secret in ["s3cret-word", "czNjcmV0LXdvcmQ=", "AGFsaWNlAHMzY3JldC13b3Jk"] {
        assert!(!street.relay.everything().iter().any(|line| line.contains(secret)), "{secret} is in the log");
    }
}
