//! Alarms: conditions that want a person, raised and cleared with cause, growth and the time that is left.
//!
//! # Purpose
//! [`Board::evaluate`] is asked once a second with what was measured ([`Facts`]) and what is allowed ([`Limits`]), and
//! says which alarms began and which ended. It asks nobody: neither clock nor disk nor store. [`probe`] looks at disks
//! on threads of its own, [`command`] tells an administrator's program.
//!
//! # Operation
//! [`rules`] turns facts into readings: a value, the limit it is held against, the value at which it is good again, and
//! the cause in words. The board compares: an alarm is raised as soon as a reading is at its limit, and cleared when it
//! has been good for [`board::CALM`]. Between the two it stays as it is, so that a value that plays around its limit
//! rings once.
//!
//! # Invariants
//! * An alarm is known by its name and its subject; of each there is one at most.
//! * Every alarm that was raised is cleared by the same name and subject, or lasts until the process ends.
//! * A disk that does not answer blocks the thread that asks it, and nobody else.

pub mod board;
pub mod command;
pub mod facts;
pub mod probe;
mod rules;
#[cfg(test)]
mod tests;
pub mod trend;

pub use board::{Board, Change, Maintenance, Verdict};
pub use facts::{
    Bulk, CheckpointFacts, Chore, CopyFacts, DamageFacts, Done, Facts, Limits, LogFacts, PlaceFacts, SnapshotFacts,
    Stamp,
};
pub use probe::{PartitionSeen, Prober};

use crate::lsn::Micros;

/// What an alarm is about; the word is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The log failed: no changes until a restart.
    Poisoned,
    /// No changes are taken, for a reason that may pass.
    ReadOnly,
    /// The last checkpoints failed.
    CheckpointFailed,
    /// A checkpoint takes too long.
    CheckpointSlow,
    /// Changes wait too long for the database.
    CheckpointAge,
    /// Too many log segments are kept.
    LogSegments,
    /// Too many bytes of log are kept.
    LogBytes,
    /// A disk is full, or will be soon.
    DiskSpace,
    /// A partition, or another place of the store, is missing, foreign, or does not answer.
    Partition,
    /// Changes come faster than the checkpoint writes them.
    Overlay,
    /// A stamp that monitors look at could not be written, or says that what it stamps was done too long ago.
    StaleStamp,
    /// A change waits too long for its answer.
    StalledRequest,
    /// The newest backup is too old.
    BackupAge,
    /// The newest backup of all mail is too old.
    MailBackupAge,
    /// The last drill came to a store that is not what it should be.
    DrillBad,
    /// The last good drill is too old.
    DrillAge,
    /// Something that is done again and again is stamped with a time that did not come yet.
    Clock,
    /// A sealed log file waits too long for the archive.
    ArchiveLag,
    /// The last start lost or replaced something that a person should look at.
    RepairRecommended,
    /// No snapshot that a rollback may choose is young enough.
    SnapshotAge,
    /// The log behind a snapshot is not kept: a rollback to it would lose what came after it.
    SnapshotLog,
    /// A place of snapshots cannot be read: log is kept for what may be there.
    SnapshotPlace,
    /// The archive lacks log that went before it was archived.
    ArchiveGap,
    /// A partition lacks changes, which only the log has.
    PartitionBehind,
    /// Something is damaged, and nothing near could heal it.
    Damage,
    /// The log file being written was removed or replaced by somebody, and was put back.
    LogPutBack,
}

impl Name {
    /// Every name, worst first: the order of `status`.
    pub const ALL: [Name; 26] = [
        Name::Poisoned,
        Name::ReadOnly,
        Name::DiskSpace,
        Name::Partition,
        Name::PartitionBehind,
        Name::Damage,
        Name::LogPutBack,
        Name::CheckpointFailed,
        Name::StalledRequest,
        Name::Overlay,
        Name::LogSegments,
        Name::LogBytes,
        Name::CheckpointAge,
        Name::CheckpointSlow,
        Name::DrillBad,
        Name::ArchiveGap,
        Name::ArchiveLag,
        Name::BackupAge,
        Name::MailBackupAge,
        Name::DrillAge,
        Name::Clock,
        Name::StaleStamp,
        Name::RepairRecommended,
        Name::SnapshotAge,
        Name::SnapshotLog,
        Name::SnapshotPlace,
    ];

    /// The word that people, scripts and metrics see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Name::Poisoned => "poisoned",
            Name::ReadOnly => "read_only",
            Name::CheckpointFailed => "checkpoint_failed",
            Name::CheckpointSlow => "checkpoint_slow",
            Name::CheckpointAge => "checkpoint_age",
            Name::LogSegments => "log_segments",
            Name::LogBytes => "log_bytes",
            Name::DiskSpace => "disk_space",
            Name::Partition => "partition",
            Name::Overlay => "overlay",
            Name::StaleStamp => "stale_stamp",
            Name::StalledRequest => "stalled_request",
            Name::BackupAge => "backup_age",
            Name::MailBackupAge => "mail_backup_age",
            Name::DrillBad => "drill_bad",
            Name::DrillAge => "drill_age",
            Name::Clock => "clock",
            Name::ArchiveGap => "archive_gap",
            Name::ArchiveLag => "archive_lag",
            Name::RepairRecommended => "repair_recommended",
            Name::SnapshotAge => "snapshot_age",
            Name::SnapshotLog => "snapshot_log",
            Name::SnapshotPlace => "snapshot_place",
            Name::PartitionBehind => "partition_behind",
            Name::Damage => "damage",
            Name::LogPutBack => "log_put_back",
        }
    }

    /// Whether bulk work explains it, so that a maintenance window is silent about it.
    #[must_use]
    pub fn is_of_bulk_work(self) -> bool {
        matches!(self, Name::LogSegments | Name::LogBytes | Name::CheckpointAge | Name::CheckpointSlow | Name::Overlay)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Look at it today.
    Warning,
    /// Something is refused now, or will be soon.
    Critical,
}

impl Severity {
    /// The word that people, scripts and metrics see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// One condition that wants attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// What it is about.
    pub name: Name,
    /// Which of several: a disk, a partition, a stamp; empty where there is only one.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// When it was raised.
    pub since: Micros,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Why, as far as the daemon knows.
    pub cause: String,
    /// What was measured, in `unit`.
    pub value: f64,
    /// What it is held against, in `unit`.
    pub limit: f64,
    /// `bytes`, `seconds`, `segments`, `failures`, `places`, or empty for a condition that is there or not.
    pub unit: &'static str,
    /// How the value changes: units a second, smoothed; `None` where that says nothing.
    pub rate: Option<f64>,
    /// Seconds until the disk is full or the hard limit is reached, at that rate; `None` if it is not coming nearer.
    pub time_to_full: Option<f64>,
    /// The next command to type.
    pub next: &'static str,
}
