//! What may be asked (and refused), what comes out, and why not.

use super::rights::Acl;
use std::collections::BTreeMap;

/// What a client asks to change. Names are as typed; the planner checks and normalises them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// New user with INBOX. `quota_bytes`/`quota_messages`: limits, none if absent.
    UserAdd { user: String, partition: Option<String>, quota_bytes: Option<u64>, quota_messages: Option<u64> },
    /// Removes a user with all mailboxes, rights, subscriptions and quota, in one transaction.
    UserDelete { user: String },
    /// Gives a user another id; mailboxes, rights of others, subscriptions and quota follow.
    UserRename { user: String, to: String },
    /// New mailbox; the parent need not exist.
    MailboxCreate { name: String, partition: Option<String> },
    /// Deletes one mailbox (not its children), leaving a tombstone.
    MailboxDelete { name: String },
    /// Renames a mailbox and everything below it, in one transaction.
    MailboxRename { from: String, to: String },
    /// Sets (`lrs`), adds (`+lrs`) or removes (`-lrs`) rights of an identifier; empty rights remove the entry.
    AclSet { name: String, identifier: String, rights: String },
    /// Removes an identifier's entry.
    AclDelete { name: String, identifier: String },
    /// Subscribes a user to a mailbox.
    Subscribe { user: String, name: String },
    /// Ends a subscription; the mailbox need not exist any more.
    Unsubscribe { user: String, name: String },
    /// Registers a partition (its root was prepared before).
    PartitionAdd { name: String, id: [u8; 16] },
    /// Removes a partition that no user and no mailbox uses.
    PartitionRemove { name: String },
    /// One entry of another server's list, names already mapped and decoded: creates the user if needed, creates
    /// the mailbox with this UIDVALIDITY and these rights; an equal mailbox is left alone.
    ImportMailbox { name: String, partition: Option<String>, uidvalidity: u32, acl: Acl },
    /// Several commands as one transaction: all are done or none.
    Atomic(Vec<Command>),
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; nothing more to say.
    Done,
    /// Nothing had to be changed.
    Unchanged,
    /// A mailbox was created.
    Created { name: String, id: u64, uidvalidity: u32 },
    /// So many mailboxes were touched (delete, rename, user delete).
    Mailboxes(u64),
    /// One outcome for each command of an [`Command::Atomic`].
    Each(Vec<Outcome>),
}

/// Kind of refusal; each has one exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// 65: a bad name, bad rights, input that cannot be.
    BadInput,
    /// 67.
    NoUser,
    /// 68: no such mailbox, partition, entry.
    NotFound,
    /// 73.
    Exists,
    /// 75: in use, or too large for one transaction.
    Busy,
    /// 77.
    NotPermitted,
}

/// A command that was not done; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Kind.
    pub kind: RefusalKind,
    /// What, where, found, expected.
    pub message: String,
    /// The next command to type, if there is one.
    pub hint: Option<String>,
}

/// Rights by identifier (RFC 4314), as rows keep them.
pub type AclMap = BTreeMap<String, String>;
