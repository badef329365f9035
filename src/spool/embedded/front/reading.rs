//! What a log in front has, as a start finds it.
//!
//! Each group is durable before the next one is begun. So the last one of a generation may be torn, by a crash; one before a
//! whole one was damaged later, and those behind it count.

use super::entry;
use super::log::{HEAD, NAME, parts, sum_of};
use crate::spool::disk::{ReadFile, SharedDisk};
use std::io::{self, Read};
use std::path::Path;

/// Octets that are looked through together.
const SOUGHT_AT_ONCE: usize = 64 << 10;

/// Calls `take` with the entries of each group of a generation, in their order. It is looked for at the file's beginning, then
/// where its other half begins; a file of a former version, all of one piece, has none (0). Tells where damage begins, in octets
/// of the file: where a group should be, since something of a later one stands behind it, and is not.
///
/// # Errors
/// The file can't be read. That there is none is no error.
pub(super) fn read<E>(
    disk: &SharedDisk,
    directory: &Path,
    (generation, half): (u64, u64),
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<Option<u64>, E>, io::Error> {
    let path = directory.join(NAME);
    let mut damage = None;
    for mut part in parts_of(disk, &path, half)? {
        // A half that begins with another generation has nothing of this one.
        if part.first()?.is_some_and(|first| first != generation) {
            continue;
        }
        loop {
            if let Err(error) = part.groups(generation, &mut take)? {
                return Ok(Err(error));
            }
            let at = part.at;
            let next = part.next_of(generation)?;
            if next != Next::Nothing {
                damage = damage.or(Some(at));
            }
            if next != Next::Whole {
                break;
            }
        }
    }
    Ok(Ok(damage))
}

/// What a half begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Half {
    /// That of its first group, which is whole.
    pub(super) generation: u64,
    /// Which generation it says that it is [behind](super::entry::is_behind), where that is its only group.
    pub(super) behind: Option<u64>,
}

/// The halves that begin with a whole group.
///
/// # Errors
/// The file can't be read. That there is none is no error.
pub(super) fn halves(disk: &SharedDisk, directory: &Path, half: u64) -> io::Result<Vec<Half>> {
    let path = directory.join(NAME);
    let mut found = Vec::new();
    for mut part in parts_of(disk, &path, half)? {
        let Some(generation) = part.first()? else { continue };
        let (mut behind, mut groups) = (None, 0);
        // Two tell.
        let mut take = |group: &[u8]| {
            groups += 1;
            if groups == 1 {
                behind = entry::is_behind(group);
                return Ok(());
            }
            Err(())
        };
        let mut is_alone = part.groups(generation, &mut take)?.is_ok();
        // Only where it says so it matters what stands further on.
        is_alone = is_alone && behind.is_some() && part.next_of(generation)? == Next::Nothing;
        found.push(Half { generation, behind: behind.filter(|_| is_alone) });
    }
    Ok(found)
}

/// What stands behind the place where groups end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A group of theirs that is whole, where the part goes on.
    Whole,
    /// The number of their generation, at the head of something that is not.
    Damaged,
    Nothing,
}

/// Whether a log has nothing but zeros, or is not there.
///
/// # Errors
/// The file can't be read.
pub(super) fn is_blank(disk: &SharedDisk, directory: &Path) -> io::Result<bool> {
    let path = directory.join(NAME);
    let Some(whole) = parts_of(disk, &path, 0)?.pop() else { return Ok(true) };
    let (mut file, mut octets) = (whole.open_at(0)?, vec![0; SOUGHT_AT_ONCE]);
    loop {
        let count = file.read(&mut octets)?;
        match octets.get(..count) {
            Some([]) | None => return Ok(true),
            Some(read) if read.iter().any(|octet| *octet != 0) => return Ok(false),
            Some(_) => {}
        }
    }
}

/// The halves of a file, or all of it.
fn parts_of<'p>(disk: &'p SharedDisk, path: &'p Path, half: u64) -> io::Result<Vec<Part<'p>>> {
    let octets = match disk.length(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let bounds = if half == 0 { vec![(0, octets)] } else { vec![(0, half.min(octets)), (half.min(octets), octets)] };
    Ok(bounds.into_iter().map(|(at, end)| Part { disk, path, at, end }).collect())
}

/// A half that is read.
struct Part<'p> {
    disk: &'p SharedDisk,
    path: &'p Path,
    /// What stands before has been read.
    at: u64,
    end: u64,
}

impl Part<'_> {
    fn open_at(&self, at: u64) -> io::Result<Box<dyn ReadFile>> {
        self.disk.open_at(self.path, at)
    }

    /// The generation of the whole group that stands here.
    fn first(&mut self) -> io::Result<Option<u64>> {
        let mut file = self.open_at(self.at)?;
        let whole = group(&mut file, self.end.saturating_sub(self.at), |_| true)?;
        Ok(whole.map(|(generation, _)| generation))
    }

    /// Gives the groups of `generation` from here on, and goes behind them.
    fn groups<E>(
        &mut self,
        generation: u64,
        take: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> io::Result<Result<(), E>> {
        let mut file = self.open_at(self.at)?;
        while let Some((_, entries)) = group(&mut file, self.end.saturating_sub(self.at), |found| found == generation)?
        {
            self.at = self.at.saturating_add(HEAD.saturating_add(entries.len()) as u64);
            if let Err(error) = take(&entries) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Goes on from here, where no group of `generation` is, to the next one that is whole.
    fn next_of(&mut self, generation: u64) -> io::Result<Next> {
        let sought = generation.to_le_bytes();
        let mut file = self.open_at(self.at)?;
        let (mut octets, mut begin, mut found) = (Vec::new(), self.at, Next::Nothing);
        while begin < self.end {
            let fresh = (SOUGHT_AT_ONCE as u64).min(self.end.saturating_sub(begin).saturating_sub(octets.len() as u64));
            if (&mut file).take(fresh).read_to_end(&mut octets)? == 0 {
                break;
            }
            for place in memchr::memmem::find_iter(&octets, &sought) {
                let at = begin.saturating_add(place as u64);
                // Here may be the last group, which was not whole.
                if at > self.at {
                    let mut file = self.open_at(at)?;
                    if group(&mut file, self.end.saturating_sub(at), |found| found == generation)?.is_some() {
                        self.at = at;
                        return Ok(Next::Whole);
                    }
                    found = Next::Damaged;
                }
            }
            // A number may stand across two pieces.
            let read = octets.len().saturating_sub(sought.len() - 1);
            octets.drain(..read);
            begin = begin.saturating_add(read as u64);
        }
        Ok(found)
    }
}

/// The generation and the entries of a group that stands whole within the next `left` octets, and is one that is `wanted`.
fn group(file: &mut impl Read, left: u64, wanted: impl FnOnce(u64) -> bool) -> io::Result<Option<(u64, Vec<u8>)>> {
    let Some(left) = left.checked_sub(HEAD as u64) else { return Ok(None) };
    let mut head = [0; HEAD];
    file.read_exact(&mut head)?;
    let (generation, length, sum) = parts(&head);
    if !wanted(generation) || u64::from(length) > left {
        return Ok(None);
    }
    let mut entries = Vec::new();
    file.take(u64::from(length)).read_to_end(&mut entries)?;
    Ok((sum_of(&head, &[&entries]) == sum).then_some((generation, entries)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::log::Log;
    use super::*;
    use crate::spool::disk::system;

    pub(in super::super) const HALF: u64 = 2_048;

    /// The groups of a generation, and where one should be that is not.
    fn looked_for(directory: &Path, generation: u64, half: u64) -> (Vec<Vec<u8>>, Option<u64>) {
        let mut groups = Vec::new();
        let take = |entries: &[u8]| {
            groups.push(entries.to_vec());
            Ok::<_, ()>(())
        };
        let damage = read(&system(), directory, (generation, half), take).unwrap().unwrap();
        (groups, damage)
    }

    pub(in super::super) fn found(directory: &Path, generation: u64) -> Vec<Vec<u8>> {
        let (groups, damage) = looked_for(directory, generation, HALF);
        assert_eq!(damage, None);
        groups
    }

    #[test]
    fn a_torn_group_at_the_end_is_not_there_and_is_no_damage() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), HALF, 0x0bad_cafe).unwrap();
        for entries in [b"one", b"two"] {
            log.append(&[entries]).unwrap();
        }
        let path = place.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let group = HEAD + 3;
        for octet in group..group + group {
            let mut torn = whole.clone();
            torn[octet] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(found(place.path(), 0x0bad_cafe), [b"one".to_vec()], "octet {octet}");
        }
        for length in 0..group {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(found(place.path(), 0x0bad_cafe).is_empty(), "{length} octets");
        }
    }

    #[test]
    fn a_group_before_a_whole_one_that_is_not_what_it_was_is_damage_and_all_others_are_there() {
        let place = tempfile::tempdir().unwrap();
        let mut log = Log::create(&system(), place.path(), HALF, 0x0bad_cafe).unwrap();
        let written = [b"one", b"two", b"six", b"ten"];
        for entries in written {
            log.append(&[entries]).unwrap();
        }
        let path = place.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let group = HEAD + 3;
        // In one half, and in the other.
        for (base, half) in [(0, HALF), (HALF, HALF)] {
            for octet in 0..3 * group {
                let mut damaged = vec![0; usize::try_from(base).unwrap()];
                damaged.extend_from_slice(&whole);
                damaged[usize::try_from(base).unwrap() + octet] ^= 0x40;
                std::fs::write(&path, &damaged).unwrap();
                let hit = octet / group;
                let mut others = written.map(|entries| entries.to_vec()).to_vec();
                others.remove(hit);
                let at = base + (hit * group) as u64;
                assert_eq!(looked_for(place.path(), 0x0bad_cafe, half), (others, Some(at)), "octet {octet}");
            }
        }
    }

    #[test]
    fn damage_of_any_length_is_looked_past() {
        for length in [SOUGHT_AT_ONCE - HEAD - 5, SOUGHT_AT_ONCE - HEAD - 1, SOUGHT_AT_ONCE, 3 * SOUGHT_AT_ONCE + 7] {
            let place = tempfile::tempdir().unwrap();
            let half = 4 * (length as u64);
            let mut log = Log::create(&system(), place.path(), half, 0x0bad_cafe).unwrap();
            for entries in [&vec![b'x'; length][..], b"two", &vec![b'y'; length], b"ten"] {
                log.append(&[entries]).unwrap();
            }
            let path = place.path().join(NAME);
            let mut damaged = std::fs::read(&path).unwrap();
            damaged[HEAD] ^= 1;
            damaged[HEAD + length + HEAD + 3 + HEAD] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let (groups, damage) = looked_for(place.path(), 0x0bad_cafe, half);
            assert_eq!((groups, damage), (vec![b"two".to_vec(), b"ten".to_vec()], Some(0)), "{length}");
        }
    }
}
