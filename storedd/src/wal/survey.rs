//! Evidence: what the log holds, how each segment ends, what is missing. Reads only; decides nothing (I7).

use super::control::ControlState;
use super::judge::{After, Before, judge};
use super::record::{self, RECORD_HEADER_BYTES, Seed};
use super::scan::{self, Run, UnknownKind, Window};
use super::segment::{self, Header, HeaderProblem, PAGE, SEGMENT_HEADER_BYTES};
use crate::disk::{Access, Disk, DiskFile, Kind as FileKind};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, StoreId};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What is known from elsewhere about how far the log was durable.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// The control file, if it has a valid slot.
    pub control: Option<ControlState>,
    /// LSN up to which the database holds everything.
    pub applied_lsn: Option<Lsn>,
    /// Both slots of the control file are whole: no newer state was lost with one of them.
    pub control_whole: bool,
}

impl Proof {
    /// True of an empty file behind the last segment that the control file knows. It notes a segment durably before the first record in
    /// it, and a segment has its length before its name: nothing was ever in this one.
    fn never_was(&self, segment: &SegmentEvidence) -> bool {
        let behind = |control: &ControlState| segment.number > control.highest_segment;
        self.control_whole && segment.bytes == 0 && !segment.symlink && self.control.as_ref().is_some_and(behind)
    }
}

/// How much of the log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every record.
    All,
    /// Records behind this LSN; a segment wholly at or before it is judged by its header.
    From(Lsn),
}

/// What proves that a bad place once held something durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvedBy {
    /// A record behind it.
    #[error("a later record states that LSN {0} was durable")]
    LaterRecord(Lsn),
    /// A segment is made only after the one before it was synced.
    #[error("{0} was made after it")]
    LaterSegment(String),
    /// The control file.
    #[error("the control file states that LSN {0} was durable")]
    Control(Lsn),
    /// The database.
    #[error("a database, or a partition, holds everything up to LSN {0}")]
    Database(Lsn),
    /// A segment has its full length before it has its name.
    #[error("a segment never changes its length")]
    Length,
    /// A segment has its header before it has its name.
    #[error("a segment never exists without its header")]
    Name,
}

/// A bad place that is no torn tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub offset: u64,
    /// Bytes up to the next valid record or the end of what is there.
    pub bytes: u64,
    /// First LSN that cannot be read because of it; `None` if every record that belongs here can be read.
    pub lsn: Option<Lsn>,
    /// Which structure.
    pub what: String,
    /// What was there.
    pub found: String,
    /// What should have been there.
    pub expected: String,
    /// Why it is no torn tail.
    pub proof: ProvedBy,
}

/// How a segment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Behind its last record are only zeros.
    Clean,
    /// A write that was never synced broke off: from `offset` on, `bytes` bytes up to the last that is not zero. So
    /// many whole records lie in them; none was ever acknowledged, unless the whole last group was damaged since.
    Torn {
        /// Where the valid records end.
        offset: u64,
        /// Bytes up to the last one that is not zero.
        bytes: u64,
        /// Whole records behind the place.
        records: u64,
    },
    /// The segment after it begins right behind `offset`; what lies behind was given up then.
    Surplus {
        /// Where the valid records end.
        offset: u64,
        /// Bytes up to the last one that is not zero.
        bytes: u64,
    },
    /// The place behind its last record is damaged: see the last of its damages.
    Damaged,
    /// A valid record of a kind that this program does not know.
    Newer(UnknownKind),
    /// Not looked at: see [`Depth::From`], or a header that forbids it.
    Unread,
    /// A fork left this segment out of history; or it never was part of it, see [`Survey::strangers`].
    Superseded,
}

/// One segment file.
#[derive(Debug, Clone)]
pub struct SegmentEvidence {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub file: String,
    /// It is a symbolic link: never cut, never reused.
    pub symlink: bool,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its header page.
    pub header: Result<Header, HeaderProblem>,
    /// Where the header page is damaged but the first record is not: what the header must have said.
    pub assumed: Option<Header>,
    /// Stretches of valid records, in order.
    pub runs: Vec<Run>,
    /// Every bad place, in order of offset.
    pub damages: Vec<Damage>,
    /// How it ends.
    pub end: End,
}

impl SegmentEvidence {
    /// The header, read or deduced.
    #[must_use]
    pub fn known(&self) -> Option<&Header> {
        self.header.as_ref().ok().or(self.assumed.as_ref())
    }

    /// Number of the segment before it in this history.
    pub(super) fn previous(&self) -> u64 {
        self.known().map_or(self.number - 1, |h| h.previous)
    }

    /// False if a fork left it out.
    #[must_use]
    pub fn live(&self) -> bool {
        self.end != End::Superseded
    }
}

/// Everything known about a log.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Whose.
    pub store_id: StoreId,
    /// Every segment file, by number.
    pub segments: Vec<SegmentEvidence>,
    /// Numbers of segments that must exist and do not.
    pub missing: Vec<RangeInclusive<u64>>,
    /// What was known from elsewhere.
    pub proof: Proof,
}

/// Looks at every segment on `disk`. Of a log that is in use, what is being written at this moment may look torn;
/// nobody may retire segments meanwhile.
///
/// # Errors
/// Only those of the disk; everything about the content is evidence.
pub fn survey(disk: &dyn Disk, store: StoreId, proof: Proof, depth: Depth) -> Result<Survey> {
    survey_told(disk, store, proof, depth, &mut |_, _| ())
}

/// As [`survey`]; `told` hears how many segments were read, of how many.
///
/// # Errors
/// As [`survey`].
pub fn survey_told(
    disk: &dyn Disk,
    store: StoreId,
    proof: Proof,
    depth: Depth,
    told: &mut dyn FnMut(u64, u64),
) -> Result<Survey> {
    let mut segments = Vec::new();
    let entries = disk.list("").map_err(|e| StoreError::io("list", disk.display(""), e))?;
    for entry in entries {
        let Some(number) = segment::file_number(&entry.name) else { continue };
        segments.extend(look(disk, store, number, entry.kind)?);
    }
    segments.sort_by_key(|s| s.number);
    let mut survey = Survey { store_id: store, segments, missing: Vec::new(), proof };
    survey.assume_headers(disk)?;
    survey.walk();
    survey.scan_all(disk, depth, told)?;
    Ok(survey)
}

/// Opens a segment for reading, through a symbolic link too.
pub(super) fn open(disk: &dyn Disk, evidence: &SegmentEvidence) -> Result<Arc<dyn DiskFile>> {
    let access = if evidence.symlink { Access::ReadFollow } else { Access::Read };
    disk.open(&evidence.file, access).map_err(|e| StoreError::io("open", disk.display(&evidence.file), e))
}

/// Reads the header page of one segment file. `None` for a link that leads nowhere: the segment is missing.
fn look(disk: &dyn Disk, store: StoreId, number: u64, kind: FileKind) -> Result<Option<SegmentEvidence>> {
    let file = segment::file_name(number);
    let mut evidence = SegmentEvidence {
        number,
        symlink: kind == FileKind::Symlink,
        bytes: 0,
        header: Err(HeaderProblem::Damaged {
            what: "kind of file",
            found: format!("{kind:?}"),
            expected: "a regular file or a link to one".into(),
        }),
        assumed: None,
        runs: Vec::new(),
        damages: Vec::new(),
        end: End::Unread,
        file,
    };
    if !matches!(kind, FileKind::File | FileKind::Symlink) {
        return Ok(Some(evidence));
    }
    let opened = match open(disk, &evidence) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let fail = |e| StoreError::io("read", disk.display(&evidence.file), e);
    evidence.bytes = opened.len().map_err(fail)?;
    let mut page = vec![0; PAGE.min(usize::try_from(evidence.bytes).unwrap_or(PAGE))];
    opened.read_at(0, &mut page).map_err(fail)?;
    evidence.header = Header::parse(&page, store, number);
    Ok(Some(evidence))
}

impl Survey {
    /// Deduces the headers of segments whose page is damaged from their first record, where that is whole. Its
    /// checksums cover store, epoch, number and place, and its chain what the header would have said.
    fn assume_headers(&mut self, disk: &dyn Disk) -> Result<()> {
        let mut epochs: Vec<Epoch> = self.segments.iter().filter_map(|s| s.known()).map(|h| h.epoch).collect();
        epochs.extend(self.proof.control.as_ref().map(|c| c.epoch));
        epochs.push(Epoch::default());
        epochs.sort_unstable();
        epochs.dedup();
        let store = self.store_id;
        for evidence in &mut self.segments {
            if !matches!(evidence.header, Err(HeaderProblem::Damaged { .. })) || evidence.bytes <= SEGMENT_HEADER_BYTES
            {
                continue;
            }
            let file = open(disk, evidence)?;
            let mut window = Window::new(file, evidence.bytes);
            for epoch in &epochs {
                let found = assume(&mut window, store, *epoch, evidence);
                evidence.assumed = found.map_err(|e| StoreError::io("read", disk.display(&evidence.file), e))?;
                if evidence.assumed.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Goes from the newest segment back along what each names as the one before: finds what a fork left out, and
    /// what is missing. The control file knows of a newest one that is gone; below its lowest nothing is missed.
    fn walk(&mut self) {
        let control = self.proof.control.as_ref().map(|c| (c.lowest_segment.max(1), c.highest_segment));
        let mut ours = self.segments.iter().filter(|s| !self.proof.never_was(s)).map(|s| s.number);
        let present = ours.next().map(|first| (first, ours.next_back().unwrap_or(first)));
        let lowest = control.map(|c| c.0).or(present.map(|p| p.0)).unwrap_or(1);
        let mut expected = control.map_or(0, |c| c.1).max(present.map_or(0, |p| p.1));
        for evidence in self.segments.iter_mut().rev() {
            if evidence.number > expected {
                evidence.end = End::Superseded;
                continue;
            }
            if evidence.number < expected && lowest <= expected {
                self.missing.push(lowest.max(evidence.number + 1)..=expected);
            }
            expected = evidence.previous();
        }
        if lowest <= expected {
            self.missing.push(lowest..=expected);
        }
        self.missing.retain(|range| !range.is_empty());
        self.missing.reverse();
    }

    /// Files with a segment's name that hold nothing and never held anything: they are set aside when the log goes on.
    pub fn strangers(&self) -> impl Iterator<Item = &SegmentEvidence> {
        self.segments.iter().filter(|s| !s.live() && self.proof.never_was(s))
    }

    fn scan_all(&mut self, disk: &dyn Disk, depth: Depth, told: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let live: Vec<usize> = (0..self.segments.len()).filter(|i| self.segments[*i].live()).collect();
        let mut before = Before { lsn: Lsn::ZERO, checksum: 0, epoch: self.nearest_epoch() };
        for (nth, index) in live.iter().enumerate() {
            told(nth as u64, live.len() as u64);
            let after = self.after(live.get(nth + 1).copied(), *index);
            let evidence = &mut self.segments[*index];
            if let (Depth::From(from), After::Segment { lsn, checksum, .. }, Ok(h)) = (depth, &after, &evidence.header)
                && *lsn <= from
            {
                before = Before { lsn: *lsn, checksum: *checksum, epoch: h.epoch };
                continue;
            }
            judge(disk, evidence, &after, &self.proof, &before, self.store_id)?;
            if let Some(run) = evidence.runs.last() {
                let epoch = evidence.known().map_or(before.epoch, |h| h.epoch);
                before = Before { lsn: run.last_lsn, checksum: run.checksum, epoch };
            }
        }
        Ok(())
    }

    /// Epoch to try for a segment that does not tell its own and has none before it.
    fn nearest_epoch(&self) -> Epoch {
        let first = self.segments.iter().find_map(|s| s.known()).map(|h| h.epoch);
        first.or(self.proof.control.as_ref().map(|c| c.epoch)).unwrap_or_default()
    }

    /// What follows the segment at `index`, if `next` is the next one there is.
    fn after(&self, next: Option<usize>, index: usize) -> After {
        let number = self.segments[index].number;
        let later = |file: String| After::Something { file };
        match next.map(|i| &self.segments[i]) {
            Some(next) if next.previous() != number => later(next.file.clone()),
            Some(next) => match next.known() {
                Some(h) if h.previous_checksum != 0 => {
                    After::Segment { file: next.file.clone(), lsn: h.previous_lsn, checksum: h.previous_checksum }
                }
                _ => later(next.file.clone()),
            },
            None if self.proof.control.as_ref().is_some_and(|c| c.highest_segment > number) => {
                later(segment::file_name(number + 1))
            }
            None => After::Nothing,
        }
    }
}

/// The header that a damaged page must have held, if the first record is one of this epoch.
fn assume(window: &mut Window, store: StoreId, epoch: Epoch, evidence: &SegmentEvidence) -> io::Result<Option<Header>> {
    let seed = Seed::new(store, epoch, evidence.number);
    let Ok((first, payload)) = scan::read(window, seed, SEGMENT_HEADER_BYTES)? else { return Ok(None) };
    let fork = match record::Kind::from_number(first.kind) {
        Some(record::Kind::Fork) => super::payload::Fork::decode(payload).ok(),
        _ => None,
    };
    let before = if first.lsn <= Lsn(1) { 0 } else { evidence.number - 1 };
    let header = Header {
        version: segment::VERSION,
        store_id: store,
        epoch,
        number: evidence.number,
        previous: fork.map_or(before, |f| f.previous),
        first_lsn: first.lsn,
        previous_lsn: fork.map_or(Lsn(first.lsn.0.saturating_sub(1)), |f| f.reached),
        previous_checksum: first.previous,
        segment_bytes: evidence.bytes,
        created: first.time,
    };
    Ok(header.check(evidence.number).is_ok().then_some(header))
}

/// Smallest record, to bound how many a place can have held.
pub(super) const RECORD_BYTES_MIN: u64 = RECORD_HEADER_BYTES as u64;
