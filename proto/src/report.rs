//! The report of a start.

use crate::reply::Finding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a start found and did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// RFC 3339.
    pub started: String,
    /// Seconds until ready.
    pub duration: f64,
    /// `first start`, `clean`, `replay`, `rollback`, `lossy`, `hold`, ...
    pub decision: String,
    /// `live`, `empty` or a snapshot id.
    pub base: String,
    /// LSN of the base.
    pub base_lsn: u64,
    /// LSN reached after replay.
    pub reached_lsn: u64,
    /// Epoch now.
    pub epoch: u64,
    /// What is known to be lost; null if nothing.
    pub lost: Option<Lost>,
    /// What came back of it from partitions, when all of them were looked at; null before.
    pub came_back: Option<CameBack>,
    /// True if the last group before the stop can have been acknowledged and cannot be proven either way.
    pub possible_loss: bool,
    /// Records replayed.
    pub replayed: u64,
    /// Bytes of log read for it.
    pub replayed_bytes: u64,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    /// Where cut or replaced bytes were put.
    pub quarantined: Vec<String>,
    /// Everything noticed on the way.
    pub findings: Vec<Finding>,
    /// Commands to type next.
    pub next_steps: Vec<String>,
    /// Seconds by phase.
    pub phases: BTreeMap<String, f64>,
}

/// What came back of a loss, and what did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameBack {
    /// When everything was looked at (RFC 3339).
    pub time: String,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Messages.
    pub messages: u64,
    /// There were more: what came before a restart was not counted.
    pub at_least: bool,
    /// What is not back, the first of it.
    pub not_back: Vec<String>,
    /// How much that is.
    pub not_back_total: u64,
}

/// What is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// First lost LSN.
    pub from_lsn: u64,
    /// Last lost LSN that is known to have existed.
    pub to_lsn: u64,
    /// How many transactions; those that could still be read, if nobody knows of all.
    pub transactions: u64,
    /// There may have been more transactions than that.
    pub transactions_at_least: bool,
    /// Mailboxes known to be touched.
    pub mailboxes: Vec<String>,
}
