//! What is kept of the log beyond what a start needs (I4).
//!
//! * A snapshot and the whole log behind it are the database again. So the log behind every valid snapshot is kept, as far as the
//!   budget goes: where it does not, the oldest snapshots go without, never the newest.
//!   What mailboxes showed at that moment is kept as well, in their indexes. What cannot be read of them is kept for as well (`shelved.rs`).
//! * What is not in the log archive yet, if there is one, within a budget: beyond it the oldest goes all the same, and it is known what went.
//! * A partition that was not there for a checkpoint has its changes in the log and nowhere else: the log behind what it holds is kept until
//!   it has them, whatever that takes. Beyond `[log] partition_bytes` it takes no more mail: what is refused waits at its sender.
//! * A backup or a drill that runs reads the log behind the database that it copied: [`Store::hold_log`]. A hold that would keep more than
//!   its budget is broken, so that no job that hangs fills the disk; whoever has it is told when he asks.

use super::archived::WithArchive;
use super::commit::lock;
use super::shelved::Shelved;
use super::{Options, Store};
use crate::disk::{Disk, Patience};
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::wal::SegmentInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an archive may take for each thing that is asked of it.
const ARCHIVE_WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// A snapshot that a rollback may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choosable {
    /// Its name.
    pub id: String,
    /// The history that it is of.
    pub epoch: Epoch,
    /// The log behind this LSN is wanted.
    pub lsn: Lsn,
    /// When it was taken.
    pub time: Micros,
}

/// Somebody who needs log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// Why, as `log list` says it.
    pub(super) why: String,
    /// The log behind this LSN is wanted.
    pub(super) lsn: Lsn,
}

/// A partition that lacks changes, which are in the log and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lagging {
    /// Its name.
    pub partition: String,
    /// It holds everything up to here.
    pub upto: Lsn,
    /// Bytes of sealed log that are kept for it.
    pub log_bytes: u64,
    /// From so many on it takes no more mail.
    pub log_bytes_max: u64,
    /// It takes none.
    pub is_closed: bool,
    /// What was in the way when it was tried last.
    pub why: String,
}

/// Log that went before it was archived, as far as anybody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveGap {
    /// Numbers of the log files, the first and the last.
    pub files: (u64, u64),
}

/// A hold of somebody who is at work.
#[derive(Debug)]
struct AtWork {
    number: u64,
    hold: Hold,
    /// Bytes that it may keep.
    budget: u64,
    broken: bool,
}

/// Who wants what of the log.
#[derive(Debug)]
pub(super) struct Holds {
    /// Which snapshots there are.
    shelved: Mutex<Shelved>,
    /// Bytes of log that may be kept for them.
    budget: AtomicU64,
    /// Bytes of log that may be kept for a partition before it takes no more mail.
    of_partitions: AtomicU64,
    at_work: Mutex<Vec<AtWork>>,
    next: AtomicU64,
    archive: Mutex<Option<Archive>>,
    /// What went that is not there.
    archive_gap: Mutex<Option<ArchiveGap>>,
    /// Where it is.
    archive_at: Mutex<Option<PathBuf>>,
    /// How long it, and those before it, are waited for.
    patience: Mutex<BTreeMap<PathBuf, Patience>>,
}

/// What an archive wants of the log.
#[derive(Debug, Clone, Copy)]
struct Archive {
    /// Everything up to here is there.
    upto: Lsn,
    /// Bytes that may be kept for it.
    budget: u64,
}

impl Archive {
    /// The LSN behind which log is kept: that of the archive, or a later one where the budget does not suffice.
    fn behind(self, segments: &[SegmentInfo]) -> Lsn {
        at_most(self.budget, self.upto, segments)
    }
}

/// The LSN behind which log is kept that is wanted behind `upto`: that, or a later one where `budget` does not suffice.
fn at_most(budget: u64, upto: Lsn, segments: &[SegmentInfo]) -> Lsn {
    let mut bytes = 0u64;
    let waiting = segments.iter().rev().filter(|s| s.last_lsn.is_some_and(|last| last > upto));
    for segment in waiting {
        bytes = bytes.saturating_add(segment.bytes);
        if bytes > budget {
            return segment.last_lsn.unwrap_or(upto);
        }
    }
    upto
}

impl Holds {
    pub(super) fn new(options: &Options) -> Holds {
        let (shelved, at_work, next, archive_gap) = Default::default();
        // Nothing goes before the archive was looked at.
        let archive = Mutex::new(options.archive_log_bytes.map(|budget| Archive { upto: Lsn::ZERO, budget }));
        let (budget, of_partitions) = (options.snapshot_log_bytes.into(), options.partition_log_bytes.into());
        let archive_at = Mutex::new(options.archive.clone());
        Holds {
            shelved,
            budget,
            of_partitions,
            at_work,
            next,
            archive,
            archive_gap,
            archive_at,
            patience: Mutex::default(),
        }
    }

    /// For whom log is kept, the oldest log first.
    pub(super) fn held(&self, segments: &[SegmentInfo]) -> Vec<Hold> {
        let mut held: Vec<Hold> = self.snapshots(segments).iter().map(Choosable::hold).collect();
        held.extend(lock(&self.at_work).iter().filter(|work| !work.broken).map(|work| work.hold.clone()));
        let archive = lock(&self.archive).map(|archive| archive.behind(segments));
        held.extend(archive.map(|lsn| Hold { why: "archive: not archived yet".to_owned(), lsn }));
        let unread = lock(&self.shelved).unread();
        held.extend(unread.map(|lsn| Hold {
            why: "rollback: there may be snapshots in a place that cannot be read".to_owned(),
            lsn: at_most(self.budget.load(Ordering::Relaxed), lsn, segments),
        }));
        held.sort_by_key(|hold| hold.lsn);
        held
    }

    /// The snapshots behind which log is kept, oldest first.
    fn snapshots(&self, segments: &[SegmentInfo]) -> Vec<Choosable> {
        within(&lock(&self.shelved).choosable(), segments, self.budget.load(Ordering::Relaxed))
    }

    /// Breaks the holds that keep more than they may; to be asked before log is given up.
    pub(super) fn settle(&self, segments: &[SegmentInfo]) {
        for work in lock(&self.at_work).iter_mut().filter(|work| !work.broken) {
            work.broken = bytes_behind(segments, work.hold.lsn) > work.budget;
            if work.broken {
                tracing::error!(event = "log_hold_broken", why = work.hold.why, bytes = work.budget);
            }
        }
    }
}

impl Holds {
    /// These went: notes which of them the archive does not have.
    pub(super) fn went(&self, segments: &[SegmentInfo], retired: &[String]) {
        let Some(Archive { upto, .. }) = *lock(&self.archive) else { return };
        let is_lost = |s: &&SegmentInfo| retired.contains(&s.file) && s.last_lsn.is_some_and(|last| last > upto);
        let lost: Vec<&SegmentInfo> = segments.iter().filter(is_lost).collect();
        let (Some(first), Some(last)) = (lost.first(), lost.last()) else { return };
        let why = "log went that is not archived: there is too much of it";
        tracing::error!(event = "archive_gap", archived = upto.0, first = first.file, last = last.file, "{why}");
        let mut gap = lock(&self.archive_gap);
        let begin = gap.as_ref().map_or(first.number, |gap| gap.files.0.min(first.number));
        *gap = Some(ArchiveGap { files: (begin, last.number) });
    }
}

impl Choosable {
    fn hold(&self) -> Hold {
        Hold { why: format!("rollback: snapshot {} and the log behind it lose nothing", self.id), lsn: self.lsn }
    }
}

/// Log that is kept until this is dropped.
#[derive(Debug)]
pub struct LogHold {
    holds: Arc<Holds>,
    number: u64,
}

impl LogHold {
    /// # Errors
    /// [`StoreError::Busy`] if it would have kept more than it may, so that some of the log may be gone.
    pub fn check(&self) -> Result<()> {
        let works = lock(&self.holds.at_work);
        match works.iter().find(|work| work.number == self.number) {
            Some(AtWork { broken: true, budget, hold, .. }) => Err(StoreError::Busy {
                why: format!("more than {budget} bytes of log would have been kept for this: {}", hold.why),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for LogHold {
    fn drop(&mut self) {
        lock(&self.holds.at_work).retain(|work| work.number != self.number);
    }
}

/// Bytes of the sealed segments that hold records behind `lsn`.
fn bytes_behind(segments: &[SegmentInfo], lsn: Lsn) -> u64 {
    let sealed = segments.iter().filter(|s| s.last_lsn.is_some_and(|last| last > lsn));
    sealed.map(|s| s.bytes).fold(0, u64::saturating_add)
}

/// Those of `wanted` behind which the log is whole and not longer than `budget`; the newest whatever its length.
fn within(wanted: &[Choosable], segments: &[SegmentInfo], budget: u64) -> Vec<Choosable> {
    // Behind the others nothing is left to keep: their log went before they were valid, or history went on from before them.
    let leads_on = |hold: &&Choosable| {
        segments.iter().any(|s| s.first_lsn <= hold.lsn.next() && s.last_lsn.is_none_or(|last| hold.lsn <= last))
    };
    let whole: Vec<&Choosable> = wanted.iter().filter(leads_on).collect();
    let newest = whole.len().saturating_sub(1);
    let kept = whole.iter().enumerate().filter(|(n, hold)| *n == newest || bytes_behind(segments, hold.lsn) <= budget);
    kept.map(|(_, hold)| (*hold).clone()).collect()
}

impl Store {
    /// For whom log is kept, the oldest log first.
    pub(super) fn held(&self, segments: &[SegmentInfo]) -> Vec<Hold> {
        let mut held = self.holds.held(segments);
        held.extend(self.partitions.needs_log().into_iter().map(|(name, at)| Hold {
            why: format!("partition {name}: it holds everything up to LSN {}, and lacks what came behind", at.lsn),
            lsn: at.lsn,
        }));
        held.sort_by_key(|hold| hold.lsn);
        held
    }

    /// The partitions that lack changes, and what is kept for each of them.
    #[must_use]
    pub fn lagging(&self) -> Vec<Lagging> {
        let segments = self.running.as_ref().map_or_else(Vec::new, |running| running.segments.list());
        let log_bytes_max = self.holds.of_partitions.load(Ordering::Relaxed);
        let lagging = self.partitions.behind().into_iter().map(|(partition, behind)| {
            let (upto, log_bytes) = (behind.upto.lsn, bytes_behind(&segments, behind.upto.lsn));
            let is_closed = log_bytes >= log_bytes_max;
            Lagging { partition, upto, log_bytes, log_bytes_max, is_closed, why: behind.why }
        });
        lagging.collect()
    }

    /// Has partitions for which enough log is kept take no more mail, and the others take it again.
    pub(super) fn judge_lagging(&self) {
        let closed: BTreeSet<String> =
            self.lagging().into_iter().filter(|lagging| lagging.is_closed).map(|lagging| lagging.partition).collect();
        let before = self.closed.load_full().map_or_else(BTreeSet::new, |before| (*before).clone());
        if closed != before {
            tracing::warn!(event = "partitions_closed", partitions = ?closed, "they take no more mail until they are back");
            self.closed.store((!closed.is_empty()).then(|| Arc::new(closed)));
        }
    }

    /// How many bytes of log may be kept from now on for a partition before it takes no more mail.
    pub fn set_partition_log(&self, bytes: u64) {
        if self.holds.of_partitions.swap(bytes, Ordering::Relaxed) != bytes {
            self.judge_lagging();
        }
    }

    /// Looks which snapshots there are; to be called when that has changed. Those that cannot be looked at now want what they wanted.
    pub fn follow_snapshots(&self) {
        let before = lock(&self.holds.shelved).clone();
        // A place may take long to answer.
        let shelved = before.look(self.disks.snapshot_places(self.store_id), self.store_id);
        let (moments, troubles) = (shelved.moments(), shelved.troubles());
        for (place, why) in troubles.iter().filter(|trouble| !before.troubles().contains(trouble)) {
            tracing::error!(event = "snapshots_not_read", place, why, "log is kept for them as far as it may be");
        }
        *lock(&self.holds.shelved) = shelved;
        self.partitions.past().keep(moments);
    }

    /// Places of snapshots that could not be read wholly when they were looked at last, and why.
    #[must_use]
    pub fn snapshots_not_read(&self) -> Vec<(String, String)> {
        lock(&self.holds.shelved).troubles()
    }

    /// Keeps the log behind the last checkpoint, and whatever comes, until the hold is dropped, or would keep more than `budget` bytes.
    /// `why` is for `log list`.
    #[must_use]
    pub fn hold_log(&self, why: &str, budget: u64) -> LogHold {
        self.hold_log_behind(Lsn(u64::MAX), why, budget)
    }

    /// As [`Store::hold_log`], from an earlier LSN on, as far as that log is still there.
    #[must_use]
    pub fn hold_log_behind(&self, lsn: Lsn, why: &str, budget: u64) -> LogHold {
        let number = self.holds.next.fetch_add(1, Ordering::Relaxed);
        let mut at_work = lock(&self.holds.at_work);
        // Under the lock: what was retired before it was asked for lies before this checkpoint.
        let hold = Hold { why: why.to_owned(), lsn: lsn.min(self.checkpoint_lsn()) };
        at_work.push(AtWork { number, hold, budget, broken: false });
        LogHold { holds: self.holds.clone(), number }
    }

    /// The newest snapshot that a rollback may choose.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<Choosable> {
        let now = self.env.now();
        let key = |s: &Choosable| (s.epoch, s.lsn, !s.time.is_ahead_of(now), s.id.clone());
        lock(&self.holds.shelved).choosable().into_iter().max_by_key(key)
    }

    /// Names of the snapshots behind which the log is not kept.
    #[must_use]
    pub fn snapshots_without_log(&self) -> Vec<String> {
        let Some(running) = &self.running else { return Vec::new() };
        let kept = self.holds.snapshots(&running.segments.list());
        let wanted = lock(&self.holds.shelved).choosable();
        wanted.into_iter().filter(|snapshot| !kept.contains(snapshot)).map(|snapshot| snapshot.id).collect()
    }

    /// Keeps what lies behind an LSN for the archive, at most so many bytes; `None`: there is no archive.
    pub fn keep_for_archive(&self, behind: Option<(Lsn, u64)>) {
        *lock(&self.holds.archive) = behind.map(|(upto, budget)| Archive { upto, budget });
    }

    /// Log that went in this life before it was archived; the archive itself knows about other lives.
    #[must_use]
    pub fn archive_gap(&self) -> Option<ArchiveGap> {
        lock(&self.holds.archive_gap).clone()
    }

    /// It is in the archive after all, or the archive is another one.
    pub fn no_archive_gap(&self, gap: &ArchiveGap) {
        let mut known = lock(&self.holds.archive_gap);
        if known.as_ref() == Some(gap) {
            *known = None;
        }
    }

    /// Where the log archive is from now on; `None`: there is none.
    pub fn set_archive(&self, path: Option<&Path>) {
        let mut known = lock(&self.holds.archive_at);
        if known.as_deref() != path {
            *known = path.map(Path::to_owned);
        }
    }

    /// The log, with what the archive has of it that is not there any more; `None` without an archive.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if it does not answer at once: it may hang, and nobody waits for it for long. The same holds for each call on
    /// what is given: one that hangs fails.
    pub(super) fn log_with_archive(&self) -> Result<Option<Arc<dyn Disk>>> {
        let Some(path) = lock(&self.holds.archive_at).clone() else { return Ok(None) };
        let busy = |e: &dyn std::fmt::Display| StoreError::Busy {
            why: format!("the log archive {} is not read: {e}", path.display()),
        };
        let patience =
            lock(&self.holds.patience).entry(path.clone()).or_insert_with(|| Patience::new(ARCHIVE_WAIT)).clone();
        let (roots, at) = (self.disks.roots.clone(), path.clone());
        let root = match patience.open("archive", move || roots.open(&at)) {
            // Nothing was archived yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            root => root.map_err(|e| busy(&e))?,
        };
        let with = WithArchive::new(self.disks.log.clone(), root, self.store_id, &BTreeSet::new());
        Ok(Some(Arc::new(with.map_err(|e| busy(&e))?)))
    }

    /// How many bytes of log may be kept for snapshots from now on.
    pub fn set_snapshot_log(&self, bytes: u64) {
        self.holds.budget.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Epoch;

    /// Segments of 100 bytes with ten records each, from `first` on; the last one is being written.
    fn segments(first: u64, count: u64) -> Vec<SegmentInfo> {
        let segment = |n: u64| SegmentInfo {
            number: n + 1,
            file: format!("log.{n}"),
            epoch: Epoch(0),
            first_lsn: Lsn(first + n * 10),
            last_lsn: (n + 1 < count).then_some(Lsn(first + n * 10 + 9)),
            bytes: 100,
            created: Micros(0),
            symlink: false,
        };
        (0..count).map(segment).collect()
    }

    // row 68: the oldest goes without at the budget, the newest never, and nothing is kept for one whose log is gone.
    #[test]
    fn the_oldest_goes_without_and_never_the_newest() {
        let hold = |lsn: u64| Choosable { id: format!("s{lsn}"), epoch: Epoch(0), lsn: Lsn(lsn), time: Micros(lsn) };
        let wanted = [hold(5), hold(25), hold(35)];
        let held = |first, count, budget| -> Vec<u64> {
            within(&wanted, &segments(first, count), budget).iter().map(|h| h.lsn.0).collect()
        };
        assert_eq!(held(1, 6, 500), [5, 25, 35]);
        assert_eq!(held(1, 6, 499), [25, 35]);
        assert_eq!(held(1, 6, 299), [35]);
        assert_eq!(held(1, 6, 0), [35]);
        assert_eq!(held(6, 6, 9999), [5, 25, 35], "it begins right behind the first");
        assert_eq!(held(7, 6, 9999), [25, 35], "a record is missing behind the first");
        assert_eq!(held(41, 6, 9999), [] as [u64; 0]);
        assert!(within(&wanted, &[], 9999).is_empty());
        // History went on at 1000 from 27: the snapshot at 35 is of what was given up.
        let mut forked = segments(1, 3);
        forked[2].last_lsn = Some(Lsn(27));
        forked.extend(segments(1000, 2));
        let kept: Vec<u64> = within(&wanted, &forked, 9999).iter().map(|h| h.lsn.0).collect();
        assert_eq!(kept, [5, 25]);
    }
}
