//! How far the contiguous valid log leads from a given state, and what ends it. Pure: works on the evidence alone.

use super::scan::{Run, UnknownKind};
use super::segment::{self, HeaderProblem};
use super::survey::{Damage, End, RECORD_BYTES_MIN, SegmentEvidence, Survey};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros};

/// Most files that are named as missing: a list for people.
const NAMES_MAX: usize = 10_000;

/// What ends the contiguous log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Nothing: its last record was reached, and only zeros lie behind it.
    End,
    /// Its last record was reached; behind it lies a write that was never synced.
    Torn,
    /// A bad place.
    Damaged {
        /// The segment file.
        file: String,
        /// What and where.
        damage: Damage,
    },
    /// Segment files that must be there and are not.
    Missing(Vec<String>),
    /// The records behind the state begin only at this LSN; what came before is in the named file, which is not there
    /// (others before it may be needed too).
    Before {
        /// First LSN that the log holds.
        first: Lsn,
        /// File that must end right before it.
        file: String,
    },
    /// The log ends before the state.
    Behind {
        /// Last LSN of the log.
        last: Lsn,
    },
    /// The log went on from another LSN or another epoch than this state.
    OtherHistory,
    /// A record of a newer program.
    Newer {
        /// The segment file.
        file: String,
        /// What and where.
        record: UnknownKind,
    },
}

/// A place between two records, and what is known of the record before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Last LSN that can be reached.
    pub lsn: Lsn,
    /// Epoch of it.
    pub epoch: Epoch,
    /// Checksum of that record, if the log holds it or its successor.
    pub checksum: Option<u32>,
    /// Its time; zero if the log does not hold it.
    pub time: Micros,
    /// Segment in which the log goes on behind it, and the offset there.
    pub place: Option<(u64, u64)>,
    /// What ends it.
    pub stop: Stop,
}

impl Reach {
    /// True if nothing proves that the log once held more.
    #[must_use]
    pub fn whole(&self) -> bool {
        matches!(self.stop, Stop::End | Stop::Torn)
    }
}

/// A segment that holds part of a stretch of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub file: String,
    /// Where the stretch ends in it; `None`: behind its last record.
    pub end: Option<u64>,
}

/// A segment of an older format version than is written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Historic<'s> {
    /// Its file.
    pub file: &'s str,
    /// Its version.
    pub version: u32,
    /// It holds records that a replay needs.
    pub is_read: bool,
}

/// A run and the index of its segment.
pub(super) type Place<'s> = (usize, &'s Run);

impl Survey {
    /// Names of all segments that must exist and do not (the first 10,000).
    #[must_use]
    pub fn missing_files(&self) -> Vec<String> {
        self.missing.iter().flat_map(Clone::clone).take(NAMES_MAX).map(segment::file_name).collect()
    }

    /// Why nothing may be done with this log by this program: a segment of another store or of a newer version.
    #[must_use]
    pub fn refusal(&self) -> Option<StoreError> {
        self.segments.iter().find_map(|s| {
            let file = s.file.clone();
            let (what, found, expected) = match (&s.header, &s.end) {
                (Err(HeaderProblem::Unknown { found }), _) => {
                    let expected = format!("{} to {}", segment::VERSION_OLDEST, segment::VERSION);
                    ("format version", found.to_string(), expected)
                }
                (Err(HeaderProblem::Foreign { found, expected }), _) => {
                    ("store id", found.to_string(), expected.to_string())
                }
                (_, End::Newer(record)) => ("record kind", record.kind.to_string(), "1 to 3".to_owned()),
                _ => return None,
            };
            Some(StoreError::Foreign { file, what, found, expected })
        })
    }

    /// Everything that is wrong, as errors for people: missing files, damages.
    #[must_use]
    pub fn problems(&self) -> Vec<StoreError> {
        let missing = self.missing_files();
        let missing = (!missing.is_empty()).then_some(StoreError::Missing { files: missing });
        let damages = self.segments.iter().flat_map(|s| s.damages.iter().map(|d| d.error(&s.file)));
        missing.into_iter().chain(self.refusal()).chain(damages).collect()
    }

    /// Segments of an older format version than is written now; a replay goes on from `lsn`.
    #[must_use]
    pub fn historic(&self, lsn: Lsn) -> Vec<Historic<'_>> {
        let older = self.segments.iter().filter(|s| s.live()).filter_map(|s| {
            let version = s.known()?.version;
            (version < segment::VERSION).then(|| {
                let is_read = s.runs.last().is_some_and(|run| run.last_lsn > lsn);
                Historic { file: &s.file, version, is_read }
            })
        });
        older.collect()
    }

    /// Highest LSN that any evidence names: a fork begins above it.
    #[must_use]
    pub fn highest_lsn(&self) -> Lsn {
        let control = self.proof.control.as_ref().map(super::control::ControlState::proves);
        let headers = self.segments.iter().filter_map(|s| s.known()).map(|h| Lsn(h.first_lsn.0 - 1));
        let runs = self.segments.iter().flat_map(|s| &s.runs).map(|r| r.last_lsn.max(r.durable));
        headers.chain(runs).chain(control).chain(self.proof.applied_lsn).max().unwrap_or_default()
    }

    /// First LSN of a fork: above every LSN that this log may ever have used, readable or not, and round.
    #[must_use]
    pub fn fork_lsn(&self, reached: Lsn) -> Lsn {
        const ROUND: u64 = 1_000_000;
        let lost: u64 = self.missing.iter().map(|r| r.end() - r.start() + 1).sum();
        let size = self.segments.iter().map(|s| s.bytes).max().unwrap_or(segment::SEGMENT_BYTES_MAX);
        let unseen = (lost + self.segments.len() as u64 + 1).saturating_mul(size / RECORD_BYTES_MIN + 1);
        let above = self.highest_lsn().max(reached).0.saturating_add(unseen);
        Lsn((above / ROUND).saturating_add(1).saturating_mul(ROUND))
    }

    /// The epoch that a fork begins.
    #[must_use]
    pub fn next_epoch(&self) -> Epoch {
        Epoch(self.highest().1.0 + 1)
    }

    /// Highest segment number and epoch that any evidence names.
    pub(super) fn highest(&self) -> (u64, Epoch) {
        let control = self.proof.control.as_ref();
        let number = self.segments.last().map(|s| s.number).max(control.map(|c| c.highest_segment));
        let epoch = self.segments.iter().filter_map(|s| s.known()).map(|h| h.epoch).max();
        (number.unwrap_or(0), epoch.max(control.map(|c| c.epoch)).unwrap_or_default())
    }

    /// All runs of the live segments, in order.
    pub(super) fn runs(&self) -> Vec<Place<'_>> {
        let live = self.segments.iter().enumerate().filter(|(_, s)| s.live());
        live.flat_map(|(index, s)| s.runs.iter().map(move |run| (index, run))).collect()
    }

    /// Bytes of records in the runs that hold any behind `lsn`.
    #[must_use]
    pub fn bytes_behind(&self, lsn: Lsn) -> u64 {
        self.runs().iter().filter(|(_, run)| run.last_lsn > lsn).map(|(_, run)| run.end - run.offset).sum()
    }

    /// Epoch of a segment's records.
    pub(super) fn epoch(&self, index: usize) -> Epoch {
        let own = self.segments[index].known().map(|h| h.epoch);
        let before = || self.segments[..index].iter().rev().find_map(|s| s.known()).map(|h| h.epoch);
        own.or_else(before).unwrap_or_default()
    }

    /// How far the log leads from the state at `from` in `epoch`.
    #[must_use]
    pub fn reach(&self, epoch: Epoch, from: Lsn) -> Reach {
        let runs = self.runs();
        let Some(start) = self.start(&runs, epoch, from) else {
            let stop = self.no_way(&runs, epoch, from);
            return Reach { lsn: from, epoch, checksum: None, time: Micros::default(), place: None, stop };
        };
        let mut last = start;
        while runs.get(last + 1).is_some_and(|next| self.follows(runs[last], *next)) {
            last += 1;
        }
        let (index, run) = runs[last];
        Reach {
            lsn: run.last_lsn,
            epoch: self.epoch(index),
            checksum: Some(run.checksum),
            time: run.last_time,
            place: Some((self.segments[index].number, run.end)),
            stop: self.stop(runs[last], runs.get(last + 1).copied()),
        }
    }

    /// The segments that lead from the state at `from` in `epoch` to `reach`, oldest first; none if the log does not.
    #[must_use]
    pub fn stretch(&self, epoch: Epoch, from: Lsn, reach: &Reach) -> Vec<Part> {
        let runs = self.runs();
        let (Some(start), Some((last, end))) = (self.start(&runs, epoch, from), reach.place) else { return Vec::new() };
        let first = self.segments[runs[start].0].number;
        let between = self.segments.iter().filter(|s| s.live() && (first..=last).contains(&s.number));
        let part = |s: &SegmentEvidence| Part {
            number: s.number,
            file: s.file.clone(),
            end: (s.number == last).then_some(end),
        };
        between.map(part).collect()
    }

    /// File and offset where the stretch of records begins that leads on from this state.
    #[must_use]
    pub fn position(&self, epoch: Epoch, from: Lsn) -> Option<(String, u64)> {
        let runs = self.runs();
        let start = self.start(&runs, epoch, from)?;
        // A stretch that ends with the state leads on in the next one.
        let next = start + usize::from(runs[start].1.last_lsn <= from && start + 1 < runs.len());
        let (index, run) = runs[next];
        Some((self.segments[index].file.clone(), run.offset))
    }

    /// The run with which replay from this state begins: it holds the LSN, or begins right behind it.
    pub(super) fn start(&self, runs: &[Place<'_>], epoch: Epoch, from: Lsn) -> Option<usize> {
        let holds = |(index, run): &Place<'_>| {
            let near = run.first_lsn <= from.next() && from <= run.last_lsn;
            near && self.epoch(*index) == epoch
        };
        let begins = |(index, run): &Place<'_>| match run.fork {
            Some(fork) => fork.parent == epoch && fork.reached == from,
            None => run.first_lsn == from.next() && self.epoch(*index) == epoch,
        };
        runs.iter().position(holds).or_else(|| runs.iter().position(begins))
    }

    /// True if `next` is the continuation of `run`.
    pub(super) fn follows(&self, (index, run): Place<'_>, (next_index, next): Place<'_>) -> bool {
        let (epoch, next_epoch) = (self.epoch(index), self.epoch(next_index));
        match next.fork {
            Some(fork) => fork.parent == epoch && fork.reached == run.last_lsn && next_epoch > epoch,
            None => next_epoch == epoch && next.first_lsn == run.last_lsn.next() && next.previous == run.checksum,
        }
    }

    /// What ends the log behind a run, `next` being the next run there is.
    fn stop(&self, (index, run): Place<'_>, next: Option<Place<'_>>) -> Stop {
        let last = next.map_or(self.segments.len().saturating_sub(1), |(i, _)| i);
        let mut number = self.segments[index].number;
        for (at, segment) in self.segments.iter().enumerate().take(last + 1).skip(index).filter(|(_, s)| s.live()) {
            if at > index && segment.previous() > number {
                return self.hole(number, segment.previous());
            }
            let behind = if at == index { run.end } else { 0 };
            let until = next.filter(|(i, _)| *i == at).map_or(u64::MAX, |(_, r)| r.offset);
            let bad = segment.damages.iter().find(|d| d.lsn.is_some() && (behind..=until).contains(&d.offset));
            if let Some(damage) = bad {
                return Stop::Damaged { file: segment.file.clone(), damage: damage.clone() };
            }
            if let (End::Newer(record), u64::MAX) = (&segment.end, until) {
                return Stop::Newer { file: segment.file.clone(), record: record.clone() };
            }
            number = segment.number;
        }
        self.stop_at_last(index, number, next.is_some())
    }

    fn stop_at_last(&self, index: usize, number: u64, more: bool) -> Stop {
        if more {
            return Stop::OtherHistory;
        }
        match self.missing.last().filter(|range| *range.end() > number) {
            Some(range) => self.hole(number.max(range.start() - 1), *range.end()),
            None if matches!(self.segments[index].end, End::Torn { .. }) => Stop::Torn,
            None => Stop::End,
        }
    }

    /// The files that are missing behind segment `after`, up to `until`.
    fn hole(&self, after: u64, until: u64) -> Stop {
        Stop::Missing((after + 1..=until).take(NAMES_MAX).map(segment::file_name).collect())
    }

    /// Why no run begins behind this state.
    fn no_way(&self, runs: &[Place<'_>], epoch: Epoch, from: Lsn) -> Stop {
        let before = runs.iter().rposition(|(_, run)| run.last_lsn < from);
        let Some(first) = self.segments.iter().find(|s| s.live() && s.end != End::Unread) else {
            return match self.missing_files() {
                files if !files.is_empty() => Stop::Missing(files),
                _ if from == Lsn::ZERO => Stop::End,
                // No file is named, yet there was a log: it led here.
                _ => Stop::Behind { last: Lsn::ZERO },
            };
        };
        if runs.iter().any(|(_, run)| run.first_lsn <= from && from <= run.last_lsn) {
            return Stop::OtherHistory;
        }
        match before {
            Some(at) => match self.stop(runs[at], runs.get(at + 1).copied()) {
                Stop::End | Stop::Torn if self.epoch(runs[at].0) > epoch => Stop::OtherHistory,
                Stop::End | Stop::Torn => Stop::Behind { last: runs[at].1.last_lsn },
                stop => stop,
            },
            None if first.known().is_some_and(|h| h.epoch > epoch && h.previous_lsn < from) => Stop::OtherHistory,
            None => self.before_first(first, runs.first().map(|(_, run)| run.first_lsn)),
        }
    }

    /// Why the log does not begin early enough.
    fn before_first(&self, first: &SegmentEvidence, lsn: Option<Lsn>) -> Stop {
        if let Some(damage) = first.damages.iter().find(|d| d.lsn.is_some()) {
            return Stop::Damaged { file: first.file.clone(), damage: damage.clone() };
        }
        let below: Vec<String> = self
            .missing
            .iter()
            .filter(|range| *range.end() < first.number)
            .flat_map(Clone::clone)
            .take(NAMES_MAX)
            .map(segment::file_name)
            .collect();
        match first.previous() {
            _ if !below.is_empty() => Stop::Missing(below),
            0 => Stop::OtherHistory,
            previous => Stop::Before { first: lsn.unwrap_or_default(), file: segment::file_name(previous) },
        }
    }
}

impl Damage {
    /// The damage as an error, with its file and why it is none of a torn tail.
    #[must_use]
    pub fn error(&self, file: &str) -> StoreError {
        StoreError::Corrupt {
            file: file.to_owned(),
            offset: self.offset,
            what: self.what.clone(),
            found: self.found.clone(),
            expected: format!("{} ({})", self.expected, self.proof),
        }
    }
}

/// Fails with the refusal of a survey, if there is one.
///
/// # Errors
/// See [`Survey::refusal`].
pub fn accept(survey: &Survey) -> Result<()> {
    survey.refusal().map_or(Ok(()), Err)
}
