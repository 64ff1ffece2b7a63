//! `check`: is everything as it should be?

use crate::reconstruct::MailboxChange;
use serde::{Deserialize, Serialize};

/// What to check. Without mailboxes and partition: the whole store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Check {
    /// Full names, or patterns with `*` and `%`.
    pub mailboxes: Vec<String>,
    /// Only mailboxes of this partition.
    pub partition: Option<String>,
    /// True: reads every message and compares its digest.
    pub deep: bool,
    /// Threads; absent: as many as there are processors.
    pub jobs: Option<u32>,
}

/// Answer to `check`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Mailboxes looked at.
    pub checked: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of message files read.
    pub bytes: u64,
    /// What is not as it should be; the first of it.
    pub findings: Vec<CheckFinding>,
    /// How many findings there are.
    pub findings_total: u64,
    /// How many of them are losses: nothing that is left has what is missing.
    pub lost: u64,
    /// What was changed: by a check nothing.
    pub changes: Vec<MailboxChange>,
    /// How far the scrub is, which does the same all the time.
    pub scrub: Option<crate::ScrubState>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// File, table and key, or mailbox.
    pub r#where: String,
    /// What it is about.
    pub what: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// `mendable`: something has it all, and a repair puts it back; `unproven`: it is there, and nothing proves where it belongs; `lost`;
    /// `mended`.
    pub fate: String,
}
