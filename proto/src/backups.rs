//! Answers about backups of the database, and drills with them.

use serde::{Deserialize, Serialize};

/// `backup-db`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Its directory.
    pub path: String,
    /// When it was begun; RFC 3339, UTC.
    pub time: String,
    /// LSN of the database in it.
    pub lsn: u64,
    /// It holds every change up to this one.
    pub reached_lsn: u64,
    /// Time of that change; RFC 3339, UTC.
    pub until: String,
    /// Bytes of its files.
    pub size: u64,
    /// Log files in it.
    pub logs: Vec<String>,
    /// How long it took, in seconds.
    pub duration: f64,
    /// Log files that were removed from the store because their copies are safe.
    pub removed: Vec<String>,
    /// What was done, in order.
    pub steps: Vec<String>,
}

/// `backup --complete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    /// Its directory.
    pub path: String,
    /// When it was begun; RFC 3339, UTC.
    pub time: String,
    /// It holds every change up to this one.
    pub lsn: u64,
    /// Directories of mailboxes.
    pub objects: u64,
    /// Files of messages.
    pub messages: u64,
    /// Further names of these, for other mailboxes that have them.
    pub copies: u64,
    /// Bytes of its files, but for the backup of the database.
    pub bytes: u64,
    /// Names of the partitions.
    pub partitions: Vec<String>,
    /// The backup of the database in it.
    pub backup: String,
    /// Files of the configuration in it.
    pub configuration: Vec<String>,
    /// Files that could not be read and are not in it, or are damaged in the store already; its file `UNREADABLE` names them, too.
    pub skipped: Vec<SkippedFile>,
    /// How long it took, in seconds.
    pub duration: f64,
    /// For how long checkpoints were held meanwhile, in seconds.
    pub held: f64,
}

/// A file that could not be read, or is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Its path.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// `drill`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Drilled {
    /// `good`, or `bad`: see the findings.
    pub verdict: String,
    /// When it was begun; RFC 3339, UTC.
    pub time: String,
    /// The snapshot or backup that was restored.
    pub source: String,
    /// LSN of its database.
    pub base_lsn: u64,
    /// LSN to which the log led.
    pub reached_lsn: u64,
    /// LSN at which the live store was read.
    pub live_lsn: u64,
    /// The restored store was held against the live one at that LSN.
    pub compared: bool,
    /// Log records replayed.
    pub replayed: u64,
    /// Rows read.
    pub rows: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Seconds of changes that would have been lost.
    pub rpo_seconds: f64,
    /// Seconds from the beginning of the copy to a store that was ready.
    pub rto_seconds: f64,
    /// Seconds that it took in all.
    pub duration: f64,
    /// What is wrong.
    pub findings: Vec<DrillFinding>,
}

/// Something that a drill found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillFinding {
    /// The file.
    pub file: String,
    /// What was looked at.
    pub what: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}
