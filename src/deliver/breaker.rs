//! A circuit breaker, as a value: equal failures in a row stop the attempts, one probe at a time resumes them.
//!
//! ```text
//! closed ── so many failures of one kind in a row ──▶ open ── a probe, or an attempt begun before, succeeds ──▶ closed
//!                                                      └─ a probe fails: the next one later
//! ```
//!
//! `now` is an argument, jitter a hash of the circuit's name and the probe's number. Nothing here outlives the process: a
//! new one finds out by trying.

use crate::config::Retry;
use crate::mail::{RecordId, Timestamp};
use crate::queue::backoff;
use std::time::Duration;

/// Failures in a row after which nobody is thought to be there.
pub const DOWN_AFTER: u32 = 3;
/// The same for refusals of us: further attempts at a wrong password lock accounts.
pub const SHUT_AFTER: u32 = 1;
/// The same for passing refusals of different records: one full mailbox is not a full archive.
pub const BUSY_AFTER: u32 = 10;
/// Probes of an archive that takes no records for the moment come after this wait, doubled each time up to …
pub const BUSY_FIRST: Duration = Duration::from_secs(5);
/// … this one: it answers, a record more costs it little, and the next record may be one that it takes.
pub const BUSY_LONGEST: Duration = Duration::from_secs(60);

/// What kind of failure an attempt ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not reached, lost, too late, or 4yz before a recipient was named.
    Down,
    /// 5yz before a recipient was named, TLS that fails, a login that can't be.
    Shut,
    /// 4yz to a record.
    Busy,
}

/// Whether attempts may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// As many as there are.
    Open,
    /// One, to find out.
    Probe,
    /// None until then.
    Shut(Timestamp),
    /// None until the probe under way has ended.
    Probing,
}

/// The breaker of one circuit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Breaker {
    row: Option<Row>,
    open: Option<Open>,
}

/// Failures of one kind without a success between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    kind: Kind,
    count: u32,
    since: Timestamp,
    record: RecordId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    kind: Kind,
    since: Timestamp,
    /// Probes that failed.
    failed: u32,
    next: Timestamp,
    /// Probes under way: one, and those an operator asked for.
    probing: u32,
}

impl Breaker {
    /// Whether an attempt may begin at `now`.
    pub(super) fn gate(&self, now: Timestamp) -> Gate {
        match &self.open {
            None => Gate::Open,
            Some(open) if open.probing > 0 => Gate::Probing,
            Some(open) if open.next <= now => Gate::Probe,
            Some(open) => Gate::Shut(open.next),
        }
    }

    /// A probe begins; whether there is something to probe.
    pub(super) fn begin_probe(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.probing += 1;
        true
    }

    /// A probe ended that found nothing out.
    pub(super) fn end_probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = open.probing.saturating_sub(1);
        }
    }

    /// An attempt at `record` failed, a probe or not; whether that opened the circuit. `name` is the circuit's. Failures of
    /// attempts that began before it opened say nothing new.
    pub(super) fn failed(
        &mut self,
        kind: Kind,
        record: RecordId,
        is_probe: bool,
        name: &str,
        retry: &Retry,
        now: Timestamp,
    ) -> bool {
        if let Some(open) = &mut self.open {
            if is_probe {
                open.probing = open.probing.saturating_sub(1);
                (open.kind, open.failed) = (kind, open.failed.saturating_add(1));
                open.next = now.plus(wait(kind, retry, name, open.failed));
            }
            return false;
        }
        let row = self.row.take().filter(|row| row.kind == kind);
        let mut row = row.unwrap_or(Row { kind, count: 0, since: now, record });
        // A record that is refused again and again is its own affair.
        if kind != Kind::Busy || row.count == 0 || row.record != record {
            row.count = row.count.saturating_add(1);
        }
        row.record = record;
        let enough = match kind {
            Kind::Down => DOWN_AFTER,
            Kind::Shut => SHUT_AFTER,
            Kind::Busy => BUSY_AFTER,
        };
        if row.count < enough {
            self.row = Some(row);
            return false;
        }
        let next = now.plus(wait(kind, retry, name, 0));
        self.open = Some(Open { kind, since: row.since, failed: 0, next, probing: 0 });
        true
    }

    /// An attempt succeeded; whether that closed the circuit.
    pub(super) fn succeeded(&mut self) -> bool {
        self.row = None;
        self.open.take().is_some()
    }

    /// Something has changed: an open circuit is probed at once.
    pub(super) fn hasten(&mut self, now: Timestamp) {
        if let Some(open) = &mut self.open {
            open.next = open.next.min(now);
        }
    }

    /// Of an open circuit what it is open for, since when, and when it is probed next.
    pub(super) fn open(&self) -> Option<(Kind, Timestamp, Timestamp)> {
        self.open.as_ref().map(|open| (open.kind, open.since, open.next))
    }
}

fn wait(kind: Kind, retry: &Retry, name: &str, failed: u32) -> Duration {
    let (first, longest) = match kind {
        Kind::Down | Kind::Shut => (retry.first, retry.longest),
        Kind::Busy => (retry.first.min(BUSY_FIRST), retry.longest.min(BUSY_LONGEST)),
    };
    backoff(first, longest, name, failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::OsEntropy;
    use proptest::prelude::*;

    const RETRY: Retry = Retry {
        first: Duration::from_secs(60),
        longest: Duration::from_secs(3_600),
        give_up: Duration::from_secs(8 * 86_400),
        report_after: Duration::from_secs(4 * 3_600),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_794_304_800_000).plus(Duration::from_secs(seconds))
    }

    fn id(number: u64) -> RecordId {
        RecordId::new(Timestamp::from_millis(number as i64), &OsEntropy)
    }

    /// Fails at that second with a record of its own, not as a probe.
    fn fail(breaker: &mut Breaker, kind: Kind, second: u64) -> bool {
        breaker.failed(kind, id(second), false, "route", &RETRY, at(second))
    }

    fn opened(kind: Kind) -> Breaker {
        let mut breaker = Breaker::default();
        while !fail(&mut breaker, kind, 0) {}
        breaker
    }

    #[test]
    fn so_many_failures_of_a_kind_in_a_row_open_it_and_not_one_less() {
        for (kind, enough) in [(Kind::Down, DOWN_AFTER), (Kind::Shut, SHUT_AFTER), (Kind::Busy, BUSY_AFTER)] {
            let mut breaker = Breaker::default();
            for number in 1..=enough {
                assert_eq!(breaker.gate(at(0)), Gate::Open, "{kind:?} {number}");
                assert_eq!(fail(&mut breaker, kind, u64::from(number)), number == enough, "{kind:?} {number}");
            }
            assert!(matches!(breaker.gate(at(u64::from(enough))), Gate::Shut(_)), "{kind:?}");
            assert_eq!(breaker.open().unwrap().1, at(1), "since the first of them");
        }
    }

    #[test]
    fn a_success_or_another_kind_begins_a_new_row() {
        let mut breaker = Breaker::default();
        for second in 0..40 {
            assert!(!fail(&mut breaker, if second % 2 == 0 { Kind::Down } else { Kind::Busy }, second));
        }
        for second in 0..40 {
            assert!(!fail(&mut breaker, Kind::Down, second));
            assert!(!breaker.succeeded());
        }
    }

    #[test]
    fn one_record_that_is_never_taken_does_not_make_the_archive_busy() {
        let (mut breaker, poison) = (Breaker::default(), id(1));
        assert!((0..100).all(|_| !breaker.failed(Kind::Busy, poison, false, "route", &RETRY, at(0))));
    }

    #[test]
    fn probes_come_one_at_a_time_at_growing_distances() {
        for (kind, first, longest) in [(Kind::Down, 60.0, 3_600.0), (Kind::Busy, 5.0, 60.0)] {
            let (mut breaker, mut now) = (opened(kind), at(0));
            let mut middle: f64 = first;
            for number in 0..12 {
                let Gate::Shut(next) = breaker.gate(now) else { panic!("{kind:?} {number}") };
                let wait = next.since(now).as_secs_f64();
                assert!((0.89 * middle..=1.11 * middle).contains(&wait), "{kind:?} {number}: {wait}");
                now = next;
                assert_eq!(breaker.gate(now), Gate::Probe);
                assert!(breaker.begin_probe());
                assert_eq!(breaker.gate(now.plus(Duration::from_secs(86_400))), Gate::Probing);
                assert!(!breaker.failed(kind, id(number), true, "route", &RETRY, now));
                middle = (2.0 * middle).min(longest);
            }
        }
    }

    #[test]
    fn a_probe_that_found_nothing_out_leaves_room_for_the_next() {
        let mut breaker = opened(Kind::Down);
        breaker.hasten(at(1));
        assert!(breaker.begin_probe());
        breaker.end_probe();
        assert_eq!(breaker.gate(at(1)), Gate::Probe);
    }

    #[test]
    fn late_failures_change_nothing_and_a_late_success_closes() {
        let mut breaker = opened(Kind::Down);
        let before = breaker.clone();
        assert!(!fail(&mut breaker, Kind::Down, 30));
        assert_eq!(breaker, before);
        assert!(breaker.succeeded());
        assert_eq!(breaker, Breaker::default());
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Wait(u64),
        Fail(Kind),
        Succeed,
        Give,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let kind = prop::sample::select(vec![Kind::Down, Kind::Shut, Kind::Busy]);
        prop::collection::vec(
            prop_oneof![
                (0_u64..5_000).prop_map(Event::Wait),
                kind.prop_map(Event::Fail),
                Just(Event::Succeed),
                Just(Event::Give)
            ],
            0..80,
        )
    }

    proptest! {
        /// Who follows the gate alone makes one attempt at a time while it is open, waits between, and can always go on.
        #[test]
        fn an_open_circuit_lets_one_probe_out_at_a_time_and_never_shuts_for_good(events in events()) {
            let (mut breaker, mut now) = (Breaker::default(), at(0));
            for event in events {
                match event {
                    Event::Wait(seconds) => now = now.plus(Duration::from_secs(seconds)),
                    Event::Fail(kind) => {
                        let probe = breaker.gate(now) == Gate::Probe && breaker.begin_probe();
                        if probe {
                            prop_assert_eq!(breaker.gate(now), Gate::Probing);
                        }
                        breaker.failed(kind, id(1), probe, "route", &RETRY, now);
                    }
                    Event::Succeed => {
                        breaker.succeeded();
                        prop_assert_eq!(breaker.gate(now), Gate::Open);
                    }
                    Event::Give => {
                        if breaker.gate(now) == Gate::Probe && breaker.begin_probe() {
                            breaker.end_probe();
                        }
                    }
                }
                if let Gate::Shut(next) = breaker.gate(now) {
                    prop_assert!(next > now && next.since(now) <= RETRY.longest.mul_f64(1.11));
                }
                prop_assert!(breaker.gate(now) != Gate::Probing, "no probe is forgotten");
            }
        }
    }
}
