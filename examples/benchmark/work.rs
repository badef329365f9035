//! The works, by letter: what is sent, how far away the servers are, and how many messages make a round.

use crate::load::Shape;
use std::time::Duration;

/// How far away a server is that is away.
pub const AWAY: Duration = Duration::from_millis(20);

/// One kind of work.
#[derive(Debug, Clone)]
pub struct Work {
    pub letter: &'static str,
    pub title: String,
    pub shape: Shape,
    /// Messages of a round for who is fast, and for mail servers that take some milliseconds for each.
    pub messages: u64,
    pub messages_of_others: u64,
    /// Of the next hop and the archive.
    pub away: [Duration; 2],
    /// How long a record waits for other transactions of its message.
    pub coalesce: &'static str,
    /// Whether the archive is down while the messages arrive.
    pub is_backlog: bool,
}

impl Work {
    fn new(letter: &'static str, title: &str, messages: u64, messages_of_others: u64) -> Self {
        let shape = Shape { sessions: 50, size: 4_096, recipients: 1, is_single_use: false, is_ahead: true, idle: 0 };
        Self {
            letter,
            title: title.to_owned(),
            shape,
            messages,
            messages_of_others,
            away: [Duration::ZERO; 2],
            coalesce: "0s",
            is_backlog: false,
        }
    }

    /// All of them; `idle` connections in g, and `backlog` messages in h.
    pub fn all(idle: usize, backlog: u64) -> Vec<Self> {
        let mut works = vec![Self::new("a", "4 KiB, 50 sessions, connections reused", 10_000, 2_000)];
        let mut add = |letter, title: &str, messages, others, change: &dyn Fn(&mut Self)| {
            let mut work = Self::new(letter, title, messages, others);
            change(&mut work);
            works.push(work);
        };
        add("a5", "a with records that wait 5 s, the default", 10_000, 2_000, &|work| work.coalesce = "5s");
        add("b", "4 KiB, one session, one after the other", 3_000, 500, &|work| {
            (work.shape.sessions, work.shape.is_ahead) = (1, false);
        });
        add("c", "4 KiB, a connection for each message", 8_000, 2_000, &|work| work.shape.is_single_use = true);
        add("d", "100 KiB, 50 sessions", 4_000, 1_000, &|work| work.shape.size = 100 << 10);
        add("e", "10 MiB, 8 sessions", 80, 40, &|work| {
            (work.shape.sessions, work.shape.size, work.shape.is_ahead) = (8, 10 << 20, false);
        });
        add("f", "4 KiB, 50 recipients", 4_000, 500, &|work| work.shape.recipients = 50);
        add("g", &format!("a with {idle} idle connections"), 10_000, 2_000, &|work| work.shape.idle = idle);
        add("h", &format!("archive down while {backlog} arrive, then back"), backlog, backlog, &|work| {
            work.is_backlog = true;
        });
        add("i", "a, next hop 20 ms away", 8_000, 2_000, &|work| work.away[0] = AWAY);
        add("j", "a, archive 20 ms away", 8_000, 2_000, &|work| work.away[1] = AWAY);
        add("ij", "a, both 20 ms away", 8_000, 2_000, &|work| work.away = [AWAY; 2]);
        works
    }
}
