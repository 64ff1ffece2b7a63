//! A pass over a journal ([`super::journal`]): the bytes as they come from the disk, and what was found beside good frames.

use crate::disk::DiskFile;
use crate::lsn::Lsn;
use std::io;
use std::sync::Arc;

/// Bytes read at once.
const WINDOW: usize = 256 << 10;
/// Bad places that are kept one by one; further ones are counted.
const BAD_KEPT: usize = 100;

/// Bytes that are no frame, `from` included, `to` not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// Where they begin.
    pub from: u64,
    /// Where they end.
    pub to: u64,
}

/// What a pass over a journal found beside the frames.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The file is there.
    pub is_there: bool,
    /// Generation; `None` if the header is damaged.
    pub generation: Option<u64>,
    /// It is a whole journal of something else, as its header says: somebody has put it in this place.
    pub another: Option<String>,
    /// Good frames.
    pub frames: u64,
    /// Of them those of a history that was given up.
    pub given_up: u64,
    /// Highest LSN of the others.
    pub last_lsn: Lsn,
    /// Bytes that are no frame: the first hundred places.
    pub bad: Vec<Bad>,
    /// How many such places there are.
    pub bad_places: u64,
    /// It ends with such bytes.
    pub bad_end: bool,
    /// Frames that are missing before the last good one.
    pub missing: u64,
    /// Lowest LSN of a good frame right behind bad bytes or a gap.
    pub behind: Option<Lsn>,
}

impl Reading {
    /// True if everything up to its end is as written. The end itself may be missing, see the page.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.generation.is_some() && self.bad_places == 0 && self.missing == 0
    }

    /// What is wrong with it, as text.
    #[must_use]
    pub fn problem(&self) -> String {
        if let Some(another) = &self.another {
            return another.clone();
        }
        let header = if self.generation.is_none() { "a damaged header, " } else { "" };
        let first = self.bad.first().map(|bad| format!(" (the first from byte {} to {})", bad.from, bad.to));
        let (places, missing) = (self.bad_places, self.missing);
        format!("{header}{places} bad places{}, {missing} frames missing", first.unwrap_or_default())
    }

    /// True if something is gone that was durable, where everything up to `durable` was.
    #[must_use]
    pub fn is_damaged(&self, durable: Lsn) -> bool {
        self.another.is_some() || self.behind.is_some_and(|lsn| lsn <= durable)
    }

    pub(super) fn bad(&mut self, bad: Bad) {
        self.bad_places += 1;
        if self.bad.len() < BAD_KEPT {
            self.bad.push(bad);
        }
    }
}

/// A piece of a file in memory.
pub(super) struct Window {
    file: Arc<dyn DiskFile>,
    pub(super) len: u64,
    /// Where `bytes` begins.
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<dyn DiskFile>, len: u64) -> Window {
        Window { file, len, at: 0, bytes: Vec::new() }
    }

    /// Up to `want` bytes at `at`; fewer where the file ends. Never goes back.
    pub(super) fn get(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(usize::try_from(self.len - at.min(self.len)).unwrap_or(want));
        let skip = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        if skip.checked_add(want).is_none_or(|end| end > self.bytes.len()) {
            let more = want.max(WINDOW).min(usize::try_from(self.len - at.min(self.len)).unwrap_or(want));
            self.bytes.resize(more, 0);
            self.file.read_at(at, &mut self.bytes)?;
            self.at = at;
            return Ok(&self.bytes[..want]);
        }
        Ok(&self.bytes[skip..skip + want])
    }
}
