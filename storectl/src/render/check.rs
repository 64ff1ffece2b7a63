//! `check` for people: a line for each finding.

use super::words::printable;
use proto::Checked;
use std::io::{self, Write};

/// `check`.
///
/// # Errors
/// Those of `out`.
pub fn checked(out: &mut dyn Write, c: &Checked) -> io::Result<()> {
    for f in &c.findings {
        let text = format!("{}: {}: {}: found {}, expected {}", f.fate, f.r#where, f.what, f.found, f.expected);
        writeln!(out, "{}", printable(&text))?;
    }
    let more = c.findings_total.saturating_sub(c.findings.len() as u64);
    if more > 0 {
        writeln!(out, "and {more} more: the log of the daemon has them")?;
    }
    let counts = format!("{} mailboxes, {} messages, {} bytes read", c.checked, c.messages, c.bytes);
    writeln!(out, "{counts}; {} findings, {} lost", c.findings_total, c.lost)?;
    match &c.scrub {
        Some(scrub) => writeln!(out, "the scrub, which does this all the time: {}", super::status::scrub(scrub, None)),
        None => Ok(()),
    }
}
