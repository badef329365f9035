//! Who says nothing keeps nobody from an answer; and what readiness says of the spool.

use super::*;
use crate::config::{Config, Log, LogAddresses, LogFormat, Machine};
use crate::deliver::{Deliver, NoMemory, SystemResolver};
use crate::forward::NextHop;
use crate::journal::MacKey;
use crate::mail::OsEntropy;
use crate::net;
use crate::receive::listener_label;
use crate::spool::fixtures::{HandClock, options};
use crate::spool::{MemorySpool, Room, SpoolError};
use crate::telemetry::HashKey;
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct World {
    spool: MemorySpool,
    watched: Watched,
    setup: watch::Sender<Arc<Setup>>,
    _maildir: tempfile::TempDir,
}

fn world(on_failure: &str) -> World {
    let maildir = tempfile::tempdir().unwrap();
    let text = format!(
        "hostname = \"relay.example.org\"\n[spool]\npath = \"/nowhere\"\non_failure = \"{on_failure}\"\n\
         [[listener]]\nname = \"in\"\naddress = \"127.0.0.1:0\"\nnext_hop = \"maildir:{}\"\n\
         [[organization]]\nname = \"acme\"\ndomains = [\"example.org\"]\njournaling_address = \"a@archive.example\"\n\
         report_address = \"p@example.org\"\n",
        maildir.path().join("box").display()
    );
    let config = Arc::new(
        Config::parse(
            &text,
            Path::new("c.toml"),
            &Machine { hostname: "relay.example.org".to_owned(), stderr_is_terminal: false },
        )
        .unwrap(),
    );
    let listener = config.listeners[0].clone();
    let next_hop = NextHop::new(listener.next_hop.clone(), "relay.example.org".to_owned()).unwrap();
    let setup = watch::Sender::new(Arc::new(Setup { config: Arc::clone(&config), listener, next_hop, tls: None }));
    let clock: SharedClock = HandClock::new();
    let spool = MemorySpool::new(options(&HandClock::new()));
    let drain = Drain::default();
    let delivery = crate::deliver::start(Deliver {
        spool: Arc::new(spool.clone()),
        config: watch::Sender::new(config).subscribe(),
        clock: Arc::clone(&clock),
        entropy: Arc::new(OsEntropy),
        mac_key: MacKey::from_bytes([7; 32]),
        drain: drain.clone(),
        resolver: Arc::new(SystemResolver::new(net::system())),
        network: net::system(),
        policies: Arc::new(NoMemory),
    });
    let serves = drain.clone();
    // What says that a listener accepts.
    drain.spawn(listener_label("127.0.0.1:25".parse().unwrap()), async move { serves.begun().await });
    let entry = Entry { address: "127.0.0.1:25".parse().unwrap(), setup: setup.subscribe() };
    let watched = Watched {
        entrances: watch::Sender::new(Vec::from([entry])).subscribe(),
        delivery,
        spool: Arc::new(spool.clone()),
        commit_seconds: Histogram::new([1.0]),
        pressure: Pressure::new(64 << 20),
        clock,
        drain,
        metrics: Metrics::new(),
        telemetry: telemetry(),
        started: Timestamp::from_millis(crate::spool::fixtures::START),
    };
    World { spool, watched, setup, _maildir: maildir }
}

fn telemetry() -> Telemetry {
    let log = Log { format: LogFormat::Json, level: tracing::Level::INFO, addresses: LogAddresses::Full };
    Telemetry::to(Box::new(std::io::sink()), &log, &HashKey::from_bytes([1; 32]), crate::clock::system())
}

async fn reasons(world: &World) -> Vec<String> {
    health::Health::default().reasons(&world.watched).await
}

fn room(free_octets: u64) -> Room {
    Room { free_octets, total_octets: 1 << 40, free_inodes: None, total_inodes: 0 }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_half_keeps_nobody_from_an_answer() {
    let world = world("tempfail");
    let socket = net::system().listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.address();
    open(vec![Door::Network(socket)], world.watched.clone());
    // While something is to be done the clock of the test does not go on by itself.
    world.watched.drain.spawn_unawaited(async {
        for _ in 0..1_000_000 {
            tokio::task::yield_now().await;
        }
    });
    let began = tokio::time::Instant::now();
    let mut silent = Vec::new();
    for number in 0..MAX_CONNECTIONS {
        let mut stream = net::system().connect(address).await.unwrap();
        // Some begin a head and do not end it.
        if number % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.unwrap();
        }
        silent.push(stream);
    }
    let mut asking = net::system().connect(address).await.unwrap();
    asking.write_all(b"GET /livez HTTP/1.1\r\nHost: relay\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    // The clock of the test stands still but for waits that end: none had to.
    assert!(began.elapsed() < HEAD_TIMEOUT, "{:?}", began.elapsed());
    // Who gave way is told nothing; who asked before and says on has his answer.
    let mut last = silent.pop().unwrap();
    last.write_all(b"GET /livez HTTP/1.1\r\nHost: relay\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(began.elapsed() < HEAD_TIMEOUT, "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test]
async fn readiness_names_what_the_spool_lacks() {
    let world = world("tempfail");
    assert_eq!(reasons(&world).await, Vec::<String>::new());
    world.watched.pressure.note(room(1_000));
    assert_eq!(reasons(&world).await, ["spool: too little room, 1000 octets free"]);
    world.watched.pressure.note(room(1 << 39));
    world.spool.fail_with(Some(SpoolError::Full("no room".to_owned())));
    assert_eq!(reasons(&world).await, ["the spool is full: no room"]);
    world.spool.fail_with(None);
    assert_eq!(reasons(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn with_bypass_a_spool_that_takes_nothing_is_no_readiness_and_the_reason_says_that_mail_goes_on() {
    let world = world("bypass");
    assert_eq!(reasons(&world).await, Vec::<String>::new());
    world.spool.fail_with(Some(SpoolError::Failing("I/O error".to_owned())));
    let reasons = reasons(&world).await;
    assert!(
        reasons.len() == 1 && reasons[0].contains("I/O error") && reasons[0].ends_with(health::BYPASS),
        "{reasons:?}"
    );
}

/// Status, headers and body of what a door answers.
async fn ask(world: &World, request: &str) -> (u16, String, String) {
    let socket = net::system().listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.address();
    open(vec![Door::Network(socket)], world.watched.clone());
    let mut stream = net::system().connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

async fn get(world: &World, path: &str) -> (u16, String, String) {
    ask(world, &format!("GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n")).await
}

#[tokio::test]
async fn hostile_words_stay_words_on_the_page_and_as_much_of_addresses_is_shown_as_in_the_log() {
    let mut world = world("tempfail");
    let log = Log { format: LogFormat::Json, level: tracing::Level::ERROR, addresses: LogAddresses::Domain };
    world.watched.telemetry =
        Telemetry::to(Box::new(std::io::sink()), &log, &HashKey::from_bytes([1; 32]), crate::clock::system());
    let hostile =
        "550 \"><script>alert(1)</script><img src=x onerror='a()'> <eve@example.org> \u{202e}txt\0 &amp; ${x} {{y}}";
    tracing::subscriber::with_default(world.watched.telemetry.subscriber(), || {
        tracing::error!(
            event = "record.failed",
            organization = "acme",
            reply = hostile,
            "the record is kept as failed"
        );
    });
    let turn = crate::spool::Turn { at: world.watched.clock.now(), generation: 1, reason: Some(hostile.to_owned()) };
    let switched = crate::spool::Switched { organization: "<b>acme</b>".into(), turn, journaling: false };
    world.spool.switched(switched).await.unwrap();
    let (status, head, html) = get(&world, "/").await;
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self'; base-uri 'none'"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff") && head.contains("cache-control: no-store"), "{head}");
    for forbidden in ["<script", "<img", "<b>acme", "onerror='", "eve@", "\u{202e}", "\0", "style=\"", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden:?} in\n{html}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && html.contains("*@example.org"), "{html}");
    assert!(html.contains("&lt;b&gt;acme&lt;/b&gt;") && html.contains("&amp;amp; ${x}"), "{html}");
    // Each tag is one of ours, and closed.
    for tag in ["table", "section", "tr", "td", "span", "small", "svg", "main", "figure", "ul"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag} in\n{html}");
    }
    let (_, _, lines) = get(&world, "/status").await;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failure = lines.iter().find(|line| line["what"] == "failure").unwrap();
    assert!(failure["fields"]["reply"].as_str().unwrap().contains("<*@example.org>"), "{failure}");
    assert!(lines.iter().any(|line| line["what"] == "gap" && line["organization"] == "<b>acme</b>"), "{lines:?}");
}

#[tokio::test]
async fn the_page_shows_switch_routes_queue_and_why_it_is_not_ready() {
    let world = world("tempfail");
    let organizations: Vec<_> = (0..40).map(|_| "acme").collect();
    let message =
        crate::spool::fixtures::Message { organizations, ..crate::spool::fixtures::Message::new(1, &["a@b.c"]) };
    let now = world.watched.clock.now();
    crate::spool::fixtures::prepare(&world.spool, &message, b"x", now).await.unwrap();
    let (_, _, html) = get(&world, "/").await;
    for expected in [
        "Mail is taken and journaled",
        "mx:archive.example",
        "records of acme",
        "No gaps.",
        "40 now",
        "on relay.example.org",
    ] {
        assert!(html.contains(expected), "{expected:?} in\n{html}");
    }
    world.watched.pressure.note(room(1_000));
    let (_, _, html) = get(&world, "/").await;
    assert!(html.contains("Not ready") && html.contains("1000 octets free"), "{html}");
    let (status, head, _) = get(&world, "/style.css").await;
    assert!(status == 200 && head.contains("content-type: text/css"), "{head}");
    assert_eq!(get(&world, "/../etc/passwd").await.0, 404);
}

#[tokio::test]
async fn with_a_token_whoever_lacks_it_is_told_of_health_alone() {
    let world = world("tempfail");
    let token = crate::config::Token::new("0123456789abcdef");
    world.setup.send_modify(|setup| {
        let mut config = Config::clone(&setup.config);
        let address = "127.0.0.1:0".parse().unwrap();
        config.admin = Some(crate::config::Admin { address, hosts: Vec::new(), token: Some(token), token_file: None });
        let Setup { listener, next_hop, .. } = &**setup;
        let (listener, next_hop) = (listener.clone(), Arc::clone(next_hop));
        *setup = Arc::new(Setup { config: Arc::new(config), listener, next_hop, tls: None });
    });
    for path in ["/", "/status", "/metrics", "/style.css", "/nowhere"] {
        let (status, head, body) = get(&world, path).await;
        assert_eq!((status, body.as_str()), (401, "the token of [admin] is needed\n"), "{path}");
        assert!(head.contains("www-authenticate: bearer") && head.contains("www-authenticate: basic"), "{head}");
        let shown = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n");
        assert_ne!(ask(&world, &shown).await.0, 401, "{path}");
    }
    assert_eq!((get(&world, "/livez").await.0, get(&world, "/readyz").await.0), (200, 200));
}
