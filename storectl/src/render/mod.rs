//! # Purpose
//! The only place that prints: results to standard output, everything else to standard error.
//!
//! # Operation
//! An [`Answer`] takes the parts of one reply as they come and is ended once. A document is printed whole; a list is
//! printed part by part. [`line`] prints an answer on one line, for a batch.
//!
//! # Invariants
//! * With --json exactly one document is printed for each answer, and nothing before the first part has come: a failure
//!   that comes instead of it can still be the document.
//! * A list that breaks off is left open, so that no reader takes it for a whole one.

mod ageing;
mod backup;
mod change;
mod check;
mod empty;
pub mod frame;
mod human;
pub mod ink;
mod jobs;
mod json;
mod locks;
pub mod notes;
mod reconstruct;
mod snapshot;
mod status;
mod table;
pub mod words;

use crate::cli::Global;
pub use human::unusable;
pub use json::toml_value as option_value;

use crate::commands::{Ask, Form};
use crate::exit::{DAMAGED, DONE, Outcome, PARTLY, Stop};
use proto::{Code, Failure, Reply, Request, naming};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The options by which the user named the store, as commands in messages repeat them.
static NAMED: OnceLock<String> = OnceLock::new();

/// Notes how the store was named on the command line; once in a run.
pub fn name_store(global: &Global) {
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let (data_dir, config, socket) = (text(&global.data_dir), text(&global.config), text(&global.socket));
    let given = [("--data-dir", &data_dir), ("--config", &config), ("--socket", &socket)];
    let named = given.into_iter().filter_map(|(option, value)| Some((option, value.as_deref()?)));
    NAMED.get_or_init(|| naming::options(named));
}

/// The text with commands that can be copied as they are.
fn complete(text: &str) -> String {
    naming::complete(text, NAMED.get().map_or("", String::as_str))
}

/// The failure with a hint that can be copied as it is.
fn copyable(failure: &Failure) -> Failure {
    Failure { hint: failure.hint.as_deref().map(complete), ..failure.clone() }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// As JSON.
    pub json: bool,
    /// For a terminal.
    pub tty: bool,
}

impl Style {
    /// JSON if asked for; a terminal if standard output is one.
    #[must_use]
    pub fn of_stdout(json: bool) -> Style {
        Style { json, tty: io::stdout().is_terminal() }
    }
}

/// Standard output, buffered.
#[must_use]
pub fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// One answer that is being printed.
#[derive(Debug)]
pub struct Answer<'a> {
    ask: &'a Ask,
    style: Style,
    list: json::List,
    grid: Option<table::Grid>,
    begun: bool,
    /// Rows so far of a list about whose emptiness something is said.
    rows: Option<usize>,
    code: u8,
}

impl<'a> Answer<'a> {
    /// The answer to `ask`.
    #[must_use]
    pub fn new(ask: &'a Ask, style: Style) -> Answer<'a> {
        Answer { ask, style, list: json::List::default(), grid: None, begun: false, rows: None, code: DONE }
    }

    /// Prints the next part.
    ///
    /// # Errors
    /// Nothing in it to print, or those of `out`.
    pub fn part(&mut self, out: &mut dyn Write, reply: Reply) -> Outcome<()> {
        if self.ask.form == Form::Single && matches!(&reply, Reply::Reports(reports) if reports.is_empty()) {
            return Err(Stop::new(Code::NotFound, "the daemon has no report of a start"));
        }
        self.begun = true;
        if let Some(rows) = empty::rows(&reply) {
            self.rows = Some(self.rows.unwrap_or(0) + rows);
        }
        self.code = self.code.max(code(&self.ask.request, &reply));
        let printed = if self.style.json {
            json::part(out, &mut self.list, reply, self.ask.form, "\n")
        } else {
            human::part(out, &mut self.grid, self.ask, reply, self.style.tty)
        };
        printed.map_err(|e| Stop::output(&e))
    }

    /// Ends the answer; gives the exit code that it stands for.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(mut self, out: &mut dyn Write) -> Outcome<u8> {
        let raw = matches!(self.ask.request, Request::MessageBytes { .. });
        let ended = if self.style.json && !raw { self.list.close(out).and_then(|()| writeln!(out)) } else { Ok(()) };
        ended.and_then(|()| out.flush()).map_err(|e| Stop::output(&e))?;
        if let Some(nothing) = empty::sentence(self.ask).filter(|_| self.rows == Some(0) && !self.style.json) {
            notes::note(&nothing);
        }
        Ok(self.code)
    }

    /// True if something of it was printed.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.begun
    }
}

/// Prints records of a log as JSON, one a line.
///
/// # Errors
/// Those of `out`.
pub fn record_lines(out: &mut dyn Write, records: &[proto::Record]) -> Outcome<()> {
    json::record_lines(out, records).map_err(|e| Stop::output(&e))
}

/// The exit code that an answer stands for.
fn code(request: &Request, reply: &Reply) -> u8 {
    match reply {
        Reply::Verified(verified) if !verified.findings.is_empty() => PARTLY,
        Reply::SnapshotsVerified(all) if all.iter().any(|snapshot| !snapshot.ok) => PARTLY,
        Reply::SnapshotTaken(taken) if !taken.findings.is_empty() => PARTLY,
        Reply::Drilled(drilled) if drilled.verdict != "good" => PARTLY,
        Reply::Reconstructed(done) if done.findings_total > 0 => PARTLY,
        Reply::Reconstructed(done) if done.changes_total > 0 && is_dry(request) => PARTLY,
        Reply::Checked(checked) if checked.lost > 0 => DAMAGED,
        Reply::Checked(checked) if checked.findings_total > 0 => PARTLY,
        Reply::Aged(aged) if aged.problems_total > 0 => PARTLY,
        Reply::Completed(copy) if !copy.skipped.is_empty() => PARTLY,
        Reply::Told(told) if told.partly => PARTLY,
        Reply::Locks(found) if locks::is_overdue(found) => PARTLY,
        Reply::Recalculated(wrong) if !wrong.is_empty() && is_dry(request) => PARTLY,
        _ => DONE,
    }
}

fn is_dry(request: &Request) -> bool {
    match request {
        Request::QuotaRecalc { dry_run } | Request::Change { dry_run, .. } => *dry_run,
        Request::Reconstruct(wanted) | Request::JobStart { work: proto::Work::Reconstruct(wanted), .. } => {
            wanted.dry_run && !wanted.list
        }
        _ => false,
    }
}

/// Prints the answer to line `number` of a batch, on one line.
///
/// # Errors
/// Those of `out`.
pub fn line(out: &mut dyn Write, style: Style, number: u64, ask: &Ask, reply: Reply) -> io::Result<()> {
    if !style.json {
        write!(out, "ok line {number}: ")?;
        match (&ask.request, &reply) {
            (Request::Change { command, dry_run }, Reply::Changed(changed)) => {
                return writeln!(out, "{}", change::sentence(command, *dry_run, changed));
            }
            (_, Reply::Done(_)) => return writeln!(out, "done"),
            _ => {}
        }
    }
    let mut list = json::List::default();
    json::part(out, &mut list, reply, ask.form, "")?;
    list.close(out)?;
    writeln!(out)
}

/// Prints why line `number` of a batch was refused, on one line.
///
/// # Errors
/// Those of `out`.
pub fn refused_line(out: &mut dyn Write, style: Style, number: u64, failure: &Failure) -> io::Result<()> {
    if style.json {
        return error(out, failure);
    }
    write!(out, "error: line {number}: {}", words::printable(&failure.message))?;
    match &copyable(failure).hint {
        Some(hint) => writeln!(out, "; next: {}", words::printable(hint)),
        None => writeln!(out),
    }
}

/// Prints a failure as JSON.
///
/// # Errors
/// Those of `out`.
pub fn error(out: &mut dyn Write, failure: &Failure) -> io::Result<()> {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a Failure,
    }
    json::compact(out, &Error { error: &copyable(failure) }).and_then(|()| writeln!(out))
}

/// Prints how a job is, on one line of JSON, at once.
///
/// # Errors
/// Those of `out`.
pub fn event(out: &mut dyn Write, job: &proto::Job) -> io::Result<()> {
    json::compact(out, job)?;
    writeln!(out)?;
    out.flush()
}

/// Prints text that is formatted already: help, a completion script.
///
/// # Errors
/// Those of `out`.
pub fn text(out: &mut dyn Write, text: &str) -> Outcome<()> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Stop::output(&e))
}

/// Prints a result that is no reply of the daemon: as JSON, or as the lines of `text`.
///
/// # Errors
/// Those of `out`.
pub fn summary(out: &mut dyn Write, style: Style, value: &impl Serialize, text: &[String]) -> Outcome<()> {
    let printed = if style.json {
        json::compact(out, value).and_then(|()| writeln!(out))
    } else {
        text.iter().try_for_each(|line| writeln!(out, "{}", words::printable(line)))
    };
    printed.and_then(|()| out.flush()).map_err(|e| Stop::output(&e))
}

#[cfg(test)]
mod tests;
