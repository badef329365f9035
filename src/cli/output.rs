//! Words for people and lines for programs, on standard output and standard error.

use std::io::{self, Write};

/// Columns between two cells of a table.
const GAP: usize = 2;

/// Writes what went wrong to standard error.
pub(super) fn complain(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "journal-relay: {text}");
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

/// A table with aligned columns, the last one as long as it likes. Control characters are shown as `?`: what an archive
/// replied can't steer the terminal.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let shown: String = cell.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
            line.push_str(&format!("{shown:<width$}", width = width + GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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
        assert_eq!(table(&[vec!["\u{1b}[2J\r\n".to_owned()]]), "?[2J??\n");
    }
}
