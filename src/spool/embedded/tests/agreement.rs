//! The embedded spool and the one in memory agree, whatever is done to them and in whatever order.

use super::*;
use crate::journal::{Cause, Notice, ReportSeed};
use crate::queue::State;
use crate::spool::{Copies, MemorySpool};
use proptest::prelude::*;

/// One thing done to both. Numbers pick among what is there.
#[derive(Debug, Clone)]
enum Act {
    Prepare { identity: u8, recipients: Vec<u8>, message_id: bool, archives: usize, copies: Copies },
    Decide { which: usize, verdict: Verdict },
    Claim { archive: usize },
    ClaimUrged { archive: usize },
    Hurry { archive: usize },
    GiveUp { archive: usize, seconds: u64 },
    Follow { archives: usize },
    Resend { to: Option<usize>, ids: Vec<RecordId> },
    LetGo { seconds: Option<u64> },
    Gather { seed: ReportSeed },
    Ack { which: usize, retain: bool },
    Defer { which: usize, wait_s: u64 },
    Fail { which: usize },
    Unclaim { which: usize },
    Operate { which: usize, operation: Operation },
    Wait { seconds: u64 },
}

/// Keys of archives; an organization has the first few, or the last one alone.
const ARCHIVES: [&str; 3] = ["", "b@x.example", "c@x.example"];
const RECIPIENTS: [&str; 4] = ["a@x.example", "b@x.example", "\"a\"@X.example", "c@x.example"];

fn act() -> impl Strategy<Value = Act> {
    let which = || 0_usize..64;
    let archive = || 0_usize..3;
    let verdict = prop::sample::select(vec![Verdict::Accepted, Verdict::Accepted, Verdict::Unknown, Verdict::Refused]);
    let operation = prop::sample::select(vec![
        Operation::Retry,
        Operation::Hold,
        Operation::Release,
        Operation::Discard { reason: "asked for".into() },
    ]);
    let recipients = || prop::collection::vec(0_u8..4, 1..4);
    prop_oneof![
        4 => (0_u8..2, recipients(), prop::bool::weighted(0.8), 1_usize..4, prop::bool::ANY).prop_map(
            |(identity, recipients, message_id, archives, any)| {
                let several = if any { Copies::OneIsEnough } else { Copies::EachIsNeeded };
                let copies = if archives == 1 { Copies::Alone } else { several };
                Act::Prepare { identity, recipients, message_id, archives, copies }
            },
        ),
        4 => (which(), verdict).prop_map(|(which, verdict)| Act::Decide { which, verdict }),
        4 => archive().prop_map(|archive| Act::Claim { archive }),
        1 => archive().prop_map(|archive| Act::ClaimUrged { archive }),
        1 => archive().prop_map(|archive| Act::Hurry { archive }),
        1 => (archive(), 0_u64..9).prop_map(|(archive, seconds)| Act::GiveUp { archive, seconds }),
        1 => (1_usize..4).prop_map(|archives| Act::Follow { archives }),
        1 => prop::option::of(archive()).prop_map(|to| Act::Resend { to, ids: (0..9).map(|_| seed().id).collect() }),
        1 => prop::option::of(0_u64..9).prop_map(|seconds| Act::LetGo { seconds }),
        1 => Just(Act::Gather { seed: seed() }),
        3 => (which(), prop::bool::ANY).prop_map(|(which, retain)| Act::Ack { which, retain }),
        2 => (which(), 0_u64..9).prop_map(|(which, wait_s)| Act::Defer { which, wait_s }),
        1 => which().prop_map(|which| Act::Fail { which }),
        1 => which().prop_map(|which| Act::Unclaim { which }),
        2 => (which(), operation).prop_map(|(which, operation)| Act::Operate { which, operation }),
        3 => (0_u64..7).prop_map(|seconds| Act::Wait { seconds }),
    ]
}

/// Its date is set when it is used.
fn seed() -> ReportSeed {
    let id = RecordId::new(Timestamp::from_millis(START), &crate::mail::OsEntropy);
    let (message_uuid, boundary) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    ReportSeed { id, date: Timestamp::from_millis(START), message_uuid, boundary }
}

fn shown(claims: impl IntoIterator<Item = Claim>) -> String {
    let parts =
        claims.into_iter().map(|claim| (claim.archive, claim.fields, claim.status, claim.octets.read_all().unwrap()));
    format!("{:?}", parts.collect::<Vec<_>>())
}

fn at(place: usize) -> Archive {
    archive(ARCHIVES[place])
}

struct Pair {
    house: House,
    memory: MemorySpool,
    messages: Vec<QueueId>,
    records: Vec<RecordId>,
}

impl Pair {
    fn new() -> Self {
        let house = House::new();
        let memory = MemorySpool::new(options(&house.world.clock));
        Self { house, memory, messages: Vec::new(), records: Vec::new() }
    }

    fn both(&self) -> [&dyn Spool; 2] {
        [&self.house.spool, &self.memory]
    }

    fn record(&self, which: usize) -> Option<RecordId> {
        self.records.get(which % self.records.len().max(1)).copied()
    }

    /// What came of it, in words that have to be the same.
    async fn carry_out(&mut self, act: &Act) -> [String; 2] {
        // Ids of one millisecond sort by chance, so no two are made in one.
        self.house.world.clock.advance(Duration::from_millis(1));
        let now = self.house.world.now();
        if let Act::Wait { seconds } = act {
            self.house.world.clock.advance(Duration::from_secs(*seconds));
        }
        let draft = self.draft(act, now);
        let mut words = [String::new(), String::new()];
        for (place, spool) in self.both().into_iter().enumerate() {
            words[place] = self.ask(spool, act, now, draft.clone()).await;
        }
        words
    }

    fn draft(&mut self, act: &Act, now: Timestamp) -> Option<Draft> {
        if let Act::Resend { ids, .. } = act {
            self.records.extend(ids);
        }
        let Act::Prepare { identity, recipients, message_id, archives, copies } = act else { return None };
        let recipients: Vec<_> = recipients.iter().map(|place| RECIPIENTS[*place as usize]).collect();
        let message =
            Message { message_id: *message_id, ..Message::new(*identity * 2 + *message_id as u8, &recipients) };
        let message = message.to(&ARCHIVES[..*archives], *copies);
        let queue_id = QueueId::new(now, &crate::mail::OsEntropy);
        let draft = draft(&message, queue_id, b"octets", now);
        self.messages.push(queue_id);
        self.records.extend(draft.records.iter().map(|record| record.fields.id));
        Some(draft)
    }

    async fn ask(&self, spool: &dyn Spool, act: &Act, now: Timestamp, draft: Option<Draft>) -> String {
        let Some(id) = self.record(self.which(act)) else { return String::new() };
        match act {
            Act::Prepare { .. } => {
                let draft = draft.unwrap();
                let mut intake = spool.begin(draft.queue_id);
                intake.append(b"octets").await.unwrap();
                format!("{:?}", spool.prepare(intake, draft).await)
            }
            Act::Decide { which, verdict } => match self.messages.get(which % self.messages.len().max(1)) {
                Some(message) => format!("{:?}", spool.decide(*message, *verdict).await),
                None => String::new(),
            },
            Act::Claim { archive } => shown(spool.claim(&at(*archive), now, 3).await.unwrap()),
            Act::ClaimUrged { archive } => shown(spool.claim_urged(&at(*archive), now).await.unwrap()),
            Act::Hurry { archive } => format!("{:?}", spool.hurry(&at(*archive), now).await),
            Act::Follow { archives } => {
                let keys: Vec<_> = ARCHIVES.iter().rev().take(*archives).map(|key| (*key).to_owned()).collect();
                format!("{:?}", spool.follow(ORGANIZATION, keys, now).await)
            }
            Act::Resend { to, ids } => {
                let to = to.map(|place| ARCHIVES[place].to_owned());
                let (organization, since, ids) = (ORGANIZATION.to_owned(), Timestamp::from_millis(START), ids.clone());
                let archives = ARCHIVES.iter().skip(1).map(|key| (*key).to_owned()).collect();
                let resend = Resend { organization, since, until: now, to, archives, after: None, at: now, ids };
                format!("{:?}", spool.resend(resend).await)
            }
            Act::LetGo { seconds } => {
                let before = seconds.map(|seconds| (ORGANIZATION.to_owned(), now.minus(Duration::from_secs(seconds))));
                format!("{:?}", spool.let_go(before.into_iter().collect(), now).await)
            }
            Act::GiveUp { archive, seconds } => {
                let (until, reply) = (now.minus(Duration::from_secs(*seconds)), "down".to_owned());
                let setback = Setback { route: "smtp://a.example:25".into(), reply, reply_is_smtp: false };
                format!("{:?}", spool.give_up(&at(*archive), until, setback, now).await)
            }
            Act::Gather { seed } => {
                let gathered = spool.gather(ORGANIZATION, ReportSeed { date: now, ..*seed }).await.unwrap();
                let claims = spool.claim_reports(ORGANIZATION, now, 9).await.unwrap();
                let fields: Vec<_> = claims.into_iter().map(|claim| claim.fields).collect();
                for report in &fields {
                    spool
                        .settle_report(report.id, Outcome::Acked { reply: "250".into(), retain: false }, now)
                        .await
                        .unwrap();
                }
                format!("{gathered} {fields:?}")
            }
            Act::Ack { retain, .. } => {
                let outcome = Outcome::Acked { reply: "250".into(), retain: *retain };
                format!("{:?}", spool.settle(id, outcome, now).await)
            }
            Act::Defer { wait_s, .. } => {
                let next_attempt = now.plus(Duration::from_secs(*wait_s));
                let outcome = Outcome::Deferred { reply: "451".into(), next_attempt };
                format!("{:?}", spool.settle(id, outcome, now).await)
            }
            Act::Fail { .. } => {
                let notice = spool.show(id).await.ok().map(|(fields, ..)| Notice::about(&fields, Cause::Refused, now));
                let outcome = Outcome::Failed { reply: "550".into(), notice };
                format!("{:?}", spool.settle(id, outcome, now).await)
            }
            Act::Unclaim { .. } => format!("{:?}", spool.unclaim(id).await),
            Act::Operate { operation, .. } => format!("{:?}", spool.operate(id, operation.clone(), now).await),
            Act::Wait { .. } => String::new(),
        }
    }

    fn which(&self, act: &Act) -> usize {
        match act {
            Act::Ack { which, .. }
            | Act::Defer { which, .. }
            | Act::Fail { which }
            | Act::Unclaim { which }
            | Act::Operate { which, .. } => *which,
            _ => 0,
        }
    }

    /// Everything that can be seen.
    async fn seen(&self, spool: &dyn Spool) -> Vec<String> {
        let (mut seen, now) = (Vec::new(), self.house.world.now());
        for archive in (0..ARCHIVES.len()).map(at) {
            seen.push(format!("{:?}", spool.agenda(&archive).await.unwrap()));
            seen.push(format!("{:?}", spool.backlog(&archive).await.unwrap()));
            seen.push(format!("{:?}", spool.waiting(&archive, now, 3, now).await.unwrap()));
            let since = Timestamp::from_millis(START);
            seen.push(format!("{:?}", spool.acked_since(&archive, since).await.unwrap()));
        }
        for state in std::iter::once(None).chain(State::ALL.map(Some)) {
            let filter = Filter { state, ..Filter::default() };
            seen.push(format!("{state:?} {:?}", spool.list(filter, 1_000).await.unwrap()));
        }
        for id in &self.records {
            let shown = spool
                .show(*id)
                .await
                .map(|(fields, listing, octets)| (fields, listing, octets.map(|octets| octets.read_all().unwrap())));
            seen.push(format!("{shown:?}"));
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn both_spools_agree_after_whatever_was_done_and_after_a_kill(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for act in &acts {
                let [embedded, memory] = pair.carry_out(act).await;
                prop_assert_eq!(embedded, memory, "{:?}", act);
            }
            let [embedded, memory] = pair.both();
            prop_assert_eq!(pair.seen(embedded).await, pair.seen(memory).await);
            // A kill changes nothing but what was on its way.
            for queue_id in &pair.messages {
                pair.memory.decide(*queue_id, Verdict::Unknown).await.unwrap();
            }
            for id in &pair.records {
                let filter = Filter { state: Some(State::Sending), ..Filter::default() };
                if pair.memory.list(filter, 1_000).await.unwrap().iter().any(|listing| listing.id == *id) {
                    pair.memory.unclaim(*id).await.unwrap();
                    pair.house.spool.unclaim(*id).await.unwrap();
                }
            }
            let (reborn, _) = pair.house.killed();
            prop_assert_eq!(pair.seen(&reborn.spool).await, pair.seen(&pair.memory).await);
            Ok(())
        })?;
    }
}
