//! What the daemon answers. Field names are the JSON keys of the command-line contract; a field is only ever added
//! together with a new protocol version.

use crate::backup_read::BackupPart;
use crate::backups::*;
use crate::check::Checked;
use crate::jobs::{Job, Told};
use crate::locks::{Lock, Locks};
use crate::messages::*;
use crate::objects::*;
use crate::reconstruct::Reconstructed;
use crate::report::Report;
use crate::snapshots::*;
use crate::state::{Health, Maintenance, Stats, Status};
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
    /// `backup-db`.
    BackedUp(Box<BackedUp>),
    /// `jobs list`, in the order in which they were asked for.
    Jobs(Vec<Job>),
    /// A job: how it is.
    Job(Box<Job>),
    /// `drill`.
    Drilled(Box<Drilled>),
    /// A piece of a message came.
    MessageSent(MessageSent),
    /// `message deliver`: one for each mailbox, in order.
    Delivered(Vec<Delivered>),
    /// `message list`; streamed.
    Messages(Vec<Message>),
    /// `message show`.
    Message(Box<MessageDetail>),
    /// `message show --raw`; streamed.
    MessageBytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// `expire`, `purge`.
    Aged(Box<Aged>),
    /// `reconstruct`.
    Reconstructed(Box<Reconstructed>),
    /// `check`.
    Checked(Box<Checked>),
    /// `backup`: a part of what it reads; streamed.
    Backup(BackupPart),
    /// What work came to that a client did itself.
    Told(Box<Told>),
    /// `backup --complete`.
    Completed(Box<Completed>),
    /// `mailbox list --deleted`; streamed.
    DeletedMailboxes(Vec<DeletedMailbox>),
    /// `message list --expunged`; streamed.
    ExpungedMessages(Vec<ExpungedMessage>),
    /// `health` of a store that is ready, and some of whose partitions cannot be used; where nothing is the matter it is `Done`.
    Health(Health),
}

impl Reply {
    /// How many variants this version knows; wire numbers are below it.
    pub const COUNT: u32 = 54;

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
            (Reply::Messages(all), Reply::Messages(more)) => all.extend(more),
            (Reply::MessageBytes(all), Reply::MessageBytes(more)) => all.extend(more),
            (Reply::Backup(all), Reply::Backup(more)) => {
                return all.join(more).map_err(|part| Box::new(Reply::Backup(*part)));
            }
            (Reply::MissingSubscriptions(all), Reply::MissingSubscriptions(more)) => all.extend(more),
            (Reply::DeletedMailboxes(all), Reply::DeletedMailboxes(more)) => all.extend(more),
            (Reply::ExpungedMessages(all), Reply::ExpungedMessages(more)) => all.extend(more),
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
    /// How many messages were brought back, for undelete.
    pub messages: Option<u64>,
}
