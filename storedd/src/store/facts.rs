//! What an open store says of itself. Reads memory only, if not said otherwise.

use super::{Counts, Disks, Options, Stats, Store, recovery};
use crate::lsn::{Epoch, Lsn, Micros, StoreId};
use crate::model::Table;
use crate::partition::Partitions;
use std::sync::atomic::{AtomicU64, Ordering};

impl Store {
    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Store id.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the control file states. Waits while that is being written.
    #[must_use]
    pub fn control_state(&self) -> crate::wal::ControlState {
        self.control.state()
    }

    /// Highest LSN that readers see.
    #[must_use]
    pub fn published_lsn(&self) -> Lsn {
        Lsn(self.published.load(Ordering::Acquire))
    }

    /// Highest LSN on disk.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        Lsn(self.synced.load(Ordering::Acquire))
    }

    /// LSN up to which the database file is durable by itself.
    #[must_use]
    pub fn checkpoint_lsn(&self) -> Lsn {
        Lsn(self.checkpoint_lsn.load(Ordering::Acquire))
    }

    /// When the last checkpoint and the last clean-up of the log ended; `None` if not in this process.
    #[must_use]
    pub fn last_times(&self) -> (Option<Micros>, Option<Micros>) {
        let time = |at: &AtomicU64| Some(Micros(at.load(Ordering::Acquire))).filter(|t| t.0 > 0);
        (time(&self.last_checkpoint), time(&self.last_retired))
    }

    /// What the start did, in one line.
    #[must_use]
    pub fn start_summary(&self) -> String {
        super::commit::lock(&self.summary).clone()
    }

    /// How it works.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where the store lies.
    #[must_use]
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// Users and mailboxes there are; `None` for a moment after a start, while they are counted.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.counter.now()
    }

    /// Rows per table in the database file, so as of the last checkpoint.
    #[must_use]
    pub fn database_rows(&self) -> Vec<(Table, u64)> {
        let base = self.base.load();
        let meta = base.db.meta();
        meta.all().iter().map(|&table| (table, meta.table(table).rows)).collect()
    }

    /// Length of the database file in bytes.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        self.disks.db.stat(recovery::DB_FILE).ok().flatten().map_or(0, |e| e.len)
    }

    /// Partitions.
    #[must_use]
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// Every partition and how it is now.
    #[must_use]
    pub fn partition_states(&self) -> Vec<(String, crate::partition::State)> {
        let names = self.partitions.list();
        names
            .into_iter()
            .map(|(name, _)| {
                let state = self.partitions.state(&name);
                (name, state)
            })
            .collect()
    }

    /// True if a loss was found that nobody has accepted yet: nothing is changed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold
    }
}
