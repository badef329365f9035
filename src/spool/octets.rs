//! A message's octets at rest.

use super::disk::{ReadFile, SharedDisk};
use bytes::Bytes;
use std::io;
use std::path::PathBuf;

/// Octets of the pieces that [`Octets::chunks`] gives.
pub const READ_CHUNK: usize = 64 * 1024;

/// The octets of a message at rest. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Octets {
    /// In memory.
    Inline(Bytes),
    /// In a file of the spool.
    File {
        /// Where the file is.
        disk: SharedDisk,
        /// The file.
        path: PathBuf,
        /// Its octets.
        length: u64,
    },
}

impl Octets {
    /// How many there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(octets) => u64::try_from(octets.len()).unwrap_or(u64::MAX),
            Self::File { length, .. } => *length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The octets in pieces of 64 KiB at most. Blocks on the file: for `spawn_blocking` and commands.
    ///
    /// # Errors
    /// When the file can't be opened. A piece is an error when it can't be read or the file is shorter than it was: a
    /// message cut off is never taken for a whole one.
    pub fn chunks(&self) -> io::Result<Chunks> {
        Ok(match self {
            Self::Inline(octets) => Chunks { source: Source::Inline(octets.clone()), left: self.len() },
            Self::File { disk, path, length } => Chunks { source: Source::File(disk.open(path)?), left: *length },
        })
    }

    /// All octets at once, for small messages and commands. Blocks.
    ///
    /// # Errors
    /// As [`chunks`](Self::chunks).
    pub fn read_all(&self) -> io::Result<Bytes> {
        if let Self::Inline(octets) = self {
            return Ok(octets.clone());
        }
        let mut all = Vec::new();
        for chunk in self.chunks()? {
            all.extend_from_slice(&chunk?);
        }
        Ok(Bytes::from(all))
    }
}

/// Octets in pieces; ends after the first error.
#[derive(Debug)]
pub struct Chunks {
    source: Source,
    left: u64,
}

#[derive(Debug)]
enum Source {
    Inline(Bytes),
    File(Box<dyn ReadFile>),
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(READ_CHUNK);
        let chunk = match &mut self.source {
            Source::Inline(octets) => Ok(octets.split_to(size.min(octets.len()))),
            Source::File(file) => {
                let mut chunk = vec![0; size];
                file.read_exact(&mut chunk).map(|()| Bytes::from(chunk))
            }
        };
        self.left = match &chunk {
            Ok(chunk) => self.left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX)),
            Err(_) => 0,
        };
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::system;

    #[test]
    fn a_file_cut_short_is_an_error_and_not_a_short_message() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut");
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        let octets = Octets::File { disk: system(), path, length: 80_000 };
        assert_eq!(octets.read_all().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
