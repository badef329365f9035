//! Who says nothing keeps nobody from an answer; and what readiness says of the spool.

use super::*;
use crate::config::{Config, Machine};
use crate::deliver::{Deliver, NoMemory, SystemResolver};
use crate::forward::NextHop;
use crate::journal::MacKey;
use crate::mail::OsEntropy;
use crate::net;
use crate::spool::fixtures::{HandClock, options};
use crate::spool::{MemorySpool, Room, SpoolError};
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct World {
    spool: MemorySpool,
    watched: Watched,
    /// Dropped, the setup would change no more.
    _setup: watch::Sender<Arc<Setup>>,
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
    let watched = Watched {
        setups: vec![setup.subscribe()],
        listeners: Vec::new(),
        delivery,
        spool: Arc::new(spool.clone()),
        commit_seconds: Histogram::new([1.0]),
        pressure: Pressure::new(64 << 20),
        clock,
        drain,
        metrics: Metrics::new(),
    };
    World { spool, watched, _setup: setup, _maildir: maildir }
}

async fn reasons(world: &World) -> Vec<String> {
    health::Health::default().reasons(&world.watched).await
}

fn room(free_octets: u64) -> Room {
    Room { free_octets, total_octets: 1 << 40, free_inodes: None, total_inodes: 0 }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_keeps_nobody_from_an_answer_for_long() {
    let world = world("tempfail");
    let socket = net::system().listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.address();
    world.watched.drain.spawn_unawaited(serve(socket, world.watched.clone()));
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
    // The clock of the test stands still but for the waits that end: the one for a head alone does.
    let waited = began.elapsed();
    assert!(waited >= HEAD_TIMEOUT && waited < CONNECTION_TIMEOUT, "{waited:?}");
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
