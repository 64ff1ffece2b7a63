//! The list of the files of a complete copy: a line for each, in the order in which they were copied.
//!
//! # Format
//! ```text
//! file 1234 89abcdef partition/primary/=user/f6/79/=crowe~1/5/00/1.msg
//! link partition/primary/=user/f6/79/=crowe~1/5/00/1.msg partition/primary/=user/aa/01/=joe~2/7/00/1.msg
//! ```
//! Length in bytes, CRC-32 seeded with `storedd-complete`, path; or a further name of a file that stands before. No path has a blank.

use super::{FILES, Tally, seeded};
use crate::checksum::Crc;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Result, StoreError};
use std::collections::HashMap;
use std::sync::Arc;

/// The list while it is made: copies as they were begun, not yet read again.
const DRAFT: &str = "FILES.new";
const CHUNK: usize = 1 << 20;
/// Longest line.
const LINE_MAX: usize = 16 << 10;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file: length, checksum, path.
    File(u64, u32, String),
    /// A further name of one: the name before, the name.
    Link(String, String),
}

impl Entry {
    fn line(&self) -> String {
        match self {
            Entry::File(bytes, crc, path) => format!("file {bytes} {crc:08x} {path}\n"),
            Entry::Link(from, path) => format!("link {from} {path}\n"),
        }
    }

    fn parse(line: &str) -> Option<Entry> {
        let mut words = line.split(' ');
        let entry = match words.next()? {
            "file" => {
                let (bytes, crc) = (words.next()?.parse().ok()?, u32::from_str_radix(words.next()?, 16).ok()?);
                Entry::File(bytes, crc, words.next()?.to_owned())
            }
            "link" => Entry::Link(words.next()?.to_owned(), words.next()?.to_owned()),
            _ => return None,
        };
        words.next().is_none().then_some(entry)
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Entry::File(_, _, path) | Entry::Link(_, path) => path,
        }
    }
}

/// A text that is written from its beginning to its end.
struct Text {
    file: Arc<dyn DiskFile>,
    shown: String,
    pending: Vec<u8>,
    at: u64,
    crc: Crc,
}

impl Text {
    fn create(disk: &dyn Disk, path: &str) -> Result<Text> {
        let shown = disk.display(path);
        let file = disk.open(path, Access::CreateNew).map_err(|e| StoreError::io("create", shown.clone(), e))?;
        Ok(Text { file, shown, pending: Vec::new(), at: 0, crc: seeded() })
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        self.pending.extend_from_slice(entry.line().as_bytes());
        if self.pending.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.crc = std::mem::replace(&mut self.crc, seeded()).add(&self.pending);
        self.file.write_at(self.at, &self.pending).map_err(|e| StoreError::io("write", self.shown.clone(), e))?;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Length and checksum.
    fn finish(mut self) -> Result<(u64, u32)> {
        self.flush()?;
        self.file.sync_data().map_err(|e| StoreError::io("sync", self.shown.clone(), e))?;
        Ok((self.at, self.crc.value()))
    }
}

/// The list of a copy that is being made.
pub(super) struct List {
    disk: Arc<dyn Disk>,
    draft: Text,
    /// How often each was.
    gone: HashMap<String, u32>,
}

impl List {
    pub(super) fn begin(disk: &Arc<dyn Disk>) -> Result<List> {
        Ok(List { disk: disk.clone(), draft: Text::create(&**disk, DRAFT)?, gone: HashMap::new() })
    }

    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        self.draft.add(entry)
    }

    /// It was taken out of the copy again; what is added under this name from now on is another file.
    pub(super) fn gone(&mut self, path: String) {
        *self.gone.entry(path).or_default() += 1;
    }

    /// True if something with this name was taken out.
    pub(super) fn is_gone(&self, path: &str) -> bool {
        self.gone.contains_key(path)
    }

    /// Reads every file of the copy again and writes the list of those that are as they were read first; gives its length and checksum, and
    /// what is in it, but for the number of mailboxes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a copy that reads otherwise, or those of the disk.
    pub(super) fn finish(self, go_on: &dyn Fn() -> Result<()>) -> Result<((u64, u32), Tally)> {
        let List { disk, draft, mut gone } = self;
        let (bytes, crc) = draft.finish()?;
        let mut text = Text::create(&*disk, FILES)?;
        let mut draft = Reader::open(&disk, DRAFT, (bytes, crc))?;
        // Where a file went whose other names stayed: the name that it has in the list.
        let mut moved: HashMap<String, String> = HashMap::new();
        let mut sums: HashMap<String, (u64, u32)> = HashMap::new();
        let mut tally = Tally::default();
        let mut keep = |entry: Entry| {
            tally.take(&entry);
            text.add(&entry)
        };
        // The first of several entries of one name are those that were taken out.
        let mut was_taken_out = |path: &str| match gone.get_mut(path) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        };
        while let Some(entry) = draft.next()? {
            go_on()?;
            match entry {
                Entry::File(bytes, crc, path) if was_taken_out(&path) => drop(sums.insert(path, (bytes, crc))),
                Entry::File(bytes, crc, path) => {
                    prove(&*disk, &path, bytes, crc)?;
                    keep(Entry::File(bytes, crc, path))?;
                }
                Entry::Link(_, path) if was_taken_out(&path) => {}
                Entry::Link(from, path) => match (sums.get(&from), moved.get(&from)) {
                    (Some((bytes, crc)), None) => {
                        prove(&*disk, &path, *bytes, *crc)?;
                        keep(Entry::File(*bytes, *crc, path.clone()))?;
                        moved.insert(from, path);
                    }
                    (_, Some(other)) => keep(Entry::Link(other.clone(), path))?,
                    (None, None) => keep(Entry::Link(from, path))?,
                },
            }
        }
        let sum = text.finish()?;
        let removed = disk.remove(DRAFT).and_then(|()| disk.sync_dir(""));
        removed.map_err(|e| StoreError::io("remove", disk.display(DRAFT), e))?;
        Ok((sum, tally))
    }
}

/// Reads a file and compares.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::Corrupt`], or those of the disk.
pub(super) fn prove(disk: &dyn Disk, path: &str, bytes: u64, crc: u32) -> Result<()> {
    let shown = disk.display(path);
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => StoreError::Missing { files: vec![shown.clone()] },
        _ => StoreError::io("open", shown.clone(), e),
    };
    let file = disk.open(path, Access::Read).map_err(missing)?;
    let found = sum(&*file, &mut |_, _| Ok(())).map_err(|e| match e {
        Failed::Read(e) => StoreError::io("read", shown.clone(), e),
        Failed::Told(e) => e,
    })?;
    expect(&shown, found, (bytes, crc))
}

/// # Errors
/// [`StoreError::Corrupt`] if they differ.
pub(super) fn expect(shown: &str, found: (u64, u32), expected: (u64, u32)) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let text = |(bytes, crc): (u64, u32)| format!("{bytes} bytes, checksum {crc:08x}");
    Err(StoreError::Corrupt {
        file: shown.to_owned(),
        offset: 0,
        what: "content".to_owned(),
        found: text(found),
        expected: text(expected),
    })
}

/// Why a file was not read to its end.
pub(super) enum Failed {
    /// It cannot be read.
    Read(std::io::Error),
    /// Who was told its bytes.
    Told(StoreError),
}

/// Reads a file to its end, tells its bytes with their offsets, gives length and checksum.
pub(super) fn sum(
    file: &dyn DiskFile,
    told: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> std::result::Result<(u64, u32), Failed> {
    let len = file.len().map_err(Failed::Read)?;
    let (mut at, mut crc) = (0, seeded());
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(CHUNK).min(CHUNK)];
    while at < len {
        let step = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
        file.read_at(at, &mut buffer[..step]).map_err(Failed::Read)?;
        crc = crc.add(&buffer[..step]);
        told(at, &buffer[..step]).map_err(Failed::Told)?;
        at += step as u64;
    }
    Ok((len, crc.value()))
}

/// Reads a list.
pub struct Reader {
    file: Arc<dyn DiskFile>,
    shown: String,
    len: u64,
    at: u64,
    pending: Vec<u8>,
    taken: usize,
}

impl Reader {
    /// Opens a list of this length and checksum, which is compared first.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is another one, or those of the disk.
    pub fn open(disk: &Arc<dyn Disk>, path: &str, expected: (u64, u32)) -> Result<Reader> {
        prove(&**disk, path, expected.0, expected.1)?;
        let shown = disk.display(path);
        let file = disk.open(path, Access::Read).map_err(|e| StoreError::io("open", shown.clone(), e))?;
        Ok(Reader { file, shown, len: expected.0, at: 0, pending: Vec::new(), taken: 0 })
    }

    /// The next line.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a line that is none, or those of the disk.
    #[expect(clippy::should_implement_trait, reason = "fallible, as reading is")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            let rest = &self.pending[self.taken..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let entry = std::str::from_utf8(&rest[..end]).ok().and_then(Entry::parse);
                let offset = self.at - rest.len() as u64;
                self.taken += end + 1;
                return entry.map(Some).ok_or_else(|| self.wrong(offset));
            }
            if self.at == self.len || rest.len() > LINE_MAX {
                let offset = self.at - rest.len() as u64;
                return if rest.is_empty() { Ok(None) } else { Err(self.wrong(offset)) };
            }
            self.pending.drain(..self.taken);
            self.taken = 0;
            let step = usize::try_from(self.len - self.at).unwrap_or(CHUNK).min(CHUNK);
            let from = self.pending.len();
            self.pending.resize(from + step, 0);
            let read = self.file.read_at(self.at, &mut self.pending[from..]);
            read.map_err(|e| StoreError::io("read", self.shown.clone(), e))?;
            self.at += step as u64;
        }
    }

    fn wrong(&self, offset: u64) -> StoreError {
        StoreError::Corrupt {
            file: self.shown.clone(),
            offset,
            what: "line".to_owned(),
            found: "something else".to_owned(),
            expected: "file or link".to_owned(),
        }
    }
}
