//! Turning a switch in the configuration file: its comments, order and spacing stay, its mode and owner too, and the file is
//! never there in part: the new one is synced beside it and takes its name.

use crate::cli::Failure;
use crate::config::{Config, ConfigErrors, Machine};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// Sets `journaling` and `switch_reason` of the organization called `name`.
///
/// # Errors
/// [`Failure::Config`] when the file would not be sound; it is left alone then. [`Failure::Failed`] when it can't be written.
pub(super) fn turn(file: &Path, name: &str, journaling: bool, reason: &str) -> Result<(), Failure> {
    let at = |error: io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    // Behind a link, what it leads to is changed.
    let file = std::fs::canonicalize(file).map_err(at)?;
    let at = |error: io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(&file).map_err(at)?;
    let turned = edited(&text, name, journaling, reason)
        .map_err(|why| Failure::Failed(format!("{} can't be edited: {why}", file.display())))?;
    Config::parse(&turned, &file, &Machine::look()).map_err(|errors: ConfigErrors| Failure::from(errors))?;
    replace(&file, &turned).map_err(at)
}

/// The text with the switch turned.
fn edited(text: &str, name: &str, journaling: bool, reason: &str) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let organizations = document.get_mut("organization").ok_or("there is no organization")?;
    let table = find(organizations, name).ok_or_else(|| format!("there is no organization {name:?}"))?;
    set(table, "journaling", journaling.into());
    set(table, "switch_reason", reason.into());
    Ok(document.to_string())
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

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let directory = file.parent().ok_or(io::ErrorKind::NotFound)?;
    let name = file.file_name().ok_or(io::ErrorKind::NotFound)?.to_string_lossy().into_owned();
    let new = directory.join(format!(".{name}.{}", std::process::id()));
    let written = write_beside(file, &new, text).and_then(|()| std::fs::rename(&new, file));
    if written.is_err() {
        // What can't be removed was not made, most likely; it is no part of the configuration anyway.
        let _ = std::fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_beside(file: &Path, new: &Path, text: &str) -> io::Result<()> {
    let old = std::fs::metadata(file)?;
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    output.write_all(text.as_bytes())?;
    let made = output.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        chown(new, Some(old.uid()), Some(old.gid()))?;
    }
    output.set_permissions(old.permissions())?;
    output.sync_all()
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
        replace(&file, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
