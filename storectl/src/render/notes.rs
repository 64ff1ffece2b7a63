//! What goes to standard error: failures with the next command, and notes.

use super::words::printable;
use proto::Failure;
use std::io::{self, Write};

/// A failure and what to type next. Lines of a message stay lines; other control characters are written out.
pub fn failure(failure: &Failure) {
    let mut text = String::from("storectl: ");
    text.push_str(&lines(&failure.message));
    if let Some(hint) = &failure.hint {
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
