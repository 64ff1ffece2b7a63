//! Answers about backups of the database.

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
