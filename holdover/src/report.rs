//! A command's result, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

/// Exit status if a command did its work and found something missing or incomplete.
const LACKING: u8 = 3;

/// The result of a command.
pub(crate) trait Report {
    /// Rows of cells; the first cell names what the row is about.
    fn rows(&self) -> Vec<Vec<String>>;

    /// What people read.
    fn text(&self) -> String {
        table(&self.rows())
    }

    /// The same for programs.
    fn json(&self) -> Result<Value>;

    /// Whether nothing is missing.
    fn is_whole(&self) -> bool {
        true
    }
}

/// Prints a report, and says what exit status it means.
pub(crate) fn show(report: &dyn Report, json: bool) -> Result<ExitCode> {
    print(&if json { serde_json::to_string_pretty(&report.json()?)? + "\n" } else { report.text() })?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(LACKING) })
}

/// Writes to standard output. A reader that has seen enough and goes away, such as `head`, is no error.
fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let printed = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    printed.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Lays rows out in columns.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of two cells.
pub(crate) fn row(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(table(&[row("a", "é"), row("long", "1")]), "a     é\nlong  1\n");
    }
}
