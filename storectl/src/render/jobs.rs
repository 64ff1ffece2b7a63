//! Jobs for people.

use super::table::{Column, number, pairs, text};
use super::words::{duration, printable};
use proto::Job;
use std::io::{self, Write};

/// The columns of `jobs list`.
pub const COLUMNS: &[Column] =
    &[number("ID"), text("VERB"), text("STATE"), text("PROGRESS"), text("FOR"), text("ASKED"), text("BY")];

/// One line of `jobs list`.
pub fn row(job: Job) -> Vec<String> {
    let (far, by) = (progress(&job), by(&job));
    let lasted = duration(job.duration);
    vec![job.id.to_string(), job.verb, job.state, far, lasted, job.asked, by]
}

/// `jobs show`, `jobs cancel`, `--detach`.
///
/// # Errors
/// Those of `out`.
pub fn job(out: &mut dyn Write, job: &Job) -> io::Result<()> {
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("verb", job.verb.clone()),
        ("state", job.state.clone()),
        ("progress", progress(job)),
        ("asked", format!("{} by {}", job.asked, by(job))),
        ("at work for", duration(job.duration)),
    ];
    lines.extend(job.ended.clone().map(|ended| ("ended", ended)));
    lines.extend(job.error.as_ref().map(|error| ("error", error.to_string())));
    pairs(out, &lines)
}

/// How far it is, in words.
#[must_use]
pub fn progress(job: &Job) -> String {
    let item = if job.item.is_empty() { String::new() } else { format!(", {}", printable(&job.item)) };
    match job.total {
        _ if job.unit.is_empty() => "-".to_owned(),
        Some(total) => format!("{} of {total} {}{item}", job.done, job.unit),
        None => format!("{} {}{item}", job.done, job.unit),
    }
}

fn by(job: &Job) -> String {
    format!("{} (process {}, user {})", printable(&job.client), job.pid, job.uid)
}
