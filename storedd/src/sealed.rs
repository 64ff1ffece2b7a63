//! Short texts whose every byte is covered by a checksum: manifests, marks, journals.
//!
//! # Format
//! Lines of words separated by one blank, UTF-8, each line ended by a line feed. The first line is the kind and its version, the last
//! one the checksum: CRC-32 over all bytes before its line, seeded with the kind, as eight hexadecimal digits:
//! ```text
//! storedd-something 1
//! key word
//! crc 01234567
//! ```

use crate::checksum::Crc;
use crate::error::{Result, StoreError};
use crate::lsn::StoreId;
use crate::planted::{self, Bug};

const VERSION: &str = "1";

/// Checksum of a text of this kind.
#[must_use]
pub fn crc(kind: &str, bytes: &[u8]) -> u32 {
    Crc::seeded(kind.as_bytes()).add(bytes).value()
}

/// The text with these lines.
#[must_use]
pub fn seal(kind: &str, body: &str) -> Vec<u8> {
    let text = format!("{kind} {VERSION}\n{body}");
    let crc = crc(kind, text.as_bytes());
    format!("{text}crc {crc:08x}\n").into_bytes()
}

/// The lines between the first and the last of a text whose checksum was right.
#[derive(Debug)]
pub struct Lines<'a> {
    file: &'a str,
    rest: std::str::Lines<'a>,
}

impl<'a> Lines<'a> {
    /// Opens a text; `file` names it in errors.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is not what was written; [`StoreError::Foreign`] if it is of another version.
    pub fn open(kind: &str, bytes: &'a [u8], file: &'a str) -> Result<Lines<'a>> {
        // 13 bytes: `crc`, blank, eight digits, line feed.
        let at = bytes.len().saturating_sub(13);
        let (body, last) = bytes.split_at(at);
        let expected = format!("crc {:08x}\n", crc(kind, body));
        if last != expected.as_bytes() && !planted::on(Bug::TextChecksumIgnored) {
            let found = String::from_utf8_lossy(last).trim_end().escape_default().to_string();
            return Err(corrupt(file, "checksum", found, expected.trim_end()));
        }
        let mut rest = std::str::from_utf8(body).unwrap_or_default().lines();
        let first = rest.next().unwrap_or_default();
        match first.split_once(' ') {
            Some((found, VERSION)) if found == kind => Ok(Lines { file, rest }),
            Some((found, version)) if found == kind => Err(StoreError::Foreign {
                file: file.to_owned(),
                what: "format version",
                found: version.to_owned(),
                expected: VERSION.to_owned(),
            }),
            _ => Err(corrupt(file, "kind", first.to_owned(), kind)),
        }
    }

    /// The next line.
    #[expect(clippy::should_implement_trait, reason = "lines are taken one by one, by what is expected next")]
    pub fn next(&mut self) -> Option<&'a str> {
        self.rest.next()
    }

    /// What stands behind `key` in the next line.
    ///
    /// # Errors
    /// If the next line begins otherwise.
    pub fn word(&mut self, key: &str) -> Result<&'a str> {
        let line = self.rest.next().and_then(|line| line.split_once(' '));
        line.filter(|(found, _)| *found == key).map(|(_, word)| word).ok_or_else(|| self.wrong(key))
    }

    /// As [`Lines::word`], a number.
    ///
    /// # Errors
    /// If it is none.
    pub fn number(&mut self, key: &str) -> Result<u64> {
        self.word(key)?.parse().map_err(|_| self.wrong(key))
    }

    /// That was all.
    ///
    /// # Errors
    /// If there is another line.
    pub fn end(&mut self) -> Result<()> {
        if self.rest.next().is_none() { Ok(()) } else { Err(self.wrong("crc")) }
    }

    /// As [`Lines::word`], a store id.
    ///
    /// # Errors
    /// If it is none.
    pub fn store(&mut self) -> Result<StoreId> {
        let word = self.word("store")?;
        StoreId::parse(word).ok_or_else(|| self.wrong("store"))
    }

    /// The error of a line that is not what it must be.
    #[must_use]
    pub fn wrong(&self, key: &str) -> StoreError {
        corrupt(self.file, "line", "another".to_owned(), key)
    }
}

fn corrupt(file: &str, what: &str, found: String, expected: &str) -> StoreError {
    let (file, what, expected) = (file.to_owned(), what.to_owned(), expected.to_owned());
    StoreError::Corrupt { file, offset: 0, what, found, expected }
}
