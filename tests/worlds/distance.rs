//! Far away: what a transaction costs in round trips when next hop and archive are 20 ms from the relay and its clients near.
//! Simulated time, so that nothing but the number of turns decides.

use super::client::RELAY;
use super::clock::{SimClock, SimEntropy};
use super::dice::Dice;
use super::history::{Chronicle, Peer};
use super::net::{Power, SimNetwork};
use super::relay::{Control, House, Order, Shape, config};
use super::returns::Returns;
use super::server::{Server, Setup};
use super::store::Store;
use super::trace::Trace;
use super::wire::{Wire, stuffed};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turmoil::net::TcpStream;

/// A round trip between the relay and its next hop, or an archive.
const ROUND_TRIP: u64 = 20;
/// What a turn may cost besides, milliseconds: every host acts once in a millisecond of simulated time.
const TICKS: u64 = 4;
/// Messages of one client, behind one that opens connections.
const MESSAGES: u64 = 10;
/// Connections to an archive at a time.
const LINES: u64 = 20;

/// What a run has.
#[derive(Clone, Copy)]
struct Way {
    clients: u64,
    recipients: usize,
    /// Next hop and archives take commands in a row.
    pipelining: bool,
    /// Clients send each envelope along with the dot before it.
    ahead: bool,
}

/// What it took, in milliseconds.
#[derive(Debug)]
struct Took {
    /// From the first command of the first message to the last reply of the last one.
    accepted: u64,
    /// Until the archive had all records.
    archived: u64,
}

#[test]
fn a_transaction_costs_the_next_hop_two_round_trips_however_many_recipients_it_has() {
    let two_turns = MESSAGES * 2 * (ROUND_TRIP + TICKS);
    for recipients in [1, 50] {
        let took = run(Way { clients: 1, recipients, pipelining: true, ahead: false });
        assert!(took.accepted >= MESSAGES * 2 * ROUND_TRIP, "{took:?}: the link is not that long");
        assert!(took.accepted <= two_turns, "{recipients} recipients: {took:?}, more than {two_turns} ms");
    }
    let took = run(Way { clients: 1, recipients: 50, pipelining: false, ahead: false });
    assert!(took.accepted >= MESSAGES * 53 * ROUND_TRIP, "{took:?}: a next hop that takes no commands in a row");
}

#[test]
fn a_client_that_sends_its_next_envelope_along_with_the_dot_has_a_transaction_for_one_round_trip() {
    for recipients in [1, 50] {
        let took = run(Way { clients: 1, recipients, pipelining: true, ahead: true });
        // The first envelope, and the last dot, go alone.
        let turns = (MESSAGES + 1) * (ROUND_TRIP + TICKS);
        assert!(took.accepted >= MESSAGES * ROUND_TRIP, "{took:?}: the link is not that long");
        assert!(took.accepted <= turns, "{recipients} recipients: {took:?}, more than {turns} ms");
    }
}

#[test]
fn the_rate_is_bound_by_connections() {
    let one = run(Way { clients: 1, recipients: 2, pipelining: true, ahead: false });
    let many = run(Way { clients: 40, recipients: 2, pipelining: true, ahead: false });
    // Forty times as much in the same time, but for what the clients disturb each other within a millisecond.
    assert!(many.accepted <= one.accepted + MESSAGES * TICKS, "{one:?}, {many:?}");
}

#[test]
fn a_record_costs_an_archive_that_takes_commands_in_a_row_one_round_trip_on_each_of_its_connections() {
    let way = Way { clients: 40, recipients: 1, pipelining: true, ahead: false };
    let took = run(way);
    let turns = (way.clients * MESSAGES).div_ceil(LINES);
    // The first round is also the one that lacks connections: greeting, EHLO, and an envelope that nothing went before. The
    // last records are accepted when the others have gone.
    let most = (turns + turns / 4 + 6) * (ROUND_TRIP + TICKS);
    assert!(took.archived <= most, "{took:?}, more than {most} ms");
}

/// Carries a number of messages through the relay.
fn run(way: Way) -> Took {
    let clock = SimClock::default();
    let (trace, chronicle, power) = (Trace::new(clock.clone()), Chronicle::default(), Power::default());
    let dice = Dice::new(1).fork("distance");
    let mut sim = turmoil::Builder::new()
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::ZERO)
        .simulation_duration(Duration::from_secs(3_600))
        .epoch(std::time::UNIX_EPOCH)
        .tcp_capacity(1_024)
        .rng_seed(1)
        .build();
    let control = Control::default();
    let house = House {
        control: control.clone(),
        network: SimNetwork::new(trace.clone(), power.clone()),
        clock: clock.clone(),
        entropy: Arc::new(SimEntropy::new(dice.fork("entropy"))),
        chronicle: chronicle.clone(),
        trace: trace.clone(),
        config: Arc::new(Mutex::new(config(Shape { coalesce: ["0s", "0s"], bypass: false, also: false }, 0))),
        spool: Store::new(dice.fork("disk"), trace.clone()),
    };
    sim.host(RELAY, move || house.clone().live());
    let returns = Returns {
        percent: 0,
        until: 0,
        dice: Rc::new(RefCell::new(dice.fork("returns"))),
        chronicle: chronicle.clone(),
        trace: trace.clone(),
        open: Rc::default(),
    };
    for peer in Peer::SERVERS {
        let setup = Setup {
            peer,
            moods: Vec::new(),
            offers: Vec::new(),
            eight_bit_mime: true,
            pipelining: way.pipelining,
            chunking: false,
            dice: dice.fork(peer.host()),
            returns: returns.clone(),
        };
        let server = Server::new(setup, chronicle.clone(), trace.clone(), power.clone());
        sim.host(peer.host(), move || server.clone().run());
        sim.set_link_latency(RELAY, peer.host(), Duration::from_millis(ROUND_TRIP / 2));
    }
    while !control.seen().is_up {
        assert!(sim.elapsed() < Duration::from_secs(60), "the relay does not start");
        sim.step().expect("no host ends");
    }
    // All begin together, when the last one has its connections.
    let (ready, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for number in 0..way.clients {
        let (ready, done) = (Rc::clone(&ready), Rc::clone(&done));
        sim.client(format!("client{number}.example"), async move {
            let mut wire = Wire::new(TcpStream::connect((RELAY, 25)).await?, Duration::from_secs(60));
            wire.reply().await?;
            wire.write(b"EHLO client.example\r\n").await?;
            wire.reply().await?;
            begin(&mut wire, way).await;
            send(&mut wire, way, &format!("{number}-warm"), true).await;
            ready.set(ready.get() + 1);
            while ready.get() < way.clients {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            begin(&mut wire, way).await;
            for message in 0..MESSAGES {
                send(&mut wire, way, &format!("{number}-{message}"), message + 1 == MESSAGES).await;
            }
            done.set(done.get() + 1);
            std::future::pending().await
        });
    }
    let mut wait = |what: &str, is_done: &dyn Fn() -> bool| {
        let limit = sim.elapsed() + Duration::from_secs(600);
        while !is_done() {
            assert!(sim.elapsed() < limit, "{what}:\n{}", trace.lines().join("\n"));
            sim.step().expect("no host ends");
            clock.set(sim.elapsed());
        }
        u64::try_from(sim.elapsed().as_millis()).unwrap()
    };
    let began = wait("not all clients are ready", &|| ready.get() == way.clients);
    let accepted = wait("not all is accepted", &|| done.get() == way.clients) - began;
    let all = usize::try_from(way.clients * (MESSAGES + 1)).unwrap();
    let has_all = || chronicle.write().arrivals.iter().filter(|arrival| arrival.at.is_archive()).count() == all;
    let archived = wait("not all is archived", &has_all) - began;
    control.order(Order::Drain);
    wait("the drain does not end", &|| control.seen().drained == 1);
    Took { accepted, archived }
}

fn envelope(way: Way) -> String {
    let recipients: String =
        (0..way.recipients).map(|number| format!("RCPT TO:<user{number}@north.example>\r\n")).collect();
    format!("MAIL FROM:<a@else.example>\r\n{recipients}DATA\r\n")
}

/// A first envelope.
async fn begin(wire: &mut Wire, way: Way) {
    wire.write(envelope(way).as_bytes()).await.unwrap();
}

/// One message whose envelope is said: the data in one piece, and behind it the next envelope unless it is the last one.
async fn send(wire: &mut Wire, way: Way, id: &str, is_last: bool) {
    for _ in 0..=way.recipients {
        assert!(wire.reply().await.unwrap().starts_with("250 "));
    }
    assert!(wire.reply().await.unwrap().starts_with("354 "));
    let octets = format!("From: a@else.example\r\nMessage-ID: <{id}@else.example>\r\nSubject: {id}\r\n\r\nHello.\r\n");
    let next = if is_last { String::new() } else { envelope(way) };
    let (with_it, after_it) = if way.ahead { (next.as_str(), "") } else { ("", next.as_str()) };
    wire.write(&[&stuffed(octets.as_bytes()), with_it.as_bytes()].concat()).await.unwrap();
    assert!(wire.reply().await.unwrap().starts_with("250 "));
    wire.write(after_it.as_bytes()).await.unwrap();
}
