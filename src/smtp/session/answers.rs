//! Answers to asks, the replies behind them, and the octets of messages.

use super::Flaws;
use super::state::{Ask, ChunkSize, Chunks, Counts, Phase, Slot};
use super::{CloseReason, MAX_IDLE_COMMANDS, Session, Step, replies, trace};
use crate::mail::{Reply, ReplyClass};
use crate::smtp::Extensions;
use crate::smtp::data::{Chunk, Decoder};
use std::collections::VecDeque;

/// Whether a refusal of ours says that the client errs in the protocol.
pub(super) fn is_error(reply: &Reply) -> bool {
    matches!(reply.code(), 500..=504 | 555)
}

/// The message is complete. What follows it belongs to another transaction.
pub(super) fn ask_end(
    phase: &mut Phase,
    transaction: &mut Option<super::Transaction>,
    queue: &mut VecDeque<Slot>,
    flaws: Flaws,
) -> Step<'static> {
    *phase = Phase::Commands;
    *transaction = None;
    queue.push_back(Slot::Ask(Ask::EndOfData));
    Step::EndOfData(flaws)
}

impl Session {
    /// Answers [`Step::Hello`]: tells the client what is offered (nothing after HELO) and remembers it. STARTTLS is
    /// left out when TLS is on (RFC 3207, section 4.2), REQUIRETLS when it is not (RFC 8689, section 2), BINARYMIME
    /// always. Without such an ask nothing happens.
    pub fn announce(&mut self, offers: &Extensions) {
        let Phase::HelloAsked { extended } = self.phase else { return };
        self.announced = Extensions::default();
        if extended {
            self.announced = Extensions {
                starttls: offers.starttls && !self.tls,
                binary_mime: false,
                require_tls: offers.require_tls && self.tls,
                ..offers.clone()
            };
        }
        self.introduced = true;
        let reply = if extended {
            replies::ehlo(&self.settings.hostname, &self.name, &self.announced)
        } else {
            replies::helo(&self.settings.hostname, &self.name)
        };
        self.answered(reply);
    }

    /// Answers the oldest ask that has no answer, and with it the client. A 421 is passed on and ends the session
    /// (RFC 5321, section 3.8); asks that are left need no answer then. Without an ask nothing happens.
    pub fn answered(&mut self, reply: Reply) {
        let Some(Slot::Ask(ask)) = self.queue.pop_front() else { return };
        let mut silent = false;
        let mut error = false;
        match ask {
            Ask::Hello => self.phase = Phase::Commands,
            Ask::Mail if reply.is_completion() => self.change_transaction(|transaction| transaction.begun = true),
            // What was pipelined behind it is asked already and the driver answers; what comes now is out of sequence.
            Ask::Mail => self.transaction = None,
            Ask::Rcpt => self.change_transaction(|transaction| {
                transaction.outstanding = transaction.outstanding.saturating_sub(1);
                transaction.accepted += usize::from(reply.is_completion());
                transaction.refused |= !reply.is_completion();
            }),
            Ask::Data => silent = self.open_data(&reply),
            Ask::EndOfData => self.end_transaction(&reply),
            Ask::Auth => error = self.end_auth(&reply),
        }
        // A 421 isn't held back for the octets of a chunk: nothing is read behind it.
        if !silent || reply.code() == 421 {
            self.put(&reply);
        }
        self.close_at_421(&reply);
        if error {
            self.counts.guesses = self.counts.guesses.saturating_add(1);
            self.count_error();
        }
        while let Some(Slot::Reply(_)) = self.queue.front() {
            if let Some(Slot::Reply(reply)) = self.queue.pop_front() {
                self.put(&reply);
            }
        }
    }

    /// Refuses the message while octets of a chunk of it come that is not the last: what is left of the chunk passes
    /// unread, then the client gets `reply`, and no further chunk is taken (RFC 3030, section 2). Tells whether it is so; at
    /// any other time nothing happens: the last chunk, and DATA, have their answer at the end of data.
    pub fn refuse_chunk(&mut self, reply: &Reply) -> bool {
        let Phase::Chunk { left, chunk: ChunkSize { last: false, .. } } = self.phase else { return false };
        self.change_transaction(|transaction| transaction.chunks = Chunks::Failed);
        self.phase = Phase::Discard { left, reply: reply.clone(), error: false };
        true
    }

    /// After a 421 the connection is closed.
    pub(super) fn close_at_421(&mut self, reply: &Reply) {
        if reply.code() == 421 {
            self.close(CloseReason::Unavailable);
            self.queue.clear();
        }
    }

    /// Reads nothing more; what was asked may still be answered.
    pub(super) fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.phase = Phase::Closing(reason);
            self.input.clear();
        }
    }

    /// Replies for ourselves, behind the asks that are outstanding.
    pub(super) fn reply(&mut self, reply: Reply) {
        if self.queue.is_empty() {
            self.put(&reply);
        } else {
            self.queue.push_back(Slot::Reply(reply));
        }
    }

    /// Refuses for ourselves. Protocol errors are counted: a client that makes many of them is lost or an attacker.
    pub(super) fn refuse(&mut self, reply: Reply) {
        let error = is_error(&reply);
        self.reply(reply);
        if error {
            self.count_error();
        }
    }

    pub(super) fn count_error(&mut self) {
        self.counts.errors = self.counts.errors.saturating_add(1);
        self.errors = self.errors.saturating_add(1);
        if self.counts.errors >= self.settings.max_errors.max(1) {
            self.reply(replies::too_many_errors(&self.settings.hostname));
            self.close(CloseReason::TooManyErrors);
        }
    }

    /// Counts a command that brings no mail forward.
    pub(super) fn count_idle(&mut self) {
        self.counts.idle = self.counts.idle.saturating_add(1);
        if self.counts.idle > MAX_IDLE_COMMANDS {
            self.count_error();
        }
    }

    fn change_transaction(&mut self, change: impl FnOnce(&mut super::Transaction)) {
        if let Some(transaction) = &mut self.transaction {
            change(transaction);
        }
    }

    /// DATA is answered; true when the client shall not see the reply, or not yet.
    fn open_data(&mut self, reply: &Reply) -> bool {
        let Phase::DataAsked(chunk) = self.phase else { return false };
        let open = reply.class() == ReplyClass::Intermediate;
        match chunk {
            None => {
                self.phase = if open { Phase::Data(Box::new(Decoder::new())) } else { Phase::Commands };
                false
            }
            Some(chunk) if open => {
                self.change_transaction(|transaction| transaction.chunks = Chunks::Begun(Default::default()));
                self.phase = Phase::Chunk { left: chunk.size, chunk };
                true
            }
            Some(chunk) => {
                self.change_transaction(|transaction| transaction.chunks = Chunks::Failed);
                self.phase = Phase::Discard { left: chunk.size, reply: reply.clone(), error: false };
                true
            }
        }
    }

    fn end_transaction(&mut self, reply: &Reply) {
        if reply.is_completion() {
            // Who guesses passwords does not become honest by a message.
            let guesses = self.counts.guesses;
            self.counts = Counts { errors: guesses, guesses, idle: 0 };
        }
    }

    /// The octets behind a 354.
    pub(super) fn step_data(&mut self) -> Step<'_> {
        let Phase::Data(decoder) = &mut self.phase else { return Step::NeedInput };
        let (rest, start) = self.input.rest_and_start();
        let (used, chunk) = decoder.decode(rest);
        *start += used;
        match chunk {
            Chunk::Content(content) => Step::Content(content, decoder.flaws()),
            Chunk::NeedInput => Step::NeedInput,
            Chunk::End => {
                let flaws = decoder.flaws();
                trace::hear_message(&mut self.trace);
                let Self { phase, transaction, queue, .. } = self;
                ask_end(phase, transaction, queue, flaws)
            }
        }
    }

    /// The octets of a chunk that is taken; some are left.
    pub(super) fn step_chunk(&mut self) -> Step<'_> {
        let Phase::Chunk { left, .. } = &mut self.phase else { return Step::NeedInput };
        let (rest, start) = self.input.rest_and_start();
        let content = usize::try_from(*left).ok().and_then(|left| rest.get(..left)).unwrap_or(rest);
        if content.is_empty() {
            return Step::NeedInput;
        }
        *start += content.len();
        *left -= content.len() as u64;
        let mut flaws = Flaws::default();
        if let Some(Chunks::Begun(scanner)) = self.transaction.as_mut().map(|transaction| &mut transaction.chunks) {
            scanner.scan(content);
            flaws = scanner.flaws();
        }
        // A chunk's length says where it ends (RFC 3030, section 2): line ends mean nothing here, but elsewhere they may.
        Step::Content(content, flaws)
    }

    /// Drops what is refused, and ends a chunk that has passed.
    pub(super) fn settle_chunk(&mut self) {
        match &mut self.phase {
            Phase::Discard { left, reply, error } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.rest().len());
                self.input.consume(count);
                *left -= count as u64;
                if *left == 0 {
                    let (reply, error) = (reply.clone(), *error);
                    self.phase = Phase::Commands;
                    self.reply(reply.clone());
                    self.close_at_421(&reply);
                    if error {
                        self.count_error();
                    }
                }
            }
            Phase::Chunk { left: 0, chunk: ChunkSize { size, last: false } } => {
                let size = *size;
                self.phase = Phase::Commands;
                self.reply(replies::chunk_taken(size));
                // A chunk of nothing brings no mail forward.
                if size == 0 {
                    self.count_idle();
                }
            }
            _ => {}
        }
    }
}
