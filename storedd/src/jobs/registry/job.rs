//! What a job is, as everybody sees it, and why one ends without what it was asked for.

use super::Progress;
use crate::lsn::Micros;
use std::time::Duration;

/// How many jobs there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At work at a time.
    pub running: usize,
    /// Waiting for that.
    pub waiting: usize,
    /// Ended ones that are still known.
    pub kept: usize,
    /// For so long.
    pub kept_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { running: 2, waiting: 16, kept: 100, kept_for: Duration::from_secs(7 * 86_400) }
    }
}

/// What a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The verb as a person types it.
    pub verb: &'static str,
    /// Of the jobs with the same word here one runs at a time; `None`: it is in nobody's way.
    pub lane: Option<&'static str>,
    /// It works all the time and little at a time, or a client does it: it is not counted among those of which so many work at a time.
    pub is_background: bool,
}

impl Kind {
    /// Work that somebody waits for.
    #[must_use]
    pub const fn new(verb: &'static str, lane: Option<&'static str>) -> Kind {
        Kind { verb, lane, is_background: false }
    }

    /// Work that goes on in the background.
    #[must_use]
    pub const fn background(verb: &'static str) -> Kind {
        Kind { verb, lane: Some(verb), is_background: true }
    }
}

/// Who asked for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What it calls itself; empty: the daemon itself.
    pub client: String,
}

/// How a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// For others to end, or for a freeze.
    Waiting,
    /// At work.
    Running,
    /// Cancelled, and not ended yet.
    Ending,
    /// Ended well.
    Done,
    /// Ended with an error.
    Failed,
    /// Ended because somebody wanted it to.
    Cancelled,
    /// The daemon ended before it did.
    Gone,
}

impl State {
    /// Its word in `jobs` and in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Ending => "ending",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Gone => "gone",
        }
    }

    /// It has ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        self > State::Ending
    }
}

/// A job as it was when somebody looked.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number, in no other use as long as the store lives.
    pub id: u64,
    /// The verb as a person types it.
    pub verb: String,
    /// Who asked for it.
    pub asker: Asker,
    /// How it is.
    pub state: State,
    /// It waits for somebody's freeze to end.
    pub paused: bool,
    /// When it was asked for.
    pub asked: Micros,
    /// When it ended.
    pub ended: Option<Micros>,
    /// How long it has been at work, or was.
    pub lasted: Duration,
    /// How far it is.
    pub progress: Progress,
}

impl Job {
    /// One that was just asked for.
    pub(super) fn asked(id: u64, verb: String, asker: Asker, asked: Micros) -> Job {
        let (state, lasted, progress) = (State::Waiting, Duration::ZERO, Progress::default());
        Job { id, verb, asker, state, paused: false, asked, ended: None, lasted, progress }
    }
}

/// Why a job is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many wait.
    #[error("{waiting} jobs wait already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// No more jobs are begun.
    #[error("the daemon stops")]
    Stopping,
}

/// Why a job ended without what it was asked for, when its work does not say it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// Somebody wanted it to end.
    #[error("job {id} ({verb}) was cancelled")]
    Cancelled {
        /// The job.
        id: u64,
        /// What it was.
        verb: String,
    },
    /// Its work panicked.
    #[error("job {id} ({verb}) ended in a panic: {text}")]
    Panicked {
        /// The job.
        id: u64,
        /// What it was.
        verb: String,
        /// What it said.
        text: String,
    },
    /// No thread could be had.
    #[error("job {id} ({verb}) got no thread: {text}")]
    NoThread {
        /// The job.
        id: u64,
        /// What it was.
        verb: String,
        /// What the system said.
        text: String,
    },
    /// It was not begun.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Its client worked on it, and is gone.
    #[error("job {id} ({verb}) was not ended: its client went away")]
    Left {
        /// The job.
        id: u64,
        /// What it was.
        verb: String,
    },
    /// The daemon ended before it did.
    #[error("job {id} ({verb}) was cut off by the end of the daemon")]
    Gone {
        /// The job.
        id: u64,
        /// What it was.
        verb: String,
    },
}

/// There is no such job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no job {0}")]
pub struct Unknown(pub u64);
