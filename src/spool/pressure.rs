//! How much room the spool's file system has left, and when new mail has to wait for more.
//!
//! Free octets and inodes are looked at every few seconds, and at once after a failure. Below a minimum new mail is refused
//! early, so that nobody sends a message in vain and what waits can still be sent: each acknowledgement is a write, too. The
//! pressure ends a quarter above the minimum, so that it does not come and go with every message. Octets that came count as
//! used until the next look behind the message's end sees them, and with them what is promised ahead: of the declared size
//! as much again as has come, [`AHEAD`] at most. So a client takes from others at most twice what it really sends, whatever it
//! declares. Messages under way end, too, before they take what is kept for acknowledgements.

use super::{Spool, SpoolError};
use crate::drain::Drain;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How often the file system is asked while there is room …
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// … and while there isn't. After a failure it is asked no sooner than this, either.
pub const LOOK_UNDER_PRESSURE: Duration = Duration::from_secs(1);
/// For an answer; a file system that gives none says nothing of its room.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets that stay free at least, …
const MIN_OCTETS: u64 = 64 << 20;
/// … or what the largest message takes, and these more for the write-ahead log on its way (a full batch and a checkpoint).
const LOG_HEADROOM: u64 = 32 << 20;
/// Inodes that stay free at least.
const MIN_INODES: u64 = 1_000;
/// On a small file system the minima are this part of it.
const SMALL_PART: u64 = 10;
/// Messages under way may take this part of the minimum; the rest is for what waits already.
const UNDER_WAY_PART: u64 = 2;
/// Octets of what a message declared that count as used before they come, at most.
const AHEAD: u64 = 4 << 20;
/// The pressure ends this part above the minimum.
const RELIEF_PART: u64 = 4;

/// What a file system has left for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Octets that may still be written without privileges.
    pub free_octets: u64,
    /// Octets in all.
    pub total_octets: u64,
    /// Files that may still be made; a file system that makes inodes as it needs them has none to count.
    pub free_inodes: Option<u64>,
    /// Files in all.
    pub total_inodes: u64,
}

impl Room {
    /// A file system without an end.
    pub const ENDLESS: Self =
        Self { free_octets: u64::MAX, total_octets: u64::MAX, free_inodes: None, total_inodes: 0 };

    /// Whether the minima, raised by one part in `above` where given, are kept.
    fn has_minima(&self, largest_message: u64, above: Option<u64>) -> bool {
        let raise = |minimum: u64| above.map_or(minimum, |part| minimum.saturating_add(minimum / part));
        let octets = raise(self.min_octets(largest_message));
        let inodes = raise(MIN_INODES.min(self.total_inodes / SMALL_PART));
        self.free_octets >= octets && self.free_inodes.is_none_or(|free| free >= inodes)
    }

    fn min_octets(&self, largest_message: u64) -> u64 {
        MIN_OCTETS.max(largest_message.saturating_add(LOG_HEADROOM)).min(self.total_octets / SMALL_PART)
    }
}

/// The pressure, to be asked and told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Octets promised to messages on their way.
    under_way: AtomicU64,
    /// Octets of messages that were over since the last look.
    spent: AtomicU64,
    /// Octets that came since the last look.
    arrived: AtomicU64,
    largest_message: AtomicU64,
    look: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// None before the first look.
    room: Option<Room>,
    low: bool,
}

impl Pressure {
    /// The pressure where messages may have so many octets.
    pub fn new(largest_message: u64) -> Self {
        let pressure = Self::default();
        pressure.set_largest_message(largest_message);
        pressure
    }

    /// Takes a new limit of messages; it holds from the next look on.
    pub fn set_largest_message(&self, octets: u64) {
        self.0.largest_message.store(octets, Ordering::Relaxed);
    }

    /// The room at the last look, and whether it is too little.
    pub fn state(&self) -> (Option<Room>, bool) {
        let seen = *self.seen();
        (seen.room, seen.low)
    }

    /// Whether there is room for a message of the size that its client declared. Nothing is promised yet: anybody may
    /// declare anything and send nothing; see [`Reservation::reach`].
    ///
    /// # Errors
    /// [`SpoolError::Full`]: there is pressure already, or this message would make it.
    pub fn admit(&self, declared: Option<u64>) -> Result<Reservation, SpoolError> {
        let seen = *self.seen();
        let size = declared.unwrap_or(0);
        if let Some(room) = seen.room {
            let taken = self.0.under_way.load(Ordering::Relaxed).saturating_add(self.0.spent.load(Ordering::Relaxed));
            let left = room.free_octets.saturating_sub(taken);
            let minimum = room.min_octets(self.0.largest_message.load(Ordering::Relaxed));
            if seen.low || left < minimum.saturating_add(size) {
                // What was promised may not be taken in the end.
                self.look_soon();
                let inodes = room.free_inodes.map_or_else(String::new, |free| format!(", {free} inodes"));
                return Err(SpoolError::Full(format!(
                    "{left} octets{inodes} free; {minimum} octets are kept for what waits already"
                )));
            }
        }
        Ok(Reservation { pressure: self.clone(), declared: size, promised: 0, came: 0 })
    }

    /// Something could not be written: looks soon.
    pub fn look_soon(&self) {
        self.0.look.notify_one();
    }

    /// Looks at the room of `spool` until the end begins.
    pub async fn watch(self, spool: Arc<dyn Spool>, drain: Drain) {
        while !drain.has_begun() {
            // What is over from here on, the look may not see.
            let [spent, arrived] = [&self.0.spent, &self.0.arrived].map(|octets| octets.load(Ordering::Relaxed));
            if let Ok(Ok(room)) = timeout(LOOK_TIMEOUT, spool.room()).await {
                self.note(room);
                self.0.spent.fetch_sub(spent, Ordering::Relaxed);
                self.0.arrived.fetch_sub(arrived, Ordering::Relaxed);
            }
            let rest = if self.state().1 { LOOK_UNDER_PRESSURE } else { LOOK_EVERY };
            tokio::select! {
                biased;
                () = drain.begun() => return,
                () = sleep(LOOK_UNDER_PRESSURE) => {}
            }
            tokio::select! {
                biased;
                () = drain.begun() => return,
                () = self.0.look.notified() => {}
                () = sleep(rest.saturating_sub(LOOK_UNDER_PRESSURE)) => {}
            }
        }
    }

    /// Takes what was seen; a change is logged.
    pub fn note(&self, room: Room) {
        let largest = self.0.largest_message.load(Ordering::Relaxed);
        let mut seen = self.seen();
        let was_low = seen.low;
        let low = !room.has_minima(largest, was_low.then_some(RELIEF_PART));
        *seen = Seen { room: Some(room), low };
        drop(seen);
        let Room { free_octets, free_inodes, .. } = room;
        let minimum = room.min_octets(largest);
        if low && !was_low {
            tracing::error!(
                event = "spool.pressure",
                state = "low",
                free_octets,
                free_inodes,
                minimum,
                "the spool's file system has too little room: new mail waits, records go on leaving"
            );
        } else if was_low && !low {
            tracing::info!(
                event = "spool.pressure",
                state = "ok",
                free_octets,
                free_inodes,
                minimum,
                "the spool's file system has room again"
            );
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one message, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    pressure: Pressure,
    declared: u64,
    /// Octets that count as used.
    promised: u64,
    /// Octets that came.
    came: u64,
}

impl Reservation {
    /// The message will have so many octets now: more than it declared, perhaps. They count as used, and some of those that
    /// will follow.
    ///
    /// # Errors
    /// [`SpoolError::Full`]: what is left is kept for acknowledgements.
    pub fn reach(&mut self, octets: u64) -> Result<(), SpoolError> {
        let shared = &self.pressure.0;
        let more = octets.saturating_sub(self.came);
        let arrived = shared.arrived.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        self.came = self.came.max(octets);
        let ahead = self.declared.saturating_sub(octets).min(octets).min(AHEAD);
        self.take(octets.saturating_add(ahead));
        let Some(room) = self.pressure.state().0 else { return Ok(()) };
        let left = room.free_octets.saturating_sub(arrived);
        let kept = room.min_octets(self.pressure.0.largest_message.load(Ordering::Relaxed)) / UNDER_WAY_PART;
        if left < kept {
            return Err(SpoolError::Full(format!("{left} octets free; {kept} octets are kept for what waits already")));
        }
        Ok(())
    }

    fn take(&mut self, octets: u64) {
        let more = octets.saturating_sub(self.promised);
        self.pressure.0.under_way.fetch_add(more, Ordering::Relaxed);
        self.promised = self.promised.max(octets);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // What never came is on no disk, and no look will find it.
        self.pressure.0.spent.fetch_add(self.came, Ordering::Relaxed);
        self.pressure.0.under_way.fetch_sub(self.promised, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::MemorySpool;
    use crate::spool::disk::{Disk, SystemDisk};
    use crate::spool::fixtures::{HandClock, options};

    const MIB: u64 = 1 << 20;
    const LARGEST: u64 = 64 * MIB;

    fn disk_of(free: u64, total: u64) -> Room {
        Room { free_octets: free, total_octets: total, free_inodes: Some(1_000_000), total_inodes: 2_000_000 }
    }

    /// Its minimum is 96 MiB.
    fn large(free: u64) -> Room {
        disk_of(free, 100 << 30)
    }

    #[test]
    fn mail_waits_below_the_minimum_until_there_is_a_quarter_more() {
        let pressure = Pressure::new(LARGEST);
        assert!(pressure.admit(None).is_ok(), "before the first look nothing is known");
        for (free, admits) in [(96, true), (95, false), (96, false), (119, false), (120, true), (96, true), (95, false)]
        {
            pressure.note(large(free * MIB));
            assert_eq!(pressure.admit(None).is_ok(), admits, "{free} MiB");
        }
    }

    #[test]
    fn few_inodes_are_pressure_and_uncounted_ones_are_not() {
        let pressure = Pressure::new(LARGEST);
        let inodes = |free| Room { free_inodes: free, ..large(1 << 36) };
        for (free, low) in
            [(Some(1_000), false), (Some(999), true), (Some(1_249), true), (Some(1_250), false), (None, false)]
        {
            pressure.note(inodes(free));
            assert_eq!(pressure.state().1, low, "{free:?}");
        }
    }

    #[test]
    fn a_small_disk_keeps_a_tenth_of_itself() {
        let pressure = Pressure::new(LARGEST);
        pressure.note(disk_of(MIB / 2, 4 * MIB));
        assert!(pressure.admit(Some(1_000)).is_ok());
        assert!(pressure.admit(Some(MIB / 2)).is_err(), "it does not fit");
        pressure.note(disk_of(MIB / 4, 4 * MIB));
        assert!(pressure.admit(Some(1_000)).is_err());
    }

    #[test]
    fn messages_on_their_way_count_until_a_look_has_seen_them() {
        let pressure = Pressure::new(LARGEST);
        pressure.note(large(200 * MIB));
        let mut first = pressure.admit(Some(60 * MIB)).unwrap();
        first.reach(60 * MIB).unwrap();
        assert!(pressure.admit(Some(60 * MIB)).is_err(), "two of them leave too little");
        let mut second = pressure.admit(None).unwrap();
        second.reach(40 * MIB).unwrap();
        assert!(pressure.admit(Some(10 * MIB)).is_err(), "a message without SIZE counts as it comes");
        drop((first, second));
        assert!(pressure.admit(Some(10 * MIB)).is_err(), "what is over is on the disk, and no look has seen it");
    }

    #[test]
    fn a_size_that_is_only_declared_takes_no_room_from_others() {
        let pressure = Pressure::new(LARGEST);
        pressure.note(large(200 * MIB));
        let mut idle: Vec<_> = (0..1_000).map(|_| pressure.admit(Some(60 * MIB)).unwrap()).collect();
        assert!(pressure.admit(Some(60 * MIB)).is_ok(), "MAIL alone brings no octets");
        for begun in &mut idle {
            begun.reach(1_000).unwrap();
        }
        assert!(pressure.admit(Some(60 * MIB)).is_ok(), "DATA and some octets are not all that was declared");
        idle.truncate(10);
        for begun in &mut idle {
            begun.reach(3 * MIB).unwrap();
        }
        assert!(pressure.admit(Some(50 * MIB)).is_err(), "as much again may still come");
        drop(idle);
        assert!(pressure.admit(Some(60 * MIB)).is_ok(), "what was declared and did not come is on no disk");
    }

    #[test]
    fn what_is_promised_ahead_grows_with_what_comes_up_to_the_declared_size() {
        let pressure = Pressure::new(LARGEST);
        let mut message = pressure.admit(Some(10 * MIB)).unwrap();
        for (reached, counted) in [(0, 0), (1, 2), (3 * MIB, 6 * MIB), (5 * MIB, 9 * MIB), (8 * MIB, 10 * MIB)] {
            message.reach(reached).unwrap();
            assert_eq!(pressure.0.under_way.load(Ordering::Relaxed), counted, "{reached}");
        }
        message.reach(12 * MIB).unwrap();
        assert_eq!(pressure.0.under_way.load(Ordering::Relaxed), 12 * MIB, "more than it declared");
        drop(message);
        assert_eq!(pressure.0.under_way.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn messages_under_way_leave_what_acknowledgements_need() {
        let pressure = Pressure::new(LARGEST);
        pressure.note(large(200 * MIB));
        let mut begun: Vec<_> = (0..4).map(|_| pressure.admit(None).unwrap()).collect();
        let taken = (1..=64).map(|mib| begun.iter_mut().filter_map(|one| one.reach(mib * MIB).ok()).count() as u64);
        // Of 96 MiB, 48 stay; each of the four has a share of the others.
        assert_eq!(taken.sum::<u64>(), 200 - 48);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_looks_again_by_itself_and_forgets_what_it_has_seen() {
        let spool = MemorySpool::new(options(&HandClock::new()));
        let (pressure, drain) = (Pressure::new(LARGEST), Drain::default());
        spool.set_room(large(200 * MIB));
        drain.spawn("pressure", pressure.clone().watch(Arc::new(spool.clone()), drain.clone()));
        sleep(LOOK_UNDER_PRESSURE).await;
        pressure.admit(Some(60 * MIB)).unwrap().reach(60 * MIB).unwrap();
        assert!(pressure.admit(Some(60 * MIB)).is_err());
        sleep(LOOK_EVERY).await;
        drop(pressure.admit(Some(60 * MIB)).unwrap());
        spool.set_room(large(MIB));
        pressure.look_soon();
        sleep(LOOK_UNDER_PRESSURE).await;
        assert!(pressure.state().1);
        drain.begin();
        drain.done().await;
    }

    #[test]
    fn the_machine_s_disk_tells_its_room() {
        let place = tempfile::tempdir().unwrap();
        let room = SystemDisk.room(place.path()).unwrap();
        assert!(room.free_octets > 0 && room.free_octets <= room.total_octets, "{room:?}");
    }
}
