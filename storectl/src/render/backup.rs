//! Backups of the database, and drills with them, for people.

use super::table::pairs;
use super::words::{bytes, duration, printable};
use proto::{BackedUp, Completed, Drilled};
use std::io::{self, Write};

/// `backup-db`; with `steps`, what was done, in order.
///
/// # Errors
/// Those of `out`.
pub fn backed_up(out: &mut dyn Write, b: &BackedUp, steps: bool) -> io::Result<()> {
    if steps {
        b.steps.iter().try_for_each(|step| writeln!(out, "{}", printable(step)))?;
    }
    let removed = if b.removed.is_empty() { "none".to_owned() } else { b.removed.join(", ") };
    let lines = [
        ("path", b.path.clone()),
        ("time", b.time.clone()),
        ("lsn", b.lsn.to_string()),
        ("reached lsn", b.reached_lsn.to_string()),
        ("until", b.until.clone()),
        ("size", bytes(b.size)),
        ("logs", b.logs.join(", ")),
        ("duration", duration(b.duration)),
        ("logs removed", removed),
    ];
    pairs(out, &lines)
}

/// `backup --complete`.
///
/// # Errors
/// Those of `out`.
pub fn completed(out: &mut dyn Write, c: &Completed) -> io::Result<()> {
    let configuration = if c.configuration.is_empty() { "none".to_owned() } else { c.configuration.join(", ") };
    let lines = [
        ("path", c.path.clone()),
        ("time", c.time.clone()),
        ("lsn", c.lsn.to_string()),
        ("mailboxes", c.objects.to_string()),
        ("messages", format!("{}, and {} further names of them", c.messages, c.copies)),
        ("size", bytes(c.bytes)),
        ("partitions", c.partitions.join(", ")),
        ("database", c.backup.clone()),
        ("configuration", configuration),
        ("not readable, or damaged", c.skipped.len().to_string()),
        ("duration", duration(c.duration)),
        ("checkpoints held for", duration(c.held)),
    ];
    pairs(out, &lines)?;
    for file in &c.skipped {
        writeln!(out, "  {}", printable(&format!("{}: {}", file.object, file.reason)))?;
    }
    Ok(())
}

/// `drill`.
///
/// # Errors
/// Those of `out`.
pub fn drilled(out: &mut dyn Write, d: &Drilled) -> io::Result<()> {
    let against = match d.compared {
        true => format!("the live store at LSN {}", d.live_lsn),
        false => "its own manifest: the log does not lead from it to the present".to_owned(),
    };
    let lines = [
        ("verdict", d.verdict.clone()),
        ("time", d.time.clone()),
        ("source", d.source.clone()),
        ("reached lsn", d.reached_lsn.to_string()),
        ("held against", against),
        ("rows", d.rows.to_string()),
        ("copied", bytes(d.bytes)),
        ("rpo", duration(d.rpo_seconds)),
        ("rto", duration(d.rto_seconds)),
        ("duration", duration(d.duration)),
    ];
    pairs(out, &lines)?;
    for f in &d.findings {
        writeln!(
            out,
            "  {}",
            printable(&format!("{}: {}: found {}, expected {}", f.file, f.what, f.found, f.expected))
        )?;
    }
    Ok(())
}
