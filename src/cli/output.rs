//! Words for people and lines for programs, on standard output and standard error.

pub(super) use crate::mail::shown;
use std::io::{self, IsTerminal as _, Write};

/// Columns between two cells of a table.
const GAP: usize = 2;

/// Writes what went wrong to standard error.
pub(super) fn complain(text: &str) {
    let lines: Vec<_> = text.split('\n').map(shown).collect();
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "journal-relay: {}", lines.join("\n"));
}

/// Tells who sits at a terminal what takes its time.
pub(super) fn tell_at_terminal(text: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "journal-relay: {}", shown(text));
    }
}

/// Standard output for what is written piece by piece. What a reader that went away does not take goes nowhere.
pub(super) struct Output {
    stdout: io::StdoutLock<'static>,
    is_read: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { stdout: io::stdout().lock(), is_read: true }
    }

    fn unless_gone<T>(&mut self, done: io::Result<T>, otherwise: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_read = false;
                Ok(otherwise)
            }
            done => done,
        }
    }
}

impl Write for Output {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let done = if self.is_read { self.stdout.write(octets) } else { Ok(octets.len()) };
        self.unless_gone(done, octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = if self.is_read { self.stdout.flush() } else { Ok(()) };
        self.unless_gone(done, ())
    }
}

/// Writes octets to standard output. A reader that went away (`| head`) is no failure.
pub(super) fn print(octets: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(octets).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to standard output.
pub(super) fn print_line(text: &str) -> io::Result<()> {
    print(format!("{text}\n").as_bytes())
}

/// Writes one object as one line to standard output.
pub(super) fn print_object(object: &serde_json::Value) -> io::Result<()> {
    print_line(&object.to_string())
}

/// A table with aligned columns, the last one as long as it likes. What steers a terminal is shown escaped, see [`shown`].
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}", width = width + GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Whether standard output is for eyes that want colour: a terminal, without `NO_COLOR` (<https://no-color.org/>).
pub(super) fn is_coloured() -> bool {
    let is_set = |key: &str| std::env::var_os(key).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["ID".to_owned(), "STATE".into(), "REPLY".into()], vec!["0123".into(), "é".into(), "x".into()]];
        assert_eq!(table(&rows), "ID    STATE  REPLY\n0123  é      x\n");
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let tricks = "\u{1b}[2J\r\n\u{9b}31m\u{202e}gro.elpmaxe\u{2066}\u{200b}\u{feff}\u{7f}\u{e0041}";
        let escaped = r"\u{1b}[2J\u{d}\u{a}\u{9b}31m\u{202e}gro.elpmaxe\u{2066}\u{200b}\u{feff}\u{7f}\u{e0041}";
        assert_eq!(table(&[vec![tricks.to_owned()]]), format!("{escaped}\n"));
        assert_eq!(table(&[vec!["Jürgen 例え אב".to_owned()]]), "Jürgen 例え אב\n");
    }

    #[test]
    fn an_escaped_cell_is_as_wide_as_it_is_shown() {
        let rows = [vec!["\u{202e}".to_owned(), "x".into()], vec!["0123".into(), "y".into()]];
        assert_eq!(table(&rows), "\\u{202e}  x\n0123      y\n");
    }
}
