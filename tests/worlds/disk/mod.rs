//! A disk in memory that fails as disks do, from a seed: for worlds, and for the spool alone (`power`, `syncs`, `room`).
//!
//! What is written and what is durable is told in `platter`, what can go wrong in `faults`, SQLite's way here in `vfs`.
//! Everything happens within the calls, in one thread. A disk has a root directory; a second disk made in the same thread
//! with the same root takes the place of the first one.
//!
//! What runs on a disk must not outlive its power: [`SimulatedDisk::after_power_cut`] and [`SimulatedDisk::after_kill`]
//! give the disk that the next process finds, and whatever still holds the old one gets errors from it.

mod damaged;
mod day;
mod dice;
mod faults;
mod found;
mod front;
mod older;
mod platter;
mod power;
mod room;
mod syncs;
mod vfs;
pub mod work;

pub use faults::{Fault, Operation};
pub use platter::Aftermath;

use dice::Dice;
use faults::{Faults, Kind};
use journal_relay::spool::disk::{Disk, Entry, Hold, LogFile, NewFile, ReadFile, SharedDisk};
use journal_relay::spool::{Room, SpoolError};
use platter::{Node, Platter};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Octets that a disk says it has; nothing else depends on it.
const SIZE: u64 = 1 << 40;

/// A disk; clones are the same one.
#[derive(Clone)]
pub struct SimulatedDisk {
    root: PathBuf,
    machine: Arc<Mutex<Machine>>,
}

struct Machine {
    platter: Platter,
    faults: Faults,
    dice: Dice,
    /// Without power, and for a process that has ended, everything fails.
    on: bool,
    /// A directory could not be synced: none can.
    stopped: bool,
    locks: BTreeSet<PathBuf>,
    /// Files that were synced again after a sync of them had failed.
    synced_again: Vec<PathBuf>,
}

impl SimulatedDisk {
    /// An empty disk whose one directory is `root`.
    pub fn new(root: impl Into<PathBuf>, seed: u64) -> Self {
        let root = root.into();
        let platter = Platter::new(&root);
        Self::of(root, platter, Dice::new(seed))
    }

    fn of(root: PathBuf, platter: Platter, dice: Dice) -> Self {
        let machine = Machine {
            platter,
            faults: Faults::default(),
            dice,
            on: true,
            stopped: false,
            locks: BTreeSet::new(),
            synced_again: Vec::new(),
        };
        let disk = Self { root, machine: Arc::new(Mutex::new(machine)) };
        vfs::mount(&disk);
        disk
    }

    /// As the spool wants it.
    pub fn shared(&self) -> SharedDisk {
        Arc::new(self.clone())
    }

    /// Operations so far; the number of the next one.
    pub fn operations(&self) -> u64 {
        self.machine().faults.count
    }

    /// The last operations.
    pub fn log(&self) -> Vec<Operation> {
        self.machine().faults.log.iter().cloned().collect()
    }

    /// Something goes wrong at operation `at`, or at the first one behind it that this can happen to.
    pub fn plan(&self, at: u64, fault: Fault) {
        self.machine().faults.plan(at, fault);
    }

    /// The disk is full for these operations.
    pub fn plan_full(&self, between: Range<u64>) {
        self.machine().faults.plan_full(between);
    }

    /// Nothing that is planned goes wrong any more.
    pub fn clear(&self) {
        self.machine().faults.clear();
    }

    /// The power is lost now.
    pub fn cut_power(&self) {
        self.machine().on = false;
    }

    /// Whether the power is lost.
    pub fn is_dead(&self) -> bool {
        !self.machine().on
    }

    /// Whether a directory could not be synced: none can, until the power was lost.
    pub fn is_stopped(&self) -> bool {
        self.machine().stopped
    }

    /// Files that were synced again after a sync of them had failed: what the relay must never do.
    pub fn synced_again(&self) -> Vec<PathBuf> {
        self.machine().synced_again.clone()
    }

    /// Another process begins, which knows nothing of syncs that have failed.
    pub fn forget_failed_syncs(&self) {
        self.machine().platter.forget_failed_syncs();
    }

    /// The names of all files below `directory`.
    pub fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let machine = self.machine();
        let mut found = Vec::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            for (path, node) in machine.platter.list(&directory) {
                match node {
                    Node::Directory => directories.push(path),
                    Node::File(_) => found.push(path),
                }
            }
        }
        found.sort();
        found
    }

    /// The disk as it is found when the power comes back. This one is dead then.
    pub fn after_power_cut(&self, aftermath: Aftermath) -> Self {
        self.cut_power();
        let seed = match aftermath {
            Aftermath::Lost | Aftermath::Kept => 0,
            Aftermath::Mixed(seed) | Aftermath::Torn(seed) => seed,
        };
        let mut dice = Dice::new(seed);
        let platter = self.machine().platter.after_power_cut(aftermath, &mut dice);
        Self::of(self.root.clone(), platter, dice)
    }

    /// The disk as another process finds it when this one has ended and the machine has not. This one is dead then.
    pub fn after_kill(&self) -> Self {
        self.cut_power();
        let (platter, dice, stopped) = {
            let machine = self.machine();
            (machine.platter.after_kill(), machine.dice.clone(), machine.stopped)
        };
        let next = Self::of(self.root.clone(), platter, dice);
        next.machine().stopped = stopped;
        next
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }
}

impl Machine {
    /// Counts an operation; fails when there is no power, or no room for a new name.
    fn begin(&mut self, kind: Kind, path: &Path) -> io::Result<(Option<Fault>, bool)> {
        self.is_on()?;
        let (fault, full) = self.faults.begin(kind, path);
        if fault == Some(Fault::PowerCut) {
            self.on = false;
            return Err(dead());
        }
        if full && kind.needs_room() { Err(io::ErrorKind::StorageFull.into()) } else { Ok((fault, full)) }
    }

    fn is_on(&self) -> io::Result<()> {
        if self.on { Ok(()) } else { Err(dead()) }
    }

    fn must_hold(&self, path: &Path) -> io::Result<()> {
        match self.platter.find(path.parent().unwrap()) {
            Some(Node::Directory) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.is_on()?;
        match self.platter.find(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.is_on()?;
        self.must_hold(path)?;
        if self.platter.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.begin(Kind::Create, path)?;
        Ok(self.platter.create(path))
    }

    fn link(&mut self, path: &Path, second: &Path) -> io::Result<()> {
        let file = self.file(path)?;
        self.must_hold(second)?;
        if self.platter.find(second).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.begin(Kind::Create, second)?;
        self.platter.link(file, second);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.begin(Kind::Remove, path)?;
        self.platter.remove(path);
        Ok(())
    }

    fn write(&mut self, path: &Path, file: usize, at: usize, octets: &[u8]) -> io::Result<()> {
        let (fault, full) = self.begin(Kind::Write, path)?;
        let room = if full { self.platter.content(file).len().saturating_sub(at) } else { usize::MAX };
        let (done, error) = match fault {
            Some(Fault::FailedWrite) => (0, Some(io::Error::other("simulated: a write failed"))),
            Some(Fault::ShortWrite) => (octets.len() / 2, Some(io::Error::other("simulated: a write was cut short"))),
            _ if octets.len() > room => (room, Some(io::ErrorKind::StorageFull.into())),
            _ => (octets.len(), None),
        };
        if done > 0 {
            self.platter.write(file, at, &octets[..done]);
        }
        error.map_or(Ok(()), Err)
    }

    fn set_length(&mut self, path: &Path, file: usize, length: usize) -> io::Result<()> {
        self.is_on()?;
        let found = self.platter.content(file).len();
        if found == length {
            return Ok(());
        }
        let (_, full) = self.begin(Kind::SetLength, path)?;
        if full && length > found {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.platter.set_length(file, length);
        Ok(())
    }

    fn sync(&mut self, path: &Path, file: usize) -> io::Result<()> {
        let (fault, _) = self.begin(Kind::Sync, path)?;
        if fault == Some(Fault::FailedSync) {
            self.platter.fail_sync(file, &mut self.dice);
            return Err(io::Error::other("simulated: a sync failed"));
        }
        if self.platter.sync(file) {
            self.synced_again.push(path.to_owned());
        }
        Ok(())
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.is_on()?;
        if self.platter.find(path) != Some(Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (fault, _) = self.begin(Kind::SyncDirectory, path)?;
        self.stopped |= fault == Some(Fault::FailedSync);
        if self.stopped {
            return Err(io::Error::other("simulated: a directory could not be synced"));
        }
        self.platter.sync_directory(path);
        Ok(())
    }

    fn read(&self, file: usize, at: usize, into: &mut [u8]) -> io::Result<usize> {
        self.is_on()?;
        let content = self.platter.content(file);
        let there = content.get(at..).unwrap_or_default();
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }
}

fn dead() -> io::Error {
    io::Error::other("simulated: there is no power")
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedDisk({})", self.root.display())
    }
}

impl Disk for SimulatedDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.is_on()?;
        machine.must_hold(path)?;
        if machine.platter.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        machine.begin(Kind::MakeDirectory, path)?;
        machine.platter.make_directory(path);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if self.root != path && self.root.starts_with(path) {
            // Above the root stands what was always there.
            return self.machine().is_on();
        }
        self.machine().sync_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let machine = self.machine();
        machine.is_on()?;
        if machine.platter.find(path) != Some(Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entry = |(path, node): (PathBuf, Node)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            Entry { name, is_directory: node == Node::Directory }
        };
        Ok(machine.platter.list(path).into_iter().map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = self.machine().create(path)?;
        Ok(Box::new(Open { disk: self.clone(), path: path.to_owned(), file, at: 0 }))
    }

    fn open_at(&self, path: &Path, at: u64) -> io::Result<Box<dyn ReadFile>> {
        let file = self.machine().file(path)?;
        Ok(Box::new(Open { disk: self.clone(), path: path.to_owned(), file, at: usize::try_from(at).unwrap() }))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = self.machine().file(path)?;
        Ok(Box::new(Open { disk: self.clone(), path: path.to_owned(), file, at: 0 }))
    }

    fn create_log(&self, path: &Path, _octets: u64) -> io::Result<Box<dyn LogFile>> {
        // It grows as it is written: nothing rests on room that was taken before.
        let file = self.machine().create(path)?;
        Ok(Box::new(Open { disk: self.clone(), path: path.to_owned(), file, at: 0 }))
    }

    fn hold_room(&self, path: &Path, _octets: u64) -> io::Result<()> {
        // Room is not counted here: the disk is full when a plan says so.
        self.machine().create(path).map(drop)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let machine = self.machine();
        let file = machine.file(path)?;
        Ok(machine.platter.content(file).len() as u64)
    }

    fn link(&self, path: &Path, second: &Path) -> io::Result<()> {
        self.machine().link(path, second)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.machine().remove(path)
    }

    fn lock(&self, directory: &Path) -> Result<Hold, SpoolError> {
        let mut machine = self.machine();
        machine.is_on().map_err(|error| SpoolError::Unusable(error.to_string()))?;
        if !machine.locks.insert(directory.to_owned()) {
            return Err(SpoolError::Unusable(format!("{} is in use by another daemon", directory.display())));
        }
        Ok(Box::new(Lock { disk: self.clone(), directory: directory.to_owned() }))
    }

    fn is_locked(&self, directory: &Path) -> io::Result<bool> {
        let machine = self.machine();
        machine.is_on()?;
        Ok(machine.locks.contains(directory))
    }

    fn room(&self, _path: &Path) -> io::Result<Room> {
        let machine = self.machine();
        machine.is_on()?;
        let free = if machine.faults.is_full() { 0 } else { SIZE };
        Ok(Room { free_octets: free, total_octets: SIZE, free_inodes: None, total_inodes: 0 })
    }

    fn vfs(&self) -> Option<&str> {
        Some(vfs::name())
    }
}

struct Lock {
    disk: SimulatedDisk,
    directory: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.machine().locks.remove(&self.directory);
    }
}

/// A file that is read or written from its beginning on.
#[derive(Debug)]
struct Open {
    disk: SimulatedDisk,
    path: PathBuf,
    file: usize,
    at: usize,
}

impl NewFile for Open {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.disk.machine().write(&self.path, self.file, self.at, octets)?;
        self.at += octets.len();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.machine().sync(&self.path, self.file)
    }
}

impl LogFile for Open {
    fn write_at(&mut self, at: u64, slices: &[&[u8]]) -> io::Result<()> {
        let mut at = usize::try_from(at).unwrap();
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            self.disk.machine().write(&self.path, self.file, at, slice)?;
            at += slice.len();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.machine().sync(&self.path, self.file)
    }
}

impl io::Read for Open {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.disk.machine().read(self.file, self.at, into)?;
        self.at += count;
        Ok(count)
    }
}
