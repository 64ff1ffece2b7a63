//! The changes that may be asked for. One variant per verb; the order of variants is the wire number: append only, never
//! reorder, never reuse (golden bytes in `request_golden.rs` hold it). Names are sent as typed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `user add USER [--partition P] [--quota SIZE] [--messages N]`.
    UserAdd {
        /// User id.
        user: String,
        /// Where the user's mail goes; absent: the default partition.
        partition: Option<String>,
        /// Limit in bytes; absent: that of the configuration.
        quota_bytes: Option<u64>,
        /// Limit in messages; absent: that of the configuration.
        quota_messages: Option<u64>,
    },
    /// `user delete USER`.
    UserDelete {
        /// User id.
        user: String,
    },
    /// `user rename USER TO`.
    UserRename {
        /// User id now.
        user: String,
        /// User id afterwards.
        to: String,
    },
    /// `mailbox create NAME [--partition P]`.
    MailboxCreate {
        /// Full name.
        name: String,
        /// Absent: the owner's partition.
        partition: Option<String>,
    },
    /// `mailbox delete NAME`.
    MailboxDelete {
        /// Full name.
        name: String,
    },
    /// `mailbox rename FROM TO`; everything below it follows.
    MailboxRename {
        /// Full name now.
        from: String,
        /// Full name afterwards.
        to: String,
    },
    /// `acl set NAME IDENTIFIER RIGHTS`.
    AclSet {
        /// Full name of the mailbox.
        name: String,
        /// User, group or `anyone`.
        identifier: String,
        /// RFC 4314 letters; `+lrs` adds, `-lrs` removes, `lrs` replaces.
        rights: String,
    },
    /// `acl delete NAME IDENTIFIER`.
    AclDelete {
        /// Full name of the mailbox.
        name: String,
        /// Whose entry.
        identifier: String,
    },
    /// `subscribe USER NAME`.
    Subscribe {
        /// User id.
        user: String,
        /// Full name of the mailbox.
        name: String,
    },
    /// `unsubscribe USER NAME`.
    Unsubscribe {
        /// User id.
        user: String,
        /// Full name; the mailbox need not exist any more.
        name: String,
    },
    /// `partition add NAME PATH [--message-path PATH]`.
    PartitionAdd {
        /// Name of the partition.
        name: String,
        /// Absolute path of its root directory on the daemon's host.
        path: String,
        /// That of the root of its message files; absent: they lie in `path`.
        message_path: Option<String>,
    },
    /// `partition remove NAME`.
    PartitionRemove {
        /// Name of the partition.
        name: String,
    },
    /// One entry of `import cyrus-list`, mapped and decoded by the client.
    ImportMailbox {
        /// Full name.
        name: String,
        /// Absent: the default partition.
        partition: Option<String>,
        /// UIDVALIDITY to keep.
        uidvalidity: u32,
        /// Identifier -> rights, letters verbatim.
        acl: BTreeMap<String, String>,
    },
    /// `quota set ROOT [--storage SIZE|none] [--messages N|none]`.
    QuotaSet {
        /// A user id or a mailbox name.
        root: String,
        /// Bytes.
        storage: Limit,
        /// Messages.
        messages: Limit,
    },
    /// `quota recalc ROOT`.
    QuotaRecalc {
        /// A user id or a mailbox name.
        root: String,
    },
    /// `message deliver BOX [BOX...]`: all or none.
    MessageDeliver {
        /// Full names of the mailboxes.
        to: Vec<String>,
        /// System flags with their backslash, keywords without.
        flags: Vec<String>,
        /// INTERNALDATE, microseconds since 1970; absent: now.
        internal_us: Option<u64>,
        /// The message.
        body: Body,
    },
    /// `message flags BOX UID[,UID...]`.
    MessageFlags {
        /// Full name of the mailbox.
        name: String,
        /// UIDs; those of messages that are gone do nothing.
        uids: Vec<u32>,
        /// Flags to add, named as in `MessageDeliver`.
        add: Vec<String>,
        /// Flags to take away.
        remove: Vec<String>,
    },
    /// `message expunge BOX UID[,UID...]`: they can be brought back until they are purged.
    MessageExpunge {
        /// Full name of the mailbox.
        name: String,
        /// UIDs.
        uids: Vec<u32>,
    },
    /// `message copy|move BOX UID[,UID...] TOBOX`.
    MessageCopy {
        /// Full name of the mailbox.
        name: String,
        /// UIDs.
        uids: Vec<u32>,
        /// Full name of the other mailbox.
        to: String,
        /// True: they are expunged here, in the same transaction.
        remove: bool,
    },
    /// `mailbox undelete BOX [--uid UID...]`.
    MailboxUndelete {
        /// Full name of the mailbox.
        name: String,
        /// UIDs of expunged messages; empty: the mailbox itself if it was deleted, else all that were expunged.
        uids: Vec<u32>,
    },
    /// `restore`: a mailbox that is not there, as a backup knew it. Of one that is there, named by the id of this store, its number and UIDVALIDITY
    /// and without a partition, only UIDNEXT is raised.
    MailboxReturn(MailboxReturn),
    /// `restore`: messages for a mailbox, all of them or none.
    MessageReturn(MessageReturn),
    /// `message flags BOX UID[,UID...] --as USER`: with his rights; in a mailbox that is not his, `\Seen` is his own.
    MessageFlagsAs {
        /// User id.
        user: String,
        /// Full name of the mailbox.
        name: String,
        /// UIDs.
        uids: Vec<u32>,
        /// Flags to add, named as in `MessageDeliver`.
        add: Vec<String>,
        /// Flags to take away.
        remove: Vec<String>,
    },
}

/// A mailbox as a backup knew it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxReturn {
    /// Full name.
    pub name: String,
    /// Partition; the default one if there is no such.
    pub partition: Option<String>,
    /// Id of the store that was backed up, in hexadecimal digits.
    pub store: String,
    /// Its number there.
    pub id: u64,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// HIGHESTMODSEQ (RFC 7162).
    pub highest_modseq: u64,
    /// Identifier -> rights, letters verbatim.
    pub acl: BTreeMap<String, String>,
}

/// Messages that come back into a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReturn {
    /// Full name of the mailbox.
    pub name: String,
    /// Full name of the mailbox of those that are copied; empty if none is.
    pub from: String,
    /// They.
    pub messages: Vec<ReturningMessage>,
}

/// A message that comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturningMessage {
    /// Its UID; absent: the next one.
    pub uid: Option<u32>,
    /// System flags with their backslash, keywords without.
    pub flags: Vec<String>,
    /// INTERNALDATE, microseconds since 1970.
    pub internal_us: u64,
    /// When it came into its mailbox, microseconds since 1970; absent: now.
    pub saved_us: Option<u64>,
    /// Its bytes.
    pub body: ReturningBody,
}

/// The bytes of a message that comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturningBody {
    /// They: at most 64 KiB, or what `mail.inline_limit` of the configuration says.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Those that this connection has sent before, by [`crate::Request::MessageSend`].
    Sent(u64),
    /// Those of a message of `from`, under this UID: they are stored once.
    Copy(u32),
    /// The same, if these are the bytes of that message still: refused as one that is not there if it is another by now.
    Same {
        /// UID.
        uid: u32,
        /// BLAKE3 of the bytes.
        digest: [u8; 32],
    },
}

/// The bytes of a message that is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// They: at most 64 KiB, or what `mail.inline_limit` of the configuration says.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Those that this connection has sent before, by [`crate::Request::MessageSend`].
    Sent(u64),
}

/// What a limit is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// What it is.
    Keep,
    /// No limit.
    None,
    /// So much.
    At(u64),
}

impl Command {
    /// The verb as a person types it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Command::UserAdd { .. } => "user add",
            Command::UserDelete { .. } => "user delete",
            Command::UserRename { .. } => "user rename",
            Command::MailboxCreate { .. } => "mailbox create",
            Command::MailboxDelete { .. } => "mailbox delete",
            Command::MailboxRename { .. } => "mailbox rename",
            Command::AclSet { .. } => "acl set",
            Command::AclDelete { .. } => "acl delete",
            Command::Subscribe { .. } => "subscribe",
            Command::Unsubscribe { .. } => "unsubscribe",
            Command::PartitionAdd { .. } => "partition add",
            Command::PartitionRemove { .. } => "partition remove",
            Command::ImportMailbox { .. } => "import cyrus-list",
            Command::QuotaSet { .. } => "quota set",
            Command::QuotaRecalc { .. } => "quota recalc",
            Command::MessageDeliver { .. } => "message deliver",
            Command::MessageFlags { .. } => "message flags",
            Command::MessageExpunge { .. } => "message expunge",
            Command::MessageCopy { remove: false, .. } => "message copy",
            Command::MessageCopy { remove: true, .. } => "message move",
            Command::MailboxUndelete { .. } => "mailbox undelete",
            Command::MailboxReturn(_) => "restore mailbox",
            Command::MessageReturn(_) => "restore",
            Command::MessageFlagsAs { .. } => "message flags --as",
        }
    }

    /// What the command is about: the user, mailbox or partition it names first; for audit lines.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Command::UserAdd { user, .. } | Command::UserDelete { user } | Command::UserRename { user, .. } => user,
            Command::MailboxCreate { name, .. }
            | Command::MailboxDelete { name }
            | Command::AclSet { name, .. }
            | Command::AclDelete { name, .. }
            | Command::Subscribe { name, .. }
            | Command::Unsubscribe { name, .. }
            | Command::PartitionAdd { name, .. }
            | Command::PartitionRemove { name }
            | Command::MessageFlags { name, .. }
            | Command::MessageExpunge { name, .. }
            | Command::MessageCopy { name, .. }
            | Command::MailboxUndelete { name, .. }
            | Command::MessageFlagsAs { name, .. }
            | Command::ImportMailbox { name, .. } => name,
            Command::MailboxReturn(of) => &of.name,
            Command::MessageReturn(back) => &back.name,
            Command::MailboxRename { from, .. } => from,
            Command::QuotaSet { root, .. } | Command::QuotaRecalc { root } => root,
            Command::MessageDeliver { to, .. } => to.first().map_or("", String::as_str),
        }
    }
}
