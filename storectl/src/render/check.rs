//! `check` for people: a line for each finding.

use super::words::{counted, printable};
use proto::naming::quoted;
use proto::{Check, Checked, Request, Work};
use std::io::{self, Write};

/// `check`.
///
/// # Errors
/// Those of `out`.
pub fn checked(out: &mut dyn Write, request: &Request, c: &Checked) -> io::Result<()> {
    for f in &c.findings {
        let text = format!("{}: {}: {}: found {}, expected {}", f.fate, f.r#where, f.what, f.found, f.expected);
        writeln!(out, "{}", printable(&text))?;
    }
    let more = c.findings_total.saturating_sub(c.findings.len() as u64);
    if more > 0 {
        writeln!(out, "and {more} more: the log of the daemon has them")?;
    }
    let (mailboxes, messages) = (counted(c.checked, "mailbox"), counted(c.messages, "message"));
    let counts = format!("{mailboxes}, {messages}, {} read", counted(c.bytes, "byte"));
    writeln!(out, "{counts}; {}, {} lost", counted(c.findings_total, "finding"), c.lost)?;
    if let Some(next) = mend(request, c) {
        writeln!(out, "  next: {}", printable(&super::complete(&next)))?;
    }
    match &c.scrub {
        Some(scrub) => writeln!(out, "the scrub, which does this all the time: {}", super::status::scrub(scrub, None)),
        None => Ok(()),
    }
}

/// What puts back what can be, in the same part of the store; `None` if nothing can.
fn mend(request: &Request, c: &Checked) -> Option<String> {
    c.findings.iter().find(|f| f.fate == "mendable")?;
    let (Request::Check(of) | Request::JobStart { work: Work::Check(of), .. }) = request else {
        return Some("storectl reconstruct".to_owned());
    };
    let Check { mailboxes, partition, .. } = of;
    let partition = partition.iter().map(|name| format!(" -p {}", quoted(name)));
    let mailboxes = mailboxes.iter().map(|name| format!(" {}", quoted(name)));
    Some(std::iter::once("storectl reconstruct".to_owned()).chain(partition).chain(mailboxes).collect())
}
