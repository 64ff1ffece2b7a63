//! What became of old messages, for people.

use super::notes;
use super::table::{Column, Grid, number, text};
use super::words::{bytes, counted};
use proto::Aged;
use std::io::{self, Write};

const COLUMNS: &[Column] =
    &[text("MAILBOX"), text("RULE"), text("ACTION"), number("MESSAGES"), number("SIZE"), text("TO")];

/// `expire`, `purge`: a row for each mailbox and rule; on a terminal the sum below them.
///
/// # Errors
/// Those of `out`.
pub fn aged(out: &mut dyn Write, a: &Aged, tty: bool) -> io::Result<()> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let row = |line: &proto::AgedLine| {
        vec![
            line.mailbox.clone(),
            or_dash(&line.rule),
            line.action.clone(),
            line.messages.to_string(),
            if tty { bytes(line.bytes) } else { line.bytes.to_string() },
            or_dash(line.to.as_deref().unwrap_or_default()),
        ]
    };
    if a.lines.is_empty() {
        let left = if a.problems_total > 0 { " that could be" } else { "" };
        notes::note(&format!("nothing is old enough{left}; {} looked at", counted(a.mailboxes, "mailbox")));
    } else {
        Grid::new(COLUMNS, tty).rows(out, a.lines.iter().map(row).collect())?;
    }
    let more = a.lines_total.saturating_sub(a.lines.len() as u64);
    if tty {
        let would = if a.dry_run { "would be " } else { "" };
        let rest = if more > 0 { format!(", {} more than are shown", counted(more, "line")) } else { String::new() };
        let (messages, mailboxes) = (counted(a.messages, "message"), counted(a.mailboxes, "mailbox"));
        writeln!(out, "{would}done: {messages}, {}; {mailboxes} looked at{rest}", bytes(a.bytes))?;
    }
    // What could not be done is no result.
    a.problems.iter().for_each(|problem| notes::note(problem));
    match a.problems_total.saturating_sub(a.problems.len() as u64) {
        0 => {}
        more => notes::note(&format!("and {more} more: event=not_aged in the journal")),
    }
    Ok(())
}
