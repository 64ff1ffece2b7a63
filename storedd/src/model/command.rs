//! What may be asked (and refused), what comes out, and why not.

mod messages;
mod returning;

pub use messages::{Delivered, Delivery, Incoming, IncomingBytes, Known, Marks, Mend, Salvage, Selection, Target};
pub use returning::{Returning, ReturningBody, ReturningMailbox, ReturningMessages};

use super::adopt::{AdoptedMailbox, AdoptedNames, AdoptedUser};
use super::quota::{LimitChange, Usage};
use super::rights::Acl;
use crate::error::exit;
use std::collections::BTreeMap;

/// What a client asks to change. Names are as typed; the planner checks and normalises them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// New user with INBOX.
    UserAdd {
        /// User id.
        user: String,
        /// Partition; the default one if absent.
        partition: Option<String>,
        /// Limit of bytes; that of the configuration if absent.
        quota_bytes: Option<u64>,
        /// Limit of messages; that of the configuration if absent.
        quota_messages: Option<u64>,
    },
    /// Removes a user with all mailboxes, rights, subscriptions and quota, in one transaction.
    UserDelete {
        /// User id.
        user: String,
    },
    /// Has a user and all that lies with him on his partition lie on another one, where a copy of it is.
    UserMove {
        /// User id.
        user: String,
        /// Name of the other partition.
        to: String,
        /// Number and modseq of every mailbox of which there is a copy, deleted ones too. It holds if they are as they were.
        copied: BTreeMap<u64, u64>,
    },
    /// Gives a user another id; mailboxes, rights in mailboxes of others, subscriptions and quota follow.
    UserRename {
        /// User id now.
        user: String,
        /// User id then.
        to: String,
    },
    /// New mailbox; the parent need not exist.
    MailboxCreate {
        /// Full name.
        name: String,
        /// Partition; that of the owner (or the default one) if absent.
        partition: Option<String>,
    },
    /// Deletes one mailbox (not its children), leaving a tombstone.
    MailboxDelete {
        /// Full name.
        name: String,
    },
    /// Renames a mailbox and everything below it, in one transaction.
    MailboxRename {
        /// Full name now.
        from: String,
        /// Full name then.
        to: String,
    },
    /// Sets (`lrs`), adds (`+lrs`) or removes (`-lrs`) rights of an identifier; empty rights remove the entry.
    AclSet {
        /// Full name.
        name: String,
        /// Identifier, see [`super::rights::identifier`].
        identifier: String,
        /// Letters, after `+` or `-` if not to be set as they are.
        rights: String,
    },
    /// Removes an identifier's entry.
    AclDelete {
        /// Full name.
        name: String,
        /// Identifier.
        identifier: String,
    },
    /// Subscribes a user to a mailbox.
    Subscribe {
        /// User id.
        user: String,
        /// Full name.
        name: String,
    },
    /// Ends a subscription; the mailbox need not exist any more.
    Unsubscribe {
        /// User id.
        user: String,
        /// Full name.
        name: String,
    },
    /// Registers a partition (its root was prepared before).
    PartitionAdd {
        /// Name.
        name: String,
        /// Identity, as its root says.
        id: [u8; 16],
    },
    /// Removes a partition that no user and no mailbox uses.
    PartitionRemove {
        /// Name.
        name: String,
    },
    /// One entry of another server's list, names already mapped and decoded: creates the user if needed, creates
    /// the mailbox with this UIDVALIDITY and these rights; an equal mailbox is left alone.
    ImportMailbox {
        /// Full name.
        name: String,
        /// Partition; the default one if absent, also for users who have another: the list put it elsewhere than them.
        partition: Option<String>,
        /// UIDVALIDITY; 0 if the list states none: then a new one is given.
        uidvalidity: u32,
        /// Rights, kept letter by letter.
        acl: Acl,
    },
    /// Sets limits of a quota root, see [`super::quota`]. The first one makes a mailbox a root, without any it is none.
    QuotaSet {
        /// User id or full name.
        root: String,
        /// Limit of bytes.
        storage: LimitChange,
        /// Limit of messages.
        messages: LimitChange,
    },
    /// Counts the usage of a quota root again, from the rows of its mailboxes (I9).
    QuotaRecalc {
        /// User id or full name.
        root: String,
    },
    /// A message for one mailbox or several, in one transaction.
    Deliver(Delivery),
    /// Adds flags to messages and takes some away.
    MessageFlags {
        /// Which.
        of: Selection,
        /// Flags to add.
        add: Marks,
        /// Flags to take away.
        remove: Marks,
    },
    /// The same as a user, with his rights: in a mailbox that is not his, `\Seen` is his own.
    MessageFlagsAs {
        /// User id.
        user: String,
        /// Which.
        of: Selection,
        /// Flags to add.
        add: Marks,
        /// Flags to take away.
        remove: Marks,
    },
    /// Forgets what a user has seen in a mailbox that is gone for good.
    SeenForget {
        /// User id.
        user: String,
        /// Number of the mailbox.
        mailbox: u64,
    },
    /// Takes messages away; they can be brought back until they are purged.
    MessageExpunge {
        /// Which.
        of: Selection,
    },
    /// Copies messages into a mailbox.
    MessageCopy {
        /// Which.
        of: Selection,
        /// Full name.
        to: String,
        /// They are expunged where they were.
        remove: bool,
    },
    /// Brings expunged messages back, without UIDs all of them, or a deleted mailbox.
    Undelete {
        /// Which.
        of: Selection,
    },
    /// Gives expunged messages up for good.
    MessagePurge {
        /// Which.
        of: Selection,
    },
    /// Gives a deleted mailbox up for good, with all of its messages.
    MailboxPurge {
        /// The full name that it had.
        name: String,
        /// Its number: others may have had the name.
        id: u64,
        /// When it was deleted, in microseconds since 1970, as it was read: it may have come back since, and been deleted again. `None`:
        /// whenever that was.
        deleted_us: Option<u64>,
    },
    /// What a look at a mailbox has found out about it.
    Mend(Mend),
    /// Files that no mailbox knows get a mailbox.
    Salvage(Salvage),
    /// A mailbox that is not there comes back as a backup knew it.
    MailboxReturns(Box<ReturningMailbox>),
    /// Messages come back into a mailbox from a backup: all of them or none.
    MessagesReturn(Box<ReturningMessages>),
    /// Adds what a partition proves of a user. No client asks for it.
    AdoptUser(Box<AdoptedUser>),
    /// Adds what a partition proves of what names stood for. No client asks for it.
    AdoptNames(AdoptedNames),
    /// Makes the database know a mailbox as its partition does. No client asks for it.
    AdoptMailbox(Box<AdoptedMailbox>),
    /// Several commands as one transaction: all are done or none. Not nested.
    Atomic(Vec<Command>),
}

impl Command {
    /// What it has to know of messages before it is planned; of a batch those of each command.
    pub fn selections_mut(&mut self) -> Vec<&mut Selection> {
        match self {
            Command::MessageFlags { of, .. }
            | Command::MessageFlagsAs { of, .. }
            | Command::MessageExpunge { of }
            | Command::MessageCopy { of, .. }
            | Command::Undelete { of }
            | Command::MessagePurge { of } => vec![of],
            Command::MessagesReturn(back) => vec![&mut back.into, &mut back.from],
            Command::Atomic(commands) => commands.iter_mut().flat_map(Command::selections_mut).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it may have to be tried again with something that is to be found out before: of messages, or what counts in a
    /// quota root.
    #[must_use]
    pub fn is_tried_again(&self) -> bool {
        match self {
            Command::QuotaSet { .. } | Command::QuotaRecalc { .. } => true,
            Command::Atomic(commands) => commands.iter().any(Command::is_tried_again),
            other => other.selects(),
        }
    }

    /// Whether it has to know something of messages before it is planned.
    #[must_use]
    pub fn selects(&self) -> bool {
        match self {
            Command::MessageFlags { .. }
            | Command::MessageFlagsAs { .. }
            | Command::MessageExpunge { .. }
            | Command::MessageCopy { .. }
            | Command::Undelete { .. }
            | Command::MessagePurge { .. }
            | Command::MessagesReturn(_) => true,
            Command::Atomic(commands) => commands.iter().any(Command::selects),
            _ => false,
        }
    }
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; nothing more to say.
    Done,
    /// Nothing had to be changed.
    Unchanged,
    /// A mailbox was created (for a new user: the INBOX).
    Created {
        /// Full name.
        name: String,
        /// Mailbox id.
        id: u64,
        /// UIDVALIDITY.
        uidvalidity: u32,
    },
    /// So many expunged messages came back.
    Returned(u64),
    /// A deleted mailbox came back.
    MailboxReturned {
        /// Full name.
        name: String,
        /// Mailbox id.
        id: u64,
        /// UIDVALIDITY.
        uidvalidity: u32,
        /// Messages in it.
        messages: u64,
    },
    /// So many mailboxes were touched (delete, rename, user delete).
    Mailboxes(u64),
    /// The usage of quota roots that was counted wrong; empty if none was.
    Recalculated(Vec<Recalculated>),
    /// What became of each addressee of a [`Command::Deliver`], in order.
    Delivered(Vec<Result<Delivered, Refusal>>),
    /// One outcome for each command of an [`Command::Atomic`].
    Each(Vec<Outcome>),
}

/// A quota root whose usage was counted again, and differed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalculated {
    /// The root, readable.
    pub root: String,
    /// What it said.
    pub from: Usage,
    /// What it says now.
    pub to: Usage,
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
    /// 65: more than one transaction holds; it would be no less at another time.
    TooLarge,
    /// 75: in use.
    Busy,
    /// 75: over a limit that an administrator set. Not 65: the input is good, and the same command is done once something was
    /// deleted or the limit raised, which is what the exit table says of "over quota".
    OverQuota,
    /// 77.
    NotPermitted,
}

impl RefusalKind {
    /// Exit status of a program that ends with this refusal.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            RefusalKind::BadInput | RefusalKind::TooLarge => exit::BAD_INPUT,
            RefusalKind::NoUser => exit::NO_USER,
            RefusalKind::NotFound => exit::NOT_FOUND,
            RefusalKind::Exists => exit::EXISTS,
            RefusalKind::Busy | RefusalKind::OverQuota => exit::BUSY,
            RefusalKind::NotPermitted => exit::NOT_PERMITTED,
        }
    }
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
