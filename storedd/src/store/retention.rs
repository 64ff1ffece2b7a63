//! What is kept of the log so that a rollback to a snapshot loses nothing (I4).
//!
//! A snapshot and the whole log behind it are the database again. So the log behind every valid snapshot is kept, as far as the budget
//! goes: where it does not, the oldest snapshots go without, never the newest.

use super::Store;
use super::commit::lock;
use crate::lsn::Lsn;
use crate::snapshot::Depth;
use crate::wal::SegmentInfo;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A snapshot that a rollback may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// Its name.
    pub(super) id: String,
    /// The log behind this LSN is wanted.
    pub(super) lsn: Lsn,
}

/// What snapshots want of the log.
#[derive(Debug)]
pub(super) struct Holds {
    /// Valid snapshots, oldest first.
    wanted: Mutex<Vec<Hold>>,
    /// Bytes of log that may be kept for them.
    budget: AtomicU64,
}

impl Holds {
    pub(super) fn new(budget: u64) -> Holds {
        Holds { wanted: Mutex::default(), budget: AtomicU64::new(budget) }
    }

    /// The snapshots for which log is kept, oldest first.
    pub(super) fn held(&self, segments: &[SegmentInfo]) -> Vec<Hold> {
        within(&lock(&self.wanted), segments, self.budget.load(Ordering::Relaxed))
    }
}

/// Those of `wanted` behind which the log is whole and not longer than `budget`; the newest whatever its length.
fn within(wanted: &[Hold], segments: &[SegmentInfo], budget: u64) -> Vec<Hold> {
    let Some(first) = segments.first().map(|s| s.first_lsn) else { return Vec::new() };
    let behind = |lsn: Lsn| -> u64 {
        let sealed = segments.iter().filter(|s| s.last_lsn.is_some_and(|last| last > lsn));
        sealed.map(|s| s.bytes).fold(0, u64::saturating_add)
    };
    // Behind the others nothing is left to keep: their log went before they were valid.
    let whole: Vec<&Hold> = wanted.iter().filter(|hold| hold.lsn.next() >= first).collect();
    let newest = whole.len().saturating_sub(1);
    let kept = whole.iter().enumerate().filter(|(n, hold)| *n == newest || behind(hold.lsn) <= budget);
    kept.map(|(_, hold)| (*hold).clone()).collect()
}

impl Store {
    /// Looks which snapshots there are; to be called when that has changed. Those that cannot be looked at want nothing.
    pub fn follow_snapshots(&self) {
        let mut wanted = Vec::new();
        for shelf in self.disks.shelves() {
            let ids = shelf.list().unwrap_or_else(|e| {
                tracing::warn!(event = "snapshots_not_read", error = %e, "no log is kept for these snapshots");
                Vec::new()
            });
            let valid = ids.iter().filter_map(|id| shelf.read(id, Depth::Texts).ok()).filter(|s| s.valid);
            let ours = valid.filter(|s| s.manifest.as_ref().is_some_and(|m| m.store_id == self.store_id));
            wanted.extend(ours.map(|s| Hold { id: s.id, lsn: s.lsn }));
        }
        wanted.sort_by(|a, b| (a.lsn, &a.id).cmp(&(b.lsn, &b.id)));
        *lock(&self.holds.wanted) = wanted;
    }

    /// How many bytes of log may be kept for snapshots from now on.
    pub fn set_snapshot_log(&self, bytes: u64) {
        self.holds.budget.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::{Epoch, Micros};

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
        let hold = |lsn: u64| Hold { id: format!("s{lsn}"), lsn: Lsn(lsn) };
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
    }
}
