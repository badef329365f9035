//! What is sent, octet for octet, over which connection, and to which of several servers.

use super::archive::{Act, Archive, Script};
use super::*;
use proptest::prelude::*;

#[tokio::test]
async fn the_archive_gets_the_commands_and_octets_of_one_letter() {
    let archive = Archive::start(Script::offering(&["SIZE 100000", "8BITMIME", "SMTPUTF8"])).await;
    let verdict = send(&post(), &plain(&archive), &letter("Hello\r\n")).await;
    assert!(matches!(&verdict, Verdict::Accepted { reply, .. } if reply.text == "250 2.0.0 kept" && reply.is_smtp));
    let heard = archive.heard();
    assert_eq!(heard.letters, [arrived(b"Hello\r\n")]);
    let lines: Vec<_> = heard.lines.iter().map(|(_, line)| line.as_str()).collect();
    let size = arrived(b"Hello\r\n").len();
    assert_eq!(
        lines,
        [
            "EHLO relay.example.org",
            &format!("MAIL FROM:<amazonjournaling@acme.awsapps.com> SIZE={size}"),
            "RCPT TO:<archive@journal.example>",
            "DATA",
        ]
    );
}

#[tokio::test]
async fn body_and_smtputf8_are_said_where_they_are_needed_and_offered() {
    let needy = |utf8: bool| {
        let mut letter = letter("gr\u{fc}n\r\n");
        letter.render = Box::new(move |offers| Rendered {
            prefix: b"\r\n".to_vec(),
            suffix: b"\r\n".to_vec(),
            eight_bit_mime: offers.eight_bit_mime,
            needs_smtp_utf8: utf8,
            exceeds_offers: !offers.eight_bit_mime,
        });
        letter
    };
    let able = Archive::start(Script::offering(&["8BITMIME", "SMTPUTF8"])).await;
    send(&post(), &plain(&able), &needy(true)).await;
    let mail = "MAIL FROM:<amazonjournaling@acme.awsapps.com>";
    assert_eq!(able.heard().of("MAIL"), [format!("{mail} BODY=8BITMIME SMTPUTF8")]);

    let unable = Archive::start(Script::default()).await;
    assert!(matches!(send(&post(), &plain(&unable), &needy(false)).await, Verdict::Accepted { .. }));
    assert_eq!(unable.heard().of("MAIL"), [mail]);
    assert_eq!(unable.heard().letters, ["\r\ngr\u{fc}n\r\n\r\n".as_bytes()], "unchanged though not offered");
    assert!(matches!(send(&post(), &plain(&unable), &needy(true)).await, Verdict::Refused { .. }));
}

#[tokio::test]
async fn a_null_reverse_path_is_written_as_empty_brackets() {
    let archive = Archive::start(Script::default()).await;
    let mut report = letter("x");
    report.reverse_path = ReversePath::Null;
    send(&post(), &plain(&archive), &report).await;
    assert_eq!(archive.heard().of("MAIL"), ["MAIL FROM:<>"]);
}

#[tokio::test]
async fn what_the_archive_says_is_too_large_is_not_sent() {
    let archive = Archive::start(Script::offering(&["SIZE 1000"])).await;
    let (post, route) = (post(), plain(&archive));
    assert!(
        matches!(send(&post, &route, &letter(vec![b'x'; 2_000])).await, Verdict::Refused { reply } if !reply.is_smtp)
    );
    assert!(matches!(send(&post, &route, &letter("small")).await, Verdict::Accepted { .. }));
    let heard = archive.heard();
    assert_eq!((heard.of("MAIL").len(), heard.connections), (1, 1));
}

#[tokio::test]
async fn several_letters_share_a_connection() {
    let archive = Archive::start(Script::default()).await;
    let (post, route) = (post(), plain(&archive));
    for text in ["one", "two", "three"] {
        assert!(matches!(send(&post, &route, &letter(text)).await, Verdict::Accepted { .. }));
    }
    let heard = archive.heard();
    assert_eq!((heard.connections, heard.of("EHLO").len()), (1, 1));
    assert_eq!(heard.letters, [arrived(b"one"), arrived(b"two"), arrived(b"three")]);
}

#[tokio::test]
async fn a_refused_letter_is_reset_and_leaves_the_connection_to_the_next() {
    let archive = Archive::start(Script::default().on("RCPT", Act::Say("550 5.1.1 nobody\r\n"))).await;
    let (post, route) = (post(), plain(&archive));
    assert!(matches!(send(&post, &route, &letter("one")).await, Verdict::Refused { .. }));
    assert!(matches!(send(&post, &route, &letter("two")).await, Verdict::Accepted { .. }));
    let heard = archive.heard();
    assert_eq!((heard.connections, heard.of("RSET").len()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_replaced_once() {
    // The second MAIL of the first connection is answered by its end.
    for end in [Act::Hang, Act::Say("421 4.4.2 timeout\r\n")] {
        let script = Script::default().on("MAIL", Act::Say("250 2.1.0 ok\r\n")).on("MAIL", end);
        let archive = Archive::start(script).await;
        let (post, route) = (post(), plain(&archive));
        assert!(matches!(send(&post, &route, &letter("one")).await, Verdict::Accepted { .. }));
        assert!(matches!(send(&post, &route, &letter("two")).await, Verdict::Accepted { .. }));
        assert_eq!(archive.heard().connections, 2);
    }
    let always = |script: Script, _| script.on("MAIL", Act::Hang);
    let archive = Archive::start((0..2).fold(Script::default().on("MAIL", Act::Say("250 ok\r\n")), always)).await;
    let (post, route) = (post(), plain(&archive));
    assert!(matches!(send(&post, &route, &letter("one")).await, Verdict::Accepted { .. }));
    assert!(matches!(send(&post, &route, &letter("two")).await, Verdict::Deferred { .. }));
    assert_eq!(archive.heard().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_taken_leave_of_after_a_minute() {
    let archive = Archive::start(Script::default()).await;
    let drain = Drain::default();
    let post = Arc::new(Post::new(
        Arc::new(Names::default()),
        crate::net::system(),
        Arc::new(NoMemory),
        clock::system(),
        drain.clone(),
    ));
    let keeper = Arc::clone(&post);
    drain.spawn("idle connections", async move { keeper.keep_connections().await });
    send(&post, &plain(&archive), &letter("one")).await;
    let sent = tokio::time::Instant::now();
    archive.hears(|heard| heard.of("QUIT").len() == 1).await;
    assert!(sent.elapsed().as_secs() >= 59, "{:?}", sent.elapsed());

    send(&post, &plain(&archive), &letter("two")).await;
    drain.begin();
    drain.done().await;
    assert_eq!(archive.heard().of("QUIT").len(), 2, "the end takes leave at once");
}

#[tokio::test]
async fn a_route_s_connections_come_from_its_source_with_mx_too() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = Source { v4: Some([127, 0, 0, 2].into()), v6: None };
    let address = listener.local_addr().unwrap();
    let direct = SmtpRoute { source, ..SmtpRoute::to("127.0.0.1", address.port(), Tls::None) };
    let exchangers = Ok(vec![Exchanger { preference: 10, host: "host".to_owned() }]);
    for route in [Route::Smtp(direct.clone()), Route::Mx(MxRoute { server: direct.clone(), ..MxRoute::default() })] {
        let names = Names {
            exchangers: [("journal.example", exchangers.clone())].into(),
            addresses: [("host", address)].into(),
            ..Names::default()
        };
        let (verdict, ()) = tokio::join!(async { send(&post_with(names), &route, &letter("x")).await }, async {
            let (_closed, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip().to_string(), "127.0.0.2");
        });
        assert!(matches!(verdict, Verdict::Deferred { .. }), "{verdict:?}");
    }
}

#[tokio::test]
async fn the_exchangers_of_a_domain_are_tried_in_turn() {
    let unfriendly = Archive::start(Script::default().on("greeting", Act::Say("421 4.3.2 too busy\r\n"))).await;
    let friendly = Archive::start(Script::default()).await;
    let exchanger = |preference, host: &str| Exchanger { preference, host: host.to_owned() };
    let names = Names {
        exchangers: [(
            "journal.example",
            Ok(vec![exchanger(30, "friendly"), exchanger(10, "gone"), exchanger(20, "unfriendly")]),
        )]
        .into(),
        addresses: [("friendly", friendly.address), ("unfriendly", unfriendly.address)].into(),
        ..Names::default()
    };
    let verdict = send(&post_with(names), &mx(), &letter("x")).await;
    assert!(matches!(verdict, Verdict::Accepted { archive, .. } if archive == "smtp://friendly:25"));
    assert_eq!(unfriendly.heard().connections, 1);
}

/// A host with these addresses, whoever is asked for.
struct At(Vec<SocketAddr>);

impl Resolver for At {
    fn exchangers(&self, _: &str) -> Answer<Exchangers> {
        Box::pin(async { Ok(Exchangers::default()) })
    }

    fn addresses(&self, _: &str, _: u16) -> Answer<Vec<SocketAddr>> {
        let found = self.0.clone();
        Box::pin(async move { Ok(found) })
    }
}

#[tokio::test]
async fn a_family_that_leads_nowhere_is_no_outage_while_the_other_works() {
    let archive = Archive::start(Script::default()).await;
    // Discard-only (RFC 6666): no route leads there.
    let nowhere: SocketAddr = "[100::1]:25".parse().unwrap();
    let resolver = Arc::new(At(vec![nowhere, archive.address]));
    let post = Post::new(resolver, crate::net::system(), Arc::new(NoMemory), clock::system(), Drain::default());
    assert!(matches!(send(&post, &mx(), &letter("x")).await, Verdict::Accepted { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_comes_to_its_end_though_every_exchanger_keeps_silent() {
    let silent = (0..9).fold(Script::default(), |script, _| script.on("greeting", Act::Wait));
    let silent = Archive::start(silent).await;
    let hosts = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let exchanger = |host: &&str| Exchanger { preference: 10, host: (*host).to_owned() };
    let names = Names {
        exchangers: [("journal.example", Ok(hosts.iter().map(exchanger).collect()))].into(),
        addresses: hosts.map(|host| (host, silent.address)).into(),
        ..Names::default()
    };
    let begun = tokio::time::Instant::now();
    assert!(matches!(send(&post_with(names), &mx(), &letter("x")).await, Verdict::Deferred { .. }));
    assert_eq!(begun.elapsed().as_secs() / 60, 10, "two of them, for five minutes each: {:?}", begun.elapsed());
    assert_eq!(silent.heard().connections, 2);
}

#[tokio::test]
async fn an_exchanger_that_was_talked_to_has_the_last_word() {
    let first = Archive::start(Script::default().on("RCPT", Act::Say("450 4.2.0 later\r\n"))).await;
    let second = Archive::start(Script::default()).await;
    let exchanger = |preference, host: &str| Exchanger { preference, host: host.to_owned() };
    let names = Names {
        exchangers: [("journal.example", Ok(vec![exchanger(10, "first"), exchanger(20, "second")]))].into(),
        addresses: [("first", first.address), ("second", second.address)].into(),
        ..Names::default()
    };
    assert!(matches!(send(&post_with(names), &mx(), &letter("x")).await, Verdict::Deferred { .. }));
    assert_eq!(second.heard().connections, 0);
}

#[tokio::test]
async fn a_domain_without_exchangers_is_asked_itself() {
    let archive = Archive::start(Script::default()).await;
    let names = Names {
        exchangers: [("journal.example", Ok(Vec::new()))].into(),
        addresses: [("journal.example", archive.address)].into(),
        ..Names::default()
    };
    assert!(matches!(send(&post_with(names), &mx(), &letter("x")).await, Verdict::Accepted { .. }));
}

#[tokio::test]
async fn a_domain_that_takes_no_mail_is_the_route_s_fault_for_good_and_a_silent_dns_for_now() {
    let null = Exchanger { preference: 0, host: String::new() };
    let cases = [
        (Ok(vec![null]), true),
        (Err(Unresolved::Never("no such domain".into())), true),
        (Err(Unresolved::NotNow("SERVFAIL".into())), false),
    ];
    for (answer, shut) in cases {
        let names = Names { exchangers: [("journal.example", answer.clone())].into(), ..Names::default() };
        let verdict = send(&post_with(names), &mx(), &letter("x")).await;
        let Verdict::Deferred { fault, .. } = verdict else { panic!("{answer:?}: {verdict:?}") };
        assert_eq!(fault, Fault::Route { shut }, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_original_is_read_from_its_file_while_it_is_sent() {
    let archive = Archive::start(Script::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let (path, whole) = (directory.path().join("octets"), b".a line of it\r\n".repeat(40_000));
    std::fs::write(&path, &whole).unwrap();
    let mut letter = letter("");
    letter.original =
        Some(Octets::File { disk: crate::spool::disk::system(), path, length: whole.len() as u64 }).into();
    assert!(matches!(send(&post(), &plain(&archive), &letter).await, Verdict::Accepted { .. }));
    assert!(archive.heard().letters == [arrived(&whole)]);
}

#[tokio::test]
async fn a_maildir_keeps_the_whole_letter_and_counts_as_acceptance() {
    let directory = tempfile::tempdir().unwrap();
    let route = Route::Maildir(directory.path().join("box"));
    let verdict = send(&post(), &route, &letter(".dot\r\n")).await;
    assert!(matches!(verdict, Verdict::Accepted { reply, .. } if reply.text.starts_with("250 ")));
    let files: Vec<_> = std::fs::read_dir(directory.path().join("box/new")).unwrap().collect();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::read(files[0].as_ref().unwrap().path()).unwrap(), arrived(b".dot\r\n"));
}

/// Octets in which every place matters: dots, CR, LF and others.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b".\r\nx\xff".to_vec()), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn octets_arrive_as_they_are_however_the_slices_are_cut(
        pieces in prop::collection::vec(tricky(), 0..6)
    ) {
        // `<CRLF>.<CRLF>` in the original is stuffed, so the archive sees the end only at the end.
        let whole = pieces.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let letters = runtime.block_on(async {
            let archive = Archive::start(Script::default()).await;
            let mut letter = letter("");
            letter.original.length = whole.len() as u64;
            let cut = pieces.clone();
            letter.original.open = Box::new(move || Ok(Box::new(cut.clone().into_iter().map(|piece| Ok(piece.into())))));
            let verdict = send(&post(), &plain(&archive), &letter).await;
            assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
            archive.heard().letters
        });
        prop_assert_eq!(letters, vec![arrived(&whole)]);
    }
}
