//! What a session remembers between two octets.

use super::CloseReason;
use crate::mail::Reply;
use crate::smtp::data::{Decoder, FlawScanner};

/// Where the conversation stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Commands are read.
    Commands,
    /// HELO or EHLO is asked; `extended` tells which.
    HelloAsked { extended: bool },
    /// DATA is asked, or by BDAT the same with its first chunk.
    DataAsked(Option<ChunkSize>),
    /// The octets behind a 354.
    Data(Box<Decoder>),
    /// The octets of a chunk (RFC 3030, section 2).
    Chunk { left: u64, chunk: ChunkSize },
    /// The octets of a chunk that is refused. They must pass before the reply, or they would be read as commands
    /// (RFC 3030, section 2). An error of the client counts as one.
    Discard { left: u64, reply: Reply, error: bool },
    /// AUTH is asked, or the client's response.
    AuthAsked,
    /// The client's response is waited for.
    AuthResponse,
    /// The handshake is waited for.
    StartTls,
    /// All is said.
    Closing(CloseReason),
}

/// What BDAT said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkSize {
    pub(super) size: u64,
    pub(super) last: bool,
}

/// What stands in the queue of replies.
#[derive(Debug)]
pub(super) enum Slot {
    /// An ask of the driver; the reply is yet to come.
    Ask(Ask),
    /// A reply of ours that must not overtake the asks before it.
    Reply(Reply),
}

/// What the driver was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Hello,
    Mail,
    Rcpt,
    Data,
    EndOfData,
    Auth,
}

/// A mail transaction (RFC 5321, section 3.3) between MAIL and the end of its message.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// MAIL asked for SMTPUTF8.
    pub(super) smtp_utf8: bool,
    /// MAIL is answered, with a 2yz.
    pub(super) begun: bool,
    /// Recipients that are answered with a 2yz.
    pub(super) accepted: usize,
    /// Recipients that are not answered.
    pub(super) outstanding: usize,
    /// Some recipient was refused.
    pub(super) refused: bool,
    /// How far BDAT has come.
    pub(super) chunks: Chunks,
}

/// The message in chunks.
#[derive(Debug, Default)]
pub(super) enum Chunks {
    /// No BDAT yet.
    #[default]
    None,
    /// At least one chunk is taken.
    Begun(FlawScanner),
    /// A chunk was refused, so no other may be taken: the message would lack it (RFC 3030, section 2).
    Failed,
}

/// What is counted against a client; an accepted message starts it again, but for attempts to authenticate.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Protocol errors.
    pub(super) errors: u32,
    /// Those of them that are failed attempts to authenticate.
    pub(super) guesses: u32,
    /// Commands that bring no mail forward.
    pub(super) idle: u32,
}
