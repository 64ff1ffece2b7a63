//! A journal: a file of frames that is appended to, and from time to time written anew. `store.idx` ([`super::index`]) and
//! `manifest` ([`super::manifest`]) are journals.
//!
//! # Format
//! 64 bytes of file header, then frames ([`super::frame`]). Little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic: which kind of journal |
//! | 8 | 4 | version |
//! | 12 | 4 | zero |
//! | 16 | 16 | store id |
//! | 32 | 8 | subject: what it is about (mailbox id, user number) |
//! | 40 | 8 | generation: plus one with each writing anew |
//! | 48 | 8 | length of the file when it was written anew |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC-32 of the bytes before |
//!
//! # Operation
//! [`Journal::append`] writes one run of frames behind the last one, without a sync: the checkpoint that calls it syncs
//! the tree once for thousands of files. [`Journal::rewrite`] makes a new file beside the old one, syncs and renames it.
//! [`Journal::read`] judges each frame alone: behind bad bytes it looks for the next place where a good frame stands.
//!
//! # Damage
//! Sequence numbers tell what is missing. A run that a crash found unsynced may have lost any part of it, its last frame left
//! standing: bad bytes, and gaps in the numbers, are *damage* only if a good frame right behind them was durable, which the
//! caller knows from its LSN ([`Reading::is_damaged`]); else they are *torn*. A journal that ends with anything but a good
//! frame takes no more ([`AppendError::Unsound`]) until it was written anew from what is known, its twin and the log included.
//! After a crash a caller reads what it appends to ([`Journal::read`]), because a torn run may end well. Whether the end is
//! missing without a trace is for him to find out, who knows the newest change of what it is about.
//!
//! # History that was given up
//! Frames of it ([`super::past`]) are frames like all others for everything above, and are shown to nobody who does not ask for them. They go
//! when the journal is written anew.
//!
//! # Invariants
//! * A frame is never changed once written; a run is one write.
//! * A newer version is refused and left as it is.

use super::frame::{self, ALIGN, Frame, HEADER_BYTES, Header, MAGIC, PAYLOAD_BYTES_MAX, Seed};
use super::past::{Owner, Past};
use super::reading::Window;
pub use super::reading::{Bad, Reading};
use super::tree::{self, STAGING};
use crate::checksum::Crc;
use crate::disk::{Access, Disk, DiskFile, create_all, parent};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use crate::planted::{self, Bug};
use std::io;
use std::sync::Arc;

/// Bytes of the file header.
pub const FILE_HEADER_BYTES: usize = 64;
/// What is read first to find the last frame.
const TAIL: u64 = 4096;
/// Bytes collected before they are written, when a journal is written anew.
const BUFFER: usize = 1 << 20;

/// One kind of journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// First bytes of its files.
    pub magic: &'static [u8; 8],
    /// Version written, and the newest that is read.
    pub version: u32,
}

/// A journal of a tree; nothing is open.
#[derive(Debug, Clone)]
pub struct Journal<'d> {
    disk: &'d dyn Disk,
    path: String,
    format: Format,
    owner: Owner<'d>,
    subject: u64,
}

/// A frame to be written; its sequence number is the journal's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFrame {
    /// What it is.
    pub kind: u8,
    /// LSN that makes it.
    pub lsn: Lsn,
    /// Epoch of that LSN.
    pub epoch: Epoch,
    /// Its content.
    pub payload: Vec<u8>,
}

/// How a journal stands after it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its length in bytes.
    pub len: u64,
    /// Its length when it was last written anew.
    pub base: u64,
    /// Its generation.
    pub generation: u64,
}

impl Size {
    /// True if writing it anew is worth it: it has doubled, and grown by at least `floor` bytes.
    #[must_use]
    pub fn is_overgrown(&self, floor: u64) -> bool {
        self.len > self.base.saturating_mul(2).saturating_add(floor)
    }
}

/// Why frames could not be appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// There is no such file.
    #[error("no journal")]
    Missing,
    /// Its header or its end is not as written: it has to be written anew from what is known.
    #[error("unsound: {0}")]
    Unsound(String),
    /// What it ends with is not what was expected: nothing was written.
    #[error("of an older time")]
    Older,
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// What a good file header says.
#[derive(Debug, Clone, Copy)]
struct FileHeader {
    generation: u64,
    base: u64,
}

type Each<'e> = &'e mut dyn FnMut(&Frame<'_>) -> Result<()>;
type EachGood<'e> = &'e mut dyn FnMut(&Frame<'_>, &mut Reading) -> Result<()>;

impl<'d> Journal<'d> {
    /// The journal at `path`.
    #[must_use]
    pub fn new(
        disk: &'d dyn Disk,
        path: String,
        format: Format,
        owner: impl Into<Owner<'d>>,
        subject: u64,
    ) -> Journal<'d> {
        Journal { disk, path, format, owner: owner.into(), subject }
    }

    /// Its path as a person would type it.
    #[must_use]
    pub fn display(&self) -> String {
        self.disk.display(&self.path)
    }

    /// What is known of the past of its store.
    pub(super) fn past(&self) -> &'d Past {
        self.owner.past
    }

    fn seed(&self) -> Seed {
        Seed::new(self.format.magic, self.owner.store, self.subject)
    }

    fn io(&self, op: &'static str) -> impl Fn(io::Error) -> StoreError + '_ {
        move |e| StoreError::io(op, self.display(), e)
    }

    /// Writes frames behind the last one, as one write; durable after the next sync of the tree.
    ///
    /// # Errors
    /// [`AppendError`]; a part of the run may have been written.
    pub fn append(&self, frames: &[NewFrame]) -> Result<Size, AppendError> {
        self.append_behind(frames, &|_| true)
    }

    /// [`Journal::append`] behind a last frame that `expects` it; `None`: there is no frame yet.
    ///
    /// # Errors
    /// As [`Journal::append`]; [`AppendError::Older`].
    pub fn append_behind(
        &self,
        frames: &[NewFrame],
        expects: &dyn Fn(Option<&NewFrame>) -> bool,
    ) -> Result<Size, AppendError> {
        let file = match self.disk.open(&self.path, Access::Write) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(AppendError::Missing),
            Err(e) => return Err(self.io("open")(e).into()),
        };
        let len = file.len().map_err(self.io("read"))?;
        let unsound = |why: &str| AppendError::Unsound(format!("{}: {why}", self.display()));
        let mut bytes = vec![0; FILE_HEADER_BYTES.min(usize::try_from(len).unwrap_or(FILE_HEADER_BYTES))];
        file.read_at(0, &mut bytes).map_err(self.io("read"))?;
        let header = self.header(&bytes)?.ok_or_else(|| unsound("its header is damaged"))?;
        let is_empty = len == FILE_HEADER_BYTES as u64;
        let last = if is_empty { None } else { self.last_frame(&*file, len)? };
        if last.is_none() && !is_empty {
            return Err(unsound("it ends with bytes that are no frame"));
        }
        if !expects(last.as_ref().map(|(_, frame)| frame)) {
            return Err(AppendError::Older);
        }
        let last = last.map_or(0, |(seq, _)| seq);
        let mut out = Vec::with_capacity(frames.iter().map(|f| HEADER_BYTES + frame::padded(f.payload.len())).sum());
        self.encode(len, last + 1, frames, &mut out)?;
        file.write_at(len, &out).map_err(self.io("write"))?;
        Ok(Size { len: len + out.len() as u64, base: header.base, generation: header.generation })
    }

    /// The frame with which the file ends: one read, however long it is. `None` if there is no file, or it ends with anything else.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for a newer version, those of the disk.
    pub fn tail(&self) -> Result<Option<NewFrame>> {
        let file = match self.disk.open(&self.path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io("open")(e)),
        };
        let len = file.len().map_err(self.io("read"))?;
        if len <= FILE_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; FILE_HEADER_BYTES];
        file.read_at(0, &mut bytes).map_err(self.io("read"))?;
        match self.header(&bytes)? {
            Some(_) => Ok(self.last_frame(&*file, len)?.map(|(_, frame)| frame)),
            None => Ok(None),
        }
    }

    fn last_frame(&self, file: &dyn DiskFile, len: u64) -> Result<Option<(u64, NewFrame)>> {
        let start = FILE_HEADER_BYTES as u64;
        if !len.is_multiple_of(ALIGN as u64) {
            return Ok(None);
        }
        let mut back = TAIL;
        loop {
            // Frames begin at multiples of 8, as the header ends at one.
            let from = len.saturating_sub(back).max(start);
            let mut bytes = vec![0; usize::try_from(len.saturating_sub(from)).unwrap_or(0)];
            file.read_at(from, &mut bytes).map_err(self.io("read"))?;
            let seed = self.seed();
            for at in (0..bytes.len()).step_by(ALIGN).rev().filter(|at| bytes[*at..].starts_with(&MAGIC)) {
                let found = Header::read(seed, from + at as u64, &bytes[at..]);
                if let Some(found) = found.filter(|h| at + h.frame_bytes() == bytes.len()) {
                    let frame = found.frame(seed, &bytes[at..]);
                    return Ok(frame.map(|Frame { kind, lsn, epoch, seq, payload }| {
                        (seq, NewFrame { kind, lsn, epoch, payload: payload.to_vec() })
                    }));
                }
            }
            if from == start || back > (PAYLOAD_BYTES_MAX + HEADER_BYTES) as u64 {
                return Ok(None);
            }
            back *= 16;
        }
    }

    fn encode(&self, at: u64, seq: u64, frames: &[NewFrame], out: &mut Vec<u8>) -> Result<()> {
        let (seed, start) = (self.seed(), out.len());
        for (NewFrame { kind, lsn, epoch, payload }, seq) in frames.iter().zip(seq..) {
            if payload.len() > PAYLOAD_BYTES_MAX {
                return Err(StoreError::Bug(format!("{}: a frame of {} bytes", self.display(), payload.len())));
            }
            let offset = at + (out.len() - start) as u64;
            frame::put(seed, offset, &Frame { kind: *kind, lsn: *lsn, epoch: *epoch, seq, payload }, out);
        }
        Ok(())
    }

    /// Calls `each` with every good frame, in order, but for those of a history that was given up. A file that is not there has none.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] for a newer version, those of the disk and of `each`.
    pub fn read(&self, each: Each<'_>) -> Result<Reading> {
        self.pass(false, each)
    }

    /// [`Journal::read`] of those of a history that was given up, and of no others.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn read_given_up(&self, each: Each<'_>) -> Result<Reading> {
        self.pass(true, each)
    }

    /// One pass over all frames: over those that count, or over those that were given up.
    fn pass(&self, wants_given_up: bool, each: Each<'_>) -> Result<Reading> {
        let mut reading = Reading::default();
        let file = match self.disk.open(&self.path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(reading),
            Err(e) => return Err(self.io("open")(e)),
        };
        reading.is_there = true;
        let len = file.len().map_err(self.io("read"))?;
        let mut window = Window::new(file, len);
        let header = window.get(0, FILE_HEADER_BYTES).map_err(self.io("read"))?;
        reading.another = self.another(header);
        reading.generation = self.header(header)?.map(|h| h.generation);
        let given_up = self.owner.past.given_up();
        self.frames(&mut window, &mut reading, &mut |frame, reading| {
            let is_given_up = given_up.holds(frame.lsn, frame.epoch);
            if is_given_up {
                reading.given_up += 1;
            } else {
                reading.last_lsn = reading.last_lsn.max(frame.lsn);
            }
            if is_given_up == wants_given_up { each(frame) } else { Ok(()) }
        })?;
        Ok(reading)
    }

    fn frames(&self, window: &mut Window, reading: &mut Reading, each: EachGood<'_>) -> Result<()> {
        let seed = self.seed();
        let (mut at, mut bad_from, mut last_seq) = (FILE_HEADER_BYTES as u64, None, 0);
        while at < window.len {
            let bytes = window.get(at, HEADER_BYTES).map_err(self.io("read"))?;
            let header = Header::read(seed, at, bytes);
            let frame = match header {
                Some(header) => {
                    let bytes = window.get(at, header.frame_bytes()).map_err(self.io("read"))?;
                    header.frame(seed, bytes).map(|frame| (frame, header.frame_bytes()))
                }
                None => None,
            };
            let Some((frame, bytes)) = frame else {
                bad_from.get_or_insert(at);
                at += ALIGN as u64;
                continue;
            };
            // The first frame of a generation has number 1.
            let gap = frame.seq.saturating_sub(last_seq + 1);
            if bad_from.is_some() || gap > 0 {
                reading.behind = Some(reading.behind.map_or(frame.lsn, |lowest| lowest.min(frame.lsn)));
            }
            if let Some(from) = bad_from.take() {
                reading.bad(Bad { from, to: at });
            }
            reading.missing += gap;
            last_seq = frame.seq;
            reading.frames += 1;
            each(&frame, reading)?;
            at += bytes as u64;
        }
        reading.bad_end = bad_from.is_some();
        bad_from.into_iter().for_each(|from| reading.bad(Bad { from, to: window.len }));
        Ok(())
    }

    /// Makes the journal anew from what `fill` writes: a new generation in the staging directory, synced, renamed.
    /// Who has the old one open goes on reading it. Needs memory for one buffer.
    ///
    /// # Errors
    /// Those of the disk and of `fill`; the old file is then still there unless the rename was done.
    pub fn rewrite(&self, fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<()>) -> Result<Size> {
        self.rewrite_from(1, fill)
    }

    /// [`Journal::rewrite`] with what is left of a journal that has lost something: it leaves out the number of the first frame, so that
    /// whoever reads it knows that something is missing, and does not take the rest for all.
    ///
    /// # Errors
    /// As [`Journal::rewrite`].
    pub fn rewrite_short(&self, fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<()>) -> Result<Size> {
        self.rewrite_from(2, fill)
    }

    fn rewrite_from(&self, seq: u64, fill: &mut dyn FnMut(&mut Writer<'_>) -> Result<()>) -> Result<Size> {
        let generation = self.generation()?.map_or(1, |before| before + 1);
        let candidate = tree::candidate(&self.path);
        match self.disk.remove(&candidate) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(self.io("remove the candidate of")(e)),
            _ => {}
        }
        let open = || self.disk.open(&candidate, Access::CreateNew);
        let file = self.within(STAGING, &open).map_err(self.io("create"))?;
        let mut writer = Writer { journal: self, file, at: FILE_HEADER_BYTES as u64, seq, buffer: Vec::new() };
        fill(&mut writer)?;
        writer.flush()?;
        let len = writer.at;
        let header = self.encode_header(FileHeader { generation, base: len });
        writer.file.write_at(0, &header).map_err(self.io("write"))?;
        if !planted::on(Bug::JournalNamedBeforeSync) {
            writer.file.sync_data().map_err(self.io("sync"))?;
        }
        let rename = || self.disk.rename(&candidate, &self.path);
        self.within(parent(&self.path), &rename).map_err(self.io("rename"))?;
        self.disk.sync_dir(parent(&self.path)).map_err(self.io("sync the directory of"))?;
        Ok(Size { len, base: len, generation })
    }

    /// [`Journal::append`] to a journal that may not be there yet: then it is made, with its directory.
    ///
    /// # Errors
    /// As [`Journal::append`]. A crash can leave a new one in part; it then counts as unsound.
    pub fn append_new(&self, frames: &[NewFrame]) -> Result<Size, AppendError> {
        match self.append(frames) {
            Err(AppendError::Missing) => Ok(self.create(frames)?),
            done => done,
        }
    }

    fn create(&self, frames: &[NewFrame]) -> Result<Size> {
        let mut out = vec![0; FILE_HEADER_BYTES];
        self.encode(FILE_HEADER_BYTES as u64, 1, frames, &mut out)?;
        let size = Size { len: out.len() as u64, base: out.len() as u64, generation: 1 };
        out[..FILE_HEADER_BYTES].copy_from_slice(&self.encode_header(FileHeader { generation: 1, base: size.len }));
        let open = || self.disk.open(&self.path, Access::CreateNew);
        let file = self.within(parent(&self.path), &open).map_err(self.io("create"))?;
        file.write_at(0, &out).map_err(self.io("write"))?;
        Ok(size)
    }

    /// Does what needs a directory that may not be there yet.
    fn within<T>(&self, dir: &str, act: &dyn Fn() -> io::Result<T>) -> io::Result<T> {
        match act() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create_all(self.disk, dir)?;
                act()
            }
            done => done,
        }
    }

    /// Its generation; `None` if it is not there or its header is damaged.
    fn generation(&self) -> Result<Option<u64>> {
        let file = match self.disk.open(&self.path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io("open")(e)),
        };
        let mut bytes = [0; FILE_HEADER_BYTES];
        match file.read_at(0, &mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(self.io("read")(e)),
            Ok(()) => Ok(self.header(&bytes)?.map(|h| h.generation)),
        }
    }

    fn encode_header(&self, header: FileHeader) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..8].copy_from_slice(self.format.magic);
        bytes[8..12].copy_from_slice(&self.format.version.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.owner.store.0);
        for (at, n) in [(32, self.subject), (40, header.generation), (48, header.base)] {
            bytes[at..at + 8].copy_from_slice(&n.to_le_bytes());
        }
        let crc = self.header_crc(&bytes);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn header_crc(&self, bytes: &[u8]) -> u32 {
        Crc::seeded(self.format.magic).add(&bytes[..60]).value()
    }

    /// `None`: damaged. The frames can be read all the same.
    fn header(&self, bytes: &[u8]) -> Result<Option<FileHeader>> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_BYTES>() else { return Ok(None) };
        let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        if bytes[..8] != *self.format.magic || four(60) != self.header_crc(bytes) {
            return Ok(None);
        }
        let version = four(8);
        if version != self.format.version {
            let (found, expected) = (version.to_string(), self.format.version.to_string());
            return Err(StoreError::Foreign { file: self.display(), what: "format version", found, expected });
        }
        let is_own = bytes[16..32] == self.owner.store.0 && eight(32) == self.subject;
        Ok(is_own.then(|| FileHeader { generation: eight(40), base: eight(48) }))
    }

    /// Whose a file is whose header is as it was written, if not this journal's: none of its frames counts here.
    fn another(&self, bytes: &[u8]) -> Option<String> {
        let bytes = bytes.first_chunk::<FILE_HEADER_BYTES>()?;
        let (crc, subject) = (bytes[60..64].try_into().ok()?, bytes[32..40].try_into().ok()?);
        if bytes[..8] != *self.format.magic || u32::from_le_bytes(crc) != self.header_crc(bytes) {
            return None;
        }
        let (store, subject) = (StoreId(std::array::from_fn(|n| bytes[16 + n])), u64::from_le_bytes(subject));
        if store != self.owner.store {
            return Some(format!("a file of store {store}"));
        }
        (subject != self.subject).then(|| format!("the file of number {subject}, not of {}", self.subject))
    }
}

/// Takes the frames of a journal that is written anew.
#[derive(Debug)]
pub struct Writer<'j> {
    journal: &'j Journal<'j>,
    file: Arc<dyn DiskFile>,
    /// Where the buffer belongs.
    at: u64,
    seq: u64,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    /// Adds a frame.
    ///
    /// # Errors
    /// Those of the disk; a payload longer than [`PAYLOAD_BYTES_MAX`].
    pub fn put(&mut self, frame: &NewFrame) -> Result<()> {
        let at = self.at + self.buffer.len() as u64;
        self.journal.encode(at, self.seq, std::slice::from_ref(frame), &mut self.buffer)?;
        self.seq += 1;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(self.at, &self.buffer).map_err(self.journal.io("write"))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
