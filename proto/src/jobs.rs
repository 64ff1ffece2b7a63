//! Long-running work: what may be asked for as a job, and how a job is.

use crate::failure::Failure;
use crate::request::Request;
use serde::{Deserialize, Serialize};

/// Work that runs as a job. The order of variants is the wire number: append only, never reorder, never reuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// As [`Request::SnapshotTake`].
    SnapshotTake {
        /// Verify it, too.
        verify: bool,
    },
    /// As [`Request::SnapshotVerify`].
    SnapshotVerify {
        /// Its name; absent: the newest, or all.
        id: Option<String>,
        /// All of them.
        all: bool,
    },
    /// As [`Request::SnapshotPrune`].
    SnapshotPrune,
    /// As [`Request::BackupDb`].
    BackupDb {
        /// Absolute path on the daemon's host of the directory in which it is made.
        dir: String,
    },
    /// As [`Request::Drill`].
    Drill,
    /// As [`Request::QuotaRecalc`] that is no dry run; ends with the first of the roots that were wrong.
    QuotaRecalc,
    /// As [`Request::Checkpoint`].
    Checkpoint,
}

impl Work {
    /// The request that asks for the same and is answered with its end alone. It says which verb and which role this is.
    #[must_use]
    pub fn request(&self) -> Request {
        match self.clone() {
            Work::SnapshotTake { verify } => Request::SnapshotTake { verify },
            Work::SnapshotVerify { id, all } => Request::SnapshotVerify { id, all },
            Work::SnapshotPrune => Request::SnapshotPrune,
            Work::BackupDb { dir } => Request::BackupDb { dir },
            Work::Drill => Request::Drill,
            Work::QuotaRecalc => Request::QuotaRecalc { dry_run: false },
            Work::Checkpoint => Request::Checkpoint,
        }
    }

    /// The work that a request asks for, if it is one that runs as a job.
    #[must_use]
    pub fn of(request: &Request) -> Option<Work> {
        Some(match request.clone() {
            Request::JobStart { work, .. } => work,
            Request::SnapshotTake { verify } => Work::SnapshotTake { verify },
            Request::SnapshotVerify { id, all } => Work::SnapshotVerify { id, all },
            Request::SnapshotPrune => Work::SnapshotPrune,
            Request::BackupDb { dir } => Work::BackupDb { dir },
            Request::Drill => Work::Drill,
            Request::QuotaRecalc { dry_run: false } => Work::QuotaRecalc,
            Request::Checkpoint => Work::Checkpoint,
            _ => return None,
        })
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Job {
    /// Its number, in no other use as long as the store lives.
    pub id: u64,
    /// The verb as a person types it.
    pub verb: String,
    /// `waiting`, `running`, `paused`, `ending`, `done`, `failed`, `cancelled`, `gone`.
    pub state: String,
    /// Process that asked for it.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What it calls itself; `storedd`: the daemon itself.
    pub client: String,
    /// When it was asked for; RFC 3339.
    pub asked: String,
    /// When it ended; RFC 3339.
    pub ended: Option<String>,
    /// Seconds at work.
    pub duration: f64,
    /// Pieces done.
    pub done: u64,
    /// All pieces, where that is known.
    pub total: Option<u64>,
    /// What a piece is: `rows`, `bytes`, ...
    pub unit: String,
    /// What is worked on.
    pub item: String,
    /// Why it ended without what it was asked for.
    pub error: Option<Failure>,
}

impl Job {
    /// It has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}
