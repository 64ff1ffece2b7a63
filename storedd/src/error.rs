//! Errors of the store: facts in fields. What, where, found, expected, and the next command to type.

use std::io;

/// Exit statuses (sysexits), the one table of both programs; see commands.md.
pub mod exit {
    /// Done and nothing wrong.
    pub const OK: u8 = 0;
    /// Done, and problems found or part not done.
    pub const FINDINGS: u8 = 1;
    /// Done in part.
    pub const PARTLY: u8 = 1;
    /// Data of the store damaged or lost, known or suspected.
    pub const DAMAGED: u8 = 2;
    /// Wrong usage.
    pub const USAGE: u8 = 64;
    /// Bad input.
    pub const BAD_INPUT: u8 = 65;
    /// No such input file.
    pub const NO_INPUT: u8 = 66;
    /// No such user.
    pub const NO_USER: u8 = 67;
    /// No such mailbox, partition, job.
    pub const NOT_FOUND: u8 = 68;
    /// The daemon is not reachable or not ready.
    pub const UNAVAILABLE: u8 = 69;
    /// A bug.
    pub const BUG: u8 = 70;
    /// The log could not be written or synced.
    pub const LOG_FAILED: u8 = 71;
    /// Exists already.
    pub const EXISTS: u8 = 73;
    /// I/O error.
    pub const IO: u8 = 74;
    /// Busy, locked, draining, over quota, disk full: try again.
    pub const BUSY: u8 = 75;
    /// Protocol mismatch.
    pub const PROTOCOL: u8 = 76;
    /// Not permitted.
    pub const NOT_PERMITTED: u8 = 77;
    /// Configuration.
    pub const CONFIG: u8 = 78;
}

/// Why something in the store could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was attempted: `open`, `read`, `write`, `sync`, ...
        op: &'static str,
        /// The file, relative to the store where it lies below it.
        path: String,
        /// What the system said.
        source: std::sync::Arc<io::Error>,
    },
    /// Bytes on disk are not what was written there.
    #[error("{file}: {what} at offset {offset}: found {found}, expected {expected}")]
    Corrupt {
        /// The file.
        file: String,
        /// Byte offset, 0 where none applies.
        offset: u64,
        /// Which structure.
        what: String,
        /// What was there.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// A file of another store, or of a newer version of this program.
    #[error("{file}: {what} is {found}, this program expects {expected}")]
    Foreign {
        /// The file.
        file: String,
        /// Which property: format version, store id, ...
        what: &'static str,
        /// What was there.
        found: String,
        /// What is understood here.
        expected: String,
    },
    /// A file that must be there is not.
    #[error("missing: {}", files.join(", "))]
    Missing {
        /// All missing files, and no other.
        files: Vec<String>,
    },
    /// Another process owns the store.
    #[error("the store is in use by process {pid}")]
    Locked {
        /// The owner's process id as it wrote it.
        pid: String,
    },
    /// No space is left; nothing was written.
    #[error("no space for {what}")]
    NoSpace {
        /// What did not fit.
        what: String,
    },
    /// Try again later.
    #[error("busy: {why}")]
    Busy {
        /// Why.
        why: String,
    },
    /// The log could not be written or synced; nothing more is written until a restart has recovered the store.
    #[error("the log failed ({cause}); the store takes no changes until it is restarted")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// A start or a recovery that would lose something, or cannot go on, and waits for a person.
    #[error("{message}")]
    Refused {
        /// What was found.
        message: String,
        /// The next command to type.
        hint: String,
        /// Exit status.
        exit: u8,
    },
    /// A state that the code says is impossible.
    #[error("bug: {0}")]
    Bug(String),
}

/// Result with [`StoreError`].
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// Wraps an error of the system; a full disk becomes [`StoreError::NoSpace`].
    #[must_use]
    pub fn io(op: &'static str, path: impl Into<String>, source: io::Error) -> StoreError {
        let path = path.into();
        if is_no_space(&source) {
            return StoreError::NoSpace { what: format!("{op} {path}") };
        }
        StoreError::Io { op, path, source: std::sync::Arc::new(source) }
    }

    /// Exit status of a program that ends with this error.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => exit::NOT_PERMITTED,
            StoreError::Io { .. } => exit::IO,
            StoreError::Corrupt { .. } | StoreError::Missing { .. } => exit::DAMAGED,
            StoreError::Foreign { .. } => exit::BAD_INPUT,
            StoreError::Locked { .. } | StoreError::NoSpace { .. } | StoreError::Busy { .. } => exit::BUSY,
            StoreError::Poisoned { .. } => exit::LOG_FAILED,
            StoreError::Refused { exit, .. } => *exit,
            StoreError::Bug(_) => exit::BUG,
        }
    }

    /// Stable word for scripts and log lines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Io { .. } => "io",
            StoreError::Corrupt { .. } => "corrupt",
            StoreError::Foreign { .. } => "foreign",
            StoreError::Missing { .. } => "missing",
            StoreError::Locked { .. } => "locked",
            StoreError::NoSpace { .. } => "no_space",
            StoreError::Busy { .. } => "busy",
            StoreError::Poisoned { .. } => "poisoned",
            StoreError::Refused { .. } => "refused",
            StoreError::Bug(_) => "bug",
        }
    }

    /// The next thing to do, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            StoreError::Corrupt { .. } => "run: storedd recover --dry-run -v",
            StoreError::Missing { .. } => "put the named files back and run the same command again",
            StoreError::Foreign { .. } => {
                "put the store's own file back, or use the program that wrote this one, or another data directory"
            }
            StoreError::Locked { .. } => "stop it first: storectl shutdown",
            StoreError::NoSpace { .. } => "free space; the store goes on by itself",
            StoreError::Busy { .. } => "try again",
            StoreError::Poisoned { .. } => "restart the daemon; it recovers by itself",
            StoreError::Refused { hint, .. } => return Some(hint.clone()),
            StoreError::Io { source, .. } => match source.kind() {
                // A link where none is followed; its kind has no stable name yet.
                _ if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => NO_FILE,
                io::ErrorKind::IsADirectory => NO_FILE,
                io::ErrorKind::PermissionDenied => {
                    "the store belongs to the user that runs storedd: check owner and mode of the named file and the \
                     directories above it"
                }
                _ => "check the named path and its disk, then run the same command again",
            },
            StoreError::Bug(_) => return None,
        };
        Some(text.to_owned())
    }
}

/// The next thing to do where a directory or a link stands in the place of a file.
const NO_FILE: &str = "put the file itself in the place of the directory or link, then run the same command again";

/// True for the errors of a full disk: ENOSPC, EDQUOT, EFBIG.
#[must_use]
pub fn is_no_space(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
