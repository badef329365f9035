//! Every way in which an attempt can fail, and what the verdict is.

use super::archive::{Act, Archive, Heard, Script};
use super::*;
use crate::deliver::{Fault, Said};
use crate::spool::Octets;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

async fn verdict_of(script: Script) -> (Verdict, Heard) {
    let archive = Archive::start(script).await;
    let verdict = send(&post(), &plain(&archive), &letter("x\r\n")).await;
    (verdict, archive.heard())
}

fn is_deferred(verdict: &Verdict, route_failed: bool) -> bool {
    let is_route = |fault: &Fault| matches!(fault, Fault::Route { .. } | Fault::Sender { .. });
    matches!(verdict, Verdict::Deferred { fault, .. } if is_route(fault) == route_failed)
}

#[tokio::test]
async fn a_transient_reply_defers_at_each_stage() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let (verdict, _) = verdict_of(Script::default().on(stage, Act::Say("451 4.3.0 not now\r\n"))).await;
        let is_route = matches!(stage, "greeting" | "EHLO" | "MAIL");
        assert!(is_deferred(&verdict, is_route), "{stage}: {verdict:?}");
        assert_eq!(verdict.reply(), &Said { text: "451 4.3.0 not now".into(), is_smtp: true }, "{stage}");
    }
}

#[tokio::test]
async fn a_permanent_reply_refuses_from_rcpt_on_and_defers_before() {
    for (stage, is_refused) in
        [("greeting", false), ("EHLO", false), ("MAIL", false), ("RCPT", true), ("DATA", true), (".", true)]
    {
        let (verdict, _) = verdict_of(Script::default().on(stage, Act::Say("554 5.7.1 never\r\n"))).await;
        assert_eq!(matches!(verdict, Verdict::Refused { .. }), is_refused, "{stage}: {verdict:?}");
        assert_eq!(is_deferred(&verdict, true), !is_refused, "{stage}: {verdict:?}");
        assert_eq!(verdict.reply().text, "554 5.7.1 never", "{stage}");
    }
}

#[tokio::test]
async fn a_connection_lost_at_any_stage_defers() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let (verdict, heard) = verdict_of(Script::default().on(stage, Act::Hang)).await;
        assert!(is_deferred(&verdict, true) && !verdict.reply().is_smtp, "{stage}: {verdict:?}");
        assert_eq!(heard.letters.len(), usize::from(stage == "."), "{stage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_archive_is_given_up_after_the_time_of_each_stage() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let limits = [("greeting", 5), ("EHLO", 5), ("MAIL", 5), ("RCPT", 5), ("DATA", 2), (".", 10)];
    for (stage, limit) in limits {
        let begun = Instant::now();
        let (verdict, _) = verdict_of(Script::default().on(stage, Act::Wait)).await;
        assert!(is_deferred(&verdict, true), "{stage}: {verdict:?}");
        assert!(verdict.reply().text.contains(&format!("no reply within {} s", limit * 60)), "{verdict:?}");
        let took = begun.elapsed();
        assert!((minutes(limit)..minutes(limit) + Duration::from_secs(5)).contains(&took), "{stage}: {took:?}");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_data_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let route = SmtpRoute::to("127.0.0.1", port, Tls::None);
    let server = async {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let mut line = String::new();
        for reply in ["220 a\r\n", "250 a\r\n", "250 a\r\n", "250 a\r\n", "354 a\r\n"] {
            stream.write_all(reply.as_bytes()).await.unwrap();
            line.clear();
            if !reply.starts_with('3') {
                stream.read_line(&mut line).await.unwrap();
            }
        }
        // From here on time is simulated and nothing is read any more.
        tokio::time::pause();
        std::future::pending::<()>().await;
    };
    let (post, route, letter) = (post(), Route::Smtp(route), letter(vec![b'x'; 16 << 20]));
    let verdict = tokio::select! {
        verdict = send(&post, &route, &letter) => verdict,
        () = server => unreachable!(),
    };
    assert!(is_deferred(&verdict, true), "{verdict:?}");
    assert!(verdict.reply().text.contains("took no data for 180 s"), "{verdict:?}");
}

#[tokio::test]
async fn a_reply_of_many_lines_is_kept_whole() {
    let said = "550-5.7.1 no records\r\n550-5.7.1 from here;\r\n550 5.7.1 see https://archive.example/why\r\n";
    let (verdict, _) = verdict_of(Script::default().on(".", Act::Say(said))).await;
    assert!(matches!(verdict, Verdict::Refused { .. }));
    let whole = "550 5.7.1 no records 5.7.1 from here; 5.7.1 see https://archive.example/why";
    assert_eq!(verdict.reply().text, whole);
}

#[tokio::test]
async fn an_acceptance_in_odd_form_is_an_acceptance() {
    for said in ["250\r\n", "250 gesichert \u{fc}\n", "250-a\r\n250\r\n", "200 ok\r\n", "299 \r\n"] {
        let said: &'static str = said;
        let (verdict, _) = verdict_of(Script::default().on(".", Act::Say(said))).await;
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{said:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn what_fits_nothing_is_no_acceptance() {
    for (stage, said) in [(".", "354 what\r\n"), (".", "hello\r\n"), ("DATA", "250 ok\r\n"), ("RCPT", "354 go\r\n")] {
        let (verdict, _) = verdict_of(Script::default().on(stage, Act::Say(said))).await;
        assert!(is_deferred(&verdict, true), "{stage} {said:?}: {verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_reply_at_all_is_not_waited_for_any_longer() {
    // The server answers nothing that is said afterwards, QUIT least of all.
    let script = Script::default().on(".", Act::Say("hello\r\n")).on("QUIT", Act::Wait);
    let begun = Instant::now();
    let (verdict, _) = verdict_of(script).await;
    assert!(is_deferred(&verdict, true) && verdict.reply().text.contains("no reply"), "{verdict:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reply_that_came_before_its_question_is_believed_by_nobody() {
    // The acceptance arrives together with the permission to send.
    let script = Script::default().on("DATA", Act::Say("354 go\r\n250 2.0.0 kept\r\n")).on(".", Act::Hang);
    let (verdict, _) = verdict_of(script).await;
    assert!(is_deferred(&verdict, true), "{verdict:?}");
    assert!(verdict.reply().text.contains("out of turn: 250 2.0.0 kept"), "{verdict:?}");
    // And one stage earlier.
    let (verdict, heard) = verdict_of(Script::default().on("MAIL", Act::Say("250 ok\r\n250 ok\r\n"))).await;
    assert!(is_deferred(&verdict, true), "{verdict:?}");
    assert!(heard.of("RCPT").is_empty() && heard.letters.is_empty());
}

/// A letter whose original is `pieces`, though `length` octets were promised.
fn broken_letter(length: u64, pieces: &'static [Result<&'static [u8], ()>]) -> Letter {
    let mut letter = letter("");
    letter.original.length = length;
    let read =
        |piece: &Result<&'static [u8], ()>| piece.map(Bytes::from_static).map_err(|()| io::Error::other("bad sector"));
    letter.original.open = Box::new(move || Ok(Box::new(pieces.iter().map(read))));
    letter
}

#[tokio::test]
async fn a_read_error_in_mid_data_never_ends_with_a_dot() {
    let cases: [&'static [Result<&'static [u8], ()>]; 5] = [
        &[Err(())],
        &[Ok(b"first\r\n"), Err(())],
        &[Ok(b"first\r\n"), Err(()), Ok(b"second\r\n")],
        // Shorter, and longer, than it was.
        &[Ok(b"first\r\n")],
        &[Ok(b"first and second"), Ok(b"and more than that\r\n")],
    ];
    for pieces in cases {
        let archive = Archive::start(Script::default()).await;
        let verdict = send(&post(), &plain(&archive), &broken_letter(20, pieces)).await;
        assert!(is_deferred(&verdict, false), "our fault, not the route's: {verdict:?}");
        let heard = archive.hears(|heard| heard.open == 0).await;
        assert_eq!((heard.letters.len(), heard.broken.len()), (0, 1), "{pieces:?}");
        assert!(heard.lines.iter().all(|(_, line)| !line.starts_with("QUIT")));
    }
}

#[tokio::test]
async fn a_read_error_leaves_no_dot_behind_tls_either() {
    let (acceptor, _) = super::tls::certified("127.0.0.1");
    let archive = Archive::start(Script::offering(&["STARTTLS"]).with_tls(acceptor, false)).await;
    let route = Route::Smtp(server(&archive, Tls::Opportunistic));
    let verdict = send(&post(), &route, &broken_letter(20, &[Ok(b"first\r\n"), Err(())])).await;
    assert!(is_deferred(&verdict, false), "{verdict:?}");
    let heard = archive.hears(|heard| heard.open == 0).await;
    assert_eq!((heard.tls, heard.letters.len(), heard.broken.len()), (1, 0, 1));
}

#[tokio::test]
async fn an_original_that_can_t_be_opened_is_not_begun() {
    let archive = Archive::start(Script::default()).await;
    let mut letter = letter("");
    letter.original =
        Some(Octets::File { disk: crate::spool::disk::system(), path: "/nowhere/at/all".into(), length: 5 }).into();
    assert!(is_deferred(&send(&post(), &plain(&archive), &letter).await, false));
    assert!(archive.heard().of("MAIL").is_empty());
}

#[tokio::test]
async fn a_maildir_never_holds_half_a_letter() {
    let directory = tempfile::tempdir().unwrap();
    let route = Route::Maildir(directory.path().join("box"));
    let verdict = send(&post(), &route, &broken_letter(20, &[Ok(b"first\r\n")])).await;
    assert!(is_deferred(&verdict, false), "{verdict:?}");
    for part in ["new", "tmp"] {
        assert_eq!(std::fs::read_dir(directory.path().join("box").join(part)).unwrap().count(), 0);
    }
    // A file where the directory should be.
    std::fs::write(directory.path().join("file"), "").unwrap();
    let route = Route::Maildir(directory.path().join("file"));
    assert!(is_deferred(&send(&post(), &route, &letter("x")).await, true));
}

#[tokio::test]
async fn a_port_where_nobody_listens_defers() {
    let archive = Archive::start(Script::default()).await;
    let (post, route) = (post(), plain(&archive));
    assert!(matches!(send(&post, &route, &letter("x")).await, Verdict::Accepted { .. }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut nobody = server(&archive, Tls::None);
    nobody.port = listener.local_addr().unwrap().port();
    drop(listener);
    let nobody = Route::Smtp(nobody);
    assert!(is_deferred(&send(&post, &nobody, &letter("x")).await, true));
}
