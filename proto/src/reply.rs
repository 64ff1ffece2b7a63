//! What the daemon answers. Field names are the JSON keys of the command-line contract; a field is only ever added
//! together with a new protocol version.

use crate::locks::{Lock, Locks};
use crate::state::{Maintenance, Stats, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// `maintenance`: what holds now; null if nothing.
    Maintenance(Option<Maintenance>),
    /// `metrics`: the text format of Prometheus.
    Metrics(String),
    /// `quota list`, `quota report`; streamed.
    Quotas(Vec<Quota>),
    /// `quota recalc`; streamed.
    Recalculated(Vec<Recalculated>),
    /// `acl rights`.
    Grantable(Grantable),
    /// `acl my`.
    MyRights(MyRights),
    /// `subscriptions --missing`; streamed.
    MissingSubscriptions(Vec<MissingSubscription>),
    /// `config reload`.
    Reloaded(Reloaded),
    /// `snapshot list`, oldest first.
    Snapshots(Vec<Snapshot>),
    /// `snapshot take`.
    SnapshotTaken(Box<SnapshotTaken>),
    /// `snapshot verify`.
    SnapshotsVerified(Vec<SnapshotVerified>),
    /// `snapshot prune`, `snapshot delete`.
    SnapshotsRemoved(SnapshotsRemoved),
    /// `locks`.
    Locks(Box<Locks>),
    /// `locks hold`, `freeze`: what was granted; `locks break`: what was taken away.
    Lock(Lock),
}

impl Reply {
    /// How many variants this version knows; wire numbers are below it.
    pub const COUNT: u32 = 36;

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
            (Reply::Quotas(all), Reply::Quotas(more)) => all.extend(more),
            (Reply::Recalculated(all), Reply::Recalculated(more)) => all.extend(more),
            (Reply::MissingSubscriptions(all), Reply::MissingSubscriptions(more)) => all.extend(more),
            (_, part) => return Err(Box::new(part)),
        }
        Ok(())
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub id: String,
    /// Its directory.
    pub path: String,
    /// When it was taken; RFC 3339, UTC; empty if that cannot be read.
    pub time: String,
    /// It holds every change up to this one.
    pub lsn: u64,
    /// Bytes of its files.
    pub size: u64,
    /// It passed a verification, and every byte is as it was then: a start may roll back to it.
    pub verified: bool,
    /// Version of the content; absent if that cannot be read.
    pub schema_version: Option<u32>,
    /// What is wrong with its files.
    pub problems: Vec<String>,
}

/// `snapshot take`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// Its name.
    pub id: String,
    /// Its directory.
    pub path: String,
    /// When it was taken; RFC 3339, UTC.
    pub time: String,
    /// It holds every change up to this one.
    pub lsn: u64,
    /// Bytes of its files.
    pub size: u64,
    /// It passed its verification.
    pub verified: bool,
    /// Version of the content.
    pub schema_version: Option<u32>,
    /// How long it took, in seconds.
    pub duration: f64,
    /// What the verification found.
    pub findings: Vec<SnapshotFinding>,
}

/// `snapshot verify`: one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotVerified {
    /// Its name.
    pub id: String,
    /// Nothing is wrong with it.
    pub ok: bool,
    /// The log behind it leads to the present: a rollback to it would lose nothing.
    pub zero_loss: bool,
    /// Rows read.
    pub rows: u64,
    /// What is wrong.
    pub findings: Vec<SnapshotFinding>,
}

/// Something in a snapshot that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFinding {
    /// The file.
    pub file: String,
    /// The table; empty if it is of none.
    pub table: String,
    /// The key of the row; empty if it is of none.
    pub key: String,
    /// What was looked at.
    pub what: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// Snapshots that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsRemoved {
    /// Their names, oldest first.
    pub removed: Vec<String>,
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

/// `config reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The configuration file, absolute; absent: the daemon was started without one.
    pub file: Option<String>,
    /// Options that have (with `dry_run`: would have) another value from now on.
    pub changed: Vec<ConfigChange>,
    /// Options whose value in the file takes effect at the next start.
    pub pending: Vec<ConfigChange>,
}

/// One option that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// `section.key`.
    pub option: String,
    /// In force before, as TOML text; empty if it was not there.
    pub from: String,
    /// In the file, as TOML text; empty if it is gone.
    pub to: String,
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

/// One line of `quota recalc`: a root whose usage was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalculated {
    /// Quota root.
    pub root: String,
    /// Bytes.
    pub storage: Correction,
    /// Messages.
    pub messages: Correction,
    /// LSN of the record; 0 in a dry run.
    pub lsn: u64,
}

/// A usage that was counted again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Before.
    pub from: u64,
    /// As counted.
    pub to: u64,
}

/// `acl rights` (LISTRIGHTS, RFC 4314 3.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grantable {
    /// Mailbox.
    pub name: String,
    /// Identifier.
    pub identifier: String,
    /// What it has in any case.
    pub required: String,
    /// What it can be given beside, each by itself.
    pub optional: Vec<String>,
}

/// `acl my` (MYRIGHTS, RFC 4314 3.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MyRights {
    /// Mailbox.
    pub name: String,
    /// User.
    pub user: String,
    /// What the user may do; with the older letters `c` and `d` where they stand for something of it.
    pub rights: String,
}

/// One line of `subscriptions --missing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingSubscription {
    /// Full name.
    pub mailbox: String,
    /// `missing`: there is no such mailbox; `hidden`: the user may not see it.
    pub state: String,
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
