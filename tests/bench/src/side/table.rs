//! One table, for people: Markdown and SVG.

use std::fmt::Write as _;

/// What was done, a row each.
const ROWS: [(&str, &str); 6] = [
    ("index lost", "`store.idx` (storedd), `cyrus.index` and `cyrus.cache` (Cyrus), `dovecot.index*` (Dovecot)"),
    ("database lost", "database, log and snapshots (storedd), `mailboxes.db` (Cyrus), the map of mdbox (Dovecot)"),
    ("both lost", "both at once"),
    ("one bit flipped in each of 20 message files", "then read by their user"),
    (
        "power cut under delivery",
        "an ext4 shut down while 8 sessions deliver, mounted again, the server started; Dovecot with `mail_fsync = optimized`, its default",
    ),
    ("delivery, 16 sessions of 4 KiB", "LMTP, durable settings, one disk"),
];
/// The row of the power cuts.
const CUTS: usize = 4;
const WIDTH: usize = 300;
const HEAD: usize = 240;
const LINE: usize = 18;
/// Letters of one line of a cell.
const LETTERS: usize = 44;

/// See the page.
#[derive(Debug, Default)]
pub struct Table {
    /// Titles, and a cell for each of [`ROWS`].
    pub columns: Vec<(&'static str, Vec<String>)>,
}

impl Table {
    fn cell(&self, column: usize, row: usize) -> &str {
        self.columns[column].1.get(row).map_or("", String::as_str)
    }

    /// For `docs/peers.md`.
    pub fn markdown(&self, machine: &str) -> String {
        let mut out = String::from("# Side by side\n\n");
        let _ = writeln!(
            out,
            "Written by `cargo run --release -p storedd-bench -- --sections side --devices real --peers DIR` ({machine}).\n\
             Debian's Cyrus and Dovecot, set up by `tests/peers/peers`; each loses the same, and is repaired by the commands that its\n\
             documents name. Thirty messages, ten of them flagged, ten expunged, before something is lost.\n"
        );
        let titles: Vec<&str> = self.columns.iter().map(|(title, _)| *title).collect();
        let _ = writeln!(out, "| | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len()));
        for (row, (what, how)) in ROWS.iter().enumerate() {
            let cells: Vec<&str> = (0..titles.len()).map(|column| self.cell(column, row)).collect();
            let _ = writeln!(out, "| **{what}**: {how} | {} |", cells.join(" | "));
        }
        let kept = |column: usize| self.cell(column, CUTS).starts_with("0 of");
        out.push_str(match (1..self.columns.len()).all(kept) {
            true => "\nWhat speaks for the peers: both lost nothing that they had acknowledged, they",
            false => "\nWhat speaks for the peers: in other runs of these cuts both have lost nothing; they",
        });
        out.push_str(NOTES);
        out
    }

    /// For `docs/peers.svg`.
    pub fn svg(&self, machine: &str) -> String {
        let lines = |text: &str| wrapped(text);
        let heights: Vec<usize> = (0..ROWS.len())
            .map(|row| {
                (0..self.columns.len()).map(|c| lines(self.cell(c, row)).len()).max().unwrap_or(1).max(2) * LINE + 12
            })
            .collect();
        let (width, height) = (HEAD + WIDTH * self.columns.len(), 60 + heights.iter().sum::<usize>());
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"8\" y=\"18\">{}</text>\n",
            escaped(machine)
        );
        let mut text = |x: usize, y: usize, bold: bool, text: &str| {
            let weight = if bold { " font-weight=\"bold\"" } else { "" };
            let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\"{weight}>{}</text>", escaped(text));
        };
        let mut y = 42;
        self.columns.iter().enumerate().for_each(|(n, (title, _))| text(HEAD + n * WIDTH, y, true, title));
        let mut rules = Vec::new();
        for (row, (what, _)) in ROWS.iter().enumerate() {
            rules.push(y + 8);
            wrapped(what).iter().enumerate().for_each(|(n, line)| text(8, y + 26 + n * LINE, true, line));
            for column in 0..self.columns.len() {
                let at = HEAD + column * WIDTH;
                let cell = wrapped(self.cell(column, row));
                cell.iter().enumerate().for_each(|(n, line)| text(at, y + 26 + n * LINE, false, line));
            }
            y += heights[row];
        }
        for y in rules {
            let _ = writeln!(out, "<path d=\"M0 {y}H{width}\" stroke=\"#ccc\"/>");
        }
        out.push_str("</svg>\n");
        out
    }
}

/// In both directions.
const NOTES: &str = " serve IMAP and POP, which storedd does not, and have been
run by many for decades. Cyrus keeps a checksum of each message and compares it when it is asked to (`reconstruct -G`); Dovecot's
format packs small messages into few files, so that a copy of the tree is fast.

Where a cell says that a mailbox is gone, its message files are still on the disk: `reconstruct -P` of Cyrus does not open a mailbox that
has no `cyrus.index` (\"System I/O error\", exit status 0), and without a list a person has to make the mailboxes by hand first.

What speaks for storedd is above: every state of a message stands twice on the disk and for a while in the log, so what one loses the
other has. If index *and* manifest of a user are lost with the log, flags are lost here, too: see [damage-matrix.md](damage-matrix.md).
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Lines of at most [`LETTERS`], broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.is_empty() || line.len() + word.len() < LETTERS);
        match line {
            Some(line) => {
                line.extend((!line.is_empty()).then_some(' '));
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_in_both_forms() {
        let cells = |who: &str| {
            (0..ROWS.len()).map(|n| format!("{who} & {n} of many words that are broken into lines")).collect()
        };
        let table = Table { columns: vec![("one", cells("a")), ("two", cells("b"))] };
        let (markdown, svg) = (table.markdown("here"), table.svg("here"));
        for n in 0..ROWS.len() {
            assert!(
                markdown.contains(&format!("| a & {n} of many words that are broken into lines | b & {n} ")),
                "{markdown}"
            );
            assert!(svg.contains(&format!(">b &amp; {n} of many words")), "{svg}");
        }
    }
}
