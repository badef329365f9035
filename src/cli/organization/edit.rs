//! Turning a switch in the configuration file: its comments, order and spacing stay, its mode and owner too, and the file is
//! never there in part: the new one is synced beside it and takes its name.

use crate::cli::Failure;
use crate::config::{Config, ConfigErrors, Machine};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// The byte order mark, which some editors write in front.
const MARK: &str = "\u{feff}";
/// How long another command that edits the file is waited for …
const PATIENCE: Duration = Duration::from_secs(10);
/// … and so long between two looks.
const BETWEEN: Duration = Duration::from_millis(20);

/// Sets `journaling` and `switch_reason` of the organization called `name`. Who does the same at the same time comes after.
///
/// # Errors
/// [`Failure::Config`] when the file would not be sound; it is left alone then. [`Failure::Failed`] when it can't or may not be
/// written, or somebody else has written it meanwhile.
pub(super) async fn turn(file: &Path, name: &str, journaling: bool, reason: &str) -> Result<(), Failure> {
    let at = |error: io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    // Behind a link, what it leads to is changed.
    let file = std::fs::canonicalize(file).map_err(at)?;
    let at = |error: io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    let mut held = lock(&file).await.map_err(at)?;
    let mut text = String::new();
    held.read_to_string(&mut text).map_err(at)?;
    let turned = edited(&text, name, journaling, reason)
        .map_err(|why| Failure::Failed(format!("{} can't be edited: {why}", file.display())))?;
    Config::parse(&turned, &file, &Machine::look()).map_err(|errors: ConfigErrors| Failure::from(errors))?;
    replace(&file, &held, &text, &turned).map_err(at)
}

/// The file, open and locked: locks are on what the name stood for when it was opened, so it is looked at again behind the lock.
async fn lock(path: &Path) -> io::Result<File> {
    let until = Instant::now() + PATIENCE;
    loop {
        // Opened for writing, though it is replaced: who may not write it may not replace it either.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.permissions().readonly() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "its mode lets nobody write it"));
        }
        match file.try_lock() {
            Ok(()) if is_still(path, &file)? => return Ok(file),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if Instant::now() >= until {
            let why = format!("another command has been editing it for {} s", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        sleep(BETWEEN).await;
    }
}

/// Whether `path` still is the name of `file`.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let (there, here) = (std::fs::metadata(path)?, file.metadata()?);
    Ok((there.dev(), there.ino()) == (here.dev(), here.ino()))
}

/// The text with the switch turned; every other line as it is, with its own end, and the mark that Windows puts in front.
fn edited(text: &str, name: &str, journaling: bool, reason: &str) -> Result<String, String> {
    let (mark, text) = text.strip_prefix(MARK).map_or(("", text), |rest| (MARK, rest));
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let organizations = document.get_mut("organization").ok_or("there is no organization")?;
    let table = find(organizations, name).ok_or_else(|| format!("there is no organization {name:?}"))?;
    set(table, "journaling", journaling.into());
    set(table, "switch_reason", reason.into());
    Ok(format!("{mark}{}", with_ends_of(text, &document.to_string())))
}

/// `new` with the lines of `old` where they are the same in front and at the end, and its line ends in between.
fn with_ends_of(old: &str, new: &str) -> String {
    fn bare<'l>(line: &'l &str) -> &'l str {
        line.trim_end_matches(['\r', '\n'])
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let both = old.iter().zip(&new);
    let front = both.take_while(|(old, new)| bare(old) == bare(new)).count();
    let rest = (old.len().min(new.len())).saturating_sub(front);
    let both = old.iter().rev().zip(new.iter().rev()).take(rest);
    let back = both.take_while(|(old, new)| bare(old) == bare(new)).count();
    let end = if old.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let between = new.iter().skip(front).take(new.len() - front - back);
    let between =
        between.map(|line| if line.ends_with('\n') { format!("{}{end}", bare(line)) } else { line.to_string() });
    let (first, last) = (old.iter().take(front), old.iter().skip(old.len() - back));
    first.map(|line| line.to_string()).chain(between).chain(last.map(|line| line.to_string())).collect()
}

fn find<'d>(organizations: &'d mut Item, name: &str) -> Option<&'d mut dyn TableLike> {
    fn is_called(table: &dyn TableLike, name: &str) -> bool {
        table.get("name").and_then(Item::as_str) == Some(name)
    }
    match organizations {
        Item::ArrayOfTables(tables) => {
            tables.iter_mut().map(|table| table as &mut dyn TableLike).find(|table| is_called(*table, name))
        }
        Item::Value(Value::Array(tables)) => {
            let tables = tables.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.map(|table| table as &mut dyn TableLike).find(|table| is_called(*table, name))
        }
        _ => None,
    }
}

/// What stands around the old value (a comment behind it, say) stays around the new one.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        _ => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// Puts `new` in the place of the `old` text of `held`, unless that has changed.
fn replace(file: &Path, held: &File, old: &str, new: &str) -> io::Result<()> {
    let directory = file.parent().ok_or(io::ErrorKind::NotFound)?;
    let name = file.file_name().ok_or(io::ErrorKind::NotFound)?.to_string_lossy().into_owned();
    let beside = directory.join(format!(".{name}.{}", std::process::id()));
    let written = write_beside(&beside, held, new).and_then(|()| {
        // An editor takes no lock: what it has saved meanwhile must not vanish.
        if !is_still(file, held)? || std::fs::read(file)? != old.as_bytes() {
            return Err(io::Error::other("the file changed meanwhile, try again"));
        }
        std::fs::rename(&beside, file)
    });
    if written.is_err() {
        // What can't be removed was not made, most likely; it is no part of the configuration anyway.
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_beside(beside: &Path, held: &File, text: &str) -> io::Result<()> {
    let old = held.metadata()?;
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    output.write_all(text.as_bytes())?;
    let made = output.metadata()?;
    if made.uid() != old.uid() {
        chown(beside, Some(old.uid()), None).map_err(|error| kept_from("owner", &error))?;
    }
    if made.gid() != old.gid()
        && let Err(error) = chown(beside, None, Some(old.gid()))
        && !is_same_for_any_group(old.mode())
    {
        return Err(kept_from("group", &error));
    }
    output.set_permissions(old.permissions())?;
    output.sync_all()
}

fn kept_from(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("its {what} can't be kept, nothing was changed: {error}"))
}

/// Whether the file's group may do what everybody may: then another group gives and takes nothing.
fn is_same_for_any_group(mode: u32) -> bool {
    (mode >> 3) & 7 == mode & 7
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\nhostname = \"relay.example\" # a name\n\n[[organization]]\nname = \"one\"\njournaling = true # the switch\n\
                        domains = [\n  \"one.example\", # first\n]\n[organization.scope]\nexclude = []\n\n[[organization]] # the other\n\
                        name = \"two\"\n";

    #[test]
    fn turning_a_switch_changes_nothing_else_of_the_file() {
        let turned = edited(FILE, "one", false, "root: a move").unwrap();
        let expected = FILE
            .replace("journaling = true # the switch", "journaling = false # the switch")
            .replace("# first\n]\n", "# first\n]\nswitch_reason = \"root: a move\"\n");
        assert_eq!(turned, expected);
        let back = edited(&turned, "one", true, "root: over").unwrap();
        assert_eq!(back, FILE.replace("# first\n]\n", "# first\n]\nswitch_reason = \"root: over\"\n"));
    }

    #[test]
    fn a_switch_that_the_file_does_not_have_is_added_to_its_table() {
        let turned = edited(FILE, "two", false, "a \"reason\"").unwrap();
        assert_eq!(turned, format!("{FILE}journaling = false\nswitch_reason = 'a \"reason\"'\n"));
        let inline = "organization = [{ name = \"one\", journaling = true }]\n";
        let turned = edited(inline, "one", false, "x").unwrap();
        assert_eq!(turned, "organization = [{ name = \"one\", journaling = false , switch_reason = \"x\" }]\n");
        assert!(edited(FILE, "three", false, "x").unwrap_err().contains("three"));
    }

    #[test]
    fn the_new_file_has_the_mode_of_the_old_one_and_leaves_nothing_beside_it() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        replace(&file, &File::open(&file).unwrap(), "old", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn lines_keep_their_ends_and_the_file_its_mark() {
        let windows = |text: &str| format!("{MARK}{}", text.replace('\n', "\r\n"));
        for name in ["one", "two"] {
            let turned = edited(FILE, name, false, "a move").unwrap();
            assert_eq!(edited(&windows(FILE), name, false, "a move").unwrap(), windows(&turned));
        }
        let mixed = FILE.replace("# ours\n", "# ours\r\n").replace("\"two\"\n", "\"two\"\r\n");
        let turned = edited(&mixed, "one", false, "a move").unwrap();
        assert!(turned.starts_with("# ours\r\nhostname = \"relay.example\" # a name\n"), "{turned:?}");
        assert!(turned.ends_with("[[organization]] # the other\nname = \"two\"\r\n"), "{turned:?}");
        let unended = edited(FILE.trim_end(), "one", false, "a move").unwrap();
        assert_eq!(unended, edited(FILE, "one", false, "a move").unwrap().trim_end());
    }

    #[test]
    fn a_file_that_somebody_saves_meanwhile_is_left_as_he_saved_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "old").unwrap();
        let held = File::open(&file).unwrap();
        std::fs::write(&file, "saved").unwrap();
        assert!(replace(&file, &held, "old", "new").unwrap_err().to_string().contains("changed meanwhile"));
        // By an editor that replaces, as this does, and though it reads the same.
        std::fs::write(directory.path().join("other"), "saved").unwrap();
        std::fs::rename(directory.path().join("other"), &file).unwrap();
        assert!(replace(&file, &held, "saved", "new").unwrap_err().to_string().contains("changed meanwhile"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "saved");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_file_that_nobody_may_write_is_not_replaced() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), FILE).unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(0o444)).unwrap();
        let refused = turn(file.path(), "one", false, "x").await;
        assert!(matches!(refused, Err(Failure::Failed(_))));
        assert_eq!(lock(file.path()).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), FILE);
    }

    #[test]
    fn the_group_may_change_where_that_gives_and_takes_nothing() {
        for (mode, is_same) in [(0o100_644, true), (0o600, true), (0o640, false), (0o664, false), (0o604, false)] {
            assert_eq!(is_same_for_any_group(mode), is_same, "{mode:o}");
        }
    }
}
