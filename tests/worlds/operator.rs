//! What an operator does to the queue, with the spool's functions that the queue commands call.

use super::history::{Chronicle, Entry, Gap, Operated, Shown};
use super::trace::Trace;
use journal_relay::clock::Clock;
use journal_relay::mail::RecordId;
use journal_relay::queue::{OCTETS_LOST, State};
use journal_relay::spool::{Filter, Listing, NotedGap, Operation, Spool, SpoolError};
use std::sync::Arc;

/// Entries that one look shows; a world has fewer.
const MANY: usize = 10_000;

/// What he wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    Retry,
    Hold,
    Release,
    Discard,
}

/// Whoever types queue commands.
pub struct Operator<'s> {
    pub spool: &'s dyn Spool,
    pub clock: &'s super::clock::SimClock,
    pub chronicle: &'s Chronicle,
    pub trace: &'s Trace,
}

impl Operator<'_> {
    /// `queue COMMAND ID` for one of the entries that there are.
    pub async fn wish(&self, wish: Wish, which: u64) {
        let state = (wish == Wish::Release).then_some(State::Held);
        let found = self.list(Filter { state, ..Filter::default() }).await;
        let Some(count) = u64::try_from(found.len()).ok().filter(|count| *count > 0) else { return };
        let chosen = found[usize::try_from(which % count).unwrap()].id;
        self.operate(wish, chosen).await;
    }

    /// What is held is let go, what failed is tried again; what failed because its octets came to nothing is given up.
    pub async fn tidy_up(&self) {
        self.wish_all(Wish::Release, State::Held).await;
        for listing in self.list(Filter { state: Some(State::Failed), ..Filter::default() }).await {
            let is_lost = listing.last_reply.is_some_and(|reply| reply.starts_with(OCTETS_LOST));
            self.operate(if is_lost { Wish::Discard } else { Wish::Retry }, listing.id).await;
        }
    }

    /// `queue COMMAND` for everything in that state.
    async fn wish_all(&self, wish: Wish, state: State) {
        for listing in self.list(Filter { state: Some(state), ..Filter::default() }).await {
            self.operate(wish, listing.id).await;
        }
    }

    async fn operate(&self, wish: Wish, id: RecordId) {
        if wish == Wish::Discard
            && let Ok((_, _, Some(octets))) = self.spool.show(id).await
        {
            // Behind it they are gone.
            let octets = octets.read_all().map(|octets| octets.to_vec()).unwrap_or_default();
            self.chronicle.write().originals.insert(id.to_string(), Arc::new(octets));
        }
        let reason = format!("wished at {} ms", self.clock.millis());
        let place = {
            let mut history = self.chronicle.write();
            history.operated.push(Operated {
                id: id.to_string(),
                wish,
                asked: self.clock.millis(),
                answered: None,
                state: String::new(),
                reason: reason.clone(),
            });
            history.operated.len() - 1
        };
        let operation = match wish {
            Wish::Retry => Operation::Retry,
            Wish::Hold => Operation::Hold,
            Wish::Release => Operation::Release,
            Wish::Discard => Operation::Discard { reason },
        };
        let answer = self.spool.operate(id, operation, self.clock.now()).await;
        let mut history = self.chronicle.write();
        let operated = &mut history.operated[place];
        match &answer {
            Ok(listing) => {
                operated.answered = Some(self.clock.millis());
                operated.state = listing.state.to_string();
            }
            Err(SpoolError::NotNow(_) | SpoolError::NotFound(_)) => operated.state = "refused".to_owned(),
            // Done or not: nobody knows.
            Err(_) => {}
        }
        self.trace.note(format!("operator: {wish:?} {id}: {:?}", answer.map(|listing| listing.state)));
    }

    /// `queue gaps`; none when they can't be read.
    pub async fn gaps(&self) -> Option<Vec<Gap>> {
        let gap = |noted: NotedGap| Gap {
            organization: noted.organization,
            messages: noted.gap.messages,
            queue_ids: noted.gap.queue_ids.iter().map(ToString::to_string).collect(),
        };
        Some(self.spool.gaps(MANY).await.ok()?.into_iter().map(gap).collect())
    }

    /// Everything the spool has, history included; none when it can't be read.
    pub async fn look(&self) -> Option<Vec<Entry>> {
        let mut whole = Vec::new();
        for state in State::ALL {
            let found = self.spool.list(Filter { state: Some(state), ..Filter::default() }, MANY).await.ok()?;
            for listing in found {
                let supplements = match listing.state {
                    State::Discarded => self.spool.show(listing.id).await.ok()?.0.supplements,
                    _ => None,
                };
                whole.push(entry(listing, supplements));
            }
        }
        Some(whole)
    }

    async fn list(&self, filter: Filter) -> Vec<Listing> {
        self.spool.list(filter, MANY).await.unwrap_or_default()
    }
}

fn entry(listing: Listing, supplements: Option<String>) -> Entry {
    Entry {
        id: listing.id.to_string(),
        state: listing.state.to_string(),
        organization: listing.organization,
        archive: listing.archive,
        shown: Shown {
            message_id: listing.message_id,
            recipients: listing.recipients,
            supplements,
            reason: listing.reason.unwrap_or_default(),
            last_reply: listing.last_reply.unwrap_or_default(),
        },
    }
}
