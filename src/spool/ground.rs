//! What the spool's directory stands on. A spool promises that what is durable stays so; on a file system in memory, or in
//! a container's layer that goes with the container, nobody can keep that.
//!
//! The kind of a file system is told by `statfs` on Linux; elsewhere nothing is known and nothing is refused.

use std::path::Path;

/// Why a spool must not be there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "spool.path = {path:?} is on {filesystem}, which loses everything with {lost_with}: put the spool on a local disk, or \
     set allow_volatile = true in [spool] where that is meant"
)]
pub struct Volatile {
    /// The spool's directory.
    pub path: String,
    /// The file system's name.
    pub filesystem: &'static str,
    /// What takes its content along when it goes.
    pub lost_with: &'static str,
}

/// What is known of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A local disk, as far as can be told.
    Lasting,
    /// It goes with the machine's memory or with a container.
    Volatile {
        /// The file system's name.
        filesystem: &'static str,
        /// What takes its content along.
        lost_with: &'static str,
    },
    /// Another machine or program answers for it: its locks, its shared memory and its syncs may not be what SQLite's
    /// write-ahead log needs (<https://sqlite.org/wal.html>).
    Distant {
        /// The file system's name.
        filesystem: &'static str,
    },
}

/// Numbers of `statfs(2)` and of the kernel's `magic.h`.
const KINDS: &[(u32, Ground)] = &[
    (0x0102_1994, Ground::Volatile { filesystem: "tmpfs", lost_with: "the machine's memory" }),
    (0x8584_58f6, Ground::Volatile { filesystem: "ramfs", lost_with: "the machine's memory" }),
    (0x794c_7630, Ground::Volatile { filesystem: "overlayfs", lost_with: "the container" }),
    (0x6175_6673, Ground::Volatile { filesystem: "aufs", lost_with: "the container" }),
    (0x0000_6969, Ground::Distant { filesystem: "NFS" }),
    (0x0000_517b, Ground::Distant { filesystem: "SMB" }),
    (0xfe53_4d42, Ground::Distant { filesystem: "SMB2" }),
    (0xff53_4d42, Ground::Distant { filesystem: "CIFS" }),
    (0x6573_5546, Ground::Distant { filesystem: "FUSE" }),
    (0x0102_1997, Ground::Distant { filesystem: "9p" }),
    (0x5346_414f, Ground::Distant { filesystem: "AFS" }),
    (0x00c3_6400, Ground::Distant { filesystem: "Ceph" }),
];

/// What a spool in `path` stands on; of a directory that is not there yet, what it would be made on. Blocks.
pub fn ground(path: &Path) -> Ground {
    // An empty path is what lies above a relative one: the working directory.
    let there = |path: &&Path| path.exists();
    let standing = path.ancestors().filter(|path| !path.as_os_str().is_empty()).find(there);
    magic(standing.unwrap_or(Path::new("."))).map_or(Ground::Lasting, of)
}

/// Refuses a volatile place. A distant one is warned of: it may well be kept, but by whom is for the administrator to know.
///
/// # Errors
/// [`Volatile`], which names the place, its kind and the key that allows it.
pub fn require_lasting(path: &Path) -> Result<(), Volatile> {
    match ground(path) {
        Ground::Lasting => Ok(()),
        Ground::Volatile { filesystem, lost_with } => {
            Err(Volatile { path: path.display().to_string(), filesystem, lost_with })
        }
        Ground::Distant { filesystem } => {
            tracing::warn!(
                event = "spool.unsuited",
                path = %path.display(),
                filesystem,
                "the spool is on a file system that another machine or program answers for; locks and syncs may fail there"
            );
            Ok(())
        }
    }
}

fn of(magic: u32) -> Ground {
    KINDS.iter().find(|(number, _)| *number == magic).map_or(Ground::Lasting, |(_, ground)| *ground)
}

/// The number of the file system that `path` is on. Its type differs between architectures; the numbers have 32 bits.
#[cfg(target_os = "linux")]
fn magic(path: &Path) -> Option<u32> {
    rustix::fs::statfs(path).ok().map(|found| found.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn magic(_: &Path) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_numbers() {
        assert!(matches!(of(0x0102_1994), Ground::Volatile { filesystem: "tmpfs", .. }));
        assert!(matches!(of(0x794c_7630), Ground::Volatile { filesystem: "overlayfs", lost_with: "the container" }));
        assert_eq!(of(0x0000_6969), Ground::Distant { filesystem: "NFS" });
        // ext4, xfs, btrfs, zfs
        for lasting in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1] {
            assert_eq!(of(lasting), Ground::Lasting, "{lasting:x}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_what_it_would_be_made_on() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ground(&directory.path().join("a/b/c")), ground(directory.path()));
        assert_eq!(ground(Path::new("not-there-yet")), ground(Path::new(".")));
    }

    #[test]
    fn the_refusal_names_place_kind_and_key() {
        let volatile =
            Volatile { path: "/run/spool".to_owned(), filesystem: "tmpfs", lost_with: "the machine's memory" };
        assert_eq!(
            volatile.to_string(),
            "spool.path = \"/run/spool\" is on tmpfs, which loses everything with the machine's memory: put the spool on a \
             local disk, or set allow_volatile = true in [spool] where that is meant"
        );
    }
}
