//! Reloads in the middle of a load: settings change again and again while clients send, some over one connection for all
//! their mail, some over a new one for each message. No client notices, and each message has the records that it should have,
//! once.

use crate::common::{Client, PATIENCE, Record, Relay, Setup, Sink};
use crate::message;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::thread;

/// Clients that keep their connection, and those that connect for each message.
const CLIENTS: [bool; 6] = [true, true, true, false, false, false];
/// Times that the settings go round.
const ROUNDS: usize = 5;
/// Messages of one client at most, so that a test that hangs ends.
const MOST: usize = 20_000;

/// What clients have sent, and whether they are to go on.
#[derive(Default)]
struct Progress {
    sent: [usize; CLIENTS.len()],
    over: bool,
}

#[derive(Default)]
struct Board(Mutex<Progress>, Condvar);

impl Board {
    /// One more of that client's was taken; whether to go on.
    fn note(&self, client: usize) -> bool {
        let mut progress = self.0.lock().unwrap();
        progress.sent[client] += 1;
        self.1.notify_all();
        !progress.over
    }

    /// Waits until every client has had `more` messages taken from now on: at least the last of them began meanwhile.
    fn wait_for_each(&self, more: usize) {
        let progress = self.0.lock().unwrap();
        let goal = progress.sent.map(|sent| sent + more);
        let behind = |progress: &mut Progress| progress.sent.iter().zip(goal).any(|(sent, goal)| *sent < goal);
        let (progress, waited) = self.1.wait_timeout_while(progress, PATIENCE, behind).unwrap();
        assert!(!waited.timed_out(), "clients stand still: {:?}", progress.sent);
    }

    fn end(&self) {
        self.0.lock().unwrap().over = true;
    }
}

/// Ends the clients also when the test fails, which waits for them.
struct Ending<'a>(&'a Board);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).over = true;
    }
}

/// Sends until told to end: mail that concerns both organizations.
fn send(client: usize, keeps: bool, address: SocketAddr, board: &Board) -> usize {
    let mut kept = keeps.then(|| Client::ehlo(address));
    for number in 0..MOST {
        let octets = message(&format!("load-{client}-{number}"));
        let mut fresh = None;
        let connection = kept.as_mut().unwrap_or_else(|| fresh.insert(Client::ehlo(address)));
        connection.mail("alice@example.org", &["hank@globex.example"], &octets).starts("250");
        if let Some(mut connection) = fresh {
            connection.command("QUIT").starts("221");
        }
        if !board.note(client) {
            return number + 1;
        }
    }
    panic!("nobody ended client {client}");
}

/// Writes each of the files and has it taken, or the broken one refused, while every client goes on sending.
fn conduct(relay: &Relay, board: &Board, files: &[(String, &str)]) {
    for round in 0..ROUNDS {
        for (toml, event) in files {
            let before = relay.count(event);
            relay.configure(toml);
            // Now and then the change itself is the sign, as an editor leaves it; else the signal, twice at times.
            match round {
                0 => {}
                1 => (0..2).for_each(|_| relay.ask_to_reload()),
                _ => relay.ask_to_reload(),
            }
            relay.wait_events(event, before + 1);
            board.wait_for_each(2);
        }
    }
}

/// The organizations of each message that have a record, or are exempt by rule, in the log.
fn accounts(relay: &Relay) -> BTreeMap<String, Vec<String>> {
    let mut accounts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in relay.events("message.accepted") {
        accounts.insert(event.text("queue_id").to_owned(), Vec::new());
    }
    for event in ["record.committed", "record.merged", "record.exempt"].iter().flat_map(|name| relay.events(name)) {
        let of = accounts.entry(event.text("queue_id").to_owned()).or_default();
        of.push(event.text("organization").to_owned());
    }
    accounts.values_mut().for_each(|of| of.sort());
    accounts
}

#[test]
fn reloads_under_load_refuse_no_client_and_lose_and_double_no_record() {
    let (next_hop, other_hop) = (Sink::start(), Sink::start());
    let (archive, other_archive, globex_archive) = (Sink::start(), Sink::start(), Sink::start());
    let base = Setup::new(&next_hop, &archive).and("globex", &["globex.example"], &globex_archive);
    let mut switched = base.clone();
    switched.organizations[1].more = "journaling = false\nswitch_reason = \"a test\"".into();
    let mut moved = base.clone();
    moved.organizations[0].route = other_archive.route();
    let mut limited = base.clone();
    limited.listener = "max_message_size = \"1MiB\"\n[listener.limits]\nrecipients = 200\nerrors = 7".into();
    let mut elsewhere = base.clone();
    elsewhere.next_hop = other_hop.route();
    let mut relay = base.start();
    let spool = relay.spool();
    let broken = base.toml(&spool).replace("journaling_address", "jurnaling_address");
    let files = [
        (switched.toml(&spool), "config.reloaded"),
        (moved.toml(&spool), "config.reloaded"),
        (broken, "config.rejected"),
        (limited.toml(&spool), "config.reloaded"),
        (elsewhere.toml(&spool), "config.reloaded"),
        (base.toml(&spool), "config.reloaded"),
    ];
    let (board, address) = (Board::default(), relay.address());
    let sent: usize = thread::scope(|scope| {
        let clients: Vec<_> = CLIENTS
            .into_iter()
            .enumerate()
            .map(|(client, keeps)| {
                scope.spawn({
                    let board = &board;
                    move || send(client, keeps, address, board)
                })
            })
            .collect();
        let _ending = Ending(&board);
        board.wait_for_each(1);
        conduct(&relay, &board, &files);
        board.end();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });

    let exempt = relay.events("record.exempt").len();
    assert!(exempt >= CLIENTS.len() * ROUNDS, "the switch was off meanwhile: {exempt}");
    relay.finish_clean(2 * sent - exempt);
    let accounts = accounts(&relay);
    assert_eq!(accounts.len(), sent, "messages that were accepted");
    for (queue_id, organizations) in &accounts {
        assert_eq!(organizations, &["acme", "globex"], "a record, or a rule, for each organization: {queue_id}");
    }
    let relayed = [&next_hop, &other_hop].map(Sink::count);
    assert!(relayed[0] + relayed[1] == sent && relayed.iter().all(|count| *count > 0), "{relayed:?} of {sent}");
    let archived = [&archive, &other_archive, &globex_archive].map(Sink::transactions);
    assert!(archived.iter().all(|taken| !taken.is_empty()), "every route was in use");
    let mut originals: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for transaction in archived[..2].iter().flatten() {
        *originals.entry(Record::read(&transaction.octets).original.clone()).or_default() += 1;
    }
    assert_eq!(originals.len(), sent, "every message is in acme's journal");
    assert!(originals.values().all(|count| *count == 1), "and once");
    assert_eq!(archived[2].len(), sent - exempt, "globex has those that came while its switch was on");
    assert_eq!(relay.events("record.bypassed").len() + relay.events("message.refused").len(), 0);
}
