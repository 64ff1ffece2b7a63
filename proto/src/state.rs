//! How the daemon is: the answers to `status` and `stats`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `health` of a store that is ready in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always true.
    pub done: bool,
    /// Partitions that cannot be used now, in order of name.
    pub unusable: Vec<Unusable>,
}

/// A partition that cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its name.
    pub partition: String,
    /// Why.
    pub why: String,
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
    /// Log segments.
    pub log_segments: u64,
    /// Bytes of changes that a restart would replay.
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
    /// Conditions that want attention, worst first.
    pub alarms: Vec<Alarm>,
    /// A time in which bulk work is expected; null if there is none.
    pub maintenance: Option<Maintenance>,
    /// Seconds that the oldest unanswered change has been waiting; null if none waits.
    pub oldest_wait: Option<f64>,
    /// What the last start found and did, in one line.
    pub last_start: String,
    /// Seconds since the newest backup was begun; null while none is known.
    pub backup_age: Option<f64>,
    /// Seconds since the last good drill was begun; null while there is none.
    pub drill_age: Option<f64>,
    /// What the last drill came to; null while there is none.
    pub drill: Option<DrillState>,
    /// The log archive; null if there is none.
    pub archive: Option<ArchiveState>,
    /// Seconds since the last purge; null while there is none.
    pub purge_age: Option<f64>,
    /// The scrub; null in a store that is starting.
    pub scrub: Option<ScrubState>,
}

/// How far the scrub is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScrubState {
    /// `running`, `waiting`, `off`.
    pub state: String,
    /// When the pass began that is under way, RFC 3339; null if none is.
    pub begun: Option<String>,
    /// Mailboxes that it has looked at; if there is none, those of the last one.
    pub mailboxes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of files read.
    pub bytes: u64,
    /// What was not as it should be.
    pub found: u64,
    /// What of it was repaired.
    pub healed: u64,
    /// Seconds since the last whole pass ended; null while there was none.
    pub last_age: Option<f64>,
    /// Seconds that it took.
    pub last_duration: Option<f64>,
    /// Places that are damaged and could not be healed, of all passes.
    pub damaged: u64,
}

/// What the last drill came to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DrillState {
    /// `good` or `bad`.
    pub verdict: String,
    /// Seconds of changes that would have been lost.
    pub rpo_seconds: f64,
    /// Seconds that the restore took.
    pub rto_seconds: f64,
}

/// How far the log archive is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ArchiveState {
    /// Every sealed log file up to this LSN is archived.
    pub archived_lsn: u64,
    /// LSNs that only the store has.
    pub lag_lsns: u64,
    /// Seconds that the oldest sealed log file has been waiting.
    pub lag_seconds: f64,
    /// Why the last one could not be archived.
    pub failure: Option<String>,
}

/// A condition that wants attention.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Alarm {
    /// Stable name.
    pub name: String,
    /// Which of several: a disk, a partition, a file; empty where there is only one.
    pub subject: String,
    /// `warning`, `critical`.
    pub severity: String,
    /// RFC 3339.
    pub since: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Why, as far as the daemon knows.
    pub cause: String,
    /// What was measured, in `unit`.
    pub value: f64,
    /// What it is held against, in `unit`.
    pub limit: f64,
    /// `bytes`, `seconds`, `segments`, `failures`; empty for a condition that is there or not.
    pub unit: String,
    /// Units a second by which it gets worse; null where that says nothing.
    pub rate: Option<f64>,
    /// Seconds until there is no room left at that rate; null if it is not coming nearer.
    pub time_to_full: Option<f64>,
    /// The next command to type.
    pub next: Option<String>,
}

/// A time in which bulk work is expected: its alarms are silent, and nothing is restarted for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Maintenance {
    /// RFC 3339.
    pub until: String,
    /// Why.
    pub reason: String,
    /// Who began it.
    pub who: String,
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
    /// LSN of the last transaction.
    pub last_lsn: u64,
    /// LSN up to which the database file is durable by itself.
    pub checkpoint_lsn: u64,
    /// Segment of the first record that a recovery would read; null if it would read none.
    pub recovery_begins: Option<String>,
    /// Commands that wait to be planned.
    pub queue: u64,
    /// Changes submitted and not answered.
    pub changes_at_work: u64,
    /// Seconds that the oldest unanswered change has been waiting.
    pub oldest_wait: Option<f64>,
    /// Seconds that the checkpoint at work has been running.
    pub checkpoint_running: Option<f64>,
    /// Log segments kept, and their bytes.
    pub log_segments: u64,
    /// Bytes of them.
    pub log_segment_bytes: u64,
    /// Empty segments made ahead.
    pub log_spares: u64,
    /// Requests refused, by code.
    pub refusals: BTreeMap<String, u64>,
    /// The door for mail.
    pub lmtp: LmtpStats,
}

/// What the door for mail has done since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LmtpStats {
    /// Sessions now.
    pub sessions: u64,
    /// Sessions that were let in.
    pub sessions_total: u64,
    /// Connections that were sent away.
    pub turned_away: u64,
    /// Sessions that were ended because nothing came for too long.
    pub timed_out: u64,
    /// Messages that came whole.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Recipients for whom a message was stored.
    pub delivered: u64,
    /// Recipients that were refused, by why.
    pub refused: BTreeMap<String, u64>,
}
