//! SQLite's way to the simulated disks: one VFS for the whole program, which finds the disk by the path's beginning among
//! those that this thread has made.
//!
//! It syncs what SQLite's own VFS for Unix syncs, and no more: the directory together with the first sync of a journal or
//! write-ahead log that was made, an error there being ignored; no directory when a file is removed. It promises power-safe
//! overwrite, as that one does, and the platter keeps it. What SQLite draws by chance (the salts of its log) is drawn once
//! for the whole program and doesn't steer anything.

use super::{Machine, SimulatedDisk};
use sqlite_vfs::{DatabaseHandle, LockKind, OpenAccess, OpenKind, OpenOptions, Vfs, WalDisabled};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};
use std::time::Duration;

const NAME: &str = "simulated-disk";

thread_local! {
    static MOUNTED: RefCell<BTreeMap<PathBuf, Weak<Mutex<Machine>>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The VFS, ready to be used.
pub fn name() -> &'static str {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| sqlite_vfs::register(NAME, Way, false).unwrap());
    NAME
}

/// From now on paths below the disk's root lead to it.
pub fn mount(disk: &SimulatedDisk) {
    MOUNTED.with_borrow_mut(|mounted| {
        mounted.retain(|_, machine| machine.strong_count() > 0);
        mounted.insert(disk.root.clone(), Arc::downgrade(&disk.machine));
    });
}

fn machine_of(path: &str) -> io::Result<Arc<Mutex<Machine>>> {
    MOUNTED.with_borrow(|mounted| {
        let roots = Path::new(path).ancestors();
        let found = roots.filter_map(|root| mounted.get(root)).find_map(Weak::upgrade);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no disk of this thread"))
    })
}

struct Way;

impl Vfs for Way {
    type Handle = Handle;

    fn open(&self, path: &str, options: OpenOptions) -> io::Result<Handle> {
        let machine = machine_of(path)?;
        let path = PathBuf::from(path);
        let (file, created) = {
            let mut disk = machine.lock().unwrap();
            match (disk.file(&path), options.access) {
                (Ok(_), OpenAccess::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(file), _) => (file, false),
                (Err(error), OpenAccess::Create | OpenAccess::CreateNew) if error.kind() == io::ErrorKind::NotFound => {
                    (disk.create(&path)?, true)
                }
                (Err(error), _) => return Err(error),
            }
        };
        let is_journal = matches!(options.kind, OpenKind::MainJournal | OpenKind::SuperJournal | OpenKind::Wal);
        Ok(Handle { machine, path, file, name_unsynced: created && is_journal, lock: LockKind::None })
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        machine_of(path)?.lock().unwrap().remove(Path::new(path))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let machine = machine_of(path)?;
        let machine = machine.lock().unwrap();
        match machine.file(Path::new(path)) {
            // SQLite's own says so, too: an empty file is as good as none.
            Ok(file) => Ok(!machine.platter.content(file).is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn temporary_name(&self) -> String {
        "/nowhere/temporary".to_owned()
    }

    fn random(&self, buffer: &mut [i8]) {
        buffer.fill(7);
    }

    fn sleep(&self, duration: Duration) -> Duration {
        duration
    }
}

struct Handle {
    machine: Arc<Mutex<Machine>>,
    path: PathBuf,
    file: usize,
    /// The name of a journal that was made is made durable with its first sync.
    name_unsynced: bool,
    lock: LockKind,
}

impl Handle {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }
}

impl DatabaseHandle for Handle {
    type WalIndex = WalDisabled;

    fn size(&self) -> io::Result<u64> {
        let machine = self.machine();
        machine.is_on()?;
        Ok(machine.platter.content(self.file).len() as u64)
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let count = self.machine().read(self.file, usize::try_from(offset).unwrap(), buffer)?;
        // SQLite wants the rest zeroed.
        buffer[count..].fill(0);
        if count == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write_all_at(&mut self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let written = self.machine().write(&self.path, self.file, usize::try_from(offset).unwrap(), buffer);
        written.map_err(as_sqlite_wants)
    }

    fn sync(&mut self, _data_only: bool) -> io::Result<()> {
        let mut machine = self.machine();
        machine.sync(&self.path, self.file)?;
        if self.name_unsynced {
            let _ = machine.sync_directory(self.path.parent().unwrap());
        }
        drop(machine);
        self.name_unsynced = false;
        Ok(())
    }

    fn set_len(&mut self, size: u64) -> io::Result<()> {
        self.machine().set_length(&self.path, self.file, usize::try_from(size).unwrap()).map_err(as_sqlite_wants)
    }

    fn lock(&mut self, lock: LockKind) -> io::Result<bool> {
        // One connection has the database for itself; that no second one comes is seen to by the daemon's lock.
        self.lock = lock;
        Ok(true)
    }

    fn reserved(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn current_lock(&self) -> io::Result<LockKind> {
        Ok(self.lock)
    }

    fn wal_index(&self, _readonly: bool) -> io::Result<WalDisabled> {
        Ok(WalDisabled)
    }
}

/// Where there is no room the crate expects this kind.
fn as_sqlite_wants(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::StorageFull { io::ErrorKind::WriteZero.into() } else { error }
}
