//! How long a client may take, in a way that one octet now and then does not lengthen.
//!
//! A command must be whole within five minutes of what was said before it (RFC 5321, section 4.5.3.2.7). A message may take
//! three minutes (section 4.5.3.2.5) and 2 ms more for each octet that has come, as long as no more than three minutes are
//! left over: whoever sends 500 octets a second may go on as long as it likes, as with Postfix's `smtpd_min_data_rate`.

use std::time::Duration;
use tokio::time::Instant;

/// For the next command.
const COMMAND: Duration = Duration::from_secs(5 * 60);
/// For a message that does not come.
const DATA: Duration = Duration::from_secs(3 * 60);
/// What an octet of a message is worth.
const OCTET: Duration = Duration::from_millis(2);

/// The time that is left.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    in_data: bool,
}

impl Patience {
    /// It begins.
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + COMMAND, in_data: false }
    }

    /// Before more is read: `progressed` says that something was said to the client since.
    pub(super) fn look(&mut self, in_data: bool, progressed: bool) {
        if in_data != self.in_data || (progressed && !in_data) {
            *self = Self { until: Instant::now() + if in_data { DATA } else { COMMAND }, in_data };
        }
    }

    /// So many octets came.
    pub(super) fn came(&mut self, octets: usize) {
        if self.in_data {
            let more = OCTET.saturating_mul(u32::try_from(octets).unwrap_or(u32::MAX)).min(DATA);
            self.until = (self.until + more).min(Instant::now() + DATA);
        }
    }

    /// When it is over.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long a client holds out that sends so many octets each second, and is looked at as often.
    async fn holds_out(in_data: bool, octets: usize) -> Duration {
        let (begin, mut patience) = (Instant::now(), Patience::new());
        loop {
            patience.look(in_data, false);
            if Instant::now() >= patience.until() || begin.elapsed() > 100 * DATA {
                return begin.elapsed();
            }
            sleep(SECOND).await;
            patience.came(octets);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_line_octet_by_octet_has_its_time_and_no_more() {
        assert_eq!(holds_out(false, 1).await, COMMAND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_may_be_slow_but_not_slower_than_the_rate() {
        assert_eq!(holds_out(true, 0).await, DATA);
        assert_eq!(holds_out(true, 250).await, 2 * DATA);
        assert!(holds_out(true, 500).await > 99 * DATA);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_fast_does_not_buy_hours_of_silence() {
        let mut patience = Patience::new();
        patience.look(true, false);
        patience.came(100 << 20);
        assert!(patience.until() <= Instant::now() + DATA);
    }

    #[tokio::test(start_paused = true)]
    async fn each_command_begins_anew() {
        let mut patience = Patience::new();
        sleep(COMMAND - SECOND).await;
        patience.look(false, true);
        assert_eq!(patience.until(), Instant::now() + COMMAND);
    }
}
