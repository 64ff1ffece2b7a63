//! Evidence: what the log holds, how each segment ends, what is missing. Reads only; decides nothing (I7).

use super::control::ControlState;
use super::record::{self, RECORD_HEADER_BYTES, Seed};
use super::scan::{self, Bounds, Gap, Run, Scan, UnknownKind, Window};
use super::segment::{self, Header, HeaderProblem, PAGE, SEGMENT_HEADER_BYTES};
use crate::disk::{Access, Disk, DiskFile, Kind as FileKind};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
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
    #[error("the database holds everything up to LSN {0}")]
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
    /// A fork left this segment out of history.
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

/// Looks at every segment on `disk`.
///
/// # Errors
/// Only those of the disk; everything about the content is evidence.
pub fn survey(disk: &dyn Disk, store: StoreId, proof: Proof, depth: Depth) -> Result<Survey> {
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
    survey.scan_all(disk, depth)?;
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
        let present = self.segments.first().map(|s| s.number).zip(self.segments.last().map(|s| s.number));
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

    fn scan_all(&mut self, disk: &dyn Disk, depth: Depth) -> Result<()> {
        let live: Vec<usize> = (0..self.segments.len()).filter(|i| self.segments[*i].live()).collect();
        let mut before = Before { lsn: Lsn::ZERO, checksum: 0, epoch: self.nearest_epoch() };
        for (nth, index) in live.iter().enumerate() {
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
    Ok(Some(Header {
        store_id: store,
        epoch,
        number: evidence.number,
        previous: fork.map_or(before, |f| f.previous),
        first_lsn: first.lsn,
        previous_lsn: fork.map_or(Lsn(first.lsn.0.saturating_sub(1)), |f| f.reached),
        previous_checksum: first.previous,
        segment_bytes: evidence.bytes,
        created: first.time,
    }))
}

/// What proves where a segment ends.
enum After {
    /// The next segment says so.
    Segment { file: String, lsn: Lsn, checksum: u32 },
    /// There is or was a later segment, which does not say it.
    Something { file: String },
    /// It is the last one.
    Nothing,
}

/// Where the log stands in front of a segment.
struct Before {
    lsn: Lsn,
    checksum: u32,
    epoch: Epoch,
}

impl Before {
    /// What to read a segment by whose header and first record are gone: its records still carry their own proof.
    fn guess(&self, store: StoreId, evidence: &SegmentEvidence) -> Header {
        Header {
            store_id: store,
            epoch: self.epoch,
            number: evidence.number,
            previous: evidence.number - 1,
            first_lsn: self.lsn.next(),
            previous_lsn: self.lsn,
            previous_checksum: self.checksum,
            segment_bytes: evidence.bytes,
            created: Micros::default(),
        }
    }
}

/// Reads one segment and tells torn from damaged.
fn judge(
    disk: &dyn Disk,
    evidence: &mut SegmentEvidence,
    after: &After,
    proof: &Proof,
    before: &Before,
    store: StoreId,
) -> Result<()> {
    let header = match (&evidence.header, &evidence.assumed) {
        (Ok(header), _) | (Err(HeaderProblem::Damaged { .. }), Some(header)) => header.clone(),
        (Err(HeaderProblem::Damaged { .. }), None) if evidence.bytes > SEGMENT_HEADER_BYTES => {
            before.guess(store, evidence)
        }
        (Err(HeaderProblem::Damaged { .. }), None) => {
            evidence.damages.extend(header_damage(evidence, Some(before.lsn.next())));
            evidence.end = End::Damaged;
            return Ok(());
        }
        (Err(HeaderProblem::Newer { .. } | HeaderProblem::Foreign { .. }), _) => return Ok(()),
    };
    let target = match after {
        After::Segment { lsn, checksum, .. } => Some((*lsn, *checksum)),
        _ => None,
    };
    let bounds = Bounds {
        first_lsn: header.first_lsn,
        previous_lsn: header.previous_lsn,
        previous_checksum: header.previous_checksum,
        created: header.created,
        target,
    };
    let mut window = Window::new(open(disk, evidence)?, evidence.bytes.min(header.segment_bytes));
    let seed = Seed::new(header.store_id, header.epoch, header.number);
    let scan =
        scan::scan(&mut window, seed, &bounds).map_err(|e| StoreError::io("read", disk.display(&evidence.file), e))?;
    classify(evidence, scan, &header, after, proof);
    Ok(())
}

/// A damaged header page. `lsn`: the first record that cannot be read because of it.
fn header_damage(evidence: &SegmentEvidence, lsn: Option<Lsn>) -> Option<Damage> {
    let Err(HeaderProblem::Damaged { what, found, expected }) = &evidence.header else { return None };
    Some(Damage {
        offset: 0,
        bytes: evidence.bytes.min(SEGMENT_HEADER_BYTES),
        lsn,
        what: (*what).to_owned(),
        found: found.clone(),
        expected: expected.clone(),
        proof: ProvedBy::Name,
    })
}

/// The torn-versus-damaged rule.
fn classify(evidence: &mut SegmentEvidence, scan: Scan, header: &Header, after: &After, proof: &Proof) {
    let Scan { mut runs, gaps, unknown, met, behind } = scan;
    let records = runs.iter().map(|r| r.durable).max().unwrap_or_default();
    let judge = Judge { after, cut: evidence.bytes < header.segment_bytes, records, proof };
    let data_end = gaps.last().map_or(0, |g| g.offset + g.bytes).max(runs.last().map_or(0, |r| r.end));
    let tail_gap = gaps.last().is_some_and(|gap| gap.after == runs.len());
    let mut damages = Vec::new();
    let mut end = if tail_gap { End::Damaged } else { End::Clean };
    for gap in &gaps {
        let Some(by) = judge.proves(gap.lsn) else {
            let records = runs.drain(gap.after..).map(|r| r.last_lsn.0 - r.first_lsn.0 + 1).sum();
            end = End::Torn { offset: gap.offset, bytes: data_end - gap.offset, records };
            break;
        };
        damages.push(damage_of(gap, by));
    }
    let whole = met || unknown.is_some();
    if let (false, End::Clean, Some(run)) = (whole, &end, runs.last())
        && let Some(damage) = judge.vanished(run)
    {
        damages.push(damage);
        end = End::Damaged;
    }
    if evidence.bytes != header.segment_bytes {
        let next = runs.last().map(|r| r.last_lsn.next()).filter(|_| end == End::Clean && judge.cut && !whole);
        if next.is_some() {
            end = End::Damaged;
        }
        damages.push(wrong_length(evidence, header, next));
    }
    if let Some(run) = runs.last().filter(|_| met && behind > 0) {
        end = End::Surplus { offset: run.end, bytes: behind };
    }
    evidence.end = unknown.map_or(end, End::Newer);
    conclude(evidence, runs, damages, header);
}

/// Puts the header's own damage in front. Where the header was only guessed, the run that states nothing but the guess
/// goes.
fn conclude(evidence: &mut SegmentEvidence, mut runs: Vec<Run>, damages: Vec<Damage>, header: &Header) {
    let guessed = evidence.known().is_none();
    if guessed && runs.first().is_some_and(Run::is_empty) {
        runs.remove(0);
    }
    let readable = runs.first().is_some_and(|r| r.first_lsn == header.first_lsn);
    let lost = (guessed && !readable).then_some(header.first_lsn);
    if guessed && runs.is_empty() {
        evidence.end = End::Damaged;
    }
    evidence.damages.extend(header_damage(evidence, lost));
    evidence.damages.extend(damages);
    evidence.runs = runs;
}

/// The evidence that a place was durable once.
struct Judge<'a> {
    after: &'a After,
    /// The file is shorter than it was made.
    cut: bool,
    /// Highest durable LSN that a record of this segment states.
    records: Lsn,
    proof: &'a Proof,
}

impl Judge<'_> {
    /// What proves that the record with this LSN was durable; `None` if nothing does.
    fn proves(&self, lsn: Lsn) -> Option<ProvedBy> {
        let control = self.proof.control.as_ref().map(ControlState::proves).unwrap_or_default();
        let database = self.proof.applied_lsn.unwrap_or_default();
        match self.after {
            After::Segment { file, .. } | After::Something { file } => Some(ProvedBy::LaterSegment(file.clone())),
            After::Nothing if self.records >= lsn => Some(ProvedBy::LaterRecord(self.records)),
            After::Nothing if control >= lsn => Some(ProvedBy::Control(control)),
            After::Nothing if database >= lsn => Some(ProvedBy::Database(database)),
            After::Nothing => self.cut.then_some(ProvedBy::Length),
        }
    }

    /// Records behind `run` that something proves and of which nothing but zeros is left.
    fn vanished(&self, run: &Run) -> Option<Damage> {
        let next = run.last_lsn.next();
        let (lsn, expected, proof) = match self.after {
            After::Segment { file, lsn, checksum } => {
                let expected = format!("LSN {lsn} with checksum {checksum:08x}, as {file} states");
                (next.min(*lsn), expected, ProvedBy::LaterSegment(file.clone()))
            }
            After::Something { .. } => return None,
            After::Nothing => match self.proves(next)? {
                ProvedBy::Length => return None,
                proof => (next, format!("LSN {next}"), proof),
            },
        };
        Some(Damage {
            offset: run.end,
            bytes: 0,
            lsn: Some(lsn),
            what: "end of the records".to_owned(),
            found: format!("LSN {} with checksum {:08x}", run.last_lsn, run.checksum),
            expected,
            proof,
        })
    }
}

fn damage_of(gap: &Gap, proof: ProvedBy) -> Damage {
    Damage {
        offset: gap.offset,
        bytes: gap.bytes,
        lsn: Some(gap.lsn),
        what: gap.fault.what.to_owned(),
        found: gap.fault.found.clone(),
        expected: gap.fault.expected.clone(),
        proof,
    }
}

fn wrong_length(evidence: &SegmentEvidence, header: &Header, lsn: Option<Lsn>) -> Damage {
    Damage {
        offset: evidence.bytes.min(header.segment_bytes),
        bytes: evidence.bytes.abs_diff(header.segment_bytes),
        lsn,
        what: "file length".to_owned(),
        found: evidence.bytes.to_string(),
        expected: header.segment_bytes.to_string(),
        proof: ProvedBy::Length,
    }
}

/// Smallest record, to bound how many a place can have held.
pub(super) const RECORD_BYTES_MIN: u64 = RECORD_HEADER_BYTES as u64;
