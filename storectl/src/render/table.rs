//! Tables: aligned columns on a terminal, one record a line with tabs elsewhere. A long list comes in parts; columns keep
//! at least the widths they had, so that the parts stand under each other.

use super::ink;
use super::words::{for_terminal, printable};
use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets};
use std::io::{self, Write};

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Heading.
    pub title: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
}

/// A column of text.
#[must_use]
pub const fn text(title: &'static str) -> Column {
    Column { title, right: false }
}

/// A column of numbers.
#[must_use]
pub const fn number(title: &'static str) -> Column {
    Column { title, right: true }
}

/// A list that is being printed.
#[derive(Debug)]
pub struct Grid {
    columns: &'static [Column],
    tty: bool,
    widths: Vec<u16>,
}

impl Grid {
    /// A list with these columns.
    #[must_use]
    pub fn new(columns: &'static [Column], tty: bool) -> Grid {
        Grid { columns, tty, widths: Vec::new() }
    }

    /// Prints the next rows; the heading stands before the first.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn rows(&mut self, out: &mut dyn Write, rows: Vec<Vec<String>>) -> io::Result<()> {
        if !self.tty {
            for row in rows {
                writeln!(out, "{}", row.iter().map(|cell| printable(cell)).collect::<Vec<_>>().join("\t"))?;
            }
            return Ok(());
        }
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.widths.is_empty() {
            table.set_header(self.columns.iter().map(|column| column.title));
        }
        for row in &rows {
            table.add_row(row.iter().map(|cell| for_terminal(cell).into_owned()));
        }
        self.align(&mut table);
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn align(&mut self, table: &mut Table) {
        let natural = table.column_max_content_widths();
        let before = std::mem::take(&mut self.widths);
        for (at, column) in self.columns.iter().enumerate() {
            let width = natural.get(at).copied().unwrap_or(0).max(before.get(at).copied().unwrap_or(0));
            self.widths.push(width);
            if let Some(shown) = table.column_mut(at) {
                shown.set_padding((0, 2));
                shown.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + 2)));
                if column.right {
                    shown.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
    }
}

/// Aligned `key: value` lines; a state stands in its colour.
///
/// # Errors
/// Those of `out`.
pub fn pairs(out: &mut dyn Write, pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    for (key, value) in pairs {
        let value = if *key == "state" { ink::state(&printable(value)).into() } else { printable(value) };
        writeln!(out, "{:width$}  {value}", format!("{key}:"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[text("NAME"), number("BYTES")];

    fn print(tty: bool, parts: &[&[(&str, &str)]]) -> String {
        let mut grid = Grid::new(COLUMNS, tty);
        let mut out = Vec::new();
        for part in parts {
            let rows = part.iter().map(|(a, b)| vec![(*a).to_owned(), (*b).to_owned()]).collect();
            grid.rows(&mut out, rows).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_aligned_columns() {
        let text = print(true, &[&[("a", "1"), ("long name", "12345")], &[("b", "2")]]);
        assert_eq!(text, "NAME       BYTES\na              1\nlong name  12345\nb              2\n");
    }

    #[test]
    fn a_pipe_gets_tabs_and_no_heading() {
        assert_eq!(print(false, &[&[("a", "1")], &[("b\tc", "2")]]), "a\t1\nb\\u{9}c\t2\n");
        assert_eq!(print(true, &[&[]]), "");
    }

    #[test]
    fn wide_characters_are_measured_as_shown() {
        let text = print(true, &[&[("\u{65e5}\u{672c}", "1"), ("abcd", "2")]]);
        assert_eq!(text, "NAME  BYTES\n\u{65e5}\u{672c}      1\nabcd      2\n");
    }

    #[test]
    fn pairs_are_aligned() {
        let mut out = Vec::new();
        pairs(&mut out, &[("state", "ready".to_owned()), ("checkpoint", "x".to_owned())]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "state:       ready\ncheckpoint:  x\n");
    }
}
