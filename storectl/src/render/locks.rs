//! Who holds what, for people.

use super::table::{Column, Grid, number, text};
use super::words::{counted, duration, printable};
use proto::{Lock, LockWait, Locks};
use std::io::{self, Write};

const HELD: &[Column] = &[
    number("ID"),
    text("HELD"),
    text("KIND"),
    number("PID"),
    number("UID"),
    text("VERB"),
    text("AGE"),
    text("LEFT"),
    number("WAITERS"),
    text("REASON"),
];
const WAITING: &[Column] = &[
    text("WAITS FOR"),
    text("TO"),
    number("PID"),
    number("UID"),
    text("VERB"),
    text("AGE"),
    text("LEFT"),
    text("BEHIND"),
];

/// `locks`.
///
/// # Errors
/// Those of `out`.
pub fn tables(out: &mut dyn Write, locks: &Locks, tty: bool) -> io::Result<()> {
    if locks.held.is_empty() && locks.waiting.is_empty() {
        return writeln!(out, "nothing is held, nobody waits");
    }
    Grid::new(HELD, tty).rows(out, locks.held.iter().map(held).collect())?;
    if locks.waiting.is_empty() {
        return Ok(());
    }
    Grid::new(WAITING, tty).rows(out, locks.waiting.iter().map(waiting).collect())
}

fn held(l: &Lock) -> Vec<String> {
    vec![
        l.id.to_string(),
        l.resource.clone(),
        l.kind.clone(),
        l.pid.to_string(),
        l.uid.to_string(),
        l.verb.clone(),
        duration(l.age),
        l.left.map_or_else(|| "-".to_owned(), duration),
        l.waiters.to_string(),
        l.reason.clone(),
    ]
}

fn waiting(w: &LockWait) -> Vec<String> {
    let leases = w.locks.iter().map(|id| format!("lease {id}"));
    let behind = leases.chain(w.behind.iter().map(|pid| format!("process {pid}")));
    let to = if w.wants == "lease" { "hold it" } else { "change it" };
    vec![
        w.resource.clone(),
        to.to_owned(),
        w.pid.to_string(),
        w.uid.to_string(),
        w.verb.clone(),
        duration(w.age),
        duration(w.left),
        behind.collect::<Vec<_>>().join(", "),
    ]
}

/// `locks --why-stuck`, `test --deadlocks`: the graph of waits in words.
///
/// # Errors
/// Those of `out`.
pub fn why_stuck(out: &mut dyn Write, locks: &Locks) -> io::Result<()> {
    for wait in &locks.waiting {
        let line = format!(
            "process {} of user {} ({}) has been waiting for {} for {}, at most {} more",
            wait.pid,
            wait.uid,
            wait.verb,
            wait.resource,
            duration(wait.age),
            duration(wait.left)
        );
        writeln!(out, "{}", printable(&line))?;
        for lease in locks.held.iter().filter(|lease| wait.locks.contains(&lease.id)) {
            let until = match lease.left {
                Some(left) => format!("ends in {} at the latest", duration(left)),
                None => "ends with its connection".to_owned(),
            };
            let why = if lease.reason.is_empty() { String::new() } else { format!(" for: {}", lease.reason) };
            let line = format!(
                "  held by process {} of user {} ({}) for {}{why}; lease {} on {} {until}",
                lease.pid,
                lease.uid,
                lease.verb,
                duration(lease.age),
                lease.id,
                lease.resource
            );
            writeln!(out, "{}", printable(&line))?;
        }
        for pid in &wait.behind {
            writeln!(out, "  behind process {pid}, which came before")?;
        }
    }
    match locks.oldest_change {
        Some(age) => writeln!(out, "the oldest change at work has been waiting for its answer for {}", duration(age))?,
        None => writeln!(out, "no change waits for its answer")?,
    }
    let waits = locks.waiting.len() as u64;
    writeln!(
        out,
        "{}, {}; since the start {} refused, {} ended at their limit, {} at their deadline",
        counted(locks.held.len() as u64, "lease"),
        if waits == 1 { "1 waits".to_owned() } else { format!("{waits} wait") },
        counted(locks.deadlocks, "deadlock"),
        counted(locks.waited_too_long, "wait"),
        counted(locks.expired, "lease")
    )
}

/// Something has waited for longer than it may: the limit does not work, or the store does not.
#[must_use]
pub fn is_overdue(locks: &Locks) -> bool {
    /// Beyond the limit; waits are looked at ten times a second.
    const GRACE: f64 = 2.0;
    let overdue = |wait: &LockWait| wait.left == 0.0 && wait.age > GRACE;
    locks.waiting.iter().any(overdue) || locks.oldest_change.is_some_and(|age| age > locks.limit + GRACE)
}
