//! What is wrong with a file: notes at places while it is read, errors with line and column in the end.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// Errors kept of one file; whoever has made more mends these first.
const MAX_ERRORS: usize = 50;

/// A place in a file, both counted from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// One thing that is wrong. Displayed as `config.toml:12:3: what was found, what is allowed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was asked for.
    pub file: PathBuf,
    /// Where in the file; none when the file as a whole is at fault.
    pub place: Option<Place>,
    /// What was found and what is allowed, on one line.
    pub message: String,
}

impl ConfigError {
    pub(super) fn without_place(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: None, message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong with a file, in its order; at least one. Displayed with one error a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn of(error: ConfigError) -> Self {
        Self(vec![error])
    }

    /// The errors one by one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Whether files that the configuration names are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// What they hold is used, and one that can't be read is an error.
    Open,
    /// Their names are enough.
    Leave,
}

/// Gathers what is wrong while a file is read.
#[derive(Debug)]
pub(super) struct Report<'a> {
    files: Files,
    file: &'a Path,
    text: &'a str,
    /// Octet offsets and messages, in the order found.
    notes: RefCell<Vec<(usize, String)>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, files: Files) -> Self {
        Self { files, file, text, notes: RefCell::default() }
    }

    /// Notes that at octet `offset` something is wrong.
    pub(super) fn note(&self, offset: usize, message: impl Into<String>) {
        self.notes.borrow_mut().push((offset, message.into()));
    }

    /// Notes an error of the TOML reader. Of the text nothing but a repeated key is shown: it may hold a password.
    pub(super) fn note_syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let message = if error.message() == "duplicate key" {
            format!("duplicate key {}; a key or table is allowed once", self.text.get(span.clone()).unwrap_or_default())
        } else {
            format!("not TOML: {}", error.message())
        };
        self.note(span.start, message);
    }

    /// What becomes of files that are named.
    pub(super) fn files(&self) -> Files {
        self.files
    }

    /// Whether nothing is noted so far.
    pub(super) fn is_clean(&self) -> bool {
        self.notes.borrow().is_empty()
    }

    /// The line, from 1, of octet `offset`.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.place(offset).line
    }

    /// The errors noted so far, when there are any.
    pub(super) fn finish(&self) -> Result<(), ConfigErrors> {
        if self.is_clean() { Ok(()) } else { Err(self.errors()) }
    }

    /// The errors noted.
    pub(super) fn into_errors(self) -> ConfigErrors {
        self.errors()
    }

    fn errors(&self) -> ConfigErrors {
        let mut notes = self.notes.borrow().clone();
        notes.sort_by_key(|(offset, _)| *offset);
        notes.dedup();
        let error =
            |(offset, message)| ConfigError { file: self.file.to_owned(), place: Some(self.place(offset)), message };
        ConfigErrors(notes.into_iter().take(MAX_ERRORS).map(error).collect())
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
        }
    }
}
