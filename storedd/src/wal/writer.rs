//! The side of the log that touches the disk: writes pieces, begins segments, syncs.
//!
//! # Operation
//! A new segment is begun in this order, each step durable before the next:
//! 1. the old segment is synced: so whoever finds a later segment knows that everything before it was durable;
//! 2. the header page is written into a spare and the spare synced: so a file that is named like a segment always has
//!    its header, and a header that cannot be read is damage, never a crash;
//! 3. the spare gets its name, and the directory is synced: so an acknowledged record is never in a nameless file;
//! 4. the control file states the number and the LSN that the old segment ended with: so a segment that disappears is
//!    missed even if it was the last. Only now may a record be written that somebody could come to rely on;
//! 5. the records are written, and synced with their group.
//!
//! A crash between any two steps leaves a log that ends cleanly: with the old segment, or with a new one without records.
//!
//! # Invariants
//! * Only a sync that succeeded makes a [`Synced`].
//! * After the first failure nothing is written or synced any more: the page cache may lie after a failed sync.

use super::control::Control;
use super::encoder::{Encoder, Piece};
use super::resume;
use super::segment::{self, Header, PAGE, SEGMENT_HEADER_BYTES};
use super::segments::Segments;
use super::spares::{self, Spares};
use crate::disk::{Access, Disk, DiskFile, Kind};
use crate::error::{Result, StoreError};
use crate::lsn::{Lsn, StoreId};
use crate::planted::{self, Bug};
use std::io;
use std::sync::Arc;

/// Proof that every record up to an LSN is durable. Only [`Writer::sync`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Synced(Lsn);

impl Synced {
    /// Highest LSN that is durable.
    #[must_use]
    pub fn lsn(self) -> Lsn {
        self.0
    }
}

/// The segment being written had lost its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// Its path.
    pub file: String,
    /// Where that lies which had taken its place.
    pub aside: Option<String>,
}

/// What the writer has done, for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterStats {
    /// Syncs of the log, those of a segment change included.
    pub syncs: u64,
    /// Calls to write.
    pub writes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Segments begun.
    pub segments: u64,
}

/// Writes what an [`Encoder`] made, in the order in which it was made.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    control: Arc<Control>,
    spares: Arc<Spares>,
    segments: Arc<Segments>,
    store: StoreId,
    /// The segment being written; `None` before the first, or behind one that must not be written.
    file: Option<Arc<dyn DiskFile>>,
    segment: u64,
    /// Where the next piece must begin.
    offset: u64,
    written: Lsn,
    synced: Lsn,
    stats: WriterStats,
    poison: Option<String>,
}

/// What a writer needs besides its place.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub disk: Arc<dyn Disk>,
    pub control: Arc<Control>,
    pub spares: Arc<Spares>,
    pub segments: Arc<Segments>,
}

impl Writer {
    /// A writer at the place where `encoder` stands; everything before it is durable. `file`: the segment there, if it
    /// may be written.
    pub(super) fn new(parts: &Parts, encoder: &Encoder, file: Option<Arc<dyn DiskFile>>) -> Writer {
        let at = encoder.position();
        Writer {
            disk: parts.disk.clone(),
            control: parts.control.clone(),
            spares: parts.spares.clone(),
            segments: parts.segments.clone(),
            store: encoder.identity().store_id,
            file,
            segment: at.segment,
            offset: at.offset,
            written: at.lsn,
            synced: at.lsn,
            stats: WriterStats::default(),
            poison: None,
        }
    }

    /// Writes pieces; begins segments where they do. Nothing of them is durable before [`Writer::sync`].
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] with the first cause: from then on every call fails.
    pub fn write(&mut self, pieces: &[Piece]) -> Result<()> {
        self.guarded(|writer| pieces.iter().try_for_each(|piece| writer.put(piece)))
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn sync(&mut self) -> Result<Synced> {
        self.guarded(Writer::sync_segment)?;
        Ok(Synced(self.synced))
    }

    /// Highest LSN that is durable.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        self.synced
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        self.stats
    }

    /// Puts the segment being written back under its name, if somebody removed it or put something else there: whoever reads the log reads it
    /// by name, and so does the next start. What is there instead is kept in the quarantine. Gives the file, and where that lies now; `None` if
    /// all is as it should be, or that cannot be told.
    ///
    /// # Errors
    /// As [`Writer::write`], where it cannot be put back.
    pub fn keep_name(&mut self) -> Result<Option<PutBack>> {
        let Some(held) = self.file.clone().filter(|_| self.poison.is_none()) else { return Ok(None) };
        let name = segment::file_name(self.segment);
        if is_named(self.disk.as_ref(), &name, held.as_ref()).unwrap_or(true) {
            return Ok(None);
        }
        let mut back = None;
        self.guarded(|writer| {
            let (file, aside) = put_back(writer.disk.as_ref(), &name, held.as_ref())?;
            writer.file = Some(file);
            back = Some(PutBack { file: writer.disk.display(&name), aside: aside.map(|to| writer.disk.display(&to)) });
            Ok(())
        })?;
        Ok(back)
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        if self.poison.is_none() {
            let Err(e) = act(self) else { return Ok(()) };
            self.poison = Some(e.to_string());
        }
        Err(StoreError::Poisoned { cause: self.poison.clone().unwrap_or_default() })
    }

    fn put(&mut self, piece: &Piece) -> Result<()> {
        let mut bytes = piece.bytes.as_slice();
        if piece.offset == 0 {
            let head = bytes.get(..PAGE).ok_or_else(|| misplaced(piece, "a whole header page"))?;
            self.begin_segment(piece, head)?;
            bytes = &bytes[PAGE..];
        } else if (piece.segment, piece.offset) != (self.segment, self.offset) {
            return Err(misplaced(piece, &format!("segment {} offset {}", self.segment, self.offset)));
        }
        let Some(file) = &self.file else { return Err(misplaced(piece, "a new segment")) };
        if !bytes.is_empty() {
            let name = || self.disk.display(&segment::file_name(self.segment));
            file.write_at(self.offset, bytes).map_err(|e| StoreError::io("write", name(), e))?;
            self.stats.writes += 1;
            self.stats.bytes += bytes.len() as u64;
        }
        self.offset += bytes.len() as u64;
        self.written = piece.last_lsn;
        Ok(())
    }

    /// See the page of this file for the order.
    fn begin_segment(&mut self, piece: &Piece, head: &[u8]) -> Result<()> {
        let header = Header::parse(head, self.store, piece.segment)
            .map_err(|e| StoreError::Bug(format!("header of segment {}: {e}", piece.segment)))?;
        if header.previous_lsn != self.written || header.number <= self.segment {
            return Err(misplaced(piece, &format!("a segment behind LSN {}", self.written)));
        }
        self.sync_segment()?;
        let spare = self.spares.take()?;
        let file = spares::write_head(self.disk.as_ref(), &spare, head)?;
        name_segment(self.disk.as_ref(), &spare, header.number)?;
        let synced = self.synced;
        self.control.note(|state| {
            state.highest_segment = header.number;
            state.durable_lsn = synced;
        })?;
        self.segments.begin(&header);
        self.file = Some(file);
        (self.segment, self.offset) = (header.number, SEGMENT_HEADER_BYTES);
        self.stats.segments += 1;
        Ok(())
    }

    fn sync_segment(&mut self) -> Result<()> {
        if self.synced == self.written {
            return Ok(());
        }
        if let Some(file) = self.file.as_ref().filter(|_| !planted::on(Bug::SyncSkipped)) {
            let name = || self.disk.display(&segment::file_name(self.segment));
            file.sync_data().map_err(|e| StoreError::io("sync", name(), e))?;
            self.stats.syncs += 1;
        }
        self.synced = self.written;
        Ok(())
    }
}

/// True if `name` stands for this very file, or that is not known.
fn is_named(disk: &dyn Disk, name: &str, file: &dyn DiskFile) -> io::Result<bool> {
    let Some(held) = file.inode()? else { return Ok(true) };
    match disk.stamp(name)? {
        Some(named) => Ok(named.inode == held),
        // No file there; or a disk that does not tell.
        None => Ok(disk.stat(name)?.is_some_and(|entry| entry.kind == Kind::File)),
    }
}

/// Makes a copy of an open segment and gives it the segment's name, durably.
fn put_back(disk: &dyn Disk, name: &str, held: &dyn DiskFile) -> Result<(Arc<dyn DiskFile>, Option<String>)> {
    let fail = |op, name: &str| {
        let shown = disk.display(name);
        move |e| StoreError::io(op, shown, e)
    };
    // Left by one that failed.
    drop(disk.remove(spares::BACK_FILE));
    let copied = copy(disk, held).map_err(fail("write", spares::BACK_FILE));
    let file = copied.inspect_err(|_| drop(disk.remove(spares::BACK_FILE)))?;
    let aside = match disk.stat(name).map_err(fail("stat", name))? {
        None => None,
        Some(_) => {
            let to = resume::free_name(disk, name)?;
            disk.rename(name, &to).map_err(fail("rename", name))?;
            disk.sync_dir(resume::QUARANTINE).map_err(fail("sync", resume::QUARANTINE))?;
            Some(to)
        }
    };
    disk.rename(spares::BACK_FILE, name).map_err(fail("rename", name))?;
    spares::sync_names(disk)?;
    Ok((file, aside))
}

fn copy(disk: &dyn Disk, held: &dyn DiskFile) -> io::Result<Arc<dyn DiskFile>> {
    let to = disk.open(spares::BACK_FILE, Access::CreateNew)?;
    let (bytes, mut at) = (held.len()?, 0);
    let mut buffer = vec![0; usize::try_from(spares::STEP_BYTES.min(bytes)).unwrap_or(0)];
    while at < bytes {
        let len = buffer.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        held.read_at(at, &mut buffer[..len])?;
        to.write_at(at, &buffer[..len])?;
        at += len as u64;
    }
    to.sync_data()?;
    Ok(to)
}

/// Gives a spare the name of a segment, durably.
pub(super) fn name_segment(disk: &dyn Disk, spare: &str, number: u64) -> Result<()> {
    disk.rename(spare, &segment::file_name(number)).map_err(|e| StoreError::io("rename", disk.display(spare), e))?;
    spares::sync_names(disk)
}

fn misplaced(piece: &Piece, expected: &str) -> StoreError {
    StoreError::Bug(format!("log piece for segment {} offset {}, expected {expected}", piece.segment, piece.offset))
}
