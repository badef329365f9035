//! One table of the file: its keys taken one by one, each with its place, each mistake noted where it stands.
//!
//! A value that can't be taken is noted and then counts as absent; reading goes on, so that the next mistake is found too.
//! Nothing noted is used: a report with notes ends the load.

use super::later;
use super::report::Report;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which table it is, and what may stand in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// How its keys are named: `listener` for `listener.address`; empty for the file itself.
    pub(super) path: &'static str,
    /// How the table itself is named.
    pub(super) title: &'static str,
    /// The allowed keys.
    pub(super) keys: &'static [&'static str],
}

/// A value and the octet offset at which it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A table being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    kind: Kind,
    /// None for a table that the file does not have.
    table: Option<&'a DeTable<'a>>,
    at: usize,
    report: &'a Report<'a>,
}

impl<'a> Section<'a> {
    /// Begins with the table that stands at octet `at`; notes unknown keys and features that this version lacks.
    pub(super) fn open(kind: Kind, table: &'a DeTable<'a>, at: usize, report: &'a Report<'a>) -> Self {
        let section = Self { kind, table: Some(table), at, report };
        for (key, value) in table {
            let name: &str = key.get_ref();
            if let Some(refusal) = later::refusal(&section.path(name), value.get_ref()) {
                report.note(later::place(key, value), refusal);
            } else if !kind.keys.contains(&name) {
                let place = if kind.path.is_empty() { String::new() } else { format!(" in {}", kind.title) };
                report.note(
                    key.span().start,
                    format!("unknown key {name:?}{place}; allowed are {}", kind.keys.join(", ")),
                );
            }
        }
        section
    }

    /// The same for a table that the file does not have: every key is absent.
    pub(super) fn absent(&self, kind: Kind) -> Self {
        Self { kind, table: None, at: self.at, report: self.report }
    }

    /// Where the table begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where notes go that concern more than one key.
    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// Whether the file has the key, be its value right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Notes each of `keys` that is missing, at the table's line.
    pub(super) fn require(&self, keys: &[&str]) {
        for key in keys.iter().filter(|key| !self.has(key)) {
            self.report
                .note(self.at, format!("{} lacks the key {key:?}; required are {}", self.kind.title, keys.join(", ")));
        }
    }

    /// Notes each of the lists of tables `keys` that has none.
    pub(super) fn require_tables(&self, keys: &[&str]) {
        for key in keys.iter().filter(|key| self.entry(key).is_none_or(is_empty_list)) {
            self.report.note(self.at, format!("{} has no [[{key}]]; at least one is needed", self.kind.title));
        }
    }

    /// A string that `read` understands; what `read` says otherwise follows the key and the string found.
    pub(super) fn text<T>(&self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<Placed<T>> {
        self.text_shown(key, read, str::to_owned)
    }

    /// Like [`text`](Self::text); `show` takes out of the string what an error message must not repeat.
    pub(super) fn text_shown<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&str) -> String,
    ) -> Option<Placed<T>> {
        self.take_text(key, self.value(key)?, read, show)
    }

    /// A string that `read` understands, or a whole number in its place.
    pub(super) fn text_or_number<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Placed<T>> {
        let value = self.value(key)?;
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => match read(number.as_str()) {
                Ok(value) => Some(Placed { value, at }),
                Err(why) => self.wrong(key, at, number.as_str(), &why),
            },
            _ => self.take_text(key, value, read, str::to_owned),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        value.get_ref().as_bool().or_else(|| self.wrong_type(key, value, "true or false"))
    }

    /// A list of strings that `read` understands; those it doesn't are noted and left out.
    pub(super) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Placed<Vec<Placed<T>>>> {
        let value = self.value(key)?;
        let Some(items) = value.get_ref().as_array() else {
            return self.wrong_type(key, value, "a list of strings");
        };
        let read = |item| self.take_text(key, item, &read, str::to_owned);
        Some(Placed { value: items.iter().filter_map(read).collect(), at: value.span().start })
    }

    /// A table.
    pub(super) fn table(&self, key: &str, kind: Kind) -> Option<Self> {
        let value = self.value(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Self::open(kind, table, value.span().start, self.report)),
            None => self.wrong_type(key, value, &format!("a table {}", kind.title)),
        }
    }

    /// A list of tables; none when the key is absent.
    pub(super) fn tables(&self, key: &str, kind: Kind) -> Vec<Self> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let wanted = format!("a list of tables, each headed {}", kind.title);
        let Some(items) = value.get_ref().as_array() else {
            let _: Option<()> = self.wrong_type(key, value, &wanted);
            return Vec::new();
        };
        let read = |item: &'a Spanned<DeValue<'a>>| match item.get_ref().as_table() {
            Some(table) => Some(Self::open(kind, table, item.span().start, self.report)),
            None => self.wrong_type(key, item, &wanted),
        };
        items.iter().filter_map(read).collect()
    }

    /// Notes at the key's value (or the table, when it is absent) why it can't be so.
    pub(super) fn refuse(&self, key: &str, why: &str) {
        match self.entry(key).map(|value| (value.span().start, value.get_ref().as_str())) {
            Some((at, Some(found))) => {
                let _: Option<()> = self.wrong(key, at, &format!("{found:?}"), why);
            }
            Some((at, None)) => self.report.note(at, format!("{}: {why}", self.path(key))),
            None => self.report.note(self.at, format!("{}: {why}", self.path(key))),
        }
    }

    fn take_text<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&str) -> String,
    ) -> Option<Placed<T>> {
        let Some(text) = value.get_ref().as_str() else { return self.wrong_type(key, value, "a string") };
        let at = value.span().start;
        match read(text) {
            Ok(value) => Some(Placed { value, at }),
            Err(why) => self.wrong(key, at, &format!("{:?}", show(text)), &why),
        }
    }

    fn wrong<T>(&self, key: &str, at: usize, found: &str, why: &str) -> Option<T> {
        self.report.note(at, format!("{} = {found}: {why}", self.path(key)));
        None
    }

    fn wrong_type<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string".to_owned(),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {}", number.as_str()),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(moment) => format!("the date or time {moment}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.report.note(value.span().start, format!("{}: found {found}; allowed is {wanted}", self.path(key)));
        None
    }

    /// The key's value, unless it is one that this version lacks (noted when the table was opened).
    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entry(key).filter(|value| later::refusal(&self.path(key), value.get_ref()).is_none())
    }

    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn path(&self, key: &str) -> String {
        if self.kind.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.kind.path) }
    }
}

fn is_empty_list(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().as_array().is_some_and(|items| items.is_empty())
}
