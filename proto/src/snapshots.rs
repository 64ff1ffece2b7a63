//! Answers about snapshots.

use serde::{Deserialize, Serialize};

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub id: String,
    /// Its directory.
    pub path: String,
    /// When it was taken; RFC 3339, UTC; empty if that cannot be read.
    pub time: String,
    /// It holds every change up to this one.
    pub lsn: u64,
    /// Bytes of its files.
    pub size: u64,
    /// It passed a verification, and every byte is as it was then: a start may roll back to it.
    pub verified: bool,
    /// Version of the content; absent if that cannot be read.
    pub schema_version: Option<u32>,
    /// What is wrong with its files.
    pub problems: Vec<String>,
}

/// `snapshot take`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// Its name.
    pub id: String,
    /// Its directory.
    pub path: String,
    /// When it was taken; RFC 3339, UTC.
    pub time: String,
    /// It holds every change up to this one.
    pub lsn: u64,
    /// Bytes of its files.
    pub size: u64,
    /// It passed its verification.
    pub verified: bool,
    /// Version of the content.
    pub schema_version: Option<u32>,
    /// How long it took, in seconds.
    pub duration: f64,
    /// What the verification found.
    pub findings: Vec<SnapshotFinding>,
}

/// `snapshot verify`: one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVerified {
    /// Its name.
    pub id: String,
    /// Nothing is wrong with it.
    pub ok: bool,
    /// The log behind it leads to the present: a rollback to it would lose nothing.
    pub zero_loss: bool,
    /// Rows read.
    pub rows: u64,
    /// What is wrong.
    pub findings: Vec<SnapshotFinding>,
}

/// Something in a snapshot that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFinding {
    /// The file.
    pub file: String,
    /// The table; empty if it is of none.
    pub table: String,
    /// The key of the row; empty if it is of none.
    pub key: String,
    /// What was looked at.
    pub what: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// Snapshots that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsRemoved {
    /// Their names, oldest first.
    pub removed: Vec<String>,
}
