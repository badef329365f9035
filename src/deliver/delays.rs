//! What an organization is told of delays: once for a route and period, and again when it is over.
//!
//! A record that has waited for `report_after` is late. Then one report says how many wait, since when, and what the
//! archive said last; while it lasts, another one every [`REMIND`]. A route that refuses us for good ([`SHUT_FOR`]) is told of
//! without waiting that long: time does not mend a wrong password.
//!
//! When none is late any more, and the archive has taken records and has not been shut for [`HEALTHY_FOR`], one report says so.
//! An archive that comes and goes is no news each time: after the end the next delay of the route keeps a distance that
//! grows ([`crate::queue::DELAY_DISTANCES`]). What was told is kept in the spool and outlives a restart.
//!
//! Decides by [`word`], a value; the rest looks and acts.

use super::circuits::{Health, Taking};
use super::lane::{changed, over};
use super::office::{Freight, Office};
use super::way::Way;
use crate::config::Retry;
use crate::journal::{MAX_NAMED, Named, News, Outage};
use crate::mail::Timestamp;
use crate::spool::{Archive, Backlog, REMIND, Setback, SpoolError, Warned};
use crate::watch;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

/// How long a route that refuses us for good is given to change its mind before that is told.
pub const SHUT_FOR: Duration = Duration::from_secs(15);
/// How long an archive must have taken records before that is told; with a shorter `report_after` only so long. One that takes
/// a few and fails again is not back to normal.
pub const HEALTHY_FOR: Duration = Duration::from_secs(5 * 60);
/// The longest time between two looks, …
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// … the wait after a spool that does not answer, …
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// … and the shortest.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Nothing,
    /// It lasts, or has come back, and has been told not long ago.
    NotAgain,
    /// Records are late, …
    Late,
    /// … or the route refuses us.
    Shut,
    Restored,
}

/// Decides what is to be told at `now` of `route`, whose state is `health`, and what waits for it.
fn word(now: Timestamp, report_after: Duration, backlog: &Backlog, route: &str, health: &Health) -> Word {
    let is_late = backlog.oldest.is_some_and(|oldest| now.since(oldest) >= report_after);
    let shut = health.down.as_ref().filter(|down| down.shut && backlog.waiting > 0);
    let is_shut = shut.is_some_and(|down| now.since(down.since) >= SHUT_FOR);
    let news = match (is_shut, is_late) {
        (true, _) => Some(Word::Shut),
        (false, true) => Some(Word::Late),
        (false, false) => None,
    };
    match (&backlog.warned, news) {
        (None, None) => Word::Nothing,
        (None, Some(news)) => news,
        (Some(warned), Some(news)) => {
            let due = warned.due(route, report_after);
            // No period is longer; the clock was set back then.
            let is_new = now >= due || due.since(now) > REMIND;
            if is_new { news } else { Word::NotAgain }
        }
        (Some(warned), None) => {
            let took = health.taking.filter(|taking| health.down.is_none() && taking.last >= warned.last);
            let is_healthy = took.is_some_and(|taking| now.since(taking.since) >= healthy_for(report_after));
            if warned.lasts() && is_healthy { Word::Restored } else { Word::Nothing }
        }
    }
}

/// Watches over the records for one archive.
pub(super) struct Watch {
    pub(super) office: Arc<Office>,
    pub(super) archive: Archive,
}

/// What a watch has seen in former looks.
#[derive(Debug, Default)]
struct Memory {
    /// When a delay may be told again of which it has been logged that it is not told before.
    silent_until: Option<Timestamp>,
    /// When it looked first.
    began: Option<Timestamp>,
}

impl Watch {
    /// Ends when the end begins, or with the supervisor's sender.
    pub(super) async fn run(self, mut end: watch::Receiver<()>) {
        let mut config = self.office.config.clone();
        let mut circuits = self.office.circuits.changes();
        let mut memory = Memory::default();
        loop {
            config.borrow_and_update();
            circuits.borrow_and_update();
            let Some(way) = self.office.way(&self.archive, Freight::Records) else { return };
            let wait = self.look(&way, &mut memory).await.unwrap_or_else(|error| {
                tracing::warn!(event = "deliver.stalled", organization = self.archive.organization, %error, "the spool does not say what waits");
                LOOK_AGAIN
            });
            tokio::select! {
                biased;
                () = over(&self.office, &mut end) => return,
                () = changed(&mut config) => {}
                () = changed(&mut circuits) => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Looks, tells what there is to tell, gives up what is too old; says when to look again.
    async fn look(&self, way: &Way, memory: &mut Memory) -> Result<Duration, SpoolError> {
        let (retry, route) = (&way.config.retry, way.label());
        let mut health = self.office.health(way);
        let now = self.office.clock.now();
        let began = *memory.began.get_or_insert(now);
        let mut backlog = self.office.spool.backlog(&self.archive).await?;
        if let Some(down) = &health.down
            && backlog.oldest.is_some_and(|oldest| now.since(oldest) >= retry.give_up)
        {
            let setback =
                Setback { route: route.to_owned(), reply: down.reply.text.clone(), reply_is_smtp: down.reply.is_smtp };
            self.give_up(retry, &setback, now).await?;
            backlog = self.office.spool.backlog(&self.archive).await?;
        }
        if let Some(warned) = backlog.warned.as_ref().filter(|warned| warned.lasts())
            && health == Health::default()
            && backlog.waiting == 0
            && self.office.spool.acked_since(&self.archive, warned.last).await? > 0
        {
            // Taken before a restart, and nothing has come since: nobody will find out more.
            health.taking = Some(Taking { since: began, last: now });
        }
        match word(now, retry.report_after, &backlog, route, &health) {
            Word::Nothing => {}
            Word::NotAgain => {
                if let Some(warned) = &backlog.warned {
                    self.log_silence(&backlog, warned, warned.due(route, retry.report_after), memory);
                }
            }
            Word::Late => {
                let until = now.minus(retry.report_after);
                self.tell_delay(way, &health, &backlog, until, now).await?;
            }
            Word::Shut => self.tell_delay(way, &health, &backlog, now, now).await?,
            Word::Restored => {
                if let (Some(warned), Some(taking)) = (backlog.warned.clone(), health.taking) {
                    self.tell_end(warned, &backlog, taking.since, now).await?;
                }
            }
        }
        Ok(next_look(retry, route, &backlog, &health, now))
    }

    /// Fails what has waited for too long behind a route that is down: nobody tries it, so nobody else gives it up.
    async fn give_up(&self, retry: &Retry, setback: &Setback, now: Timestamp) -> Result<(), SpoolError> {
        let until = now.minus(retry.give_up);
        loop {
            let given_up = self.office.spool.give_up(&self.archive, until, setback.clone(), now).await?;
            for record in &given_up {
                tracing::error!(event = "record.failed", %record, organization = self.archive.organization, route = setback.route, reply = setback.reply, reason = "given up", "the record is kept as failed");
            }
            if given_up.is_empty() {
                return Ok(());
            }
        }
    }

    async fn tell_delay(
        &self,
        way: &Way,
        health: &Health,
        backlog: &Backlog,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let late = self.office.spool.waiting(&self.archive, until, MAX_NAMED, now).await?;
        let outage = outage(&self.archive, way.label(), health, backlog, &late, now);
        let late = with_route(late, &outage);
        tracing::warn!(
            event = "record.delayed",
            organization = self.archive.organization,
            route = outage.route,
            reply = outage.reply,
            waiting = outage.waiting,
            late = late.total(),
            "records wait; the organization is told"
        );
        let report = self.office.seed(now).tell(&self.archive.organization, News::Delayed { outage, late });
        self.office.spool.tell(report).await
    }

    async fn tell_end(
        &self,
        warned: Warned,
        backlog: &Backlog,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let delivered = self.office.spool.acked_since(&self.archive, warned.first).await?;
        let archive = self.archive.key.clone();
        let outage = Outage { archive, waiting: backlog.waiting, ..warned.outage };
        let news = News::Restored { outage, delivered, until: Some(until) };
        let report = self.office.seed(now).tell(&self.archive.organization, news);
        self.office.spool.tell(report).await
    }

    /// Says once for each told delay that more records wait than were told of, or that it has come back.
    fn log_silence(&self, backlog: &Backlog, warned: &Warned, due: Timestamp, memory: &mut Memory) {
        let is_more = !warned.lasts() || backlog.waiting > warned.outage.waiting;
        if is_more && memory.silent_until != Some(due) {
            memory.silent_until = Some(due);
            let reason = if warned.lasts() {
                "the delay has been told already"
            } else {
                "the route comes and goes, and that has been told"
            };
            tracing::info!(
                event = "report.suppressed",
                organization = self.archive.organization,
                kind = "delayed",
                waiting = backlog.waiting,
                next = due.rfc3339(),
                reason,
                "records wait; that is not told before the next time"
            );
        }
    }
}

/// What can be foreseen, and else the longest wait: when the route turns, the circuits say so.
fn next_look(retry: &Retry, route: &str, backlog: &Backlog, health: &Health, now: Timestamp) -> Duration {
    let warned = backlog.warned.as_ref();
    let moments = [
        backlog.oldest.map(|oldest| oldest.plus(retry.report_after)),
        backlog.oldest.map(|oldest| oldest.plus(retry.give_up)),
        health.down.as_ref().filter(|down| down.shut).map(|down| down.since.plus(SHUT_FOR)),
        health.taking.map(|taking| taking.since.plus(healthy_for(retry.report_after))),
        warned.map(|warned| warned.due(route, retry.report_after)),
    ];
    let next = moments.into_iter().flatten().filter(|moment| *moment > now).min();
    let longest = LOOK_EVERY.min(retry.report_after).min(retry.give_up);
    next.map_or(longest, |moment| moment.since(now).min(longest)).max(LOOK_SOON)
}

fn healthy_for(report_after: Duration) -> Duration {
    HEALTHY_FOR.min(report_after)
}

fn outage(archive: &Archive, route: &str, health: &Health, backlog: &Backlog, late: &Named, now: Timestamp) -> Outage {
    let oldest = late.records.first();
    let down = health.down.as_ref();
    // Without a failure of the route the oldest record knows what was said.
    let (reply, reply_is_smtp) = match (down, oldest) {
        (Some(down), _) => (down.reply.text.clone(), down.reply.is_smtp),
        (None, Some(oldest)) => (oldest.reply.clone(), oldest.reply_is_smtp),
        (None, None) => (String::new(), false),
    };
    let since = [down.map(|down| down.since), backlog.oldest].into_iter().flatten().min();
    Outage {
        archive: archive.key.clone(),
        route: route.to_owned(),
        since: since.unwrap_or(now),
        reply,
        reply_is_smtp,
        shut: down.is_some_and(|down| down.shut),
        waiting: backlog.waiting,
        next_probe: down.map(|down| down.next_probe).or_else(|| oldest.and_then(|oldest| oldest.next_attempt)),
    }
}

/// Records name the route they wait for, and its last word where none was said to them.
fn with_route(mut late: Named, outage: &Outage) -> Named {
    for notice in &mut late.records {
        notice.route.clone_from(&outage.route);
        if notice.reply.is_empty() {
            notice.reply.clone_from(&outage.reply);
            notice.reply_is_smtp = outage.reply_is_smtp;
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use super::super::circuits::Down;
    use super::*;
    use crate::deliver::Said;

    const NOW: Timestamp = Timestamp::from_millis(1_794_304_800_000);
    const AFTER: Duration = Duration::from_secs(4 * 3_600);
    const ROUTE: &str = "smtp://archive.example:25";

    fn backlog(oldest_ago: u64, warned_ago: Option<u64>) -> Backlog {
        let told = |ago| NOW.minus(Duration::from_secs(ago));
        let outage = outage(&"acme".into(), ROUTE, &Health::default(), &Backlog::default(), &Named::default(), NOW);
        let warned = warned_ago.map(|ago| Warned::of(outage, None, told(ago)));
        Backlog { waiting: 3, oldest: Some(told(oldest_ago)), warned }
    }

    fn down(ago: u64, shut: bool) -> Health {
        let reply = Said { text: "535 5.7.8 no".into(), is_smtp: true };
        let since = NOW.minus(Duration::from_secs(ago));
        Health { down: Some(Down { since, reply, shut, next_probe: NOW }), taking: None }
    }

    /// Takes records since and until so many seconds ago.
    fn taking(since: u64, last: u64) -> Health {
        let ago = |seconds| NOW.minus(Duration::from_secs(seconds));
        Health { down: None, taking: Some(Taking { since: ago(since), last: ago(last) }) }
    }

    #[test]
    fn a_delay_is_told_once_for_route_and_period_and_its_end_once() {
        let hours = |hours: u64| hours * 3_600;
        let none = Health::default;
        for (name, health, backlog, expected) in [
            ("nothing is late", none(), backlog(hours(3), None), Word::Nothing),
            ("late", none(), backlog(hours(4), None), Word::Late),
            ("late behind a route that is down", down(hours(5), false), backlog(hours(4), None), Word::Late),
            ("down, not late", down(hours(3), false), backlog(hours(3), None), Word::Nothing),
            ("told", down(hours(9), false), backlog(hours(9), Some(hours(5))), Word::NotAgain),
            ("told a day ago", down(hours(30), false), backlog(hours(29), Some(hours(24))), Word::Late),
            ("refused a moment ago", down(14, true), backlog(14, None), Word::Nothing),
            ("refused", down(15, true), backlog(15, None), Word::Shut),
            ("refused and told", down(hours(9), true), backlog(hours(9), Some(hours(8))), Word::NotAgain),
            ("takes again, late ones left", taking(600, 5), backlog(hours(9), Some(hours(5))), Word::NotAgain),
            ("takes again for a moment", taking(299, 5), backlog(10, Some(hours(5))), Word::Nothing),
            ("takes again", taking(300, 5), backlog(10, Some(hours(5))), Word::Restored),
            ("took before it was told", taking(hours(7), hours(6)), backlog(10, Some(hours(5))), Word::Nothing),
            ("nobody knows after a restart", none(), backlog(10, Some(hours(5))), Word::Nothing),
            ("still down", down(hours(5), false), backlog(10, Some(hours(5))), Word::Nothing),
        ] {
            assert_eq!(word(NOW, AFTER, &backlog, ROUTE, &health), expected, "{name}");
        }
    }

    #[test]
    fn a_delay_that_comes_back_keeps_its_distance_and_its_end_is_told_once() {
        let over = |ago: u64, ended_ago: u64| {
            let backlog = backlog(60, Some(ago));
            let warned = backlog.warned.map(|warned| warned.ended(NOW.minus(Duration::from_secs(ended_ago))));
            Backlog { warned, ..backlog }
        };
        for (name, health, backlog, expected) in [
            ("it is over", taking(900, 5), over(9_000, 60), Word::Nothing),
            ("it comes back", down(60, true), over(9_000, 599), Word::NotAgain),
            ("it comes back later", down(60, true), over(9_000, 600), Word::Shut),
        ] {
            assert_eq!(word(NOW, AFTER, &backlog, ROUTE, &health), expected, "{name}");
        }
    }

    #[test]
    fn with_a_short_report_after_the_end_is_told_as_soon() {
        let word = |since| word(NOW, Duration::from_secs(20), &backlog(5, Some(600)), ROUTE, &taking(since, 1));
        assert_eq!((word(19), word(20)), (Word::Nothing, Word::Restored));
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nobody_for_long() {
        let told_tomorrow = Backlog {
            warned: Some(Warned::of(
                outage(&"acme".into(), ROUTE, &Health::default(), &Backlog::default(), &Named::default(), NOW),
                None,
                NOW.plus(REMIND),
            )),
            ..backlog(5 * 3_600, None)
        };
        assert_eq!(word(NOW, AFTER, &told_tomorrow, ROUTE, &down(600, false)), Word::Late);
    }

    #[test]
    fn another_route_is_another_story_once_it_has_had_its_time() {
        let word = |warned_ago| {
            word(NOW, AFTER, &backlog(9 * 3_600, Some(warned_ago)), "mx:other.example", &Health::default())
        };
        assert_eq!((word(60), word(4 * 3_600)), (Word::NotAgain, Word::Late));
    }

    #[test]
    fn a_route_without_records_is_not_told_of() {
        let empty = Backlog::default();
        assert_eq!(word(NOW, AFTER, &empty, ROUTE, &down(600, true)), Word::Nothing);
    }
}
