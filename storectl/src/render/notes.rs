//! What goes to standard error: failures with the next command, notes, progress.

use super::jobs;
use super::words::{for_terminal, printable};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::{Failure, Job};
use std::io::{self, IsTerminal, Write};

/// A failure and what to type next. Lines of a message stay lines; other control characters are written out.
pub fn failure(failure: &Failure) {
    let mut text = String::from("storectl: ");
    text.push_str(&lines(&failure.message));
    if let Some(hint) = &super::copyable(failure).hint {
        text.push_str("\n  next: ");
        text.push_str(&lines(hint));
    }
    line(&text);
}

/// One line that is no failure.
pub fn note(text: &str) {
    line(&format!("storectl: {}", printable(text)));
}

/// Text that is already formatted: a usage error with its usage, help for a bare command.
pub fn text(text: &str) {
    line(text.trim_end());
}

/// A question, without a line end behind it.
pub fn question(text: &str) {
    // Nobody is left to tell if standard error is gone; the answer that is waited for then never comes.
    let _ = write!(io::stderr().lock(), "{} ", printable(text)).and_then(|()| io::stderr().lock().flush());
}

fn line(text: &str) {
    // Nobody is left to tell if standard error is gone; the exit code still speaks.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// How far long work is: a bar on a terminal, elsewhere a line every ten seconds.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    done: u64,
    /// `None`: nobody knows yet.
    total: Option<u64>,
    what: &'static str,
    told: jiff::Timestamp,
}

/// Between two lines of progress where there is no terminal.
const TELL_SECONDS: i64 = 10;

impl Progress {
    /// Work of `total` pieces; `what` is their name.
    #[must_use]
    pub fn new(total: u64, what: &'static str) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = format!("{{wide_bar}} {{pos}} of {{len}} {what}, ready in {{eta}}");
            // A template that did not parse leaves the plain bar.
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, done: 0, total: Some(total), what, told: jiff::Timestamp::now() }
    }

    /// Work of as many pieces as there will be.
    #[must_use]
    pub fn uncounted(what: &'static str) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // A template that did not parse leaves the plain spinner.
            if let Ok(style) = ProgressStyle::with_template(&format!("{{spinner}} {{pos}} {what}")) {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, done: 0, total: None, what, told: jiff::Timestamp::now() }
    }

    /// One more is done.
    pub fn advance(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        let now = jiff::Timestamp::now();
        if now.as_second() - self.told.as_second() >= TELL_SECONDS {
            self.told = now;
            let of = self.total.map_or(String::new(), |total| format!("of {total} "));
            note(&format!("{} {of}{}", self.done, self.what));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far a job is: a bar on a terminal, elsewhere a line every ten seconds.
#[derive(Debug)]
pub struct JobProgress {
    bar: Option<ProgressBar>,
    shape: Option<(Option<u64>, String)>,
    told: jiff::Timestamp,
}

impl JobProgress {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> JobProgress {
        let bar = io::stderr().is_terminal().then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        JobProgress { bar, shape: None, told: jiff::Timestamp::now() }
    }

    /// Shows how far it is.
    pub fn tell(&mut self, job: &Job) {
        let Some(bar) = &self.bar else {
            let now = jiff::Timestamp::now();
            if now.as_second() - self.told.as_second() >= TELL_SECONDS {
                self.told = now;
                note(&format!("job {} ({}), {}: {}", job.id, job.verb, job.state, jobs::progress(job)));
            }
            return;
        };
        let shape = (job.total, job.unit.clone());
        if self.shape.as_ref() != Some(&shape) {
            let unit = printable(&job.unit).replace(['{', '}'], "");
            let template = match job.total {
                Some(_) => format!("{{wide_bar}} {{pos}} of {{len}} {unit} {{wide_msg}}"),
                None => format!("{{spinner}} {{pos}} {unit} {{wide_msg}}"),
            };
            // A template that did not parse leaves the plain bar.
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            if let Some(total) = job.total {
                bar.set_length(total);
            }
            self.shape = Some(shape);
        }
        let state = if job.state == "running" { String::new() } else { format!(" ({})", job.state) };
        bar.set_message(format!("job {}{state} {}", job.id, for_terminal(&job.item)));
        bar.set_position(job.done);
    }
}

impl Drop for JobProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says that a job goes on without this program.
pub fn detached(id: u64) {
    if io::stderr().is_terminal() {
        // Where the bar stands.
        line("");
    }
    line(&format!("storectl: job {id} goes on\n  next: {}", super::complete(&format!("storectl jobs follow {id}"))));
}
