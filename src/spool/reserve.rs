//! Room that is held for the day on which there is none: a file `reserve` in the spool's directory.
//!
//! Each acknowledgement is a write, too. On a disk that others fill to the last octet (or our own log does, faster than
//! anybody looks) what waits could not even leave, and nothing would ever make room again. So a file takes up a few MiB; when
//! a write of the database finds no room it is given up, and until it can be made again nothing that brings octets is
//! written: the room is for moves, reports and carrying the log over.
//!
//! Nothing of it needs to be durable; each start makes it anew, or gives it up where the disk is full already. A queue command
//! beside the daemon may give it up, too: to discard is to make room.

use super::disk::SharedDisk;
use super::files::is_full;
use super::{Room, SpoolError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Its name in the spool's directory.
const NAME: &str = "reserve";
/// Octets that are held: the write-ahead log carried over at once (16 MiB), and half as much for what is logged meanwhile.
const OCTETS: u64 = 24 << 20;
/// On a small file system it is this part of it.
const SMALL_PART: u64 = 16;
/// What is told while it is given up.
const FULL: &str = "the disk was full; what is left is kept for what waits already";

/// The reserve of one spool.
#[derive(Debug)]
pub(super) struct Reserve {
    disk: SharedDisk,
    path: PathBuf,
    /// Whether this is the daemon's own; a command only gives it up.
    is_owner: bool,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The disk can't hold room for anybody: there is no reserve, and nothing waits for one.
    Impossible,
    Held,
    /// Given up, or not made yet for want of room.
    Spent,
}

impl Reserve {
    /// The daemon's reserve in a spool's directory, made if the disk has room for it and given up if not.
    pub(super) fn hold(disk: SharedDisk, directory: &Path) -> Self {
        let reserve = Self { disk, path: directory.join(NAME), is_owner: true, state: Mutex::new(State::Impossible) };
        reserve.remove();
        *reserve.state() = reserve.make();
        reserve
    }

    /// The reserve as a command beside the daemon, or without one, finds it.
    pub(super) fn beside(disk: SharedDisk, directory: &Path) -> Self {
        Self { disk, path: directory.join(NAME), is_owner: false, state: Mutex::new(State::Held) }
    }

    /// Whether what brings octets may be written.
    ///
    /// # Errors
    /// [`SpoolError::Full`]: the reserve is given up.
    pub(super) fn admit(&self) -> Result<(), SpoolError> {
        match *self.state() {
            State::Spent => Err(SpoolError::Full(FULL.to_owned())),
            State::Impossible | State::Held => Ok(()),
        }
    }

    /// A write found no room: lets go of what is held. False when nothing was.
    pub(super) fn give_up(&self) -> bool {
        let mut state = self.state();
        if *state != State::Held || !self.remove() {
            return false;
        }
        *state = State::Spent;
        tracing::warn!(
            event = "spool.pressure",
            state = "reserve_spent",
            "the spool's disk is full: its reserve is given up, so that records can leave; new mail waits"
        );
        true
    }

    /// Makes it again when there is room for it and for as much again. To be called now and then.
    pub(super) fn look_after(&self) {
        if !self.is_owner {
            return;
        }
        let mut state = self.state();
        match *state {
            State::Impossible => {}
            // A command may have given it up.
            State::Held => {
                if self.disk.length(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                    *state = State::Spent;
                }
            }
            State::Spent => {
                *state = self.make();
                if *state != State::Spent {
                    tracing::info!(
                        event = "spool.pressure",
                        state = "reserve_held",
                        "the spool's disk has room for its reserve again"
                    );
                }
            }
        }
    }

    fn make(&self) -> State {
        let Some(Ok(room)) = self.path.parent().map(|directory| self.disk.room(directory)) else {
            return State::Impossible;
        };
        let octets = octets_on(&room);
        if room.free_octets / 2 < octets {
            return State::Spent;
        }
        match self.disk.hold_room(&self.path, octets) {
            Ok(()) => State::Held,
            Err(error) => {
                self.remove();
                tracing::debug!(event = "spool.pressure", %error, "the spool's reserve could not be made");
                if is_full(&error) { State::Spent } else { State::Impossible }
            }
        }
    }

    fn remove(&self) -> bool {
        self.disk.remove(&self.path).is_ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many octets are held on such a file system.
fn octets_on(room: &Room) -> u64 {
    OCTETS.min(room.total_octets / SMALL_PART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::system;

    #[test]
    fn a_small_file_system_holds_a_sixteenth_of_itself() {
        let small = Room { total_octets: 8 << 20, ..Room::ENDLESS };
        assert_eq!((octets_on(&small), octets_on(&Room::ENDLESS)), (512 << 10, OCTETS));
    }

    #[test]
    fn it_takes_room_until_it_is_given_up_and_takes_it_again() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(NAME), "torn").unwrap();
        let reserve = Reserve::hold(system(), place.path());
        let length = || std::fs::metadata(place.path().join(NAME)).map(|found| found.len());
        assert!(reserve.admit().is_ok());
        assert_eq!(length().unwrap(), octets_on(&system().room(place.path()).unwrap()), "a torn one is made anew");
        assert!(reserve.give_up());
        assert!(!reserve.give_up(), "only once");
        assert!(matches!(reserve.admit(), Err(SpoolError::Full(_))) && length().is_err());
        reserve.look_after();
        assert!(reserve.admit().is_ok() && length().is_ok());
    }

    #[test]
    fn a_command_gives_it_up_and_the_daemon_notices() {
        let place = tempfile::tempdir().unwrap();
        let reserve = Reserve::hold(system(), place.path());
        let command = Reserve::beside(system(), place.path());
        assert!(command.give_up());
        command.look_after();
        assert!(!place.path().join(NAME).exists(), "it is not a command's to make");
        reserve.look_after();
        assert!(reserve.admit().is_err());
    }
}
