//! One result that takes the place of the one before: `status --watch`.
//!
//! A frame is written over the last one, line by line, and what is left of that is erased behind it, so that nothing is
//! ever blank in between. The terminal itself cuts lines that are too long, and keeps what was on it before the first.

use super::Style;
use std::io::{self, Write};

/// Rows and columns of the terminal on standard output; `None` if it is none.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Prints `text` in the place of the text before it; elsewhere than on a terminal, behind it.
///
/// # Errors
/// Those of `out`.
pub fn show(out: &mut dyn Write, style: Style, size: Option<(u16, u16)>, text: &str) -> io::Result<()> {
    match (style.json, style.tty, size) {
        (true, ..) => out.write_all(text.as_bytes())?,
        (false, true, Some((rows, _))) => out.write_all(over(text, rows).as_bytes())?,
        _ => writeln!(out, "{text}")?,
    }
    out.flush()
}

/// From the top left corner, without line wrap: each line and an erased rest of it, then the rest of the screen erased. The
/// last row stays free for the cursor, so that nothing scrolls.
fn over(text: &str, rows: u16) -> String {
    let mut frame = String::from("\x1b[H\x1b[?7l");
    for line in text.lines().take(usize::from(rows.max(2)) - 1) {
        frame.push_str(line);
        frame.push_str("\x1b[K\r\n");
    }
    frame + "\x1b[J\x1b[?7h"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_erases_the_one_before() {
        let frame = over("a\nb\nc\nd\n", 4);
        assert_eq!(frame, "\x1b[H\x1b[?7la\x1b[K\r\nb\x1b[K\r\nc\x1b[K\r\n\x1b[J\x1b[?7h");
        assert!(over("a\nb\n", 1).contains("a\x1b[K"), "a terminal that says it has one row");
    }

    #[test]
    fn elsewhere_one_follows_the_other() {
        let mut out = Vec::new();
        let pipe = Style { json: false, tty: false };
        show(&mut out, pipe, None, "a\n").unwrap();
        show(&mut out, Style { json: true, tty: true }, Some((5, 5)), "{}\n").unwrap();
        assert_eq!(out, b"a\n\n{}\n");
    }
}
