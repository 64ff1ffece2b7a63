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
    /// Columns of the terminal.
    room: Option<usize>,
    widths: Vec<u16>,
    /// Set with the first row.
    form: Option<Form>,
}

/// What a table looks like on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it is.
    Whole,
    /// The last column folded to so many characters.
    Folded(u16),
    /// Too wide: each row as lines of its own.
    Records,
}

/// The last column is folded to no less.
const FOLDED_LEAST: usize = 24;

impl Grid {
    /// A list with these columns.
    #[must_use]
    pub fn new(columns: &'static [Column], tty: bool) -> Grid {
        Grid { columns, tty, room: ink::columns(), widths: Vec::new(), form: None }
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
        let first = self.form.is_none();
        let form = *self.form.get_or_insert_with(|| form(self.columns, &rows, self.room));
        if form == Form::Records {
            return records(out, self.columns, &rows, first);
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
        if let (Form::Folded(width), Some(last)) = (form, table.column_mut(self.columns.len() - 1)) {
            last.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(width)));
        }
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

/// Chooses by the first rows; between two columns stand two blanks.
fn form(columns: &[Column], rows: &[Vec<String>], room: Option<usize>) -> Form {
    let Some(room) = room else { return Form::Whole };
    let wide = |at: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([column.title.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(at, column)| wide(at, column) + 2).collect();
    let all: usize = widths.iter().sum();
    let before = all - widths.last().copied().unwrap_or(0);
    match room.checked_sub(before) {
        _ if all <= room + 2 => Form::Whole,
        Some(left) if left >= FOLDED_LEAST => Form::Folded(u16::try_from(left).unwrap_or(u16::MAX)),
        _ => Form::Records,
    }
}

fn records(out: &mut dyn Write, columns: &[Column], rows: &[Vec<String>], first: bool) -> io::Result<()> {
    for (at, row) in rows.iter().enumerate() {
        if at > 0 || !first {
            writeln!(out)?;
        }
        let titles: Vec<String> = columns.iter().map(|column| column.title.to_lowercase()).collect();
        let lines = titles.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        pairs(out, &lines.map(|(title, cell)| (title.as_str(), cell.clone())).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Aligned `key: value` lines; a state stands in its colour, and a long value goes on below itself on a terminal.
///
/// # Errors
/// Those of `out`.
pub fn pairs(out: &mut dyn Write, pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    let room = ink::columns().map_or(usize::MAX, |columns| columns.saturating_sub(width + 2).max(FOLDED_LEAST));
    for (key, value) in pairs {
        let value = printable(value);
        let mut lines = folded(&value, room).into_iter();
        let first = lines.next().unwrap_or_default();
        let first = if *key == "state" { ink::state(first) } else { first.to_owned() };
        writeln!(out, "{:width$}  {first}", format!("{key}:"))?;
        for line in lines {
            writeln!(out, "{:width$}  {line}", "")?;
        }
    }
    Ok(())
}

/// Lines of at most `room` characters, broken at blanks; a word that is longer, such as a path, stays whole.
fn folded(text: &str, room: usize) -> Vec<&str> {
    let (mut lines, mut begin, mut end, mut length) = (Vec::new(), 0, 0, 0);
    for word in text.split_inclusive(' ') {
        let chars = word.trim_end().chars().count();
        if end > begin && length + chars > room {
            lines.push(text[begin..end].trim_end());
            (begin, length) = (end, 0);
        }
        end += word.len();
        length += word.chars().count();
    }
    lines.push(text[begin..].trim_end());
    lines
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
    fn a_table_that_is_too_wide_takes_another_form() {
        let print = |room, cells: [&str; 2]| {
            const WIDE: &[Column] = &[text("NAME"), text("KEPT FOR")];
            let mut grid = Grid { room: Some(room), ..Grid::new(WIDE, true) };
            let mut out = Vec::new();
            for _ in 0..2 {
                grid.rows(&mut out, vec![cells.map(str::to_owned).to_vec()]).unwrap();
            }
            String::from_utf8(out).unwrap()
        };
        let reason = "active: records are appended to it";
        assert!(
            print(80, ["log.1", reason]).starts_with("NAME   KEPT FOR\nlog.1  active: records are appended to it\n")
        );
        let folded = print(35, ["log.1", reason]);
        assert!(folded.lines().all(|line| line.len() <= 35) && folded.contains("\n       "), "{folded}");
        let record = format!("name:      log.0000000001\nkept for:  {reason}\n");
        assert_eq!(print(30, ["log.0000000001", reason]), format!("{record}\n{record}"));
    }

    #[test]
    fn long_values_are_broken_at_blanks() {
        assert_eq!(folded("a bc def", 4), ["a bc", "def"]);
        assert_eq!(folded("/a/long/path is one", 6), ["/a/long/path", "is one"]);
        assert_eq!(folded("", 5), [""]);
        assert_eq!(folded("a  b", usize::MAX), ["a  b"]);
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
