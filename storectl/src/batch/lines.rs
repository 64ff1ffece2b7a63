//! Bytes as they arrive, cut into lines.

/// Longest line in bytes; the daemon takes no longer request.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Lines of an input that arrives in pieces. Holds at most one piece and one line.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    start: usize,
    /// Up to here there is no line end behind `start`.
    searched: usize,
    number: u64,
    skipping: bool,
    ended: bool,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Longer than [`LINE_BYTES_MAX`]; its bytes are gone.
    TooLong,
}

impl Lines {
    /// Adds bytes.
    pub fn push(&mut self, piece: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(piece);
    }

    /// Says that no more bytes come: what is left is the last line.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Says that the input broke off: what is left is no line, since nobody knows how it would have gone on.
    pub fn cut(&mut self) {
        let whole = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.bytes.truncate(whole.max(self.start));
        self.searched = self.searched.min(self.bytes.len());
        (self.ended, self.skipping) = (true, false);
    }

    /// No further line is wanted.
    pub fn stop(&mut self) {
        self.bytes.truncate(self.start);
        self.searched = self.bytes.len();
        (self.ended, self.skipping) = (true, false);
    }

    /// True if no line is complete.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.searched == self.bytes.len()
    }

    /// Bytes that were added and not given out.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// True when the last line was given out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended && self.waiting() == 0 && !self.skipping
    }

    /// Number of the line last given out, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line, if it is complete.
    pub fn next(&mut self) -> Option<Line<'_>> {
        loop {
            let found = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
            let (from, end, next) = match found {
                Some(at) => (self.start, self.searched + at, self.searched + at + 1),
                None if self.ended && (self.waiting() > 0 || self.skipping) => {
                    (self.start, self.bytes.len(), self.bytes.len())
                }
                None => {
                    if self.waiting() > LINE_BYTES_MAX || self.skipping {
                        self.skipping = true;
                        self.start = self.bytes.len();
                    }
                    self.searched = self.bytes.len();
                    return None;
                }
            };
            (self.start, self.searched) = (next, next);
            self.number += 1;
            if std::mem::take(&mut self.skipping) || end - from > LINE_BYTES_MAX {
                return Some(Line::TooLong);
            }
            let line = &self.bytes[from..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let first = line.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
            if first.is_some_and(|byte| *byte != b'#') {
                // The borrow checker wants the range again.
                let length = line.len();
                return Some(Line::Bytes(&self.bytes[from..from + length]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            lines.push(piece);
            if at + 1 == pieces.len() {
                lines.end();
            }
            while let Some(line) = lines.next() {
                let text = match line {
                    Line::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                    Line::TooLong => None,
                };
                got.push((lines.number(), text));
            }
        }
        assert!(lines.is_over());
        got
    }

    fn text(number: u64, text: &str) -> (u64, Option<String>) {
        (number, Some(text.to_owned()))
    }

    #[test]
    fn lines_are_numbered_and_empty_ones_and_comments_are_left_out() {
        let got = all(&[b"a b\n\n  # no\n", b"c", b"d\r\n \t \nlast"]);
        assert_eq!(got, [text(1, "a b"), text(4, "cd"), text(6, "last")]);
        assert_eq!(all(&[b""]), []);
        assert_eq!(all(&[b"x\n"]), [text(1, "x")]);
    }

    #[test]
    fn every_cut_gives_the_same_lines() {
        let input = b"one\ntwo words\n#c\nthree";
        let whole = all(&[input]);
        for cut in 0..=input.len() {
            assert_eq!(all(&[&input[..cut], &input[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_rest_of_a_broken_input_is_no_line() {
        let mut lines = Lines::default();
        lines.push(b"one\ntwo\nuser delete joe");
        assert_eq!(lines.next(), Some(Line::Bytes(b"one")));
        lines.cut();
        assert_eq!(lines.next(), Some(Line::Bytes(b"two")));
        assert_eq!(lines.next(), None);
        assert!(lines.is_over());
    }

    #[test]
    fn a_line_without_end_takes_no_memory_without_end() {
        let piece = vec![b'x'; LINE_BYTES_MAX / 2];
        let mut lines = Lines::default();
        for _ in 0..10 {
            lines.push(&piece);
            assert_eq!(lines.next(), None);
            assert!(lines.waiting() <= 2 * LINE_BYTES_MAX);
        }
        lines.push(b"y\nnext\n");
        assert_eq!(lines.next(), Some(Line::TooLong));
        assert_eq!(lines.next(), Some(Line::Bytes(b"next")));
        let long = [&piece[..], &piece, &piece].concat();
        assert_eq!(all(&[&long]), [(1, None)]);
    }
}
