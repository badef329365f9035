//! `export`: every waiting record as a file, without changing anything.
//!
//! A file is written under another name, synced, and then gets its own: what is there under `ID.eml` is whole. A page's files
//! are written before the first of them is synced, so that the system can write them together. Records hold
//! mail, so files are their owner's alone (0600), and so is a directory that is made here (0700). A file that an earlier run
//! left is replaced, since a record that still waits for its message's other transactions may have grown.

use super::Desk;
use super::progress::Progress;
use crate::cli::Failure;
use crate::cli::output::{complain, print_line, print_object};
use crate::journal::MacKey;
use crate::mail::RecordId;
use crate::spool::{Filter, Spool, SpoolError};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Octets gathered before they are written.
const BUFFER: usize = 128 * 1024;

/// Files that are open at a time.
const TOGETHER: usize = 100;

/// What became of an entry.
enum Exported {
    /// Under its other name, not synced yet.
    Written(File),
    /// The archive took it, or an operator gave it up, since it was listed.
    Gone,
    /// Its octets can't be read; it is said why.
    Lost(String),
}

impl Desk<'_> {
    pub(super) async fn export(&self, directory: &Path, as_json: bool) -> Result<(), Failure> {
        let at = |error: io::Error| Failure::Failed(format!("{}: {error}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at)?;
        let key = self.key().await?;
        let (mut written, mut lost) = (0_usize, 0_usize);
        let mut strangers = BTreeSet::new();
        let mut progress = Progress::new("records written");
        self.each_page(Filter::default(), async |page| {
            let mut parts = Vec::with_capacity(page.len());
            for entry in page {
                match self.export_one(directory, entry.id, &key).await? {
                    Exported::Written(file) => {
                        parts.push((entry.id, file));
                        if !self.knows(&entry.organization) && strangers.insert(entry.organization.clone()) {
                            complain(&format!(
                                "the configuration has no organization {:?}: its records are written without their archive's address",
                                entry.organization
                            ));
                        }
                    }
                    Exported::Gone => {}
                    Exported::Lost(why) => {
                        lost += 1;
                        if as_json {
                            print_object(&json!({ "id": entry.id, "error": why }))?;
                        }
                        complain(&format!("{}: {why}", entry.id));
                    }
                }
                progress.reach(written + parts.len());
                if parts.len() >= TOGETHER {
                    written += publish(directory, &mut parts, as_json)?;
                }
            }
            written += publish(directory, &mut parts, as_json)?;
            Ok(())
        })
        .await?;
        drop(progress);
        // The names last, too.
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(at)?;
        if !as_json {
            print_line(&format!("{written} records written to {}", directory.display()))?;
        }
        if lost == 0 { Ok(()) } else { Err(Failure::Failed(format!("{lost} records could not be read"))) }
    }

    async fn export_one(&self, directory: &Path, id: RecordId, key: &MacKey) -> Result<Exported, Failure> {
        let (fields, archive, octets) = match self.spool.show(id).await {
            Ok((_, entry, _)) if entry.state.is_history() => return Ok(Exported::Gone),
            Ok((_, _, None)) => return Ok(Exported::Lost("its octets are gone".to_owned())),
            Ok((fields, entry, Some(octets))) => (fields, entry.archive, octets),
            Err(SpoolError::NotFound(_)) => return Ok(Exported::Gone),
            Err(error) => return Ok(Exported::Lost(error.to_string())),
        };
        // Before a file is begun: a message whose octets can't be opened must not end the others.
        if let Err(error) = octets.chunks() {
            return Ok(Exported::Lost(error.to_string()));
        }
        let part = part_of(directory, id);
        let at = |error: io::Error| Failure::Failed(format!("{}: {error}", part.display()));
        let mut output = BufWriter::with_capacity(BUFFER, create(&part).map_err(at)?);
        self.write_record(&mut output, (fields, &archive), &octets, key)?;
        Ok(Exported::Written(output.into_inner().map_err(|error| at(error.into_error()))?))
    }
}

fn part_of(directory: &Path, id: RecordId) -> PathBuf {
    directory.join(format!(".{id}.part"))
}

/// Syncs what was written and gives it its own names; how many there were.
fn publish(directory: &Path, parts: &mut Vec<(RecordId, File)>, as_json: bool) -> Result<usize, Failure> {
    let at = |error: io::Error| Failure::Failed(format!("{}: {error}", directory.display()));
    parts.iter().try_for_each(|(_, file)| file.sync_all()).map_err(at)?;
    for (id, _) in parts.iter() {
        let file = directory.join(format!("{id}.eml"));
        std::fs::rename(part_of(directory, *id), &file).map_err(at)?;
        if as_json {
            print_object(&json!({ "id": id, "file": file.display().to_string() }))?;
        }
    }
    let count = parts.len();
    parts.clear();
    Ok(count)
}

/// A new file of its own; one that an interrupted run left, or a link that somebody put there, is not written into.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
