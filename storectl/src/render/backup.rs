//! Backups of the database, for people.

use super::table::pairs;
use super::words::{bytes, duration, printable};
use proto::BackedUp;
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
