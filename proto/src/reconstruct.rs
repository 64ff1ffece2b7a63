//! `reconstruct`: database and partitions brought to agree.

use crate::reply::Finding;
use serde::{Deserialize, Serialize};

/// What to reconstruct. Without mailboxes, user and partition: everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reconstruct {
    /// `-m`: the database from the partitions.
    pub database: bool,
    /// `-r`: the indexes of mailboxes from their mirrors, the log and the files.
    pub index: bool,
    /// `-f`: likewise, also where index and database agree.
    pub fill: bool,
    /// `-q`: the sums of quota roots.
    pub quotas: bool,
    /// `-n`: only look.
    pub dry_run: bool,
    /// `-l`: only list what would be looked at.
    pub list: bool,
    /// `-p`.
    pub partition: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// Full names or patterns.
    pub mailboxes: Vec<String>,
    /// Threads; absent: as many as there are processors.
    pub jobs: Option<u32>,
}

/// Answer to `reconstruct`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reconstructed {
    /// Mailboxes looked at.
    pub checked: u64,
    /// What could not be proven; the first of them.
    pub findings: Vec<Finding>,
    /// What was done (with `dry_run`: would be); the first of it.
    pub changes: Vec<MailboxChange>,
    /// How many findings there were.
    pub findings_total: u64,
    /// How many changes.
    pub changes_total: u64,
}

/// One thing done to one mailbox, user or quota root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxChange {
    /// Full name, user id or quota root.
    pub mailbox: String,
    /// What.
    pub action: String,
}
