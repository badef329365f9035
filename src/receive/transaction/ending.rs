//! The end of a message that is durable: the next hop hears of it, and its verdict goes to the spool and to the client.
//!
//! ```text
//! durable ─▶ the end is said ─────────────────────────▶ its verdict
//!         └▶ the end and the client's next transaction ─▶ its verdict, then the replies to that one
//! ```

use super::{Transaction, lost_reply};
use crate::forward::{Leg, Lost};
use crate::journal::Observation;
use crate::mail::Reply;
use crate::receive::files::Piece;
use crate::receive::keeping::Unrecorded;
use crate::receive::listener::Setup;
use crate::receive::records::Envelope;
use crate::smtp::Mail;
use crate::smtp::client::Verb;
use crate::spool::Verdict;

/// A message whose end is to be said. It has to be [heard](Self::hear), or its records wait for a verdict.
pub(in super::super) struct Ending {
    transaction: Box<Transaction>,
    envelope: Envelope,
    observation: Observation,
    unrecorded: Option<Unrecorded>,
    /// The end is said: it leaves with what is said behind it, by the next transaction perhaps.
    is_said: bool,
    /// Why it could not be said.
    failed: Option<Lost>,
}

impl Ending {
    pub(super) fn new(
        transaction: Box<Transaction>,
        envelope: Envelope,
        observation: Observation,
        unrecorded: Option<Unrecorded>,
    ) -> Self {
        Self { transaction, envelope, observation, unrecorded, is_said: false, failed: None }
    }

    /// Whether the session's next transaction may begin along with this end.
    pub(in super::super) fn may_go_on(&self, setup: &Setup, mail: &Mail) -> bool {
        // What goes along does not go on in chunks, which a client that sends in chunks may need.
        let leg = self.transaction.leg.as_ref().filter(|_| !self.transaction.comes_in_chunks);
        leg.is_some_and(|leg| leg.may_go_on(&setup.next_hop, mail))
    }

    /// Says the end, for the next transaction to go on behind it; false where it could not be said.
    pub(in super::super) fn say(&mut self) -> bool {
        match self.transaction.leg.take().map(Leg::go_on) {
            Some(Ok(leg)) => {
                self.transaction.leg = Some(leg);
                self.is_said = true;
            }
            Some(Err(lost)) => self.failed = Some(lost),
            None => {}
        }
        self.is_said
    }

    /// What the next transaction goes on with, once the end is said: the connection, and the share of open files for it.
    pub(super) fn hand_on(&mut self) -> Option<(Leg, Option<Piece>)> {
        let leg = self.transaction.leg.take_if(|_| self.is_said)?;
        Some((leg, self.transaction.files.take()))
    }

    /// Says the end, unless it went along with the beginning of `next`, and takes the verdict to the spool and the client.
    pub(in super::super) async fn hear(mut self: Box<Self>, next: Option<&mut Transaction>) -> Reply {
        let leg = self.transaction.leg.take();
        let heard = match (self.failed.take(), leg) {
            (Some(lost), _) => Err(lost),
            (None, Some(mut leg)) => {
                let heard = if self.is_said { leg.verdict().await } else { leg.finish().await };
                if heard.is_ok() {
                    leg.release();
                }
                heard
            }
            (None, None) if self.is_said => match next.and_then(|next| next.leg.as_mut()) {
                Some(leg) => leg.verdict().await,
                // What became of it nobody can hear any more.
                None => Err(Lost::Closed(Some(Verb::EndOfData))),
            },
            (None, None) => {
                self.decide(Verdict::Refused);
                return lost_reply(&self.transaction.peer);
            }
        };
        self.judge(heard)
    }

    fn judge(&self, heard: Result<Reply, Lost>) -> Reply {
        let transaction = &self.transaction;
        match heard {
            Ok(reply) if reply.is_completion() => {
                self.decide(Verdict::Accepted);
                transaction.log_acceptance(&self.envelope, &self.observation, &reply);
                reply
            }
            Ok(reply) => {
                self.decide(Verdict::Refused);
                transaction.log_refusal("end of data", None, &reply);
                if reply.code() == 354 { Reply::new(451, "4.4.1 the next hop broke the protocol") } else { reply }
            }
            Err(lost) => {
                let verdict = if lost.left_nothing() { Verdict::Refused } else { Verdict::Unknown };
                self.decide(verdict);
                transaction.warn_of_next_hop(&lost);
                let reply = lost_reply(&transaction.peer);
                if verdict == Verdict::Unknown {
                    transaction.log_unknown(&reply, self.unrecorded.is_none());
                } else {
                    transaction.log_refusal("end of data", None, &reply);
                }
                reply
            }
        }
    }

    /// Takes the verdict to the spool, or to the gaps where the message has no record that it should have.
    fn decide(&self, verdict: Verdict) {
        let Transaction { parts, queue_id, .. } = &*self.transaction;
        let Some(unrecorded) = &self.unrecorded else {
            // Nobody waits for the verdict to be durable: lost in a crash, it counts as unknown, and the record goes.
            return drop(parts.spool.decide(*queue_id, verdict));
        };
        if verdict != Verdict::Refused {
            for organization in &unrecorded.organizations {
                parts.gaps.note(organization, *queue_id, &unrecorded.reason, parts.clock.now());
            }
        }
    }
}
