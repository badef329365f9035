//! Every command in every state: `tests/dialogues/commands.md` is a table, and this reads it and plays each of its cells.
//!
//! The table is complete: its columns are all of [`STATES`], its rows name every command that [`Command`] knows, and what
//! is none of them; no cell is empty. A cell says what happens, in order: `drop` (the open transaction is), `ask` (of the driver, who
//! says yes), `text` (octets are the message's), `end` (of the message, asked), `tls` (the handshake is next), `abort` (of AUTH),
//! `close`; codes of replies; `wait` where nothing happens yet.

use super::script::{OFFERS, octets, offers, reply};
use journal_relay::smtp::command::Command;
use journal_relay::smtp::session::{Session, Settings, Step};

/// The ways to the states: lines of the client, each answered with yes.
const STATES: &[(&str, &[&str])] = &[
    ("connected", &[]),
    ("turned away", &["greet 554 no"]),
    ("greeted", &[GREETED]),
    ("HELO", &[GREETED, "HELO a.example"]),
    ("EHLO", &[GREETED, EHLO]),
    ("TLS is due", &["required", GREETED, EHLO]),
    ("TLS", &[GREETED, EHLO, "STARTTLS"]),
    ("logged in", &[GREETED, EHLO, "AUTH PLAIN AGEAYg=="]),
    ("response", &[GREETED, EHLO, "AUTH PLAIN"]),
    ("MAIL", &[GREETED, EHLO, MAIL]),
    ("RCPT", &[GREETED, EHLO, MAIL, RCPT]),
    ("refused RCPT", &[GREETED, EHLO, MAIL, "RCPT TO:<refused@d.example>"]),
    ("chunk", &[GREETED, EHLO, MAIL, RCPT, "BDAT 1\\r\\nx"]),
    ("refused chunk", &[GREETED, EHLO, MAIL, RCPT, "refused BDAT 1\\r\\nx"]),
    ("DATA", &[GREETED, EHLO, MAIL, RCPT, "DATA"]),
];
const GREETED: &str = "greet 220 relay.example.org";
const EHLO: &str = "EHLO a.example";
const MAIL: &str = "MAIL FROM:<a@b.example>";
const RCPT: &str = "RCPT TO:<c@d.example>";

/// A name for everything that a line can be. It names each command, so that a new one has to have its rows.
fn kind_of(line: &[u8]) -> &'static str {
    match Command::parse(line.split(|octet| *octet == b'\r').next().unwrap_or_default()) {
        Ok(Command::Helo(_)) => "HELO",
        Ok(Command::Ehlo(_)) => "EHLO",
        Ok(Command::Mail(_)) => "MAIL",
        Ok(Command::Rcpt(_)) => "RCPT",
        Ok(Command::Data) => "DATA",
        Ok(Command::Bdat { last: false, .. }) => "BDAT",
        Ok(Command::Bdat { last: true, .. }) => "BDAT LAST",
        Ok(Command::Rset) => "RSET",
        Ok(Command::Noop) => "NOOP",
        Ok(Command::Vrfy) => "VRFY",
        Ok(Command::Expn) => "EXPN",
        Ok(Command::Help) => "HELP",
        Ok(Command::StartTls) => "STARTTLS",
        Ok(Command::Auth(_)) => "AUTH",
        Ok(Command::Quit) => "QUIT",
        Err(reply) if reply.code() == 500 => "unknown",
        Err(_) => "wrong",
    }
}
const KINDS: &[&str] = &[
    "HELO",
    "EHLO",
    "MAIL",
    "RCPT",
    "DATA",
    "BDAT",
    "BDAT LAST",
    "RSET",
    "NOOP",
    "VRFY",
    "EXPN",
    "HELP",
    "STARTTLS",
    "AUTH",
    "QUIT",
    "unknown",
    "wrong",
];

/// A row: the client's octets as they are written, and a cell for each state.
type Row = (String, Vec<String>);

fn read(text: &str) -> (Vec<String>, Vec<Row>) {
    let mut lines = text.lines().filter(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        cells
    });
    let heads = lines.next().expect("a head")[1..].to_vec();
    let rows = lines.skip(1).map(|cells| (cells[0].clone(), cells[1..].to_vec())).collect();
    (heads, rows)
}

/// Plays each cell; what differs is shown as the table that would fit.
pub(crate) fn check(text: &str) {
    let (heads, rows) = read(text);
    assert_eq!(heads, STATES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "the columns are the states");
    let kinds: Vec<_> = rows.iter().map(|(line, _)| kind_of(&octets(line))).collect();
    let missing: Vec<_> = KINDS.iter().filter(|kind| !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "no row shows {missing:?}");
    let mut found = String::new();
    for (line, cells) in &rows {
        let seen: Vec<_> = STATES.iter().map(|(_, way)| play(way, &octets(line))).collect();
        if cells != &seen {
            found += &format!("| `{line}` | {} |\n", seen.join(" | "));
        }
    }
    assert!(found.is_empty(), "rows that differ, as they are:\n{found}");
}

/// What happens at a line after a way, and that it is the same octet by octet.
fn play(way: &[&str], line: &[u8]) -> String {
    let whole = Player::after(way).hear(line, usize::MAX);
    let singly = Player::after(way).hear(line, 1);
    assert_eq!(whole, singly, "{} after {way:?}", line.escape_ascii());
    whole
}

struct Player {
    session: Session,
    refusing: bool,
    seen: Vec<String>,
}

impl Player {
    fn after(way: &[&str]) -> Self {
        let settings = Settings {
            hostname: "relay.example.org".into(),
            max_recipients: 100,
            max_errors: 10,
            requires_tls: way.contains(&"required"),
        };
        let mut player = Self { session: Session::new(settings), refusing: false, seen: Vec::new() };
        for turn in way.iter().filter(|turn| **turn != "required") {
            player.refusing = turn.contains("refused");
            match turn.strip_prefix("greet ") {
                Some(text) => player.session.greet(reply(text)),
                None => {
                    let end = if turn.contains("BDAT") { "" } else { "\\r\\n" };
                    player.session.feed(&octets(&format!("{}{end}", turn.trim_start_matches("refused "))));
                }
            }
            player.go_on();
        }
        player.refusing = false;
        player.session.output().clear();
        player.seen.clear();
        player
    }

    fn hear(mut self, line: &[u8], size: usize) -> String {
        for piece in line.chunks(size.min(line.len())) {
            self.session.feed(piece);
            self.go_on();
        }
        assert!(!self.session.has_outstanding(), "everything is answered");
        if self.seen.is_empty() { "wait".into() } else { self.seen.join(" ") }
    }

    fn go_on(&mut self) {
        loop {
            let (word, answer) = match self.session.step() {
                Step::NeedInput => break,
                Step::AwaitAnswers => panic!("every ask is answered at once"),
                Step::Hello { .. } => ("ask", None),
                Step::Mail(_) | Step::Rcpt(_) => ("ask", Some(if self.refusing { "550 no" } else { "250 yes" })),
                Step::Data { .. } => ("ask", Some(if self.refusing { "451 not now" } else { "354 go" })),
                Step::EndOfData(_) => ("end", Some("250 yes")),
                // Without a first response one is asked for.
                Step::Auth(auth) => ("ask", Some(if auth.initial.is_some() { "235 yes" } else { "334 " })),
                Step::AuthResponse(_) => ("ask", Some("235 yes")),
                Step::AuthAbort => ("abort", Some("")),
                Step::Content(..) => ("text", Some("")),
                Step::Reset => ("drop", Some("")),
                Step::StartTls => ("tls", Some("tls")),
                Step::Close(_) => ("close", Some("close")),
            };
            // What was said comes before what is asked next.
            self.note_output();
            if self.seen.last().map(String::as_str) != Some(word) || word != "text" {
                self.seen.push(word.into());
            }
            match answer {
                None => self.session.announce(&offers(&format!("{OFFERS} CHUNKING STARTTLS AUTH=PLAIN"))),
                Some("") => {}
                Some("tls") => self.session.tls_started(),
                Some("close") => break,
                Some(answer) => self.session.answered(reply(answer)),
            }
        }
        self.note_output();
    }

    fn note_output(&mut self) {
        let said = String::from_utf8_lossy(self.session.output()).into_owned();
        self.session.output().clear();
        let ends = said.lines().filter(|line| line.as_bytes().get(3) != Some(&b'-'));
        self.seen.extend(ends.map(|line| line.get(..3).unwrap_or(line).to_owned()));
    }
}
