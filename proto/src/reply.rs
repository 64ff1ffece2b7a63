//! What the daemon answers. Field names are the JSON keys of the command-line contract; a field is only ever added
//! together with a new protocol version.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
}

impl Code {
    /// Every code, in the order of the wire numbers.
    pub const ALL: [Code; 15] = [
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
        }
    }

    /// The code with this exit status.
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
            Code::Busy => 75,
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

/// An answer. The order of variants is the wire number: append only, never reorder, never reuse.
///
/// The lists marked *streamed* may come in several parts of at most 1,000 rows or about 256 KiB each; the parts and the
/// last reply of one answer are the same variant, and [`Reply::join`] puts them together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Answer to `Hello`.
    Hello(Hello),
    /// Done, nothing to tell.
    Done(Done),
    /// `status`.
    Status(Box<Status>),
    /// `stats`.
    Stats(Box<Stats>),
    /// `checkpoint`.
    Checkpoint(Checkpoint),
    /// `log list`.
    Segments(Vec<Segment>),
    /// `log verify`.
    Verified(Verified),
    /// `log dump`; streamed.
    Records(Vec<Record>),
    /// `recover --report`, newest first.
    Reports(Vec<Report>),
    /// `user list`; streamed.
    Users(Vec<User>),
    /// `user show`.
    UserDetail(Box<UserDetail>),
    /// `mailbox list`; streamed.
    Mailboxes(Vec<Mailbox>),
    /// `mailbox show`.
    MailboxDetail(Box<MailboxDetail>),
    /// `acl get`.
    Acl(Acl),
    /// `subscriptions`: full names.
    Subscriptions(Vec<String>),
    /// `partition list`.
    Partitions(Vec<Partition>),
    /// `partition show`.
    Partition(Partition),
    /// `hashdir`.
    Hashdir(Hashdir),
    /// `quota get`.
    Quota(Quota),
    /// `config show`: key -> value as TOML text.
    Config(BTreeMap<String, String>),
    /// A change was done (or would be, in a dry run).
    Changed(Changed),
    /// `Atomic`: one answer for each command.
    Each(Vec<Changed>),
}

impl Reply {
    /// How many variants this version knows; wire numbers are below it.
    pub const COUNT: u32 = 22;

    /// Adds the next part of the same answer behind this one.
    ///
    /// # Errors
    /// Gives the part back if it is no list, or a list of something else.
    pub fn join(&mut self, part: Reply) -> Result<(), Box<Reply>> {
        match (self, part) {
            (Reply::Segments(all), Reply::Segments(more)) => all.extend(more),
            (Reply::Records(all), Reply::Records(more)) => all.extend(more),
            (Reply::Reports(all), Reply::Reports(more)) => all.extend(more),
            (Reply::Users(all), Reply::Users(more)) => all.extend(more),
            (Reply::Mailboxes(all), Reply::Mailboxes(more)) => all.extend(more),
            (Reply::Subscriptions(all), Reply::Subscriptions(more)) => all.extend(more),
            (Reply::Partitions(all), Reply::Partitions(more)) => all.extend(more),
            (Reply::Each(all), Reply::Each(more)) => all.extend(more),
            (_, part) => return Err(Box::new(part)),
        }
        Ok(())
    }
}

/// Answer to `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version the daemon will speak.
    pub version: u16,
    /// "storedd 0.1.0".
    pub server: String,
    /// State word, as in `status`.
    pub state: String,
}

/// Done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true; gives scripts something to look at.
    pub done: bool,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// `recovering`, `ready`, `read-only`, `draining`, `poisoned`.
    pub state: String,
    /// Recovery progress in percent, 100 once ready.
    pub percent: u8,
    /// Estimated seconds until ready.
    pub eta: Option<f64>,
    /// Process id.
    pub pid: u32,
    /// Seconds since the process started.
    pub uptime: f64,
    /// Store id, 32 hexadecimal digits.
    pub store_id: String,
    /// Program version.
    pub version: String,
    /// Data directory.
    pub data_dir: String,
    /// Epoch.
    pub epoch: u64,
    /// Highest LSN visible to readers.
    pub applied_lsn: u64,
    /// Highest LSN on disk.
    pub synced_lsn: u64,
    /// LSN up to which the database file is durable by itself.
    pub checkpoint_lsn: u64,
    /// Seconds since the last checkpoint.
    pub checkpoint_age: Option<f64>,
    /// Seconds since a log segment was last retired.
    pub log_cleanup_age: Option<f64>,
    /// Seconds since the last snapshot; null while there are none.
    pub snapshot_age: Option<f64>,
    /// Seconds since the last per-user write-out; null while there is none.
    pub peruser_age: Option<f64>,
    /// Seconds since the last expire run; null while there is none.
    pub expire_age: Option<f64>,
    /// Log segments and their bytes.
    pub log_segments: u64,
    /// Bytes of log that a restart would replay.
    pub replay_bytes: u64,
    /// Connections open now.
    pub connections: u64,
    /// Users there are; null for a moment after a start, while they are counted.
    pub users: Option<u64>,
    /// Mailboxes there are; null as above.
    pub mailboxes: Option<u64>,
    /// Rows per table in the database file, so as of the last checkpoint.
    pub tables: BTreeMap<String, u64>,
    /// True until `reconstruct -m` was run after a rollback.
    pub repair_recommended: bool,
    /// Conditions that want attention.
    pub alarms: Vec<Alarm>,
    /// What the last start found and did, in one line.
    pub last_start: String,
}

/// A condition that wants attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Stable name.
    pub name: String,
    /// RFC 3339.
    pub since: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The next command to type.
    pub next: Option<String>,
}

/// A latency histogram: microseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// Observations.
    pub count: u64,
    /// Percentiles in microseconds.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Largest.
    pub max_us: u64,
}

/// `stats`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Transactions begun (commands planned).
    pub begun: u64,
    /// Committed.
    pub committed: u64,
    /// Aborted by a failure of the log.
    pub aborted: u64,
    /// Refused.
    pub refused: u64,
    /// Planned and found to change nothing.
    pub unchanged: u64,
    /// Groups written (one sync each).
    pub groups: u64,
    /// Largest group in records.
    pub group_max: u64,
    /// Mean group in records.
    pub group_mean: f64,
    /// Groups by size: upper bound -> count.
    pub group_sizes: BTreeMap<u64, u64>,
    /// Time of one log sync.
    pub sync: Histogram,
    /// Time from submission to answer.
    pub commit: Histogram,
    /// Time of planning one command.
    pub plan: Histogram,
    /// Bytes appended to the log since the start.
    pub log_bytes: u64,
    /// Payload bytes among them.
    pub log_payload_bytes: u64,
    /// Overlay: bytes held in memory since the last checkpoint.
    pub overlay_bytes: u64,
    /// Overlay: entries.
    pub overlay_entries: u64,
    /// Checkpoints done.
    pub checkpoints: u64,
    /// Checkpoints failed.
    pub checkpoints_failed: u64,
    /// Time of one checkpoint.
    pub checkpoint: Histogram,
    /// Database file in bytes.
    pub database_bytes: u64,
    /// Seconds since the last checkpoint.
    pub checkpoint_age: Option<f64>,
    /// Requests answered, by verb.
    pub requests: BTreeMap<String, u64>,
    /// Connections accepted and refused.
    pub connections_accepted: u64,
    /// Connections refused (limit, credentials).
    pub connections_refused: u64,
    /// Memory of the process in bytes.
    pub resident_bytes: u64,
}

/// `checkpoint`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The database is durable by itself up to here.
    pub lsn: u64,
    /// Seconds.
    pub duration: f64,
    /// Segments retired, by file name.
    pub retired: Vec<String>,
}

/// One line of `log list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// File name.
    pub file: String,
    /// Absolute path.
    pub path: String,
    /// LSN of its first record.
    pub first_lsn: u64,
    /// LSN of its last record; null while empty.
    pub last_lsn: Option<u64>,
    /// Length of the file.
    pub bytes: u64,
    /// `active`, `sealed`.
    pub state: String,
    /// Why it is kept; empty: it may be removed.
    pub kept_for: Vec<String>,
}

/// `log verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Segments read.
    pub segments: u64,
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
}

/// One thing a check noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// File and offset, or table and key.
    pub r#where: String,
    /// Which structure.
    pub what: String,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

/// One record of `log dump`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// LSN.
    pub lsn: u64,
    /// RFC 3339.
    pub time: String,
    /// `transaction`, `seal`, `fork`.
    pub kind: String,
    /// Segment file.
    pub file: String,
    /// Byte offset in it.
    pub offset: u64,
    /// Bytes of the record with its header.
    pub bytes: u64,
    /// What changed, row by row, in words.
    pub changes: Vec<ChangeLine>,
}

/// One row's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// `put` or `remove`.
    pub action: String,
    /// Table name.
    pub table: String,
    /// Key in readable form.
    pub key: String,
    /// The row in readable form (JSON text), null for `remove`.
    pub row: Option<String>,
}

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

/// What is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// First lost LSN.
    pub from_lsn: u64,
    /// Last lost LSN that is known to have existed.
    pub to_lsn: u64,
    /// How many transactions, as far as known.
    pub transactions: u64,
    /// Mailboxes known to be touched.
    pub mailboxes: Vec<String>,
}

/// One line of `user list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub user: String,
    /// Partition.
    pub partition: String,
    /// How many mailboxes.
    pub mailboxes: u64,
}

/// `user show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDetail {
    /// User id.
    pub user: String,
    /// Number that never changes.
    pub id: u64,
    /// Partition.
    pub partition: String,
    /// How many mailboxes.
    pub mailboxes: u64,
    /// RFC 3339.
    pub created: String,
    /// Directory below the partition's root.
    pub directory: String,
    /// Limits and usage; null where there is no limit.
    pub quota: Option<Quota>,
    /// Subscribed mailboxes.
    pub subscriptions: Vec<String>,
}

/// One line of `mailbox list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Full name.
    pub name: String,
    /// Mailbox id.
    pub id: u64,
    /// Partition.
    pub partition: String,
    /// Directory, absolute.
    pub path: String,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Identifier -> rights.
    pub acl: BTreeMap<String, String>,
}

/// `mailbox show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxDetail {
    /// As in the list.
    pub mailbox: Mailbox,
    /// HIGHESTMODSEQ (RFC 7162).
    pub highest_modseq: u64,
    /// Messages without \Seen.
    pub unseen: u64,
    /// Flags in use.
    pub flags: Vec<String>,
    /// RFC 3339.
    pub created: String,
    /// The name in modified UTF-7 (RFC 3501 5.1.3).
    pub name_utf7: String,
}

/// `acl get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// Mailbox.
    pub name: String,
    /// Identifier -> rights.
    pub acl: BTreeMap<String, String>,
}

/// One line of `partition list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Name.
    pub name: String,
    /// Root directory.
    pub path: String,
    /// Partition id, 32 hexadecimal digits.
    pub id: String,
    /// `ok`, `full`, `missing`, `foreign`.
    pub state: String,
    /// Free bytes; null if missing.
    pub free_bytes: Option<u64>,
    /// Users assigned to it.
    pub users: u64,
    /// Mailboxes on it.
    pub mailboxes: u64,
}

/// `hashdir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashdir {
    /// User id.
    pub user: String,
    /// Partition.
    pub partition: String,
    /// The directory, below the partition's root or absolute as asked.
    pub directory: String,
}

/// `quota get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Quota root.
    pub root: String,
    /// Bytes.
    pub storage: Resource,
    /// Messages.
    pub messages: Resource,
}

/// Usage and limit of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Counted.
    pub usage: u64,
    /// Allowed; null: no limit.
    pub limit: Option<u64>,
}

/// A change that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// LSN of the record; 0 when nothing had to be changed or in a dry run.
    pub lsn: u64,
    /// False when nothing had to be changed.
    pub changed: bool,
    /// Name of a created mailbox.
    pub name: Option<String>,
    /// Id of a created mailbox.
    pub id: Option<u64>,
    /// UIDVALIDITY of a created mailbox.
    pub uidvalidity: Option<u32>,
    /// How many mailboxes were touched, for delete and rename.
    pub mailboxes: Option<u64>,
}
