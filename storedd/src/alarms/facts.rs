//! What is measured, and what it is held against.

use crate::config::Config;
use crate::disk::Space;
use crate::lsn::Micros;
use crate::store::{Lagging, Phase, PutBack};
use std::time::Duration;

/// Everything that was measured at one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Wall clock.
    pub now: Micros,
    /// Monotone clock.
    pub uptime: Duration,
    /// Whether changes are taken.
    pub phase: Phase,
    /// The log.
    pub log: LogFacts,
    /// The checkpoint.
    pub checkpoint: CheckpointFacts,
    /// Bytes of changes not yet in the database.
    pub overlay_bytes: u64,
    /// Bytes of them at which changes are refused.
    pub overlay_bytes_max: u64,
    /// Disks and partitions.
    pub places: Vec<PlaceFacts>,
    /// Partitions that lack changes.
    pub lagging: Vec<Lagging>,
    /// Stamps that are owed.
    pub stamps: Vec<Stamp>,
    /// Work of the schedule, and how long ago it was done last.
    pub chores: Vec<Chore>,
    /// What is done again and again, and the time with which it was stamped last.
    pub done: Vec<Done>,
    /// How long the oldest unanswered change has been waiting.
    pub oldest_wait: Option<Duration>,
    /// How long the oldest change has been waiting for somebody who holds what it touches, and who that is.
    pub held_up: Option<(Duration, String)>,
    /// Bulk work of the last minute.
    pub bulk: Option<Bulk>,
    /// Backups, drills, archive.
    pub copies: CopyFacts,
    /// Why a repair is recommended.
    pub repair: Option<String>,
    /// The snapshots that a rollback may choose.
    pub snapshots: SnapshotFacts,
    /// What is damaged.
    pub damage: DamageFacts,
}

/// What the scrub has found damaged and could not heal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DamageFacts {
    /// In how many places.
    pub count: u64,
    /// The first of them, and what.
    pub first: String,
}

/// The snapshots that a rollback may choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Name of the newest one.
    pub newest: Option<String>,
    /// How long ago that was taken; without one, how old the store is.
    pub age: Duration,
    /// Names of those behind which the log is not kept.
    pub without_log: Vec<String>,
    /// Places that could not be read wholly when they were looked at last, and why.
    pub not_read: Vec<(String, String)>,
}

/// The log, as far as it accumulates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Segments kept.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Why the oldest segment that is not in use is kept.
    pub kept_for: Vec<String>,
    /// The segment being written, if somebody removed or replaced it.
    pub put_back: Option<PutBack>,
}

/// The checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointFacts {
    /// Up to here the database is durable.
    pub lsn: u64,
    /// There are changes that the database does not have. (LSNs do not tell: a seal comes after the last checkpoint.)
    pub owes: bool,
    /// A checkpoint has been running for so long.
    pub running: Option<Duration>,
    /// Checkpoints that failed since the last one that did not.
    pub failures: u64,
    /// Why the last of them failed.
    pub error: Option<String>,
}

/// Copies of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyFacts {
    /// When the store was made.
    pub created: Micros,
    /// When the newest backup was taken.
    pub backup: Option<Micros>,
    /// When the newest backup of all mail was taken, if one ever was.
    pub mail_backup: Option<Micros>,
    /// Why the last backup failed.
    pub backup_failure: Option<String>,
    /// When the last good drill was made.
    pub drill: Option<Micros>,
    /// What the last drill found; `None` if it was good.
    pub drill_problem: Option<String>,
    /// How long the oldest sealed log file has been waiting for the archive; `None` if there is none.
    pub archive_waits: Option<Duration>,
    /// Why the last one could not be archived.
    pub archive_failure: Option<String>,
    /// Numbers of log files that the archive lacks, the first and the last.
    pub archive_gap: Option<(u64, u64)>,
}

/// A disk or a partition, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFacts {
    /// `log`, `database`, `data`, or `partition NAME`.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// Its room; `None` if it is not there.
    pub space: Option<Space>,
    /// What is wrong with it beside its room: missing, foreign.
    pub trouble: Option<String>,
    /// How long ago that was seen; long if the disk does not answer.
    pub age: Duration,
    /// The store itself needs room there, not only messages.
    pub vital: bool,
}

/// A stamp that should have been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// File name.
    pub file: &'static str,
    /// How long ago what it stamps was done.
    pub owed: Duration,
}

/// Work that is done again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chore {
    /// Its stamp.
    pub file: &'static str,
    /// What it is.
    pub what: &'static str,
    /// How long ago it was done; if never, how old the store is.
    pub age: Duration,
    /// What to type.
    pub next: &'static str,
}

/// Something that was done, and is to be done again when so much time has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What; with a good stamp it is done again by `next`.
    pub what: &'static str,
    /// Its stamp.
    pub at: Micros,
    /// What to type.
    pub next: &'static str,
}

/// Bulk work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulk {
    /// Who: client, process and user.
    pub who: String,
    /// Changes since it began.
    pub changes: u64,
}

/// What is allowed; from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Segments of log.
    pub log_segments: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Time that a change may wait for the database.
    pub checkpoint_age: Duration,
    /// Time that one checkpoint may take.
    pub checkpoint_duration: Duration,
    /// Free bytes below which a disk is said to be filling.
    pub disk_free: u64,
    /// A disk that will be full so soon is said to be filling.
    pub full_within: Duration,
    /// Free bytes below which bulk work is refused.
    pub bulk_reserve: u64,
    /// Free bytes below which changes are refused.
    pub reserve: u64,
    /// Time that a change may wait for its answer.
    pub request_wait: Duration,
    /// Age of the newest snapshot.
    pub snapshot_age: Duration,
    /// Age of the newest backup; `None`: nobody expects any.
    pub backup_age: Option<Duration>,
    /// Age of the newest backup of all mail; `None`: nobody watches it.
    pub mail_backup_age: Option<Duration>,
    /// Age of the last good drill; `None`: nobody expects any.
    pub drill_age: Option<Duration>,
    /// Age of the last run of any work of [`Facts::chores`].
    pub chore_age: Duration,
    /// Time that a sealed log file may wait for the archive.
    pub archive_wait: Duration,
    /// An excess of log that does not shrink for so long ends the daemon; `None`: never.
    pub restart_after: Option<Duration>,
}

impl Limits {
    /// Free bytes of a disk below which bulk work is refused: at most a tenth of it.
    #[must_use]
    pub fn bulk(&self, space: Space) -> u64 {
        space.at_most(self.bulk_reserve, 10).max(space.reserve(self.reserve))
    }

    /// Free bytes of a disk below which it is said to be filling: at most a fifth of it.
    #[must_use]
    pub fn warned(&self, space: Space) -> u64 {
        space.at_most(self.disk_free, 5)
    }

    /// The limits of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Limits {
        let alarm = &config.alarm;
        Limits {
            log_segments: u64::from(alarm.max_log),
            log_bytes: alarm.log_bytes,
            checkpoint_age: alarm.max_log_age,
            checkpoint_duration: alarm.checkpoint_duration,
            disk_free: alarm.disk_free,
            full_within: alarm.full_within,
            bulk_reserve: config.disk.bulk_reserve,
            reserve: config.disk.reserve,
            request_wait: alarm.request_wait,
            snapshot_age: config.snapshot.interval.saturating_mul(2),
            backup_age: (!config.backup.directory.as_os_str().is_empty()).then_some(config.backup.max_age),
            mail_backup_age: Some(config.backup.mail_max_age).filter(|age| !age.is_zero()),
            drill_age: (!config.drill.interval.is_zero()).then_some(config.drill.max_age),
            chore_age: config.ageing.max_age,
            archive_wait: config.archive.max_lag,
            restart_after: alarm.restart_on_excess.then_some(alarm.restart_after),
        }
    }
}
