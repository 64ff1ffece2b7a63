//! Long-running work: what may be asked for as a job, and how a job is.

use crate::check::Check;
use crate::failure::Failure;
use crate::reconstruct::Reconstruct;
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
    /// As [`Request::Expire`].
    Expire {
        /// Tells what it would do, and changes nothing.
        dry_run: bool,
    },
    /// As [`Request::Purge`].
    Purge {
        /// Tells what it would do, and changes nothing.
        dry_run: bool,
    },
    /// As [`Request::Reconstruct`].
    Reconstruct(Reconstruct),
    /// As [`Request::Check`].
    Check(Check),
    /// As [`Request::Peruser`].
    Peruser,
    /// As [`Request::UserMove`].
    UserMove {
        /// User id.
        user: String,
        /// Name of the partition.
        to: String,
    },
    /// As [`Request::BackupComplete`].
    BackupComplete {
        /// Absolute path on the daemon's host of the directory, which is empty or not there.
        dir: String,
    },
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
            Work::Reconstruct(wanted) => Request::Reconstruct(wanted),
            Work::Expire { dry_run } => Request::Expire { dry_run },
            Work::Purge { dry_run } => Request::Purge { dry_run },
            Work::Check(wanted) => Request::Check(wanted),
            Work::Peruser => Request::Peruser,
            Work::UserMove { user, to } => Request::UserMove { user, to },
            Work::BackupComplete { dir } => Request::BackupComplete { dir },
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
            Request::Reconstruct(wanted) => Work::Reconstruct(wanted),
            Request::Expire { dry_run } => Work::Expire { dry_run },
            Request::Purge { dry_run } => Work::Purge { dry_run },
            Request::Check(wanted) => Work::Check(wanted),
            Request::Peruser => Work::Peruser,
            Request::UserMove { user, to } => Work::UserMove { user, to },
            Request::BackupComplete { dir } => Work::BackupComplete { dir },
            _ => return None,
        })
    }
}

/// Work that a client does itself: it reads or writes files that the daemon does not see. The order of variants is the wire
/// number: append only, never reorder, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// `import cyrus-list`.
    ImportCyrusList,
    /// `import maildir`.
    ImportMaildir,
    /// `import mbox`.
    ImportMbox,
    /// `export maildir`.
    ExportMaildir,
    /// `export mbox`.
    ExportMbox,
    /// `batch`.
    Batch,
    /// `backup`, left to a process of its own.
    Backup,
    /// `restore`, left to a process of its own.
    Restore,
}

impl Errand {
    /// All of them.
    pub const ALL: [Errand; 8] = [
        Errand::ImportCyrusList,
        Errand::ImportMaildir,
        Errand::ImportMbox,
        Errand::ExportMaildir,
        Errand::ExportMbox,
        Errand::Batch,
        Errand::Backup,
        Errand::Restore,
    ];

    /// The verb as a person types it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Errand::ImportCyrusList => "import cyrus-list",
            Errand::ImportMaildir => "import maildir",
            Errand::ImportMbox => "import mbox",
            Errand::ExportMaildir => "export maildir",
            Errand::ExportMbox => "export mbox",
            Errand::Batch => "batch",
            Errand::Backup => "backup",
            Errand::Restore => "restore",
        }
    }

    /// What its pieces are.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Errand::ImportCyrusList => "mailboxes",
            Errand::Batch => "lines",
            _ => "messages",
        }
    }
}

/// What an errand came to, in the words of the client that did it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// For a person.
    pub lines: Vec<String>,
    /// What it prints with `--json`; empty: nothing.
    pub json: String,
    /// Something was not done: exit status 1.
    pub partly: bool,
}

impl Told {
    /// Longest that is kept, in bytes; of more only the lines that fit.
    pub const BYTES_MAX: usize = 64 << 10;

    /// As much of it as is kept.
    #[must_use]
    pub fn cut(mut self) -> Told {
        let mut room = Told::BYTES_MAX;
        self.lines.retain(|line| {
            let fits = line.len() <= room;
            room = if fits { room - line.len() } else { 0 };
            fits
        });
        if self.json.len() > Told::BYTES_MAX {
            self.json.clear();
        }
        self
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
