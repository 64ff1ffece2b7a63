//! `reconstruct` for people: a line for each change.

use super::words::{counted, printable};
use proto::Reconstructed;
use std::io::{self, Write};

/// `reconstruct`.
///
/// # Errors
/// Those of `out`.
pub fn reconstructed(out: &mut dyn Write, r: &Reconstructed) -> io::Result<()> {
    for change in &r.changes {
        writeln!(out, "{}", printable(&format!("{}: {}", change.mailbox, change.action)))?;
    }
    let more = r.changes_total.saturating_sub(r.changes.len() as u64);
    if more > 0 {
        writeln!(out, "and {more} more: the log of the daemon has them")?;
    }
    for f in &r.findings {
        let text = format!("{}: {}: found {}, expected {}", f.r#where, f.what, f.found, f.expected);
        writeln!(out, "not proven: {}", printable(&text))?;
    }
    let more = r.findings_total.saturating_sub(r.findings.len() as u64);
    if more > 0 {
        writeln!(out, "and {more} more that could not be proven: the log of the daemon has them")?;
    }
    let (mailboxes, changes) = (counted(r.checked, "mailbox"), counted(r.changes_total, "change"));
    writeln!(out, "{mailboxes}, {changes}, {} not proven", r.findings_total)
}
