//! A small disk of its own for the spool, as root can have one, and the filler that leaves it no room.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs; unmounted when it is dropped.
pub struct Disk {
    mounted: PathBuf,
    mib: u64,
}

impl Disk {
    /// None where the system does not allow it.
    pub fn mount(place: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir_all(place).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"]).arg(place);
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then(|| Self { mounted: place.to_owned(), mib })
    }

    pub fn spool(&self) -> PathBuf {
        self.mounted.join("spool")
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }

    /// Takes all the room there is.
    pub fn fill(&self) {
        // It ends with an error, when nothing is left.
        let mebibyte = vec![0; 1 << 20];
        let Ok(mut file) = std::fs::File::create(self.filler()) else { return };
        for _ in 0..self.mib {
            if std::io::Write::write_all(&mut file, &mebibyte).is_err() {
                return;
            }
        }
    }

    /// Gives it back.
    pub fn empty(&self) {
        let _ = std::fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).status();
    }
}
