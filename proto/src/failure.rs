//! Why something was not done: the stable code, the text, the next step.

use serde::{Deserialize, Serialize};

/// Kind of failure. The number is stable; the exit status is what `storectl` ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 2: data of the store damaged or lost, known or suspected.
    Damaged,
    /// 64.
    Usage,
    /// 65: a bad name, an undecodable file.
    BadInput,
    /// 66: no such input file.
    NoInput,
    /// 67.
    NoUser,
    /// 68: no such mailbox, message, snapshot, partition, job.
    NotFound,
    /// 69: daemon not reachable or not ready.
    Unavailable,
    /// 70: a bug.
    Bug,
    /// 71: the log could not be written or synced.
    LogFailed,
    /// 73.
    Exists,
    /// 74.
    Io,
    /// 75: busy, locked, draining, over quota, disk full: try again.
    Busy,
    /// 76.
    Protocol,
    /// 77.
    NotPermitted,
    /// 78.
    Config,
    /// 75: over a limit that an administrator set; others may be done, and the same once there is room.
    OverQuota,
}

impl Code {
    /// Every code, in the order of the wire numbers.
    pub const ALL: [Code; 16] = [
        Code::Damaged,
        Code::Usage,
        Code::BadInput,
        Code::NoInput,
        Code::NoUser,
        Code::NotFound,
        Code::Unavailable,
        Code::Bug,
        Code::LogFailed,
        Code::Exists,
        Code::Io,
        Code::Busy,
        Code::Protocol,
        Code::NotPermitted,
        Code::Config,
        Code::OverQuota,
    ];

    /// The word that stands in JSON and log lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Code::Damaged => "damaged",
            Code::Usage => "usage",
            Code::BadInput => "bad_input",
            Code::NoInput => "no_input",
            Code::NoUser => "no_user",
            Code::NotFound => "not_found",
            Code::Unavailable => "unavailable",
            Code::Bug => "bug",
            Code::LogFailed => "log_failed",
            Code::Exists => "exists",
            Code::Io => "io",
            Code::Busy => "busy",
            Code::Protocol => "protocol",
            Code::NotPermitted => "not_permitted",
            Code::Config => "config",
            Code::OverQuota => "over_quota",
        }
    }

    /// The code with this exit status; `Busy` for 75.
    #[must_use]
    pub fn from_exit(status: u8) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.exit() == status)
    }

    /// Exit status (sysexits).
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Code::Damaged => 2,
            Code::Usage => 64,
            Code::BadInput => 65,
            Code::NoInput => 66,
            Code::NoUser => 67,
            Code::NotFound => 68,
            Code::Unavailable => 69,
            Code::Bug => 70,
            Code::LogFailed => 71,
            Code::Exists => 73,
            Code::Io => 74,
            Code::Busy | Code::OverQuota => 75,
            Code::Protocol => 76,
            Code::NotPermitted => 77,
            Code::Config => 78,
        }
    }
}

/// A request that was not done; it changed nothing (unless `code` is `log_failed`: then it is undecided).
///
/// Its encoding is the same in every version of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Kind.
    pub code: Code,
    /// What, where, found, expected.
    pub message: String,
    /// The next command to type, if there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: None }
    }

    /// The same with the next thing to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
