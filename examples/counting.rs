//! What counting costs: the events of one message, as the relay makes them, with the metrics and without.
//!
//! ```text
//! cargo run --release --example counting            # with
//! cargo run --release --example counting -- none    # without; the difference is what a message costs
//! ```
//!
//! No line is written (`log.level` is `error`), so that nothing else is measured. CPU time of the process, by its own account.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a measuring program: it stands outside the relay"
)]

use journal_relay::config::{Log, LogAddresses, LogFormat};
use journal_relay::telemetry::{HashKey, Metrics, start_counting};

/// Messages; each has a session of its own.
const MESSAGES: u32 = 1_000_000;
/// CPU time is told in ticks of this length (USER_HZ is 100 on every Linux).
const TICK_NS: f64 = 10_000_000.0;

/// The events of a message that is relayed and archived, with the fields that they have.
fn message(number: u32) {
    const TARGET: &str = "journal_relay::counting";
    let (client, reply) = (std::net::Ipv4Addr::LOCALHOST, "250 2.0.0 Ok: queued as 4d2XyZ0aBcz1");
    let recipients = ["bob@example.net", "carol@example.net"];
    tracing::info!(target: TARGET, event = "session.opened", session = %number, listener = %"incoming", client = %client, "a client");
    tracing::info!(target: TARGET, event = "message.accepted", session = %number, queue_id = %number, listener = %"incoming",
        direction = "outgoing", client = %client, trusted = true, sender = "alice@example.org", recipients = ?recipients,
        size = 10_000, sha256 = %"00", next_hop = %"smtp://127.0.0.1:10025", reply = %reply, "relayed a message");
    tracing::info!(target: TARGET, event = "record.committed", record = %number, organization = "acme", queue_id = %number, "kept");
    tracing::info!(target: TARGET, event = "record.acked", record = %number, organization = "acme", archive = "vault", reply = %reply,
        attempts = 1, age_ms = 5_000_u64, "the archive took the record");
    tracing::info!(target: TARGET, event = "session.closed", session = %number, listener = %"incoming", client = %client, reason = "quit", "gone");
}

fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // Fields 14 and 15 are the twelfth and thirteenth behind the name (proc_pid_stat(5)).
    let behind = stat.rsplit_once(") ").expect("a name").1;
    behind.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * TICK_NS
}

fn main() {
    let metrics = (std::env::args().nth(1).as_deref() != Some("none")).then(Metrics::new);
    let log = Log { format: LogFormat::Json, level: tracing::Level::ERROR, addresses: LogAddresses::Full };
    start_counting(&log, &HashKey::from_bytes([1; 32]), metrics.as_ref());
    message(0);
    let begun = cpu_ns();
    (1..=MESSAGES).for_each(message);
    println!("{:.0} ns for the events of a message", (cpu_ns() - begun) / f64::from(MESSAGES));
}
