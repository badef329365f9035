//! AUTH (RFC 4954): when it may come, and the client's part in what follows.
//!
//! What is asked of the client and whether it has authenticated says whoever answers; here is when it may speak and how
//! long. Pipelined commands wait until all is said (section 4).

use super::commands::{Asked, Outcome};
use super::input::Line;
use super::state::{Ask, Phase, Slot};
use super::{MAX_AUTH_LINE, Session, Step, replies};
use crate::mail::{Reply, ReplyClass};
use crate::smtp::command::AuthArguments;
use crate::smtp::{Auth, Mechanism, Secret};

/// Whether a line, or its beginning, is AUTH with arguments.
pub(super) fn is_auth(line: &[u8]) -> bool {
    line.split_first_chunk::<5>()
        .is_some_and(|(first, _)| first.eq_ignore_ascii_case(b"AUTH ") || first.eq_ignore_ascii_case(b"AUTH\t"))
}

impl Session {
    pub(super) fn auth(&mut self, arguments: &AuthArguments) -> Outcome {
        if !self.introduced {
            return self.out_of_sequence("send EHLO first");
        }
        if self.authenticated {
            return self.out_of_sequence("already authenticated");
        }
        if self.announced.auth.is_empty() {
            return self.refusal(replies::not_implemented());
        }
        if self.has_outstanding() {
            return Outcome::Wait;
        }
        if self.transaction.is_some() {
            return self.out_of_sequence("AUTH within a transaction");
        }
        match read(arguments.as_str(), &self.announced.auth) {
            Ok(auth) => {
                self.phase = Phase::AuthAsked;
                Outcome::Ask(Asked::Auth(auth))
            }
            Err(reply) => self.refusal(reply),
        }
    }

    /// AUTH or a response is answered; true when the attempt has failed. Why is not looked at: who can have any number of
    /// attempts at a server that is not well has them still when it is better.
    pub(super) fn end_auth(&mut self, reply: &Reply) -> bool {
        self.phase = if reply.code() == 334 { Phase::AuthResponse } else { Phase::Commands };
        self.authenticated = reply.code() == 235;
        matches!(reply.class(), ReplyClass::Transient | ReplyClass::Permanent)
    }

    /// The client's next response; nothing when something else is due.
    pub(super) fn step_auth(&mut self) -> Option<Step<'static>> {
        let length = match self.input.next_line(MAX_AUTH_LINE) {
            Line::Partial => return Some(Step::NeedInput),
            Line::TooLong => {
                self.input.swallow();
                return None;
            }
            Line::Swallowed => {
                self.hear_of("a response that is too long");
                return Some(self.abort_auth(replies::response_too_long()));
            }
            Line::Whole(length) => length,
        };
        let response = Secret::read(self.input.rest().get(..length).unwrap_or_default());
        self.input.wipe(length + 2);
        self.hear_of("a response");
        let Some(response) = response else { return Some(self.abort_auth(replies::not_base64())) };
        // Two that never come to an end would have each other for ever.
        self.count_idle();
        if matches!(self.phase, Phase::Closing(_)) {
            return None;
        }
        self.phase = Phase::AuthAsked;
        self.queue.push_back(Slot::Ask(Ask::Auth));
        Some(Step::AuthResponse(response))
    }

    fn abort_auth(&mut self, reply: Reply) -> Step<'static> {
        self.phase = Phase::Commands;
        self.refuse(reply);
        Step::AuthAbort
    }
}

/// The arguments: a mechanism that is offered, and what may be its first response.
fn read(arguments: &str, offered: &[Mechanism]) -> Result<Auth, Reply> {
    let mut words = arguments.split([' ', '\t']).filter(|word| !word.is_empty());
    let (Some(name), initial, None) = (words.next(), words.next(), words.next()) else {
        return Err(Reply::new(501, "5.5.4 Syntax: AUTH mechanism [initial-response]"));
    };
    let mechanism = Mechanism::parse(name).filter(|mechanism| offered.contains(mechanism));
    let mechanism = mechanism.ok_or_else(replies::unknown_mechanism)?;
    let initial = initial.map(|word| Secret::read(word.as_bytes()).filter(|secret| secret.as_str() != "*"));
    match initial {
        Some(None) => Err(replies::not_base64()),
        Some(secret) => Ok(Auth { mechanism, initial: secret }),
        None => Ok(Auth { mechanism, initial: None }),
    }
}
