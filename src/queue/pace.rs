//! When what has gathered for an organization's report address is told: soon when it is news, rarely when it goes on.
//!
//! A first failure is told once nothing followed it for [`SETTLE`], or [`GATHER`] after it when more keep coming. From
//! then on reports keep growing distances ([`DISTANCES`]), so that an outage that fails records all day makes a handful
//! of mails, until there has been nothing to tell for [`QUIET`]. Delays have distances of their own ([`Comings`]): an archive
//! that comes and goes for a week makes a mail or two a day.

use crate::mail::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long nothing must follow what is told.
pub const SETTLE: Duration = Duration::from_secs(5);
/// The longest that a first failure waits for company.
pub const GATHER: Duration = Duration::from_secs(30);
/// The least time between a report and the next: the first and the second, the second and the third, all others.
pub const DISTANCES: [Duration; 3] =
    [Duration::from_secs(10 * 60), Duration::from_secs(3_600), Duration::from_secs(4 * 3_600)];
/// After this time without anything to tell the next failure is news again.
pub const QUIET: Duration = Duration::from_secs(6 * 3_600);
/// The least time between the end of a delay, once it was told, and the next delay of that route that is told: the first and
/// the second, the second and the third, …, all others.
pub const DELAY_DISTANCES: [Duration; 5] = [
    Duration::from_secs(10 * 60),
    Duration::from_secs(3_600),
    Duration::from_secs(4 * 3_600),
    Duration::from_secs(12 * 3_600),
    Duration::from_secs(24 * 3_600),
];
/// After this time without a delay the next one is the first again. Twice the longest distance: a route that goes on failing
/// is told of within one.
pub const CALM: Duration = Duration::from_secs(48 * 3_600);

/// How an organization is told; stored with what has gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pace {
    /// When the oldest thing that has not been told happened, …
    first: Option<Timestamp>,
    /// … and the newest, told or not.
    last: Option<Timestamp>,
    /// When the last report was made.
    told: Option<Timestamp>,
    /// Reports made since it was quiet.
    reports: usize,
    /// Things that will be named, …
    named: usize,
    /// … and those beyond the maximum, which will be counted.
    more: u64,
}

impl Pace {
    /// Something happened. Whether it is to be named: there are fewer than `most` so far; else it is counted.
    pub fn notice(&mut self, now: Timestamp, most: usize) -> bool {
        if self.last.is_none_or(|last| now.since(last) >= QUIET) {
            self.reports = 0;
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
        let is_named = self.named < most;
        if is_named {
            self.named += 1;
        } else {
            self.more = self.more.saturating_add(1);
        }
        is_named
    }

    /// When the next report is to be made; none while there is nothing to tell.
    pub fn due(&self) -> Option<Timestamp> {
        let (first, last) = (self.first?, self.last?);
        let gathered = last.plus(SETTLE).min(first.plus(GATHER));
        let distance = self.distance();
        let Some(told) = self.told else { return Some(gathered) };
        // The second bound is for a clock that was set back.
        Some(gathered.max(told.plus(distance)).min(first.plus(distance.max(GATHER))))
    }

    /// A report was made of everything; tells how many things it counts without their names.
    pub fn tell(&mut self, now: Timestamp) -> u64 {
        let more = self.more;
        *self = Self { last: self.last, told: Some(now), reports: self.reports.saturating_add(1), ..Self::default() };
        more
    }

    fn distance(&self) -> Duration {
        self.reports.checked_sub(1).map_or(Duration::ZERO, |before| nth(DISTANCES, before))
    }
}

/// How often a delay came back, and when it ended last; stored with what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Comings {
    /// Delays that were told, and ended, since it was calm, but for the last one.
    before: usize,
    /// When the end of the last one was told; none while it lasts.
    over: Option<Timestamp>,
}

impl Comings {
    /// The end is told.
    pub fn end(&mut self, now: Timestamp) {
        self.over = Some(now);
    }

    /// It is told anew; a reminder of what has not ended changes nothing.
    pub fn begin(&mut self, now: Timestamp) {
        if let Some(over) = self.over.take() {
            self.before = if now.since(over) >= CALM { 0 } else { self.before.saturating_add(1) };
        }
    }

    /// Whether its end was told.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// When it may be told again after its end; none while it lasts.
    pub fn due(&self) -> Option<Timestamp> {
        Some(self.over?.plus(nth(DELAY_DISTANCES, self.before)))
    }
}

/// The distance after so many; the last one holds for all others.
fn nth<const N: usize>(distances: [Duration; N], before: usize) -> Duration {
    distances.get(before).or(distances.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_794_304_800_000).plus(Duration::from_secs(seconds))
    }

    /// When reports are made of things that happen at these seconds, oldest first.
    fn reports(things: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let (mut pace, mut made) = (Pace::default(), Vec::new());
        let mut make = |pace: &mut Pace, until: Option<Timestamp>| {
            if let Some(due) = pace.due().filter(|due| until.is_none_or(|until| *due <= until)) {
                made.push(due.since(at(0)).as_secs());
                pace.tell(due);
            }
        };
        for thing in things {
            make(&mut pace, Some(at(thing)));
            assert!(pace.notice(at(thing), usize::MAX));
        }
        make(&mut pace, None);
        made
    }

    #[test]
    fn a_single_failure_is_told_promptly() {
        assert_eq!(reports([100]), [105]);
    }

    #[test]
    fn what_fails_together_is_told_together() {
        assert_eq!(reports(0..20), [24]);
        assert_eq!(reports((0..300).map(|number| number / 2)), [30, 630], "five hundred within minutes: two reports");
    }

    #[test]
    fn an_outage_that_fails_records_all_day_makes_a_handful_of_reports() {
        for distance in [1, 60, 1_800] {
            let made = reports((0..86_400).step_by(distance));
            assert!(made.len() <= 10, "{distance}: {made:?}");
        }
    }

    #[test]
    fn after_a_quiet_time_a_failure_is_news_again() {
        let quiet = 5 + QUIET.as_secs();
        assert_eq!(reports([0, 60, quiet + 60, quiet + 70]), [5, 605, quiet + 65, quiet + 65 + 600]);
    }

    #[test]
    fn what_is_beyond_the_maximum_is_counted() {
        let mut pace = Pace::default();
        let named = (0..10).filter(|_| pace.notice(at(0), 4)).count();
        assert_eq!((named, pace.tell(at(30)), pace.tell(at(40))), (4, 6, 0));
        assert!(pace.notice(at(50), 4), "the next report names again");
    }

    /// Delays that are told of a route that is down and up for so long in turn, each time its end as soon as it is up.
    fn delays(down: u64, up: u64, until: u64) -> Vec<u64> {
        let (mut comings, mut told) = (None::<Comings>, Vec::new());
        for start in (0..until).step_by(usize::try_from(down + up).unwrap()) {
            let due = comings.and_then(|comings| comings.due()).map_or(0, |due| due.since(at(0)).as_secs());
            if due > start + down {
                continue;
            }
            let begin = due.max(start);
            told.push(begin);
            let comings = comings.get_or_insert_default();
            comings.begin(at(begin));
            assert!(!comings.is_over() && comings.due().is_none(), "a reminder is no new delay");
            comings.end(at(start + down));
        }
        told
    }

    #[test]
    fn a_delay_that_comes_back_is_told_at_growing_distances() {
        let hour = 3_600;
        assert_eq!(
            delays(60, 60, 18 * hour),
            [0, 660, 4_260, 18_660, 61_860],
            "10 min, 1 h, 4 h and 12 h after the end of the former"
        );
        for (down, up) in [(1, 1), (600, 60), (60, 600), (6 * hour, 6 * hour), (23 * hour, hour), (hour, 23 * hour)] {
            let told = delays(down, up, 7 * 24 * hour);
            assert!(told.len() <= 11, "{down} {up}: {told:?}");
        }
    }

    #[test]
    fn after_a_calm_time_a_delay_is_the_first_again() {
        let calm = CALM.as_secs();
        assert_eq!(delays(60, calm, calm * 2), [0, calm + 60]);
        let mut comings = Comings::default();
        for begin in [0, 10_000, 100_000] {
            comings.begin(at(begin));
            comings.end(at(begin + 60));
        }
        comings.begin(at(100_060 + calm));
        comings.end(at(300_000));
        assert_eq!(comings.due(), Some(at(300_000).plus(DELAY_DISTANCES[0])));
    }

    proptest! {
        #[test]
        fn everything_is_told_and_never_later_than_the_longest_distance(
            mut things in prop::collection::vec(0_u64..200_000, 1..60)
        ) {
            things.sort_unstable();
            let made = reports(things.clone());
            let [.., longest] = DISTANCES;
            for thing in things {
                prop_assert!(made.iter().any(|report| (thing..=thing + longest.as_secs()).contains(report)));
            }
            prop_assert!(made.windows(2).all(|pair| pair[1] >= pair[0] + DISTANCES[0].as_secs() || pair[1] > pair[0] + QUIET.as_secs()));
        }
    }
}
