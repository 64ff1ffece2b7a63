//! The list of segments that exist, kept while the log runs, and their retirement.

use super::control::Control;
use super::segment::{self, Header};
use super::spares::Spares;
use super::survey::SegmentEvidence;
use crate::error::Result;
use crate::lsn::{Epoch, Lsn, Micros};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its file name.
    pub file: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// LSN of its first record.
    pub first_lsn: Lsn,
    /// LSN of its last record; `None` while it is being written.
    pub last_lsn: Option<Lsn>,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// When it was made.
    pub created: Micros,
    /// It is a symbolic link.
    pub symlink: bool,
}

/// The segments of a running log, shared by the writer, which adds, and the checkpoint, which retires.
#[derive(Debug)]
pub struct Segments {
    control: Arc<Control>,
    spares: Arc<Spares>,
    list: Mutex<Vec<SegmentInfo>>,
}

impl SegmentInfo {
    fn of(header: &Header) -> SegmentInfo {
        SegmentInfo {
            number: header.number,
            file: segment::file_name(header.number),
            epoch: header.epoch,
            first_lsn: header.first_lsn,
            last_lsn: None,
            bytes: header.segment_bytes,
            created: header.created,
            symlink: false,
        }
    }
}

impl Segments {
    pub(super) fn new(control: Arc<Control>, spares: Arc<Spares>) -> Segments {
        Segments { control, spares, list: Mutex::new(Vec::new()) }
    }

    /// Takes over a segment found at start. `last`: LSN of its last record; `None` if it is the one being written.
    pub(super) fn adopt(&self, evidence: &SegmentEvidence, last: Option<Lsn>) {
        let first = evidence.runs.first().map(|r| r.first_lsn);
        let known = evidence.known();
        self.lock().push(SegmentInfo {
            number: evidence.number,
            file: evidence.file.clone(),
            epoch: known.map(|h| h.epoch).unwrap_or_default(),
            first_lsn: known.map(|h| h.first_lsn).or(first).unwrap_or_default(),
            last_lsn: last,
            bytes: evidence.bytes,
            created: known.map(|h| h.created).unwrap_or_default(),
            symlink: evidence.symlink,
        });
    }

    /// A new segment has begun; the one before ended with the LSN that the new header states.
    pub(super) fn begin(&self, header: &Header) {
        let mut list = self.lock();
        if let Some(last) = list.last_mut() {
            last.last_lsn.get_or_insert(header.previous_lsn);
        }
        list.push(SegmentInfo::of(header));
    }

    /// Every segment of the live history, oldest first; the last one is being written.
    #[must_use]
    pub fn list(&self) -> Vec<SegmentInfo> {
        self.lock().clone()
    }

    /// Segments that [`Segments::retire`] would hand over.
    #[must_use]
    pub fn removable(&self, upto: Lsn) -> Vec<String> {
        self.lock().iter().take_while(|s| s.last_lsn.is_some_and(|l| l <= upto)).map(|s| s.file.clone()).collect()
    }

    /// Gives up all segments whose records are at or before `upto`, never the one being written: first the control
    /// file says that they may be absent, then their files become spares or are removed. Gives their names. The
    /// caller has seen to it that checkpoint, snapshots and archive cover `upto` (I4).
    ///
    /// # Errors
    /// Those of the disk; some files may be left then, and go with the next call after a restart.
    pub fn retire(&self, upto: Lsn) -> Result<Vec<String>> {
        let (files, lowest) = {
            let list = self.lock();
            let count = list.iter().take_while(|s| s.last_lsn.is_some_and(|l| l <= upto)).count();
            let files: Vec<String> = list[..count].iter().map(|s| s.file.clone()).collect();
            (files, list.get(count).map(|s| s.number))
        };
        let Some(lowest) = lowest.filter(|_| !files.is_empty()) else { return Ok(Vec::new()) };
        self.control.update(|state| state.lowest_segment = state.lowest_segment.max(lowest))?;
        self.lock().retain(|s| s.number >= lowest);
        self.spares.recycle(&files)?;
        Ok(files)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SegmentInfo>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
