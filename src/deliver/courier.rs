//! A courier: takes a claimed record to its archive, keeps the result, and goes on with the next one that is due.
//!
//! ```text
//! archive   content of 1, envelope of 2 ─▶ ◀─ replies   content of 2, envelope of 3 ─▶ ◀─ replies
//! spool                  claim of 3 ─▶ ◀─               settlement of 1, claim of 4 ─▶ ◀─
//! ```
//!
//! While one record is on its way the next is claimed, so that its envelope can go out with the end of the one before: one
//! turn of the archive a record, and no wait for the disk in between. What is claimed is `sending`, durably, as ever; so a
//! crash leaves up to [`STOCK`] records more a courier of unknown outcome. After [`ROUND`] records the slot goes to whoever
//! waits for one. Behind a circuit that has opened nothing is begun, and what was claimed is put back.

use super::circuits::Pass;
use super::next::{self, Next};
use super::office::{Freight, Office, keep};
use super::post::Van;
use super::verdict::Verdict;
use super::way::Way;
use crate::drain::Name;
use crate::journal::{Cause, Notice};
use crate::mail::{RecordId, Timestamp};
use crate::spool::{Archive, Claim, Outcome, Pending};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

/// Records that one courier takes before it gives its slot back; half of what one connection carries.
const ROUND: usize = 50;
/// Records that it has claimed beside the one on its way: a claim is a group of the spool's, which may take as long as a record.
const STOCK: usize = 4;
/// How long a record may be on its way before those claimed behind it are put back: others may have a courier sooner.
const PATIENCE: Duration = Duration::from_secs(5);
/// Results on their way into the spool; beyond that the next record waits.
const SETTLING: usize = 4;

/// What a courier calls its task while it carries a record.
pub(super) fn label(id: RecordId) -> String {
    format!("record {id}")
}

impl Office {
    /// Sends a claimed record, and more for the same archive, and settles each; `slot` is one of the route called `route`.
    pub(super) async fn carry_records(
        self: Arc<Self>,
        claim: Claim,
        pass: Pass,
        (slot, route): (OwnedSemaphorePermit, (String, usize)),
        name: Name,
    ) {
        let archive = Archive { organization: claim.fields.organization.clone(), key: claim.archive.clone() };
        let mut round = Round::new(self, archive, route);
        let (mut claim, mut pass) = (claim, pass);
        while round.carry(claim, pass).await {
            let Some(next) = round.next().await else { break };
            name.set(label(next.0.fields.id));
            (claim, pass) = next;
        }
        // Another courier takes the connection with the slot, and is on its way while the spool takes the last results.
        round.office.post.unload(&mut round.van).await;
        drop(slot);
        round.end().await;
    }
}

/// One courier's round.
struct Round {
    office: Arc<Office>,
    archive: Archive,
    /// The route whose slot it has, and how many there are.
    route: (String, usize),
    van: Van,
    claims: Claims,
    /// Results that the spool does not have yet.
    settling: Vec<Settling>,
}

/// A result on its way into the spool.
type Settling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a courier has claimed ahead.
struct Claims {
    office: Arc<Office>,
    stock: VecDeque<Claim>,
    coming: Option<Pending<Vec<Claim>>>,
    /// How many more may be claimed.
    left: usize,
}

/// Whatever ends a courier, nothing that it has claimed ahead stays `sending`.
impl Drop for Claims {
    fn drop(&mut self) {
        for claim in std::mem::take(&mut self.stock) {
            // Handed over at once.
            drop(self.office.spool.unclaim(claim.fields.id));
            self.office.circuits.change();
        }
    }
}

impl Claims {
    fn has_some(&self) -> bool {
        self.coming.is_some() || !self.stock.is_empty()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(coming) = &mut self.coming {
            // A spool that fails gives nothing; the lane says so.
            let claims = std::task::ready!(coming.as_mut().poll(context)).unwrap_or_default();
            self.coming = None;
            self.left = if claims.is_empty() { 0 } else { self.left.saturating_sub(claims.len()) };
            self.stock.extend(claims);
        }
        Poll::Ready(())
    }

    /// Puts back what was claimed, and claims no more.
    fn give_up(&mut self, settling: &mut Vec<Settling>) {
        self.left = 0;
        // Dropped, it is put back.
        self.coming = None;
        for claim in std::mem::take(&mut self.stock) {
            let (office, id) = (Arc::clone(&self.office), claim.fields.id);
            settling.push(Box::pin(async move {
                keep(&office.drain, id, || office.spool.unclaim(id)).await;
                office.circuits.change();
            }));
        }
    }
}

impl Round {
    fn new(office: Arc<Office>, archive: Archive, route: (String, usize)) -> Self {
        let claims = Claims { office: Arc::clone(&office), stock: VecDeque::new(), coming: None, left: ROUND - 1 };
        Self { office, archive, route, van: Van::default(), claims, settling: Vec::new() }
    }

    /// Sends one record, and has its result settled. False when nothing more may be begun.
    async fn carry(&mut self, claim: Claim, pass: Pass) -> bool {
        let office = Arc::clone(&self.office);
        let Some((way, pass)) = office.departure(&self.archive, Freight::Records, pass) else {
            self.claims.stock.push_front(claim);
            return false;
        };
        if (self.route.0.as_str(), self.route.1) != (way.label(), way.route.connections()) {
            // By a new configuration it goes where others have slots.
            self.claims.stock.push_front(claim);
            return false;
        }
        // Before the archive takes records what is claimed ahead would only have to be put back.
        if way.flows() {
            self.ask_for_more();
        }
        let letter = way.record_letter(&claim, office.mac_key);
        let next = self.claims.stock.front().map(|next| way.record_letter(next, office.mac_key));
        let mut gave_up = false;
        let verdict = {
            let Self { van, claims, settling, .. } = self;
            let hostname = &way.config.hostname;
            let mut sending = pin!(office.post.send_on(&way.route, hostname, &letter, next.as_ref(), van));
            let mut patience = pin!(sleep(PATIENCE));
            poll_fn(|context| {
                if let Poll::Ready(verdict) = sending.as_mut().poll(context) {
                    return Poll::Ready(verdict);
                }
                let _ = claims.poll(context);
                if claims.has_some() && patience.as_mut().poll(context).is_ready() {
                    claims.give_up(settling);
                    gave_up = true;
                }
                settling.retain_mut(|settled| settled.as_mut().poll(context).is_pending());
                Poll::Pending
            })
            .await
        };
        if gave_up && next.is_some() {
            // An archive that takes its time for each would have each envelope begun for nothing.
            office.post.send_nothing_ahead(&self.van);
        }
        let (id, now) = (claim.fields.id, office.clock.now());
        let next_probe = pass.ended(&verdict, id, &way.config.retry, now);
        let outcome = record_outcome(&claim, &way, &verdict, next_probe, now);
        way.note(&verdict);
        if !matches!(verdict, Verdict::Accepted { .. }) {
            // What follows from that is the lane's business; what is claimed has its turn.
            self.claims.left = 0;
        }
        self.settling.push(Box::pin(async move {
            keep(&office.drain, id, || office.spool.settle(id, outcome.clone(), now)).await;
        }));
        true
    }

    /// The next record, and the right to send it; none when there is none, or no more may be begun.
    async fn next(&mut self) -> Option<(Claim, Pass)> {
        self.ask_for_more();
        let office = Arc::clone(&self.office);
        // Handed to the spool in one go: the result, and the wish for another record.
        let mut begun = pin!(office.drain.begun());
        poll_fn(|context| {
            self.settling.retain_mut(|settled| settled.as_mut().poll(context).is_pending());
            let claimed = self.claims.poll(context);
            if begun.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let may_go_on = !self.claims.stock.is_empty() && self.settling.len() < SETTLING;
            if may_go_on || (self.claims.stock.is_empty() && claimed.is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if office.drain.has_begun() {
            return None;
        }
        let claim = self.claims.stock.pop_front()?;
        let way = office.way(&self.archive, Freight::Records);
        let pass = way.map(|way| office.circuits.pass(way.line()));
        if pass.is_none() {
            self.claims.stock.push_front(claim);
            return None;
        }
        Some((claim, pass?))
    }

    /// Claims what there is room for.
    fn ask_for_more(&mut self) {
        let (stock, left) = (self.claims.stock.len(), self.claims.left);
        let room = STOCK.saturating_sub(stock).min(left);
        // By twos at least: each claim is a step of the spool's.
        let is_worth_it = room > 1 || room == left || stock == 0;
        if self.claims.coming.is_none() && room > 0 && is_worth_it && !self.office.drain.has_begun() {
            let now = self.office.clock.now();
            self.claims.coming = Some(self.office.spool.claim(&self.archive, now, room));
        }
    }

    /// Brings the last results to the spool, and puts back what was claimed for nothing.
    async fn end(mut self) {
        self.claims.give_up(&mut self.settling);
        poll_fn(|context| {
            self.settling.retain_mut(|settled| settled.as_mut().poll(context).is_pending());
            if self.settling.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Turns a verdict on a record into what is kept, and logs it. A route that waits for its next probe is not tried before.
fn record_outcome(
    claim: &Claim,
    way: &Way,
    verdict: &Verdict,
    next_probe: Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    let (fields, attempts) = (&claim.fields, claim.status.attempts);
    let created = fields.since();
    let (record, organization) = (fields.id, fields.organization.as_str());
    let reply = verdict.reply().clone();
    match next::after(verdict, &way.config.retry, record, attempts, created, now) {
        Next::Acked => {
            let archive = if let Verdict::Accepted { archive, .. } = verdict { archive.as_str() } else { "" };
            let age_ms = u64::try_from(now.since(created).as_millis()).unwrap_or(u64::MAX);
            let replay_of = fields.replay.as_ref().map(|replay| tracing::field::display(replay.of));
            tracing::info!(event = "record.acked", %record, organization, archive, %reply, attempts, age_ms, replay_of, "the archive took the record");
            let retain = way.organization.retention.is_some() && fields.replay.is_none();
            Outcome::Acked { reply: reply.text, retain }
        }
        Next::Again(at) => {
            let at = next_probe.unwrap_or(at);
            let next_attempt = at.rfc3339();
            tracing::info!(event = "record.deferred", %record, organization, route = way.label(), %reply, attempt = attempts, next_attempt, "the record will be tried again");
            Outcome::Deferred { reply: reply.text, next_attempt: at }
        }
        step @ (Next::Refused | Next::GivenUp) => {
            let cause = if step == Next::Refused { Cause::Refused } else { Cause::GivenUp };
            let reason = cause.as_str();
            tracing::error!(event = "record.failed", %record, organization, route = way.label(), %reply, attempts, reason, "the record is kept as failed");
            let notice = Notice { attempts, ..Notice::about(fields, cause, now) };
            let notice = notice.at_archive(&claim.archive);
            let notice = Some(notice.with_reply(way.label(), &reply.text, reply.is_smtp));
            Outcome::Failed { reply: reply.text, notice }
        }
    }
}
