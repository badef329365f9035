//! The order of commands (RFC 5321, section 4.1.4): what may come when, and what is asked of the driver.

use super::input::Line;
use super::state::{Ask, ChunkSize, Chunks, Phase, Slot, Transaction};
use super::{CloseReason, MAX_AUTH_LINE, MAX_COMMAND_LINE, MAX_OUTSTANDING, Session, Step, answers, auth, replies};
use crate::mail::Reply;
use crate::smtp::command::{Command, is_bdat, is_http_request, unreadable_bdat};
use crate::smtp::data::Flaws;
use crate::smtp::proxy::is_header_line;
use crate::smtp::{Auth, Mail, Rcpt};

/// What became of a command.
pub(super) enum Outcome {
    /// It is carried out or refused, and its line is read.
    Done,
    /// It is carried out, its line is read, and the driver has something to do.
    Ask(Asked),
    /// It waits for outstanding answers; its line is read again.
    Wait,
    /// The open transaction ends first; its line is read again.
    ResetFirst,
}

/// A step that holds nothing of the session's.
pub(super) enum Asked {
    Hello { extended: bool },
    Mail(Mail),
    Rcpt(Rcpt),
    Data { chunked: bool },
    Auth(Auth),
    StartTls,
}

impl Session {
    /// Reads commands until one needs the driver.
    pub(super) fn step_commands(&mut self) -> Step<'_> {
        loop {
            self.settle_chunk();
            if matches!(self.phase, Phase::Chunk { left: 1.., .. }) {
                return self.step_chunk();
            }
            if let Some(step) = self.step_without_command() {
                return step;
            }
            if matches!(self.phase, Phase::AuthResponse) {
                match self.step_auth() {
                    Some(step) => return step,
                    None => continue,
                }
            }
            // Replies of our own count too, or a client could let any number of them wait behind one ask.
            if self.queue.len() >= MAX_OUTSTANDING {
                return Step::AwaitAnswers;
            }
            let may_be_auth = !self.announced.auth.is_empty() && auth::is_auth(self.input.rest());
            let longest = if may_be_auth { MAX_AUTH_LINE } else { MAX_COMMAND_LINE };
            let length = match self.input.next_line(longest) {
                Line::Partial => return Step::NeedInput,
                Line::Swallowed | Line::TooLong if self.ends() => return Step::AwaitAnswers,
                Line::Swallowed => {
                    self.hear_of("a line that is too long");
                    self.refuse(replies::line_too_long());
                    continue;
                }
                Line::TooLong if is_http_request(self.input.rest()) => {
                    self.close_on_http();
                    continue;
                }
                Line::TooLong if is_bdat(self.input.rest()) => {
                    self.close_on_bdat();
                    continue;
                }
                Line::TooLong => {
                    self.input.swallow();
                    continue;
                }
                Line::Whole(length) => length,
            };
            let line = self.input.rest().get(..length).unwrap_or_default();
            if is_http_request(line) && !self.ends() {
                self.close_on_http();
                continue;
            }
            if !self.introduced && is_header_line(line) {
                self.hear_of("a PROXY header");
                self.reply(replies::no_proxy_header(&self.settings.hostname));
                self.close(CloseReason::ProxyHeader);
                continue;
            }
            let command = Command::parse(line);
            if command.is_err() && is_bdat(line) && !self.ends() {
                self.close_on_bdat();
                continue;
            }
            if self.ends() && !self.may_follow_the_end(&command) {
                return Step::AwaitAnswers;
            }
            self.hear(&command, length);
            match self.obey(command) {
                Outcome::Wait => {
                    self.unhear();
                    return Step::AwaitAnswers;
                }
                Outcome::ResetFirst => {
                    self.unhear();
                    self.transaction = None;
                    return Step::Reset;
                }
                Outcome::Done => self.drop_line(length),
                Outcome::Ask(asked) => {
                    self.drop_line(length);
                    return self.show(asked);
                }
            }
        }
    }

    /// The line is read. Whatever became of an AUTH, it may hold a password.
    fn drop_line(&mut self, length: usize) {
        if auth::is_auth(self.input.rest()) {
            self.input.wipe(length + 2);
        } else {
            self.input.consume(length + 2);
        }
    }

    /// The step that is due whatever the client says.
    fn step_without_command(&mut self) -> Option<Step<'static>> {
        match self.phase {
            Phase::Closing(_) if self.has_outstanding() => Some(Step::AwaitAnswers),
            Phase::Closing(_) if self.transaction.take().is_some() => Some(Step::Reset),
            Phase::Closing(reason) => Some(Step::Close(reason)),
            Phase::HelloAsked { .. } | Phase::DataAsked(_) | Phase::AuthAsked => Some(Step::AwaitAnswers),
            Phase::StartTls => Some(Step::StartTls),
            Phase::Chunk { left: 0, chunk: ChunkSize { last: true, .. } } => Some(self.end_chunks()),
            Phase::Chunk { .. } | Phase::Discard { .. } | Phase::Data(_) => Some(Step::NeedInput),
            Phase::Commands | Phase::AuthResponse => None,
        }
    }

    fn end_chunks(&mut self) -> Step<'static> {
        let flaws = match self.transaction.as_ref().map(|transaction| &transaction.chunks) {
            Some(Chunks::Begun(scanner)) => scanner.finish(),
            _ => Flaws::default(),
        };
        let Self { phase, transaction, queue, .. } = self;
        answers::ask_end(phase, transaction, queue, flaws)
    }

    /// The end of a message is asked, and not answered.
    fn ends(&self) -> bool {
        matches!(self.queue.front(), Some(Slot::Ask(Ask::EndOfData)))
    }

    /// Whether a command is carried out before the end of the message in front of it is answered (RFC 2920, section 3.1): the
    /// beginning of a transaction, as far as nothing is wrong with it. Errors count from the answer on.
    fn may_follow_the_end(&self, command: &Result<Command, Reply>) -> bool {
        match (command, &self.transaction) {
            (Ok(Command::Mail(mail)), None) => mail.check(&self.announced).is_ok(),
            (Ok(Command::Rcpt(rcpt)), Some(begun)) => {
                rcpt.check(&self.announced, begun.smtp_utf8).is_ok() && begun.outstanding < self.settings.max_recipients
            }
            (Ok(Command::Data), Some(begun)) => begun.outstanding > 0,
            _ => false,
        }
    }

    fn close_on_http(&mut self) {
        self.hear_of("a request of HTTP");
        self.reply(replies::not_a_web_server(&self.settings.hostname));
        self.close(CloseReason::NotSmtp);
    }

    /// What follows may be a chunk, of whatever length.
    fn close_on_bdat(&mut self) {
        self.errors = self.errors.saturating_add(1);
        self.hear_of("BDAT without a size that can be read");
        self.reply(unreadable_bdat());
        self.close(CloseReason::UnreadableBdat);
    }

    fn show(&mut self, asked: Asked) -> Step<'_> {
        let (ask, step) = match asked {
            Asked::StartTls => return Step::StartTls,
            Asked::Hello { extended } => (Ask::Hello, Step::Hello { name: &self.name, extended }),
            Asked::Mail(mail) => (Ask::Mail, Step::Mail(mail)),
            Asked::Rcpt(rcpt) => (Ask::Rcpt, Step::Rcpt(rcpt)),
            Asked::Data { chunked } => (Ask::Data, Step::Data { chunked }),
            Asked::Auth(auth) => (Ask::Auth, Step::Auth(auth)),
        };
        self.queue.push_back(Slot::Ask(ask));
        step
    }

    fn obey(&mut self, command: Result<Command, Reply>) -> Outcome {
        if self.refused && command != Ok(Command::Quit) {
            // RFC 5321, section 3.1: after a greeting of 554 only QUIT is left.
            return self.forbid(&command, replies::bad_sequence("no mail service here, please QUIT"));
        }
        if self.settings.requires_tls && !self.tls {
            use Command::{Ehlo, Noop, Quit, StartTls};
            if !matches!(command, Ok(Noop | Ehlo(_) | StartTls | Quit)) {
                return self.forbid(&command, replies::tls_required());
            }
        }
        match command {
            Err(reply) => self.refusal(reply),
            Ok(Command::Ehlo(name)) => self.hello(name, true),
            Ok(Command::Helo(name)) => self.hello(name, false),
            Ok(Command::Mail(mail)) => self.mail(mail),
            Ok(Command::Rcpt(rcpt)) => self.rcpt(rcpt),
            Ok(Command::Data) => self.data(),
            Ok(Command::Bdat { size, last }) => self.bdat(ChunkSize { size, last }),
            Ok(Command::Rset) => self.rset(),
            Ok(Command::Quit) => self.quit(),
            Ok(Command::StartTls) => self.start_tls(),
            Ok(Command::Noop) => self.idle(replies::ok()),
            Ok(Command::Help) => self.idle(replies::help()),
            Ok(Command::Vrfy) => self.idle(replies::cannot_verify()),
            Ok(Command::Auth(arguments)) => self.auth(&arguments),
            // EXPN is for whoever runs the list (RFC 5321, section 7.3).
            Ok(Command::Expn) => self.refusal(replies::not_implemented()),
        }
    }

    pub(super) fn refusal(&mut self, reply: Reply) -> Outcome {
        self.refuse(reply);
        Outcome::Done
    }

    /// Refuses whatever it is; a chunk passes first, or its octets would be read as commands.
    fn forbid(&mut self, command: &Result<Command, Reply>, reply: Reply) -> Outcome {
        match command {
            Ok(Command::Bdat { size, .. }) => {
                let error = answers::is_error(&reply);
                self.phase = Phase::Discard { left: *size, reply, error };
                Outcome::Done
            }
            _ => self.refusal(reply),
        }
    }

    pub(super) fn out_of_sequence(&mut self, why: &str) -> Outcome {
        self.refusal(replies::bad_sequence(why))
    }

    fn idle(&mut self, reply: Reply) -> Outcome {
        self.reply(reply);
        self.count_idle();
        Outcome::Done
    }

    /// What must come first before a command that ends the transaction: answers, then its end.
    fn unrest(&self) -> Option<Outcome> {
        match &self.transaction {
            _ if self.has_outstanding() => Some(Outcome::Wait),
            Some(_) => Some(Outcome::ResetFirst),
            None => None,
        }
    }

    /// RFC 5321, section 4.1.4: EHLO in a session begins it anew.
    fn hello(&mut self, name: String, extended: bool) -> Outcome {
        if let Some(outcome) = self.unrest() {
            return outcome;
        }
        self.count_idle();
        if matches!(self.phase, Phase::Closing(_)) {
            return Outcome::Done;
        }
        self.name = name;
        self.phase = Phase::HelloAsked { extended };
        Outcome::Ask(Asked::Hello { extended })
    }

    fn mail(&mut self, mail: Mail) -> Outcome {
        if !self.introduced {
            return self.out_of_sequence("send EHLO first");
        }
        // An answer that is still to come may end the transaction, or be meant for one that has ended. That to the end of a
        // message is known by its place.
        if self.has_outstanding() && !(self.ends() && self.queue.len() == 1) {
            return Outcome::Wait;
        }
        if self.transaction.is_some() {
            return self.out_of_sequence("nested MAIL command");
        }
        if let Err(reply) = mail.check(&self.announced) {
            return self.refusal(reply);
        }
        self.transaction = Some(Transaction { smtp_utf8: mail.smtp_utf8, ..Transaction::default() });
        Outcome::Ask(Asked::Mail(mail))
    }

    fn rcpt(&mut self, rcpt: Rcpt) -> Outcome {
        let Some(transaction) = &mut self.transaction else { return self.out_of_sequence("need MAIL command") };
        if !matches!(transaction.chunks, Chunks::None) {
            return self.out_of_sequence("the message has begun");
        }
        if let Err(reply) = rcpt.check(&self.announced, transaction.smtp_utf8) {
            transaction.refused = true;
            return self.refusal(reply);
        }
        if transaction.accepted + transaction.outstanding >= self.settings.max_recipients {
            // Those without an answer may be refused and leave room.
            if transaction.outstanding > 0 {
                return Outcome::Wait;
            }
            return self.refusal(replies::too_many_recipients());
        }
        transaction.outstanding += 1;
        Outcome::Ask(Asked::Rcpt(rcpt))
    }

    /// Why the message may not come, when it may not.
    fn obstacle_to_message(&self) -> Option<Reply> {
        match &self.transaction {
            None => Some(replies::bad_sequence("need MAIL command")),
            Some(transaction) if transaction.accepted + transaction.outstanding > 0 => None,
            Some(Transaction { refused: true, .. }) => Some(replies::no_valid_recipients()),
            Some(_) => Some(replies::bad_sequence("need RCPT command")),
        }
    }

    fn data(&mut self) -> Outcome {
        if let Some(reply) = self.obstacle_to_message() {
            return self.refusal(reply);
        }
        // RFC 3030, section 2: DATA and BDAT don't mix in one transaction.
        if self.transaction.as_ref().is_some_and(|transaction| !matches!(transaction.chunks, Chunks::None)) {
            return self.out_of_sequence("the message has begun");
        }
        self.phase = Phase::DataAsked(None);
        Outcome::Ask(Asked::Data { chunked: false })
    }

    fn bdat(&mut self, chunk: ChunkSize) -> Outcome {
        let chunks = self.transaction.as_ref().map(|transaction| &transaction.chunks);
        let obstacle = match chunks {
            _ if !self.announced.chunking => Some(replies::not_implemented()),
            Some(Chunks::Failed) => Some(replies::bad_sequence("a chunk of the message was refused")),
            _ => self.obstacle_to_message(),
        };
        if let Some(reply) = obstacle {
            let error = reply.code() != replies::no_valid_recipients().code();
            self.phase = Phase::Discard { left: chunk.size, reply, error };
            return Outcome::Done;
        }
        if matches!(chunks, Some(Chunks::Begun(_))) {
            self.phase = Phase::Chunk { left: chunk.size, chunk };
            return Outcome::Done;
        }
        self.phase = Phase::DataAsked(Some(chunk));
        Outcome::Ask(Asked::Data { chunked: true })
    }

    fn rset(&mut self) -> Outcome {
        self.unrest().unwrap_or_else(|| self.idle(replies::ok()))
    }

    fn quit(&mut self) -> Outcome {
        if let Some(outcome) = self.unrest() {
            return outcome;
        }
        self.reply(replies::goodbye());
        self.close(CloseReason::Quit);
        Outcome::Done
    }

    /// RFC 3207, section 4.
    fn start_tls(&mut self) -> Outcome {
        if !self.introduced {
            return self.out_of_sequence("send EHLO first");
        }
        if self.tls {
            return self.out_of_sequence("TLS is already on");
        }
        if !self.announced.starttls {
            return self.refusal(replies::not_implemented());
        }
        if let Some(outcome) = self.unrest() {
            return outcome;
        }
        self.reply(replies::ready_for_tls());
        self.phase = Phase::StartTls;
        Outcome::Ask(Asked::StartTls)
    }
}
