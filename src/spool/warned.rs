//! What an organization has been told of a delay of its records, and when it may be told again.
//!
//! Both spools keep one for each organization, also after the delay's end was told: a route that comes and goes must not be
//! news each time, not after a restart either.

use crate::journal::Outage;
use crate::mail::Timestamp;
use crate::queue::Comings;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a delay must last to be told again.
pub const REMIND: Duration = Duration::from_secs(24 * 3_600);

/// A delay that has been told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warned {
    /// What was told last.
    pub outage: Outage,
    /// When it was told first, …
    pub first: Timestamp,
    /// … and last.
    pub last: Timestamp,
    /// Whether its end was told, and how often it came back. Rows of older versions are of delays that last.
    #[serde(default)]
    pub comings: Comings,
}

impl Warned {
    /// A delay is told `now`, after what was told before: the same one still, the next one, or another route's.
    pub fn of(outage: Outage, before: Option<Self>, now: Timestamp) -> Self {
        let Some(before) = before else { return Self { outage, first: now, last: now, comings: Comings::default() } };
        let first = if before.comings.is_over() { now } else { before.first };
        let mut comings = before.comings;
        if before.outage.route == outage.route {
            comings.begin(now);
        } else {
            comings = Comings::default();
        }
        Self { outage, first, last: now, comings }
    }

    /// The end is told `now`.
    pub fn ended(mut self, now: Timestamp) -> Self {
        self.comings.end(now);
        self
    }

    /// Whether the delay lasts, as far as was told.
    pub fn lasts(&self) -> bool {
        !self.comings.is_over()
    }

    /// When a delay of `route` may be told again. Another route than the one that was told is another story: it has
    /// `report_after` to make its own way while the former delay lasts, and no distance to keep afterwards.
    pub fn due(&self, route: &str, report_after: Duration) -> Timestamp {
        match (self.comings.due(), self.outage.route == route) {
            (None, true) => self.last.plus(REMIND),
            (None, false) => self.last.plus(report_after.min(REMIND)),
            (Some(due), true) => due,
            (Some(_), false) => self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::DELAY_DISTANCES;

    const ROUTE: &str = "smtp://archive.example:25";
    const AFTER: Duration = Duration::from_secs(4 * 3_600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_794_304_800_000).plus(Duration::from_secs(seconds))
    }

    fn outage(route: &str) -> Outage {
        Outage {
            archive: String::new(),
            route: route.to_owned(),
            since: at(0),
            reply: "451 later".to_owned(),
            reply_is_smtp: true,
            shut: false,
            waiting: 3,
            next_probe: None,
        }
    }

    #[test]
    fn a_delay_that_lasts_is_told_again_after_a_day_and_stays_the_same_one() {
        let told = Warned::of(outage(ROUTE), None, at(0));
        assert_eq!(told.due(ROUTE, AFTER), at(86_400));
        let again = Warned::of(outage(ROUTE), Some(told), at(90_000));
        assert_eq!((again.first, again.last, again.lasts()), (at(0), at(90_000), true));
    }

    #[test]
    fn after_its_end_the_next_one_keeps_its_distance_and_is_counted_anew() {
        let told = Warned::of(outage(ROUTE), None, at(0)).ended(at(1_000));
        assert!(!told.lasts());
        assert_eq!(told.due(ROUTE, AFTER), at(1_000).plus(DELAY_DISTANCES[0]));
        let next = Warned::of(outage(ROUTE), Some(told), at(2_000));
        assert_eq!((next.first, next.lasts()), (at(2_000), true));
        assert_eq!(next.ended(at(3_000)).due(ROUTE, AFTER), at(3_000).plus(DELAY_DISTANCES[1]));
    }

    #[test]
    fn another_route_is_another_story() {
        let told = Warned::of(outage(ROUTE), None, at(0));
        assert_eq!(told.due("mx:other.example", AFTER), at(0).plus(AFTER));
        let over = told.ended(at(60));
        assert_eq!(over.due("mx:other.example", AFTER), at(0));
        let other = Warned::of(outage("mx:other.example"), Some(over), at(70));
        assert_eq!(other.ended(at(80)).due("mx:other.example", AFTER), at(80).plus(DELAY_DISTANCES[0]));
    }

    #[test]
    fn a_row_of_an_older_version_is_of_a_delay_that_lasts() {
        let mut row = serde_json::to_value(Warned::of(outage(ROUTE), None, at(0))).unwrap();
        row.as_object_mut().unwrap().remove("comings");
        assert!(serde_json::from_value::<Warned>(row).unwrap().lasts());
    }
}
