//! Files that a configuration names, and that are read whole while it is loaded.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens one.
///
/// # Errors
/// It can't be opened, or is no file: a pipe would keep whoever loads the configuration waiting for a writer, for ever.
pub(super) fn open(path: &Path) -> io::Result<File> {
    require(path)?;
    File::open(path)
}

/// Makes sure that it is a file.
///
/// # Errors
/// As [`open`].
pub(super) fn require(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() { Ok(()) } else { Err(io::Error::other("it is no file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_never_end_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, file) = (directory.path().join("pipe"), directory.path().join("file"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        std::fs::write(&file, "").unwrap();
        assert!(open(&file).is_ok());
        for wrong in [&pipe, Path::new("/dev/zero"), directory.path()] {
            assert_eq!(open(wrong).unwrap_err().to_string(), "it is no file", "{}", wrong.display());
        }
        assert_eq!(open(&directory.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
