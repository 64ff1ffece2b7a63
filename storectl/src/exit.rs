//! The exit codes: one table, printed by `--help`, and the ways a run can end early.

use proto::{Code, Failure};

/// Done and nothing wrong.
pub const DONE: u8 = 0;
/// Done, and problems were found or a part was not done.
pub const PARTLY: u8 = 1;
/// Data of the store is damaged or lost.
pub const DAMAGED: u8 = 2;
/// `status` alone: the daemon does not run.
pub const NOT_RUNNING: u8 = 3;

/// Code and meaning, in the order of the numbers.
pub const TABLE: [(u8, &str); 18] = [
    (DONE, "done and nothing wrong"),
    (PARTLY, "done, and problems found or part not done (verify, dry run, refused lines of a batch)"),
    (DAMAGED, "data of the store damaged or lost, known or suspected"),
    (NOT_RUNNING, "only from `status`: the daemon does not run"),
    (64, "usage"),
    (65, "bad input: a bad name, an undecodable file"),
    (66, "no such input file"),
    (67, "no such user"),
    (68, "no such mailbox, message, snapshot, partition, job"),
    (69, "daemon not reachable or not ready"),
    (70, "a bug"),
    (71, "the log could not be written or synced: stopped, a restart recovers"),
    (73, "exists already, cannot create"),
    (74, "I/O error"),
    (75, "busy, locked, draining, over quota, disk full: try again"),
    (76, "protocol mismatch"),
    (77, "not permitted"),
    (78, "configuration"),
];

/// The table as text for the end of `--help`.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in TABLE {
        text.push_str(&format!("  {code:>2}  {meaning}\n"));
    }
    text.push_str("  Any other code means failure.");
    text
}

/// What storectl works with: a value, or why it stops.
pub type Outcome<T> = Result<T, Stop>;

/// Why a run ends before its end.
#[derive(Debug)]
pub enum Stop {
    /// To be told, and to end with the code of the failure.
    Failed(Failure),
    /// As `Failed`, in the middle of a result that is partly printed.
    Broken(Failure),
    /// A command line that could not be parsed: what to tell a person, and the same as a failure.
    Usage(String, Failure),
    /// The reader of standard output went away: nobody is left to tell.
    Unread,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl Stop {
    /// What there is to tell.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Stop::Failed(failure) | Stop::Broken(failure) | Stop::Usage(_, failure) => Some(failure),
            Stop::Unread => None,
        }
    }

    /// A failure without a next command.
    pub fn new(code: Code, message: impl Into<String>) -> Stop {
        Stop::Failed(Failure::new(code, message))
    }

    /// A failure with the next command to type.
    pub fn hint(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Stop {
        Stop::Failed(Failure::new(code, message).with_hint(hint))
    }

    /// A write to standard output that failed. What was asked may have been done all the same.
    pub fn output(error: &std::io::Error) -> Stop {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Stop::Unread,
            _ => Stop::hint(
                Code::Io,
                format!("the result could not be written to standard output: {error}"),
                "what was asked may have been done; look with: storectl status",
            ),
        }
    }
}
