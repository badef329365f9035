//! The next letter's envelope goes out with the end of the one before, and what becomes of it where the archive does not care
//! for that.

use super::archive::{Act, Archive, Script};
use super::*;
use crate::deliver::post::Van;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

const US: &str = "relay.example.org";

/// As the archive does without being told.
fn as_usual() -> Act {
    Act::Once(watch::channel(true).1)
}

fn is_accepted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted { .. })
}

/// Octets up to the first `end`, and not one more.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        heard.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn an_archive_that_takes_commands_in_a_row_answers_one_record_and_the_next_envelope_in_one_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = Route::Smtp(SmtpRoute::to("127.0.0.1".to_owned(), listener.local_addr().unwrap().port(), Tls::None));
    let archive = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 hello\r\n").await.unwrap();
        until(&mut stream, "\r\n").await;
        stream.write_all(b"250-archive.example\r\n250 PIPELINING\r\n").await.unwrap();
        until(&mut stream, "DATA\r\n").await;
        stream.write_all(b"250 sender\r\n250 recipient\r\n354 go\r\n").await.unwrap();
        // The end of the first is not answered before the second's DATA is there.
        let turn = until(&mut stream, "DATA\r\n").await;
        stream.write_all(b"250 first\r\n250 sender\r\n250 recipient\r\n354 go\r\n").await.unwrap();
        let last = until(&mut stream, "\r\n.\r\n").await;
        stream.write_all(b"250 second\r\n").await.unwrap();
        [turn, last]
    };
    let sent = async {
        let (post, mut van) = (post(), Van::default());
        let (first, second) = (letter("one\r\n"), letter("two\r\n"));
        let one = post.send_on(&route, US, &first, Some(&second), &mut van).await;
        let two = post.send_on(&route, US, &second, None, &mut van).await;
        [one, two].map(|verdict| verdict.reply().text.clone())
    };
    let both = timeout(Duration::from_secs(60), async { tokio::join!(archive, sent) });
    let ([turn, last], replies) = both.await.unwrap();
    assert_eq!(replies, ["250 first", "250 second"]);
    let first = String::from_utf8(arrived(b"one\r\n")).unwrap();
    let envelope = "MAIL FROM:<amazonjournaling@acme.awsapps.com>\r\nRCPT TO:<archive@journal.example>\r\nDATA\r\n";
    assert_eq!(turn, format!("{first}.\r\n{envelope}"));
    assert_eq!(last, format!("{}.\r\n", String::from_utf8(arrived(b"two\r\n")).unwrap()));
}

#[tokio::test]
async fn an_archive_that_takes_no_commands_in_a_row_gets_no_envelope_ahead() {
    let archive = Archive::start(Script::default()).await;
    let (post, route, mut van) = (post(), plain(&archive), Van::default());
    let (first, other, second) = (letter("one"), letter("other"), letter("two"));
    assert!(is_accepted(&post.send_on(&route, US, &first, Some(&other), &mut van).await));
    assert!(is_accepted(&post.send_on(&route, US, &second, None, &mut van).await), "whatever letter comes next");
    let heard = archive.heard();
    assert_eq!((heard.connections, heard.letters), (1, vec![arrived(b"one"), arrived(b"two")]));
}

#[tokio::test]
async fn what_is_said_to_an_envelope_ahead_counts_only_when_it_is_said_again() {
    for verb in ["MAIL", "RCPT", "DATA"] {
        let refusal = "503 5.5.1 not now\r\n";
        let script = Script::offering(&["PIPELINING"]).on(verb, as_usual()).on(verb, Act::Say(refusal));
        let archive = Archive::start(script).await;
        let (post, route, mut van) = (post(), plain(&archive), Van::default());
        let letters = ["one", "two", "three", "four"].map(letter);
        for pair in letters.windows(2) {
            let verdict = post.send_on(&route, US, &pair[0], Some(&pair[1]), &mut van).await;
            assert!(is_accepted(&verdict), "{verb}: {verdict:?}");
        }
        // Had an envelope been sent ahead again, nothing but the fourth could follow on this connection.
        assert!(is_accepted(&post.send_on(&route, US, &letter("five"), None, &mut van).await));
        let heard = archive.heard();
        assert_eq!(heard.letters, [arrived(b"one"), arrived(b"two"), arrived(b"three"), arrived(b"five")], "{verb}");
        assert_eq!(heard.connections, 2, "{verb}: the second letter's second try, and all that came behind it");
    }
}

#[tokio::test]
async fn a_record_whose_envelope_is_refused_without_being_ahead_is_refused() {
    let refusal = Act::Say("550 5.1.1 nobody\r\n");
    let script =
        Script::offering(&["PIPELINING"]).on("RCPT", as_usual()).on("RCPT", refusal.clone()).on("RCPT", refusal);
    let archive = Archive::start(script).await;
    let (post, route, mut van) = (post(), plain(&archive), Van::default());
    let (first, second) = (letter("one"), letter("two"));
    assert!(is_accepted(&post.send_on(&route, US, &first, Some(&second), &mut van).await));
    let verdict = post.send_on(&route, US, &second, None, &mut van).await;
    assert!(matches!(&verdict, Verdict::Refused { reply } if reply.text.starts_with("550 5.1.1")), "{verdict:?}");
    assert_eq!(archive.heard().letters, [arrived(b"one")]);
}

#[tokio::test]
async fn behind_a_letter_that_is_refused_the_next_goes_over_another_connection() {
    let script = Script::offering(&["PIPELINING"]).on(".", Act::Say("452 4.2.2 full\r\n"));
    let archive = Archive::start(script).await;
    let (post, route, mut van) = (post(), plain(&archive), Van::default());
    let (first, second) = (letter("one"), letter("two"));
    let verdict = post.send_on(&route, US, &first, Some(&second), &mut van).await;
    assert!(matches!(&verdict, Verdict::Deferred { reply, .. } if reply.text.starts_with("452")), "{verdict:?}");
    assert!(is_accepted(&post.send_on(&route, US, &second, None, &mut van).await));
    let heard = archive.heard();
    assert_eq!((heard.connections, heard.letters), (2, vec![arrived(b"one"), arrived(b"two")]));
}

#[tokio::test]
async fn a_refusal_with_an_envelope_behind_it_counts_only_when_it_comes_without_one_too() {
    let refusal = || Act::Say("554 5.5.0 no\r\n");
    for (script, is_taken) in [
        (Script::offering(&["PIPELINING"]).on(".", refusal()), true),
        (Script::offering(&["PIPELINING"]).on(".", refusal()).on(".", refusal()), false),
    ] {
        let archive = Archive::start(script).await;
        let (post, route, mut van) = (post(), plain(&archive), Van::default());
        let (first, second, third) = (letter("one"), letter("two"), letter("three"));
        let verdict = post.send_on(&route, US, &first, Some(&second), &mut van).await;
        assert_eq!(is_accepted(&verdict), is_taken, "{verdict:?}");
        // From then on nothing is sent ahead: whatever letter comes next finds the connection free.
        assert!(is_accepted(&post.send_on(&route, US, &second, Some(&third), &mut van).await));
        assert!(is_accepted(&post.send_on(&route, US, &letter("other"), None, &mut van).await));
        assert_eq!(archive.heard().connections, 2, "the refused letter's second try, and all behind it");
    }
}

#[tokio::test]
async fn an_archive_that_hangs_up_at_an_envelope_behind_the_dot_gets_none_for_some_time() {
    let script = Script::offering(&["PIPELINING"]).on(".", Act::Hang);
    let archive = Archive::start(script).await;
    let (post, route, mut van) = (post(), plain(&archive), Van::default());
    let (first, second, third) = (letter("one"), letter("two"), letter("three"));
    let verdict = post.send_on(&route, US, &first, Some(&second), &mut van).await;
    assert!(matches!(verdict, Verdict::Deferred { .. }), "it may have been taken: {verdict:?}");
    assert!(is_accepted(&post.send_on(&route, US, &second, Some(&third), &mut van).await));
    assert!(is_accepted(&post.send_on(&route, US, &letter("other"), None, &mut van).await));
    assert_eq!(archive.heard().connections, 2);
}

#[tokio::test]
async fn an_envelope_of_a_former_configuration_is_not_the_letter_s() {
    let archive = Archive::start(Script::offering(&["PIPELINING"])).await;
    let (post, route, mut van) = (post(), plain(&archive), Van::default());
    let (first, mut second) = (letter("one"), letter("two"));
    assert!(is_accepted(&post.send_on(&route, US, &first, Some(&second), &mut van).await));
    second.reverse_path = ReversePath::Address(address("journal@acme.example"));
    assert!(is_accepted(&post.send_on(&route, US, &second, None, &mut van).await));
    let heard = archive.heard();
    assert_eq!((heard.connections, heard.letters), (2, vec![arrived(b"one"), arrived(b"two")]));
}

#[tokio::test]
async fn a_connection_on_which_an_envelope_was_begun_for_nothing_is_let_go_without_a_message() {
    let archive = Archive::start(Script::offering(&["PIPELINING"])).await;
    let (post, route, mut van) = (post(), plain(&archive), Van::default());
    let (first, second) = (letter("one"), letter("two"));
    assert!(is_accepted(&post.send_on(&route, US, &first, Some(&second), &mut van).await));
    post.unload(&mut van).await;
    let heard = archive.hears(|heard| heard.open == 0).await;
    assert_eq!((heard.of("QUIT").len(), heard.letters), (0, vec![arrived(b"one")]));
    assert!(is_accepted(&send(&post, &route, &second).await));
    assert_eq!(archive.heard().connections, 2);
}
