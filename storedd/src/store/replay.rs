//! Replay: the records behind the database's LSN, applied in memory.

use super::marks::Used;
use super::overlay::Overlay;
use super::recovery::{OnProgress, Progress};
use crate::db::Db;
use crate::error::Result;
use crate::lsn::{Lsn, Micros};
use crate::model::{Change, Table};
use crate::partition::Partitions;
use crate::wal::{self, Kind};
use std::collections::HashMap;

/// Which row.
type Place = (Table, Box<[u8]>);
/// The newest state of a row and the LSN that made it; `None`: it is gone.
type Newest = (Lsn, Option<Box<[u8]>>);

/// Replay of the log into memory. Only the newest state of each row matters: nobody has a view of an older one. So rows
/// are kept by hash, and sorted once at the end; that is many times faster than keeping them sorted all the time.
pub(super) struct Replay<'a> {
    newest: HashMap<Place, Newest>,
    bytes: usize,
    checkpoint: Lsn,
    db: &'a Db,
    /// Where directories of users are made; `None` in a store that is held: nothing of it is changed.
    partitions: Option<&'a Partitions>,
    bytes_max: usize,
    reach: Lsn,
    progress: &'a OnProgress,
    used: Used,
    oldest: Option<Micros>,
}

/// What a row costs in memory beside its key and content.
const ROW_OVERHEAD_BYTES: usize = 128;

impl<'a> Replay<'a> {
    /// Replay on top of the database at LSN `from`, up to `reach`. Beyond `bytes_max` bytes it checkpoints as it goes.
    pub(super) fn new(
        db: &'a Db,
        partitions: Option<&'a Partitions>,
        from: Lsn,
        reach: Lsn,
        bytes_max: usize,
        progress: &'a OnProgress,
    ) -> Replay<'a> {
        Replay {
            newest: HashMap::new(),
            bytes: 0,
            checkpoint: from,
            db,
            partitions,
            bytes_max,
            reach,
            progress,
            used: Used::default(),
            oldest: None,
        }
    }

    /// LSN up to which the database holds everything.
    pub(super) fn checkpoint(&self) -> Lsn {
        self.checkpoint
    }

    /// The highest numbers in the records taken.
    pub(super) fn used(&self) -> Used {
        self.used
    }

    /// When the oldest transaction was made that the database did not hold.
    pub(super) fn oldest(&self) -> Option<Micros> {
        self.oldest
    }

    /// Takes one record.
    pub(super) fn record(&mut self, record: &wal::RecordRef<'_>) -> Result<()> {
        if record.kind == Kind::Transaction {
            self.oldest.get_or_insert(record.time);
        }
        record.for_each_change(&mut |change| {
            self.used.change(&change);
            let (table, key, row) = match &change {
                Change::Put { table, key, row } => (*table, key, Some(row)),
                Change::Remove { table, key } => (*table, key, None),
            };
            if let (Table::Users, Some(row), Some(partitions)) = (table, row, self.partitions) {
                super::ensure_user_dir(partitions, key, row);
            }
            self.bytes += key.len() + row.map_or(0, |r| r.len()) + ROW_OVERHEAD_BYTES;
            let state = (record.lsn, row.map(|r| Box::from(&r[..])));
            if let Some((_, old)) = self.newest.insert((table, Box::from(&key[..])), state) {
                self.bytes -= key.len() + old.map_or(0, |r| r.len()) + ROW_OVERHEAD_BYTES;
            }
            Ok(())
        })?;
        if record.lsn.0.is_multiple_of(4096) {
            let whole = self.reach.0.saturating_sub(self.checkpoint.0);
            let done = ratio(record.lsn.0.saturating_sub(self.checkpoint.0), whole);
            (self.progress)(Progress { phase: "replay", done });
        }
        // A replay larger than the overlay's bound checkpoints as it goes; a crash in it finds a later start.
        if self.bytes >= self.bytes_max && record.kind == Kind::Transaction {
            self.partitions.map(Partitions::sync_pending);
            let rows = self.sorted().into_iter().map(|((table, key), (_, row))| (table, key, row));
            self.db.apply(record.lsn, record.epoch, rows)?;
            self.checkpoint = record.lsn;
        }
        Ok(())
    }

    /// Takes everything replayed since the last checkpoint, in order of table and key.
    fn sorted(&mut self) -> Vec<(Place, Newest)> {
        self.bytes = 0;
        let mut rows: Vec<_> = std::mem::take(&mut self.newest).into_iter().collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    /// What was replayed, as the overlay to start with.
    pub(super) fn into_overlay(mut self, bytes: usize) -> Overlay {
        let overlay = Overlay::sized(bytes.max(self.bytes));
        for ((table, key), (lsn, row)) in self.sorted() {
            overlay.insert(table, &key, lsn, row.as_deref());
        }
        overlay
    }
}

fn ratio(done: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { done as f64 / all as f64 }
}
