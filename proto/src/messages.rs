//! Answers about messages.

use serde::{Deserialize, Serialize};

/// A piece of a message that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSent {
    /// Number of the message, for further pieces and for its delivery.
    pub number: u64,
    /// Bytes so far.
    pub size: u64,
}

/// One line of `message deliver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Full name of the mailbox.
    pub mailbox: String,
    /// UID.
    pub uid: u32,
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of them, 64 hexadecimal digits.
    pub digest: String,
}

/// One line of `message list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// UID.
    pub uid: u32,
    /// Bytes.
    pub size: u64,
    /// RFC 3339.
    pub internal_date: String,
    /// System flags with their backslash, keywords without.
    pub flags: Vec<String>,
    /// Mod-sequence of its last change (RFC 7162).
    pub modseq: u64,
    /// BLAKE3 of its bytes, 64 hexadecimal digits.
    pub digest: String,
}

/// One line of `message list --expunged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpungedMessage {
    /// UID, which it keeps.
    pub uid: u32,
    /// Bytes.
    pub size: u64,
    /// RFC 3339.
    pub internal_date: String,
    /// System flags with their backslash, keywords without.
    pub flags: Vec<String>,
    /// Mod-sequence of its last change (RFC 7162).
    pub modseq: u64,
    /// BLAKE3 of its bytes, 64 hexadecimal digits.
    pub digest: String,
    /// RFC 3339: when it was expunged.
    pub expunged: String,
    /// RFC 3339: from when on a purge takes it for good, as the daemon is configured now; null: never.
    pub purge_due: Option<String>,
}

/// `message show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDetail {
    /// Full name of the mailbox.
    pub mailbox: String,
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// As in the list.
    pub message: Message,
    /// `live` or `expunged`.
    pub state: String,
    /// RFC 3339: when it came into this mailbox.
    pub saved: String,
    /// RFC 3339: when it was expunged; null if it was not.
    pub expunged: Option<String>,
    /// Bytes of its header, the empty line included.
    pub header_size: u32,
    /// Its header, as far as it is shown: 64 KiB; what is no UTF-8 replaced.
    pub header: String,
}

/// `expire`, `purge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aged {
    /// Nothing was changed.
    pub dry_run: bool,
    /// What was done, or would be, by mailbox and rule; the first 5,000.
    pub lines: Vec<AgedLine>,
    /// How many lines there are.
    pub lines_total: u64,
    /// Mailboxes looked at.
    pub mailboxes: u64,
    /// Messages of all lines.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What could not be done, and why; the first 200.
    pub problems: Vec<String>,
    /// How many there are.
    pub problems_total: u64,
}

/// What was done, or would be, to messages of one mailbox for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgedLine {
    /// Full name of the mailbox.
    pub mailbox: String,
    /// Name of the rule; empty for `purge`.
    pub rule: String,
    /// `discard`, `move`, `report`; of `purge`: `purge`, or `remove` for a deleted mailbox.
    pub action: String,
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Full name of the mailbox to which they are moved.
    pub to: Option<String>,
}
