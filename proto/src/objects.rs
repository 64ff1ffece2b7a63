//! Answers about what is in a store: users, mailboxes, rights, partitions, limits.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// One line of `mailbox list --deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedMailbox {
    /// Full name that it had last.
    pub name: String,
    /// Mailbox id, which it keeps.
    pub id: u64,
    /// Partition.
    pub partition: String,
    /// UIDVALIDITY, which it keeps.
    pub uidvalidity: u32,
    /// Messages that come back with it.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// RFC 3339: when it was deleted.
    pub deleted: String,
    /// RFC 3339: from when on a purge takes it for good, as the daemon is configured now; null: never.
    pub purge_due: Option<String>,
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
    /// The root of its message files, if that is another directory; null if not.
    pub messages: Option<Box<MessageRoot>>,
    /// Partition id, 32 hexadecimal digits.
    pub id: String,
    /// `ok`, `full`, `behind`, `missing`, `foreign`: of the partition, so of the worse one of two roots.
    pub state: String,
    /// Free bytes, on the disk with less room; null if missing.
    pub free_bytes: Option<u64>,
    /// Users assigned to it.
    pub users: u64,
    /// Mailboxes on it.
    pub mailboxes: u64,
    /// What is wrong with it; null if nothing is.
    pub why: Option<String>,
    /// It lacks what came behind this LSN, which the log keeps for it; null if it lacks nothing.
    pub behind_lsn: Option<u64>,
    /// Bytes of log kept for it; from `log_bytes_max` on it takes no more mail.
    pub log_bytes: u64,
    /// See there.
    pub log_bytes_max: u64,
}

/// The root of message files of a partition that has two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRoot {
    /// Directory.
    pub path: String,
    /// `ok`, `full`, `missing`, `foreign`: of this root by itself.
    pub state: String,
    /// Free bytes; null if missing.
    pub free_bytes: Option<u64>,
    /// What is wrong with it; null if nothing is.
    pub why: Option<String>,
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
    /// That of the message files, if they lie in another root and absolute paths were asked for.
    pub messages: Option<String>,
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
    /// Since when one of them has been more than its limit, RFC 3339; null: it is not.
    pub over_since: Option<String>,
    /// Seconds for which mail is still taken for it; 0: not any more; null: it is not over a limit.
    pub grace_left: Option<u64>,
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
