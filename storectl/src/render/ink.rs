//! What a terminal makes of a text: colours, unless `NO_COLOR` says no or the terminal cannot, for what asks to be looked at;
//! and how many columns there are.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};

static ALLOWED: AtomicBool = AtomicBool::new(false);
static TERMINAL: AtomicBool = AtomicBool::new(false);

/// Notes whether results go to a terminal; once in a run.
pub fn allow(tty: bool) {
    TERMINAL.store(tty, Ordering::Relaxed);
    let word = |name| std::env::var_os(name);
    ALLOWED.store(tty && wanted(word("NO_COLOR").as_deref(), word("TERM").as_deref()), Ordering::Relaxed);
}

/// Columns of the terminal that results go to; `None` if they go elsewhere: then no line is ever broken.
#[must_use]
pub fn columns() -> Option<usize> {
    let size = TERMINAL.load(Ordering::Relaxed).then(super::frame::size)??;
    Some(usize::from(size.1))
}

/// As <https://no-color.org> has it: any value but the empty one means no.
fn wanted(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// A state in its colour: green for what is well, red for what needs somebody, yellow for what passes.
#[must_use]
pub fn state(text: &str) -> String {
    paint(text, colour(text), ALLOWED.load(Ordering::Relaxed))
}

/// Something that needs somebody.
#[must_use]
pub fn alarm(text: &str) -> String {
    paint(text, RED, ALLOWED.load(Ordering::Relaxed))
}

const RED: &str = "1;31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// By the first word: what follows it explains.
fn colour(text: &str) -> &'static str {
    match text.split([',', ' ']).next().unwrap_or_default() {
        "ready" | "ok" => GREEN,
        "recovering" | "draining" | "full" => YELLOW,
        _ => RED,
    }
}

fn paint(text: &str, colour: &str, allowed: bool) -> String {
    if allowed { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_can_be_refused() {
        let wanted =
            |no_color: Option<&str>, term: Option<&str>| wanted(no_color.map(OsStr::new), term.map(OsStr::new));
        assert!(wanted(None, Some("xterm")) && wanted(Some(""), Some("screen")));
        assert!(!wanted(Some("1"), Some("xterm")) && !wanted(None, Some("dumb")) && !wanted(None, None));
        assert_eq!(paint("ready", colour("ready"), false), "ready");
        assert_eq!(paint("ready", colour("ready"), true), "\u{1b}[32mready\u{1b}[0m");
    }

    #[test]
    fn a_state_that_nobody_knows_is_looked_at() {
        let states = ["ready", "recovering, 40 % done", "draining", "read-only", "poisoned", "missing", "new"];
        assert_eq!(states.map(colour), [GREEN, YELLOW, YELLOW, RED, RED, RED, RED]);
    }
}
