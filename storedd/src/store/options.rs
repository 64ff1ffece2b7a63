//! How a store works.

use super::ids::Blocks;
use super::plan;
use crate::wal;
use std::path::PathBuf;
use std::time::Duration;

/// How a store works; the defaults are those of the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of one log segment; a power of two, at least 1 MiB.
    pub segment_size: u64,
    /// Prepared segments kept ready.
    pub spares: usize,
    /// Bytes that the log leaves free on its disk; at most a 20th of it.
    pub reserve: u64,
    /// The log is sealed after resting this long.
    pub seal_idle: Duration,
    /// How long a group waits for commands that are known to come, at the most.
    pub group_wait: Duration,
    /// Commands that may wait in the queue; more are answered busy.
    pub queue_max: usize,
    /// A checkpoint begins at this overlay size in bytes; [`super::Store::set_triggers`] changes it and the four behind it.
    pub overlay_bytes: usize,
    /// Changes are answered busy at this overlay size in bytes.
    pub overlay_bytes_max: usize,
    /// A checkpoint begins this long after the last one, if anything changed.
    pub checkpoint_interval: Duration,
    /// A checkpoint begins when the log since the last one has this many bytes.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint begins before a replay would take longer than this.
    pub replay_target: Duration,
    /// Longest message that travels in its log record, in bytes.
    pub inline_limit: usize,
    /// Memory for indexes that were read, in bytes.
    pub index_cache: usize,
    /// Cache of the database in bytes.
    pub database_cache: usize,
    /// Numbers reserved ahead by one write of the control file.
    pub id_block: u32,
    /// Start-up reports kept.
    pub reports: usize,
    /// Partition of new users for whom none is named.
    pub default_partition: String,
    /// The options that name this store in commands that a report tells to run, each with a blank behind it.
    pub named: String,
    /// Bytes of log that may be kept for snapshots; [`Store::set_snapshot_log`] changes them.
    pub snapshot_log_bytes: u64,
    /// Bytes of log that may be kept for a partition that is away before it takes no more mail; [`super::Store::set_partition_log`] changes
    /// them.
    pub partition_log_bytes: u64,
    /// Bytes of log that may be kept for the archive until it was looked at; `None`: there is none. [`super::Store::keep_for_archive`] changes them.
    pub archive_log_bytes: Option<u64>,
    /// Where the log archive is, until it was looked at; [`super::Store::set_archive`] changes it.
    pub archive: Option<PathBuf>,
    /// Limits at the start; [`Store::set_limits`] changes them.
    pub limits: plan::Limits,
}

/// When a checkpoint begins, and when changes wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Triggers {
    /// See [`Options::overlay_bytes`].
    pub overlay_bytes: usize,
    /// See [`Options::overlay_bytes_max`].
    pub overlay_bytes_max: usize,
    /// See [`Options::checkpoint_interval`].
    pub interval: Duration,
    /// See [`Options::checkpoint_log_bytes`].
    pub log_bytes: u64,
    /// See [`Options::replay_target`].
    pub replay_target: Duration,
}

impl Triggers {
    pub(super) fn replay_records_max(&self) -> u64 {
        (self.replay_target.as_millis() as u64).saturating_mul(REPLAY_RECORDS_PER_SECOND) / 1000
    }
}

/// Records a start replays in a second, at the least, on the machines this was measured on.
const REPLAY_RECORDS_PER_SECOND: u64 = 200_000;

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_size: 64 << 20,
            spares: 2,
            reserve: 0,
            seal_idle: Duration::from_millis(100),
            group_wait: Duration::from_millis(2),
            queue_max: 100_000,
            overlay_bytes: 128 << 20,
            overlay_bytes_max: 512 << 20,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_log_bytes: 256 << 20,
            replay_target: Duration::from_secs(5),
            inline_limit: 64 << 10,
            index_cache: 64 << 20,
            database_cache: 256 << 20,
            id_block: 1 << 14,
            reports: 100,
            default_partition: "primary".to_owned(),
            named: String::new(),
            snapshot_log_bytes: 1 << 30,
            partition_log_bytes: 4 << 30,
            archive_log_bytes: None,
            archive: None,
            limits: plan::Limits::default(),
        }
    }
}

impl Options {
    /// What the planner needs of the configuration.
    pub(super) fn policy(&self, limits: plan::Limits, closed: plan::Closed) -> plan::Policy<'_> {
        // A record holds a little more than the planner counts.
        let most = wal::payload_bytes_max(self.segment_size) / 16 * 15;
        let default_partition = &self.default_partition;
        plan::Policy { default_partition, transaction_bytes_max: most, limits, closed, store: None, partitions: None }
    }

    pub(super) fn id_blocks(&self) -> Blocks {
        Blocks { object_ids: u64::from(self.id_block), uidvalidities: self.id_block }
    }

    /// When checkpoints begin, at the start.
    #[must_use]
    pub fn triggers(&self) -> Triggers {
        Triggers {
            overlay_bytes: self.overlay_bytes,
            overlay_bytes_max: self.overlay_bytes_max,
            interval: self.checkpoint_interval,
            log_bytes: self.checkpoint_log_bytes,
            replay_target: self.replay_target,
        }
    }

    pub(super) fn database(&self) -> crate::db::Options {
        crate::db::Options { cache_bytes: self.database_cache, pace: None }
    }
}
