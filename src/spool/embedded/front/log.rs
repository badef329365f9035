//! The log in front of the database: groups of entries, each durable whole or not at all.
//!
//! ```text
//! file   = *group                      what stands behind the last whole group of this generation is of no meaning
//! group  = generation length crc entries      u64, u32, u32, little-endian; the sum is over all but itself
//! ```
//!
//! A generation is what was written since the database had everything; the database knows which one it lacks. So the log
//! begins again at the front of its file once it has been carried over, without a word written for that: the groups that
//! are still there are of an earlier generation, and count for nothing. Written again and again, the file neither grows nor
//! shrinks, and a sync of it moves octets alone.
//!
//! A start draws its first generation by chance: what stands in the file behind the groups of a later one are octets of
//! messages, and none can be made to look like a group of it.

use crate::spool::disk::{LogFile, SharedDisk};
use std::io::{self, Read};
use std::path::Path;

/// Its name in the spool's directory.
pub(super) const NAME: &str = "front";
/// Octets of a group's head.
const HEAD: usize = 16;

/// The log of a running daemon.
#[derive(Debug)]
pub(super) struct Log {
    file: Box<dyn LogFile>,
    generation: u64,
    /// Where the next group goes.
    at: u64,
    capacity: u64,
}

impl Log {
    /// An empty log in a spool's directory, in place of the one that was there. Its name is durable.
    ///
    /// # Errors
    /// The file can't be made, or the directory not be synced.
    pub(super) fn create(disk: &SharedDisk, directory: &Path, capacity: u64, generation: u64) -> io::Result<Self> {
        let path = directory.join(NAME);
        remove(disk, directory)?;
        let file = disk.create_log(&path, capacity)?;
        disk.sync_directory(directory)?;
        Ok(Self { file, generation, at: 0, capacity })
    }

    /// Whether a group of so many octets finds its place.
    pub(super) fn has_room(&self, octets: usize) -> bool {
        let end = self.at.saturating_add((HEAD.saturating_add(octets)) as u64);
        u32::try_from(octets).is_ok() && end <= self.capacity
    }

    /// Writes a group and makes it durable.
    ///
    /// # Errors
    /// [`Unwritten::Not`]: it is not there, and the log goes on where it was. [`Unwritten::Unsynced`]: whether it is there is
    /// not known, and nothing may be written any more.
    pub(super) fn append(&mut self, entries: &[u8]) -> Result<(), Unwritten> {
        let group = group(self.generation, entries);
        self.file.write_at(self.at, &group).map_err(Unwritten::Not)?;
        self.file.sync().map_err(Unwritten::Unsynced)?;
        self.at = self.at.saturating_add(group.len() as u64);
        Ok(())
    }

    /// The generation that is written.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Begins again: the database has everything, and knows that this generation comes next.
    pub(super) fn restart(&mut self, generation: u64) {
        (self.generation, self.at) = (generation, 0);
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

/// Calls `take` with the entries of each group of this generation, in their order.
///
/// # Errors
/// The file can't be read. That there is none is no error.
pub(super) fn read<E>(
    disk: &SharedDisk,
    directory: &Path,
    generation: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, io::Error> {
    let mut file = match disk.open(&directory.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(error) => return Err(error),
    };
    let mut left = disk.length(&directory.join(NAME))?;
    let mut head = [0; HEAD];
    while left >= HEAD as u64 {
        file.read_exact(&mut head)?;
        left = left.saturating_sub(HEAD as u64);
        let (found, length, sum) = parts(&head);
        if found != generation || u64::from(length) > left {
            break;
        }
        let mut entries = Vec::new();
        (&mut file).take(u64::from(length)).read_to_end(&mut entries)?;
        left = left.saturating_sub(u64::from(length));
        if sum_of(generation, &entries) != sum {
            break;
        }
        if let Err(error) = take(&entries) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn group(generation: u64, entries: &[u8]) -> Vec<u8> {
    let mut group = Vec::with_capacity(HEAD.saturating_add(entries.len()));
    group.extend_from_slice(&generation.to_le_bytes());
    group.extend_from_slice(&length_of(entries).to_le_bytes());
    group.extend_from_slice(&sum_of(generation, entries).to_le_bytes());
    group.extend_from_slice(entries);
    group
}

fn parts(head: &[u8; HEAD]) -> (u64, u32, u32) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *head;
    let [i, j, k, l, m, n, o, p] = rest;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]), u32::from_le_bytes([m, n, o, p]))
}

fn length_of(entries: &[u8]) -> u32 {
    // `has_room` is asked before.
    u32::try_from(entries.len()).unwrap_or(u32::MAX)
}

fn sum_of(generation: u64, entries: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&generation.to_le_bytes());
    sum.update(&length_of(entries).to_le_bytes());
    sum.update(entries);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::system;

    fn found(directory: &Path, generation: u64) -> Vec<Vec<u8>> {
        let mut groups = Vec::new();
        let take = |entries: &[u8]| {
            groups.push(entries.to_vec());
            Ok::<_, ()>(())
        };
        read(&system(), directory, generation, take).unwrap().unwrap();
        groups
    }

    #[test]
    fn groups_come_back_in_their_order_and_those_of_other_generations_do_not() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), 4_096, 7).unwrap();
        assert!(found(place.path(), 7).is_empty());
        for entries in [&b"one"[..], b"", b"three"] {
            log.append(entries).unwrap();
        }
        assert_eq!(found(place.path(), 7), [b"one".to_vec(), b"".to_vec(), b"three".to_vec()]);
        assert!(found(place.path(), 8).is_empty());
        log.restart(8);
        log.append(b"two").unwrap();
        assert_eq!(found(place.path(), 8), [b"two".to_vec()], "what stands behind it is of the former generation");
    }

    #[test]
    fn a_torn_group_and_all_behind_it_are_not_there() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), 4_096, 1).unwrap();
        for entries in [b"one", b"two", b"six"] {
            log.append(entries).unwrap();
        }
        let path = place.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let second = HEAD + 3;
        for octet in second..second + HEAD + 3 {
            let mut torn = whole.clone();
            torn[octet] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(found(place.path(), 1), [b"one".to_vec()], "octet {octet}");
        }
        for length in 0..second {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(found(place.path(), 1).is_empty(), "{length} octets");
        }
    }

    #[test]
    fn it_takes_no_more_than_its_file_has() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), 100, 1).unwrap();
        assert!(log.has_room(100 - HEAD) && !log.has_room(101 - HEAD));
        log.append(&[b'x'; 40]).unwrap();
        assert!(!log.has_room(40));
        log.restart(2);
        assert!(log.has_room(40));
    }
}
