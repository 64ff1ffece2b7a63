//! Snapshots and what is wrong with them, for people.

use super::table::pairs;
use super::words::{bytes, counted, duration, printable};
use proto::{SnapshotFinding, SnapshotTaken, SnapshotVerified};
use std::io::{self, Write};

/// `snapshot take`.
///
/// # Errors
/// Those of `out`.
pub fn taken(out: &mut dyn Write, s: &SnapshotTaken) -> io::Result<()> {
    let state = match (s.findings.is_empty(), s.verified) {
        (false, _) => "bad",
        (true, true) => "verified",
        (true, false) => "not verified yet",
    };
    let lines = [
        ("id", s.id.clone()),
        ("path", s.path.clone()),
        ("time", s.time.clone()),
        ("lsn", s.lsn.to_string()),
        ("size", bytes(s.size)),
        ("state", state.to_owned()),
        ("duration", duration(s.duration)),
    ];
    pairs(out, &lines)?;
    findings(out, &s.findings)
}

/// `snapshot verify`: one of them.
///
/// # Errors
/// Those of `out`.
pub fn verified(out: &mut dyn Write, s: &SnapshotVerified) -> io::Result<()> {
    let log = match s.zero_loss {
        true => "the log behind it leads to the present",
        false => "the log behind it does not lead to the present",
    };
    match s.ok {
        true => writeln!(out, "{}: good, {}; {log}", printable(&s.id), counted(s.rows, "row"))?,
        false => writeln!(out, "{}: bad, {}", printable(&s.id), counted(s.findings.len() as u64, "finding"))?,
    }
    findings(out, &s.findings)
}

fn findings(out: &mut dyn Write, findings: &[SnapshotFinding]) -> io::Result<()> {
    for f in findings {
        let table = if f.table.is_empty() { String::new() } else { format!(" table {},", f.table) };
        let key = if f.key.is_empty() { String::new() } else { format!(" key {},", f.key) };
        let line = format!("{}:{table}{key} {}: found {}, expected {}", f.file, f.what, f.found, f.expected);
        writeln!(out, "  {}", printable(&line))?;
    }
    Ok(())
}
