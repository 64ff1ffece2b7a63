//! Files with many messages.
//!
//! # Format
//! Each message stands behind a line `From sender date` and before an empty line. Because its own lines may begin with
//! `From ` too, there are four dialects:
//!
//! | dialect | lines that begin with `From ` | where a message ends | what comes back |
//! |---|---|---|---|
//! | mboxo | get a `>` | before the next `From ` line | as it was, unless it had a line `>From ` |
//! | mboxrd | get a `>`, and those with `>` one more | before the next `From ` line | as it was |
//! | mboxcl | as mboxo | after `Content-Length:` bytes of body | as mboxo |
//! | mboxcl2 | stay | after `Content-Length:` bytes of body | as it was |
//!
//! A message without a final line end gets one in mboxo and mboxrd. Flags stand in `Status:`, `X-Status:` and `X-Keywords:`, as
//! Dovecot, mutt and UW-IMAP have them: the last of each in a header is taken for them, and taken out.
//!
//! # Reading
//! A line is a separator if it begins with `From `, stands at the beginning or behind an empty line, and has a date. A
//! `Content-Length:` is believed if a separator or the end follows where it says; else, and where it is more than twice what is
//! taken, it is passed over: a wrong one must not swallow the messages behind it.

use super::{About, date};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};

/// How lines that begin with `From ` are kept from ending a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// See the page.
    Mboxo,
    /// See the page.
    Mboxrd,
    /// See the page.
    Mboxcl,
    /// See the page.
    Mboxcl2,
}

impl Dialect {
    fn has_length(self) -> bool {
        matches!(self, Dialect::Mboxcl | Dialect::Mboxcl2)
    }

    /// True if a line is to be quoted when it is written.
    fn quotes(self, line: &[u8]) -> bool {
        match self {
            Dialect::Mboxo | Dialect::Mboxcl => line.starts_with(b"From "),
            Dialect::Mboxrd => is_from_behind_marks(line),
            Dialect::Mboxcl2 => false,
        }
    }

    /// A line as it was before it was quoted.
    fn unquoted(self, line: &[u8]) -> &[u8] {
        match self {
            Dialect::Mboxo | Dialect::Mboxcl if line.starts_with(b">From ") => &line[1..],
            Dialect::Mboxrd if line.starts_with(b">") && is_from_behind_marks(line) => &line[1..],
            _ => line,
        }
    }
}

fn is_from_behind_marks(line: &[u8]) -> bool {
    let marks = line.iter().take_while(|b| **b == b'>').count();
    line[marks..].starts_with(b"From ")
}

/// The headers that hold what an mbox says of a message.
const STATUS: &str = "Status";
const X_STATUS: &str = "X-Status";
const X_KEYWORDS: &str = "X-Keywords";
const CONTENT_LENGTH: &str = "Content-Length";

/// A message of an mbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The sender of its `From ` line.
    pub sender: String,
    /// Flags and date.
    pub about: About,
}

/// What a reader found at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A message.
    Letter(Letter),
    /// A message of more bytes than are taken; it was passed over.
    TooLong {
        /// Its bytes in the file.
        bytes: u64,
    },
}

/// Reads messages one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// What was read ahead and given back, before `from`.
    back: VecDeque<u8>,
    dialect: Dialect,
    limit: u64,
    /// The sender and date of the message that comes next.
    next: Option<(String, Timestamp)>,
    begun: bool,
    unsure: u64,
}

impl<R: BufRead> Reader<R> {
    /// A reader that takes messages of at most `limit` bytes and has two of them in memory.
    pub fn new(from: R, dialect: Dialect, limit: u64) -> Reader<R> {
        Reader { from, back: VecDeque::new(), dialect, limit, next: None, begun: false, unsure: 0 }
    }

    /// How many lines began with `From ` behind an empty line and were taken for text, because they have no date.
    #[must_use]
    pub fn unsure(&self) -> u64 {
        self.unsure
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::InvalidData`] if the file does not begin with a `From ` line.
    pub fn read(&mut self) -> io::Result<Option<Found>> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        let Some((sender, date)) = self.next.take() else { return Ok(None) };
        let text = if self.dialect.has_length() { self.by_length()? } else { None };
        let text = match text {
            Some(text) => text,
            None => self.by_lines()?,
        };
        let bytes = match text {
            Text::Whole(bytes) => bytes,
            Text::TooLong(bytes) => return Ok(Some(Found::TooLong { bytes })),
        };
        let mut about = About { flags: Vec::new(), date: Some(date) };
        let bytes = without_marks(bytes, self.dialect, &mut about);
        Ok(Some(Found::Letter(Letter { bytes, sender, about })))
    }

    /// Finds the first `From ` line; false if there is nothing.
    fn begin(&mut self) -> io::Result<bool> {
        self.begun = true;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(false);
            }
            if is_empty_line(&line) {
                continue;
            }
            self.next = separator(&line);
            if self.next.is_none() {
                let text = "the file does not begin with a line 'From sender date'";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            return Ok(true);
        }
    }

    /// A line with its end, cut where it is longer than any message; empty at the end of the file.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if !self.back.is_empty() {
            let end = self.back.iter().position(|b| *b == b'\n').map_or(self.back.len(), |at| at + 1);
            line.extend(self.back.drain(..end));
        }
        if !line.ends_with(b"\n") && line.len() as u64 <= self.limit {
            let most = self.limit + 1 - line.len() as u64;
            self.from.by_ref().take(most).read_until(b'\n', &mut line)?;
        }
        Ok(line)
    }

    /// Reads up to the next separator.
    fn by_lines(&mut self) -> io::Result<Text> {
        let mut bytes = Vec::new();
        let (mut count, mut after_empty, mut last) = (0u64, false, 0);
        loop {
            let line = self.line()?;
            let ends = line.is_empty();
            if after_empty && line.starts_with(b"From ") {
                self.next = separator(&line);
                self.unsure += u64::from(self.next.is_none());
            }
            if ends || self.next.is_some() {
                if count > self.limit {
                    return Ok(Text::TooLong(count));
                }
                // The empty line before a separator is not of the message.
                if after_empty {
                    bytes.truncate(bytes.len() - last);
                }
                return Ok(Text::Whole(bytes));
            }
            count += line.len() as u64;
            (after_empty, last) = (is_empty_line(&line), line.len());
            if count > self.limit {
                bytes.clear();
            } else {
                bytes.extend_from_slice(self.dialect.unquoted(&line));
            }
        }
    }

    /// Reads by the length that the header states; `None`, with everything given back, if that is not true.
    fn by_length(&mut self) -> io::Result<Option<Text>> {
        let mut raw = Vec::new();
        let ended = loop {
            let line = self.line()?;
            raw.extend_from_slice(&line);
            if line.is_empty() || raw.len() as u64 > self.limit {
                break false;
            }
            if is_empty_line(&line) {
                break true;
            }
        };
        let header = raw.len();
        let length = last_header(&raw, CONTENT_LENGTH).and_then(|at| text_of(&raw, at).parse::<u64>().ok());
        let fits = |length: u64| length.saturating_add(header as u64) <= self.limit.saturating_mul(2);
        let Some(length) = length.filter(|length| ended && fits(*length)) else {
            self.give_back(&raw);
            return Ok(None);
        };
        let mut body = Vec::new();
        self.take(length, &mut body)?;
        let mut behind = Vec::new();
        let true_length = body.len() as u64 == length && self.ends_here(&mut behind)?;
        if !true_length {
            raw.extend_from_slice(&body);
            raw.extend_from_slice(&behind);
            self.give_back(&raw);
            return Ok(None);
        }
        if behind.is_empty() && length == 0 {
            // The empty line was the one before the separator: there is no body at all.
            let line = if raw.ends_with(b"\r\n") { 2 } else { 1 };
            raw.truncate(raw.len() - line);
        }
        raw.extend_from_slice(&body);
        let count = raw.len() as u64;
        if count > self.limit {
            return Ok(Some(Text::TooLong(count)));
        }
        let lines = raw.split_inclusive(|b| *b == b'\n').map(|line| self.dialect.unquoted(line));
        Ok(Some(Text::Whole(lines.collect::<Vec<_>>().concat())))
    }

    /// True if at most two line ends and then a separator, or the end, follow; what is read goes to `behind`.
    fn ends_here(&mut self, behind: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(true);
            }
            if line.starts_with(b"From ") {
                self.next = separator(&line);
            }
            if self.next.is_some() {
                return Ok(true);
            }
            let count = behind.iter().filter(|b| **b == b'\n').count();
            behind.extend_from_slice(&line);
            if !is_empty_line(&line) || count >= 2 {
                return Ok(false);
            }
        }
    }

    fn take(&mut self, count: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let ahead = self.back.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        out.extend(self.back.drain(..ahead));
        self.from.by_ref().take(count - ahead as u64).read_to_end(out)?;
        Ok(())
    }

    fn give_back(&mut self, bytes: &[u8]) {
        let behind = std::mem::take(&mut self.back);
        self.back.extend(bytes);
        self.back.extend(behind);
    }
}

/// The bytes of a message, or how many there are if that is too many.
enum Text {
    Whole(Vec<u8>),
    TooLong(u64),
}

fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

fn separator(line: &[u8]) -> Option<(String, Timestamp)> {
    // No such line is longer, and no date stands behind a name of a thousand characters.
    let text = line.strip_prefix(b"From ").filter(|text| text.len() <= 1024)?;
    date::read(&String::from_utf8_lossy(text))
}

/// Where a header line stands, its end included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: usize,
    to: usize,
}

/// The last line of the header of a message that has this name.
fn last_header(message: &[u8], name: &str) -> Option<Span> {
    let (mut at, mut found) = (0, None);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if is_empty_line(line) {
            break;
        }
        let named = line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        if named && line.get(name.len()) == Some(&b':') {
            found = Some(Span { from: at, to: at + line.len() });
        }
        at += line.len();
    }
    found
}

/// What a header says.
fn text_of(message: &[u8], span: Span) -> String {
    let line = String::from_utf8_lossy(&message[span.from..span.to]);
    line.split_once(':').map_or("", |(_, text)| text).trim().to_owned()
}

/// Takes what an mbox says of a message out of its header.
fn without_marks(mut bytes: Vec<u8>, dialect: Dialect, about: &mut About) -> Vec<u8> {
    let mut take = |name: &str| {
        let span = last_header(&bytes, name)?;
        let text = text_of(&bytes, span);
        bytes.drain(span.from..span.to);
        Some(text)
    };
    if dialect.has_length() {
        take(CONTENT_LENGTH);
    }
    let marks = [
        (take(STATUS), &[('R', "\\Seen")][..]),
        (take(X_STATUS), &[('A', "\\Answered"), ('F', "\\Flagged"), ('D', "\\Deleted"), ('T', "\\Draft")][..]),
    ];
    let keywords = take(X_KEYWORDS).unwrap_or_default();
    for (text, letters) in marks {
        let text = text.unwrap_or_default();
        about.flags.extend(letters.iter().filter(|(l, _)| text.contains(*l)).map(|(_, flag)| (*flag).to_owned()));
    }
    about.flags.extend(keywords.split_whitespace().map(str::to_owned));
    bytes
}

/// Writes messages one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    dialect: Dialect,
}

impl<W: Write> Writer<W> {
    /// A writer in this dialect.
    pub fn new(to: W, dialect: Dialect) -> Writer<W> {
        Writer { to, dialect }
    }

    /// Writes a message; true if it comes back byte for byte, false if the dialect cannot say all of it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put(&mut self, letter: &Letter) -> io::Result<bool> {
        let (mut fields, mut empty, body) = parts(&letter.bytes);
        let cut = !fields.is_empty() && !fields.ends_with(b"\n") && empty.is_empty();
        if let Some(rest) = fields.strip_suffix(b"\r").filter(|rest| cut && (rest.is_empty() || rest.ends_with(b"\n")))
        {
            // With the line end that it lacks it is an empty line, behind which no header is looked for.
            (fields, empty) = (rest, b"\r\n");
        }
        let quoted = self.quoted(body);
        let sender = if letter.sender.is_empty() { "MAILER-DAEMON" } else { &letter.sender };
        let sender: String =
            sender.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect();
        let date = letter.about.date.unwrap_or(Timestamp::UNIX_EPOCH);
        self.to.write_all(format!("From {sender} {}\n", date::put(date)).as_bytes())?;
        self.to.write_all(&self.quoted(fields))?;
        if cut && empty.is_empty() {
            self.to.write_all(b"\n")?;
        }
        let crlf = if fields.ends_with(b"\r\n") || empty == b"\r\n" { "\r\n" } else { "\n" };
        self.to.write_all(self.marks(letter, quoted.len(), crlf).as_bytes())?;
        self.to.write_all(empty)?;
        self.to.write_all(&quoted)?;
        let open = !quoted.is_empty() && !quoted.ends_with(b"\n");
        self.to.write_all(if open { b"\n\n" } else { b"\n" })?;
        let lossy = match self.dialect {
            Dialect::Mboxo | Dialect::Mboxcl => {
                letter.bytes.split_inclusive(|b| *b == b'\n').any(|l| l.starts_with(b">From "))
            }
            Dialect::Mboxrd | Dialect::Mboxcl2 => false,
        };
        Ok(!cut && !lossy && (!open || self.dialect.has_length()))
    }

    /// Everything is handed on.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }

    fn quoted(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|b| *b == b'\n') {
            if self.dialect.quotes(line) {
                out.push(b'>');
            }
            out.extend_from_slice(line);
        }
        out
    }

    /// The headers that hold what is known of the message. One that the message has itself is written in any case: the reader takes
    /// the last for ours.
    fn marks(&self, letter: &Letter, body: usize, crlf: &str) -> String {
        let about = &letter.about;
        let has_own = |name| last_header(&letter.bytes, name).is_some();
        let letters = |known: &[(&str, char)]| -> String {
            known.iter().filter(|(flag, _)| about.has(flag)).map(|(_, letter)| *letter).collect()
        };
        let mut lines = vec![(STATUS, letters(&[("\\Seen", 'R')]) + "O")];
        let x_status = letters(&[("\\Answered", 'A'), ("\\Flagged", 'F'), ("\\Draft", 'T'), ("\\Deleted", 'D')]);
        if !x_status.is_empty() || has_own(X_STATUS) {
            lines.push((X_STATUS, x_status));
        }
        let keywords: Vec<&str> = about.keywords().collect();
        if !keywords.is_empty() || has_own(X_KEYWORDS) {
            lines.push((X_KEYWORDS, keywords.join(" ")));
        }
        if self.dialect.has_length() {
            lines.push((CONTENT_LENGTH, body.to_string()));
        }
        lines.into_iter().map(|(name, text)| format!("{name}: {text}{crlf}")).collect()
    }
}

/// The header of a message, the empty line behind it, the body; the last two are nothing where there is no empty line.
fn parts(message: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut at = 0;
    for line in message.split_inclusive(|b| *b == b'\n') {
        if is_empty_line(line) {
            let (fields, rest) = message.split_at(at);
            let (empty, body) = rest.split_at(line.len());
            return (fields, empty, body);
        }
        at += line.len();
    }
    (message, b"", b"")
}

#[cfg(test)]
#[path = "mbox_tests.rs"]
mod tests;
