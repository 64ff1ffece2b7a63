//! Reads records again: those of the contiguous log in order, and those behind a damage.

use super::payload::{self, Changes, PayloadProblem};
use super::reach::{Reach, Stop};
use super::record::{Kind, RECORD_HEADER_BYTES, Seed};
use super::scan::{self, Run, Window};
use super::survey::{self, Survey};
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::model::{Change, LogPlace};

/// One record, borrowed from the read buffer.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Name of its segment file.
    pub file: &'a str,
    /// Number of its segment.
    pub segment: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Epoch of its segment.
    pub epoch: Epoch,
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub lsn: Lsn,
    /// Highest LSN known synced when it was encoded; zero if nothing is claimed.
    pub durable: Lsn,
    /// When.
    pub time: Micros,
    /// Its checksum.
    pub checksum: u32,
    /// Its payload.
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// True for a transaction, with bodies or without.
    #[must_use]
    pub fn is_transaction(&self) -> bool {
        matches!(self.kind, Kind::Transaction | Kind::Bodied)
    }

    /// Where each of its bodies stands.
    ///
    /// # Errors
    /// If the payload is not one, with file and offset.
    pub fn bodies(&self) -> Result<Vec<LogPlace>> {
        if self.kind != Kind::Bodied {
            return Ok(Vec::new());
        }
        let bodies = payload::bodied(self.payload).map_err(|p| self.corrupt(p))?.bodies;
        let start = self.offset + RECORD_HEADER_BYTES as u64;
        Ok(bodies.iter().map(|body| LogPlace { segment: self.segment, offset: start + body.at as u64 }).collect())
    }

    /// The changes of a transaction; none for other kinds.
    ///
    /// # Errors
    /// If the payload is not one, with file and offset.
    pub fn changes(&self) -> Result<Changes<'_>> {
        match self.kind {
            Kind::Transaction => payload::changes(self.payload).map_err(|p| self.corrupt(p)),
            Kind::Bodied => {
                let changes = payload::bodied(self.payload).and_then(|bodied| payload::changes(bodied.changes));
                changes.map_err(|p| self.corrupt(p))
            }
            Kind::Seal | Kind::Fork => Ok(Changes::none()),
        }
    }

    /// Calls `each` with every change of a transaction, in order.
    ///
    /// # Errors
    /// If the payload is not one, with file and offset; those of `each`.
    pub fn for_each_change(&self, each: &mut dyn FnMut(Change<'_>) -> Result<()>) -> Result<()> {
        self.changes()?.try_for_each(|change| each(change.map_err(|p| self.corrupt(p))?))
    }

    /// A problem of this record's payload as an error. Its checksums are right, so a newer program wrote it, or a bug.
    #[must_use]
    pub fn corrupt(&self, problem: PayloadProblem) -> StoreError {
        StoreError::Corrupt {
            file: self.file.to_owned(),
            offset: self.offset,
            what: format!("payload of LSN {}: {}", self.lsn, problem.what),
            found: problem.found,
            expected: problem.expected,
        }
    }
}

/// What a pass over records has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayStats {
    /// Records.
    pub records: u64,
    /// Those that are transactions.
    pub transactions: u64,
    /// Bytes, headers included.
    pub bytes: u64,
    /// LSN of the first; zero if there was none.
    pub first: Lsn,
    /// LSN of the last.
    pub last: Lsn,
    /// Time of the last.
    pub last_time: Micros,
}

impl ReplayStats {
    fn count(&mut self, record: &RecordRef<'_>, bytes: u64) {
        if self.records == 0 {
            self.first = record.lsn;
        }
        self.records += 1;
        self.transactions += u64::from(record.is_transaction());
        self.bytes += bytes;
        (self.last, self.last_time) = (record.lsn, record.time);
    }
}

type Each<'e> = &'e mut dyn FnMut(&RecordRef<'_>) -> Result<()>;

/// Reads the contiguous log behind the state at `from` in `epoch`, up to and with `to`. Both checksums of each record
/// are verified again.
///
/// # Errors
/// Those of the disk and of `each`; if the log does not lead to `to`, or changed since the survey.
pub fn replay(
    disk: &dyn Disk,
    survey: &Survey,
    epoch: Epoch,
    from: Lsn,
    to: Lsn,
    each: Each<'_>,
) -> Result<ReplayStats> {
    let mut stats = ReplayStats { last: from, ..ReplayStats::default() };
    if to <= from {
        return Ok(stats);
    }
    let runs = survey.runs();
    let start = survey.start(&runs, epoch, from).ok_or_else(|| short(from, to))?;
    for (nth, (index, run)) in runs.iter().enumerate().skip(start) {
        if nth > start && (stats.last >= to || !survey.follows(runs[nth - 1], (*index, run))) {
            break;
        }
        read_run(disk, survey, *index, run, from, to, &mut stats, each)?;
    }
    if stats.last < to { Err(short(stats.last, to)) } else { Ok(stats) }
}

fn short(reached: Lsn, wanted: Lsn) -> StoreError {
    StoreError::Bug(format!("replay to LSN {wanted} asked of a log that leads to {reached}"))
}

/// Reads every valid record behind `reach`, wherever it stands: what a start that ends at `reach` gives up.
///
/// # Errors
/// As [`records`].
pub fn salvage(disk: &dyn Disk, survey: &Survey, reach: &Reach, each: Each<'_>) -> Result<ReplayStats> {
    records(disk, survey, reach.lsn, Lsn(u64::MAX), each)
}

/// Reads every valid record of the live segments that were surveyed, with `from < LSN <= to`. LSNs rise, with gaps
/// where records are damaged and where an epoch begins.
///
/// # Errors
/// Those of the disk and of `each`.
pub fn records(disk: &dyn Disk, survey: &Survey, from: Lsn, to: Lsn, each: Each<'_>) -> Result<ReplayStats> {
    let mut stats = ReplayStats::default();
    for (index, run) in survey.runs() {
        if run.last_lsn > from && run.first_lsn <= to {
            read_run(disk, survey, index, run, from, to, &mut stats, each)?;
        }
    }
    Ok(stats)
}

/// The place right behind `lsn`, for a history that ends there although the log goes on.
///
/// # Errors
/// Those of the disk; if the log does not lead from `from` to `lsn`.
pub fn reach_until(disk: &dyn Disk, survey: &Survey, epoch: Epoch, from: Lsn, lsn: Lsn) -> Result<Reach> {
    let whole = survey.reach(epoch, from);
    if lsn >= whole.lsn {
        return if lsn == whole.lsn { Ok(whole) } else { Err(short(whole.lsn, lsn)) };
    }
    let mut reach = Reach { lsn, epoch, checksum: None, place: None, stop: Stop::End, ..whole };
    let runs = survey.runs();
    let start = survey.start(&runs, epoch, from).map(|at| runs[at]).ok_or_else(|| short(from, lsn))?;
    if lsn == from && start.1.first_lsn > lsn {
        // It begins right behind it.
        (reach.checksum, reach.place) =
            (Some(start.1.previous), Some((survey.segments[start.0].number, start.1.offset)));
        return Ok(reach);
    }
    // With its last record, where that is all.
    let from = if lsn == from { Lsn(from.0.saturating_sub(1)) } else { from };
    replay(disk, survey, epoch, from, lsn, &mut |record| {
        reach.epoch = record.epoch;
        reach.checksum = Some(record.checksum);
        reach.time = record.time;
        reach.place = Some((record.segment, record.offset + scan::record_bytes(record.payload.len())));
        Ok(())
    })?;
    Ok(reach)
}

/// Reads the records of one run with `from < LSN <= to`.
#[expect(clippy::too_many_arguments, reason = "one loop body, called from two loops")]
fn read_run(
    disk: &dyn Disk,
    survey: &Survey,
    index: usize,
    run: &Run,
    from: Lsn,
    to: Lsn,
    stats: &mut ReplayStats,
    each: Each<'_>,
) -> Result<()> {
    let segment = &survey.segments[index];
    let epoch = survey.epoch(index);
    let seed = Seed::new(survey.store_id, epoch, segment.number);
    let mut window = Window::new(survey::open(disk, segment)?, run.end);
    let mut offset = run.offset;
    while offset < run.end {
        let read = scan::read(&mut window, seed, offset);
        let (header, payload) =
            read.map_err(|e| StoreError::io("read", disk.display(&segment.file), e))?.map_err(|fault| {
                StoreError::Corrupt {
                    file: segment.file.clone(),
                    offset,
                    what: format!("{} (right when it was surveyed)", fault.what),
                    found: fault.found,
                    expected: fault.expected,
                }
            })?;
        let bytes = scan::record_bytes(payload.len());
        if header.lsn > to {
            break;
        }
        if header.lsn > from {
            let kind = Kind::from_number(header.kind).ok_or_else(|| StoreError::Foreign {
                file: segment.file.clone(),
                what: "record kind",
                found: header.kind.to_string(),
                expected: "1 to 4".into(),
            })?;
            let record = RecordRef {
                file: &segment.file,
                segment: segment.number,
                offset,
                epoch,
                kind,
                lsn: header.lsn,
                durable: header.durable,
                time: header.time,
                checksum: header.checksum,
                payload,
            };
            each(&record)?;
            stats.count(&record, bytes);
        }
        offset += bytes;
    }
    Ok(())
}
