//! When the daemon gives up by itself: its spool is lost for this process, and only a new one can open it.
//!
//! Promises: a spool that only fails (a full disk, a write that was refused) ends nothing, it may work again; where mail is
//! relayed without it (`bypass`) nothing ends either; a daemon lives for [`SHORTEST_LIFE`] at least, so that one whose disk
//! fails at every start is not started over and over (systemd gives up after five starts in ten seconds).

use crate::watch;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// From the start to an end of its own, at least. Until then clients are told 451 as by any spool that fails.
const SHORTEST_LIFE: Duration = Duration::from_secs(20);

/// Ends when the daemon that began then should end, and start anew.
pub(super) async fn given_up(mut broken: watch::Receiver<bool>, begun: Instant, bypass: bool) {
    if bypass || broken.wait_for(|broken| *broken).await.is_err() {
        return std::future::pending().await;
    }
    sleep_until(begun + SHORTEST_LIFE).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn a_lost_spool_ends_the_daemon_but_not_at_once_and_not_where_mail_passes_without_it() {
        let (sender, broken) = watch::channel(false);
        let begun = Instant::now();
        let gives_up = |bypass| timeout(SOON, given_up(broken.clone(), begun, bypass));
        advance(SHORTEST_LIFE * 2).await;
        assert!(gives_up(false).await.is_err(), "it is well");
        sender.send_replace(true);
        assert!(gives_up(false).await.is_ok());
        assert!(gives_up(true).await.is_err(), "mail passes");
        let young = timeout(SOON, given_up(broken.clone(), Instant::now(), false));
        assert!(young.await.is_err(), "it has hardly begun");
        let young = given_up(broken.clone(), Instant::now(), false);
        assert!(timeout(SHORTEST_LIFE + SOON, young).await.is_ok());
    }
}
