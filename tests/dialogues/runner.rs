//! Plays a dialogue: the client's octets go into a session, its steps and output are held against what is written.

use super::script::{Dialogue, Turn, reply};
use journal_relay::smtp::session::{Session, Settings, Step};
use journal_relay::smtp::{Auth, Mail, Parameter, Rcpt};
use std::collections::VecDeque;
use std::fmt;

/// Where a dialogue went otherwise.
pub(crate) struct Failure {
    pub(crate) line: usize,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A step that has no lifetime.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Step(String),
    Content(Vec<u8>),
    AwaitAnswers,
    /// No input is left either.
    Idle,
}

struct Player<'d> {
    dialogue: &'d Dialogue,
    session: Session,
    unsent: VecDeque<u8>,
    /// Octets per feed.
    piece: usize,
    /// A step that came while output was looked for.
    ahead: Option<Seen>,
    closed: bool,
}

/// Plays `dialogue`, feeding at most `piece` octets at a time.
pub(crate) fn run(dialogue: &Dialogue, piece: usize) -> Result<(), Failure> {
    let settings = Settings {
        hostname: "relay.example.org".into(),
        max_recipients: dialogue.max_recipients,
        max_errors: dialogue.max_errors,
        requires_tls: dialogue.requires_tls,
    };
    let session = Session::new(settings);
    let mut player = Player { dialogue, session, unsent: VecDeque::new(), piece, ahead: None, closed: false };
    player.reach(&dialogue.after);
    let mut last = 0;
    for (line, turn) in &dialogue.turns {
        last = *line;
        player.play(turn).map_err(|what| Failure { line: *line, what })?;
    }
    player.end().map_err(|what| Failure { line: last, what })
}

impl Player<'_> {
    /// Goes to a state without looking at the way.
    fn reach(&mut self, state: &str) {
        let way = ["greeting", "ehlo", "mail", "rcpt", "data"];
        let (way, hello) = match state {
            "nothing" => return,
            "helo" => (&way[..2], "HELO client.example.org\r\n"),
            _ => {
                let place = way.iter().position(|known| *known == state).unwrap_or_else(|| panic!("no state {state}"));
                (&way[..=place], "EHLO client.example.org\r\n")
            }
        };
        for state in way {
            match *state {
                "greeting" => self.session.greet(reply("220 relay.example.org ESMTP")),
                "ehlo" => {
                    self.session.feed(hello.as_bytes());
                    self.session.step();
                    self.session.announce(&self.dialogue.offers);
                }
                "mail" => self.pass("MAIL FROM:<alice@example.org>", "250 2.1.0 Ok"),
                "rcpt" => self.pass("RCPT TO:<bob@example.net>", "250 2.1.5 Ok"),
                _ => self.pass("DATA", "354 go"),
            }
        }
        self.session.output().clear();
    }

    fn pass(&mut self, line: &str, answer: &str) {
        self.session.feed(format!("{line}\r\n").as_bytes());
        self.session.step();
        self.session.answered(reply(answer));
    }

    fn play(&mut self, turn: &Turn) -> Result<(), String> {
        match turn {
            Turn::Client(octets) => self.unsent.extend(octets),
            Turn::Server(line) => return self.expect_output(line),
            Turn::Step(text) => return self.expect_step(Seen::Step(text.clone())),
            Turn::Content(octets) => return self.expect_content(octets),
            Turn::Wait => return self.expect_step(Seen::AwaitAnswers),
            Turn::Announce => self.session.announce(&self.dialogue.offers),
            Turn::Answer(reply) => self.session.answered(reply.clone()),
            Turn::Greet(reply) => self.session.greet(reply.clone()),
            Turn::Say(reply) => self.session.say(reply.clone()),
            Turn::Refuse(reply) => {
                return if self.session.refuse_chunk(reply) { Ok(()) } else { Err("no chunk is open".into()) };
            }
            Turn::TlsStarted => self.session.tls_started(),
        }
        Ok(())
    }

    fn next(&mut self) -> Seen {
        if let Some(seen) = self.ahead.take() {
            return seen;
        }
        loop {
            let seen = match self.session.step() {
                Step::NeedInput => {
                    let count = self.piece.min(self.unsent.len());
                    let octets: Vec<u8> = self.unsent.drain(..count).collect();
                    if octets.is_empty() {
                        return Seen::Idle;
                    }
                    self.session.feed(&octets);
                    continue;
                }
                Step::AwaitAnswers => Seen::AwaitAnswers,
                Step::Hello { name, extended: true } => Seen::Step(format!("EHLO {name}")),
                Step::Hello { name, extended: false } => Seen::Step(format!("HELO {name}")),
                Step::Mail(mail) => Seen::Step(show_mail(&mail)),
                Step::Rcpt(rcpt) => Seen::Step(show_rcpt(&rcpt)),
                Step::Data { .. } => Seen::Step("DATA".into()),
                Step::Content(content, _) => Seen::Content(content.to_vec()),
                Step::EndOfData(flaws) => {
                    let named = [
                        (flaws.bare_cr, " bare_cr"),
                        (flaws.bare_lf, " bare_lf"),
                        (flaws.nul, " nul"),
                        (flaws.unended, " unended"),
                    ];
                    let flaws: String = named.iter().filter(|(found, _)| *found).map(|(_, name)| *name).collect();
                    Seen::Step(format!("END{flaws}"))
                }
                Step::Auth(auth) => Seen::Step(show_auth(&auth)),
                Step::AuthResponse(response) => Seen::Step(format!("RESPONSE {}", response.as_str())),
                Step::AuthAbort => Seen::Step("ABORT".into()),
                Step::Reset => Seen::Step("RESET".into()),
                Step::StartTls => {
                    // What the client sent along stays in the session and must be forgotten there.
                    let octets: Vec<u8> = self.unsent.drain(..).collect();
                    self.session.feed(&octets);
                    Seen::Step("STARTTLS".into())
                }
                Step::Close(reason) => {
                    self.closed = true;
                    self.unsent.clear();
                    Seen::Step(format!("CLOSE {}", reason.as_str()))
                }
            };
            return seen;
        }
    }

    fn expect_step(&mut self, expected: Seen) -> Result<(), String> {
        match self.next() {
            seen if seen == expected => Ok(()),
            seen => Err(format!("expected {expected:?}, saw {seen:?}; {}", self.show_output())),
        }
    }

    fn expect_content(&mut self, expected: &[u8]) -> Result<(), String> {
        let mut content = Vec::new();
        while content.len() < expected.len() {
            match self.next() {
                Seen::Content(more) => content.extend_from_slice(&more),
                seen => return Err(format!("expected content, saw {seen:?}, content so far {:?}", show(&content))),
            }
        }
        if content == expected {
            Ok(())
        } else {
            Err(format!("expected {:?}, saw {:?}", show(expected), show(&content)))
        }
    }

    fn expect_output(&mut self, line: &[u8]) -> Result<(), String> {
        if !self.session.output().starts_with(line) && self.ahead.is_none() {
            self.ahead = Some(self.next()).filter(|seen| !matches!(seen, Seen::Idle | Seen::AwaitAnswers));
        }
        if self.session.output().starts_with(line) {
            self.session.output().drain(..line.len());
            return Ok(());
        }
        Err(format!("expected {:?}; {}, ahead {:?}", show(line), self.show_output(), self.ahead))
    }

    /// Nothing may be left over.
    fn end(&mut self) -> Result<(), String> {
        if !self.closed {
            match self.next() {
                Seen::Idle | Seen::AwaitAnswers => {}
                seen => return Err(format!("at the end there was another step: {seen:?}")),
            }
        }
        let unread = self.unsent.len();
        if unread > 0 || !self.session.output().is_empty() {
            return Err(format!("at the end {unread} octets were not read; {}", self.show_output()));
        }
        // A line that has no end could still be waiting; another then makes a reply, or an ask.
        if !self.closed && !self.session.has_outstanding() && !self.session.in_data() {
            self.session.feed(b"NOOP\r\n");
            self.session.step();
            let output = self.show_output();
            let answers: [&[u8]; 2] = [b"250 2.0.0 Ok\r\n", b"503 5.5.1 Error: no mail service here, please QUIT\r\n"];
            if !answers.contains(&self.session.output().as_slice()) {
                return Err(format!("at the end NOOP is not answered as such; {output}"));
            }
        }
        Ok(())
    }

    fn show_output(&mut self) -> String {
        format!("output {:?}", show(self.session.output()))
    }
}

fn show(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

/// The path and what was read from the parameters; those follow as they were given.
fn show_mail(mail: &Mail) -> String {
    let path = mail.reverse_path.as_str();
    let parameters = show_parameters(&mail.parameters);
    assert_eq!(mail.smtp_utf8, parameters.to_ascii_uppercase().contains(" SMTPUTF8"));
    assert_eq!(mail.size.is_some(), parameters.to_ascii_uppercase().contains(" SIZE="));
    format!("MAIL <{path}>{parameters}")
}

fn show_auth(auth: &Auth) -> String {
    let initial = auth.initial.as_ref().map(|initial| format!(" {}", initial.as_str()));
    format!("AUTH {}{}", auth.mechanism.as_str(), initial.unwrap_or_default())
}

fn show_rcpt(rcpt: &Rcpt) -> String {
    format!("RCPT <{}>{}", rcpt.forward_path, show_parameters(&rcpt.parameters))
}

fn show_parameters(parameters: &[Parameter]) -> String {
    let show = |parameter: &Parameter| match &parameter.value {
        Some(value) => format!(" {}={value}", parameter.keyword),
        None => format!(" {}", parameter.keyword),
    };
    parameters.iter().map(show).collect()
}
