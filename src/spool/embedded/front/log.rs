//! The log in front of the database: groups of entries, each durable whole or not at all.
//!
//! ```text
//! file   = half half                   a generation is written into one half, the next one perhaps into the other
//! half   = *group                      what stands behind the last whole group of a generation is of no meaning
//! group  = generation length crc entries      u64, u32, u32, little-endian; the sum is over all but itself
//! ```
//!
//! A generation begins with what the database lacked at that moment, nothing or a group of its own, and ends with the next one;
//! the database knows which one it lacks. So the log begins again once it has been carried over, without a word written for
//! that: the groups that are still there are of an earlier generation, and count for nothing. Where some rows stay, they are
//! written into the other half first, as the beginning of the next generation: until the database says that it is the one,
//! the former one counts. No number is given twice in a life, whether the database has come to know it or not; a start draws one. Written again and again, the
//! file neither grows nor shrinks, and a sync of it moves octets alone.
//!
//! A start draws its first generation by chance: what stands in the file behind the groups of a later one are octets of
//! messages, and none can be made to look like a group of it.

use crate::spool::disk::{LogFile, SharedDisk};
use std::io;
use std::path::Path;

/// Its name in the spool's directory.
pub(super) const NAME: &str = "front";
/// Octets of a group's head.
pub(super) const HEAD: usize = 16;

/// The log of a running daemon.
#[derive(Debug)]
pub(super) struct Log {
    file: Box<dyn LogFile>,
    generation: u64,
    /// The last one that was given to anything.
    given: u64,
    /// Where the half begins that is written.
    base: u64,
    /// Where in it the next group goes.
    at: u64,
    /// Octets of a half.
    half: u64,
}

/// The beginning of a generation, in the half that is not written yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) generation: u64,
    end: u64,
}

impl Log {
    /// An empty log in a spool's directory, in place of the one that was there, with two halves of so many octets. Its name is
    /// durable.
    ///
    /// # Errors
    /// The file can't be made, or the directory not be synced.
    pub(super) fn create(disk: &SharedDisk, directory: &Path, half: u64, generation: u64) -> io::Result<Self> {
        let path = directory.join(NAME);
        remove(disk, directory)?;
        let file = disk.create_log(&path, half.saturating_mul(2))?;
        disk.sync_directory(directory)?;
        Ok(Self { file, generation, given: generation, base: 0, at: 0, half })
    }

    /// Octets of its file.
    pub(super) fn octets(&self) -> u64 {
        self.half.saturating_mul(2)
    }

    /// Whether a group with so many octets of entries finds its place.
    pub(super) fn has_room(&self, octets: usize) -> bool {
        let end = self.at.saturating_add((HEAD.saturating_add(octets)) as u64);
        u32::try_from(octets).is_ok() && end <= self.half
    }

    /// Whether the other half should soon be begun.
    pub(super) fn is_long(&self) -> bool {
        self.at > self.half - self.half / 4
    }

    /// Whether so many octets of entries may begin the other half: they leave room for as much again.
    pub(super) fn may_begin(&self, octets: usize) -> bool {
        (HEAD.saturating_add(octets) as u64) < self.half / 2
    }

    /// Writes a group of entries, which come in slices, and makes it durable.
    ///
    /// # Errors
    /// [`Unwritten::Not`]: it is not there, and the log goes on where it was. [`Unwritten::Unsynced`]: whether it is there is
    /// not known, and nothing may be written any more.
    pub(super) fn append(&mut self, entries: &[&[u8]]) -> Result<(), Unwritten> {
        let written = self.write(self.base.saturating_add(self.at), self.generation, entries)?;
        self.at = self.at.saturating_add(written);
        Ok(())
    }

    /// Writes what begins the next generation into the other half, and makes it durable. It counts once the database knows its
    /// number, and [`switch`](Self::switch) follows.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub(super) fn begin_other(&mut self, entries: &[&[u8]]) -> Result<Beginning, Unwritten> {
        let generation = self.next();
        self.given = generation;
        let end = self.write(self.other(), generation, entries)?;
        Ok(Beginning { generation, end })
    }

    /// Tells how many octets it has written.
    fn write(&mut self, at: u64, generation: u64, entries: &[&[u8]]) -> Result<u64, Unwritten> {
        let length = entries.iter().fold(0_usize, |length, slice| length.saturating_add(slice.len()));
        // `has_room` was asked before.
        let head = head_of(generation, u32::try_from(length).unwrap_or(u32::MAX), entries);
        let group: Vec<_> = std::iter::once(head.as_slice()).chain(entries.iter().copied()).collect();
        self.file.write_at(at, &group).map_err(Unwritten::Not)?;
        self.file.sync().map_err(Unwritten::Unsynced)?;
        Ok(HEAD.saturating_add(length) as u64)
    }

    fn other(&self) -> u64 {
        if self.base == 0 { self.half } else { 0 }
    }

    /// The one that is written.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation that a transaction names which leaves nothing here.
    pub(super) fn next(&self) -> u64 {
        self.given.wrapping_add(1)
    }

    /// Begins the [next](Self::next) generation with nothing: the database has everything, and knows it.
    pub(super) fn restart(&mut self) {
        self.given = self.next();
        (self.generation, self.at) = (self.given, 0);
    }

    /// Goes on in the other half, behind what was written there: the database knows its generation.
    pub(super) fn switch(&mut self, to: Beginning) {
        self.base = self.other();
        (self.generation, self.at) = (to.generation, to.end);
    }
}

/// Why a group was not written.
#[derive(Debug)]
pub(in super::super) enum Unwritten {
    /// Nothing of it counts.
    Not(io::Error),
    /// It may be there.
    Unsynced(io::Error),
}

/// Removes the log, if there is one.
pub(super) fn remove(disk: &SharedDisk, directory: &Path) -> io::Result<()> {
    match disk.remove(&directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn head_of(generation: u64, length: u32, entries: &[&[u8]]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let [generation_room @ .., _, _, _, _, _, _, _, _] = &mut head;
    generation_room.copy_from_slice(&generation.to_le_bytes());
    let [_, _, _, _, _, _, _, _, length_room @ .., _, _, _, _] = &mut head;
    length_room.copy_from_slice(&length.to_le_bytes());
    let sum = sum_of(&head, entries);
    let [.., a, b, c, d] = &mut head;
    [*a, *b, *c, *d] = sum.to_le_bytes();
    head
}

/// Generation, octets of entries, and sum.
pub(super) fn parts(head: &[u8; HEAD]) -> (u64, u32, u32) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *head;
    let [i, j, k, l, m, n, o, p] = rest;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]), u32::from_le_bytes([m, n, o, p]))
}

/// Over all of a group but its sum.
pub(super) fn sum_of(head: &[u8; HEAD], entries: &[&[u8]]) -> u32 {
    let [summed @ .., _, _, _, _] = head;
    let mut sum = crc32fast::Hasher::new();
    sum.update(summed);
    entries.iter().for_each(|slice| sum.update(slice));
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::super::reading::tests::{HALF, found};
    use super::*;
    use crate::spool::disk::system;

    #[test]
    fn groups_come_back_in_their_order_and_those_of_other_generations_do_not() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), HALF, 7).unwrap();
        assert!(found(place.path(), 7).is_empty());
        for entries in [&[&b"one"[..]][..], &[], &[b"", b"th", b"re", b"e"]] {
            log.append(entries).unwrap();
        }
        assert_eq!(found(place.path(), 7), [b"one".to_vec(), b"".to_vec(), b"three".to_vec()]);
        assert!(found(place.path(), 8).is_empty());
        assert_eq!(log.next(), 8);
        log.restart();
        log.append(&[b"two"]).unwrap();
        assert_eq!(found(place.path(), 8), [b"two".to_vec()], "what stands behind it is of the former generation");
    }

    #[test]
    fn what_stays_begins_the_other_half_and_counts_once_the_database_says_so() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), HALF, 7).unwrap();
        for round in 0..4 {
            let last = 7 + 3 * round;
            log.append(&[b"old"]).unwrap();
            let before = found(place.path(), last);
            let beginning = log.begin_other(&[b"stays"]).unwrap();
            assert_eq!(beginning.generation, last + 1);
            assert_eq!(found(place.path(), last), before, "until then the former one counts");
            log.append(&[b"older"]).unwrap();
            assert_eq!(
                found(place.path(), last).last().unwrap(),
                b"older",
                "and goes on where the database can't be told"
            );
            log.switch(beginning);
            log.append(&[b"new"]).unwrap();
            assert_eq!(found(place.path(), last + 1), [b"stays".to_vec(), b"new".to_vec()]);
            // One that the database never came to know is not used again.
            log.begin_other(&[b"lost"]).unwrap();
            assert_eq!(log.next(), last + 3);
            log.restart();
            assert!(found(place.path(), last + 3).is_empty());
        }
    }

    #[test]
    fn it_takes_no_more_than_a_half_has() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), 100, 1).unwrap();
        assert!(log.has_room(100 - HEAD) && !log.has_room(101 - HEAD));
        log.append(&[&[b'x'; 40]]).unwrap();
        assert!(!log.has_room(40) && !log.is_long());
        log.append(&[&[b'x'; 20]]).unwrap();
        assert!(log.is_long() && log.may_begin(33) && !log.may_begin(34));
        log.restart();
        assert!(log.has_room(40) && !log.is_long());
    }
}
