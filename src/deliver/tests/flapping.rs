//! Archives that come and go for a simulated week: how many mails that makes; and that a true outage is told in time.

use super::world::{World, config, organization};
use super::*;
use crate::clock::Clock;
use crate::config::Retry;
use crate::deliver::{HEALTHY_FOR, SHUT_FOR};
use crate::net::{Later, Listen, Network, Stream};
use crate::queue::{DELAY_DISTANCES, State};
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::time::{Instant, sleep};

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const RETRY: Retry = Retry {
    first: Duration::from_secs(MINUTE),
    longest: Duration::from_secs(HOUR),
    give_up: Duration::from_secs(8 * DAY),
    report_after: Duration::from_secs(4 * HOUR),
};
/// How soon a look finds what is to be told: once a minute while nothing is known to be amiss.
const LOOK: Duration = Duration::from_secs(MINUTE);
const ARCHIVE: u16 = 25;
const REPORTS: u16 = 26;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Up,
    /// Nobody is there.
    Down,
    /// Who is there does not want us.
    Refusing,
}

/// Time and network: an archive whose weather is a function of the time, and a server for reports that is always there.
#[derive(Clone)]
struct Sky(Arc<Shared>);

struct Shared {
    began: Instant,
    weather: Box<dyn Fn(u64) -> Weather + Send + Sync>,
    /// The reports, and when they came.
    mails: Mutex<Vec<(Duration, String)>>,
}

impl Sky {
    fn new(weather: impl Fn(u64) -> Weather + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { began: Instant::now(), weather: Box::new(weather), mails: Mutex::default() }))
    }

    fn weather(&self, port: u16) -> Weather {
        if port == REPORTS { Weather::Up } else { (self.0.weather)(self.0.began.elapsed().as_secs()) }
    }

    fn mails(&self) -> Vec<(Duration, String)> {
        self.0.mails.lock().unwrap().clone()
    }

    fn world(&self) -> World {
        self.world_by(None)
    }

    /// Where records go another way than to the archive.
    fn world_by(&self, journaling_route: Option<Route>) -> World {
        let route = |port| Route::Smtp(SmtpRoute::to("192.0.2.1", port, Tls::None));
        let organizations = vec![organization("acme", journaling_route.unwrap_or(route(ARCHIVE)), route(REPORTS))];
        World::simulated(config(organizations, RETRY), Arc::new(self.clone()), Arc::new(self.clone()))
    }

    /// Speaks SMTP while the weather is fine.
    async fn serve(self, port: u16, stream: DuplexStream) -> io::Result<()> {
        let mut wire = BufReader::new(stream);
        let greeting = if self.weather(port) == Weather::Refusing { "554 go away\r\n" } else { "220 archive\r\n" };
        wire.write_all(greeting.as_bytes()).await?;
        let (mut line, mut data) = (String::new(), None::<String>);
        while wire.read_line(&mut line).await? > 0 && self.weather(port) != Weather::Down {
            let reply = match (&mut data, line.split([' ', '\r']).next().unwrap_or_default()) {
                (Some(text), _) if line == ".\r\n" => {
                    if port == REPORTS {
                        self.0.mails.lock().unwrap().push((self.0.began.elapsed(), std::mem::take(text)));
                    }
                    data = None;
                    "250 kept\r\n"
                }
                (Some(text), _) => {
                    text.push_str(&line);
                    ""
                }
                (None, _) if self.weather(port) == Weather::Refusing => "421 go away\r\n",
                (None, "DATA") => {
                    data = Some(String::new());
                    "354 go on\r\n"
                }
                (None, "QUIT") => return wire.write_all(b"221 bye\r\n").await,
                (None, _) => "250 ok\r\n",
            };
            wire.write_all(reply.as_bytes()).await?;
            line.clear();
        }
        Ok(())
    }
}

impl Clock for Sky {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_794_304_800_000).plus(self.0.began.elapsed())
    }
}

impl Network for Sky {
    fn resolve(&self, host: &str, port: u16) -> Later<'static, Vec<SocketAddr>> {
        let address = SocketAddr::new(host.parse().unwrap(), port);
        Box::pin(async move { Ok(vec![address]) })
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own task, ended with its connection")]
    fn connect(&self, address: SocketAddr) -> Later<'static, Stream> {
        let sky = self.clone();
        Box::pin(async move {
            if sky.weather(address.port()) == Weather::Down {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            tokio::spawn(sky.serve(address.port(), theirs));
            Ok(Stream::Other(Box::new(ours)))
        })
    }

    fn listen(&self, _: SocketAddr) -> Later<'static, Box<dyn Listen>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// Relays a message every `every` seconds for so long; with `restarts` delivery begins anew twice a day.
async fn live(world: &mut World, every: u64, seconds: u64, restarts: bool) {
    for number in 0..seconds / every {
        world.commit("acme", &format!("Subject: {number}\r\n\r\n")).await;
        sleep(Duration::from_secs(every)).await;
        if restarts && number % (12 * HOUR / every) == 0 {
            world.restart().await;
        }
    }
}

/// Up for so many seconds, then otherwise for so many, and again.
fn in_turn(up: u64, otherwise: Weather, seconds: u64) -> impl Fn(u64) -> Weather + Send + Sync {
    move |now| if now % (up + seconds) < up { Weather::Up } else { otherwise }
}

fn is_end(mail: &str) -> bool {
    mail.contains("Subject: Journal records are delivered again")
}

fn kinds(mails: &[(Duration, String)]) -> (usize, usize) {
    let over = mails.iter().filter(|(_, mail)| is_end(mail)).count();
    (mails.len() - over, over)
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_flaps_for_a_week_makes_a_few_mails() {
    for (up, otherwise, seconds, restarts) in [
        (20, Weather::Refusing, 10 * MINUTE, false),
        (20, Weather::Down, 10 * MINUTE, false),
        (8 * MINUTE, Weather::Refusing, 8 * MINUTE, true),
        (30 * MINUTE, Weather::Down, 5 * HOUR, true),
    ] {
        let sky = Sky::new(in_turn(up, otherwise, seconds));
        let mut world = sky.world();
        world.start();
        live(&mut world, 30 * MINUTE, 7 * DAY, restarts).await;
        world.end().await;
        let mails = sky.mails();
        let (delays, ends) = kinds(&mails);
        let name = format!("{up} s up, {seconds} s {otherwise:?}: {mails:#?}");
        assert!(delays + ends <= 24, "{name}");
        assert!(
            ends <= delays && delays <= ends + 7,
            "an end is told of what was told, and what lasts once a day: {name}"
        );
        for pair in mails.windows(2).filter(|pair| is_end(&pair[0].1)) {
            assert!(pair[1].0 - pair[0].0 >= DELAY_DISTANCES[0], "{name}");
        }
        if otherwise == Weather::Refusing {
            assert!(delays > 0, "it is told: {name}");
        }
        assert_eq!(world.count(State::Failed).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_true_outage_is_told_within_report_after_and_so_is_its_end() {
    // After half a day in which it flapped.
    let (begins, ends) = (14 * HOUR, 26 * HOUR);
    for (otherwise, within) in [(Weather::Down, RETRY.report_after), (Weather::Refusing, SHUT_FOR)] {
        let flaps = in_turn(55 * MINUTE, Weather::Down, 5 * MINUTE);
        let sky = Sky::new(move |now| match now {
            now if now < begins => flaps(now),
            now if now < ends => otherwise,
            _ => Weather::Up,
        });
        let mut world = sky.world();
        world.start();
        live(&mut world, 10 * MINUTE, 2 * DAY, false).await;
        world.end().await;
        let mails = sky.mails();
        assert_eq!(kinds(&mails), (1, 1), "{otherwise:?}: {mails:?}");
        let [told, over] = [mails[0].0, mails[1].0];
        // The first record that fails comes up to ten minutes later.
        let latest = Duration::from_secs(begins + 10 * MINUTE) + within + LOOK;
        assert!((Duration::from_secs(begins)..=latest).contains(&told), "{otherwise:?}: {told:?}");
        let earliest = Duration::from_secs(ends) + HEALTHY_FOR;
        // A probe comes an hour and a tenth later at the latest.
        let latest = earliest + Duration::from_secs(67 * MINUTE) + LOOK;
        assert!((earliest..=latest).contains(&over), "{otherwise:?}: {over:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_although_a_restart_came_before_and_nothing_has_come_since() {
    let sky = Sky::new(|now| if now < HOUR { Weather::Refusing } else { Weather::Up });
    let mut world = sky.world();
    world.start();
    live(&mut world, 10 * MINUTE, HOUR, false).await;
    while world.count(State::Acked).await < 6 {
        sleep(Duration::from_secs(1)).await;
    }
    world.restart().await;
    let taken = sky.0.began.elapsed();
    sleep(HEALTHY_FOR + LOOK).await;
    world.end().await;
    let mails = sky.mails();
    assert_eq!(kinds(&mails), (1, 1), "{mails:?}");
    assert!(mails[1].0 >= taken + HEALTHY_FOR, "{mails:?}");
    for text in ["Action: delivered", "takes journal records again", "Delivered:     6"] {
        assert!(mails[1].1.contains(text), "{text} in {mails:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_domain_that_is_gone_from_the_dns_fails_no_record_before_its_time_and_is_told_at_once() {
    let null = Exchanger { preference: 0, host: String::new() };
    for answer in [Err(Unresolved::Never("the domain does not exist".to_owned())), Ok(vec![null])] {
        let sky = Sky::new(|_| Weather::Up);
        let mut world = sky.world_by(Some(mx()));
        world.resolver = Arc::new(Names { exchangers: [("journal.example", answer)].into(), ..Names::default() });
        world.start();
        live(&mut world, HOUR, 6 * HOUR, false).await;
        let mails = sky.mails();
        assert_eq!(mails.len(), 1, "{mails:?}");
        assert!(mails[0].0 <= SHUT_FOR + LOOK && mails[0].1.contains("does not work"), "{mails:?}");
        assert_eq!((world.count(State::Failed).await, world.count(State::Acked).await), (0, 0));
        sleep(RETRY.give_up).await;
        assert_eq!(world.count(State::Failed).await, 6, "given up, and kept");
        world.end().await;
    }
}
