//! What a partition proves, on its way into the database.

use super::command::Incoming;
use super::message::Message;
use super::rows::{MailboxRow, PastRow, UserRow};
use super::seen::SeenRow;
use std::sync::Arc;

/// A user as his manifest has him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedUser {
    /// User id.
    pub user: String,
    /// What the database said of him when it was compared.
    pub known: Option<UserRow>,
    /// His row; of interest if he is not known.
    pub row: UserRow,
    /// Limits of bytes and of messages, likewise.
    pub limits: (Option<u64>, Option<u64>),
    /// Mailbox keys to which he is subscribed, and since when (microseconds since 1970).
    pub subscriptions: Vec<(Vec<u8>, u64)>,
    /// What he has seen in mailboxes of others, by the key of the row.
    pub seen: Vec<(Vec<u8>, SeenRow)>,
}

/// What names stood for, by mailbox key.
pub type AdoptedNames = Vec<(Vec<u8>, PastRow)>;

/// A mailbox as its partition has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedMailbox {
    /// Key of its name.
    pub key: Vec<u8>,
    /// Directory of the user (or of shared mailboxes) in which it lies.
    pub home: String,
    /// What the database said of it when it was compared: key and row, in the table of mailboxes or of deleted ones.
    pub known: Option<(Vec<u8>, Vec<u8>)>,
    /// Its row.
    pub row: MailboxRow,
    /// When it was deleted, microseconds since 1970; 0: it is not.
    pub deleted_us: u64,
    /// Messages that the partition does not have, or has in an older state; counted in the row.
    pub messages: Vec<AdoptedMessage>,
}

/// A message that the partition does not have as it was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedMessage {
    /// Its state.
    pub state: Message,
    /// Its bytes.
    pub body: AdoptedBody,
}

/// Where the bytes of an adopted message are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptedBody {
    /// It has its file, or needs none.
    Kept,
    /// Here: they go into the log again.
    Logged(Arc<Incoming>),
    /// In a staged file of a partition.
    Staged {
        /// Name of the partition.
        partition: String,
        /// Number of the file.
        number: u64,
    },
}
