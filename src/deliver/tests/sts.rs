//! Domains that say by MTA-STS what they ask of mail exchangers: how it is found out, kept, and not forgotten.

use super::super::sts::{Demand, FileMemory, PolicyMemory, Sts, Web};
use super::super::tls::TlsClients;
use super::tls::certified;
use super::*;
use crate::clock::{Clock, SharedClock};
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

const DOMAIN: &str = "journal.example";
pub(super) const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: good.example\nmax_age: 604800\n";
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A web server that says the same to everybody, and remembers what it was asked.
pub(super) struct WebServer {
    pub(super) address: SocketAddr,
    pub(super) pem: String,
    answer: watch::Sender<Option<String>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl WebServer {
    /// One with a certificate for `name`.
    #[allow(clippy::disallowed_methods, reason = "a test's own task, ended with the server")]
    pub(super) async fn called(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, pem) = certified(name);
        let (answer, answers) = watch::channel(None);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(octet) = stream.read_u8().await else { break };
                    head.push(octet);
                }
                heard.lock().unwrap().push(String::from_utf8(head).unwrap());
                let answer: Option<String> = answers.borrow().clone();
                match answer {
                    Some(answer) => {
                        // One that asks for less hangs up in the middle.
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    None => open.push(stream),
                }
            }
        });
        Self { address, pem, answer, asked, task }
    }

    pub(super) fn says(&self, policy: &str) {
        self.says_all(&format!("200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{policy}"));
    }

    fn says_all(&self, answer: &str) {
        self.answer.send_replace(Some(format!("HTTP/1.1 {answer}")));
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A clock that stands until it is moved.
#[derive(Clone)]
struct Hands(Arc<Mutex<Timestamp>>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

impl Hands {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Timestamp::from_millis(1_794_304_800_000))))
    }

    fn forward(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(by);
    }
}

/// Whoever asks for policies: with the web server's certificate in his store.
struct Asker {
    sts: Sts,
    tls: TlsClients,
    clock: Hands,
    _directory: tempfile::TempDir,
}

impl Asker {
    fn new(server: &WebServer, memory: impl PolicyMemory, clock: &Hands) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store.pem");
        std::fs::write(&store, &server.pem).unwrap();
        let sts = Sts::new(Arc::new(memory), Arc::new(clock.clone()) as SharedClock);
        Self { sts, tls: TlsClients::with_system_store(store), clock: clock.clone(), _directory: directory }
    }

    /// What the domain asks for while the DNS announces the policy `id`.
    async fn ask(&self, server: &WebServer, id: Option<&str>) -> Demand {
        let network = crate::net::system();
        let names = names(server, id);
        self.sts.demand(DOMAIN, &Web { resolver: &names, network: &*network, tls: &self.tls }).await
    }
}

/// Names in which the domain announces the policy `id`, at this server.
pub(super) fn names(server: &WebServer, id: Option<&str>) -> Names {
    let text = id.map(|id| format!("v=STSv1; id={id};"));
    Names {
        texts: [("_mta-sts.journal.example", text.into_iter().collect())].into(),
        addresses: [("mta-sts.journal.example", server.address)].into(),
        ..Names::default()
    }
}

#[tokio::test]
async fn a_policy_is_fetched_when_it_is_announced_and_again_when_another_one_is() {
    let server = WebServer::called("mta-sts.journal.example").await;
    let asker = Asker::new(&server, NoMemory, &Hands::new());
    server.says(ENFORCE);
    let demand = asker.ask(&server, Some("1")).await;
    assert!(demand.allows("good.example") && !demand.allows("bad.example"), "{demand:?}");
    let asked = server.asked.lock().unwrap()[0].to_ascii_lowercase();
    assert!(asked.starts_with("get /.well-known/mta-sts.txt http/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: mta-sts.journal.example\r\n"), "{asked}");

    server.says(&ENFORCE.replace("good.example", "bad.example"));
    assert_eq!(asker.ask(&server, Some("2")).await, demand, "asked a moment ago");
    asker.clock.forward(6 * MINUTE);
    assert_eq!(asker.ask(&server, Some("1")).await, demand, "the same id");
    assert_eq!(server.asked(), 1);
    asker.clock.forward(6 * MINUTE);
    let other = asker.ask(&server, Some("2")).await;
    assert!(other.allows("bad.example") && !other.allows("good.example"), "{other:?}");
    assert_eq!(server.asked(), 2);
    asker.clock.forward(DAY);
    asker.ask(&server, Some("2")).await;
    assert_eq!(server.asked(), 3, "refreshed once a day");
}

#[tokio::test]
async fn testing_and_none_ask_for_nothing_and_none_takes_back_what_was_asked() {
    let server = WebServer::called("mta-sts.journal.example").await;
    let asker = Asker::new(&server, NoMemory, &Hands::new());
    for (id, mode) in [("1", "enforce"), ("2", "testing"), ("3", "enforce"), ("4", "none")] {
        server.says(&ENFORCE.replace("enforce", mode));
        let demand = asker.ask(&server, Some(id)).await;
        assert_eq!(demand == Demand::Nothing, mode != "enforce", "{mode}: {demand:?}");
        asker.clock.forward(6 * MINUTE);
    }
}

#[tokio::test]
async fn a_kept_policy_outlives_a_silent_dns_a_broken_web_server_and_a_restart_but_not_its_age() {
    let server = WebServer::called("mta-sts.journal.example").await;
    let (clock, directory) = (Hands::new(), tempfile::tempdir().unwrap());
    let memory = FileMemory::within(directory.path());
    server.says(ENFORCE);
    let demand = Asker::new(&server, memory.clone(), &clock).ask(&server, Some("1")).await;
    assert!(!demand.allows("bad.example"));

    let asker = Asker::new(&server, memory.clone(), &clock);
    assert_eq!(asker.ask(&server, None).await, demand, "nothing is announced");
    server.says_all("500 Broken\r\nContent-Length: 0\r\n\r\n");
    clock.forward(6 * DAY);
    assert_eq!(asker.ask(&server, Some("2")).await, demand, "another one can't be fetched");
    clock.forward(DAY);
    assert_eq!(asker.ask(&server, Some("2")).await, Demand::Nothing, "seven days are over");

    std::fs::write(directory.path().join("mta-sts.json"), b"{\"journal.example\"").unwrap();
    assert_eq!(Asker::new(&server, memory, &clock).ask(&server, None).await, Demand::Nothing, "a damaged file");
}

#[tokio::test]
async fn what_is_no_policy_by_the_rfc_is_none() {
    let server = WebServer::called("mta-sts.journal.example").await;
    let long = format!("200 OK\r\nContent-Type: text/plain\r\n\r\n{ENFORCE}{}", "x: y\n".repeat(14_000));
    for answer in [
        "301 Moved\r\nLocation: https://mta-sts.journal.example/policy\r\nContent-Length: 0\r\n\r\n",
        &format!("404 Not Found\r\nContent-Type: text/plain\r\n\r\n{ENFORCE}"),
        &format!("200 OK\r\nContent-Type: text/html\r\n\r\n{ENFORCE}"),
        &format!("200 OK\r\n\r\n{ENFORCE}"),
        "200 OK\r\nContent-Type: text/plain\r\n\r\n<html>hello</html>",
        &format!("200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n{ENFORCE}"),
        &long,
        "no HTTP at all\r\n\r\n",
    ] {
        server.says_all(answer);
        let asker = Asker::new(&server, NoMemory, &Hands::new());
        assert_eq!(asker.ask(&server, Some("1")).await, Demand::Nothing, "{answer:.200}");
        asker.ask(&server, Some("1")).await;
    }
    assert_eq!(server.asked(), 8, "a failure is not asked for again at once");
}

#[tokio::test]
async fn a_web_server_with_another_s_certificate_has_no_say() {
    let server = WebServer::called("www.journal.example").await;
    server.says(ENFORCE);
    let asker = Asker::new(&server, NoMemory, &Hands::new());
    assert_eq!(asker.ask(&server, Some("1")).await, Demand::Nothing);
    assert_eq!(server.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_web_server_is_waited_for_a_minute() {
    let server = WebServer::called("mta-sts.journal.example").await;
    let asker = Asker::new(&server, NoMemory, &Hands::new());
    let begun = tokio::time::Instant::now();
    assert_eq!(asker.ask(&server, Some("1")).await, Demand::Nothing);
    assert!(begun.elapsed() <= 61 * Duration::from_secs(1), "{:?}", begun.elapsed());
}
