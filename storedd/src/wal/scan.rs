//! Reads one segment from its first record to its end, and finds every valid record behind a bad place too.

use super::payload::Fork;
use super::record::{self, Fault, Kind, RECORD_HEADER_BYTES, RecordHeader, Seed};
use super::segment::SEGMENT_HEADER_BYTES;
use crate::disk::DiskFile;
use crate::lsn::{Lsn, Micros};
use crate::planted::{self, Bug};
use std::io;
use std::sync::Arc;

/// Bytes read at once.
const READ_BYTES: usize = 2 << 20;
/// Runs kept of one segment. Damage makes a run each; a segment in more pieces than this is given up behind them.
const RUNS_MAX: usize = 4096;
/// A search behind a bad place checks at most so many times the segment's bytes, so that no content makes it slow.
const SEARCH_FACTOR: u64 = 8;

/// A moving window over a file, for reading it from front to back in large steps.
#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn DiskFile>,
    /// First byte that must not be read.
    limit: u64,
    start: u64,
    filled: usize,
    buffer: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<dyn DiskFile>, limit: u64) -> Window {
        Window { file, limit, start: 0, filled: 0, buffer: Vec::new() }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// `len` bytes at `offset`; the caller has seen to it that they end at or before the limit.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let held = offset >= self.start && offset + len as u64 <= self.start + self.filled as u64;
        if !held {
            self.fill(offset, len)?;
        }
        let at = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        self.buffer.get(at..at + len).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Reads on from `offset`. Twice as much each time, so that a short look costs little and a long one few calls.
    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let goal = (self.filled * 2).clamp(READ_BYTES / 32, READ_BYTES).max(len);
        let left = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = goal.min(left);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        self.filled = 0;
        self.file.read_at(offset, &mut self.buffer[..wanted])?;
        self.start = offset;
        self.filled = wanted;
        Ok(())
    }

    /// A stretch of what lies at `offset`, as long as the window holds or can get at once; empty at the limit.
    pub(super) fn some(&mut self, offset: u64) -> io::Result<&[u8]> {
        if offset >= self.limit {
            return Ok(&[]);
        }
        let end = self.start + self.filled as u64;
        let len = if offset >= self.start && offset < end { end - offset } else { 0 };
        match usize::try_from(len).unwrap_or(0) {
            0 => {
                self.fill(offset, 1)?;
                Ok(&self.buffer[..self.filled])
            }
            len => self.get(offset, len),
        }
    }

    /// Offset behind the last byte that is not zero, from `offset` on; `offset` itself if there is none.
    pub(super) fn end_of_data(&mut self, offset: u64) -> io::Result<u64> {
        let (mut at, mut end) = (offset, offset);
        while at < self.limit {
            let bytes = self.some(at)?;
            let (len, last) = (bytes.len() as u64, last_nonzero(bytes));
            if let Some(last) = last {
                end = at + last as u64 + 1;
            }
            at += len;
        }
        Ok(end)
    }
}

/// Index of the last byte that is not zero. Compares page by page: the rest of a segment is mostly zeros.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end > 0 {
        let start = (end - 1) / ZEROS.len() * ZEROS.len();
        let page = &bytes[start..end];
        if *page != ZEROS[..page.len()] {
            return page.iter().rposition(|b| *b != 0).map(|at| start + at);
        }
        end = start;
    }
    None
}

/// Bytes that a record with a payload of this length takes.
pub(super) fn record_bytes(payload: usize) -> u64 {
    (RECORD_HEADER_BYTES + payload) as u64
}

/// Reads the record at `offset` with both its checksums.
pub(super) fn read(window: &mut Window, seed: Seed, offset: u64) -> io::Result<Result<(RecordHeader, &[u8]), Fault>> {
    let room = window.limit().saturating_sub(offset);
    if room < RECORD_HEADER_BYTES as u64 {
        return Ok(Err(Fault::new("room for a record header", room, RECORD_HEADER_BYTES)));
    }
    let bytes = window.get(offset, RECORD_HEADER_BYTES)?;
    let parsed = bytes.try_into().map_err(|_| Fault::new("record header", bytes.len(), RECORD_HEADER_BYTES));
    let header = match parsed.and_then(|bytes| record::parse(seed, offset, bytes)) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    let total = RECORD_HEADER_BYTES + header.len;
    if total as u64 > room {
        return Ok(Err(Fault::new("record length", total, format_args!("at most {room}"))));
    }
    let payload = &window.get(offset, total)?[RECORD_HEADER_BYTES..];
    let crc = seed.payload(header.kind, payload);
    if crc != header.payload_crc && !planted::on(Bug::RecordPayloadChecksumIgnored) {
        let expected = format!("{:08x}", header.payload_crc);
        return Ok(Err(Fault::new("record payload checksum", format_args!("{crc:08x}"), expected)));
    }
    if header.kind == Kind::Bodied as u8
        && let Err(e) = super::payload::check_bodies(payload)
    {
        return Ok(Err(Fault::new(e.what, e.found, e.expected)));
    }
    Ok(Ok((header, payload)))
}

/// Valid records, one behind the other, LSNs and chain without a gap. The first run of a segment begins with the
/// header and may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where the first record begins.
    pub offset: u64,
    /// Where the last record ends.
    pub end: u64,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// LSN of the last record; of the one before the first where there is none.
    pub last_lsn: Lsn,
    /// What the first record names as the checksum of the one before.
    pub previous: u32,
    /// Checksum of the last record.
    pub checksum: u32,
    /// Time of the first record.
    pub first_time: Micros,
    /// Time of the last record.
    pub last_time: Micros,
    /// Highest durable LSN that any of its records claims.
    pub durable: Lsn,
    /// Where its first record is a fork: what that says.
    pub fork: Option<Fork>,
}

impl Run {
    /// A run without a record yet, in front of the record with this LSN.
    fn empty(offset: u64, lsn: Lsn, previous: u32, time: Micros) -> Run {
        Run {
            offset,
            end: offset,
            first_lsn: lsn,
            last_lsn: Lsn(lsn.0.saturating_sub(1)),
            previous,
            checksum: previous,
            first_time: time,
            last_time: time,
            durable: Lsn::ZERO,
            fork: None,
        }
    }

    /// True if it holds no record: it then only states what the first one would be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.offset
    }

    fn extend(&mut self, header: &RecordHeader, fork: Option<Fork>) {
        if self.is_empty() {
            self.first_time = header.time;
            self.fork = fork;
        }
        self.end += record_bytes(header.len);
        self.last_lsn = header.lsn;
        self.checksum = header.checksum;
        self.last_time = header.time;
        self.durable = self.durable.max(header.durable);
    }
}

/// A place where a record was expected and none is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub offset: u64,
    /// Bytes up to the next valid record, or up to the last byte that is not zero.
    pub bytes: u64,
    /// LSN that was expected.
    pub lsn: Lsn,
    pub fault: Fault,
    /// Number of runs in front of it.
    pub after: usize,
}

/// A valid record whose kind this program does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKind {
    /// Where.
    pub offset: u64,
    /// Its LSN.
    pub lsn: Lsn,
    /// Its kind's number.
    pub kind: u8,
}

/// Everything that one pass over a segment found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub runs: Vec<Run>,
    pub gaps: Vec<Gap>,
    pub unknown: Option<UnknownKind>,
    /// True if the target was met; the pass ended there.
    pub met: bool,
    /// Bytes that are not zero behind the place where the pass ended.
    pub behind: u64,
}

/// What the first record of a segment must be, and the place where the segment after it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub first_lsn: Lsn,
    pub previous_lsn: Lsn,
    pub previous_checksum: u32,
    pub created: Micros,
    /// LSN and checksum of the last record, where a later segment states them.
    pub target: Option<(Lsn, u32)>,
}

/// Reads a segment.
pub(super) fn scan(window: &mut Window, seed: Seed, bounds: &Bounds) -> io::Result<Scan> {
    let mut pass = Pass {
        found: Scan::default(),
        at: SEGMENT_HEADER_BYTES,
        lsn: bounds.first_lsn,
        chain: Some(bounds.previous_checksum),
        data_end: None,
        budget: window.limit().saturating_mul(SEARCH_FACTOR),
    };
    let first = Run::empty(pass.at, bounds.first_lsn, bounds.previous_checksum, bounds.created);
    pass.found.runs.push(first);
    let nothing_to_come = bounds.target == Some((bounds.previous_lsn, bounds.previous_checksum));
    pass.found.met = nothing_to_come;
    while !pass.found.met && pass.found.unknown.is_none() {
        if !pass.step(window, seed, bounds.target)? {
            return Ok(pass.found);
        }
    }
    pass.found.behind = window.end_of_data(pass.at)? - pass.at;
    Ok(pass.found)
}

/// Reads the rest of a segment, from `start` on, of which nobody knows with which record it begins.
pub(super) fn rest(window: &mut Window, seed: Seed, start: u64) -> io::Result<Vec<Run>> {
    let budget = window.limit().saturating_sub(start).saturating_mul(SEARCH_FACTOR);
    let mut pass = Pass { found: Scan::default(), at: start, lsn: Lsn(1), chain: None, data_end: None, budget };
    let mut goes_on = pass.gap(window, seed, Fault::new("record", "the rest of a segment", "one"))?;
    while goes_on && pass.found.unknown.is_none() {
        goes_on = pass.step(window, seed, None)?;
    }
    Ok(pass.found.runs)
}

struct Pass {
    found: Scan,
    at: u64,
    /// LSN of the next record, and the checksum it must be chained to; the latter is unknown behind a gap.
    lsn: Lsn,
    chain: Option<u32>,
    /// Offset behind the last byte that is not zero, once it was looked for: not again at each of many bad places.
    data_end: Option<u64>,
    /// Payload bytes that searches may still check.
    budget: u64,
}

impl Pass {
    /// One record, or one gap. False at the end of the segment.
    fn step(&mut self, window: &mut Window, seed: Seed, target: Option<(Lsn, u32)>) -> io::Result<bool> {
        let fault = match read(window, seed, self.at)? {
            Ok((header, payload)) => match self.fits(&header, payload) {
                Ok(fork) => {
                    self.accept(&header, fork);
                    self.found.met = target == Some((header.lsn, header.checksum));
                    return Ok(true);
                }
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        self.gap(window, seed, fault)
    }

    /// Checks that a valid record is the one expected here; gives the fork it states, if it is one.
    fn fits(&self, header: &RecordHeader, payload: &[u8]) -> Result<Option<Fork>, Fault> {
        if header.lsn != self.lsn {
            return Err(Fault::new("LSN", header.lsn, self.lsn));
        }
        let chain = self.chain.filter(|chain| *chain != header.previous && !planted::on(Bug::RecordChainIgnored));
        if let Some(chain) = chain {
            let (found, expected) = (format!("{:08x}", header.previous), format!("{chain:08x}"));
            return Err(Fault::new("checksum of the record before", found, expected));
        }
        match Kind::from_number(header.kind) {
            Some(Kind::Fork) if self.at != SEGMENT_HEADER_BYTES => {
                Err(Fault::new("place of a fork record", self.at, SEGMENT_HEADER_BYTES))
            }
            Some(Kind::Fork) => match Fork::decode(payload) {
                Ok(fork) if fork.first == header.lsn => Ok(Some(fork)),
                Ok(fork) => Err(Fault::new("first LSN of a fork", fork.first, header.lsn)),
                Err(e) => Err(Fault::new(e.what, e.found, e.expected)),
            },
            Some(Kind::Seal) if header.len != 0 => Err(Fault::new("payload bytes of a seal", header.len, 0)),
            _ => Ok(None),
        }
    }

    fn accept(&mut self, header: &RecordHeader, fork: Option<Fork>) {
        if Kind::from_number(header.kind).is_none() {
            self.found.unknown = Some(UnknownKind { offset: self.at, lsn: header.lsn, kind: header.kind });
            return;
        }
        if self.found.gaps.last().is_some_and(|gap| gap.after == self.found.runs.len()) {
            self.found.runs.push(Run::empty(self.at, header.lsn, header.previous, header.time));
        }
        if let Some(run) = self.found.runs.last_mut() {
            run.extend(header, fork);
            self.at = run.end;
        }
        self.lsn = header.lsn.next();
        self.chain = Some(header.checksum);
    }

    /// Notes a gap and goes to the next valid record behind it. False if there is none.
    fn gap(&mut self, window: &mut Window, seed: Seed, fault: Fault) -> io::Result<bool> {
        let (offset, lsn, after) = (self.at, self.lsn, self.found.runs.len());
        let data_end = match self.data_end {
            Some(end) => end.max(offset),
            None => *self.data_end.insert(window.end_of_data(offset)?),
        };
        if data_end == offset {
            return Ok(false);
        }
        let next = if after < RUNS_MAX { self.search(window, seed, data_end)? } else { None };
        let end = next.as_ref().map_or(data_end, |(at, _)| *at);
        self.found.gaps.push(Gap { offset, bytes: end - offset, lsn, fault, after });
        let Some((at, header)) = next else { return Ok(false) };
        (self.at, self.lsn, self.chain) = (at, header.lsn, None);
        Ok(true)
    }

    /// The next valid record before `end`, from the present place on, whose LSN is not older than the one expected.
    /// Nothing inside a payload can look valid: the checksum covers the place.
    fn search(&mut self, window: &mut Window, seed: Seed, end: u64) -> io::Result<Option<(u64, RecordHeader)>> {
        let mut at = self.at;
        while at < end {
            let bytes = window.some(at)?;
            let Some(skip) = bytes.iter().position(|b| *b == record::MAGIC_FIRST) else {
                at += bytes.len() as u64;
                continue;
            };
            at += skip as u64;
            if let Some(header) = self.candidate(window, seed, at)? {
                return Ok(Some((at, header)));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The record at `at`, if a run may begin with it.
    fn candidate(&mut self, window: &mut Window, seed: Seed, at: u64) -> io::Result<Option<RecordHeader>> {
        let room = window.limit() - at;
        if room < RECORD_HEADER_BYTES as u64 || !record::looks_like(window.get(at, 2)?) {
            return Ok(None);
        }
        let Ok(bytes) = window.get(at, RECORD_HEADER_BYTES)?.try_into() else { return Ok(None) };
        let Ok(header) = record::parse(seed, at, bytes) else { return Ok(None) };
        let cost = header.len as u64;
        if header.lsn < self.lsn || cost > self.budget {
            return Ok(None);
        }
        self.budget -= cost;
        let sought = Pass { found: Scan::default(), at, lsn: header.lsn, chain: None, data_end: None, budget: 0 };
        Ok(read(window, seed, at)?
            .ok()
            .filter(|(header, payload)| sought.fits(header, payload).is_ok())
            .map(|(h, _)| h))
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::NewRecord;
    use super::*;
    use crate::disk::{Access, Disk, SimDisk};
    use crate::lsn::{Epoch, StoreId};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts the bytes read.
    #[derive(Debug)]
    struct Counting(Arc<dyn DiskFile>, AtomicU64);

    impl DiskFile for Counting {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
            self.0.read_at(offset, buf)
        }
        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    // A group that was never synced may have lost every second page, and a start must not take minutes for it.
    #[test]
    fn many_bad_places_are_found_in_a_few_passes() {
        const BYTES: usize = 8 << 20;
        const RECORDS: u64 = 2000;
        let seed = Seed::new(StoreId([7; 16]), Epoch(0), 1);
        let (mut bytes, mut previous) = (vec![0; SEGMENT_HEADER_BYTES as usize], 0);
        for lsn in 1..=RECORDS {
            let (kind, at) = (Kind::Transaction, bytes.len());
            let (lsn, durable, time, payload) = (Lsn(lsn), Lsn::ZERO, Micros(1), &[9; 300][..]);
            let record = NewRecord { kind, lsn, durable, time, previous, payload };
            previous = record::put(seed, at as u64, &record, &mut bytes);
            if lsn.0.is_multiple_of(2) {
                bytes[at + 40] ^= 1;
            }
        }
        bytes.resize(BYTES, 0);
        let sim = SimDisk::new();
        sim.plant("log", &bytes).unwrap();
        let file = Arc::new(Counting(sim.open("log", Access::Read).unwrap(), AtomicU64::new(0)));
        let bounds = Bounds {
            first_lsn: Lsn(1),
            previous_lsn: Lsn::ZERO,
            previous_checksum: 0,
            created: Micros(1),
            target: None,
        };
        let found = scan(&mut Window::new(file.clone(), BYTES as u64), seed, &bounds).unwrap();
        assert_eq!((found.runs.len(), found.gaps.len()), (RECORDS as usize / 2, RECORDS as usize / 2));
        assert!(found.gaps.iter().zip(1..).all(|(gap, n)| gap.lsn == Lsn(2 * n)));
        let read = file.1.load(Ordering::Relaxed);
        assert!(read < 4 * BYTES as u64, "{read} bytes were read of {BYTES}");
    }
}
