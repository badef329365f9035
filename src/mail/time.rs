//! A moment, to the millisecond, UTC, and the two ways mail and logs write it.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment and `duration` more; the furthest moment there is when that overflows.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment less `duration`; the first moment there is when that underflows.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As in logs and tables: `2026-11-10T10:00:00.120Z` (RFC 3339), with three digits behind the second, whatever they are:
    /// columns of one width are read more easily.
    pub fn rfc3339(self) -> String {
        let moment = self.date_time();
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second, millis) = moment.to_hms_milli();
        let mut text = String::with_capacity(24);
        let parts = [
            (year.unsigned_abs(), 4, '-'),
            (u32::from(u8::from(month)), 2, '-'),
            (u32::from(day), 2, 'T'),
            (u32::from(hour), 2, ':'),
            (u32::from(minute), 2, ':'),
            (u32::from(second), 2, '.'),
            (u32::from(millis), 3, 'Z'),
        ];
        for (number, digits, behind) in parts {
            for place in (0..digits).rev() {
                let digit = number / 10u32.pow(place) % 10;
                text.push(char::from_digit(digit, 10).unwrap_or('0'));
            }
            text.push(behind);
        }
        text
    }

    /// As in records: `2026-11-10T10:00:00.12Z`, without zeros at the end. What is sealed is sent again octet for octet, also by
    /// a later version, so this stays.
    pub fn rfc3339_in_records(self) -> String {
        self.date_time().format(&Rfc3339).unwrap_or_default()
    }

    /// Reads what [`rfc3339`](Self::rfc3339) writes, in any time zone (RFC 3339), or a date alone, which is its midnight, UTC.
    ///
    /// # Errors
    /// What is expected, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        const DATE: &[time::format_description::BorrowedFormatItem<'_>] =
            time::macros::format_description!("[year]-[month]-[day]");
        let moment = OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| time::Date::parse(text, DATE).map(|date| date.midnight().assume_utc()));
        let moment = moment
            .map_err(|_| "a date (2026-11-10) or a time (2026-11-10T10:00:00Z, RFC 3339) is expected".to_owned())?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).map(Self).map_err(|error| error.to_string())
    }

    /// As in header fields: `Tue, 10 Nov 2026 10:00:00 +0000` (RFC 5322, section 3.3).
    pub fn rfc5322(self) -> String {
        self.date_time().format(&Rfc2822).unwrap_or_default()
    }

    fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Timestamp = Timestamp::from_millis(1_794_304_800_123);

    #[test]
    fn a_header_date_is_written_as_rfc_5322_asks() {
        assert_eq!(MOMENT.rfc5322(), "Tue, 10 Nov 2026 10:00:00 +0000");
    }

    #[test]
    fn a_log_time_is_written_as_rfc_3339_asks() {
        assert_eq!(MOMENT.rfc3339(), "2026-11-10T10:00:00.123Z");
    }

    #[test]
    fn a_time_is_read_as_it_is_written_and_a_date_is_its_midnight() {
        assert_eq!(Timestamp::parse(&MOMENT.rfc3339()), Ok(MOMENT));
        assert_eq!(Timestamp::parse("2026-11-10T11:00:00.123+01:00"), Ok(MOMENT));
        assert_eq!(Timestamp::parse("2026-11-10").unwrap().rfc3339(), "2026-11-10T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(MOMENT.as_millis() - 3).rfc3339(), "2026-11-10T10:00:00.120Z");
        assert_eq!(Timestamp::from_millis(MOMENT.as_millis() - 3).rfc3339_in_records(), "2026-11-10T10:00:00.12Z");
        for wrong in ["", "yesterday", "2026-13-01", "10.11.2026", "2026-11-10T10:00"] {
            assert!(Timestamp::parse(wrong).unwrap_err().contains("2026-11-10"), "{wrong:?}");
        }
    }

    #[test]
    fn adding_more_than_there_is_stops_at_the_end() {
        assert_eq!(Timestamp::from_millis(i64::MAX - 1).plus(Duration::from_secs(9)), Timestamp::from_millis(i64::MAX));
    }

    #[test]
    fn a_moment_ahead_was_no_time_ago() {
        assert_eq!(MOMENT.since(MOMENT.plus(Duration::from_secs(1))), Duration::ZERO);
    }
}
