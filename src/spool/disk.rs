//! The disk as the spool sees it: one flip point for files, directories, the database's way to them, and the daemon's lock.
//!
//! [`SystemDisk`] is the machine's. A simulated one ([`Disk::vfs`] names the SQLite VFS that leads to it) lives in one thread
//! and answers at once, so that a whole relay runs in one process from a seed and loses power wherever a test says. What is
//! asked of a disk is asked by the piece (16 to 512 KiB written, 64 KiB read), never by the octet.
//!
//! Every call but [`Disk::vfs`] may block; [`run`] finds the place where that is allowed.

use super::lock;
use super::{READ_CHUNK, Room, SpoolError};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Slices that one call writes (`IOV_MAX` is 1,024 on Linux).
const MOST_SLICES: usize = 1_024;

/// A disk that is handed around.
pub type SharedDisk = Arc<dyn Disk>;
/// Something that is held until it is dropped.
pub type Hold = Box<dyn Send>;

/// What the spool asks of a disk.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory for its owner alone (0700). [`io::ErrorKind::AlreadyExists`] when there is something of that name,
    /// [`io::ErrorKind::NotFound`] when there is no directory above it.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// What a directory has, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Makes a file for its owner alone (0600); [`io::ErrorKind::AlreadyExists`] when there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Makes a file for its owner alone (0600) that takes up so many octets of the disk, or none when there is not so much
    /// room. Nothing of it needs to be durable. [`io::ErrorKind::AlreadyExists`] when there is one.
    fn hold_room(&self, path: &Path, octets: u64) -> io::Result<()>;

    /// Makes a file for its owner alone (0600) that is written anywhere within so many octets. Room for all of them is taken
    /// where the file system can do that. Its name is not durable yet. [`io::ErrorKind::AlreadyExists`] when there is one.
    fn create_log(&self, path: &Path, octets: u64) -> io::Result<Box<dyn LogFile>>;

    /// Opens a file to write anywhere in it.
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Opens a file to read it from its beginning.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.open_at(path, 0)
    }

    /// Opens a file to read it from a place on, which is counted in octets.
    fn open_at(&self, path: &Path, at: u64) -> io::Result<Box<dyn ReadFile>>;

    /// Octets of a file.
    fn length(&self, path: &Path) -> io::Result<u64>;

    /// Gives a file a second name; [`io::ErrorKind::AlreadyExists`] when there is something of that name. It is not durable yet.
    fn link(&self, path: &Path, second: &Path) -> io::Result<()>;

    /// Removes a file. Whether its name stays away after a loss of power is not promised.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock of the one daemon that may use a spool's directory, until the hold is dropped or the process ends.
    ///
    /// # Errors
    /// [`SpoolError::Unusable`]: another daemon has it (its process is named), or there can't be a lock.
    fn lock(&self, directory: &Path) -> Result<Hold, SpoolError>;

    /// Whether a daemon has the lock.
    fn is_locked(&self, directory: &Path) -> io::Result<bool>;

    /// The room that the file system of a path has left.
    fn room(&self, path: &Path) -> io::Result<Room>;

    /// The registered SQLite VFS that leads to this disk. None: SQLite's own; other connections and processes share the
    /// database, and what blocks runs on threads of its own. With a name the disk is a simulated one: everything runs inline,
    /// and the database has one connection, which needs no shared memory.
    fn vfs(&self) -> Option<&str> {
        None
    }
}

/// A file that is being written, from its beginning to its end.
pub trait NewFile: fmt::Debug + Send + Sync {
    /// Adds octets at the end, all of them.
    fn write(&mut self, octets: &[u8]) -> io::Result<()>;

    /// Makes the octets durable; not the file's name.
    fn sync(&self) -> io::Result<()>;
}

/// A file whose octets are written again and again.
pub trait LogFile: fmt::Debug + Send {
    /// Writes all octets of these slices one behind the other, the first of them at this place.
    fn write_at(&mut self, at: u64, slices: &[&[u8]]) -> io::Result<()>;

    /// Makes the octets durable; not the file's name.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is being read.
pub trait ReadFile: Read + fmt::Debug + Send {}

impl<T: Read + fmt::Debug + Send> ReadFile for T {}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name; without it in UTF-8 it is none of the spool's.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// The machine's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

/// The machine's disk, to be handed around.
pub fn system() -> SharedDisk {
    Arc::new(SystemDisk)
}

/// Does something that blocks on `disk` without holding up the runtime. Needs tokio's runtime. None when it was cut off.
pub async fn run<T: Send + 'static>(disk: &dyn Disk, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if disk.vfs().is_some() { Some(work()) } else { tokio::task::spawn_blocking(work).await.ok() }
}

/// Writes a file's octets anew where they are, as the system shows them, and makes them durable. A sync alone would not: after one
/// that failed the system takes for written what never reached the disk. A file that is not there is none that needs it. Gives its octets.
///
/// # Errors
/// One that is for want of room left the file as it was; a sync that fails is none of them.
pub(super) fn write_again(disk: &dyn Disk, path: &Path) -> io::Result<u64> {
    let mut shown = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        found => found?,
    };
    let mut file = disk.open_log(path)?;
    let (mut piece, mut at) = (vec![0; READ_CHUNK], 0);
    loop {
        let length = shown.read(&mut piece)?;
        let Some(octets) = piece.get(..length).filter(|octets| !octets.is_empty()) else { break };
        file.write_at(at, &[octets])?;
        at = at.saturating_add(length as u64);
    }
    if at > 0 {
        file.sync().map_err(|error| io::Error::other(format!("it could not be synced: {error}")))?;
    }
    Ok(at)
}

/// Makes a directory with the directories above it, and makes their names last: a directory whose own name is lost with the
/// power takes with it everything that was synced inside.
///
/// Each level lasts before the one below it is made. So where a level is missing, of those that are there only the lowest may
/// not last yet, made perhaps by a start that was cut off.
pub(super) fn make_lasting(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.make_directory(path) {
        Ok(()) => match above(path).map(|above| sync_name(disk, above)) {
            // Nobody can have made a directory where he may not even look.
            Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_lasting(disk, above(path).ok_or(error)?)?;
            disk.make_directory(path)?;
        }
        Err(error) => return Err(error),
    }
    sync_name(disk, path)
}

/// Makes a directory's own name last.
fn sync_name(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |above| disk.sync_directory(if above.as_os_str().is_empty() { Path::new(".") } else { above }))
}

/// The directory above, when the path names one.
fn above(path: &Path) -> Option<&Path> {
    path.parent().filter(|above| !above.as_os_str().is_empty())
}

impl Disk for SystemDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push(Entry { name, is_directory: entry.file_type()?.is_dir() });
            }
        }
        Ok(found)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(new_file(path)?))
    }

    fn hold_room(&self, path: &Path, octets: u64) -> io::Result<()> {
        let mut file = new_file(path)?;
        let held = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, octets) {
            // Not every file system can; what is written takes up its room on the others, too.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                io::copy(&mut io::repeat(0).take(octets), &mut file).map(drop)
            }
            held => held.map_err(io::Error::from),
        };
        held.inspect_err(|_| drop(self.remove(path)))
    }

    fn create_log(&self, path: &Path, octets: u64) -> io::Result<Box<dyn LogFile>> {
        let file = new_file(path)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, octets) {
            // Each write takes its own room then.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(Box::new(file)),
            Err(error) => {
                drop(self.remove(path));
                Err(error.into())
            }
        }
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn open_at(&self, path: &Path, at: u64) -> io::Result<Box<dyn ReadFile>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Box::new(file))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        std::fs::metadata(path).map(|found| found.len())
    }

    fn link(&self, path: &Path, second: &Path) -> io::Result<()> {
        std::fs::hard_link(path, second)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn lock(&self, directory: &Path) -> Result<Hold, SpoolError> {
        Ok(Box::new(lock::exclusive(directory)?))
    }

    fn is_locked(&self, directory: &Path) -> io::Result<bool> {
        lock::is_taken(directory)
    }

    fn room(&self, path: &Path) -> io::Result<Room> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Room {
            free_octets: found.f_bavail.saturating_mul(found.f_frsize),
            total_octets: found.f_blocks.saturating_mul(found.f_frsize),
            // btrfs and others count none and make as many as they need.
            free_inodes: (found.f_files > 0).then_some(found.f_favail),
            total_inodes: found.f_files,
        })
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl NewFile for File {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.write_all(octets)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl LogFile for File {
    fn write_at(&mut self, mut at: u64, slices: &[&[u8]]) -> io::Result<()> {
        for some in slices.chunks(MOST_SLICES) {
            let mut slices: Vec<_> = some.iter().map(|slice| IoSlice::new(slice)).collect();
            let mut left = slices.as_mut_slice();
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                let written = match rustix::io::pwritev(&*self, left, at) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    written => written?,
                };
                at = at.saturating_add(written as u64);
                IoSlice::advance_slices(&mut left, written);
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_written_one_behind_the_other_however_many_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = SystemDisk.create_log(&path, 40_000).unwrap();
        let all: Vec<Vec<u8>> = (0..2_500_usize).map(|number| vec![number as u8; number % 17]).collect();
        let mut slices: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        file.write_at(7, &slices).unwrap();
        let written = all.concat();
        let found = || std::fs::read(&path).unwrap();
        assert_eq!(&found()[7..7 + written.len()], written);
        assert!(found()[..7].iter().chain(&found()[7 + written.len()..]).all(|octet| *octet == 0));
        // None, and none that has anything.
        slices.clear();
        file.write_at(0, &slices).unwrap();
        file.write_at(0, &[b"", b""]).unwrap();
        assert_eq!(&found()[7..7 + written.len()], written);
    }
}
