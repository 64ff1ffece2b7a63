//! Replay: the records behind the database's LSN, applied in memory.

use super::look::{OnProgress, Progress};
use super::mail::{self, Disks, Moment};
use super::marks::Used;
use super::overlay::Overlay;
use super::record::{Record, rows_of};
use super::sorted::Sorter;
use super::view::{Base, View};
use crate::db::Db;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::lsn::{Epoch, Lsn, Micros};
use crate::model::ids::Derived;
use crate::model::{Change, Table};
use crate::partition::{Applied, Partitions};
use crate::wal::{self, ReplayStats, Survey};
use std::sync::Arc;

/// A replay of the log into memory, and what it is told. Only the newest state of each row matters: nobody has a view of an older
/// one.
pub(super) struct Replay<'a> {
    pub(super) disk: &'a dyn Disk,
    /// The data directory.
    pub(super) data: &'a dyn Disk,
    pub(super) survey: &'a Survey,
    pub(super) db: &'a Db,
    /// Where directories of users are made; `None` in a store that is held: nothing of it is changed.
    pub(super) partitions: Option<&'a Partitions>,
    /// Epoch and LSN of the database.
    pub(super) from: (Epoch, Lsn),
    pub(super) reach: Lsn,
    /// What the overlay will hold at least before a checkpoint, in bytes.
    pub(super) overlay_bytes: usize,
    /// Beyond so many bytes it checkpoints as it goes.
    pub(super) bytes_max: usize,
    pub(super) progress: &'a OnProgress,
}

/// What came of a replay.
pub(super) struct Replayed {
    /// What was replayed, as the overlay to start with.
    pub(super) overlay: Overlay,
    pub(super) stats: ReplayStats,
    /// LSN up to which the database holds everything.
    pub(super) checkpoint: Lsn,
    /// The highest numbers in the records taken.
    pub(super) used: Used,
    /// When the oldest transaction was made that the database did not hold.
    pub(super) oldest: Option<Micros>,
}

impl Replay<'_> {
    /// Reads the log up to `reach` and puts its rows in order.
    ///
    /// # Errors
    /// Those of the disks; a log that changed since the survey.
    pub(super) fn run(self) -> Result<Replayed> {
        let log_bytes = usize::try_from(self.survey.bytes_behind(self.from.1)).unwrap_or(usize::MAX);
        let overlay = Overlay::sized(log_bytes.min(self.bytes_max).max(self.overlay_bytes));
        let (epoch, from) = self.from;
        std::thread::scope(|scope| {
            let sorter = Sorter::new(scope, overlay.names());
            let (used, derived) = (Used::default(), Derived::default());
            let mut pass = Pass { of: &self, sorter, checkpoint: from, used, derived, oldest: None };
            let each = &mut |record: &wal::RecordRef<'_>| pass.record(record);
            let stats = wal::replay(self.disk, self.survey, epoch, from, self.reach, each)?;
            Ok((stats, pass.sorter.finish()?, pass.checkpoint, pass.used, pass.oldest))
        })
        .map(|(stats, rows, checkpoint, used, oldest)| {
            let overlay = overlay.starting_with(rows, self.reach);
            Replayed { overlay, stats, checkpoint, used, oldest }
        })
    }
}

/// A replay under way.
struct Pass<'a, 'scope, 'env> {
    of: &'a Replay<'a>,
    sorter: Sorter<'scope, 'env>,
    checkpoint: Lsn,
    used: Used,
    derived: Derived,
    oldest: Option<Micros>,
}

impl Pass<'_, '_, '_> {
    /// Takes one record.
    fn record(&mut self, record: &wal::RecordRef<'_>) -> Result<()> {
        if record.is_transaction() {
            self.oldest.get_or_insert(record.time);
        }
        self.derived.begin();
        let made = Record { lsn: record.lsn, epoch: record.epoch, bodies: record.bodies()? };
        record.for_each_change(&mut |change| self.change(&change, &made))?;
        if record.lsn.0.is_multiple_of(4096) {
            let whole = self.of.reach.0.saturating_sub(self.checkpoint.0);
            let done = ratio(record.lsn.0.saturating_sub(self.checkpoint.0), whole);
            (self.of.progress)(Progress { logs: self.logs(record.segment), ..Progress::of("replay", done) });
        }
        // A replay larger than the overlay's bound checkpoints as it goes; a crash in it finds a later start.
        if record.is_transaction() && self.sorter.bytes() >= self.of.bytes_max {
            self.of.partitions.map(Partitions::sync_pending);
            self.write_down(record.lsn, record.epoch)?;
            self.checkpoint = record.lsn;
        }
        Ok(())
    }

    /// Which of the segments to be read this is, and how many they are.
    fn logs(&self, segment: u64) -> Option<(u64, u64)> {
        let (_, from) = self.of.from;
        let behind = |s: &&wal::SegmentEvidence| s.live() && s.runs.last().is_some_and(|run| run.last_lsn > from);
        let all = self.of.survey.segments.iter().filter(behind);
        Some((all.clone().filter(|s| s.number <= segment).count() as u64, all.count() as u64))
    }

    /// A checkpoint on the way.
    fn write_down(&mut self, upto: Lsn, epoch: Epoch) -> Result<()> {
        let rows = self.sorter.finish()?;
        let reader = Arc::new(self.of.db.reader()?);
        let overlay = Arc::new(Overlay::of(rows, upto));
        let base = Base { active: overlay.clone(), frozen: None, db: reader, names: None };
        let view = View { base: Arc::new(base), at: upto };
        let Some(partitions) = self.of.partitions else {
            self.of.db.apply(upto, epoch, overlay.newest(upto))?;
            return Ok(());
        };
        let committed = super::checkpoint::applied(&view.base.db);
        let keep_from = self.checkpoint;
        let moment = Moment {
            epoch,
            upto,
            committed,
            keep_from,
            is_replay: true,
            is_piece: true,
            can_wait: false,
            seen_since: None,
        };
        let mut written = mail::write(&view, &overlay, moment, &Disks { partitions, log: self.of.disk, late: None })?;
        let at = Applied { epoch, lsn: upto };
        // Further on in the log they may be back.
        written.keep_moved(self.of.data, &view, at)?;
        written.note(self.of.data, partitions, at);
        self.of.db.apply(upto, epoch, overlay.newest(upto))?;
        written.finish(self.of.data, partitions, &view, at);
        Ok(())
    }

    fn change(&mut self, change: &Change<'_>, made: &Record) -> Result<()> {
        self.used.change(change);
        match self.derived.follow(change) {
            Ok(Some((id, row))) => self.sorter.put(Table::Ids, &id, row.as_deref())?,
            Ok(None) => {}
            Err(e @ StoreError::Foreign { .. }) => return Err(e),
            // The checksums covered what the planner wrote; the check of the tables names such a row, and no start ends here.
            Err(e) => tracing::error!(event = "mailbox_row_undecodable", error = %e),
        }
        if let (Change::Put { table: Table::Users, key, row }, Some(partitions)) = (change, self.of.partitions) {
            super::ensure_user_dir(partitions, key, row);
        }
        rows_of(change, made, &mut |table, key, row| self.sorter.put(table, key, row))
    }
}

fn ratio(done: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { done as f64 / all as f64 }
}
