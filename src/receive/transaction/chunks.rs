//! Messages in chunks (RFC 3030): what only they can hold, and what the next hop thinks of them before their end.
//!
//! A chunk says its length, so line ends in it mean nothing: bare CR and LF, and octets that don't end with CRLF, pass
//! from chunks to chunks as they are. DATA can't say them; there they are refused, and nothing of them was relayed: for good
//! where the client says DATA, for now where it was offered CHUNKING and this connection to the next hop lacks it.
//!
//! The journal record goes to its archive by DATA. It holds an original without final CRLF exactly, since the record goes on
//! behind it. One with bare CR or LF it can't bring there exactly and safely, so that a message which gets a record, or
//! whose header alone says whose it is, must have none.

use super::super::peer::Peer;
use super::super::policy::{Journaling, concerns};
use super::{Transaction, lost_reply, not_offered};
use crate::forward::Lost;
use crate::mail::{Reply, ReversePath};
use crate::smtp::{Flaws, Session};

/// "Closing transmission channel" would end the client's session, too.
const CLOSING: u16 = 421;

impl Transaction {
    /// Begins the message for a next hop that takes chunks; the reply that DATA would have.
    pub(super) async fn begin_chunks(&mut self) -> Reply {
        if self.accepted.is_empty() {
            return Reply::new(554, "5.5.1 no valid recipients");
        }
        let Some(leg) = &mut self.leg else { return lost_reply(&self.peer) };
        match leg.begin_chunks().await {
            Ok(reply) => reply,
            Err(lost) => self.lose(lost),
        }
    }

    /// Lets the client know at once that its message is refused, where it sends a chunk that is not the last.
    pub(in super::super) fn refuse_chunk(&self, session: &mut Session) {
        if let Some(reply) = &self.trouble
            && session.refuse_chunk(reply)
        {
            self.log_refusal("BDAT", None, reply);
        }
    }

    /// What is wrong with the octets so far. Where nothing but this connection's lack of CHUNKING is, that is no fault of the
    /// client, which keeps to what it was offered: it may come again.
    pub(super) fn flaw_on_the_way(&self, flaws: Flaws) -> Option<Reply> {
        let reply = flaw_reply(flaws, self.chunked)?;
        let may_come_again = self.lacks_chunking() && !flaws.nul && !self.is_concerned();
        Some(if may_come_again { not_offered("CHUNKING") } else { reply })
    }

    /// What the end of the message shows to be wrong with it.
    pub(super) fn flaw_at_the_end(&self, flaws: Flaws) -> Option<Reply> {
        self.flaw_on_the_way(flaws).or_else(|| {
            let unsayable = flaws.unended && self.lacks_chunking();
            unsayable.then(|| not_offered("CHUNKING"))
        })
    }

    /// The client was offered CHUNKING and uses it, and this connection to the next hop does not.
    fn lacks_chunking(&self) -> bool {
        self.comes_in_chunks && !self.chunked && self.bounce.is_none()
    }

    /// Whether a record is due by the envelope, or the header alone may make one so: then bare CR and LF pass in no way.
    fn is_concerned(&self) -> bool {
        let concerned = || concerns(&self.setup.config, &self.mail.reverse_path, None, &self.accepted);
        matches!(self.mail.reverse_path, ReversePath::Null)
            || concerned().iter().any(|concern| concern.verdict == Journaling::Yes)
    }

    /// What keeps the message back once it is known whether it has records: octets that a record can't bring to its
    /// archive, and a chunk that the next hop has refused.
    pub(super) async fn obstacle_at_the_end(&mut self, flaws: Flaws, has_records: bool) -> Option<Reply> {
        // Who reads line ends otherwise may find another From in the header.
        let concerned = has_records || matches!(self.mail.reverse_path, ReversePath::Null);
        if let Some(reply) = flaw_reply(flaws, !concerned) {
            return Some(reply);
        }
        let lost = self.leg.as_mut()?.hear_of_chunks().await.err()?;
        self.warn_of_next_hop(&lost);
        Some(reply_to(lost, &self.peer))
    }
}

/// What a client is told when the message can't go on: a refusal of the next hop as it is.
pub(super) fn reply_to(lost: Lost, peer: &Peer) -> Reply {
    match lost {
        Lost::ChunkRefused(reply) if reply.code() != CLOSING => reply,
        _ => lost_reply(peer),
    }
}

/// RFC 5321, sections 2.3.8 and 4.1.1.4: what other servers may take for line ends is refused, not repaired, unless it goes
/// from `chunks` to chunks. NUL is no octet of a mail message (RFC 5322, section 4; RFC 2045, sections 2.7 and 2.8) but of
/// one with BINARYMIME, which is not offered.
pub(super) fn flaw_reply(flaws: Flaws, chunks: bool) -> Option<Reply> {
    if (flaws.bare_cr || flaws.bare_lf) && !chunks {
        Some(Reply::new(550, "5.6.11 the message has a bare CR or LF"))
    } else if flaws.nul {
        Some(Reply::new(550, "5.6.11 the message has a NUL octet"))
    } else {
        None
    }
}
